"""The vault beside raw AES-256-GCM, plain files and gocryptfs.

python -m benchmarks.vault [--mib 512] [--folder DIR]

"Raw" is AES-256-GCM of the same library in the same process over chunks of the same size: once in
one chunk's buffers, which stay in the processor's cache, once over the whole content, from memory
into memory, and once from memory into a file and back, without any format: that is what a file can
do at best. These and the vault take turns, and each writes a new file. Beside the median of the
time that passes there is that of processor time, which other work on the machine changes less.
gocryptfs is measured where it and FUSE are.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from benchmarks.common import measure, print_header, print_table, show_seconds
from benchmarks.plain_files import PlainFiles
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cohortium.vault.filesystem import VaultFileSystem
from cohortium.vault.header import parse_header
from cohortium.vault.keys import Keyring, PrivateKey
from cohortium.vault.reader import VaultReader
from cohortium.vault.storage import LocalSink
from cohortium.vault.writer import CHUNK_BITS, VaultWriter

KEY = PrivateKey.generate()
RING = Keyring([KEY])
CHUNK = 1 << CHUNK_BITS
STORED = CHUNK + 16
BLOCK = 4 << 20
REPEATS = 5


def rate(work: Callable[[], object], n_bytes: int) -> float:
    """GB/s at the median."""
    return n_bytes / measure(work, repeats=REPEATS).median_s / 1e9


@dataclass(frozen=True)
class Speed:
    """GB/s at the median: of the time that passed, and of processor time."""

    passed: float
    processor: float

    def over(self, other: Speed) -> str:
        """Both ratios."""
        return f"{self.passed / other.passed:.2f} ({self.processor / other.processor:.2f})"

    def __str__(self) -> str:
        return f"{self.passed:.2f} ({self.processor:.2f})"


def in_turns(
    works: Mapping[str, tuple[Path | None, Callable[[], object]]], n: int
) -> dict[str, Speed]:
    """Each by turns, the first turn not counted; a file that it writes is removed before."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(REPEATS + 1):
        for name, (path, work) in works.items():
            if path is not None:
                path.unlink(missing_ok=True)
            began, processor = time.perf_counter(), time.process_time()
            work()
            took = time.perf_counter() - began, time.process_time() - processor
            if turn:
                found[name].append(took)
    return {
        name: Speed(*(n / median(column) / 1e9 for column in zip(*each, strict=True)))
        for name, each in found.items()
    }


def in_threads(work: Callable[[range], object], n: int, threads: int) -> None:
    """The range 0..n in contiguous parts."""
    bounds = [n * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [range(bounds[i], bounds[i + 1]) for i in range(threads)]))


class Raw:
    """AES-256-GCM over chunks, without nonces that count, headers or keys."""

    def __init__(self, content: bytes, path: Path) -> None:
        self._aead = AESGCM(bytes(32))
        self._path = path
        self._n = len(content) // CHUNK
        self._source = memoryview(content)
        self._stored = memoryview(bytearray(self._n * STORED))
        self._into = memoryview(bytearray(len(content)))

    def _encrypt(self, part: range, put: Callable[[int, memoryview], object] | None) -> None:
        own = memoryview(bytearray(STORED))
        for i in part:
            out = own if put else self._stored[i * STORED : (i + 1) * STORED]
            chunk = self._source[i * CHUNK : (i + 1) * CHUNK]
            self._aead.encrypt_into(bytes(12), chunk, None, out)
            if put:
                put(i, out)

    def _decrypt(self, part: range, get: Callable[[int, memoryview], object] | None) -> None:
        own = memoryview(bytearray(STORED))
        block = memoryview(bytearray(BLOCK))
        for i in part:
            data, at = self._stored[i * STORED : (i + 1) * STORED], i % (BLOCK // CHUNK)
            into = block[at * CHUNK : (at + 1) * CHUNK]
            if get:
                get(i, own)
                data = own
            else:
                into = self._into[i * CHUNK : (i + 1) * CHUNK]
            self._aead.decrypt_into(bytes(12), data, None, into)

    def encrypt_in_cache(self, threads: int) -> None:
        """Each chunk into one buffer."""
        in_threads(lambda part: self._encrypt(part, lambda *_: None), self._n, threads)

    def encrypt(self, threads: int) -> None:
        """From memory into memory."""
        in_threads(lambda part: self._encrypt(part, None), self._n, threads)

    def decrypt(self, threads: int) -> None:
        """From memory into memory."""
        in_threads(lambda part: self._decrypt(part, None), self._n, threads)

    def write(self, threads: int) -> None:
        """From memory into a file."""
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        work = partial(self._encrypt, put=lambda i, data: os.pwrite(file, data, i * STORED))
        in_threads(work, self._n, threads)
        os.close(file)

    def read(self, threads: int) -> None:
        """From a file into blocks."""
        file = os.open(self._path, os.O_RDONLY)
        work = partial(self._decrypt, get=lambda i, data: os.preadv(file, [data], i * STORED))
        in_threads(work, self._n, threads)
        os.close(file)


def write_vault(path: Path, content: bytes, threads: int) -> None:
    """Write in blocks; not synchronised with the disk, as the others."""
    sink = LocalSink(path, durable=False)
    with VaultWriter(sink, [KEY.public], KEY.signing, threads=threads) as file:
        for at in range(0, len(content), BLOCK):
            file.write(memoryview(content)[at : at + BLOCK])


def read_all(file: Any) -> None:
    """Read in blocks into one buffer."""
    buffer = bytearray(BLOCK)
    while file.readinto(buffer) == BLOCK:
        pass


def write_plain(path: Path, content: bytes) -> None:
    """A file without encryption."""
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(content), BLOCK):
            file.write(memoryview(content)[at : at + BLOCK])


def read_plain(path: Path) -> None:
    """A file without encryption."""
    with path.open("rb", buffering=0) as file:
        read_all(file)


def read_vault(path: Path, threads: int) -> None:
    """Open, which verifies the header, and read."""
    with VaultReader.open(path, RING, threads=threads) as file:
        read_all(file)


@contextmanager
def gocryptfs(folder: Path) -> Iterator[Path | None]:
    """A mounted gocryptfs folder, or None."""
    program = shutil.which("gocryptfs")
    if program is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        yield None
        return
    cipher, mount = folder / "cipher", folder / "mount"
    cipher.mkdir()
    mount.mkdir()
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    password = ["-extpass", "echo", "-extpass", "measured"]
    subprocess.run([program, "-q", "-init", *password, str(cipher)], check=True, **quiet)
    done = subprocess.run([program, "-q", *password, str(cipher), str(mount)], check=False, **quiet)
    try:
        yield mount if done.returncode == 0 else None
    finally:
        subprocess.run(["umount", str(mount)], check=False, **quiet)


def drop_pages(path: Path) -> None:
    """Let FUSE and the kernel forget the plaintext of a mounted file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def rate_mounted(path: Path, content: bytes) -> tuple[float, float]:
    """GB/s of writing and reading below a mount point; the plaintext's pages are dropped."""
    written, read = [], []
    for _ in range(REPEATS):
        path.unlink(missing_ok=True)
        began = time.perf_counter()
        write_plain(path, content)
        written.append(time.perf_counter() - began)
        drop_pages(path)
        began = time.perf_counter()
        read_plain(path)
        read.append(time.perf_counter() - began)
    return len(content) / median(written) / 1e9, len(content) / median(read) / 1e9


def sequential(folder: Path, content: bytes) -> None:
    """GB/s of long reads and writes."""
    rows: list[list[object]] = []
    plain, bare, sealed = folder / "plain", folder / "raw", folder / "vault"
    raw = Raw(content, bare)
    for n in (1, 2):
        write = in_turns(
            {
                "raw AES-256-GCM, in the cache": (None, lambda: raw.encrypt_in_cache(n)),  # noqa: B023
                "raw AES-256-GCM, memory to memory": (None, lambda: raw.encrypt(n)),  # noqa: B023
                "plain file, one thread": (plain, lambda: write_plain(plain, content)),
                "raw AES-256-GCM and a file": (bare, lambda: raw.write(n)),  # noqa: B023
                "vault": (sealed, lambda: write_vault(sealed, content, n)),  # noqa: B023
            },
            len(content),
        )
        read = in_turns(
            {
                "raw AES-256-GCM, memory to memory": (None, lambda: raw.decrypt(n)),  # noqa: B023
                "plain file, one thread": (None, lambda: read_plain(plain)),
                "raw AES-256-GCM and a file": (None, lambda: raw.read(n)),  # noqa: B023
                "vault": (None, lambda: read_vault(sealed, n)),  # noqa: B023
            },
            len(content),
        )
        rows += [[name, n, one, read.get(name, "")] for name, one in write.items()]
        for name in list(read)[:-1]:
            ratios = [each["vault"].over(each[name]) for each in (write, read)]
            rows.append([f"vault / {name}", n, *ratios])
    for path in (plain, bare, sealed):
        path.unlink()
    with gocryptfs(folder) as mount:
        if mount is None:
            rows.append(["gocryptfs", "", "not here", "not here"])
        else:
            speeds = [f"{one:.2f}" for one in rate_mounted(mount / "file", content)]
            rows.append(["gocryptfs (FUSE), which has threads of its own", "", *speeds])
    print_table(["what", "threads", "write GB/s (of processor)", "read GB/s (of processor)"], rows)


def random_reads(folder: Path, content: bytes) -> None:
    """4 KiB anywhere, for several chunk sizes."""
    rows = []
    anywhere = random.Random(1)
    places = [anywhere.randrange(len(content) - 4096) for _ in range(2000)]
    for bits in (16, 18, 20):
        path = folder / "random"
        sink = LocalSink(path, durable=False)
        with VaultWriter(sink, [KEY.public], KEY.signing, chunk_bits=bits) as file:
            file.write(content)
        buffer = bytearray(BLOCK)
        with VaultReader.open(path, RING) as reader:

            def read() -> None:
                for at in places:
                    reader.pread(at, 4096)

            def long() -> None:
                for at in range(0, len(content), BLOCK):
                    reader.pread_into(at, buffer)  # noqa: B023

            each = measure(read, repeats=REPEATS).median_s / len(places)
            rows.append(
                [f"{1 << bits >> 10} KiB", show_seconds(each), f"{rate(long, len(content)):.2f}"]
            )
        path.unlink()
    print_table(["chunk", "random read of 4 KiB", "long reads GB/s"], rows)


def columns(folder: Path) -> None:
    """One column of a Parquet file of ten, and a sum over another by DuckDB."""
    rows_, random_ = 2_000_000, np.random.default_rng(1)
    table = pa.table({f"x{i}": random_.normal(size=rows_) for i in range(10)})
    plain, sealed = folder / "p.parquet", folder / "v.parquet"
    vault = VaultFileSystem(RING, durable=False)
    pq.write_table(table, plain)
    pq.write_table(table, str(sealed), filesystem=vault)
    connection = duckdb.connect()
    connection.register_filesystem(vault)
    # Through Python's file objects too, so that the vault's share can be told from fsspec's.
    local = fsspec.filesystem("file")
    rows = []
    for name, names in (
        ("pyarrow.dataset, 1 of 10 columns", ["x3"]),
        ("pyarrow.dataset, all columns", None),
    ):
        times = [
            measure(lambda: scan(fs, str(path), names), repeats=9).median_s  # noqa: B023
            for fs, path in ((None, plain), (local, plain), (vault, sealed))
        ]
        rows.append([name, *(show_seconds(t) for t in times), f"{times[2] / times[0]:.2f}"])
    query = "select sum(x3), avg(x7) from read_parquet('{}')"
    connection.register_filesystem(PlainFiles())
    times = [
        measure(lambda: connection.sql(query.format(path)).fetchall(), repeats=15).median_s  # noqa: B023
        for path in (plain, f"plain://{plain}", f"vault://{sealed}")
    ]
    ratio = f"{times[2] / times[0]:.2f}"
    rows.append(["DuckDB, sums of 2 columns", *map(show_seconds, times), ratio])
    print_table(["what", "plain", "plain through fsspec", "vault", "vault / plain"], rows)


def scan(fs: Any, path: str, names: list[str] | None) -> None:
    """Read columns into memory."""
    ds.dataset(path, filesystem=fs, format="parquet").to_table(columns=names)


def opening(folder: Path) -> None:
    """What a file costs before its first byte."""
    path = folder / "small"
    write_vault(path, b"x", 1)

    def first() -> None:
        parse_header.cache_clear()
        VaultReader.open(path, RING).close()

    timing = measure(first, repeats=200)
    again = measure(lambda: VaultReader.open(path, RING).close(), repeats=200)
    write = measure(lambda: write_vault(path, b"x", 1), repeats=200)
    rows = [
        ["open, verify and unwrap", str(timing)],
        ["open again", str(again)],
        ["write one byte", str(write)],
    ]
    print_table(["what", "time"], rows)


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    print_header(f"The vault: {options.mib} MiB, chunks of {CHUNK >> 10} KiB, blocks of 4 MiB")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        content = os.urandom(options.mib << 20)
        sequential(folder, content)
        random_reads(folder, content)
        columns(folder)
        opening(folder)


if __name__ == "__main__":
    main()
