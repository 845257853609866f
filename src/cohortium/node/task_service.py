"""What the node answers to the hub's messages about tasks: sessions for keys, and ciphertext."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from cohortium.core.clock import Clock
from cohortium.errors import CATALOGUE, PeerError, PolicyRefusal, ProtocolError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import journal, task_runs
from cohortium.node.agreement import Agreements
from cohortium.node.guard import About
from cohortium.node.identity import Identity
from cohortium.node.key_release import KeyRelease
from cohortium.node.lending import Lending
from cohortium.node.policy import PolicySource
from cohortium.node.store import NodeStore, RunStatus, StoredRun
from cohortium.node.task_guard import TaskGuard

Refusals = Callable[[str, About, bytes], AbstractContextManager[None]]
"""Writes a refusal to the journal before it becomes the answer."""


class TaskService:
    """Answers what enclaves ask of this node, by the hub.

    Args:
        lending: What the node lends; None: nothing, and tasks are refused.
        refusals: See `Refusals`.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        store: NodeStore,
        lending: Lending | None,
        agreements: Agreements,
        policy: PolicySource,
        clock: Clock,
        refusals: Refusals,
    ) -> None:
        self._identity = identity
        self._store = store
        self._lending = lending
        self._refusals = refusals
        self._guard = TaskGuard(identity, store, agreements, policy, clock)
        self._keys = (
            None
            if lending is None
            else KeyRelease(
                identity, store, lending=lending, guard=self._guard, policy=policy, clock=clock
            )
        )

    def channel(self, message: pb.TaskChannel) -> pb.Message:
        """The next bytes of a session in which keys are released.

        Raises:
            PeerError: ``link-lost``: the session is not here (any more), and nothing is decided.
            CohortiumError: Why no key is released.
        """
        about: About = {"run_id": message.run_id[:64]}
        asked = self._keys.asked(message) if self._keys else message.request_envelope
        with self._refusals("keys", about, asked):
            if self._keys is None:
                raise _lends_nothing()
            reply = self._keys.answer(message, about)
        if reply is None:
            raise PeerError("link-lost", "This site has no such session any more; begin a new one.")
        return reply

    def fetch(self, message: pb.TaskFetch) -> pb.Message:
        """Ciphertext of what is lent, for a run whose keys were released here."""
        # 1. The run may go on. 2. The slot is one that was released for it. 3. The file is one of
        # those that the contract's digest names.
        about: About = {"slot": message.slot[:64]}
        with self._refusals("fetch", about, b""):
            if self._lending is None:
                raise _lends_nothing()
            if message.site != self._identity.name:
                raise ProtocolError("malformed-message", "That is lent by another site.")
            checked = self._guard.check_begun(message.run_id, about)  # 1
            digest = checked.lent.get(message.slot)
            if digest is None or task_runs.released(self._store, message.run_id) is None:  # 2
                raise PolicyRefusal("not-authorised", "This site released nothing of that slot.")
            lent = self._lending.lent.find(digest)
            data, size = self._lending.lent.piece(lent, message.path, message.offset)  # 3
        return pb.Message(task_piece=pb.TaskPiece(data=data, size=size))

    def end(self, run: StoredRun, outcome: RunStatus, error: str) -> None:
        """The hub says how a run ended. Belongs in a transaction."""
        if task_runs.end(self._store, run, outcome):
            about: About = {
                "run_id": run.run_id,
                "contract": run.contract_digest,
                "computation": run.computation,
                "outcome": outcome,
                "error": error if error in CATALOGUE else None,
            }
            journal.append(self._store, "end", about)

    def forget(self, run_id: str) -> None:
        """Drop what is kept in memory of a run."""
        if self._keys is not None:
            self._keys.forget(run_id)


def _lends_nothing() -> PolicyRefusal:
    return PolicyRefusal("not-permitted", "This site lends nothing.")
