"""Outputs of tasks as enclaves send them: files of ciphertext, named by digest of slot and path."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from cohortium.contract.task import Task
from cohortium.enclave.exchange import MOST_FILES, PIECE_BYTES, LentFile, Made
from cohortium.errors import InputError, PolicyRefusal, ProtocolError, VerificationError
from cohortium.hub.blobs import Place

_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_HEADER_BYTES: Final = 1024
_RECIPIENT_BYTES: Final = 1200
"""Of a vault file; its chunks add less than a hundredth."""
_READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class Room:
    """How much ciphertext a run may leave here: so much, and so much more for each file."""

    least_bytes: int
    file_bytes: int
    most_bytes: int

    @classmethod
    def of(cls, task: Task, most_bytes: int) -> Room:
        """Of a run of a task; the limits of one whose contract sets none are its program's."""
        a_file = _HEADER_BYTES + _RECIPIENT_BYTES * (len(task.readers) + 1)
        if task.limits is None:
            return cls(most_bytes, 0, most_bytes)
        plain = task.limits.disk_bytes + task.limits.log_bytes
        return cls(plain + plain // 64, a_file, most_bytes)

    def suffices(self, n_files: int, n_bytes: int) -> bool:
        """Whether so many files of so many bytes together are within it."""
        most = min(self.least_bytes + n_files * self.file_bytes, self.most_bytes)
        return n_files <= MOST_FILES and n_bytes <= most


@dataclass
class _Held:
    """What is here of a run."""

    sizes: dict[str, int] = field(default_factory=dict)
    total: int = 0

    def put(self, name: str, size: int) -> None:
        self.total += size - self.sizes.get(name, 0)
        self.sizes[name] = size

    def drop(self, name: str) -> None:
        self.total -= self.sizes.pop(name)


class Outputs:
    """Pieces may come twice, after a lost answer; durable once `settle` has returned."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._held: dict[str, _Held] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def _folder(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise RuntimeError("not a run id")
        return self._place.path / run_id

    def file(self, run_id: str, slot: str, path: str) -> Path:
        """Where the file of that path of an output is."""
        return self._folder(run_id) / _name(slot, path)

    def _known(self, run_id: str) -> _Held:
        if run_id not in self._held:
            held, folder = _Held(), self._folder(run_id)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for one in folder.iterdir():
                held.put(one.name, one.stat().st_size)
            self._held[run_id] = held
        return self._held[run_id]

    def write(
        self, run_id: str, slot: str, path: str, offset: int, data: bytes, *, room: Room
    ) -> None:
        """Take a piece; what is before it is here.

        Raises:
            ProtocolError: ``malformed-message`` for a piece that does not join, or is too long.
            PolicyRefusal: ``task-output`` where it is more than the run may leave.
        """
        if len(data) > PIECE_BYTES:
            raise ProtocolError("malformed-message", "A piece of an output is too long.")
        with self._locks[run_id]:
            held, name = self._known(run_id), _name(slot, path)
            before = held.sizes.get(name, 0)
            if offset > before:
                raise ProtocolError("malformed-message", "A piece of an output is missing.")
            size = max(before, offset + len(data))
            n_files = len(held.sizes) + (name not in held.sizes)
            if not room.suffices(n_files, held.total - before + size):
                raise PolicyRefusal(
                    "task-output", "The task's outputs are more than the contract's limits allow."
                )
            place = self._folder(run_id) / name
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                view = memoryview(data)
                while view:
                    done = os.pwrite(descriptor, view, offset)
                    view, offset = view[done:], offset + done
            finally:
                os.close(descriptor)
            held.put(name, size)

    def settle(self, run_id: str, made: Iterable[Made]) -> None:
        """The outputs are these: each is here as it was signed; whatever else came goes.

        Raises:
            VerificationError: ``bad-digest``.
        """
        with self._locks[run_id]:
            held, folder = self._known(run_id), self._folder(run_id)
            named = {_name(one.slot, file.path): file for one in made for file in one.files.files}
            for name, file in named.items():
                _check(folder / name, file)
                held.put(name, file.size_bytes)
            for name in held.sizes.keys() - named.keys():
                (folder / name).unlink(missing_ok=True)
                held.drop(name)
            _sync(folder)

    def read(self, run_id: str, slot: str, path: str, offset: int) -> tuple[bytes, int]:
        """A piece of a file, and the size of all of it.

        Raises:
            InputError: ``not-found``.
        """
        try:
            with self.file(run_id, slot, path).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(min(offset, size))
                return file.read(PIECE_BYTES), size
        except FileNotFoundError as error:
            raise InputError("not-found", f"The run has no such file of {slot}.") from error

    def drop(self, run_id: str) -> None:
        """Delete what came of a run."""
        with self._locks[run_id]:
            self._held.pop(run_id, None)
            shutil.rmtree(self._folder(run_id), ignore_errors=True)
        self._locks.pop(run_id, None)


def _name(slot: str, path: str) -> str:
    return sha256(f"{slot}\0{path}".encode()).hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(place: Path, file: LentFile) -> None:
    """The file is as it was signed, and on the disk."""
    wrong = VerificationError(
        "bad-digest", "An output that came from the enclave is not the one that it signed."
    )
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise wrong from error
    try:
        if os.fstat(descriptor).st_size > file.size_bytes:  # it was begun anew
            os.ftruncate(descriptor, file.size_bytes)
        found, size = sha256(), 0
        while data := os.pread(descriptor, _READ_BYTES, size):
            found.update(data)
            size += len(data)
        if size != file.size_bytes or f"sha256:{found.hexdigest()}" != file.content_digest:
            raise wrong
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
