"""`VaultReader`: a vault file as an ordinary file object that decrypts the chunks it touches."""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cohortium.errors import PolicyRefusal, VerificationError
from cohortium.vault.anchor import Anchor, Mark, judge
from cohortium.vault.chunks import ChunkCipher, Places
from cohortium.vault.grants import Grants
from cohortium.vault.header import FIXED_BYTES, TAG_BYTES, Header, announced_bytes, parse_header
from cohortium.vault.keys import Keyring
from cohortium.vault.storage import LocalSource, Source

_FIRST_READ_BYTES = 8192
_CACHED_BYTES = 4 << 20
_PEEKED_BYTES = 1024


@dataclass(frozen=True)
class Expected:
    """What the reader of a file knows of it beforehand; None: anything.

    Attributes:
        writers: Ed25519 keys (``ed25519:...``) whose files count.
        file_id: The file's identity, so that no other file can stand in its place.
        anchor: Where the last version is remembered.
    """

    writers: Collection[str] | None = None
    file_id: bytes | None = None
    anchor: Anchor | None = None

    def check(self, header: Header) -> None:
        """Refuse a verified header that is not what was expected.

        Raises:
            VerificationError: ``unknown-signer``, ``vault-identity`` or ``vault-rollback``.
        """
        # 1. The writer. 2. The identity. 3. The version.
        if self.writers is not None and header.writer_key not in self.writers:  # 1
            raise VerificationError(
                "unknown-signer",
                f"The file was written by {header.writer_key}, not by whom it must.",
            )
        if self.file_id is not None and header.file_id != self.file_id:  # 2
            raise VerificationError(
                "vault-identity", "Another vault file stands in this one's place."
            )
        if self.anchor is not None:  # 3
            judge(self.anchor.latest(header.file_id), Mark.of(header))


ANYTHING = Expected()


def read_header(source: Source) -> Header:
    """Read and verify the header of a file.

    Raises:
        VerificationError: ``bad-vault-file`` or ``bad-signature``; never anything else.
    """
    start = bytearray(min(_FIRST_READ_BYTES, source.size))
    source.read_at(0, memoryview(start))
    length = announced_bytes(bytes(start[:FIXED_BYTES]))
    if length > len(start):
        rest = bytearray(max(0, min(length, source.size) - len(start)))
        source.read_at(len(start), memoryview(rest))
        start += rest
    return parse_header(bytes(start[:length]))


GrantsOf = Callable[[], Grants | None]
"""Fetches what stands beside a file; asked only where the header has nothing for one's keys."""


def open_data_key(header: Header, keyring: Keyring, grants: GrantsOf | None = None) -> bytes:
    """The data key of a file: from its header, or else from what was granted afterwards.

    Raises:
        PolicyRefusal: ``not-authorised``.
        VerificationError: ``bad-vault-file``.
    """
    found = keyring.find(header.recipients)
    if found is not None:
        key, entry = found
        return key.open(entry.sealed, header.fixed())
    granted = grants() if grants is not None else None
    if granted is not None and granted.header_digest == header.digest:
        found = keyring.find(granted.recipients)
        if found is not None:
            key, entry = found
            return key.open(entry.sealed, granted.info)
    raise PolicyRefusal(
        "not-authorised",
        "None of your keys opens this file; ask its owner to share it with you.",
    )


class VaultReader(io.RawIOBase):
    """Reads a vault file; every byte that it returns was verified.

    `pread` and `pread_into` may be called from several threads. The position is a thread's own
    from its `seek` on, because DuckDB's threads seek and read in one file object without a lock; a
    thread that reads without having sought goes on where the last one stopped. With `threads` > 1
    long reads are decrypted by that many threads. There is a small cache of chunks, so that many
    short reads cost one decryption a chunk.

    Raises:
        VerificationError: ``bad-vault-file`` and others, on opening or on any read.
        PolicyRefusal: ``not-authorised``: it is not wrapped for a key of `keyring`.
    """

    def __init__(
        self,
        source: Source,
        keyring: Keyring,
        *,
        expected: Expected = ANYTHING,
        grants: GrantsOf | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__()
        self._source = source
        self._pool: ThreadPoolExecutor | None = None
        self._pool_of = 0
        self._cipher: ChunkCipher | None = None
        try:
            self.header = read_header(source)
            self._places = Places(self.header, source.size)
            expected.check(self.header)
            data_key = open_data_key(self.header, keyring, grants)
            if expected.anchor is not None:
                expected.anchor.advance(self.header.file_id, Mark.of(self.header))
            self._cipher = ChunkCipher(data_key, self.header)
        except BaseException:
            self.close()
            raise
        self._threads = threads
        self._position = 0
        self._own = threading.local()
        self._handed_over = 0
        self._lock = threading.RLock()
        self._cache: OrderedDict[int, memoryview] = OrderedDict()
        self._kept = max(2, max(_CACHED_BYTES, 2 * source.batch_bytes) // self.header.chunk_bytes)
        self._run, self._next = 0, -1
        self._scratch: deque[memoryview] = deque()

    @classmethod
    def open(cls, path: Path | str, keyring: Keyring, **options: Any) -> VaultReader:
        """A local file; `options` as those of the class."""
        return cls(LocalSource(Path(path)), keyring, **options)

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        return self._places.plain_bytes

    # -- io.RawIOBase

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The position in the plaintext."""
        return self._sought() if self._has_sought() else self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Set the position; it may lie behind the end."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self.size}.get(whence)
        if begin is None or begin + offset < 0:
            raise ValueError("a position before the beginning, or from nowhere")
        self._move(begin + offset)
        return begin + offset

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer, or what is left of the file."""
        at = self._take_position()
        n = self.pread_into(at, buffer)
        self._move(at + n)
        return n

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` bytes, fewer only at the end of the file; -1: the rest."""
        at = self._take_position()
        left = max(0, self.size - at)
        data = self.pread(at, left if size is None or size < 0 else min(size, left))
        self._move(at + len(data))
        return data

    def read_buffer(self, size: int | None = -1, /) -> Any:
        """`read` for pyarrow, into memory that pyarrow keeps and uses again."""
        import pyarrow as pa

        at = self._take_position()
        left = max(0, self.size - at)
        buffer = pa.allocate_buffer(left if size is None or size < 0 else min(size, left))
        self._move(at + self.pread_into(at, buffer))
        return buffer

    def peek(self, _size: int = 0, /) -> bytes:
        """Some of what comes next; lets `readline` look for the line's end in more than a byte."""
        return self.pread(self.tell(), _PEEKED_BYTES)

    def readall(self) -> bytes:
        """The rest."""
        return self.read()

    def close(self) -> None:
        """Overwrite what can be of keys and plaintext, and let go of the file."""
        if self.closed:
            return
        try:
            if self._pool is not None and self._pool_of == os.getpid():
                self._pool.shutdown()
            if self._cipher is not None:
                self._cipher.close()
                for chunk in self._cache.values():
                    chunk[:] = bytes(len(chunk))
                self._cache.clear()
            self._source.close()
        finally:
            super().close()

    def _has_sought(self) -> bool:
        return getattr(self._own, "handed_over", -1) == self._handed_over

    def _sought(self) -> int:
        return int(self._own.position)

    def _take_position(self) -> int:
        if self._has_sought():
            return self._sought()
        # The file was handed to this thread: what others sought before holds no longer.
        self._handed_over += 1
        return self._position

    def _move(self, position: int) -> None:
        self._position = self._own.position = position
        self._own.handed_over = self._handed_over

    # -- at a place

    def pread(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer only at the end; the position stays."""
        self._require_open()
        size = max(0, min(size, self.size - offset))
        index, within = divmod(offset, self.header.chunk_bytes)
        if 0 < size <= self._places.plain(index) - within and size < self.header.chunk_bytes:
            with self._lock:
                return bytes(self._chunk(index)[within : within + size])
        # A BufferedReader reads straight into the bytes that it returns: no second copy.
        return io.BufferedReader(_Range(self, offset), 1).read(size)

    def pread_into(self, offset: int, buffer: Any) -> int:
        """Fill the buffer from `offset` on, or with what is left; the position stays."""
        self._require_open()
        if offset < 0:
            raise ValueError("a position before the beginning")
        into = memoryview(buffer).cast("B")
        into = into[: max(0, min(len(into), self.size - offset))]
        done, chunk_bytes = 0, self.header.chunk_bytes
        while done < len(into):
            index, within = divmod(offset + done, chunk_bytes)
            whole = 0 if within else self._whole_chunks(index, len(into) - done)
            if whole:
                n = min(whole * chunk_bytes, self.size - index * chunk_bytes)
                self._decrypt(index, whole, into[done : done + n])
            else:
                n = min(self._places.plain(index) - within, len(into) - done)
                with self._lock:
                    into[done : done + n] = self._chunk(index)[within : within + n]
            done += n
        return len(into)

    # -- chunks

    def _require_open(self) -> ChunkCipher:
        if self._cipher is None or self.closed:
            raise ValueError("the vault file is closed")
        return self._cipher

    def _whole_chunks(self, first: int, n_bytes: int) -> int:
        """How many chunks from `first` on lie whole in the next `n_bytes`; cached ones do not."""
        n = n_bytes // self.header.chunk_bytes
        if first + n < self._places.n_chunks and first + n == self._places.n_chunks - 1:
            n += n_bytes - n * self.header.chunk_bytes >= self._places.plain(first + n)
        with self._lock:
            return 0 if n == 1 and first in self._cache else n

    def _chunk(self, index: int) -> memoryview:
        """One chunk through the cache; who reads on in order gets more at once."""
        found = self._cache.get(index)
        if found is None:
            batch = max(1, self._source.batch_bytes // self.header.chunk_bytes)
            most = min(max(batch, self._threads), self._places.n_chunks - index)
            self._run = self._run + 1 if index == self._next else 0
            n = min(1 << min(max(0, self._run - 1), 16), most)
            size = self.header.chunk_bytes
            begin, end = index * size, min((index + n) * size, self.size)
            plain = memoryview(bytearray(end - begin))
            self._decrypt(index, n, plain)
            for at in range(n):
                self._cache[index + at] = plain[at * size : (at + 1) * size]
            while len(self._cache) > self._kept:
                self._cache.popitem(last=False)
            self._next = index + n
            found = self._cache[index]
        else:
            self._cache.move_to_end(index)
        return found

    def _decrypt(self, first: int, n: int, into: memoryview) -> None:
        """Decrypt `n` chunks into one buffer, with as many threads as there are."""
        parts = min(self._threads, n)
        if parts < 2:
            self._decrypt_part(first, n, into)
            return
        if self._pool is None or self._pool_of != os.getpid():
            # Threads do not live on in a forked process.
            self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="vault")
            self._pool_of = os.getpid()
        size = self.header.chunk_bytes
        bounds = [n * part // parts for part in range(parts + 1)]
        others = [
            self._pool.submit(
                self._decrypt_part, first + low, high - low, into[low * size : high * size]
            )
            for low, high in pairwise(bounds[1:])
        ]
        try:
            self._decrypt_part(first, bounds[1], into[: bounds[1] * size])
            for other in others:
                other.result()
        except BaseException:
            for other in others:
                other.exception()
            into[:] = bytes(len(into))
            raise

    def _decrypt_part(self, first: int, n: int, into: memoryview) -> None:
        cipher, places, size = self._require_open(), self._places, self.header.chunk_bytes
        batch, stride, end = max(1, self._source.batch_bytes // size), size + TAG_BYTES, first + n
        final = places.n_chunks - 1
        scratch = memoryview(self._borrow(min(batch, n) * stride))
        try:
            to = 0
            for begin in range(first, end, batch):
                last = min(begin + batch, end) - 1
                length = (last - begin) * stride + places.plain(last) + TAG_BYTES
                self._source.read_at(places.stored(begin), scratch[:length])
                for index in range(begin, last + 1):
                    at = (index - begin) * stride
                    plain = size if index != final else places.plain(index)
                    stored = scratch[at : at + plain + TAG_BYTES]
                    cipher.decrypt(index, index == final, stored, into[to : to + plain])
                    to += plain
        except BaseException:
            into[:] = bytes(len(into))
            raise
        self._scratch.append(scratch)

    def _borrow(self, length: int) -> memoryview | bytearray:
        try:
            scratch = self._scratch.pop()
        except IndexError:
            return bytearray(length)
        return scratch if len(scratch) >= length else bytearray(length)


class _Range(io.RawIOBase):
    """The reader from a place on."""

    def __init__(self, reader: VaultReader, offset: int) -> None:
        super().__init__()
        self._reader, self._offset = reader, offset

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        n = self._reader.pread_into(self._offset, buffer)
        self._offset += n
        return n
