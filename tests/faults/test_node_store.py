"""Each durable write of a node fails before and after it; the repeated message heals it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.support.builders import RUN_ID, Node, World, active, round_request, run_end

from cohortium.analysis.screen import SCREENED, Release, Screen
from cohortium.contract.model import Cohort, Contract, RunRequest
from cohortium.core.rounds import State
from cohortium.core.selection import Selection
from cohortium.errors import CohortiumError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import put_state
from cohortium.node import consent, journal
from cohortium.node.store import NodeStore, Stage

STAGES: tuple[Stage, ...] = ("before-commit", "after-commit")
WRITES, ADMISSION = 7, 3
"""Proposal, vote, activation, admission, two rounds, end."""


class Crash(BaseException):
    """The process is gone."""


class Faults:
    """Raises at one commit of the store's life."""

    def __init__(self, commit: int, stage: Stage, error: BaseException, times: int = 1) -> None:
        self.armed = False
        self._left = commit
        self._stage = stage
        self._error = error
        self._times = times

    def __call__(self, stage: Stage) -> None:
        if not self.armed or stage != self._stage:
            return
        self._left -= 1
        if self._left < 0 < self._times:
            self._times -= 1
            raise self._error


class Steps:
    """A node's whole part in a run, step by step, as the hub and the steward ask for it."""

    def __init__(self, path: Path, faults: Callable[[Stage], None]) -> None:
        self.world = World()
        for name in ("Beta", "Gamma"):
            self.world.agree(self.world.node(name), self.world.contract())
        self.contract: Contract = self.world.contract()
        self.request = self.world.request(self.contract)
        self.others = self.world.adverts(self.request, ("Beta", "Gamma"))
        self._path = path
        self.node = self.start(faults)

    def start(self, faults: Callable[[Stage], None] = lambda _stage: None) -> Node:
        """The node's process, on its file."""
        store = NodeStore(self._path, clock=self.world.clock, fault=faults)
        self.node = self.world.node("Alpha", store=store)
        return self.node

    def vote(self) -> bytes:
        stored = consent.find_contract(self.node.store, self.contract.digest)
        return consent.sign(self.node.service, consent.review(self.node.service, stored))

    def ask(self, message: pb.Message) -> bytes:
        return self.node.ask(message).SerializeToString()

    def all(self) -> list[Callable[[], bytes]]:
        envelopes = self.world.signed(self.contract)
        own: list[bytes] = []

        def prepare() -> bytes:
            reply = self.node.ask(self.world.prepare(self.request))
            own[:] = [reply.run_advert.envelope]
            return reply.SerializeToString()

        return [
            lambda: self.ask(self.world.proposal(self.contract)),
            self.vote,
            lambda: self.ask(active(self.contract.digest, envelopes)),
            prepare,
            lambda: self.ask(round_request(self.request, [*own, *self.others], 1)),
            lambda: self.ask(round_request(self.request, [], 2)),
            lambda: self.ask(run_end(self.request, "succeeded")),
        ]


def _what(node: Node) -> list[tuple[object, ...]]:
    journal.check_chain(node.store)
    return [(e["what"], e.get("round"), e["allowed"]) for e in node.decisions()]


def _undisturbed(path: Path) -> tuple[list[bytes], list[tuple[object, ...]]]:
    steps = Steps(path, lambda _stage: None)
    answers = [step() for step in steps.all()]
    return answers, _what(steps.node)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("write", range(WRITES))
def test_a_crash_at_any_write_changes_no_answer(tmp_path: Path, write: int, stage: Stage) -> None:
    expected, recorded = _undisturbed(tmp_path / "reference.db")
    assert len(recorded) == WRITES
    faults = Faults(write, stage, Crash())
    steps = Steps(tmp_path / "node.db", faults)
    faults.armed = True
    crashed = 0
    answers = []
    for step in steps.all():
        try:
            answers.append(step())
        except Crash:
            crashed += 1
            steps.node.store.close()
            steps.start()
            answers.append(step())
    assert crashed == 1
    assert answers == expected
    assert _what(steps.node) == recorded
    run = steps.node.store.run(RUN_ID)
    assert run is not None
    assert (run.status, run.secret) == ("succeeded", None)
    assert len(steps.node.store.owed()) == 1
    assert steps.node.store.highest_round(RUN_ID) == 2


@pytest.mark.parametrize("write", range(2, WRITES))
def test_a_full_disk_is_a_refusal_and_nothing_is_half_written(tmp_path: Path, write: int) -> None:
    expected, _ = _undisturbed(tmp_path / "reference.db")
    faults = Faults(write, "before-commit", sqlite3.OperationalError("disk full"), times=100)
    steps = Steps(tmp_path / "node.db", faults)
    faults.armed = True
    for number, step in enumerate(steps.all()):
        if number == write:
            with pytest.raises(CohortiumError):
                step()
            assert len(_what(steps.node)) == number
            faults.armed = False
        answer = step()
        # The admission that failed had drawn a secret that nobody ever saw; a new one is as good.
        assert write == ADMISSION or answer == expected[number]


def test_without_its_journal_a_node_answers_nothing(tmp_path: Path) -> None:
    steps = Steps(tmp_path / "node.db", lambda _stage: None)
    actions = steps.all()
    for action in actions[:4]:
        action()
    steps.node.store.execute("DROP TABLE journal")
    with pytest.raises(CohortiumError):
        actions[4]()
    assert steps.node.store.highest_round(RUN_ID) == 0


# What was told of whom


HALF = Selection(include=("age < 16 OR age >= 20",))
COMPARED = "c" * 32


class ComparedSteps(Steps):
    """A run over everybody, and one over a cohort that is compared with it."""

    def __init__(self, path: Path, faults: Callable[[Stage], None]) -> None:
        super().__init__(path, faults)
        self.contract = self.world.contract(cohort=Cohort(adjustable=("age",)))
        for name in ("Beta", "Gamma"):
            self.world.agree(self.world.nodes[name], self.contract)
        self.world.agree(self.node, self.contract)
        self.request = self.world.request(self.contract, run_id="a" * 32)
        self.second = self.world.request(self.contract, run_id=COMPARED, cohort=HALF)
        self.rosters: dict[str, list[bytes]] = {}

    def told(self) -> list[tuple[object, ...]]:
        return self.node.store.execute("SELECT key, body FROM released ORDER BY run_id")

    def prepare(self, request: RunRequest) -> bytes:
        mine, *others = (
            self.world.nodes[site].ask(self.world.prepare(request)).run_advert
            for site in ("Alpha", "Beta", "Gamma")
        )
        self.rosters[request.run_id] = [one.envelope for one in (mine, *others)]
        return b"".join(one.key.encode() for one in mine.released)

    def screen(self) -> State:
        return Screen(5, (Release(str(self.told()[0][0]), 1),)).to_state()

    def compared(self) -> State:
        numbers = np.array([0, 5, 5, 5])
        return State({"round": 1}, {SCREENED: numbers})

    def round(self, request: RunRequest, number: int, state: State) -> bytes:
        message = round_request(request, self.rosters[request.run_id], number)
        put_state(state, message.round_request)
        return self.ask(message)

    def all(self) -> list[Callable[[], bytes]]:
        first = State({"round": 1})
        return [
            lambda: self.prepare(self.request),
            lambda: self.round(self.request, 1, first),
            lambda: self.prepare(self.second),
            lambda: self.round(self.second, 1, self.screen()),
            lambda: self.round(self.second, 2, self.compared()),
        ]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("write", range(5))
def test_a_crash_neither_forgets_whom_a_site_told_of_nor_tells_before(
    tmp_path: Path, write: int, stage: Stage
) -> None:
    reference = ComparedSteps(tmp_path / "reference.db", lambda _stage: None)
    expected = [step() for step in reference.all()]
    assert [len(ComparedSteps.told(reference)), len(expected[2])] == [2, 71]
    faults = Faults(write, stage, Crash())
    steps = ComparedSteps(tmp_path / "node.db", faults)
    faults.armed = True
    answers = []
    for number, step in enumerate(steps.all()):
        before = len(steps.told())
        try:
            answers.append(step())
        except Crash:
            steps.node.store.close()
            steps.start()
            durable = stage == "after-commit" and number in {1, 4}
            assert len(steps.told()) == before + durable
            answers.append(step())
    # The secrets of admissions that failed are other ones: the masked answers are not compared.
    assert answers[2] == expected[2]
    assert steps.told() == reference.told()


def test_who_was_told_of_is_not_told_of_with_one_fewer_after_a_crash(tmp_path: Path) -> None:
    faults = Faults(1, "after-commit", Crash())
    steps = ComparedSteps(tmp_path / "node.db", faults)
    first, second, third, compare, _ = steps.all()
    first()
    faults.armed, faults._left = True, 0
    with pytest.raises(Crash):
        second()
    steps.node.store.close()
    steps.start()
    third()
    compare()
    forged = State({"round": 1}, {SCREENED: np.array([0, 1, 5, 5])})
    with pytest.raises(CohortiumError) as caught:
        steps.round(steps.second, 2, forged)
    assert caught.value.code == "differencing"
