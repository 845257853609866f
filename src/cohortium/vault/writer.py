"""`VaultWriter`: a file object that encrypts as it is written, and is there once it is closed."""

from __future__ import annotations

import io
import os
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from cohortium.crypto.keys import SigningKey
from cohortium.errors import InputError
from cohortium.vault.anchor import Anchor, Mark, commit_and_advance
from cohortium.vault.chunks import ChunkCipher
from cohortium.vault.header import (
    FILE_ID_BYTES,
    MAX_CHUNKS,
    MAX_RECIPIENTS,
    MAX_VERSION,
    TAG_BYTES,
    Header,
)
from cohortium.vault.keys import DATA_KEY_BYTES, PublicKey, seal
from cohortium.vault.storage import LocalSink, Sink

CHUNK_BITS = 18
"""256 KiB: in long reads as fast as 1 MiB, in short ones four times as fast (ADR 0027)."""


class VaultWriter(io.RawIOBase):
    """Writes a vault file from its beginning to its end.

    The file appears when it is closed. Leaving a ``with`` block by an error, `discard`, a killed
    process or a writer that is forgotten leave what was there before.

    Args:
        sink: Where to.
        recipients: Who can open it.
        signer: The writer's key.
        file_id: The identity of the file whose next version this is; None: a new file.
        version: Its number.
        anchor: Is told of the version once the file is in its place.
        threads: Encrypt with so many, where the sink takes chunks in any order.
        random: Bytes that nobody can guess.
    """

    def __init__(
        self,
        sink: Sink,
        recipients: Sequence[PublicKey],
        signer: SigningKey,
        *,
        file_id: bytes | None = None,
        version: int = 1,
        anchor: Anchor | None = None,
        chunk_bits: int = CHUNK_BITS,
        threads: int = 1,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        super().__init__()
        self._sink: Sink | None = sink
        self._pid = os.getpid()
        self._pool: ThreadPoolExecutor | None = None
        self._running: deque[Future[None]] = deque()
        self._pending, self._filled = bytearray(), 0
        try:
            data_key = random(DATA_KEY_BYTES)
            self.header = _header(
                recipients,
                signer,
                data_key,
                file_id=random(FILE_ID_BYTES) if file_id is None else file_id,
                version=version,
                chunk_bits=chunk_bits,
            )
            self._cipher = ChunkCipher(data_key, self.header)
            sink.write_at(0, memoryview(self.header.to_bytes()))
        except BaseException:
            self.discard()
            raise
        self._anchor = anchor
        self._size = self.header.chunk_bytes
        self._stored = self._size + TAG_BYTES
        self._pending = bytearray(self._size)
        self._free: deque[bytearray] = deque()
        self._scratch: deque[bytearray] = deque()
        self._index = 0
        self._threads = threads if sink.parallel else 1

    @classmethod
    def open(
        cls, path: Path | str, recipients: Sequence[PublicKey], signer: SigningKey, **options: Any
    ) -> VaultWriter:
        """A local file; `options` as those of the class."""
        return cls(LocalSink(Path(path)), recipients, signer, **options)

    # -- io.RawIOBase

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Plaintext bytes written so far."""
        return self._index * self._size + self._filled

    def write(self, data: Any, /) -> int:
        """Take all of `data`."""
        self._require_open()
        view = memoryview(data).cast("B")
        total = len(view)
        try:
            self._take(view)
        except BaseException:
            self.discard()
            raise
        return total

    def close(self) -> None:
        """Write the last chunk and put the file in its place."""
        if self.closed or self._sink is None:
            return
        if self._pid != os.getpid():
            self.discard()
            return
        try:
            last = memoryview(self._pending)[: self._filled]
            self._wait(0)
            self._encrypt(self._index, last, True)
            if self._anchor is None:
                self._sink.commit()
            else:
                # Another writer may have been quicker; its version stays.
                mark = Mark.of(self.header)
                commit_and_advance(self._anchor, self.header.file_id, mark, self._sink.commit)
        except BaseException:
            self.discard()
            raise
        self._sink = None
        self._end()

    def discard(self) -> None:
        """Give it up: nothing of it is left."""
        sink, self._sink = self._sink, None
        if self._pid != os.getpid():
            # A forked process: the file, and the threads, are those of the one that opened it.
            self._pool, sink = None, None
        if sink is not None:
            try:
                self._wait(0, result=False)
            finally:
                sink.discard()
        self._end()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        # io's own would close it, which would make half a file look whole.
        if getattr(self, "_sink", None) is not None:
            self.discard()

    # -- chunks

    def _require_open(self) -> None:
        if self._sink is None:
            raise ValueError("the vault file is closed")
        if self._pid != os.getpid():
            # Two processes would encrypt different chunks with one key and nonce.
            raise ValueError("a vault file is written by the process that opened it")

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        cipher = self.__dict__.pop("_cipher", None)
        if cipher is not None:
            cipher.close()
            self._pending[:] = bytes(len(self._pending))
        super().close()

    def _take(self, view: memoryview) -> None:
        # The last chunk is only known at the end: a full one waits until more comes.
        if self._filled:
            n = min(self._size - self._filled, len(view))
            self._pending[self._filled : self._filled + n] = view[:n]
            self._filled += n
            view = view[n:]
            if view:
                self._put_pending()
        whole = (len(view) - 1) // self._size if view else 0
        if whole:
            self._put(view[: whole * self._size])
            view = view[whole * self._size :]
        self._pending[self._filled : self._filled + len(view)] = view
        self._filled += len(view)

    def _put_pending(self) -> None:
        full, index = self._pending, self._next(1)
        if self._threads > 1:
            self._wait(self._threads)
            self._running.append(self._workers().submit(self._encrypt_and_free, index, full))
            self._pending = self._free.popleft() if self._free else bytearray(self._size)
        else:
            self._encrypt(index, memoryview(full), False)
        self._filled = 0

    def _put(self, chunks: memoryview) -> None:
        """Whole chunks from the caller's own memory, which is the caller's again on return."""
        n = len(chunks) // self._size
        first = self._next(n)
        parts = min(self._threads, n)
        bounds = [n * part // parts for part in range(parts + 1)]
        for low, high in pairwise(bounds[1:]):
            part = chunks[low * self._size : high * self._size]
            self._running.append(self._workers().submit(self._encrypt_all, first + low, part))
        try:
            self._encrypt_all(first, chunks[: bounds[1] * self._size])
        finally:
            if parts > 1:
                self._wait(0)

    def _next(self, n: int) -> int:
        first = self._index
        if first + n >= MAX_CHUNKS:
            raise InputError("too-large", "A vault file has at most 2^32 chunks.")
        self._index += n
        return first

    def _workers(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="vault")
        return self._pool

    def _wait(self, left: int, *, result: bool = True) -> None:
        while len(self._running) > left:
            done = self._running.popleft()
            if result:
                done.result()
            else:
                done.exception()

    def _encrypt_and_free(self, index: int, chunk: bytearray) -> None:
        self._encrypt(index, memoryview(chunk), False)
        self._free.append(chunk)

    def _encrypt_all(self, first: int, chunks: memoryview) -> None:
        for at in range(len(chunks) // self._size):
            self._encrypt(first + at, chunks[at * self._size : (at + 1) * self._size], False)

    def _encrypt(self, index: int, plain: memoryview, last: bool) -> None:
        if self._sink is None:
            return
        try:
            scratch = self._scratch.pop()
        except IndexError:
            scratch = bytearray(self._stored)
        stored = memoryview(scratch)[: len(plain) + TAG_BYTES]
        self._cipher.encrypt(index, last, plain, stored)
        self._sink.write_at(self.header.n_bytes + index * self._stored, stored)
        self._scratch.append(scratch)


def _header(
    recipients: Sequence[PublicKey],
    signer: SigningKey,
    data_key: bytes,
    *,
    file_id: bytes,
    version: int,
    chunk_bits: int,
) -> Header:
    unique = list({key.key_id: key for key in recipients}.values())
    if not 1 <= len(unique) <= MAX_RECIPIENTS:
        raise InputError("bad-input", f"A vault file has 1 to {MAX_RECIPIENTS} recipients.")
    if not 1 <= version <= MAX_VERSION:
        raise InputError("bad-input", "The version is not one that a vault file can have.")
    bare = Header(chunk_bits, file_id, version, signer.private.public_key().public_bytes_raw(), ())
    info = bare.fixed(len(unique))
    sealed = tuple(seal(key, data_key, info) for key in unique)
    return Header(chunk_bits, file_id, version, bare.writer, sealed).sign(signer)
