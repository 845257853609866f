"""A folder of large byte strings, by run and digest: sums of megabytes do not belong in rows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from cohortium.core.canonical import digest_bytes
from cohortium.crypto.files import write_atomically
from cohortium.errors import IntegrityFailure

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ObjectFolder:
    """Durable on return of `put`; `get` verifies the digest."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _folder(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise RuntimeError("not a run id")
        return self._root / run_id

    def put(self, run_id: str, data: bytes) -> str:
        """Store bytes of a run; returns their digest."""
        digest = digest_bytes(data)
        path = self._folder(run_id) / digest.removeprefix("sha256:")
        if not path.exists():
            write_atomically(path, data, mode=0o600)
        return digest

    def get(self, run_id: str, digest: str) -> bytes:
        """The bytes of that digest.

        Raises:
            IntegrityFailure: ``broken-store``.
        """
        if not _DIGEST.fullmatch(digest):
            raise IntegrityFailure("broken-store", "A journal entry names no object.")
        try:
            data = (self._folder(run_id) / digest.removeprefix("sha256:")).read_bytes()
        except OSError as error:
            raise IntegrityFailure("broken-store", "A stored object is missing.") from error
        if digest_bytes(data) != digest:
            raise IntegrityFailure("broken-store", "A stored object was altered.")
        return data

    def drop(self, run_id: str) -> None:
        """Delete what belongs to a run."""
        shutil.rmtree(self._folder(run_id), ignore_errors=True)
