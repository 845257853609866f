"""A node dies at any write of a release; who asks again gets the same keys, and nobody else any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.builders import RUN_ID, Node, run_end
from tests.support.lending import AskingEnclave, LendingWorld, fetch, run_key

from cohortium.contract.model import Contract, RunRequest
from cohortium.core.canonical import digest_bytes
from cohortium.errors import CohortiumError
from cohortium.node import journal
from cohortium.node.store import NodeStore, Stage

STAGES: tuple[Stage, ...] = ("before-commit", "after-commit")


class Crash(BaseException):
    """The process is gone."""


class Lender:
    """Alpha on a file, with a contract, and what an enclave asks of it."""

    def __init__(self, root: Path) -> None:
        self.world = LendingWorld(root=root)
        self._path = root / "node.db"
        self.node = self.start()
        self.contract: Contract = self.world.agreed()
        self.order: RunRequest = self.world.order(self.contract)

    def start(self, fault: Callable[[Stage], None] = lambda _stage: None) -> Node:
        """The node's process, on its files."""
        store = NodeStore(self._path, clock=self.world.clock, fault=fault)
        self.node = self.world.lender("Alpha", store=store)
        return self.node

    def ask(self, session: str, recipient: int = 1) -> bytes:
        """A whole session; the release."""
        asking = AskingEnclave(
            self.world, self.contract, self.order, run_key(recipient), session=session * 32
        )
        return bytes(asking.ask(self.node).last.release)

    def releases(self) -> list[bytes]:
        return [row for (row,) in self.node.store.execute("SELECT release FROM task_releases")]


def _crash_at(stage: Stage) -> Callable[[Stage], None]:
    def fault(reached: Stage) -> None:
        if reached == stage:
            raise Crash

    return fault


@pytest.mark.parametrize("stage", STAGES)
def test_a_release_is_durable_before_it_leaves_and_is_given_again(
    tmp_path: Path, stage: Stage
) -> None:
    lender = Lender(tmp_path)
    lender.start(_crash_at(stage))
    with pytest.raises(Crash):
        lender.ask("a")
    lender.start()
    kept = lender.releases()
    assert len(kept) == (stage == "after-commit")
    run = lender.node.store.run(RUN_ID)
    assert (run is not None) == bool(kept)
    if kept:  # nobody has seen the keys, and still they are for that key alone
        with pytest.raises(CohortiumError) as caught:
            lender.ask("b", recipient=2)
        assert caught.value.code == "replayed"
    again = lender.ask("c")
    assert lender.releases() == [again]
    assert not kept or kept == [again]
    assert lender.node.store.has_said("evidence", digest_bytes(again))
    assert fetch(lender.node, RUN_ID, "images", "one.png").size
    assert len(lender.node.decisions(what="keys", allowed=True)) == 1
    journal.check_chain(lender.node.store)


def test_a_crash_before_a_release_leaves_the_key_open(tmp_path: Path) -> None:
    lender = Lender(tmp_path)
    lender.start(_crash_at("before-commit"))
    with pytest.raises(Crash):
        lender.ask("a")
    lender.start()
    lender.ask("b", recipient=2)
    with pytest.raises(CohortiumError) as caught:
        lender.ask("c", recipient=1)
    assert caught.value.code == "replayed"
    assert len(lender.releases()) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_the_end_of_a_run_survives_a_crash_or_is_told_again(tmp_path: Path, stage: Stage) -> None:
    lender = Lender(tmp_path)
    lender.ask("a")
    lender.start(_crash_at(stage))
    with pytest.raises(Crash):
        lender.node.ask(run_end(lender.order, "succeeded"))
    lender.start()
    lender.node.ask(run_end(lender.order, "succeeded"))
    assert [one["outcome"] for one in lender.node.decisions(what="end")] == ["succeeded"]
    with pytest.raises(CohortiumError):
        lender.ask("b")
