"""Outputs of tasks as enclaves send them: one encrypted archive for each slot of a run."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

from cohortium.contract.task import Task
from cohortium.enclave.exchange import PIECE_BYTES, Made
from cohortium.errors import InputError, PolicyRefusal, ProtocolError, VerificationError
from cohortium.hub.blobs import Place
from cohortium.vault.header import MAX_BYTES as HEADER_BYTES

_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_SLOT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_ARCHIVE_BYTES: Final = 100 * 1024 * 1024
"""What an archive has besides its files' contents: a kilobyte for each of a hundred thousand."""
_LEAST_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 1024 * 1024


def room(task: Task, most_bytes: int) -> int:
    """How much ciphertext a run may leave here.

    Args:
        most_bytes: Whatever the contract says. Where it sets no limits, a program's own count,
            which its archive says to the enclave.
    """
    if task.limits is None:
        return most_bytes
    plain = task.limits.disk_bytes + task.limits.log_bytes + _ARCHIVE_BYTES
    padded = plain + plain // 8 + plain // 64  # of the archive, and of its chunks
    return min(most_bytes, padded + (len(task.outputs) + 1) * (_LEAST_BYTES + HEADER_BYTES))


class Outputs:
    """Pieces may come twice, after a lost answer; durable once `settle` has returned."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sizes: dict[str, dict[str, int]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def _folder(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise RuntimeError("not a run id")
        return self._place.path / run_id

    def file(self, run_id: str, slot: str) -> Path:
        """Where an output is, or would be.

        Raises:
            InputError: ``not-found`` for what is no slot's name.
        """
        if not _SLOT.fullmatch(slot):
            raise InputError("not-found", "The run has no such output.")
        return self._folder(run_id) / f"{slot}.vault"

    def _known(self, run_id: str) -> dict[str, int]:
        if run_id not in self._sizes:
            folder = self._folder(run_id)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sizes[run_id] = {one.name: one.stat().st_size for one in folder.iterdir()}
        return self._sizes[run_id]

    def write(self, run_id: str, slot: str, offset: int, data: bytes, *, most_bytes: int) -> None:
        """Take a piece; what is before it is here.

        Args:
            most_bytes: Of all outputs of the run together.

        Raises:
            ProtocolError: ``malformed-message`` for a piece that does not join, or is too long.
            PolicyRefusal: ``task-output`` where it is more than the run may leave.
        """
        if len(data) > PIECE_BYTES:
            raise ProtocolError("malformed-message", "A piece of an output is too long.")
        place = self.file(run_id, slot)
        with self._locks[run_id]:
            sizes = self._known(run_id)
            before = sizes.get(place.name, 0)
            if offset > before:
                raise ProtocolError("malformed-message", "A piece of an output is missing.")
            size = max(before, offset + len(data))
            if sum(sizes.values()) - before + size > most_bytes:
                raise PolicyRefusal(
                    "task-output", "The task's outputs are more than the contract's limits allow."
                )
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                view = memoryview(data)
                while view:
                    done = os.pwrite(descriptor, view, offset)
                    view, offset = view[done:], offset + done
            finally:
                os.close(descriptor)
            sizes[place.name] = size

    def settle(self, run_id: str, made: Iterable[Made]) -> None:
        """The outputs are these: each is here as it was signed; whatever else came goes.

        Raises:
            VerificationError: ``bad-digest``.
        """
        with self._locks[run_id]:
            sizes, folder = self._known(run_id), self._folder(run_id)
            named = {self.file(run_id, one.slot).name: one for one in made}
            for name, one in named.items():
                _check(folder / name, one)
                sizes[name] = one.size_bytes
            for name in sizes.keys() - named.keys():
                (folder / name).unlink(missing_ok=True)
                del sizes[name]
            _sync(folder)

    def read(self, run_id: str, slot: str, offset: int) -> tuple[bytes, int]:
        """A piece of an output, and the size of all of it.

        Raises:
            InputError: ``not-found``.
        """
        try:
            with self.file(run_id, slot).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(min(offset, size))
                return file.read(PIECE_BYTES), size
        except FileNotFoundError as error:
            raise InputError("not-found", "The run has no such output.") from error

    def drop(self, run_id: str) -> None:
        """Delete what came of a run."""
        with self._locks[run_id]:
            self._sizes.pop(run_id, None)
            shutil.rmtree(self._folder(run_id), ignore_errors=True)
        self._locks.pop(run_id, None)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(place: Path, made: Made) -> None:
    """The output is as it was signed, and on the disk."""
    wrong = VerificationError(
        "bad-digest", "An output that came from the enclave is not the one that it signed."
    )
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise wrong from error
    try:
        if os.fstat(descriptor).st_size > made.size_bytes:  # it was begun anew
            os.ftruncate(descriptor, made.size_bytes)
        found, size = sha256(), 0
        while data := os.pread(descriptor, _READ_BYTES, size):
            found.update(data)
            size += len(data)
        if size != made.size_bytes or f"sha256:{found.hexdigest()}" != made.content_digest:
            raise wrong
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
