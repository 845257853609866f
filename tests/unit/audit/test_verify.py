"""Bundles with one false fact each are refused in the step that has to see it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from tests.support.audit import (
    ORIGIN,
    SITES,
    Honest,
    Story,
    honest,
    key,
    make_contract,
    named_by,
    participant,
)
from tests.support.audit_faults import (
    FAULTS,
    Fault,
    released,
    said_of_a_stranger,
    usurped,
)

from cohortium.audit.steps import STEPS
from cohortium.audit.verify import Trust, verify
from cohortium.contract.model import Researcher
from cohortium.core.canonical import canonical
from cohortium.errors import ProtocolError, VerificationError
from cohortium.ledger import checkpoint as cp
from cohortium.ledger.entry import (
    DatasetChanged,
    MemberChanged,
    RunDecided,
    RunEnded,
    RunSubmitted,
    TakenOver,
)
from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.tiles import Mirror
from cohortium.ledger.tree import tree_of


@cache
def _honest() -> Honest:
    return honest()


@pytest.fixture
def story() -> Honest:
    """The honest story, to be spoiled."""
    return copy.deepcopy(_honest())


@pytest.mark.parametrize("coverage", ["study", "log"])
def test_an_honest_bundle_holds_in_every_step(story: Honest, coverage: str) -> None:
    report = verify(canonical(story.story.seal(coverage)), results=released(story))
    assert report.study == "lung"
    assert report.complete is (coverage == "log")
    assert report.size == len(story.story.log)
    assert report.results == tuple(sorted(released(story)))
    assert {name for name, facts in report.checked.items() if facts == 0} == set()
    assert set(report.checked) == set(STEPS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.step}: {fault.name}")
def test_a_false_fact_is_found_in_its_step(story: Honest, fault: Fault) -> None:
    data = fault.data(story)
    with pytest.raises((VerificationError, ProtocolError)) as caught:
        verify(data, trust=fault.trust, results=fault.results(story))
    error = caught.value
    assert error.details["step"] == fault.step, error.message
    assert error.code == ("malformed-message" if fault.step == "format" else "bad-bundle")
    assert error.message.startswith(f"Step {STEPS[fault.step].number} ({fault.step})")
    assert STEPS[fault.step].means in error.message
    assert error.details.get("cause") != "internal"


def test_drafts_and_assignments_are_told_and_bind_nobody(story: Honest) -> None:
    again = honest(closed=False)
    again.story.draft(again.second)
    again.story.run(again.second, 9)
    report = verify(canonical(again.story.seal()))
    told = "\n".join(event.what for event in report.events)
    assert "drafted version 3" in told
    assert "assigned data in the draft of version 3" in told


def test_a_study_of_which_there_is_only_a_draft(story: Honest) -> None:
    alone = Story()
    alone.found()
    alone.draft(story.first)
    report = verify(canonical(alone.seal()))
    assert [event.who for event in report.events if "draft" in event.what] == ["Ada", "Boston"]


def test_those_of_the_only_version_witness_the_checkpoint() -> None:
    alone, made_up = Story(), [f"Clinic {number}" for number in range(9)]
    alone.found()
    first = alone.contract()
    alone.propose(first)
    alone.sign(first)
    for name in made_up:
        alone.note(MemberChanged(name=name, key=key(name).public, status="approved"))
    assert verify(canonical(alone.seal(witnesses=[*SITES, *made_up]))).checked["quorum"] == 2
    with pytest.raises(VerificationError) as caught:
        verify(canonical(alone.seal(witnesses=["Aarhus", *made_up])))
    assert caught.value.details["step"] == "quorum"


def test_participants_who_are_replaced_witness_that_they_are(story: Honest) -> None:
    report = verify(canonical(usurped("after")))
    assert report.checked["quorum"] == 4  # the newest, both that were replaced, and no others


@pytest.mark.parametrize("coverage", ["study", "log"])
@pytest.mark.parametrize("here", [False, True])
def test_what_is_said_of_a_stranger_is_reported_and_spoils_nothing(
    here: bool, coverage: str
) -> None:
    story = honest(closed=False)
    place = said_of_a_stranger(story, "revoke", "revoked", here=here)
    story.story.run(story.second, 9)
    report = verify(canonical(story.story.seal(coverage)))
    assert report.unproven == (place,)
    (event,) = [event for event in report.events if event.index == place]
    assert event.who == "hub"
    assert event.what.startswith("says without proof that Eve revoked version 2")
    assert report.to_json()["unproven"] == [place]


def test_a_proposal_by_a_stranger_that_is_refused_by_the_life_spoils_nothing() -> None:
    story = honest(closed=False)
    eves = make_contract(
        proposed_by=Researcher(name="Eve", key=key("Eve").public),
        participants=tuple(participant(name) for name in ("Mallory", "Oscar")),
    )
    first = len(story.story.log)
    story.story.propose(eves, by="Eve")
    story.story.sign(eves, ("Mallory", "Oscar"))
    story.story.run(story.second, 9)
    report = verify(canonical(story.story.seal()))
    assert report.unproven == (first, first + 1, first + 2)
    assert "Eve" not in {party.name for party in report.parties}


@pytest.mark.parametrize("by", ["Ada", "Boston", "Bob"])
def test_what_a_party_is_said_to_have_signed_and_is_not_there_is_no_trifle(by: str) -> None:
    """It may be withheld, and have ended the contract."""
    story = honest(closed=False)
    place = said_of_a_stranger(story, "revoke", "revoked", here=False, by=by)
    story.story.run(story.second, 9)
    with pytest.raises(VerificationError) as caught:
        verify(canonical(story.story.seal()))
    assert caught.value.details == {"step": "statements", "entry": place}


def test_a_partys_word_is_not_hidden_under_a_strangers_name() -> None:
    story = honest(closed=False)
    story.story.change(story.second, "revoke", "Boston", "revoked")
    place = len(story.story.log) - 1
    story.story.alter(place, author="Eve", key=key("Eve").public)
    story.story.run(story.second, 9)
    with pytest.raises(VerificationError) as caught:
        verify(canonical(story.story.seal()))
    assert (caught.value.details["step"], caught.value.details["entry"]) == ("contract", place)


def test_a_draft_that_was_lost_with_a_hub_spoils_nothing() -> None:
    story = honest(closed=False)
    drafts = len(story.story.log)
    story.story.draft(story.second)
    lost = {named_by(story.story.log[place][1])[0] for place in (drafts, drafts + 1)}
    made = story.story.seal()
    made["statements"] = {d: text for d, text in made["statements"].items() if d not in lost}
    assert verify(canonical(made)).unproven == (drafts, drafts + 1)


def test_what_is_void_makes_no_study() -> None:
    alone = Story()
    alone.found()
    said_of_a_stranger(Honest(alone, *_rest()), "revoke", "revoked", here=False)
    with pytest.raises(VerificationError) as caught:
        verify(canonical(alone.seal()))
    assert caught.value.details["step"] == "statements"


def _rest() -> tuple[Any, ...]:
    made = _honest()
    return (made.first, made.second, made.describe, made.model, made.failed, made.denied)


def mirror(story: Story, size: int | None = None) -> Callable[[str], bytes | None]:
    """An institution's copy of the ledger."""
    length = len(story.log) if size is None else size
    note = story.seal(size=length)["checkpoint"].encode()
    texts = story.texts()
    tree = tree_of({}, 0).extended([leaf_hash(text) for text in texts[:length]])[0]
    served = Mirror(tree, lambda start, end: texts[start:end], note)
    return served.get


def test_with_a_copy_of_the_ledger_it_is_seen_that_nothing_is_left_out(story: Honest) -> None:
    data = canonical(story.story.seal())
    assert verify(data, copy=mirror(story.story)).complete
    older = canonical(story.story.seal(size=len(story.story.log) - 1))
    assert verify(older, copy=mirror(story.story)).complete


@pytest.mark.parametrize("kept", ["submitted", "nothing"])
def test_a_run_that_was_left_out_is_missed_in_the_copy(story: Honest, kept: str) -> None:
    """All about a failed run can be left out of a bundle, and nobody sees it in the bundle."""
    made = story.story.seal()
    out = {
        place
        for kind in (RunSubmitted, RunDecided, RunEnded)
        for place in story.story.places(kind, run_id=story.failed.run_id)
        if kept == "nothing" or kind is not RunSubmitted
    }
    named = {digest for place in out for digest in named_by(story.story.log[place][1])}
    made["entries"] = [entry for entry in made["entries"] if entry["index"] not in out]
    made["statements"] = {d: text for d, text in made["statements"].items() if d not in named}
    data = canonical(made)
    assert not verify(data).complete
    with pytest.raises(VerificationError) as caught:
        verify(data, copy=mirror(story.story))
    assert caught.value.details["step"] == "entries"
    assert f"Entry {min(out)} of the study is not here" in caught.value.message


def test_a_copy_that_is_older_or_of_another_history_shows_nothing(story: Honest) -> None:
    data = canonical(story.story.seal())
    copies = [mirror(story.story, len(story.story.log) - 1), lambda _: None]
    other = copy.deepcopy(story)
    other.story.alter(other.story.places(DatasetChanged, member="Delhi")[0], content=None)
    copies.append(mirror(other.story))
    whole = mirror(story.story)
    copies.append(lambda path: None if path.startswith("tile/0") else whole(path))
    for one in copies:
        with pytest.raises(VerificationError) as caught:
            verify(data, copy=one)
        assert caught.value.details["step"] == "entries"


def test_after_another_hub_took_over_each_key_signs_for_its_time(story: Honest) -> None:
    before, size = story.story.seal(), len(story.story.log)
    new = cp.log_key(ORIGIN, key("new").public).text
    story.story.note(TakenOver(size=size, key=new))
    story.story.note(DatasetChanged(member="Boston", name="lung"))
    made = story.story.seal(log="new")
    old = before["log"]["keys"]
    made["log"]["keys"] = [*old, {"key": new, "size": size}]
    with pytest.raises(VerificationError) as caught:
        verify(canonical(made))
    assert caught.value.details["step"] == "releases"
    for release in made["releases"]:
        plain = story.story.seal()["releases"]
        release["checkpoint"] = next(
            one["checkpoint"] for one in plain if one["run_id"] == release["run_id"]
        )
    report = verify(canonical(made), trust=Trust(log=new))
    assert any("another hub goes on" in event.what for event in report.events)
    made["log"]["keys"] = made["log"]["keys"][1:]
    with pytest.raises(VerificationError, match="Nobody knows who signed the log then"):
        verify(canonical(made))
    made["log"]["keys"] = [*old, {"key": new, "size": size - 1}]
    with pytest.raises(VerificationError, match="key is not there"):
        verify(canonical(made))


def test_a_result_is_not_compared_without_its_nonce(story: Honest) -> None:
    made = story.story.seal()
    for release in made["releases"]:
        del release["nonce"]
    verify(canonical(made))
    with pytest.raises(VerificationError) as caught:
        verify(canonical(made), results=released(story))
    assert caught.value.details["step"] == "results"
    assert "may not read this result" in caught.value.message


def test_the_version_of_an_analysis_that_is_not_installed_is_no_accusation(story: Honest) -> None:
    class Older:
        version = 0

    with pytest.raises(VerificationError) as caught:
        verify(canonical(story.story.seal()), find=lambda _: Older())  # type: ignore[arg-type, return-value]
    assert caught.value.details["step"] == "requests"
    assert "It cannot be judged here." in caught.value.message
    assert STEPS["requests"].means not in caught.value.message


def test_every_step_has_its_faults() -> None:
    assert {fault.step for fault in FAULTS} == set(STEPS)
    assert len({(fault.step, fault.name) for fault in FAULTS}) == len(FAULTS) >= 30
