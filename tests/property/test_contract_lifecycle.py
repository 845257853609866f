"""The life cycle against a model of its own: random parties, orders, duplicates and old statements.

The model is written from the rules of docs/concepts/contract.md, in sets and strings; it shares no
code with `cohortium.contract.lifecycle`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.contracts import NOW, contract, key
from tests.support.slots import CODE

from cohortium.contract import lifecycle
from cohortium.contract.lifecycle import StudyLife, Version
from cohortium.contract.model import Contract, Participant
from cohortium.contract.statements import Transition
from cohortium.core.canonical import digest
from cohortium.errors import CohortiumError

SITES = ("Aarhus", "Boston", "Cairo")
PEOPLE = ("Ada", "Vendor")
EVERYBODY = (*SITES, *PEOPLE, "Eve")
KEYS = {name: key(name) for name in EVERYBODY}
ACTIONS = ("refuse", "withdraw", "suspend", "resume", "revoke", "close")
ENDS = {"refused", "withdrawn", "superseded", "revoked", "closed"}

CLOCKS = timedelta(minutes=5)
"""By how much two may differ."""

names = st.sampled_from(EVERYBODY)
picks = st.integers(0, 50)


@dataclass
class Paper:
    """The model's version."""

    proposer: str
    needs: frozenset[str]
    number: int
    amends: str | None
    expires: datetime
    state: str = "proposed"
    signed: set[str] = field(default_factory=set)
    held: dict[str, frozenset[str] | None] = field(default_factory=dict)


class Refused(Exception):
    """The model says no."""


def need(holds: bool) -> None:
    if not holds:
        raise Refused


class Model:
    """What should be so."""

    def __init__(self) -> None:
        self.papers: dict[str, Paper] = {}
        self.heard: set[str] = set()
        self.last: dict[str, datetime] = {}

    def in_force(self) -> list[str]:
        return [d for d, paper in self.papers.items() if paper.state in {"active", "suspended"}]

    def propose(self, made: Contract, name: str, paper: Paper, now: datetime) -> None:
        need(name == paper.proposer)
        if made.digest in self.papers:
            return
        need(made.created_at <= now + CLOCKS)
        if paper.amends is None:
            need(not any(p.state not in ENDS and p.expires > made.created_at for p in self.all()))
        else:
            need(self.in_force() == [paper.amends])
            before = self.papers[paper.amends]
            need(paper.number == before.number + 1)
            need(name in before.needs or name == before.proposer)
        self.papers[made.digest] = paper
        if name in paper.needs:
            paper.signed.add(name)

    def all(self) -> list[Paper]:
        return list(self.papers.values())

    def sign(self, about: str, name: str) -> None:
        need(about in self.papers)
        paper = self.papers[about]
        need(name in paper.needs)
        if name in paper.signed:
            return
        need(paper.state not in ENDS)
        paper.signed.add(name)
        if paper.signed < paper.needs:
            return
        if paper.amends is not None and paper.amends in self.papers:
            before = self.papers[paper.amends]
            stay = paper.needs | {paper.proposer}
            paper.held = {who: what for who, what in before.held.items() if who in stay}
        for other in self.all():
            if other is not paper and other.state not in ENDS:
                other.state = "superseded"
        paper.state = "suspended" if paper.held else "active"

    def transit(self, said: Transition, signer: str, now: datetime) -> None:
        need(said.contract_digest in self.papers)
        paper, who = self.papers[said.contract_digest], said.author
        need(signer == who and who in paper.needs | {paper.proposer, "Ada"})  # Ada: the recipient
        if said.digest in self.heard:
            return
        need(who not in self.last or said.at > self.last[who])
        need(said.at <= now + CLOCKS)
        need(paper.state not in ENDS)
        running = paper.state != "proposed"
        if said.action in {"refuse", "revoke"}:
            need(who in paper.needs and running == (said.action == "revoke"))
            self._end(said, {"refuse": "refused", "revoke": "revoked"}[said.action])
        elif said.action in {"withdraw", "close"}:
            need(who == paper.proposer and running == (said.action == "close"))
            self._end(said, {"withdraw": "withdrawn", "close": "closed"}[said.action])
        else:
            need(running and who in paper.needs | {paper.proposer})
            if said.action == "suspend":
                only = said.computations
                paper.held[who] = None if only is None else frozenset(only)
            else:
                need(who in paper.held)
                del paper.held[who]
            paper.state = "suspended" if paper.held else "active"
        self.heard.add(said.digest)
        self.last[who] = said.at

    def _end(self, said: Transition, state: str) -> None:
        running = self.papers[said.contract_digest].state != "proposed"
        self.papers[said.contract_digest].state = state
        for other in self.all():
            if running and other.amends == said.contract_digest and other.state == "proposed":
                other.state = state


def made_by(proposer: str, sites: tuple[str, ...], private: bool, **changes: Any) -> Contract:
    """A contract of these sites, where wanted with private code of the vendor."""
    participants = tuple(
        Participant(
            name=site,
            key=KEYS[site].public,
            dataset="lung",
            dataset_digest=digest([site]),
            dictionary_digest=digest("d"),
            variables=("age",),
        )
        for site in sites
    )
    code = ({"name": "own_model", "code": CODE},) if private else ()
    return contract(
        participants=participants,
        computations=({"name": "stats.*"}, {"name": "glm"}, *code),
        owners=({"name": "Vendor", "key": KEYS["Vendor"].public},) if private else (),
        proposed_by={"name": proposer, "key": KEYS[proposer].public},
        **changes,
    )


class Lives(RuleBasedStateMachine):
    """One study, as a hub that everybody writes to would keep it."""

    def __init__(self) -> None:
        super().__init__()
        self.life: StudyLife | None = None
        self.model = Model()
        self.now = NOW
        self.contracts: list[Contract] = []
        self.accepted: list[bytes] = []
        self.signatures: set[tuple[str, str]] = set()

    def say(self, envelope: bytes, model: Any) -> bool:
        """Life and model hear it, and agree on whether it is accepted."""
        before = self.life
        try:
            model()
            expected = True
        except Refused:
            expected = False
        try:
            self.life = lifecycle.hear(before, envelope, self.now)
            accepted = True
        except CohortiumError:
            accepted = False
        assert accepted == expected
        if accepted and self.life is not before:
            self.accepted.append(envelope)
        self._never_again(before)
        return accepted

    def _never_again(self, before: StudyLife | None) -> None:
        """Ended stays ended, signed stays signed; proposals stay in place."""
        if before is None or self.life is None:
            return
        for old, new in zip(before.versions, self.life.versions, strict=False):
            assert old.digest == new.digest
            assert old.signed <= new.signed
            if old.state in ENDS:
                assert new == old

    def some(self, number: int) -> Contract:
        return self.contracts[number % len(self.contracts)]

    @initialize(private=st.booleans(), signed=st.booleans())
    def begin(self, private: bool, signed: bool) -> None:
        self.contracts.append(made_by("Ada", SITES[:2], private))
        if signed:
            self.all_sign(0)

    @rule(
        proposer=st.sampled_from((*SITES, "Ada", "Vendor")),
        sites=st.sampled_from([SITES[:2], SITES[1:], SITES]),
        private=st.booleans(),
        days=st.sampled_from([1, 30]),
        amends=st.none() | picks,
        skip=st.sampled_from([0, 0, 0, 1]),
        ahead=st.sampled_from([0, 0, 0, 4, 6]),
    )
    def write(
        self,
        proposer: str,
        sites: tuple[str, ...],
        private: bool,
        days: int,
        amends: int | None,
        skip: int,
        ahead: int,
    ) -> None:
        """Somebody writes a contract, perhaps on a stale version or with a wrong number."""
        changes: dict[str, Any] = {}
        if amends is not None:
            before = self.some(amends)
            current = self.life.in_force if self.life is not None and amends % 2 else None
            before = before if current is None else current.contract
            changes = {"version": before.version + 1 + skip, "amends": before.digest}
        if proposer == "Vendor" and not private:
            proposer = "Ada"
        self.contracts.append(
            made_by(
                proposer,
                sites,
                private,
                title=f"Text {len(self.contracts)}",
                created_at=self.now + timedelta(minutes=ahead),
                expires_at=self.now + timedelta(days=days),
                **changes,
            )
        )
        self.propose(-1, None)

    @precondition(lambda self: self.life is not None and self.life.in_force is not None)
    @rule(
        author=picks,
        sites=st.sampled_from([SITES[:2], SITES[1:], SITES]),
        private=st.booleans(),
        sign=st.booleans(),
    )
    def amend(self, author: int, sites: tuple[str, ...], private: bool, sign: bool) -> None:
        """A signatory amends the version in force, perhaps with other parties."""
        assert self.life is not None
        assert self.life.in_force is not None
        before = self.life.in_force.contract
        may = [name for name in before.signatories if name != "Vendor" or private]
        self.contracts.append(
            made_by(
                may[author % len(may)],
                sites,
                private,
                title=f"Text {len(self.contracts)}",
                created_at=self.now,
                expires_at=self.now + timedelta(days=30),
                version=before.version + 1,
                amends=before.digest,
            )
        )
        self.propose(-1, None)
        if sign:
            self.all_sign(-1)

    @rule(number=picks, signer=st.none() | names)
    def propose(self, number: int, signer: str | None) -> None:
        """A contract arrives from its proposer, or signed by somebody (else)."""
        made = self.some(number)
        name = signer or made.proposed_by.name
        known = made.digest in self.model.papers
        paper = Paper(
            proposer=made.proposed_by.name,
            needs=frozenset(p.name for p in made.participants)
            | ({"Vendor"} if made.owners else set()),
            number=made.version,
            amends=made.amends,
            expires=made.expires_at,
        )

        def expected() -> None:
            if known and name != paper.proposer:
                self.model.sign(made.digest, name)
            else:
                self.model.propose(made, name, paper, self.now)

        if self.say(made.sign(KEYS[name]), expected):
            self.signatures.add((made.digest, name))

    @rule(number=picks, signers=st.lists(names, min_size=1, max_size=5, unique=True))
    def sign(self, number: int, signers: list[str]) -> None:
        """Several sign, in any order."""
        for signer in signers:
            self.propose(number, signer)

    @rule(number=picks)
    def all_sign(self, number: int) -> None:
        """Everybody who is needed signs, so that contracts come into force often."""
        made = self.some(number)
        for name in made.signatories:
            self.propose(number, name)

    @precondition(lambda self: self.life is not None and self.life.newest.open)
    @rule()
    def the_newest_is_signed(self) -> None:
        assert self.life is not None
        made = self.life.newest.contract
        for name in made.signatories:
            self.propose(self.contracts.index(made), name)

    @precondition(lambda self: self.life is not None)
    @rule(
        action=st.sampled_from(ACTIONS),
        author=names,
        signer=st.none() | names,
        number=picks,
        current=st.booleans(),
        ago=st.sampled_from([0, 0, 0, 1, 60, -299, -400]),
        only=st.sampled_from([None, ("glm",), ("stats.describe",), ("stats.*", "glm")]),
    )
    def state(
        self,
        action: Any,
        author: str,
        signer: str | None,
        number: int,
        current: bool,
        ago: int,
        only: tuple[str, ...] | None,
    ) -> None:
        """Somebody states something, perhaps in another's name, of a stale version, back-dated."""
        assert self.life is not None
        about = self.some(number) if not current else self.life.current.contract
        at = lifecycle.next_instant(self.life, author, self.now) - timedelta(seconds=ago)
        said = Transition(
            study=about.study,
            contract_digest=about.digest,
            action=action,
            author=author,
            at=at,
            reason=f"Reason {len(self.accepted)}.",
            computations=only if action == "suspend" else None,
        )
        self._state(said, signer or author)

    @precondition(lambda self: self.life is not None and self.life.in_force is not None)
    @rule(
        action=st.sampled_from(("suspend", "suspend", "resume", "resume", "revoke", "close")),
        author=picks,
        only=st.sampled_from([None, ("glm",), ("stats.describe",)]),
        ago=st.sampled_from([0, 0, 0, 1]),
    )
    def state_of_what_is_in_force(
        self, action: Any, author: int, only: tuple[str, ...] | None, ago: int
    ) -> None:
        """A party states something of the version in force, mostly with success."""
        assert self.life is not None
        assert self.life.in_force is not None
        version = self.life.in_force
        who = list(version.suspensions if action == "resume" else version.contract.signatories)
        if action == "close" or not who:
            who = [version.contract.proposed_by.name]
        name = who[author % len(who)]
        said = Transition(
            study=version.contract.study,
            contract_digest=version.digest,
            action=action,
            author=name,
            at=lifecycle.next_instant(self.life, name, self.now) - timedelta(seconds=ago),
            reason=f"Reason {len(self.accepted)}.",
            computations=only if action == "suspend" else None,
        )
        self._state(said, name)

    @precondition(lambda self: self.life is not None and self.life.in_force is not None)
    @rule(only=st.sampled_from([None, ("glm",)]))
    def all_suspend(self, only: tuple[str, ...] | None) -> None:
        assert self.life is not None
        for author in range(4):
            if self.life.in_force is not None:
                self.state_of_what_is_in_force("suspend", author, only, 0)

    def _state(self, said: Transition, signer: str) -> None:
        assert self.life is not None
        before = self.life.in_force
        if self.say(said.sign(KEYS[signer]), lambda: self.model.transit(said, signer, self.now)):
            after = self.life.in_force
            if before is not None and after is not None:
                gone = set(before.suspensions) - set(after.suspensions)
                assert gone <= {signer}
                assert not gone or said.action == "resume"

    @precondition(lambda self: bool(self.accepted))
    @rule(number=picks)
    def repeat(self, number: int) -> None:
        """A statement that was accepted arrives again, however old: nothing changes."""
        envelope = self.accepted[number % len(self.accepted)]
        assert lifecycle.hear(self.life, envelope, self.now) == self.life

    @rule(hours=st.sampled_from([0, 1, 30]))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours, minutes=2)

    @precondition(lambda self: len(self.accepted) > 1)
    @rule(data=st.data())
    def reorder(self, data: st.DataObject) -> None:
        """In any other order in which all of it is accepted, and later, the life is the same."""
        order = list(self.accepted)
        for _ in range(data.draw(st.integers(1, 4))):
            one, two = (data.draw(st.integers(0, len(order) - 1)) for _ in range(2))
            order[one], order[two] = order[two], order[one]
        late = self.now + timedelta(days=1000)
        try:
            life = lifecycle.replay([(envelope, late) for envelope in order])
        except CohortiumError:
            return
        assert self.life is not None
        assert _sorted(life) == _sorted(self.life)
        assert life.said == self.life.said

    @precondition(lambda self: self.life is not None)
    @rule(number=picks, computation=st.sampled_from(["glm", "stats.describe"]))
    def compute(self, number: int, computation: str) -> None:
        """A computation is permitted where the model says that nothing is in its way."""
        made = self.some(number)
        paper = self.model.papers.get(made.digest)
        if paper is None:
            return
        assert self.life is not None
        held = {name for what in paper.held.values() for name in (what or {computation})}
        stopped = computation in held or (computation[:5] == "stats" and "stats.*" in held)
        expected = (
            paper.state in {"active", "suspended"} and self.now < paper.expires and not stopped
        )
        try:
            lifecycle.permits(self.life.version(made.digest), computation, self.now)
            permitted = True
        except CohortiumError:
            permitted = False
        assert permitted == expected

    @invariant()
    def the_model_says_the_same(self) -> None:
        found = () if self.life is None else self.life.versions
        assert {v.digest: (v.state, v.signed, dict(v.suspensions)) for v in found} == {
            d: (p.state, frozenset(p.signed), p.held) for d, p in self.model.papers.items()
        }

    @invariant()
    def one_version_at_most_is_in_force(self) -> None:
        found = () if self.life is None else self.life.versions
        assert sum(version.in_force for version in found) <= 1

    @invariant()
    def nothing_is_in_force_without_all_signatures(self) -> None:
        current = None if self.life is None else self.life.in_force
        if current is not None:
            for name in current.contract.signatories:
                assert (current.digest, name) in self.signatures

    def teardown(self) -> None:
        if self.accepted:
            again = lifecycle.replay([(envelope, self.now) for envelope in self.accepted])
            assert again == self.life


def _sorted(life: StudyLife) -> list[Version]:
    """Versions in an order that does not depend on that of the proposals."""
    return sorted(life.versions, key=lambda version: version.digest)


Lives.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLives = Lives.TestCase
