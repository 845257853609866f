"""Programs of tasks, by the digest of their files; those that a contract names stay."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
import weakref
from functools import cached_property
from pathlib import Path
from typing import Final

from cohortium.contract.code import files_of
from cohortium.crypto.files import write_atomically
from cohortium.errors import InputError, PolicyRefusal

UNNAMED_S: Final = 24 * 3600.0
"""How long a program waits for the contract that names it."""
UNNAMED_BYTES: Final = 1024**3
"""Of all programs that wait."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Place:
    """A folder that is made when it is first used; without a path one that goes with its user."""

    def __init__(self, path: Path | None = None) -> None:
        self._given = path

    @cached_property
    def path(self) -> Path:
        """The folder."""
        if self._given is not None:
            self._given.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._given
        made = Path(tempfile.mkdtemp(prefix="cohortium-hub-"))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return made


class Programs:
    """Durable on return of `put` and `keep`; safe from several threads."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._lock = threading.Lock()

    @property
    def _new(self) -> Path:
        return self._place.path / "new"

    @property
    def _kept(self) -> Path:
        return self._place.path / "kept"

    def put(self, digest: str, archive: bytes) -> None:
        """Take the ZIP of a program; one that no contract names within a day is forgotten.

        Raises:
            InputError: ``bad-input`` for what is no digest.
            ProtocolError, VerificationError: See `cohortium.contract.code.files_of`.
            PolicyRefusal: ``too-many-requests`` while too many programs wait for a contract.
        """
        name = _name(digest)
        files_of(archive, digest)
        with self._lock:
            if (self._kept / name).exists():
                return
            waiting = self._sweep(name)
            if waiting + len(archive) > UNNAMED_BYTES:
                raise PolicyRefusal(
                    "too-many-requests",
                    "Too many programs wait for a contract that names them; try again tomorrow.",
                )
            write_atomically(self._new / name, archive, mode=0o600)

    def keep(self, digest: str) -> bool:
        """A contract names it: it stays. False where it is not here."""
        name = _name(digest)
        with self._lock:
            if (self._kept / name).exists():
                return True
            found = self.get(digest)
            if found is None:
                return False
            write_atomically(self._kept / name, found, mode=0o600)
            (self._new / name).unlink(missing_ok=True)
        return True

    def has(self, digest: str) -> bool:
        """Whether it is here."""
        name = _name(digest)
        return (self._kept / name).exists() or (self._new / name).exists()

    def get(self, digest: str) -> bytes | None:
        """The ZIP of a program, where it is here."""
        name = _name(digest)
        for folder in (self._kept, self._new):
            try:
                return (folder / name).read_bytes()
            except FileNotFoundError:
                continue
        return None

    def _sweep(self, name: str) -> int:
        """Forget what waited too long; the bytes of what still waits, without that of this name."""
        waiting = 0
        for path in self._new.glob("*"):
            held = path.stat()
            if path.name == name:
                continue
            if time.time() - held.st_mtime > UNNAMED_S:
                path.unlink(missing_ok=True)
            else:
                waiting += held.st_size
        return waiting


def _name(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise InputError("bad-input", "A program is named by its digest: sha256:...")
    return digest.removeprefix("sha256:")
