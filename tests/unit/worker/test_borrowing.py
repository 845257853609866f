"""An enclave that asks a real node for its keys, over a hub that loses or repeats answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest
from tests.support.lending import ENCLAVE, LendingWorld, run_key

from cohortium.contract.check import AdmittedTask
from cohortium.errors import CohortiumError, PeerError, VerificationError
from cohortium.link._generated import link_pb2 as pb
from cohortium.vault.keys import PrivateKey
from cohortium.worker.admission import TaskOrder
from cohortium.worker.folder import Identity
from cohortium.worker.hub_calls import HubCalls
from cohortium.worker.lending import Borrower

T = TypeVar("T")


class Hub:
    """Carries messages to Alpha's node, and loses the first answers that have a release."""

    def __init__(self, world: LendingWorld, loses: int = 0) -> None:
        self.node = world.nodes["Alpha"]
        self.loses = loses
        self.releases: list[bytes] = []

    def patiently(self, ask: Callable[[], T]) -> T:
        while True:
            try:
                return ask()
            except PeerError:
                continue

    def ask(self, message: pb.Message, _body: str) -> pb.Message:
        reply = self.node.ask(message)
        if reply.task_channel.release:
            self.releases.append(reply.task_channel.release)
            if len(self.releases) <= self.loses:
                raise PeerError("peer-timeout", "The answer was lost.")
        return reply


def borrower(world: LendingWorld, hub: Hub, recipient: PrivateKey) -> Borrower:
    contract = world.task_contract()
    request = world.order(contract)
    task = contract.task_of(request.computation)
    assert task is not None
    admitted = AdmittedTask(contract, task, task.bound(request.params), contract.level_of(task))
    order = TaskOrder(request, request.sign(world.researcher), admitted, {}, {})
    return Borrower(
        order,
        Identity(ENCLAVE, contract.consortium, world.enclave),
        executor="landlock",
        recipient=recipient.public,
        attest=None,
        calls=cast("HubCalls", hub),
        clock=world.clock,
    )


def test_keys_whose_answer_was_lost_are_had_in_a_new_session(tmp_path: Path) -> None:
    world = LendingWorld(root=tmp_path)
    world.agreed()
    hub = Hub(world, loses=2)
    lent = borrower(world, hub, run_key()).borrow("Alpha")
    assert hub.releases == [lent.release] * 3
    assert set(lent.inputs) == {"images"}


def test_a_release_for_an_offer_of_nobody_here_is_refused(tmp_path: Path) -> None:
    world = LendingWorld(root=tmp_path)
    world.agreed()
    hub = Hub(world)
    borrower(world, hub, run_key()).borrow("Alpha")
    with pytest.raises(VerificationError) as caught:
        borrower(world, hub, run_key()).borrow("Alpha")  # the same key, and never this offer
    assert "offer" in caught.value.message
    with pytest.raises(CohortiumError) as refused:
        borrower(world, hub, run_key(2)).borrow("Alpha")
    assert refused.value.code == "replayed"
