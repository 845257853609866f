"""Bundles about runs of tasks in which exactly one fact is false."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.support.audit import key
from tests.support.audit_tasks import (
    LENDERS,
    TaskStory,
    content,
    lending,
    run_at_l4,
    simulated_terms,
    train,
    vault,
)

from cohortium.audit.verify import Report, verify
from cohortium.core.canonical import canonical, digest
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.exchange import TaskOutcome
from cohortium.ledger.entry import KeyReleased, Rounds, RunDecided, RunEnded, SiteDecision

Json = dict[str, Any]
Lie = Callable[[], Json]
OTHER = f"sha256:{vault('other').public.key_id.hex()}"


def told(made: Json, **options: Any) -> Report:
    """What a verification shows."""
    return verify(canonical(made), **options)


def with_(**changes: Any) -> Callable[[Any], Any]:
    """The document with fields changed."""
    return lambda document: type(document).model_validate(document.model_dump() | changes)


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


def with_dict(**changes: Any) -> Callable[[Json], Json]:
    return lambda said: said | changes


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
    offers = [one for one, text in made["statements"].items() if "enclave-offer+json" in text]
    assert len(offers) == 2
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


@lie("keys", "the evidence is simulated, and that is not allowed")
def _() -> Json:
    terms = simulated_terms(allow_simulated=False)
    story = TaskStory()
    request = story.ask(story.begin(lending(story, **terms)))
    story.lend(
        request, "Aarhus", change=with_(level="L4"), released={"change": story.proven("Aarhus")}
    )
    return story.seal()
