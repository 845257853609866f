"""Where the encrypted bytes are: ports of the reader and the writer, and their adapters.

A reader never maps a file into memory: while it verifies a chunk, nobody else may change it.
"""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cohortium.errors import InputError
from cohortium.vault.header import refuse


class Source(Protocol):
    """Bytes to read, from several threads at once.

    `batch_bytes` is how much one read should fetch where more will be wanted: the cost of asking
    against that of fetching.
    """

    size: int
    batch_bytes: int

    def read_at(self, offset: int, into: memoryview) -> None:
        """Fill `into`; ``VerificationError`` where the bytes are not there any more."""

    def close(self) -> None:
        """Let go of it."""


class Sink(Protocol):
    """Bytes to write, that nobody sees before `commit`.

    Where `parallel`, `write_at` is called from several threads and in any order, else in order.
    """

    parallel: bool

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of `data`."""

    def commit(self) -> None:
        """Put the whole in its place, in one step; durable on return."""

    def discard(self) -> None:
        """Leave no trace of it."""


class LocalSource:
    """A local file."""

    batch_bytes = 1 << 18

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError("not-found", f"Cannot read {path}: {error.strerror}.") from error
        self.size = os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, into: memoryview) -> None:
        """See `Source`."""
        done = 0
        while done < len(into):
            try:
                n = os.preadv(self._descriptor, [into[done:] if done else into], offset + done)
            except OSError as error:
                raise InputError("bad-data", f"Cannot read: {error.strerror}.") from error
            if n == 0:
                raise refuse("it became shorter while it was read")
            done += n

    def close(self) -> None:
        """See `Source`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class StreamSource:
    """A seekable binary file object."""

    batch_bytes = 1 << 18

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.size = file.seek(0, os.SEEK_END)

    def read_at(self, offset: int, into: memoryview) -> None:
        """See `Source`."""
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(len(into))
        if len(data) != len(into):
            raise refuse("it became shorter while it was read")
        into[:] = data

    def close(self) -> None:
        """See `Source`."""
        self._file.close()


class LocalSink:
    """A local file, written under another name until it is whole."""

    parallel = True

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._path, self._durable = path, durable
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._temporary, flags, 0o644)
        except OSError as error:
            raise InputError("bad-input", f"Cannot write {path}: {error.strerror}.") from error

    def write_at(self, offset: int, data: memoryview) -> None:
        """See `Sink`."""
        done = 0
        while done < len(data):
            try:
                done += os.pwrite(self._descriptor, data[done:], offset + done)
            except OSError as error:
                raise InputError(
                    "bad-input", f"Cannot write {self._path}: {error.strerror}."
                ) from error

    def commit(self) -> None:
        """See `Sink`."""
        try:
            if self._durable:
                os.fsync(self._descriptor)
            self._close()
            self._temporary.replace(self._path)
            if self._durable:
                _sync_folder(self._path.parent)
        except OSError as error:
            raise InputError(
                "bad-input", f"Cannot write {self._path}: {error.strerror}."
            ) from error

    def discard(self) -> None:
        """See `Sink`."""
        self._close()
        self._temporary.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class StreamSink:
    """A binary file object that is written from its beginning to its end."""

    parallel = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0

    def write_at(self, offset: int, data: memoryview) -> None:
        """See `Sink`."""
        if offset != self._at:
            raise RuntimeError("a stream is written in order")
        self._file.write(data)
        self._at += len(data)

    def commit(self) -> None:
        """See `Sink`; the file object stays open."""
        self._file.flush()

    def discard(self) -> None:
        """See `Sink`: a stream keeps what it has; without its last chunk nobody can read it."""


class RemoteSource:
    """A file on any fsspec file system."""

    batch_bytes = 8 << 20

    def __init__(self, fs: Any, path: str, info: dict[str, Any]) -> None:
        self._fs, self._path = fs, path
        self.size = int(info["size"])

    def read_at(self, offset: int, into: memoryview) -> None:
        """See `Source`."""
        if not into:
            return
        data = self._fs.cat_file(self._path, start=offset, end=offset + len(into))
        if len(data) != len(into):
            raise refuse("it became shorter while it was read")
        into[:] = data

    def close(self) -> None:
        """See `Source`; nothing is held."""


class RemoteSink:
    """A file on any fsspec file system that puts files in their place in one step."""

    parallel = False

    def __init__(self, fs: Any, path: str) -> None:
        self._file = fs.open(path, "wb", autocommit=False)

    def write_at(self, offset: int, data: memoryview) -> None:
        """See `Sink`."""
        if offset != self._file.tell():
            raise RuntimeError("a remote file is written in order")
        self._file.write(data)

    def commit(self) -> None:
        """See `Sink`."""
        self._file.close()
        self._file.commit()

    def discard(self) -> None:
        """See `Sink`."""
        if not self._file.closed:
            self._file.close()
        self._file.discard()
