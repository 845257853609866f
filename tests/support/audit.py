"""An honest history of a study with real keys, and the bundle that is exported of it.

Tests break one fact at a time: either of the `Story` before it is sealed (hub and witnesses lie
together), or of the bundle's JSON afterwards (somebody altered the file).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cohortium.contract.model import Contract, Draft, Participant, Researcher, RunRequest
from cohortium.contract.statements import Action, Assignment, Transition
from cohortium.contract.task import Artefact
from cohortium.core.canonical import canonical, digest, digest_bytes
from cohortium.core.dictionary import Variable, VariableType
from cohortium.crypto.keys import SigningKey, b64url
from cohortium.ledger import checkpoint as cp
from cohortium.ledger.entry import (
    ContractChanged,
    DatasetChanged,
    Entry,
    Fact,
    Founded,
    MemberChanged,
    ResearcherChanged,
    Rounds,
    RunDecided,
    RunDenied,
    RunEnded,
    RunSubmitted,
    SiteDecision,
    commitment,
)
from cohortium.ledger.members import Members
from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.note import Note
from cohortium.ledger.tree import Tree, tree_of
from cohortium.secagg.round_key import RoundKey

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
FINGERPRINT = digest("the consortium's certificate")
ORIGIN = cp.origin(FINGERPRINT)
MEMBERS = ("Aarhus", "Boston", "Cairo", "Delhi")
SITES = MEMBERS[:3]
"""Those in the study; Delhi is a member only."""


@cache
def key(name: str) -> SigningKey:
    """The key of an institution, of a person, or of the log."""
    return SigningKey.from_seed(bytes.fromhex(digest(["audit", name]).removeprefix("sha256:")))


def dataset(site: str) -> tuple[str, str]:
    """Digests of content and dictionary of a site's dataset."""
    return digest([site, "content"]), digest([site, "dictionary"])


@dataclass
class Story:
    """What is on the ledger, and the documents behind it."""

    log: list[tuple[datetime, Any]] = field(default_factory=list)
    statements: dict[str, str] = field(default_factory=dict)
    results: dict[str, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    receipts: dict[str, int] = field(default_factory=dict)
    """The size of the checkpoint on which each result was released."""
    now: datetime = NOW

    def tick(self, **delta: float) -> datetime:
        """Time passes."""
        self.now += timedelta(**(delta or {"minutes": 1}))
        return self.now

    def note(self, fact: Fact) -> int:
        """Log a fact a second later; returns its place."""
        self.log.append((self.tick(seconds=1), fact))
        return len(self.log) - 1

    def keep(self, envelope: bytes) -> str:
        """Keep a signed document; returns its digest."""
        name = digest_bytes(envelope)
        self.statements[name] = envelope.decode()
        return name

    def places(self, kind: Any, **match: object) -> list[int]:
        """Where facts of that kind with these values stand."""
        return [
            place
            for place, (_, fact) in enumerate(self.log)
            if isinstance(fact, kind)
            and all(getattr(fact, name) == value for name, value in match.items())
        ]

    def alter(self, place: int, **changes: Any) -> None:
        """Let a fact say something else."""
        at, fact = self.log[place]
        self.log[place] = (at, type(fact).model_validate(fact.model_dump() | changes))

    def drop(self, place: int) -> None:
        """Leave a fact out; what stands behind it moves up."""
        del self.log[place]
        self.receipts = {run: size - (size > place) for run, size in self.receipts.items()}

    # What happens

    def found(self, members: Iterable[str] = MEMBERS) -> None:
        """The consortium, its members, researchers and datasets."""
        self.note(Founded(name="Lung consortium", fingerprint=FINGERPRINT))
        for name in members:
            self.note(MemberChanged(name=name, key=key(name).public, status="approved"))
        for name in ("Ada", "Bob"):
            self.note(ResearcherChanged(name=name, key=key(name).public, status="active"))
        for name in members:
            content, dictionary = dataset(name)
            fact = DatasetChanged(member=name, name="lung", content=content, dictionary=dictionary)
            self.note(fact)

    def contract(self, **changes: Any) -> Contract:
        """The contract of the study's sites, with fields changed."""
        return make_contract(created_at=self.now, **changes)

    def contract_fact(
        self,
        contract: Contract,
        action: Any,
        author: str,
        envelope: bytes,
        state: str,
    ) -> int:
        """Log a signed statement about a contract."""
        fact = ContractChanged(
            study=contract.study,
            contract=contract.digest,
            version=contract.version,
            action=action,
            author=author,
            key=key(author).public,
            statement=self.keep(envelope),
            state=state,
        )
        return self.note(fact)

    def propose(self, contract: Contract, by: str = "Ada") -> None:
        """The proposer signs the contract."""
        self.contract_fact(contract, "propose", by, contract.sign(key(by)), "proposed")

    def draft(self, contract: Contract, by: str = "Ada", **changes: Any) -> Draft:
        """The proposer drafts the next version of a contract; Boston fills its slot."""
        terms = contract.to_json()
        seats = [dict(seat) for seat in terms["participants"]]
        for name in ("dataset", "dataset_digest", "dictionary_digest"):
            del seats[1][name]
        terms |= {"schema_id": "cohortium/draft/1", "participants": seats}
        terms |= {"version": contract.version + 1, "amends": contract.digest}
        made = Draft.from_json(terms)
        about: dict[str, Any] = {"study": made.study, "contract": made.digest}
        about |= {"version": made.version, "state": "draft"} | changes
        envelope = self.keep(made.sign(key(by)))
        self.note(
            ContractChanged(
                action="draft", author=by, key=key(by).public, statement=envelope, **about
            )
        )
        content, dictionary = dataset("Boston")
        artefact = Artefact(
            name="lung",
            content_digest=content,
            owners=("Boston",),
            dictionary_digest=dictionary,
        )
        said = Assignment(
            study=made.study,
            draft_digest=made.digest,
            slot="dataset/Boston",
            artefact=artefact,
            author="Boston",
            at=self.now,
        )
        envelope = self.keep(said.sign(key("Boston")))
        self.note(
            ContractChanged(
                action="assign",
                author="Boston",
                key=key("Boston").public,
                statement=envelope,
                **about,
            )
        )
        return made

    def sign(self, contract: Contract, sites: Iterable[str] = SITES, last: str = "active") -> None:
        """The sites sign; with the last signature the contract is active."""
        listed = list(sites)
        for site in listed:
            state = last if site == listed[-1] else "proposed"
            self.contract_fact(contract, "sign", site, contract.sign(key(site)), state)

    def change(
        self, contract: Contract, action: Action, by: str, state: str, **values: Any
    ) -> None:
        """A transition."""
        self.tick()
        transition = Transition(
            study=contract.study,
            contract_digest=contract.digest,
            action=action,
            author=by,
            at=self.now,
            reason=f"To {action} it.",
            **values,
        )
        self.contract_fact(contract, action, by, transition.sign(key(by)), state)

    def order(
        self,
        contract: Contract,
        number: int,
        computation: str = "stats.describe",
        params: Mapping[str, Any] | None = None,
        by: str = "Ada",
        **changes: Any,
    ) -> RunRequest:
        """A researcher's signed request, not logged yet."""
        self.tick()
        values: dict[str, Any] = {
            "run_id": digest(["run", number]).removeprefix("sha256:")[:32],
            "study": contract.study,
            "contract_digest": contract.digest,
            "computation": computation,
            "params": dict(params or {"variables": ["age"]}),
            "researcher": key(by).public,
            "issued_at": self.now,
            "valid_until": self.now + timedelta(hours=1),
        }
        return RunRequest(**(values | changes))

    def submit(self, request: RunRequest, by: str = "Ada") -> int:
        """The hub accepts a request."""
        return self.note(_about(RunSubmitted, request, self.keep(request.sign(key(by)))))

    def deny(self, request: RunRequest, code: str, by: str = "Ada") -> int:
        """The hub refuses a request."""
        return self.note(_about(RunDenied, request, self.keep(request.sign(key(by))), code=code))

    def decide(
        self,
        contract: Contract,
        request: RunRequest,
        without: Mapping[str, str] | None = None,
    ) -> int:
        """The sites sign their round keys, but for those that do not take part."""
        sites: dict[str, SiteDecision] = {}
        for participant in contract.participants:
            name = participant.name
            if without is not None and name in without:
                code = without[name]
                decision: Any = "absent" if code == "peer-unreachable" else "refused"
                sites[name] = SiteDecision(decision=decision, code=code)
                continue
            stated = round_key(request, name)
            sites[name] = SiteDecision(
                decision="accepted", statement=self.keep(stated.sign(key(name)))
            )
        return self.note(RunDecided(run_id=request.run_id, sites=sites))

    def end(
        self,
        request: RunRequest,
        sites: Iterable[str] = SITES,
        rounds: int = 2,
        result: dict[str, Any] | None = None,
    ) -> int:
        """The run succeeds, and its result is released once this is witnessed."""
        nonce = bytes.fromhex(digest(["nonce", request.run_id]).removeprefix("sha256:"))
        released = {"n": 212, "mean": 62.4, "tiny": 1e-7} if result is None else result
        self.results[request.run_id] = (nonce, released)
        place = self.note(
            RunEnded(
                run_id=request.run_id,
                status="succeeded",
                rounds=(Rounds(first=1, last=rounds, sites=tuple(sites)),),
                result=commitment(nonce, canonical(released)),
            )
        )
        self.receipts[request.run_id] = place + 1
        return place

    def fail(self, request: RunRequest, code: str) -> int:
        """The run fails before its first sum."""
        return self.note(RunEnded(run_id=request.run_id, status="failed", code=code))

    def run(self, contract: Contract, number: int, **order: Any) -> RunRequest:
        """A whole run over all sites."""
        request = self.order(contract, number, **order)
        self.submit(request, by=order.get("by", "Ada"))
        self.decide(contract, request)
        self.end(request, [p.name for p in contract.participants])
        return request

    # The bundle

    def texts(self) -> list[bytes]:
        """The entries."""
        return [Entry(at=at, fact=fact).to_bytes() for at, fact in self.log]

    def tree(self) -> Tree:
        """The Merkle tree over them."""
        return tree_of({}, 0).extended([leaf_hash(text) for text in self.texts()])[0]

    def entry(self, place: int, size: int | None = None) -> dict[str, Any]:
        """An entry as a bundle of one study has it."""
        proof = self.tree().inclusion_proof(place, size)
        return {
            "index": place,
            "entry": self.texts()[place].decode(),
            "proof": [node.hex() for node in proof],
        }

    def seal(
        self,
        coverage: str = "study",
        *,
        size: int | None = None,
        witnesses: Collection[str] = MEMBERS,
        members: Mapping[str, str] | None = None,
        log: str = "log",
    ) -> dict[str, Any]:
        """The bundle's JSON as the hub exports it.

        Args:
            size: Of the checkpoint; by default the whole log.
            witnesses: Who cosigns; also institutions that are no members.
            members: Other members than those that the entries name.
            log: Whose key signs as the log.
        """
        texts, tree = self.texts(), self.tree()
        wanted = len(texts) if size is None else size
        sealed = _Sealed(self, tree, witnesses, members, log)
        ours = {self.log[at][1].run_id for at in self.places(RunSubmitted, study="lung")}
        names = sorted(self.receipts.keys() & ours)
        entries = [
            {
                "index": index,
                "entry": text.decode(),
                "proof": [h.hex() for h in tree.inclusion_proof(index, wanted)]
                if coverage == "study"
                else [],
            }
            for index, text in enumerate(texts[:wanted])
            if coverage == "log" or self._belongs(self.log[index][1])
        ]
        logged = [fact for _, fact in self.log[:wanted]]
        named = {one for fact in logged for one in _named(fact, ours)}
        return {
            "schema_id": "cohortium/audit-bundle/1",
            "study": "lung",
            "coverage": coverage,
            "log": {
                "origin": ORIGIN,
                "keys": [{"key": cp.log_key(ORIGIN, key(log).public).text, "size": 0}],
            },
            "checkpoint": sealed.note(wanted),
            "members": sealed.members(wanted),
            "entries": entries,
            "releases": [sealed.release(run, wanted) for run in names],
            "statements": {d: text for d, text in self.statements.items() if d in named},
            "evidence": {},
        }

    def _belongs(self, fact: Fact) -> bool:
        """Whether an entry is about the study "lung" or what it needs."""
        if isinstance(fact, MemberChanged):
            return fact.name in SITES
        if isinstance(fact, DatasetChanged):
            return fact.member in SITES
        run_id = getattr(fact, "run_id", None)
        if run_id is not None:
            runs = self.places(RunSubmitted, study="lung") + self.places(RunDenied, study="lung")
            return run_id in {getattr(self.log[place][1], "run_id", None) for place in runs}
        return getattr(fact, "study", "lung") == "lung"


def named_by(fact: Fact) -> list[str]:
    """The documents that an entry names."""
    if isinstance(fact, ContractChanged):
        return [fact.statement]
    if isinstance(fact, RunSubmitted | RunDenied):
        return [fact.request]
    if isinstance(fact, RunDecided):
        return [one.statement for one in fact.sites.values() if one.statement is not None]
    return []


def _named(fact: Fact, runs: Collection[str]) -> list[str]:
    """Those of the study "lung"."""
    about = getattr(fact, "study", "lung" if getattr(fact, "run_id", "") in runs else "")
    return named_by(fact) if about == "lung" else []


@dataclass
class _Sealed:
    story: Story
    tree: Tree
    witnesses: Collection[str]
    others: Mapping[str, str] | None
    log: str

    def members(self, size: int) -> dict[str, str]:
        if self.others is not None:
            return dict(self.others)
        facts = [fact for _, fact in self.story.log[:size]]
        return dict(Members().after_all(facts).members)

    def note(self, size: int) -> str:
        line = cp.members_line(digest(self.members(size)))
        made = cp.Checkpoint(ORIGIN, size, self.tree.root(size), (line,))
        signed = cp.sign(made, key(self.log))
        time_s = int(self.story.log[size - 1][0].timestamp()) + 1
        return cp.add_cosignatures(signed, cosignatures(signed, self.witnesses, time_s)).decode()

    def release(self, run_id: str, size: int) -> dict[str, Any]:
        before = min(self.story.receipts[run_id], size)
        members = self.members(before)
        other = {} if members == self.members(size) else {"members": members}
        return {
            "run_id": run_id,
            "nonce": self.story.results[run_id][0].hex(),
            "checkpoint": self.note(before),
            "consistency": [h.hex() for h in self.tree.consistency_proof(before, size)],
            **other,
        }


def cosignatures(signed: bytes, witnesses: Iterable[str], time_s: int) -> list[bytes]:
    """The lines of these sites under a signed checkpoint."""
    parsed = Note.parse(signed)
    return [cp.cosign(parsed, ORIGIN, site, key(site), time_s) for site in witnesses]


def make_contract(**changes: Any) -> Contract:
    """The contract of the study's sites, with fields changed."""
    fields: dict[str, Any] = {
        "study": "lung",
        "title": "Lung cancer",
        "purpose": "Survival by sex.",
        "variables": (
            Variable(name="age", type=VariableType.INTEGER, unit="years"),
            Variable(name="died", type=VariableType.BOOLEAN),
        ),
        "computations": (
            {"name": "stats.*", "max_runs": 3, "versions": {"stats.describe": 1}},
            {
                "name": "glm",
                "limits": {"family": ("binomial",)},
                "versions": {"glm": 1},
                "recipients": ("Ada",),
            },
        ),
        "min_sites": 2,
        "expires_at": NOW + timedelta(days=365),
        "consortium": FINGERPRINT,
        "participants": tuple(participant(site) for site in SITES),
        "recipients": tuple(Researcher(name=n, key=key(n).public) for n in ("Ada", "Bob")),
        "proposed_by": Researcher(name="Ada", key=key("Ada").public),
        "created_at": NOW,
    }
    return Contract(**(fields | changes))


def participant(site: str) -> Participant:
    """A site of the study."""
    content, dictionary = dataset(site)
    return Participant(
        name=site,
        key=key(site).public,
        dataset="lung",
        dataset_digest=content,
        dictionary_digest=dictionary,
        variables=("age", "died"),
    )


def round_key(request: RunRequest, site: str, **changes: Any) -> RoundKey:
    """What a site signs to take part in a run."""
    secret = digest(["x25519", request.run_id, site]).removeprefix("sha256:")
    values: dict[str, Any] = {
        "run_id": request.run_id,
        "contract_digest": request.contract_digest,
        "request_digest": request.digest,
        "site": site,
        "x25519": b64url(bytes.fromhex(secret)),
    }
    return RoundKey(**(values | changes))


def _about(kind: Any, request: RunRequest, envelope_digest: str, **more: Any) -> Any:
    return kind(
        run_id=request.run_id,
        study=request.study,
        contract=request.contract_digest,
        computation=request.computation,
        researcher=request.researcher,
        request=envelope_digest,
        **more,
    )


GLM = {"formula": "died ~ age", "family": "binomial"}


@dataclass
class Honest:
    """The honest story, and the handles by which tests take hold of it."""

    story: Story
    first: Contract
    second: Contract
    describe: RunRequest
    model: RunRequest
    failed: RunRequest
    denied: RunRequest


def honest(*, closed: bool = True) -> Honest:
    """A study from its proposal over an amendment to its end, beside another one."""
    story = Story()
    story.found()
    other = make_contract(study="stroke")
    story.propose(other)
    first = story.contract()
    story.propose(first)
    story.sign(other)
    story.sign(first)
    story.run(other, 90, by="Bob")
    describe = story.run(first, 1)
    story.change(first, "suspend", "Boston", "suspended")
    denied = story.order(first, 2)
    story.deny(denied, "contract-suspended")
    story.change(first, "resume", "Boston", "active")
    second = story.contract(version=2, amends=first.digest, purpose="Death by age.")
    story.propose(second)
    story.sign(second)
    model = story.order(second, 3, "glm", GLM)
    story.submit(model)
    story.decide(second, model, without={"Cairo": "peer-unreachable"})
    story.end(model, ("Aarhus", "Boston"), rounds=5, result={"beta": [0.1, -2.5e-9], "n": 141})
    failed = story.order(second, 4, by="Bob")
    story.submit(failed, by="Bob")
    story.decide(second, failed, without={"Boston": "site-policy", "Cairo": "site-policy"})
    story.fail(failed, "too-few-sites")
    if closed:
        story.change(second, "close", "Ada", "closed", keeps=("The published tables.",))
    return Honest(story, first, second, describe, model, failed, denied)
