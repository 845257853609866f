"""Ciphertext of what was lent, by its SHA-256, within a limit: runs on the same data fetch it once.

Nothing here is secret or trusted: a file counts only where its digest, computed when it is used, is
the one that the contract binds.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cohortium.enclave.exchange import PIECE_BYTES, LentFile
from cohortium.errors import InputError, ProtocolError, VerificationError
from cohortium.vault.header import FIXED_BYTES, announced_bytes
from cohortium.vault.header import MAX_BYTES as MAX_HEADER_BYTES

_PART: Final = ".part"
_CHUNK_BYTES: Final = 1 << 20

Fetch = Callable[[int], tuple[bytes, int]]
"""From an offset on: the next bytes, and the size of the whole file."""
Moved = Callable[[int], None]


@dataclass(frozen=True)
class Ciphertext:
    """A file of the cache, whose digest was right.

    Attributes:
        head: Its header, as it was verified.
    """

    path: Path
    size_bytes: int
    head: bytes


class CiphertextCache:
    """The files in a folder.

    Args:
        most_bytes: Of all files together.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._in_use: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self._fetching: dict[str, threading.Lock] = {}

    def reserve(self, files: Iterable[LentFile]) -> None:
        """Make room for a run's files, which stay until `release`.

        Raises:
            InputError: ``too-large``: they do not fit beside those of the runs under way.
        """
        wanted = {one.content_digest: one.size_bytes for one in files}
        with self._lock:
            held = {digest: self._sizes[digest] for digest in self._in_use}
            if sum((held | wanted).values()) > self._most_bytes:
                raise InputError(
                    "too-large",
                    f"The inputs have {sum(wanted.values())} bytes, for which the enclave has no "
                    "room now; its operator can raise max_cache_bytes in enclave.toml.",
                )
            self._make_room(held | wanted)
            self._in_use.update(wanted.keys())
            self._sizes |= wanted

    def release(self, files: Iterable[LentFile]) -> None:
        """A run needs its files no longer."""
        with self._lock:
            self._in_use -= Counter({one.content_digest for one in files})
            self._sizes = {digest: self._sizes[digest] for digest in self._in_use}

    def file(self, wanted: LentFile, fetch: Fetch, moved: Moved) -> Ciphertext:
        """A reserved file, from here or from its owner; what came of it before is not asked again.

        Args:
            moved: Told of the bytes that are there, as they come.

        Raises:
            VerificationError: ``bad-digest``: its owner sent another.
            ProtocolError: ``malformed-message``.
        """
        with self._lock:
            one_at_a_time = self._fetching.setdefault(wanted.content_digest, threading.Lock())
        with one_at_a_time:
            place = self._place(wanted.content_digest)
            if place.exists():
                if (found := _verified(place, wanted)) is not None:
                    os.utime(place)
                    moved(wanted.size_bytes)
                    return found
                place.unlink()
            part = place.with_name(place.name + _PART)
            begun = part.exists()
            self._fetch(part, wanted, fetch, moved)
            found = _verified(part, wanted)
            if found is None and begun:  # another lender may have sent that part for this digest
                part.unlink()
                self._fetch(part, wanted, fetch, moved)
                found = _verified(part, wanted)
            if found is None:
                part.unlink()
                raise VerificationError(
                    "bad-digest", "A file that came is not the one that the contract names."
                )
            part.replace(place)
            return Ciphertext(place, found.size_bytes, found.head)

    def _fetch(self, part: Path, wanted: LentFile, fetch: Fetch, moved: Moved) -> None:
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
            at = file.seek(0, os.SEEK_END)
            if at > wanted.size_bytes:
                at = file.truncate(0)
                file.seek(0)
            moved(at)
            while at < wanted.size_bytes:
                data, size = fetch(at)
                if size != wanted.size_bytes or not 0 < len(data) <= PIECE_BYTES:
                    raise ProtocolError("malformed-message", "A lender sends another file.")
                if at + len(data) > size:
                    raise ProtocolError("malformed-message", "A lender sends more than the file.")
                file.write(data)
                at += len(data)
                moved(len(data))

    def _make_room(self, needed: dict[str, int]) -> None:
        """Remove what was not used for longest, until everything needed fits."""
        unneeded = [
            path
            for path in self._folder.glob("??/*")
            if f"sha256:{path.name.removesuffix(_PART)}" not in needed
        ]
        others = [(path.stat().st_mtime_ns, path.stat().st_size, path) for path in unneeded]
        total = sum(needed.values()) + sum(size for _, size, _ in others)
        for _, size, path in sorted(others):
            if total <= self._most_bytes:
                return
            path.unlink()
            total -= size

    def _place(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name


def _verified(path: Path, wanted: LentFile) -> Ciphertext | None:
    found = hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
        found.update(head)
        while part := file.read(_CHUNK_BYTES):
            found.update(part)
        size = file.tell()
    if f"sha256:{found.hexdigest()}" != wanted.content_digest:
        return None
    if size != wanted.size_bytes:  # intact, perhaps in use by another lender's run: it stays
        raise VerificationError("bad-digest", "A lender names another size than the file's.")
    return Ciphertext(path, size, _header(head))


def _header(head: bytes) -> bytes:
    """No more than that is kept in memory: there may be a hundred thousand small files."""
    try:
        return head[: announced_bytes(head[:FIXED_BYTES])]
    except VerificationError:
        return head[:FIXED_BYTES]  # no vault file; who opens it refuses it
