"""Bundles in which exactly one fact is false, by the step that has to find it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.support.audit import (
    FINGERPRINT,
    GLM,
    NOW,
    ORIGIN,
    SITES,
    Honest,
    dataset,
    honest,
    key,
    make_contract,
    participant,
    round_key,
)

from cohortium.audit.steps import StepName
from cohortium.audit.verify import Trust
from cohortium.contract.model import Contract
from cohortium.contract.statements import Action, Transition
from cohortium.core.canonical import canonical, digest, digest_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.ledger import checkpoint as cp
from cohortium.ledger.entry import (
    ContractChanged,
    DatasetChanged,
    Founded,
    KeyReleased,
    MemberChanged,
    ResearcherChanged,
    Rounds,
    RunDecided,
    RunDenied,
    RunEnded,
    RunSubmitted,
    SiteDecision,
    TakenOver,
)
from cohortium.ledger.note import Note

Json = dict[str, Any]
Made = Json | bytes


@dataclass(frozen=True)
class Fault:
    """A false fact.

    Attributes:
        make: The bundle with it.
        short: Whether the short verifier of ``examples/`` can see it.
    """

    name: str
    step: StepName
    make: Callable[[Honest], Made]
    short: bool = True
    trust: Trust = field(default_factory=Trust)
    results: Callable[[Honest], Mapping[str, bytes]] = lambda _: {}

    def data(self, story: Honest) -> bytes:
        """The file."""
        made = self.make(story)
        return made if isinstance(made, bytes) else canonical(made)


FAULTS: list[Fault] = []


def fault(step: StepName, name: str, **more: Any) -> Callable[[Callable[[Honest], Made]], None]:
    def add(make: Callable[[Honest], Made]) -> None:
        FAULTS.append(Fault(name, step, make, **more))

    return add


def released(h: Honest) -> dict[str, bytes]:
    """The result files of the honest story."""
    ours = (h.describe.run_id, h.model.run_id)
    return {run: canonical(h.story.results[run][1]) for run in ours}


def place(h: Honest, kind: Any, **match: object) -> int:
    return h.story.places(kind, **match)[0]


def entry_of(h: Honest, made: Json, kind: Any, **match: object) -> Json:
    """The entry in a sealed bundle."""
    wanted = place(h, kind, **match)
    found: Json = next(entry for entry in made["entries"] if entry["index"] == wanted)
    return found


def restated(h: Honest, at: int, envelope: bytes, name: str = "statement") -> Json:
    """The bundle in which an entry names another document."""
    h.story.alter(at, **{name: h.story.keep(envelope)})
    return h.story.seal()


def said_of_a_stranger(
    story: Honest, action: str, state: str, *, here: bool, by: str = "Eve"
) -> int:
    """The hub says that somebody spoke about the contract in force."""
    said = Transition(
        study="lung",
        contract_digest=story.second.digest,
        action="revoke",
        author="Eve",
        at=story.story.now,
        reason="Because.",
    )
    envelope = said.sign(key("Eve"))
    fact = ContractChanged(
        study="lung",
        contract=story.second.digest,
        version=2,
        action=action,
        author=by,
        key=key(by).public,
        statement=story.story.keep(envelope) if here else digest_bytes(envelope),
        state=state,
    )
    return story.story.note(fact)


# Step 1


@fault("format", "the file ends early")
def _(h: Honest) -> Made:
    return canonical(h.story.seal())[:-1]


@fault("format", "the file is not in canonical form")
def _(h: Honest) -> Made:
    return json.dumps(h.story.seal(), indent=1).encode()


@fault("format", "the file is of another version of the format")
def _(h: Honest) -> Made:
    return h.story.seal() | {"schema_id": "cohortium/audit-bundle/2"}


@fault("format", "there is a field that nobody knows", short=False)
def _(h: Honest) -> Made:
    return h.story.seal() | {"remark": "All is well."}


@fault("format", "a field is left out")
def _(h: Honest) -> Made:
    made = h.story.seal()
    del made["releases"]
    return made


@fault("format", "two entries are exchanged")
def _(h: Honest) -> Made:
    made = h.story.seal()
    made["entries"][3:5] = reversed(made["entries"][3:5])
    return made


@fault("format", "a statement stands under the digest of another one")
def _(h: Honest) -> Made:
    made = h.story.seal()
    first, second = list(made["statements"])[:2]
    said = made["statements"]
    said[first], said[second] = said[second], said[first]
    return made


@fault("format", "an entry is written in another form")
def _(h: Honest) -> Made:
    made = h.story.seal()
    made["entries"][2]["entry"] = made["entries"][2]["entry"].replace(":", ": ", 1)
    return made


@fault("format", "an entry tells a fact of no known kind")
def _(h: Honest) -> Made:
    made = h.story.seal()
    made["entries"][2]["entry"] = made["entries"][2]["entry"].replace('"member"', '"membre"', 1)
    return made


@fault("format", "evidence stands under another digest", short=False)
def _(h: Honest) -> Made:
    text = base64.b64encode(b"quote").decode()
    return h.story.seal() | {"evidence": {digest_bytes(b"other"): text}}


@fault("format", "evidence is not base64", short=False)
def _(h: Honest) -> Made:
    return h.story.seal() | {"evidence": {digest_bytes(b"quote"): "\u00e4"}}


@fault("format", "evidence is base64 in another form", short=False)
def _(h: Honest) -> Made:
    return h.story.seal() | {"evidence": {digest_bytes(b"q"): "cR=="}}


@fault("format", "the receipts are not in order")
def _(h: Honest) -> Made:
    made = h.story.seal()
    made["releases"] = made["releases"][::-1]
    return made


# Step 2


@fault("log", "the founding is left out")
def _(h: Honest) -> Made:
    made = h.story.seal()
    del made["entries"][0]
    return made


@fault("log", "the log has the name of another consortium")
def _(h: Honest) -> Made:
    made = h.story.seal()
    other = cp.origin(digest("another"))
    made["log"] = {
        "origin": other,
        "keys": [{"key": cp.log_key(other, key("log").public).text, "size": 0}],
    }
    return made


@fault("log", "the log's key is not the pinned one", short=False, trust=Trust(log="another"))
def _(h: Honest) -> Made:
    return h.story.seal()


@fault("log", "another key signs from some size on, and no hub took over")
def _(h: Honest) -> Made:
    made = h.story.seal()
    made["log"]["keys"].append({"key": cp.log_key(ORIGIN, key("new").public).text, "size": 5})
    return made


@fault("log", "a hub took over and its key is not told", short=False)
def _(h: Honest) -> Made:
    new = cp.log_key(ORIGIN, key("new").public).text
    h.story.note(TakenOver(size=len(h.story.log), key=new))
    return h.story.seal()


@fault("log", "the consortium is founded twice")
def _(h: Honest) -> Made:
    h.story.note(Founded(name="Another", fingerprint=FINGERPRINT))
    return h.story.seal()


# Step 3


@fault("checkpoint", "another key than the log's signed the checkpoint")
def _(h: Honest) -> Made:
    return h.story.seal() | {"checkpoint": h.story.seal(log="new")["checkpoint"]}


@fault("checkpoint", "a member is invented")
def _(h: Honest) -> Made:
    made = h.story.seal()
    made["members"]["Mallory"] = key("Mallory").public
    return made


@fault("checkpoint", "a member is left out")
def _(h: Honest) -> Made:
    made = h.story.seal()
    del made["members"]["Delhi"]
    return made


@fault("checkpoint", "the checkpoint's size was altered")
def _(h: Honest) -> Made:
    made = h.story.seal()
    size = len(h.story.log)
    made["checkpoint"] = made["checkpoint"].replace(f"\n{size}\n", f"\n{size - 1}\n")
    return made


@fault("checkpoint", "the checkpoint is no note")
def _(h: Honest) -> Made:
    return h.story.seal() | {"checkpoint": "All is well.\n"}


# Step 4


@fault("entries", "an entry was altered")
def _(h: Honest) -> Made:
    made = h.story.seal()
    entry = entry_of(h, made, RunEnded, run_id=h.failed.run_id)
    entry["entry"] = entry["entry"].replace("too-few-sites", "peer-timeout")
    return made


@fault("entries", "an entry has the proof of another one")
def _(h: Honest) -> Made:
    made = h.story.seal()
    made["entries"][4]["proof"] = made["entries"][6]["proof"]
    return made


@fault("entries", "an entry claims another place")
def _(h: Honest) -> Made:
    made = h.story.seal()
    made["entries"][-1]["index"] += 1
    return made


@fault("entries", "the checkpoint is older than the entries")
def _(h: Honest) -> Made:
    return h.story.seal() | {
        "checkpoint": h.story.seal(size=len(h.story.log) - 1)["checkpoint"],
    }


@fault("entries", "the witnesses saw another history")
def _(h: Honest) -> Made:
    made = h.story.seal()
    h.story.alter(place(h, RunEnded, run_id=h.failed.run_id), code="peer-timeout")
    return made | {"checkpoint": h.story.seal()["checkpoint"]}


@fault("entries", "an entry is dated back")
def _(h: Honest) -> Made:
    at, fact = h.story.log[-1]
    h.story.log[-1] = (at - timedelta(hours=1), fact)
    return h.story.seal()


@fault("entries", "an entry is of another study")
def _(h: Honest) -> Made:
    made = h.story.seal()
    at = place(h, ContractChanged, study="stroke")
    return made | {"entries": _with(h, made["entries"], [at])}


@fault("entries", "of all the log's entries one is not there")
def _(h: Honest) -> Made:
    made = h.story.seal("log")
    del made["entries"][place(h, RunEnded, run_id=h.failed.run_id)]
    return made


@fault("entries", "of all the log's entries one was altered")
def _(h: Honest) -> Made:
    made = h.story.seal("log")
    entry = entry_of(h, made, RunEnded, run_id=h.failed.run_id)
    entry["entry"] = entry["entry"].replace("too-few-sites", "peer-timeout")
    return made


@fault("entries", "it is not told that a participant left", short=False)
def _(h: Honest) -> Made:
    h.story.note(MemberChanged(name="Cairo", key=key("Cairo").public, status="removed"))
    made = h.story.seal()
    del made["entries"][-1]
    return made


# Step 5


@fault("statements", "a signature is withheld")
def _(h: Honest) -> Made:
    made = h.story.seal()
    _, fact = h.story.log[place(h, ContractChanged, study="lung", action="sign")]
    del made["statements"][fact.statement]
    return made


@fault("statements", "a request is withheld")
def _(h: Honest) -> Made:
    made = h.story.seal()
    _, fact = h.story.log[place(h, RunSubmitted, run_id=h.model.run_id)]
    del made["statements"][fact.request]
    return made


@fault("statements", "a refused request is withheld")
def _(h: Honest) -> Made:
    made = h.story.seal()
    named = digest_bytes(h.denied.sign(key("Ada")))
    del made["statements"][named]
    return made


@fault("statements", "a document of another study is among them")
def _(h: Honest) -> Made:
    made = h.story.seal()
    _, fact = h.story.log[place(h, ContractChanged, study="stroke")]
    made["statements"][fact.statement] = h.story.statements[fact.statement]
    return made


# Step 6


@fault("contract", "a participant's signature is missing")
def _(h: Honest) -> Made:
    h.story.drop(place(h, ContractChanged, study="lung", action="sign", author="Boston"))
    return h.story.seal()


@fault("contract", "the proposal is missing", short=False)
def _(h: Honest) -> Made:
    h.story.drop(place(h, ContractChanged, study="lung", action="propose"))
    return h.story.seal()


@fault("contract", "a participant signed another contract")
def _(h: Honest) -> Made:
    other = Contract(**(h.first.model_dump() | {"min_sites": 3}))
    at = place(h, ContractChanged, study="lung", action="sign", author="Boston")
    return restated(h, at, other.sign(key("Boston")))


@fault("contract", "a limit was changed after it was signed")
def _(h: Honest) -> Made:
    at = place(h, ContractChanged, study="lung", action="sign", author="Boston")
    envelope = json.loads(h.first.sign(key("Boston")))
    payload = base64.b64decode(envelope["payload"]).replace(b'"max_runs":3', b'"max_runs":9')
    envelope["payload"] = base64.b64encode(payload).decode()
    return restated(h, at, canonical(envelope))


@fault("contract", "somebody else signed for a participant")
def _(h: Honest) -> Made:
    at = place(h, ContractChanged, study="lung", action="sign", author="Boston")
    h.story.alter(at, key=key("Delhi").public)
    return restated(h, at, h.first.sign(key("Delhi")))


@fault("contract", "the entry names another key than the one that signed")
def _(h: Honest) -> Made:
    at = place(h, ContractChanged, study="lung", action="sign", author="Boston")
    h.story.alter(at, key=key("Cairo").public)
    return h.story.seal()


@fault("contract", "the entry names another author", short=False)
def _(h: Honest) -> Made:
    h.story.alter(place(h, ContractChanged, study="lung", action="suspend"), author="Cairo")
    return h.story.seal()


@fault("contract", "it is said to be active before all have signed")
def _(h: Honest) -> Made:
    at = place(h, ContractChanged, study="lung", action="sign", author="Boston")
    h.story.alter(at, state="active")
    return h.story.seal()


@fault("contract", "a suspension is said to have changed nothing", short=False)
def _(h: Honest) -> Made:
    h.story.alter(place(h, ContractChanged, study="lung", action="suspend"), state="active")
    return h.story.seal()


@fault("contract", "the entry names another version", short=False)
def _(h: Honest) -> Made:
    h.story.alter(place(h, ContractChanged, contract=h.second.digest), version=3)
    return h.story.seal()


@fault("contract", "a refusal is logged as a suspension")
def _(h: Honest) -> Made:
    h.story.alter(place(h, ContractChanged, study="lung", action="suspend"), action="refuse")
    return h.story.seal()


@fault("contract", "a statement is about the contract of another study")
def _(h: Honest) -> Made:
    said = Transition(
        study="stroke",
        contract_digest=h.first.digest,
        action="suspend",
        author="Boston",
        at=h.story.log[place(h, ContractChanged, action="suspend")][0],
        reason="To suspend it.",
    )
    at = place(h, ContractChanged, study="lung", action="suspend")
    return restated(h, at, said.sign(key("Boston")))


@fault("contract", "somebody lifts the suspension of another", short=False)
def _(h: Honest) -> Made:
    at = place(h, ContractChanged, study="lung", action="resume")
    when = h.story.log[at][0]
    said = Transition(
        study="lung",
        contract_digest=h.first.digest,
        action="resume",
        author="Cairo",
        at=when,
        reason="To resume it.",
    )
    h.story.alter(at, author="Cairo", key=key("Cairo").public)
    return restated(h, at, said.sign(key("Cairo")))


@fault("contract", "a recipient revokes the contract", short=False)
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.change(story.second, "revoke", "Bob", "revoked")
    return story.story.seal()


@fault("contract", "an amendment replaces a version that is not in force", short=False)
def _(h: Honest) -> Made:
    story = honest(closed=False)
    third = story.story.contract(version=2, amends=story.first.digest, title="Third")
    story.story.propose(third)
    return story.story.seal()


@fault("contract", "a closed contract is signed anew", short=False)
def _(h: Honest) -> Made:
    h.story.change(h.second, "revoke", "Boston", "revoked")
    return h.story.seal()


@fault("contract", "the contract is one of another consortium")
def _(h: Honest) -> Made:
    story = Honest(*[getattr(h, name) for name in h.__dataclass_fields__])
    other = make_contract(consortium=digest("another"))
    story.story.log = [
        item for item in h.story.log if getattr(item[1], "study", "stroke") == "stroke"
    ]
    story.story.log = story.story.log[: place(story, RunSubmitted)]
    story.story.receipts = {}
    story.story.propose(other)
    return story.story.seal()


@fault("contract", "a draft is said to be in force")
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.draft(story.second, state="active")
    return story.story.seal()


@fault("contract", "somebody else drafted it", short=False)
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.draft(story.second)
    story.story.alter(place(story, ContractChanged, action="draft"), author="Bob")
    return story.story.seal()


@fault("contract", "an assignment is for another draft", short=False)
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.draft(story.second)
    at = place(story, ContractChanged, action="assign")
    story.story.alter(at, contract=story.first.digest)
    return story.story.seal()


# Step 7


@fault("parties", "a participant was admitted with another key", short=False)
def _(h: Honest) -> Made:
    h.story.alter(place(h, MemberChanged, name="Cairo"), key=key("Mallory").public)
    return h.story.seal()


@fault("parties", "a participant had been removed", short=False)
def _(h: Honest) -> Made:
    at = place(h, ContractChanged, study="lung") - 1
    removed = MemberChanged(name="Cairo", key=key("Cairo").public, status="suspended")
    h.story.log.insert(at, (h.story.log[at][0], removed))
    h.story.note(MemberChanged(name="Cairo", key=key("Cairo").public, status="approved"))
    h.story.receipts = dict.fromkeys(h.story.receipts, len(h.story.log))
    return h.story.seal()


@fault("parties", "a dataset was registered with another content", short=False)
def _(h: Honest) -> Made:
    h.story.alter(place(h, DatasetChanged, member="Boston"), content=digest("other"))
    return h.story.seal()


@fault("parties", "a dataset had been withdrawn", short=False)
def _(h: Honest) -> Made:
    h.story.alter(place(h, DatasetChanged, member="Boston"), content=None, dictionary=None)
    return h.story.seal()


@fault("parties", "a recipient is no researcher of the consortium", short=False)
def _(h: Honest) -> Made:
    h.story.alter(place(h, ResearcherChanged, name="Bob"), status="removed")
    return h.story.seal()


@fault(
    "parties",
    "a participant's key is not the pinned one",
    short=False,
    trust=Trust(keys={"Boston": frozenset({key("Mallory").public})}),
)
def _(h: Honest) -> Made:
    return h.story.seal()


# Step 8


@fault("quorum", "too few members witnessed it")
def _(h: Honest) -> Made:
    return h.story.seal() | {
        "checkpoint": h.story.seal(witnesses=("Aarhus", "Boston"))["checkpoint"]
    }


@fault("quorum", "enough members witnessed it, but too few participants")
def _(h: Honest) -> Made:
    return h.story.seal() | {
        "checkpoint": h.story.seal(witnesses=("Aarhus", "Boston", "Delhi"))["checkpoint"]
    }


@fault("quorum", "members that the hub made up witnessed it")
def _(h: Honest) -> Made:
    made_up = [f"Clinic {number}" for number in range(9)]
    for name in made_up:
        h.story.note(MemberChanged(name=name, key=key(name).public, status="approved"))
    whole, few = h.story.seal(), h.story.seal(witnesses=("Aarhus", *made_up))
    members = {run["run_id"]: run for run in whole["releases"]}
    return whole | {"checkpoint": few["checkpoint"], "releases": list(members.values())}


@fault("quorum", "a cosignature was made with another key")
def _(h: Honest) -> Made:
    made = h.story.seal()
    note = Note.parse(made["checkpoint"].encode())
    forged = cp.cosign(note, ORIGIN, "Boston", SigningKey.generate(), 1)
    named = cp.witness_key(ORIGIN, "Boston", key("Boston").public)
    raw = base64.b64decode(forged.split()[2])
    line = base64.b64encode(named.id + raw[4:]).decode()
    kept = [text for text in made["checkpoint"].splitlines() if "/Boston " not in text]
    made["checkpoint"] = "\n".join([*kept, f"\u2014 {named.name} {line}"]) + "\n"
    return made


@fault("quorum", "the cosignatures are of an older checkpoint")
def _(h: Honest) -> Made:
    made = h.story.seal()
    older = h.story.seal(size=len(h.story.log) - 1)["checkpoint"]
    own = made["checkpoint"].split("\n\n")[0]
    log_line = made["checkpoint"].split("\n\n")[1].splitlines()[0]
    lines = older.split("\n\n")[1].splitlines()[1:]
    made["checkpoint"] = "\n".join([own, "", log_line, *lines]) + "\n"
    return made


def usurped(handover: str = "") -> Json:
    """The proposer's third version names only institutions that the hub made up, with which she
    goes on; those of the second, who suspended it, saw none of that."""
    story = honest(closed=False)
    told, made_up = story.story, [f"Clinic {number}" for number in range(9)]
    if handover == "before":
        seen = len(told.log)
    for name in made_up:
        told.note(MemberChanged(name=name, key=key(name).public, status="approved"))
        content, dictionary = dataset(name)
        fact = DatasetChanged(member=name, name="lung", content=content, dictionary=dictionary)
        told.note(fact)
    seats = tuple(participant(name) for name in made_up)
    third = told.contract(version=3, amends=story.second.digest, participants=seats)
    told.propose(third)
    told.sign(third, made_up)
    if handover == "after":
        seen = len(told.log)
    own = told.run(third, 9)
    forged, real = told.seal("log", witnesses=made_up), told.seal("log")
    theirs = [one for one in forged["releases"] if one["run_id"] == own.run_id]
    others = [one for one in real["releases"] if one["run_id"] != own.run_id]
    both = sorted([*theirs, *others], key=lambda one: str(one["run_id"]))
    if handover:
        members = told.seal("log", size=seen)["members"]
        end = {
            "checkpoint": told.seal("log", size=seen, witnesses=[*SITES, *made_up])["checkpoint"],
            "consistency": [node.hex() for node in told.tree().consistency_proof(seen)],
            **({} if members == forged["members"] else {"members": members}),
        }
        ended = sorted((story.first.digest, story.second.digest))
        forged["handovers"] = [{**end, "contract": name} for name in ended]
    return forged | {"releases": both}


@fault("quorum", "an amendment puts invented institutions in the place of those who saw it all")
def _(h: Honest) -> Made:
    return usurped()


@fault("quorum", "the replaced institutions witnessed nothing after their contract ended")
def _(h: Honest) -> Made:
    return usurped("before")


@fault("quorum", "a closed contract gives way to one of invented institutions")
def _(h: Honest) -> Made:
    made_up = [f"Clinic {number}" for number in range(9)]
    for name in made_up:
        h.story.note(MemberChanged(name=name, key=key(name).public, status="approved"))
        content, dictionary = dataset(name)
        fact = DatasetChanged(member=name, name="lung", content=content, dictionary=dictionary)
        h.story.note(fact)
    again = h.story.contract(participants=tuple(participant(name) for name in made_up))
    h.story.propose(again)
    h.story.sign(again, made_up)
    return h.story.seal("log") | {
        "checkpoint": h.story.seal("log", witnesses=made_up)["checkpoint"]
    }


@fault("quorum", "a checkpoint is about a contract that nothing has replaced", short=False)
def _(h: Honest) -> Made:
    made = h.story.seal()
    end = {"contract": h.second.digest, "checkpoint": made["checkpoint"], "consistency": []}
    return made | {"handovers": [end]}


@fault("quorum", "the checkpoint of a handover is of a fork")
def _(h: Honest) -> Made:
    made = usurped("after")
    made["handovers"][0]["consistency"][0] = "00" * 32
    return made


# Step 9


def last_run(h: Honest, **order: Any) -> Made:
    """One more run under the second contract, ordered in this way."""
    story = honest(closed=False)
    by = order.get("by", "Ada")
    request = story.story.order(story.second, 9, **order)
    story.story.submit(request, by=by)
    return story.story.seal()


@fault("requests", "somebody ordered who is no recipient")
def _(h: Honest) -> Made:
    return last_run(h, by="Mallory")


@fault("requests", "a recipient ordered what is for others")
def _(h: Honest) -> Made:
    return last_run(h, by="Bob", computation="glm", params=GLM)


@fault("requests", "a researcher ordered after being removed", short=False)
def _(h: Honest) -> Made:
    story = honest(closed=False)
    removed = ResearcherChanged(name="Bob", key=key("Bob").public, status="removed")
    story.story.note(removed)
    story.story.run(story.second, 9, by="Bob")
    return story.story.seal()


@fault("requests", "the computation is not permitted")
def _(h: Honest) -> Made:
    return last_run(h, computation="survival.cox")


@fault("requests", "a parameter is outside its limits")
def _(h: Honest) -> Made:
    return last_run(h, computation="glm", params=GLM | {"family": "gaussian"})


@fault("requests", "a variable is not of the study", short=False)
def _(h: Honest) -> Made:
    return last_run(h, params={"variables": ["weight"]})


@fault("requests", "the contract had expired")
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.tick(days=400)
    story.story.submit(story.story.order(story.second, 9))
    return story.story.seal()


@fault("requests", "the contract had been replaced")
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.submit(story.story.order(story.first, 9))
    return story.story.seal()


@fault("requests", "the contract was suspended")
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.change(story.second, "suspend", "Cairo", "suspended")
    story.story.submit(story.story.order(story.second, 9))
    return story.story.seal()


@fault("requests", "this computation was suspended", short=False)
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.change(story.second, "suspend", "Cairo", "suspended", computations=("stats.*",))
    story.story.submit(story.story.order(story.second, 9))
    return story.story.seal()


@fault("requests", "the contract was closed")
def _(h: Honest) -> Made:
    h.story.submit(h.story.order(h.second, 9))
    return h.story.seal()


@fault("requests", "not all had signed the contract")
def _(h: Honest) -> Made:
    story = honest(closed=False)
    third = story.story.contract(version=3, amends=story.second.digest)
    story.story.propose(third)
    story.story.sign(third, ("Aarhus", "Boston"), last="proposed")
    story.story.submit(story.story.order(third, 9))
    return story.story.seal()


@fault("requests", "the request is from the future", short=False)
def _(h: Honest) -> Made:
    return last_run(h, issued_at=NOW + timedelta(hours=3), valid_until=NOW + timedelta(hours=4))


@fault("requests", "the request is valid for longer than a day", short=False)
def _(h: Honest) -> Made:
    return last_run(h, valid_until=NOW + timedelta(days=9))


@fault("requests", "the entry names another computation than the request")
def _(h: Honest) -> Made:
    h.story.alter(place(h, RunSubmitted, run_id=h.describe.run_id), computation="stats.other")
    return h.story.seal()


@fault("requests", "the request names another run")
def _(h: Honest) -> Made:
    other = h.story.order(h.first, 77)
    at = place(h, RunSubmitted, run_id=h.describe.run_id)
    return restated(h, at, other.sign(key("Ada")), "request")


@fault("requests", "the request is signed by somebody else")
def _(h: Honest) -> Made:
    at = place(h, RunSubmitted, run_id=h.describe.run_id)
    return restated(h, at, h.describe.sign(key("Bob")), "request")


@fault("requests", "a refused request is another one")
def _(h: Honest) -> Made:
    return restated(h, place(h, RunDenied), h.describe.sign(key("Ada")), "request")


@fault("requests", "the signature of a refused request does not verify")
def _(h: Honest) -> Made:
    envelope = json.loads(h.denied.sign(key("Ada")))
    envelope["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    return restated(h, place(h, RunDenied), canonical(envelope), "request")


@fault("requests", "one run is ordered twice", short=False)
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.note(story.story.log[place(story, RunSubmitted, run_id=story.failed.run_id)][1])
    return story.story.seal()


# Step 10


def decided(h: Honest, **sites: SiteDecision) -> Made:
    """The first run with other decisions of these sites."""
    at = place(h, RunDecided, run_id=h.describe.run_id)
    fact = h.story.log[at][1]
    h.story.alter(at, sites={**fact.sites, **sites})
    return h.story.seal()


def accepted(h: Honest, envelope: bytes) -> SiteDecision:
    return SiteDecision(decision="accepted", statement=h.story.keep(envelope))


@fault("sites", "what a site signed is for another run")
def _(h: Honest) -> Made:
    return decided(h, Boston=accepted(h, round_key(h.model, "Boston").sign(key("Boston"))))


@fault("sites", "what a site signed is for another contract")
def _(h: Honest) -> Made:
    stated = round_key(h.describe, "Boston", contract_digest=h.second.digest)
    return decided(h, Boston=accepted(h, stated.sign(key("Boston"))))


@fault("sites", "what a site signed is for another request")
def _(h: Honest) -> Made:
    stated = round_key(h.describe, "Boston", request_digest=h.model.digest)
    return decided(h, Boston=accepted(h, stated.sign(key("Boston"))))


@fault("sites", "another site signed for it")
def _(h: Honest) -> Made:
    stated = round_key(h.describe, "Boston")
    return decided(h, Boston=accepted(h, stated.sign(key("Cairo"))))


@fault("sites", "a site is said to have signed what another site signed")
def _(h: Honest) -> Made:
    return decided(h, Boston=accepted(h, round_key(h.describe, "Cairo").sign(key("Boston"))))


@fault("rounds", "two sites have one key", short=False)
def _(h: Honest) -> Made:
    same = round_key(h.describe, "Cairo").x25519
    stated = round_key(h.describe, "Boston", x25519=same)
    return decided(h, Boston=accepted(h, stated.sign(key("Boston"))))


@fault("sites", "it is not named what a site signed")
def _(h: Honest) -> Made:
    return decided(h, Boston=SiteDecision(decision="accepted"))


@fault("sites", "a site signed and is said to have refused", short=False)
def _(h: Honest) -> Made:
    at = place(h, RunDecided, run_id=h.describe.run_id)
    said = h.story.log[at][1].sites["Boston"].statement
    return decided(h, Boston=SiteDecision(decision="refused", statement=said))


@fault("sites", "a participant's decision is not there")
def _(h: Honest) -> Made:
    at = place(h, RunDecided, run_id=h.describe.run_id)
    fact = h.story.log[at][1]
    h.story.alter(at, sites={s: d for s, d in fact.sites.items() if s != "Boston"})
    return h.story.seal()


@fault("sites", "somebody decides who is no participant", short=False)
def _(h: Honest) -> Made:
    return decided(h, Delhi=SiteDecision(decision="absent"))


@fault("sites", "nobody ordered the run", short=False)
def _(h: Honest) -> Made:
    h.story.drop(place(h, RunSubmitted, run_id=h.failed.run_id))
    at = place(h, RunDecided, run_id=h.failed.run_id)
    refused = {site: SiteDecision(decision="absent") for site in SITES}
    h.story.alter(at, sites=refused)
    made = h.story.seal()
    missing = [i for i in h.story.places(RunDecided) + h.story.places(RunEnded) if i >= at]
    return made | {"entries": _with(h, made["entries"], missing)}


def _with(h: Honest, entries: list[Json], places: list[int]) -> list[Json]:
    """These entries too."""
    have = {entry["index"] for entry in entries}
    more = [h.story.entry(at) for at in places if at not in have]
    return sorted([*entries, *more], key=lambda entry: int(entry["index"]))


# Step 11


@fault("sites", "the sites decided before the run was ordered", short=False)
def _(h: Honest) -> Made:
    at = place(h, RunSubmitted, run_id=h.failed.run_id)
    log = h.story.log
    (first, ordered), (second, decision) = log[at : at + 2]
    log[at : at + 2] = [(first, decision), (second, ordered)]
    return h.story.seal()


@fault("rounds", "the sites decided after the run had ended", short=False)
def _(h: Honest) -> Made:
    story = honest(closed=False)
    story.story.decide(story.second, story.model)
    return story.story.seal()


def ended(h: Honest, **changes: Any) -> Made:
    """The end of the second run, changed."""
    h.story.alter(place(h, RunEnded, run_id=h.model.run_id), **changes)
    return h.story.seal()


@fault("rounds", "a sum is over fewer sites than agreed", short=False)
def _(h: Honest) -> Made:
    return ended(h, rounds=(Rounds(first=1, last=5, sites=("Aarhus",)),))


@fault("rounds", "a sum is over a site that was absent", short=False)
def _(h: Honest) -> Made:
    return ended(h, rounds=(Rounds(first=1, last=5, sites=SITES),))


@fault("rounds", "a site is twice in a sum", short=False)
def _(h: Honest) -> Made:
    return ended(h, rounds=(Rounds(first=1, last=5, sites=("Aarhus", "Boston", "Boston")),))


@fault("rounds", "the first round is missing", short=False)
def _(h: Honest) -> Made:
    return ended(h, rounds=(Rounds(first=2, last=5, sites=("Aarhus", "Boston")),))


@fault("rounds", "a round is there twice", short=False)
def _(h: Honest) -> Made:
    sites = ("Aarhus", "Boston")
    rounds = (Rounds(first=1, last=3, sites=sites), Rounds(first=3, last=5, sites=sites))
    return ended(h, rounds=rounds)


@fault("rounds", "there is a result and no sum", short=False)
def _(h: Honest) -> Made:
    return ended(h, rounds=())


@fault("rounds", "a run succeeded without a result")
def _(h: Honest) -> Made:
    return ended(h, result=None)


@fault("rounds", "a run failed and has a result", short=False)
def _(h: Honest) -> Made:
    return ended(h, status="failed", code="peer-timeout")


@fault("rounds", "a run ends twice", short=False)
def _(h: Honest) -> Made:
    h.story.note(RunEnded(run_id=h.model.run_id, status="cancelled"))
    return h.story.seal()


@fault("rounds", "there are more runs than permitted", short=False)
def _(h: Honest) -> Made:
    story = honest(closed=False)
    for number in range(20, 24):
        story.story.run(story.second, number)
    return story.story.seal()


def goes_on(action: Action, state: str, **delay: float) -> Made:
    """A run that was ordered in time ends when a site has said no."""
    made = honest(closed=False)
    asked = made.story.order(made.second, 30)
    made.story.submit(asked)
    made.story.decide(made.second, asked)
    made.story.change(made.second, action, "Boston", state)
    made.story.tick(**delay)
    made.story.end(asked)
    return made.story.seal()


@fault("rounds", "a run goes on after the contract was revoked", short=False)
def _(h: Honest) -> Made:
    return goes_on("revoke", "revoked", minutes=6)


@fault("rounds", "a run goes on while the contract is suspended", short=False)
def _(h: Honest) -> Made:
    return goes_on("suspend", "suspended", minutes=6)


@fault("rounds", "nobody decided on the run", short=False)
def _(h: Honest) -> Made:
    h.story.drop(place(h, RunDecided, run_id=h.describe.run_id))
    return h.story.seal()


# Step 12


def release_of(made: Json, run_id: str) -> Json:
    found: Json = next(one for one in made["releases"] if one["run_id"] == run_id)
    return found


@fault("releases", "a receipt is missing")
def _(h: Honest) -> Made:
    made = h.story.seal()
    del made["releases"][0]
    return made


@fault("releases", "there is a receipt of a run that failed")
def _(h: Honest) -> Made:
    made = h.story.seal()
    more = made["releases"][0] | {"run_id": h.failed.run_id}
    made["releases"] = sorted([*made["releases"], more], key=lambda one: str(one["run_id"]))
    return made


@fault("releases", "a result was released on a fork")
def _(h: Honest) -> Made:
    made = h.story.seal()
    h.story.alter(place(h, DatasetChanged, member="Delhi"), content=digest("forked"))
    release_of(made, h.describe.run_id)["checkpoint"] = release_of(
        h.story.seal(), h.describe.run_id
    )["checkpoint"]
    return made


@fault("releases", "a consistency proof was altered")
def _(h: Honest) -> Made:
    made = h.story.seal()
    proof = release_of(made, h.describe.run_id)["consistency"]
    proof[0], proof[1] = proof[1], proof[0]
    return made


@fault("releases", "a receipt does not cover the run's end")
def _(h: Honest) -> Made:
    h.story.receipts[h.describe.run_id] -= 1
    return h.story.seal()


@fault("releases", "a result was released before enough had witnessed it")
def _(h: Honest) -> Made:
    made = h.story.seal()
    few = h.story.seal(witnesses=("Boston", "Delhi"))
    release_of(made, h.model.run_id)["checkpoint"] = release_of(few, h.model.run_id)["checkpoint"]
    return made


@fault("releases", "a receipt was witnessed by members that are invented")
def _(h: Honest) -> Made:
    made = h.story.seal()
    release_of(made, h.model.run_id)["members"] = {
        name: key(name).public for name in ("Aarhus", "Mallory")
    }
    return made


@fault("releases", "a receipt is of a later checkpoint than the bundle")
def _(h: Honest) -> Made:
    made = h.story.seal(size=len(h.story.log))
    h.story.note(DatasetChanged(member="Delhi", name="other", content=digest("later")))
    later = h.story.seal()["checkpoint"]
    release_of(made, h.model.run_id)["checkpoint"] = later
    return made


# Step 13


@fault("keys", "keys were released to a run of no task")
def _(h: Honest) -> Made:
    story = honest(closed=False)
    named = story.story.places(RunDecided, run_id=story.model.run_id)[0]
    statement = story.story.log[named][1].sites["Aarhus"].statement
    story.story.note(
        KeyReleased(
            run_id=story.model.run_id,
            holder="Aarhus",
            recipient=digest("key"),
            evidence=statement,
        )
    )
    return story.story.seal()


@fault("keys", "evidence is there that nobody relied on", short=False)
def _(h: Honest) -> Made:
    return h.story.seal() | {
        "evidence": {digest_bytes(b"quote"): base64.b64encode(b"quote").decode()}
    }


# Step 14


@fault(
    "results",
    "a result was altered",
    results=lambda h: released(h) | {h.model.run_id: canonical({"beta": [0.2], "n": 141})},
)
def _(h: Honest) -> Made:
    return h.story.seal()


@fault(
    "results",
    "a result is of another run",
    results=lambda h: {h.model.run_id: released(h)[h.describe.run_id]},
)
def _(h: Honest) -> Made:
    return h.story.seal()


@fault("results", "a nonce was altered", results=released)
def _(h: Honest) -> Made:
    made = h.story.seal()
    release_of(made, h.model.run_id)["nonce"] = "00" * 32
    return made


@fault("results", "a result is of a run that failed", results=lambda h: {h.failed.run_id: b"{}"})
def _(h: Honest) -> Made:
    return h.story.seal()


@fault("results", "a result is of an unknown run", results=lambda h: {"0" * 32: b"{}"})
def _(h: Honest) -> Made:
    return h.story.seal()


# Step 15


@fault("outcomes", "a result of no task comes with an outcome", short=False)
def _(h: Honest) -> Made:
    made = h.story.seal()
    release_of(made, h.model.run_id)["outcome"] = min(made["statements"])
    return made
