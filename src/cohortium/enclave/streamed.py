"""Inputs as an archive on their way into a sandbox."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import PurePosixPath

from cohortium.enclave.job import Source
from cohortium.errors import InputError


def add(archive: tarfile.TarFile, slot: str, source: Source) -> None:
    """Add all files of an input.

    Raises:
        InputError: ``bad-data``.
    """
    for path, size in source.files():
        name = PurePosixPath(path)
        if name.is_absolute() or ".." in name.parts:
            raise InputError("bad-data", f"The input {slot} has a file whose name leads elsewhere.")
        member = tarfile.TarInfo(f"{slot}/{path}" if path else slot)
        member.size = size
        member.mode = 0o600
        try:
            archive.addfile(member, _Chunks(slot, size, source.chunks(path)))
        except OSError as error:
            raise InputError("bad-data", f"The input {slot} cannot be read: {error}.") from error


class _Chunks(BytesIO):
    """Chunks as a file that is read once and has the size that was said."""

    def __init__(self, slot: str, size: int, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._slot = slot
        self._to_come = size
        self._chunks = iter(chunks)
        self._left = b""
        self._require(size or next(self._chunks, b"") == b"")

    def read(self, size: int | None = -1) -> bytes:
        """Exactly so much.

        Raises:
            InputError: ``bad-data``: it has another size than was said.
        """
        wanted = self._to_come if size is None or size < 0 else min(size, self._to_come)
        parts = [self._left]
        have = len(self._left)
        while have < wanted and (part := next(self._chunks, None)) is not None:
            parts.append(part)
            have += len(part)
        whole = b"".join(parts)
        self._left = whole[wanted:]
        self._to_come -= wanted
        ended = self._to_come or not (self._left or next(self._chunks, b""))
        self._require(have >= wanted and ended)
        return whole[:wanted]

    def _require(self, holds: object) -> None:
        if not holds:
            raise InputError(
                "bad-data", f"The input {self._slot} was changed while it was read; start again."
            )
