"""Asking one node for its cosignature: what a node that lies about its size can make the hub do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from tests.support.fake_sites import NOW, key

from cohortium.hub import witnesses as witnesses_module
from cohortium.hub.ledger_notes import note
from cohortium.hub.ledger_store import Log
from cohortium.hub.store import HubStore
from cohortium.hub.witnesses import Round, Witnesses
from cohortium.ledger.entry import PolicyChanged
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.ports import Request

LOG = Log("Test", "sha256:" + "5a" * 32, key("ledger"))
MOST = 100
"""Messages after which a test gives up."""


class Peer:
    """A node that says it has so many entries, by the place and number of those it is shown."""

    def __init__(self, says: Callable[[int, int, int], int]) -> None:
        self.says = says
        self.shown: list[tuple[int, int]] = []

    def connected(self) -> frozenset[str]:
        return frozenset({"Alpha"})

    def cut(self, site: str) -> None:
        raise NotImplementedError

    async def request(self, site: str, message: Request, timeout_s: float) -> Message:
        assert isinstance(message, Message)
        if len(self.shown) == MOST:
            raise RuntimeError("the hub does not stop")
        update = message.ledger_update
        end = update.start + len(update.entries)
        self.shown.append((update.start, end))
        reply = Message()
        reply.cosignature.size = self.says(len(self.shown), update.start, end)
        return reply


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStore]:
    """A ledger of 31 entries, which are shown ten at a time."""
    monkeypatch.setattr(witnesses_module, "MAX_ENTRIES", 10)
    made = HubStore("sqlite://")
    with made._database.write() as c:
        for number in range(30):
            note(c, PolicyChanged(member="Alpha", policy=f"sha256:{number:064x}"))
    made.ledger.append(LOG, NOW)
    yield made
    made.close()


def ask(store: HubStore, peer: Peer) -> bool:
    newest = store.ledger.newest()
    assert newest is not None
    asked = Round(newest.size, newest.note, {"Alpha": key("Alpha").public}, newest.size, [])
    witnesses = Witnesses(store.ledger, LOG, peer, lambda: NOW)
    return asyncio.run(witnesses.ask("Alpha", asked, None))


def test_a_node_that_has_nothing_is_shown_everything_in_parts(store: HubStore) -> None:
    peer = Peer(lambda _, start, end: 0 if start == 31 else end)
    assert not ask(store, peer)  # it does not sign
    assert peer.shown == [(31, 31), (0, 10), (10, 20), (20, 30), (30, 31)]


@pytest.mark.parametrize(
    "says",
    [
        lambda number, start, end: (5, 17)[number % 2],
        lambda number, start, end: 0 if start >= 10 else end,
        lambda number, start, end: max(0, start - 1),
        lambda number, start, end: min(start + 1, 30),
    ],
    ids=["to and fro", "back to the beginning", "one back", "one at a time"],
)
def test_a_node_that_changes_its_mind_is_left_alone(
    store: HubStore, says: Callable[[int, int, int], int]
) -> None:
    peer = Peer(says)
    assert not ask(store, peer)
    assert len(peer.shown) <= 5
