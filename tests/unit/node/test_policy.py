"""The site's own rules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.builders import World

from cohortium.contract.model import Researcher
from cohortium.crypto.keys import SigningKey, fingerprint
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal
from cohortium.node.policy import TEMPLATE, Policy, PolicyFile, parse_policy

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
