"""Each write of a contract's life at a node fails before and after it; doing it again heals it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.faults.test_node_store import STAGES, Crash, Faults
from tests.support.builders import Node, World, active
from tests.support.life import NOW, amended, transition

from cohortium.contract.model import Draft
from cohortium.errors import CohortiumError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import consent, journal, statements, steward
from cohortium.node.store import NodeStore, Stage

Step = Callable[[], object]


class Life:
    """A node's contract from proposal to end, step by step, as hub and steward ask for it."""

    def __init__(self, path: Path, faults: Callable[[Stage], None]) -> None:
        self.world = World()
        self._path = path
        self.first = self.world.contract()
        self.second = amended(self.first, title="More")
        self.start(faults)

    def start(self, faults: Callable[[Stage], None] = lambda _stage: None) -> Node:
        store = NodeStore(self._path, clock=self.world.clock, fault=faults)
        self.node = self.world.node("Alpha", store=store)
        return self.node

    def sign(self, digest: str) -> None:
        stored = consent.find_contract(self.node.store, digest)
        consent.sign(self.node.service, consent.review(self.node.service, stored))

    def states(self, action: str) -> None:
        """The steward looks first, and states what is not so yet."""
        stored = consent.find_contract(self.node.store, self.first.digest)
        if stored.state != {"suspend": "suspended", "resume": "active"}[action]:
            steward.state(self.node.service, stored, action, "A doubt.")  # type: ignore[arg-type]

    def hears(self, author: str, action: str, seconds: int) -> None:
        at = NOW + timedelta(seconds=seconds)
        said = transition(self.second, action, author, at=at)  # type: ignore[arg-type]
        envelope = said.sign(self.world.keys[author])
        message = pb.ContractStatement(envelope=envelope)
        self.node.ask(pb.Message(contract_statement=message))

    def drafted(self) -> None:
        fields = self.second.to_json() | {"schema_id": "cohortium/draft/1", "study": "drafted"}
        fields |= {"version": 1, "amends": None}
        del fields["amends"]
        for name in ("dataset", "dataset_digest", "dictionary_digest"):
            del fields["participants"][0][name]
        envelope = Draft.from_json(fields).sign(self.world.researcher)
        self.node.ask(pb.Message(contract_draft=pb.ContractDraft(envelope=envelope)))

    def assign(self) -> None:
        service = self.node.service
        service.drafts.assign("drafted", "dataset/Alpha", "patients", service.datasets)

    def ended(self) -> None:
        ended = pb.ContractEnded(contract_digest=self.second.digest, reason="Replaced.")
        self.node.ask(pb.Message(contract_ended=ended))

    def steps(self) -> list[Step]:
        first, second, world = self.first, self.second, self.world
        return [
            lambda: world.propose(self.node, first),
            lambda: self.sign(first.digest),
            lambda: self.node.ask(active(first.digest, world.signed(first))),
            lambda: self.states("suspend"),
            lambda: self.states("resume"),
            lambda: world.propose(self.node, second),
            lambda: self.sign(second.digest),
            lambda: self.node.ask(active(second.digest, world.signed(second))),
            lambda: self.hears("Beta", "suspend", 0),
            lambda: self.hears("Beta", "resume", 1),
            self.drafted,
            self.assign,
            self.ended,
        ]

    def outcome(self) -> list[object]:
        """What is remembered, but for times."""
        store = self.node.store
        journal.check_chain(store)
        contracts = [(c.digest, c.state, c.reason, c.suspensions) for c in store.contracts()]
        said = [
            (one.digest, one.action, one.applied)
            for digest in (self.first.digest, self.second.digest)
            for one in statements.about(store, digest)
        ]
        decisions = [(e["what"], e["allowed"]) for e in self.node.decisions()]
        return [contracts, said, decisions, [(o.topic, o.body) for o in store.owed()]]


WRITES = 13


def undisturbed(path: Path) -> list[object]:
    life = Life(path, lambda _stage: None)
    for step in life.steps():
        step()
    return life.outcome()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("write", range(WRITES))
def test_a_crash_at_any_write_changes_nothing(tmp_path: Path, write: int, stage: Stage) -> None:
    expected = undisturbed(tmp_path / "reference.db")
    faults = Faults(write, stage, Crash())
    life = Life(tmp_path / "node.db", faults)
    faults.armed = True
    crashed = 0
    for step in life.steps():
        try:
            step()
        except Crash:
            crashed += 1
            life.node.store.close()
            life.start()
            step()
    assert crashed == 1
    assert life.outcome() == expected


@pytest.mark.parametrize("write", range(WRITES))
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, write: int) -> None:
    expected = undisturbed(tmp_path / "reference.db")
    faults = Faults(write, "before-commit", sqlite3.OperationalError("disk full"), times=100)
    life = Life(tmp_path / "node.db", faults)
    faults.armed = True
    for number, step in enumerate(life.steps()):
        if number == write:
            before = life.outcome()
            with pytest.raises((CohortiumError, sqlite3.OperationalError)):
                step()
            faults.armed = False
            assert life.outcome() == before
        step()
    assert life.outcome() == expected
