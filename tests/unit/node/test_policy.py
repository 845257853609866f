"""The site's own rules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.builders import World

from cohortium.contract.model import Researcher
from cohortium.crypto.keys import SigningKey, fingerprint
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.errors import InputError, PolicyRefusal
from cohortium.node.policy import ON_TOTALS, TEMPLATE, Policy, PolicyFile, parse_policy
from cohortium.node.policy_text import explain

KEY = SigningKey.from_seed(b"\x01" * 32).public
RESEARCHER = Researcher(name="Dr. Li", key=KEY)


def test_the_template_is_the_default() -> None:
    assert parse_policy(TEMPLATE) == Policy()
    assert parse_policy("") == Policy()


@pytest.mark.parametrize(
    "text",
    ["min_cel: 5", "min_cell: 0", "paused: maybe", "- a", "a: [", "min_sites: 1", "paused: 1\x00"],
)
def test_a_wrong_policy_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_policy(text)
    assert caught.value.code == "bad-config"


def test_a_policy_that_cannot_be_read_allows_nothing(tmp_path: Path) -> None:
    source = PolicyFile(tmp_path / "policy.yaml")
    with pytest.raises(InputError):
        source()
    source.path.write_text("min_cell: 7\n")
    assert source().min_cell == 7
    source.path.write_bytes(b"\xff\xfe")
    for _ in range(2):
        with pytest.raises(InputError):
            source()
    source.path.unlink()
    with pytest.raises(InputError):
        source()


def test_a_change_counts_at_once(tmp_path: Path) -> None:
    source = PolicyFile(tmp_path / "policy.yaml")
    source.path.write_text("min_cell: 5\n")
    assert source().min_cell == 5
    source.path.write_text("min_cell: 6\n")
    os.utime(source.path, ns=(1, 1))
    assert source().min_cell == 6


def test_pausing_keeps_the_stewards_words(tmp_path: Path) -> None:
    source = PolicyFile(tmp_path / "policy.yaml")
    source.path.write_text(TEMPLATE)
    source.set_paused(True)
    assert source().paused
    text = source.path.read_text()
    assert "# Smallest number of persons" in text
    source.set_paused(False)
    assert source() == Policy()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(min_cell=3), Disclosure(min_cell=5, floor="total")),
        (Policy(min_cell=5), Disclosure(min_cell=5, floor="total")),
        (Policy(min_cell=5, floor="site"), Disclosure(min_cell=5, floor="site")),
        (Policy(min_cell=9), Disclosure(min_cell=9, floor="site")),
    ],
)
def test_the_stricter_limits_win(policy: Policy, expected: Disclosure) -> None:
    contract = World().contract(disclosure=Disclosure(min_cell=5, floor="total"))
    assert policy.disclosure(contract) == expected


@pytest.mark.parametrize("denied", ["Dr. Li", "dr. li", KEY, fingerprint(KEY)])
def test_a_researcher_is_denied_by_name_key_or_fingerprint(denied: str) -> None:
    with pytest.raises(PolicyRefusal):
        Policy(deny_researchers=(denied,)).require_allowed("glm", RESEARCHER)
    Policy(deny_researchers=("Dr. Wu",)).require_allowed("glm", RESEARCHER)


@pytest.mark.parametrize(("pattern", "denies"), [("glm", True), ("*", True), ("stats.*", False)])
def test_computations_are_denied_by_pattern(pattern: str, denies: bool) -> None:
    policy = Policy(deny_computations=(pattern,))
    if denies:
        with pytest.raises(PolicyRefusal):
            policy.require_allowed("glm", RESEARCHER)
    else:
        policy.require_allowed("glm", RESEARCHER)


LIMITS = """
min_cohort: 30
persons_per_parameter: 20
residual_df: 15
min_at_risk: 12
quantile_tail: 11
max_levels: 20
rounding: 5
by_site: false
"""


def test_a_contract_without_the_sites_limits_on_totals_is_refused() -> None:
    policy = parse_policy(LIMITS)
    terms = {name: getattr(policy, name) for name in ON_TOTALS}
    met = World().contract(disclosure=Disclosure(**terms))
    policy.require_met(met)
    stricter = World().contract(
        disclosure=Disclosure(**{**terms, "rounding": 10, "max_levels": 5, "min_cohort": 31})
    )
    policy.require_met(stricter)
    for name in ON_TOTALS:
        lacking = World().contract(disclosure=Disclosure(**{**terms, name: None}))
        assert policy.unmet(lacking) == [f"{name}: {terms[name]}"]
        with pytest.raises(PolicyRefusal, match=f"{name}: {terms[name]}"):
            policy.require_met(lacking)


def test_a_site_can_forbid_numbers_of_single_sites() -> None:
    contract = World().contract(disclosure=Disclosure(by_site=True))
    assert Policy().disclosure(contract).by_site is True
    Policy().require_met(contract)
    with pytest.raises(PolicyRefusal, match="by_site: false"):
        parse_policy("by_site: false").require_met(contract)
    with pytest.raises(InputError):
        parse_policy("by_site: true")


def test_dominance_is_this_sites_own_affair() -> None:
    policy = parse_policy("dominance: {largest: 2, percent: 60}")
    contract = World().contract()
    policy.require_met(contract)
    assert policy.disclosure(contract).dominance == Dominance(largest=2, percent=60.0)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_explanation_names_every_number_of_the_policy(language: str) -> None:
    text = LIMITS + "min_cell: 8\nmax_runs_per_day: 17\nmin_sites: 4\ndeny_computations: [glm]\n"
    text += "dominance: {largest: 3, percent: 61}\ndeny_researchers: [Dr. No]\n"
    sentences = "\n".join(explain(parse_policy(text), language))
    for shown in ("30", "20", "15", "12", "11", "5", "8", "17", "4", "3", "61", "glm", "Dr. No"):
        assert shown in sentences
    assert "rounding: 5" in sentences
    assert explain(parse_policy("paused: true"), language)[0] != explain(Policy(), language)[0]


def test_an_explanation_in_another_language_is_refused() -> None:
    with pytest.raises(InputError):
        explain(Policy(), "fr")


def test_the_floor_is_said_once_in_both_languages() -> None:
    chinese, english = (explain(Policy(floor="total"), lang)[2] for lang in ("zh", "en"))
    assert chinese.count("（") == english.count("(") == 1
    assert chinese.startswith("  - 全部机构合计达到")
    assert "by institution where the contract says so" in english
    for floor in ("site", "total"):
        assert not any("披露控制：" in line for line in explain(Policy(floor=floor), "zh"))


def test_rules_for_tasks_are_read_and_said() -> None:
    text = (
        "tasks: {allow: built-in, min_level: L3, simulated: false, advisories: [INTEL-SA-00615], "
        "platforms: [000b0000000000000000000000000000]}"
    )
    rules = parse_policy(text).tasks
    assert (rules.allow, rules.min_level, rules.simulated) == ("built-in", "L3", False)
    english = "\n".join(explain(parse_policy(text)))
    for part in ("built-in programs only", "at L3 or above only", "simulated enclave is refused"):
        assert part in english
    assert "goes to no task" in "\n".join(explain(parse_policy("tasks: {allow: false}")))
    assert "不提供给任何任务" in "\n".join(explain(parse_policy("tasks: {allow: false}"), "zh"))
    for wrong in ("{allow: maybe}", "{min_level: L6}", "{platforms: [x]}", "{other: 1}", "[]"):
        with pytest.raises(InputError):
            parse_policy(f"tasks: {wrong}")
