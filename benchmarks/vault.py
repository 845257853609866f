"""The vault beside raw AES-256-GCM, plain files and gocryptfs.

python -m benchmarks.vault [--mib 512] [--folder DIR]

"Raw" is AES-256-GCM of the same library in the same process over chunks of the same size: once in
one chunk's buffers, which stay in the processor's cache, once over the whole content, from memory
into memory. gocryptfs is measured where it and FUSE are.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from benchmarks.common import measure, print_header, print_table, show_seconds
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cohortium.vault.filesystem import VaultFileSystem
from cohortium.vault.keys import Keyring, PrivateKey
from cohortium.vault.reader import VaultReader
from cohortium.vault.storage import LocalSink
from cohortium.vault.writer import CHUNK_BITS, VaultWriter

KEY = PrivateKey.generate()
RING = Keyring([KEY])
CHUNK = 1 << CHUNK_BITS
BLOCK = 4 << 20
REPEATS = 5


def rate(work: Callable[[], object], n_bytes: int) -> float:
    """GB/s at the median."""
    return n_bytes / measure(work, repeats=REPEATS).median_s / 1e9


def in_threads(work: Callable[[range], object], n: int, threads: int) -> None:
    """The range 0..n in contiguous parts."""
    bounds = [n * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [range(bounds[i], bounds[i + 1]) for i in range(threads)]))


def raw(content: bytes, threads: int, cached: bool) -> tuple[float, float]:
    """GB/s of encryption and decryption without any file."""
    aead = AESGCM(bytes(32))
    n = len(content) // CHUNK
    stored = bytearray(n * (CHUNK + 16))
    source, target = memoryview(content), memoryview(stored)
    into = memoryview(bytearray(len(content)))

    def encrypt(part: range) -> None:
        own = memoryview(bytearray(CHUNK + 16))
        for i in part:
            at = part.start if cached else i
            out = own if cached else target[i * (CHUNK + 16) : (i + 1) * (CHUNK + 16)]
            aead.encrypt_into(bytes(12), source[at * CHUNK : (at + 1) * CHUNK], None, out)

    def decrypt(part: range) -> None:
        own = memoryview(bytearray(CHUNK))
        one = aead.encrypt(bytes(12), own, None)
        for i in part:
            data = one if cached else target[i * (CHUNK + 16) : (i + 1) * (CHUNK + 16)]
            out = own if cached else into[i * CHUNK : (i + 1) * CHUNK]
            aead.decrypt_into(bytes(12), data, None, out)

    return (
        rate(lambda: in_threads(encrypt, n, threads), n * CHUNK),
        rate(lambda: in_threads(decrypt, n, threads), n * CHUNK),
    )


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
    write = rate(lambda: write_plain(path, content), len(content))
    seconds = []
    for _ in range(REPEATS):
        drop_pages(path)
        began = time.perf_counter()
        read_plain(path)
        seconds.append(time.perf_counter() - began)
    return write, len(content) / sorted(seconds)[REPEATS // 2] / 1e9


def sequential(folder: Path, content: bytes) -> None:
    """GB/s of long reads and writes."""
    rows: list[list[object]] = []
    best: dict[int, tuple[float, float]] = {}

    def row(what: str, threads: object, rates: tuple[float, float], *beside: object) -> None:
        rows.append([what, threads, *(f"{each:.2f}" for each in rates), *(beside or ("", ""))])

    for threads in (1, 2):
        row("raw AES-256-GCM, in the cache", threads, raw(content, threads, True))
        best[threads] = raw(content, threads, False)
        row("raw AES-256-GCM, memory to memory", threads, best[threads])
    n, path = len(content), folder / "file"
    plain = rate(lambda: write_plain(path, content), n), rate(lambda: read_plain(path), n)
    row("plain file (no encryption)", 1, plain)
    for threads in (1, 2):
        vault = (
            rate(lambda: write_vault(path, content, threads), n),  # noqa: B023
            rate(lambda: read_vault(path, threads), n),  # noqa: B023
        )
        beside = [
            " / ".join(f"{mine / its:.2f}" for mine, its in zip(vault, other, strict=True))
            for other in (best[threads], plain)
        ]
        row("vault", threads, vault, *beside)
    path.unlink()
    with gocryptfs(folder) as mount:
        if mount is None:
            rows.append(["gocryptfs", "", "not here", "not here", "", ""])
        else:
            row("gocryptfs (FUSE)", "", rate_mounted(mount / "file", content))
    heads = ["what", "threads", "write GB/s", "read GB/s", "/ raw memory to memory", "/ plain"]
    print_table(heads, rows)


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
    import fsspec

    local = fsspec.filesystem("file")
    rows = []
    for name, work in (
        ("pyarrow.dataset, 1 of 10 columns", lambda fs, path: scan(fs, path, ["x3"])),
        ("pyarrow.dataset, all columns", lambda fs, path: scan(fs, path, None)),
    ):
        times = [
            measure(lambda: work(fs, str(path)), repeats=9).median_s  # noqa: B023
            for fs, path in ((None, plain), (local, plain), (vault, sealed))
        ]
        rows.append([name, *(show_seconds(t) for t in times), f"{times[2] / times[0]:.2f}"])
    query = "select sum(x3), avg(x7) from read_parquet('{}')"
    # Not with fsspec's plain files: DuckDB's threads share their position and read wrong places.
    times = [
        measure(lambda: connection.sql(query.format(path)).fetchall(), repeats=9).median_s  # noqa: B023
        for path in (plain, f"vault://{sealed}")
    ]
    first, second = (show_seconds(t) for t in times)
    rows.append(["DuckDB, sums of 2 columns", first, "", second, f"{times[1] / times[0]:.2f}"])
    print_table(["what", "plain", "plain through fsspec", "vault", "vault / plain"], rows)


def scan(fs: Any, path: str, names: list[str] | None) -> None:
    """Read columns into memory."""
    ds.dataset(path, filesystem=fs, format="parquet").to_table(columns=names)


def opening(folder: Path) -> None:
    """What a file costs before its first byte."""
    path = folder / "small"
    write_vault(path, b"x", 1)
    timing = measure(lambda: VaultReader.open(path, RING).close(), repeats=200)
    write = measure(lambda: write_vault(path, b"x", 1), repeats=200)
    rows = [["open, verify and unwrap", str(timing)], ["write one byte", str(write)]]
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
