"""Bundles about runs of tasks: what lenders signed, which machine had the keys, what it gave."""

from __future__ import annotations

import pytest
from tests.support.audit_tasks import Json, TaskStory, content, lending, simulated_terms, train
from tests.support.task_lies import LIES, Lie, gave, lent, revoked, told, with_, without

from cohortium.core.canonical import canonical, digest
from cohortium.errors import VerificationError
from cohortium.ledger.entry import RunDecided, SiteDecision


def test_a_run_of_a_task_holds_in_every_step() -> None:
    story = TaskStory()
    contract = story.begin()
    first, second = story.trained(contract), story.trained(contract, 2)
    results = {run: canonical(result) for run, (_, result) in story.results.items()}
    for coverage in ("study", "log"):
        report = told(story.seal(coverage), results=results)
        assert report.unchecked == ()
        assert report.results == tuple(sorted({first.run_id, second.run_id}))
        assert ("Kiel", "enclave") in {(one.name, one.role) for one in report.parties}
    run = first.run_id[:8]
    events = [event.what for event in report.events if run in event.what]
    assert events[0] == f'ordered task.train {{"epochs":3}}, run {run}'
    assert events[1] == f"run {run}: lend: Aarhus"
    brief = content("images").removeprefix("sha256:")[:12]
    assert (
        events[2]
        == f"released its keys of images ({brief}) to the enclave Kiel (landlock, L2), run {run}"
    )
    assert events[3] == f"run {run}: lend: Aarhus, Boston"
    assert "Kiel (landlock, L2) gave model, log after 12.5 s" in events[5]
    assert any(event.what.startswith("enclave approved") for event in report.events)


def test_refusals_and_failures_of_tasks_are_told() -> None:
    story = TaskStory()
    contract = story.begin()
    request = story.ask(contract)
    sites = story.lend(request, "Aarhus")
    sites |= {"Boston": SiteDecision(decision="refused", code="site-policy")}
    story.note(RunDecided(run_id=request.run_id, sites=sites))
    story.fail(request, "site-policy")
    report = told(story.seal())
    assert any("lend: Aarhus; refuse: Boston (site-policy)" in e.what for e in report.events)


def test_what_a_resumed_run_gave_is_told_of_its_last_end_alone() -> None:
    story = TaskStory()
    contract = story.begin()
    request = story.ask(contract)
    story.fail(request, "no-enclave")
    sites = story.lend(request, "Aarhus")
    story.finish(request, story.lend(request, "Boston", before=sites))
    run = f"run {request.run_id[:8]}"
    ends = [
        e.what for e in told(story.seal()).events if e.what.startswith((f"{run} f", f"{run} s"))
    ]
    assert ends[0] == f"{run} failed (no-enclave)"
    assert "Kiel (landlock, L2) gave model, log after 12.5 s" in ends[1]


def test_a_simulated_machine_is_not_told_with_a_level() -> None:
    story = TaskStory()
    contract = story.begin(lending(story, **simulated_terms()))
    request = story.ask(contract)
    seen = with_(executor="simulated", level="L4")
    sites: Json = {}
    for site in ("Aarhus", "Boston"):
        proof = {"change": story.proven(site)}
        sites = story.lend(request, site, before=sites, change=seen, released=proof)
    story.finish(request, sites, change=seen)
    text = "\n".join(event.what for event in told(story.seal()).events)
    assert "to the enclave Kiel (simulated: NO PROTECTION)" in text
    assert "Kiel (simulated: NO PROTECTION) gave model" in text
    assert "(simulated, L4)" not in text


def test_a_task_without_inputs_rests_on_its_outcome_alone() -> None:
    story = TaskStory()
    contract = story.begin(lending(story, train(inputs=[])))
    request = story.ask(contract)
    story.finish(request, {})
    assert told(story.seal()).checked["outcomes"] == 2


@pytest.mark.parametrize("field", ["run_id", "request_digest", "contract_digest", "task", "site"])
def test_a_release_is_for_one_run_of_one_task(field: str) -> None:
    other = {"run_id": "0" * 32, "task": "test", "site": "Boston"}.get(field, digest("other"))
    with pytest.raises(VerificationError, match=r"Step 10 \(sites\)"):
        told(lent(released={"change": with_(**{field: other})}))


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("run_id", "0" * 32),
        ("contract_digest", digest("x")),
        ("code", digest("x")),
        ("level", "L1"),
    ],
)
def test_an_offer_is_for_this_run_program_and_level(field: str, other: str) -> None:
    with pytest.raises(VerificationError, match=r"Step 10 \(sites\)"):
        told(lent(change=with_(**{field: other})))


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("run_id", "0" * 32),
        ("study", "stroke"),
        ("request_digest", digest("x")),
        ("contract_digest", digest("x")),
        ("end", "failed"),
        ("executor", "process"),
        ("level", "L1"),
        ("releases", {}),
        ("releases", {"Aarhus": digest("x"), "Boston": digest("x")}),
    ],
)
def test_an_outcome_is_of_this_run_and_of_these_releases(field: str, other: object) -> None:
    with pytest.raises(VerificationError, match=r"Step 15 \(outcomes\)"):
        told(gave(with_(**{field: other})))


def test_a_release_on_its_way_when_another_revokes_is_no_lie() -> None:
    assert told(revoked("Cairo", 1)).checked["keys"] > 0


def test_after_who_suspended_resumes_keys_are_released_again() -> None:
    story = TaskStory()
    contract = story.begin()
    story.change(contract, "suspend", "Aarhus", "suspended", computations=("task.*",))
    story.change(contract, "resume", "Aarhus", "active")
    story.trained(contract)
    assert told(story.seal()).unchecked == ()


def test_without_the_nonce_the_outcome_is_not_there_and_that_is_said() -> None:
    made = gave(with_())
    (receipt,) = made["releases"]
    del receipt["nonce"]
    hidden = without(made, [receipt.pop("outcome")])
    (left,) = told(hidden).unchecked
    assert left.step == "outcomes"
    assert "who exported the bundle may not read it" in left.why


@pytest.mark.parametrize(("step", "name", "make"), LIES, ids=[f"{s}: {n}" for s, n, _ in LIES])
def test_a_lie_about_a_task_is_found_in_its_step(step: str, name: str, make: Lie) -> None:
    with pytest.raises(VerificationError) as caught:
        told(make())
    assert caught.value.details["step"] == step, caught.value.message
    assert caught.value.code == "bad-bundle"
