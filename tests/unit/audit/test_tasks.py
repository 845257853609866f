"""Bundles about runs of tasks: what lenders signed, which machine had the keys, what it gave."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.support.audit import key
from tests.support.audit_tasks import (
    LENDERS,
    SESSION,
    TaskStory,
    content,
    lending,
    run_at_l4,
    simulated_terms,
    train,
    vault,
)

from cohortium.audit.appraisal import appraiser
from cohortium.audit.keys import Shown
from cohortium.audit.verify import Report, verify
from cohortium.core.canonical import canonical, digest, digest_bytes
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.session import Session
from cohortium.errors import InputError, VerificationError
from cohortium.ledger.entry import KeyReleased, Rounds, RunDecided, RunEnded, SiteDecision

Json = dict[str, Any]
Lie = Callable[[], Json]
OTHER = f"sha256:{vault('other').public.key_id.hex()}"


def told(made: Json, **options: Any) -> Report:
    return verify(canonical(made), **options)


def with_(**changes: Any) -> Callable[[Any], Any]:
    """The document with fields changed."""
    return lambda document: type(document).model_validate(document.model_dump() | changes)


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


def test_a_task_without_inputs_rests_on_its_outcome_alone() -> None:
    story = TaskStory()
    contract = story.begin(lending(story, train(inputs=[])))
    request = story.ask(contract)
    story.finish(request, {})
    assert told(story.seal()).checked["outcomes"] == 2


# --- lies -----------------------------------------------------------------------------------------

LIES: list[tuple[str, str, Lie]] = []


def lie(step: str, name: str) -> Callable[[Lie], Lie]:
    def add(make: Lie) -> Lie:
        LIES.append((step, name, make))
        return make

    return add


def lent(*, also: bool = True, **told_of_aarhus: Any) -> Json:
    """A run in which Aarhus's part is as said, and Boston's honest."""
    story = TaskStory()
    request = story.ask(story.begin())
    sites = story.lend(request, "Aarhus", **told_of_aarhus)
    if also:
        sites = story.lend(request, "Boston", before=sites)
    story.finish(request, sites)
    return story.seal()


def shown(**told_of_aarhus: Any) -> Json:
    """Aarhus alone has released its keys so far; Lund's machine is admitted, too."""
    story = TaskStory()
    contract = story.begin()
    story.enclave("Lund")
    story.lend(story.ask(contract), "Aarhus", **told_of_aarhus)
    return story.seal()


def gave(change: Callable[[Any], Any], by: str = "Kiel") -> Json:
    """A run whose outcome is as said."""
    story = TaskStory()
    request = story.ask(story.begin())
    sites: Json = {}
    for site in LENDERS.values():
        sites = story.lend(request, site, before=sites)
    story.finish(request, sites, change, by)
    return story.seal()


def proven(terms: Json | None = None, **proof: Any) -> Json:
    """A run at L4 whose evidence, for Aarhus, is as said."""
    story = TaskStory()
    contract = story.begin(lending(story, **(terms or simulated_terms())))
    run_at_l4(story, story.ask(contract), **proof)
    return story.seal()


def without(made: Json, digests: list[str], part: str = "statements") -> Json:
    return made | {part: {k: v for k, v in made[part].items() if k not in digests}}


@lie("sites", "a release is signed by somebody who does not lend")
def _() -> Json:
    return lent(released={"by": "Cairo"})


@lie("sites", "somebody who lends nothing is said to")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin())
    story.lend(request, "Cairo")
    return story.seal()


@lie("sites", "somebody who lends nothing is said to have refused")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin())
    sites = {"Cairo": SiteDecision(decision="refused", code="site-policy")}
    story.note(RunDecided(run_id=request.run_id, sites=sites))
    return story.seal()


@pytest.mark.parametrize("field", ["run_id", "request_digest", "contract_digest", "task", "site"])
def test_a_release_is_for_one_run_of_one_task(field: str) -> None:
    other = {"run_id": "0" * 32, "task": "test", "site": "Boston"}.get(field, digest("other"))
    with pytest.raises(VerificationError, match=r"Step 10 \(sites\)"):
        told(lent(released={"change": with_(**{field: other})}))


@lie("sites", "an artefact was exchanged for another")
def _() -> Json:
    return lent(released={"change": with_(artefacts={"images": digest("other")})})


@lie("sites", "a lender releases what another one lends")
def _() -> Json:
    both = {slot: content(slot) for slot in LENDERS}
    return lent(released={"change": with_(artefacts=both)})


@lie("sites", "the keys were sealed for another key than the machine offered")
def _() -> Json:
    return shown(released={"change": with_(recipient=OTHER)})


@lie("sites", "two lenders sealed their keys for different keys")
def _() -> Json:
    text = vault("other").public.to_text()
    return lent(change=with_(recipient=text), released={"change": with_(recipient=OTHER)})


@lie("sites", "the machine is none that the contract names")
def _() -> Json:
    return shown(machine="Lund", released={"change": with_(enclave="Lund")})


@lie("sites", "another key signed the offer in the machine's name")
def _() -> Json:
    return shown(by="Lund")


@lie("sites", "the release names another machine than offered")
def _() -> Json:
    return shown(released={"change": with_(enclave="Lund")})


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


@lie("sites", "the executor is another than the contract's")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin(lending(story, train(executor="gvisor"))))
    story.lend(request, "Aarhus")
    return story.seal()


@lie("sites", "a lender's release is exchanged for another one later")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin())
    story.lend(request, "Aarhus")
    story.lend(request, "Aarhus", noted=None)
    return story.seal()


@lie("sites", "a lender's release is forgotten later")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin())
    story.lend(request, "Aarhus")
    story.lend(request, "Boston")
    return story.seal()


@lie("statements", "a release is missing")
def _() -> Json:
    made = lent()
    first = next(e for e in made["entries"] if '"run.decided"' in e["entry"])
    return without(made, [one for one in made["statements"] if one in first["entry"]])


@lie("statements", "the offer behind a release is missing")
def _() -> Json:
    made = lent()
    kind = base64.b64encode(b'"schema_id":"cohortium/enclave-offer/1"').decode()[4:-4]
    offers = [one for one, text in made["statements"].items() if "enclave-offer+json" in text]
    assert len(offers) == 2, kind
    return without(made, offers[:1])


@lie("requests", "an argument that the task does not have")
def _() -> Json:
    story = TaskStory()
    contract = story.begin()
    story.submit(story.order(contract, 1, "task.train", {"epochs": 3, "spy": 1}))
    return story.seal()


@lie("requests", "a task that the contract does not have")
def _() -> Json:
    story = TaskStory()
    story.submit(story.order(story.begin(), 1, "task.other", {"epochs": 3}))
    return story.seal()


@lie("rounds", "a run succeeded without one of the lenders")
def _() -> Json:
    return lent(also=False)


@lie("rounds", "a task is said to have summed")
def _() -> Json:
    story = TaskStory()
    request = story.trained(story.begin())
    ended = story.places(RunEnded, run_id=request.run_id)[0]
    story.alter(ended, rounds=(Rounds(first=1, last=1, sites=("Aarhus", "Boston")),))
    return story.seal()


@lie("rounds", "a lender released its keys to one run too many")
def _() -> Json:
    story = TaskStory()
    contract = story.begin()
    for number in range(3):
        story.lend(story.ask(contract, number), "Aarhus")
    return story.seal()


@lie("rounds", "a run went on for long after the contract had been revoked")
def _() -> Json:
    story = TaskStory()
    contract = story.begin()
    request = story.ask(contract)
    sites = story.lend(request, "Aarhus")
    sites = story.lend(request, "Boston", before=sites)
    story.change(contract, "revoke", "Boston", "revoked")
    story.tick(minutes=6)
    story.finish(request, sites)
    return story.seal()


@lie("keys", "the ledger has a release that nobody decided on")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin())
    envelope = story.release(request, "Boston", story.offer(request))
    named = {"recipient": OTHER, "evidence": story.keep(envelope)}
    story.note(KeyReleased(run_id=request.run_id, holder="Boston", **named))
    return story.seal()


@lie("keys", "the ledger names another recipient")
def _() -> Json:
    return lent(noted=with_(recipient=OTHER))


@lie("keys", "the ledger does not say that keys were released")
def _() -> Json:
    return lent(noted=None)


@lie("keys", "the ledger says twice that keys were released")
def _() -> Json:
    story = TaskStory()
    request = story.trained(story.begin())
    fact = story.log[story.places(KeyReleased, run_id=request.run_id)[0]][1]
    story.note(fact)
    return story.seal()


def revoked(by: str, minutes: float) -> Json:
    """Keys are released after somebody ended or suspended the contract."""
    story = TaskStory()
    contract = story.begin()
    request = story.ask(contract)
    sites = story.lend(request, "Aarhus")
    story.change(contract, "revoke", by, "revoked")
    story.tick(minutes=minutes)
    story.lend(request, "Boston", before=sites)
    return story.seal()


@lie("keys", "keys were released long after another institution had revoked")
def _() -> Json:
    return revoked("Cairo", 6)


@lie("keys", "a lender released its keys after it had revoked itself")
def _() -> Json:
    return revoked("Boston", 1)


@lie("keys", "a lender released its keys while it had suspended the task")
def _() -> Json:
    story = TaskStory()
    contract = story.begin()
    request = story.ask(contract)
    story.change(contract, "suspend", "Aarhus", "suspended", computations=("task.train",))
    story.lend(request, "Aarhus")
    return story.seal()


def test_a_release_on_its_way_when_another_revokes_is_no_lie() -> None:
    assert told(revoked("Cairo", 1)).checked["keys"] > 0


def test_after_who_suspended_resumes_keys_are_released_again() -> None:
    story = TaskStory()
    contract = story.begin()
    story.change(contract, "suspend", "Aarhus", "suspended", computations=("task.*",))
    story.change(contract, "resume", "Aarhus", "active")
    story.trained(contract)
    assert told(story.seal()).unchecked == ()


@lie("keys", "keys were released after the contract had expired")
def _() -> Json:
    story = TaskStory()
    contract = story.begin(lending(story, expires_at=story.now + timedelta(hours=2)))
    request = story.ask(contract)
    story.tick(hours=2)
    story.lend(request, "Aarhus")
    return story.seal()


@lie("keys", "a release is dated before its run was ordered")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin())
    early = with_(at=story.now - timedelta(hours=1))
    story.lend(request, "Aarhus", released={"change": early})
    return story.seal()


@lie("keys", "the machine was suspended")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin())
    story.enclave(status="suspended")
    story.tick(minutes=6)
    story.lend(request, "Aarhus")
    return story.seal()


@lie("keys", "the machine had never been admitted")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin(machine=None))
    story.lend(request, "Aarhus")
    return story.seal()


@lie("keys", "the machine had been admitted with another key")
def _() -> Json:
    story = TaskStory()
    contract = story.begin(machine=None)
    story.enclave(by="Lund")
    story.lend(story.ask(contract), "Aarhus")
    return story.seal()


# Outcomes


@lie("outcomes", "the outcome is signed by another key")
def _() -> Json:
    return gave(with_(), by="Lund")


@lie("outcomes", "the outcome names another key than its machine's")
def _() -> Json:
    return gave(with_(enclave_key=key("Lund").public))


@lie("outcomes", "another machine of the contract than had the keys signed the outcome")
def _() -> Json:
    story = TaskStory()
    named = [{"name": name, "key": key(name).public} for name in ("Kiel", "Lund")]
    contract = story.begin(lending(story, environment={"enclaves": named}))
    story.enclave("Lund")
    request = story.ask(contract)
    sites: Json = {}
    for site in LENDERS.values():
        sites = story.lend(request, site, before=sites)
    story.finish(request, sites, with_(enclave="Lund", enclave_key=key("Lund").public), by="Lund")
    return story.seal()


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


@lie("outcomes", "there is an output that the task does not give")
def _() -> Json:
    spy = {"slot": "spy", "size_bytes": 1, "content_digest": digest("x")}
    return gave(with_(outputs=(spy,)))


@lie("outcomes", "the outcome is from the future")
def _() -> Json:
    return gave(lambda said: with_(at=said.at + timedelta(minutes=10))(said))


@lie("outcomes", "another outcome is shown than was released")
def _() -> Json:
    story = TaskStory()
    request = story.trained(story.begin())
    text = story.statements[story.outcomes[request.run_id]].encode()
    from cohortium.enclave.exchange import TaskOutcome

    said, _ = TaskOutcome.open(text)
    story.outcomes[request.run_id] = story.keep(with_(cpu_s=9.0)(said).sign(key("Kiel")))
    return story.seal()


@lie("outcomes", "the outcome is left out")
def _() -> Json:
    made = gave(with_())
    (receipt,) = made["releases"]
    return without(made, [receipt.pop("outcome")])


@lie("outcomes", "the machine had been removed for long when the run ended")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin())
    sites = story.lend(request, "Aarhus")
    sites = story.lend(request, "Boston", before=sites)
    story.enclave(status="removed")
    story.tick(minutes=6)
    story.finish(request, sites)
    return story.seal()


# Evidence


@lie("keys", "the evidence is missing")
def _() -> Json:
    made = proven()
    return without(made, list(made["evidence"]), "evidence")


@lie("keys", "at L4 nobody names evidence")
def _() -> Json:
    story = TaskStory()
    request = story.ask(story.begin(lending(story, **simulated_terms())))
    story.lend(request, "Aarhus")
    return story.seal()


@lie("keys", "the attestation result is signed by somebody else")
def _() -> Json:
    return proven(by="Boston")


@lie("keys", "the attestation result is another verifier's")
def _() -> Json:
    return proven(developer="Boston")


@lie("keys", "the attestation result is about other evidence")
def _() -> Json:
    return proven(evidence=b"other")


@lie("keys", "the lender refused the evidence itself")
def _() -> Json:
    return proven(verdict=lambda _: refuse(Reason.DEBUG, "Debug."))


@lie("keys", "the evidence was shown in another session")
def _() -> Json:
    return proven(change=with_dict(report_data="00" * 64))


def with_dict(**changes: Any) -> Callable[[Json], Json]:
    return lambda said: said | changes


@lie("keys", "the evidence is simulated, and that is not allowed")
def _() -> Json:
    terms = simulated_terms(allow_simulated=False)
    story = TaskStory()
    request = story.ask(story.begin(lending(story, **terms)))
    story.lend(
        request, "Aarhus", change=with_(level="L4"), released={"change": story.proven("Aarhus")}
    )
    return story.seal()


@pytest.mark.parametrize(("step", "name", "make"), LIES, ids=[f"{s}: {n}" for s, n, _ in LIES])
def test_a_lie_about_a_task_is_found_in_its_step(step: str, name: str, make: Lie) -> None:
    with pytest.raises(VerificationError) as caught:
        told(make())
    assert caught.value.details["step"] == step, caught.value.message
    assert caught.value.code == "bad-bundle"


# --- evidence, judged again -----------------------------------------------------------------------


def test_evidence_that_nobody_judges_again_is_said_not_to_be_checked() -> None:
    report = told(proven())
    assert [(one.step, one.why) for one in report.unchecked] == [
        ("keys", "the evidence was not appraised again: no verifier was given")
    ] * 2
    assert all(one.index is not None for one in report.unchecked)
    assert report.to_json()["unchecked"][0]["step"] == "keys"


def test_evidence_is_judged_again_by_the_clock_of_its_release() -> None:
    story = TaskStory()
    contract = story.begin(lending(story, **simulated_terms()))
    run_at_l4(story, story.ask(contract))
    seen: list[Shown] = []
    report = told(story.seal(), appraise=seen.append)
    assert report.unchecked == ()
    aarhus, boston = seen
    assert (aarhus.level, aarhus.report_data.hex()) == ("L4", SESSION)
    assert aarhus.arguments == {"epochs": 3}
    assert aarhus.inputs == {slot: content(slot) for slot in LENDERS}
    assert boston.at - aarhus.at < timedelta(minutes=1)
    assert told(story.seal(), appraise=appraiser()).unchecked == ()


@pytest.mark.parametrize(
    "proof",
    [
        {"change": with_dict(measurement="00" * 32)},
        {"change": with_dict(measurement=digest_bytes(b"x").removeprefix("sha256:"))},
    ],
)
def test_evidence_that_is_not_as_the_contract_says_is_found(proof: Json) -> None:
    made = proven(**proof)
    assert len(told(made).unchecked) == 2
    with pytest.raises(VerificationError) as caught:
        told(made, appraise=appraiser())
    assert (caught.value.details["step"], caught.value.details["cause"]) == (
        "keys",
        "evidence-refused",
    )


def test_evidence_that_cannot_be_judged_here_is_not_called_false() -> None:
    def nothing_here(_shown: Shown) -> None:
        raise InputError("missing-extra", "Install cohortium[attestation].")

    report = told(proven(), appraise=nothing_here)
    assert report.unchecked[0].why.endswith("again: Install cohortium[attestation].")
    assert report.checked["keys"] == told(proven()).checked["keys"]


def test_without_the_nonce_the_outcome_is_not_there_and_that_is_said() -> None:
    made = gave(with_())
    (receipt,) = made["releases"]
    del receipt["nonce"]
    hidden = without(made, [receipt.pop("outcome")])
    (left,) = told(hidden).unchecked
    assert left.step == "outcomes"
    assert "who exported the bundle may not read it" in left.why


def test_the_session_is_what_evidence_is_bound_to() -> None:
    """The 64 bytes of an offer are those of a session."""
    session = Session(b"a", b"b", b"e" * 32, digest("c"), vault("run").public.key_id)
    assert len(session.report_data(b"n" * 32).hex()) == len(SESSION)
