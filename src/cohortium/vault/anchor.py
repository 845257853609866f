"""Which version of a file was the last: an old version put back, or another file, is noticed.

A vault file verifies for ever. That it is the present one, only a memory outside the storage can
say: `FileAnchor` on one's own machine, later the consortium's ledger.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cohortium.core.canonical import canonical, parse_json
from cohortium.crypto.files import write_atomically
from cohortium.errors import IntegrityFailure, ProtocolError, VerificationError
from cohortium.vault.header import Header


@dataclass(frozen=True, slots=True)
class Mark:
    """One version of a file: its number, its header's digest and who wrote it."""

    version: int
    digest: bytes
    writer: bytes

    @classmethod
    def of(cls, header: Header) -> Mark:
        """The mark of a verified header."""
        return cls(header.version, header.digest, header.writer)


class Anchor(Protocol):
    """Remembers the highest version of each file, by the file's identity."""

    def latest(self, file_id: bytes) -> Mark | None:
        """What is known of a file."""

    def advance(self, file_id: bytes, mark: Mark) -> None:
        """`judge` what was seen and remember it, in one step; durable on return."""


def judge(known: Mark | None, seen: Mark) -> None:
    """Whether what was seen may follow what is known.

    Raises:
        VerificationError: ``vault-rollback`` or ``unknown-signer``.
    """
    # 1. Known at all. 2. By the same writer. 3. Not older. 4. One content for one version.
    if known is None:  # 1
        return
    if seen.writer != known.writer:  # 2
        raise VerificationError(
            "unknown-signer",
            "The file was written with another key than the versions known here; if that is "
            "right, ask its writer and forget the old mark.",
        )
    if seen.version < known.version:  # 3
        raise VerificationError(
            "vault-rollback",
            f"The file is at version {seen.version}, but version {known.version} was seen before: "
            "an old version was put back.",
            version=seen.version,
            known=known.version,
        )
    if seen.version == known.version and seen.digest != known.digest:  # 4
        raise VerificationError(
            "vault-rollback",
            f"There are two different versions {seen.version} of this file.",
            version=seen.version,
        )


def commit_and_advance(
    anchor: Anchor, file_id: bytes, mark: Mark, commit: Callable[[], None]
) -> None:
    """Put a version in its place and remember it, unless another writer was quicker.

    In one step where the anchor has an ``exclusive``: two writers at the same time would else both
    find that they may, and leave the file of one and the mark of the other.
    """
    exclusive = getattr(anchor, "exclusive", None)
    if exclusive is not None:
        with exclusive() as advance:
            judge(anchor.latest(file_id), mark)
            commit()
            advance(file_id, mark)
        return
    judge(anchor.latest(file_id), mark)
    commit()
    anchor.advance(file_id, mark)


class MemoryAnchor:
    """For one process."""

    def __init__(self) -> None:
        self._marks: dict[bytes, Mark] = {}
        self._lock = threading.Lock()

    def latest(self, file_id: bytes) -> Mark | None:
        """See `Anchor`."""
        return self._marks.get(file_id)

    def advance(self, file_id: bytes, mark: Mark) -> None:
        """See `Anchor`."""
        with self._lock:
            self._advance(file_id, mark)

    @contextmanager
    def exclusive(self) -> Iterator[Callable[[bytes, Mark], None]]:
        """Let nobody else advance; gives `advance` for within."""
        with self._lock:
            yield self._advance

    def _advance(self, file_id: bytes, mark: Mark) -> None:
        judge(self._marks.get(file_id), mark)
        self._marks[file_id] = mark


class FileAnchor:
    """A JSON file on one's own machine, not beside the vault; for any number of processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def latest(self, file_id: bytes) -> Mark | None:
        """See `Anchor`."""
        return self._read().get(file_id)

    def advance(self, file_id: bytes, mark: Mark) -> None:
        """See `Anchor`."""
        with self._locked():
            self._advance(file_id, mark)

    @contextmanager
    def exclusive(self) -> Iterator[Callable[[bytes, Mark], None]]:
        """Let no other thread or process advance; gives `advance` for within."""
        with self._locked():
            yield self._advance

    def _advance(self, file_id: bytes, mark: Mark) -> None:
        marks = self._read()
        judge(marks.get(file_id), mark)
        if marks.get(file_id) != mark:
            self._write({**marks, file_id: mark})

    def forget(self, file_id: bytes) -> None:
        """Begin anew with a file: the next version seen is believed."""
        with self._locked():
            self._write({known: mark for known, mark in self._read().items() if known != file_id})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self) -> dict[bytes, Mark]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return {bytes.fromhex(key): _mark(value) for key, value in parse_json(data).items()}
        except (ProtocolError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise IntegrityFailure(
                "broken-store", f"{self._path} is damaged; restore it from a backup."
            ) from error

    def _write(self, marks: Mapping[bytes, Mark]) -> None:
        value = {
            file_id.hex(): {
                "version": str(mark.version),
                "digest": mark.digest.hex(),
                "writer": mark.writer.hex(),
            }
            for file_id, mark in marks.items()
        }
        write_atomically(self._path, canonical(value) + b"\n")


def _mark(value: Any) -> Mark:
    return Mark(
        int(value["version"]), bytes.fromhex(value["digest"]), bytes.fromhex(value["writer"])
    )
