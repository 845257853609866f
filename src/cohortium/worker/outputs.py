"""Outputs, encrypted for their recipients as they leave the sandbox, and sent on piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cohortium.contract.task import LOG_SLOT
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.exchange import PIECE_BYTES, Made
from cohortium.enclave.output_archive import ArchivedOutputs, Out
from cohortium.link._generated import link_pb2 as pb
from cohortium.vault.writer import VaultWriter
from cohortium.worker.admission import TaskOrder
from cohortium.worker.hub_calls import HubCalls

LOG_FILE = "log.txt"


class EncryptedOutputs:
    """See `cohortium.enclave.job.Sink`. What the contract does not name is dropped.

    Args:
        signer: The enclave's key, which its signed outcome names.
        moved: Told of the bytes that were sent.
    """

    def __init__(
        self, order: TaskOrder, signer: SigningKey, calls: HubCalls, moved: Callable[[int], None]
    ) -> None:
        task = order.admitted.task
        self._run_id = order.run_id
        self._outputs = tuple(slot.name for slot in task.outputs)
        self._recipients = {slot.name: order.keys_of(slot.recipients) for slot in task.outputs}
        if task.log_recipients:
            self._recipients[LOG_SLOT] = order.keys_of(task.log_recipients)
        self._signer = signer
        self._calls = calls
        self._moved = moved
        self._open: list[VaultWriter] = []
        self._made: list[Made] = []
        self._archive = ArchivedOutputs(self._opened)

    def begin(self, slot: str, path: str, size_bytes: int) -> None:
        """See `Sink`."""
        self._archive.begin(slot, path, size_bytes)

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._archive.write(data)

    def end(self) -> None:
        """See `Sink`."""
        self._archive.end()

    def close(self, log: bytes, *, succeeded: bool) -> tuple[Made, ...]:
        """All that was sent: the contract's outputs where it succeeded, and what it printed, where
        the contract gives that to somebody.
        """
        if LOG_SLOT in self._recipients:
            self.begin(LOG_SLOT, LOG_FILE, len(log))
            self.write(log)
            self.end()
        self._archive.close(self._outputs if succeeded else ())
        self._open.clear()
        return tuple(sorted(self._made, key=lambda one: one.slot))

    def discard(self) -> None:
        """Give up what is not whole; the hub drops what no outcome names."""
        for writer in self._open:
            writer.discard()
        self._open.clear()

    def _opened(self, slot: str) -> Out:
        recipients = self._recipients.get(slot)
        if recipients is None:
            return _Dropped()
        upload = _Upload(self._run_id, slot, self._calls, self._moved, self._made.append)
        self._open.append(VaultWriter(upload, recipients, self._signer))
        return self._open[-1]


class _Dropped:
    def write(self, data: bytes, /) -> None:
        pass

    def close(self) -> None:
        pass


class _Upload:
    """A vault file on its way to the hub; see `cohortium.vault.storage.Sink`."""

    parallel = False

    def __init__(
        self,
        run_id: str,
        slot: str,
        calls: HubCalls,
        moved: Callable[[int], None],
        made: Callable[[Made], None],
    ) -> None:
        self._run_id, self._slot = run_id, slot
        self._calls, self._moved, self._made = calls, moved, made
        self._pending = bytearray()
        self._offset = 0
        self._digest = hashlib.sha256()

    def write_at(self, offset: int, data: memoryview) -> None:
        """See `Sink`."""
        if offset != self._offset + len(self._pending):
            raise RuntimeError("an output is written in order")
        self._pending += data
        while len(self._pending) >= PIECE_BYTES:
            self._send(PIECE_BYTES)

    def commit(self) -> None:
        """See `Sink`."""
        if self._pending:
            self._send(len(self._pending))
        digest = f"sha256:{self._digest.hexdigest()}"
        self._made(Made(slot=self._slot, size_bytes=self._offset, content_digest=digest))

    def discard(self) -> None:
        """See `Sink`."""
        self._pending.clear()

    def _send(self, size: int) -> None:
        data = bytes(self._pending[:size])
        del self._pending[:size]
        self._digest.update(data)
        message = pb.TaskOutput(
            run_id=self._run_id, slot=self._slot, offset=self._offset, data=data
        )
        self._calls.patiently(lambda: self._calls.ask(pb.Message(task_output=message), "ack"))
        self._offset += size
        self._moved(size)
