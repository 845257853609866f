"""The 24 rules of contracts between data owners, one test or more each, by number.

Those about running processes are shown where the processes are; the table in
docs/concepts/contract.md names every test, and the last tests here hold it to that.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.support.contracts import ADA, NOW, contract, key, request
from tests.support.life import amended, transition
from tests.support.slots import (
    CODE,
    VENDOR,
    artefact,
    assign,
    begun,
    draft,
    filled,
    task,
    task_contract,
)

from cohortium.analysis.builtin import find
from cohortium.contract import lifecycle
from cohortium.contract.check import check_run
from cohortium.contract.lifecycle import StudyLife, permits
from cohortium.contract.model import Contract, RunRequest
from cohortium.contract.task import Task, code_digest
from cohortium.core.canonical import digest
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PolicyRefusal,
    VerificationError,
)

ROOT = Path(__file__).parents[3]
SITES = ("Aarhus", "Boston")


def proposed(made: Contract, life: StudyLife | None = None) -> StudyLife:
    return lifecycle.propose(life, made, made.proposed_by.key, NOW)


def signed(life: StudyLife, made: Contract, *names: str) -> StudyLife:
    for name in names:
        life = lifecycle.sign(life, made.digest, key(name).public, NOW)
    return life


def active(made: Contract, life: StudyLife | None = None) -> StudyLife:
    return signed(proposed(made, life), made, *made.signatories)


def refused(code: str) -> pytest.RaisesExc[CohortiumError]:
    return pytest.raises(CohortiumError, check=lambda error: error.code == code)


def run(made: Contract, signer: str = "Ada", **changes: object) -> object:
    asked: RunRequest = request(made, **changes)
    return check_run(
        made, asked, key(signer).public, signatures_ok=True, find_analysis=find, now=NOW
    )


# Slots


def test_rule_01_a_contract_with_an_unfilled_slot_cannot_be_approved() -> None:
    with pytest.raises(ValidationError, match="images"):
        task_contract(task())
    life = begun()
    assert set(life.unfilled) == {"train/images", "dataset/Boston"}
    with refused("wrong-state") as caught:
        life.assemble()
    assert "train/images (Aarhus)" in caught.value.message
    life = assign(life, "train/images", "Aarhus", artefact("Aarhus"))
    with refused("wrong-state"):
        life.assemble()
    made = assign(life, "dataset/Boston", "Boston", artefact("Boston", name="lung")).assemble()
    assert active(made).in_force is not None


def test_rule_02_a_stranger_neither_reads_nor_assigns_nor_approves() -> None:
    made = task_contract()
    assert "Eve" not in made.parties
    life = proposed(made)
    with refused("unknown-signer"):
        signed(life, made, "Eve")
    for action in ("refuse", "revoke", "suspend", "withdraw"):
        said = transition(made, action, "Eve")
        with refused("unknown-signer"):
            lifecycle.apply(life, said, key("Eve").public, NOW)
    images = artefact("Aarhus")
    for author, signer in (("Eve", "Eve"), ("Aarhus", "Eve"), ("Aarhus", "Boston")):
        with refused("unknown-signer"):
            assign(begun(), "train/images", author, images, signer=signer)


def test_rule_03_nobody_assigns_someone_elses_data() -> None:
    life, images = begun(), artefact("Aarhus")
    for author, slot in (
        ("Boston", "train/images"),
        ("Ada", "train/images"),
        ("Aarhus", "dataset/Boston"),
    ):
        with refused("not-authorised") as caught:
            assign(life, slot, author, images)
        assert isinstance(caught.value, PolicyRefusal)
    known = {images.content_digest or "": frozenset({"Boston"})}
    with refused("not-authorised") as caught:
        assign(life, "train/images", "Aarhus", images, known=known)
    assert "belongs to Boston" in caught.value.message


def test_rule_04_what_fills_a_slot_has_exactly_the_slots_owners() -> None:
    for owners in (("Boston",), ("Aarhus", "Cleo")):
        other = artefact(*owners)
        with refused("not-authorised"):
            assign(begun(), "train/images", "Aarhus", other)
        with pytest.raises(ValidationError, match="are not the slot's owners"):
            filled(task(), images=other)


@pytest.mark.parametrize(
    "slot", ["train/nothing", "nothing/images", "dataset/Aarhus", "dataset/Eve", "images"]
)
def test_rule_05_a_slot_that_the_draft_does_not_have_is_not_assigned(slot: str) -> None:
    with refused("not-found") as caught:
        assign(begun(), slot, "Aarhus", artefact("Aarhus"))
    assert isinstance(caught.value, InputError)
    assert "train/images" in caught.value.message


def test_rule_06_a_slot_is_assigned_once_and_only_in_a_draft() -> None:
    once = assign(begun(), "train/images", "Aarhus", artefact("Aarhus"))
    assert assign(once, "train/images", "Aarhus", artefact("Aarhus")) is once
    other = artefact("Aarhus", name="better_scans")
    with refused("wrong-state"):
        assign(once, "train/images", "Aarhus", other)
    whole = assign(once, "dataset/Boston", "Boston", artefact("Boston"))
    ended = whole.proposed(whole.assemble())
    start = artefact("Cleo", name="start")
    with refused("wrong-state"):
        assign(ended, "train/start", "Cleo", start)
    assert "start" in str(assign(whole, "train/start", "Cleo", start).assemble().to_json())
    given = begun(draft(filled(task(), images=artefact("Aarhus"))))
    with refused("not-found"):
        assign(given, "train/images", "Aarhus", artefact("Aarhus", name="other"))


# Runs


def test_rule_07_nothing_runs_before_everyone_has_approved() -> None:
    made = contract()
    life = proposed(made)
    for name in SITES:
        with refused("contract-not-active") as caught:
            permits(life.newest, "stats.describe", NOW)
        assert name in caught.value.details["missing"]
        life = signed(life, made, name)
    permits(life.newest, "stats.describe", NOW)


def test_rule_08_only_a_named_researcher_runs() -> None:
    made = contract()
    assert run(made)
    with refused("not-authorised"):
        run(made, "Eve", researcher=key("Eve").public)
    with refused("unknown-signer"):
        run(made, "Eve")
    bob = {"name": "Bob", "key": key("Bob").public}
    narrow = contract(
        recipients=(ADA, bob), computations=({"name": "stats.*", "recipients": ("Ada",)},)
    )
    assert run(narrow)
    with refused("not-authorised"):
        run(narrow, "Bob", researcher=key("Bob").public)


def test_rule_09_a_missing_argument_is_refused_and_an_optional_one_may_be_absent() -> None:
    assert task().bound({"rate": 0.1}) == {"epochs": 10, "rate": 0.1}
    assert task().bound({"rate": 0.1, "seed": 7}) == {"epochs": 10, "rate": 0.1, "seed": 7}
    with refused("bad-input") as caught:
        task().bound({"seed": 7})
    assert "rate" in caught.value.message
    with refused("bad-input"):
        task().bound({"rate": 0.1, "other": 1})
    made = filled(task(), images=artefact("Aarhus"))
    assert (made.unfilled, task().unfilled) == ((), ("images",))


def test_rule_10_a_fixed_argument_is_not_overridden() -> None:
    for given in (10, 11):
        with refused("not-permitted"):
            task().bound({"rate": 0.1, "epochs": given})
    limited = contract(computations=({"name": "stats.describe", "limits": {"quantiles": (0.5,)}},))
    asked = {"variables": ["age"], "quantiles": [0.5, 0.9]}
    with refused("not-permitted"):
        run(limited, params=asked)


# Who approves


def test_rule_11_approvers_are_the_proposer_the_slots_owners_and_the_owner_of_private_code() -> (
    None
):
    assert task().approvers("Ada") == {"Ada", "Aarhus", "Cleo", "Vendor"}
    public = CODE.model_copy(update={"public": True})
    assert task(code=public).approvers("Ada") == {"Ada", "Aarhus", "Cleo"}
    assert set(task_contract().signatories) == {"Aarhus", "Boston", "Ada", "Cleo", "Vendor"}
    assert set(contract().signatories) == set(SITES)
    own = {"name": "own_model", "code": CODE}
    assert set(contract(computations=(own,), owners=(VENDOR,)).signatories) == {*SITES, "Vendor"}
    made = task_contract()
    life = signed(proposed(made), made, *SITES, "Cleo")
    assert life.newest.missing == ("Vendor",)
    assert signed(life, made, "Vendor").in_force is not None


def joint(*owners: str, joint: bool = True) -> Task:
    output = {"name": "model", "owners": owners, "recipients": ("Ada",), "joint": joint}
    return filled(task(outputs=(output,)), images=artefact("Aarhus"))


def test_rule_12_a_joint_output_has_two_owners_or_more_its_creator_among_them() -> None:
    assert task_contract(joint("Ada", "Aarhus")).tasks[0].outputs[0].joint
    with pytest.raises(ValidationError, match="two or more owners"):
        joint("Ada")
    with pytest.raises(ValidationError, match="not called joint"):
        joint("Ada", "Aarhus", joint=False)
    with pytest.raises(ValidationError, match="Ada proposes the joint output"):
        task_contract(joint("Boston", "Aarhus"))
    with pytest.raises(ValidationError, match="two owners"):
        joint("Ada", "Ada")


def test_rule_13_a_joint_output_becomes_an_input_only_by_all_its_owners() -> None:
    images, start = task().inputs
    later = task(inputs=(images, {**start.to_json(), "owners": ("Cleo", "Aarhus")}))
    life = begun(draft(later))
    model = artefact("Aarhus", "Cleo", name="model")
    life = assign(life, "dataset/Boston", "Boston", artefact("Boston"))
    life = assign(life, "train/images", "Aarhus", artefact("Aarhus"))
    half = assign(life, "train/start", "Aarhus", model)
    assert half.unfilled == {"train/start": {"Cleo"}}
    with refused("wrong-state"):
        half.assemble()
    other = artefact("Aarhus", "Cleo", name="model", content_digest=digest("other"))
    with refused("wrong-state"):
        assign(half, "train/start", "Cleo", other)
    made = assign(half, "train/start", "Cleo", model).assemble()
    assert made.tasks[0].inputs[1].artefact == model


def test_rule_14_an_unfinished_output_is_no_input() -> None:
    unfinished = artefact("Aarhus", content_digest=None)
    with refused("wrong-state"):
        assign(begun(), "train/images", "Aarhus", unfinished)
    with pytest.raises(ValidationError, match="unfinished"):
        filled(task(), images=unfinished)


def test_rule_15_changed_data_or_code_void_every_approval() -> None:
    made = contract()
    life = active(made)
    envelope = made.sign(key("Aarhus"))
    first, second = made.participants
    fresh = first.model_copy(update={"dataset_digest": digest("updated")})
    updated = amended(made, participants=(fresh, second))
    assert updated.digest != made.digest
    life = proposed(updated, life)
    life = lifecycle.hear(life, envelope, NOW)
    assert life.newest.missing == SITES
    code = CODE.model_copy(
        update={"content_digest": code_digest({"main.py": b"print(1)", "lib/net.py": b""})}
    )
    recoded = task_contract(filled(task(code=code), images=artefact("Aarhus")))
    assert recoded.digest != task_contract().digest
    assert code_digest({"a": b"bc"}) != code_digest({"ab": b"c"})


def test_rule_15_another_version_of_an_analysis_is_not_permitted() -> None:
    older = contract(computations=({"name": "stats.*", "versions": {"stats.describe": 2}},))
    with refused("not-permitted") as caught:
        run(older)
    assert "version 2" in caught.value.message
    none = contract(computations=({"name": "stats.*", "versions": {"stats.other": 1}},))
    with refused("not-permitted"):
        run(none)


# Changes


def test_rule_22_a_vote_on_a_stale_version_is_refused_naming_the_current_one() -> None:
    first = contract()
    second = amended(first, title="Second")
    stale = amended(first, title="Also second")
    life = active(second, proposed(stale, active(first)))
    acts: tuple[Callable[[], object], ...] = (
        lambda: signed(life, stale, "Aarhus"),
        lambda: lifecycle.apply(
            life, transition(first, "suspend", "Aarhus"), key("Aarhus").public, NOW
        ),
        lambda: lifecycle.apply(
            life, transition(stale, "refuse", "Boston"), key("Boston").public, NOW
        ),
        lambda: proposed(amended(first, title="Late"), life),
    )
    for act in acts:
        with refused("stale-version") as caught:
            act()
        assert isinstance(caught.value, ConflictError)
        assert caught.value.details["current"] == second.digest
        assert second.digest in caught.value.message
    late = assign(begun(), "train/images", "Aarhus", artefact("Aarhus"))
    other = begun(draft(title="Other"))
    said = late.assigned["train/images"]["Aarhus"]
    with refused("stale-version") as caught:
        other.assign(said, key("Aarhus").public, NOW)
    assert caught.value.details["current"] == other.digest


def test_rule_23_after_acceptance_nothing_is_edited() -> None:
    made = contract()
    edited = contract(title="Edited")
    for life in (proposed(made), active(made)):
        with refused("already-exists") as caught:
            proposed(edited, life)
        assert caught.value.details["current"] == made.digest
    whole = assign(begun(), "dataset/Boston", "Boston", artefact("Boston"))
    whole = assign(whole, "train/images", "Aarhus", artefact("Aarhus"))
    fields = {**whole.assemble().to_json(), "title": "Edited"}
    with refused("wrong-state"):
        whole.proposed(Contract.from_json(fields))
    envelope = made.sign(key("Aarhus")).replace(b'"payload":"', b'"payload":"e30')
    with pytest.raises(VerificationError):
        lifecycle.hear(proposed(made), envelope, NOW)


def test_rule_24_of_two_amendments_one_wins_and_the_other_says_so() -> None:
    first = contract()
    one, two = amended(first, title="One"), amended(first, title="Two")
    life = proposed(two, proposed(one, active(first)))
    life = signed(life, one, "Aarhus")
    life = signed(life, two, *SITES)
    assert [version.state for version in life.versions] == ["superseded", "superseded", "active"]
    assert life.in_force == life.version(two.digest)
    loser = life.version(one.digest)
    assert loser.ended_by == "Ada"
    assert two.digest in (loser.reason or "")
    with refused("stale-version") as caught:
        signed(life, one, "Boston")
    assert caught.value.details["current"] == two.digest


def test_an_expired_contract_takes_no_new_signature() -> None:
    made = contract()
    late = made.expires_at + timedelta(seconds=1)
    life = proposed(made)
    with refused("contract-expired"):
        lifecycle.sign(life, made.digest, key("Aarhus").public, late)
    with refused("contract-expired"):
        lifecycle.propose(None, made, made.proposed_by.key, late)


# The table in the documentation


@cache
def _rows() -> dict[int, list[str]]:
    """Tests by rule number."""
    text = (ROOT / "docs/concepts/contract.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", text, flags=re.MULTILINE)
    return {int(number): re.findall(r"`([^`]+::[^`]+)`", tests) for number, tests in rows}


def test_the_table_shows_a_test_for_each_rule() -> None:
    assert sorted(_rows()) == list(range(1, 32))
    assert all(_rows().values())


@pytest.mark.parametrize("number", range(1, 32))
def test_the_tests_in_the_table_exist(number: int) -> None:
    for test in _rows()[number]:
        path, name = test.split("::")
        tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        assert name in {node.name for node in tree.body if isinstance(node, kinds)}
