"""Plain files through fsspec as DuckDB can read them: its threads share one file object, and with
fsspec's own would read from each other's positions.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from fsspec.implementations.local import LocalFileSystem


class PlainFile:
    """A plain file with a position for each thread."""

    mode = "rb"

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self._own = threading.local()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set this thread's position."""
        end = os.fstat(self._file).st_size
        self._own.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: end}[whence]
        return self.tell()

    def tell(self) -> int:
        """This thread's position."""
        return int(getattr(self._own, "at", 0))

    def read(self, size: int) -> bytes:
        """From there on."""
        data = os.pread(self._file, size, self.tell())
        self._own.at = self.tell() + len(data)
        return data

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


class PlainFiles(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Plain files as DuckDB reads them through fsspec."""

    protocol = "plain"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(LocalFileSystem._strip_protocol(path.removeprefix("plain://")))  # noqa: SLF001

    def open(self, path: str, mode: str = "rb", **_options: Any) -> Any:
        """A file to read."""
        del mode
        return PlainFile(self._strip_protocol(path))
