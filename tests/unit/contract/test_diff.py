from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.support.contracts import ADA, AGE, NOW, SEX, WT_LOSS, contract, key
from tests.support.full_contract import fields, full_contract, mutations
from tests.support.slots import CLEO, VENDOR, artefact, filled, task

from cohortium.contract.diff import Change, apply, diff, pattern_of
from cohortium.contract.effect import RULES
from cohortium.contract.model import Contract
from cohortium.contract.render import render, render_diff
from cohortium.core.canonical import digest
from cohortium.errors import InputError

AARHUS = contract().participants[0]
CHICAGO = AARHUS.model_copy(update={"name": "Chicago", "key": key("Chicago").public})
THREE = (*contract().participants, CHICAGO)
EVE = {"name": "Eve", "key": key("Eve").public}
NOISE = {
    "unit": "institution",
    "epsilon": 1.0,
    "delta": 1e-6,
    "sums": 10,
    "clip": 1.0,
    "colluders": 1,
    "multiplier": 20.0,
}
ENVIRONMENT = {
    "executor": "bubblewrap",
    "measurements": [{"kind": "mrtd", "value": "ab" * 32}],
    "tcb_states": ["UpToDate"],
}


def changed(name: str, *path: str, **changes: Any) -> dict[str, Any]:
    """Terms for `contract` of which the first computation, or a part of it, has changes."""
    entry: dict[str, Any] = {"name": name, "noise": dict(NOISE), "max_runs": 10}
    part = entry
    for step in path:
        part = part[step]
    part.update(changes)
    return {"computations": (entry,)}


def only(old: dict[str, Any], new: dict[str, Any]) -> Change:
    """The one change between two contracts."""
    (change,) = diff(contract(**old), contract(**new))
    return change


def test_a_change_has_its_path_and_both_values() -> None:
    change = only(changed("glm"), changed("glm", max_runs=20))
    assert change.path == ("computations", "glm", "max_runs")
    assert change.pattern == "computations.*.max_runs"
    assert (change.kind, change.before, change.after) == ("changed", 10, 20)
    assert change.effect == "looser"


def test_the_text_reads_as_a_sentence() -> None:
    old, new = contract(**changed("glm")), contract(**changed("glm", max_runs=20))
    assert render_diff(old, new).splitlines()[3:] == [
        "1 of 1 changes loosen protection.",
        "",
        "  - [LOOSENS PROTECTION] The number of runs of computation glm was 10 and becomes 20",
    ]
    assert render_diff(old, new, "zh").splitlines()[2:] == [
        "共 1 项变更，其中 1 项放宽保护。",
        "",
        "  - 【放宽保护】 计算 glm 的运行次数上限：原为 10，变更为 20",
    ]
    assert "Nothing differs." in render_diff(old, old)
    assert "无差异。" in render_diff(old, old, "zh")


def test_participants_that_come_and_go_stand_first() -> None:
    old = contract(participants=THREE[:2], title="Old")
    new = contract(participants=THREE[1:], title="New", min_sites=2)
    found = diff(old, new)
    assert [(c.pattern, c.kind) for c in found] == [
        ("participants.*", "removed"),
        ("participants.*", "added"),
        ("title", "changed"),
    ]
    text = render_diff(old, new)
    assert "  - Removed: participant Aarhus\n    dataset lung; gives all variables\n" in text
    assert "  - Added: participant Chicago\n    dataset lung; gives all variables\n" in text
    assert text.index("participant Chicago") < text.index("The title was Old and becomes New")
    assert "新增：参与机构 Chicago" in render_diff(old, new, "zh")


def test_items_are_compared_by_name_wherever_they_stand() -> None:
    one, two = {"name": "glm", "max_runs": 1}, {"name": "stats.*"}
    old, new = contract(computations=(one, two)), contract(computations=(two, one))
    (change,) = diff(old, new)
    assert change.kind == "reordered"
    assert "The order of the computations becomes: stats.*, glm" in render_diff(old, new)
    assert apply(old, [change]) == new
    third = {"name": "own", "max_runs": 0}
    more = contract(computations=(third, two, {**one, "max_runs": 2}))
    assert [c.path for c in diff(old, more)] == [
        ("computations", "glm", "max_runs"),
        ("computations", "own"),
        ("computations",),
    ]
    assert apply(old, diff(old, more)) == more


def test_contacts_of_one_name_are_compared_as_a_list() -> None:
    people = tuple({"name": "Bo", "role": role, "email": "bo@x.example"} for role in "ab")
    old, new = contract(contacts=people), contract(contacts=people[:1])
    (change,) = diff(old, new)
    assert (change.path, change.kind) == (("contacts",), "changed")
    assert apply(old, [change]) == new
    assert '{"email": "bo@x.example"' in render_diff(old, new)


def test_true_is_not_one_and_one_is_one_point_zero() -> None:
    terms = [{"computations": ({"name": "glm", "limits": {"p": (v,)}},)} for v in (1, True, 1.0)]
    one, true, point = (contract(**each) for each in terms)
    assert diff(one, point) == ()
    (change,) = diff(one, true)
    assert (change.before, change.after) == ([1], [True])
    assert "adds: true\n    takes away: 1\n" in render_diff(one, true)


LOOSER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"disclosure": {"min_cell": 7}}, {"disclosure": {"min_cell": 5}}),
    ({"disclosure": {"floor": "site"}}, {"disclosure": {"floor": "total"}}),
    ({"disclosure": {"min_cohort": 50}}, {"disclosure": {}}),
    ({"disclosure": {"dominance": {}}}, {"disclosure": {}}),
    ({"disclosure": {"dominance": {"largest": 2}}}, {"disclosure": {"dominance": {"largest": 1}}}),
    (
        {"disclosure": {"dominance": {"percent": 50.0}}},
        {"disclosure": {"dominance": {"percent": 90.0}}},
    ),
    ({"disclosure": {}}, {"disclosure": {"persons_per_parameter": 5}}),
    ({"disclosure": {"persons_per_parameter": 20}}, {"disclosure": {}}),
    ({"disclosure": {}}, {"disclosure": {"residual_df": 3}}),
    ({"disclosure": {"min_at_risk": 20}}, {"disclosure": {}}),
    ({"disclosure": {"quantile_tail": 20}}, {"disclosure": {}}),
    ({"disclosure": {"max_levels": 20}}, {"disclosure": {"max_levels": 40}}),
    ({"disclosure": {"rounding": 5}}, {"disclosure": {}}),
    ({"disclosure": {}}, {"disclosure": {"by_site": True}}),
    ({"participants": THREE, "min_sites": 3}, {"participants": THREE, "min_sites": 2}),
    ({"security_level": "L3"}, {"security_level": "L2"}),
    ({"recipients": (ADA,)}, {"recipients": (ADA, EVE)}),
    ({}, {"expires_at": NOW + timedelta(days=366)}),
    (
        {"variables": (AGE, SEX, WT_LOSS)},
        {"variables": (AGE, SEX, WT_LOSS, {"name": "b", "type": "real"})},
    ),
    ({}, {"variables": (AGE, SEX, WT_LOSS.model_copy(update={"decimals": 2}))}),
    ({}, {"variables": (AGE, SEX, WT_LOSS.model_copy(update={"decimals": None}))}),
    ({}, {"derived": ({"name": "old", "expression": "age > 70"},)}),
    ({"cohort": {"include": ("age > 1", "age > 2")}}, {"cohort": {"include": ("age > 1",)}}),
    ({"cohort": {"include": ("age > 1",)}}, {"cohort": {"include": ("age > 0",)}}),
    ({"cohort": {"exclude": ("age > 1",)}}, {"cohort": {"exclude": ()}}),
    ({"cohort": {"include": ("age > 1",)}}, {}),
    ({"cohort": {}}, {"cohort": {"adjustable": ("age",)}}),
    ({}, {"cohort": {"adjustable": ("age",)}}),
    (changed("glm"), changed("glm", max_runs=None)),
    (changed("glm"), changed("glm", noise=None)),
    (changed("glm"), changed("glm", "noise", multiplier=19.0)),
    (changed("glm"), changed("glm", "noise", epsilon=1.5)),
    (changed("glm"), changed("glm", "noise", delta=1e-5)),
    (changed("glm"), changed("glm", "noise", sums=11)),
    (changed("glm"), changed("glm", "noise", colluders=0)),
    (changed("glm"), changed("glm", "noise", unit="person")),
    (changed("glm", variables=["age"]), changed("glm", variables=["age", "sex"])),
    (changed("glm", variables=["age"]), changed("glm")),
    (changed("glm", recipients=["Ada"]), changed("glm")),
    (changed("glm", limits={"p": [1]}), changed("glm", limits={"p": [1, 2]})),
    (changed("glm", limits={"p": [1]}), changed("glm")),
    (changed("a.*", versions={"a.b": 1}), changed("a.*", versions={"a.b": 1, "a.c": 1})),
    ({"computations": ({"name": "glm"},)}, {"computations": ({"name": "glm"}, {"name": "b"})}),
    (
        {"computations": ({"name": "stats.*"}, {"name": "stats.describe", "max_runs": 1})},
        {"computations": ({"name": "stats.*"},)},
    ),
    ({"environment": ENVIRONMENT}, {}),
    ({}, {"environment": {"allow_simulated": True}}),
    ({"environment": ENVIRONMENT}, {"environment": {**ENVIRONMENT, "allow_simulated": True}}),
    ({"environment": ENVIRONMENT}, {"environment": {**ENVIRONMENT, "measurements": []}}),
    (
        {"environment": ENVIRONMENT},
        {
            "environment": {
                **ENVIRONMENT,
                "measurements": [{"kind": "mrtd", "value": value * 32} for value in ("ab", "cd")],
            }
        },
    ),
    (
        {"environment": ENVIRONMENT},
        {"environment": {**ENVIRONMENT, "tcb_states": ["UpToDate", "OutOfDate"]}},
    ),
]


def tasked(environment: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Terms for a contract of tasks alone, at L2 in Kiel's enclave."""
    made = filled(task(**changes), images=artefact("Aarhus"))
    return {
        "tasks": (made,),
        "owners": (CLEO, VENDOR),
        "computations": (),
        "variables": (),
        "participants": SEATS,
        "security_level": "L2",
        "environment": {"enclaves": (KIEL,)} if environment is None else environment,
    }


KIEL, LUND = ({"name": name, "key": key(name).public} for name in ("Kiel", "Lund"))
SEATS = tuple({"name": name, "key": key(name).public} for name in ("Aarhus", "Boston"))
OTHER_KIEL = {"name": "Kiel", "key": key("Kiel again").public}
FREE = ({"name": "epochs"}, {"name": "rate"}, {"name": "seed", "required": False})
MORE = (*task().arguments, {"name": "path"})
MODEL = {"name": "model", "owners": ("Ada",), "recipients": ("Ada", "Vendor")}
LOOSER_TASKS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (tasked(), {**tasked(), "security_level": "L1"}),
    (tasked(security_level="L3"), tasked()),
    (tasked(), tasked({"enclaves": (KIEL, LUND)})),
    (tasked({}), tasked()),
    (tasked(security_level="L4"), tasked({"enclaves": ()}, security_level="L4")),
    (tasked(), tasked({"enclaves": (KIEL,), "allow_simulated": True})),
    (tasked({"enclaves": (KIEL,), "executor": "landlock"}), tasked()),
    (tasked(executor="landlock"), tasked()),
    (tasked(limits={"time_s": 60.0}), tasked(limits={"time_s": 61.0})),
    (tasked(limits={"memory_bytes": 1 << 28}), tasked(limits={"memory_bytes": 1 << 29})),
    (tasked(limits={}), tasked()),
    (tasked(), tasked(log_recipients=("Ada",))),
    (tasked(), tasked(outputs=(MODEL,))),
    (tasked(), tasked(arguments=FREE)),
    (tasked(), tasked(arguments=MORE)),
    (tasked(max_runs=1), tasked(max_runs=2)),
]


@pytest.mark.parametrize(("old", "new"), LOOSER_TASKS)
def test_what_loosens_the_protection_of_what_is_lent_is_marked(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert only(old, new).effect == "looser"
    assert only(new, old).effect == "stricter"


def test_another_key_of_an_enclave_is_another_machine() -> None:
    other = tasked({"enclaves": (OTHER_KIEL,)})
    assert only(tasked(), other).effect == only(other, tasked()).effect == "looser"
    text = render_diff(contract(**tasked()), contract(**other))
    assert "[LOOSENS PROTECTION] The key of enclave Kiel was" in text


def test_naming_an_enclave_where_any_could_serve_is_stricter() -> None:
    mixed = {**tasked({}, security_level="L4"), "security_level": "L1"}
    assert only(mixed, {**mixed, "environment": {"enclaves": (KIEL,)}}).effect == "stricter"
    assert only({**mixed, "environment": None}, mixed).effect == "other"


def test_a_level_of_a_task_below_the_contracts_changes_nothing() -> None:
    assert only(tasked(security_level="L1"), tasked()).effect == "other"


@pytest.mark.parametrize(("old", "new"), LOOSER)
def test_what_loosens_protection_is_marked_and_its_reverse_is_not(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert only(old, new).effect == "looser"
    there, back = (render_diff(contract(**a), contract(**b)) for a, b in ((old, new), (new, old)))
    assert "1 of 1 changes loosen protection." in there
    assert "[LOOSENS PROTECTION]" in there
    if only(new, old).pattern != "computations.*" and "age > 0" not in back:
        assert only(new, old).effect == "stricter"
        assert "0 of 1 changes loosen protection." in back


def test_masks_and_an_enclave_each_protect_from_what_the_other_does_not() -> None:
    masked, enclave = {"aggregation": "masked"}, {"aggregation": "enclave"}
    assert only(masked, enclave).effect == only(enclave, masked).effect == "looser"
    assert "neither an institution's own contribution nor the totals" in " ".join(
        render(contract(**enclave)).split()
    )


def test_a_required_measurement_of_another_kind_is_stricter() -> None:
    more = [*ENVIRONMENT["measurements"], {"kind": "rtmr0", "value": "cd" * 32}]
    change = only(
        {"environment": ENVIRONMENT}, {"environment": {**ENVIRONMENT, "measurements": more}}
    )
    assert change.effect == "stricter"


def test_a_participant_more_is_marked_where_runs_may_then_leave_one_out() -> None:
    two = {"participants": THREE[:2], "min_sites": 2}
    assert only(two, {"participants": THREE, "min_sites": 2}).effect == "looser"
    all_of_them = diff(contract(**two), contract(participants=THREE, min_sites=3))
    assert [c.effect for c in all_of_them] == ["other", "stricter"]


def test_a_task_without_a_level_of_its_own_has_that_of_the_contract() -> None:
    data = full_contract().to_json()
    strict = Contract.from_json(data)
    data["tasks"][0].pop("security_level")
    (change,) = diff(strict, Contract.from_json(data))
    assert change.effect == "looser"
    data["security_level"], fixed = "L5", data["tasks"][0]["arguments"][0].pop("value")
    found = {c.path: c.effect for c in diff(strict, Contract.from_json(data))}
    assert fixed == 10
    assert found == {
        ("security_level",): "stricter",
        ("tasks", "train", "security_level"): "stricter",
        ("tasks", "train", "arguments", "epochs", "value"): "looser",
    }


def test_a_new_digest_is_a_change_of_its_own() -> None:
    data = full_contract().to_json()
    data["tasks"][0]["code"]["content_digest"] = digest("new code")
    old, new = full_contract(), Contract.from_json(data)
    (change,) = diff(old, new)
    assert change.path == ("tasks", "train", "code", "content_digest")
    text = render_diff(old, new)
    assert f"The digest of the code of task train was\n    {digest('code')} and becomes" in text
    assert f"    {digest('new code')}\n" in text


def test_keys_are_shown_by_fingerprint_and_times_with_their_zone() -> None:
    old = contract()
    new = contract(
        expires_at=NOW + timedelta(days=1),
        recipients=({"name": "Ada", "key": key("Ada's new").public},),
        proposed_by={"name": "Ada", "key": key("Ada's new").public},
    )
    text = " ".join(render_diff(old, new).split())
    assert "The expiry was 2027-11-22 09:30:00 UTC and becomes 2026-11-23 09:30:00 UTC" in text
    assert "The key of researcher Ada was 2CAD B62B" in text
    assert "ed25519" not in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_whatever_field_changes_a_change_is_told(language: str) -> None:
    base = full_contract()
    same = render_diff(base, base, language)
    for mutation in mutations(base):
        found = diff(base, mutation.document)
        assert found, mutation.pattern
        text = render_diff(base, mutation.document, language)
        assert text != same
        assert "  - " in text
        assert "None" not in text


def test_free_text_in_a_difference_stays_behind_bars() -> None:
    evil = "Good.\n\n  - [tightens protection] All is well\x1b[2J"
    lines = render_diff(contract(), contract(purpose=evil)).splitlines()
    assert [line for line in lines if line.startswith("  - ")] == ["  - The purpose was:"]
    assert "    |   - [tightens protection] All is well\ufffd[2J" in lines
    sly = "x was 1 and becomes 2 [LOOSENS PROTECTION]"
    assert f"becomes “{sly}”" in render_diff(contract(), contract(title=sly)).replace("\n    ", " ")


def test_changes_of_another_contract_do_not_apply() -> None:
    changes = diff(contract(**changed("glm")), contract(**changed("glm", max_runs=20)))
    with pytest.raises(InputError) as caught:
        apply(contract(computations=({"name": "own"},)), changes)
    assert caught.value.code == "bad-input"


def test_a_change_survives_json() -> None:
    for change in diff(contract(), full_contract()):
        assert Change.from_json(change.to_json()) == change


def test_every_rule_is_about_a_field_that_there_is() -> None:
    there = {field.pattern for field in fields(Contract)}
    assert {rule.removesuffix(".*") for rule in RULES} - there == set()
    assert pattern_of(("tasks", "t", "inputs", "i", "owners")) == "tasks.*.inputs.*.owners"
