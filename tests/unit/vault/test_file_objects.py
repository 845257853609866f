"""Reader and writer as ordinary file objects."""

from __future__ import annotations

import gc
import io
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.source import ROOT
from tests.support.vault import (
    CHUNK,
    CHUNK_BITS,
    OWNER,
    STORED,
    content,
    header_of,
    opened,
    vault_file,
)

from cohortium.errors import InputError, VerificationError
from cohortium.vault.keys import Keyring
from cohortium.vault.reader import VaultReader
from cohortium.vault.storage import LocalSink, StreamSink, StreamSource
from cohortium.vault.writer import VaultWriter

RING = Keyring([OWNER])
PLAIN = content(5 * CHUNK + 123)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path: Path, plain: bytes, **options: object) -> None:
    with VaultWriter(
        LocalSink(path, durable=False),
        [OWNER.public],
        OWNER.signing,
        chunk_bits=CHUNK_BITS,
        **options,  # type: ignore[arg-type]
    ) as file:
        file.write(plain)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("piece", [1000, CHUNK, 2 * CHUNK + 1, 10 * CHUNK])
def test_pieces_of_any_size_with_any_number_of_threads(
    tmp_path: Path, piece: int, threads: int
) -> None:
    path = tmp_path / "a"
    with VaultWriter.open(
        path, [OWNER.public], OWNER.signing, chunk_bits=CHUNK_BITS, threads=threads
    ) as file:
        for at in range(0, len(PLAIN), piece):
            assert file.write(PLAIN[at : at + piece]) == len(PLAIN[at : at + piece])
        assert file.tell() == len(PLAIN)
    with VaultReader.open(path, RING, threads=threads) as reader:
        read = []
        while data := reader.read(piece):
            read.append(data)
        assert b"".join(read) == PLAIN
        assert reader.read() == b""
    assert names(tmp_path) == ["a"]


def test_seek_tell_and_read_behave_as_those_of_a_file() -> None:
    with opened(vault_file(PLAIN)) as file, io.BytesIO(PLAIN) as plain:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        for place in ((10, 0), (-5, 1), (-CHUNK - 3, 2), (len(PLAIN) + 9, 0), (0, 0)):
            assert file.seek(*place) == plain.seek(*place)
            assert file.read(CHUNK + 5) == plain.read(CHUNK + 5)
            assert file.tell() == plain.tell()
        for bad in ((-1, 0), (0, 7)):
            with pytest.raises(ValueError, match="position"):
                file.seek(*bad)
        buffer = bytearray(3 * CHUNK)
        file.seek(3 * CHUNK)
        assert file.readinto(buffer) == len(PLAIN) - 3 * CHUNK
        assert buffer[: len(PLAIN) - 3 * CHUNK] == PLAIN[3 * CHUNK :]
        assert file.pread(len(PLAIN) + 1, 5) == b""
    with pytest.raises(ValueError, match="closed"):
        file.pread(0, 1)


def test_pyarrow_reads_into_its_own_memory() -> None:
    with opened(vault_file(PLAIN)) as file:
        file.seek(10)
        assert file.read_buffer(CHUNK).to_pybytes() == PLAIN[10 : CHUNK + 10]
        assert file.tell() == CHUNK + 10
        assert file.read_buffer().to_pybytes() == PLAIN[CHUNK + 10 :]
        assert file.read_buffer(5).to_pybytes() == b""


def test_a_text_file_is_read_by_lines() -> None:
    lines = [f"{i},Müller\n" for i in range(2000)]
    file = opened(vault_file("".join(lines).encode()))
    assert [line.decode() for line in file] == lines
    file.seek(0)
    with io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8") as text:
        assert list(text) == lines


class _Counting(StreamSource):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.read: list[tuple[int, int]] = []

    def read_at(self, offset: int, into: memoryview) -> None:
        self.read.append((offset, len(into)))
        super().read_at(offset, into)


def test_a_read_touches_the_chunks_that_it_needs_and_no_other() -> None:
    source = _Counting(vault_file(PLAIN))
    with VaultReader(source, RING) as file:
        begin = file.header.n_bytes
        source.read.clear()
        assert file.pread(3 * CHUNK + 10, 100) == PLAIN[3 * CHUNK + 10 :][:100]
        assert source.read == [(begin + 3 * STORED, STORED)]
        file.pread(3 * CHUNK + 2000, 50)
        assert len(source.read) == 1, "the chunk is in the cache"
        file.pread(2 * CHUNK - 1, 2)
        assert sum(length for _, length in source.read) == 3 * STORED


def test_who_reads_on_in_order_gets_more_chunks_with_each_request() -> None:
    source = _Counting(vault_file(content(40 * CHUNK)))
    with VaultReader(source, RING) as file:
        source.read.clear()
        assert b"".join(iter(lambda: file.read(1000), b"")) == content(40 * CHUNK)
    assert len(source.read) < 10


def test_threads_may_read_one_file_at_once() -> None:
    wrong = []
    with opened(vault_file(PLAIN), threads=2) as file:

        def read(seed: int) -> None:
            for step in range(60):
                at = (seed * 7919 + step * 1237) % len(PLAIN)
                if file.pread(at, 2 * CHUNK) != PLAIN[at : at + 2 * CHUNK]:
                    wrong.append(at)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_threads_that_seek_and_read_without_a_lock_get_what_they_sought() -> None:
    """DuckDB does so; with one position for all it would read wrong places."""
    with (
        opened(vault_file(PLAIN)) as file,
        ThreadPoolExecutor(1) as one,
        ThreadPoolExecutor(1) as two,
    ):
        for a, b in ((10, 9000), (5000, 0)):
            one.submit(file.seek, a).result()
            two.submit(file.seek, b).result()
            assert one.submit(file.read, 7).result() == PLAIN[a : a + 7]
            assert two.submit(file.read, 7).result() == PLAIN[b : b + 7]
            assert one.submit(file.tell).result() == a + 7


FORKED = """
import os, sys
from tests.support.vault import OWNER, content
from cohortium.vault.keys import Keyring
from cohortium.vault.reader import VaultReader
with VaultReader.open(sys.argv[1], Keyring([OWNER]), threads=2) as file:
    first = file.pread(0, file.size)
    child = os.fork()
    assert file.pread(0, file.size) == first == content(len(first))
    if child == 0:
        os._exit(0)
    sys.exit(os.waitpid(child, 0)[1])
"""


def test_a_file_is_read_on_in_a_forked_process(tmp_path: Path) -> None:
    """Workers of a torch DataLoader are forked; threads do not live on in them."""
    write(tmp_path / "a", PLAIN)
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tmp_path / "a")]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_file_handed_to_another_thread_and_back_is_read_on() -> None:
    with opened(vault_file(PLAIN)) as file, ThreadPoolExecutor(1) as other:
        file.seek(100)
        assert other.submit(file.read, 50).result() == PLAIN[100:150]
        assert file.tell() == 150
        assert file.read(50) == PLAIN[150:200]
        assert other.submit(file.read, 50).result() == PLAIN[200:250]


@pytest.mark.parametrize("threads", [1, 2])
def test_no_unverified_byte_reaches_the_caller(threads: int) -> None:
    """The library writes plaintext before it has seen the tag."""
    data = bytearray(vault_file(PLAIN))
    data[header_of(bytes(data)).n_bytes + 4 * STORED + 5] ^= 1
    buffer = bytearray(b"\xee" * len(PLAIN))
    with opened(bytes(data), threads=threads) as file:
        with pytest.raises(VerificationError, match="chunk 4"):
            file.readinto(buffer)
        assert not any(buffer[4 * CHUNK : 5 * CHUNK])
        with pytest.raises(VerificationError, match="chunk 4"):
            file.pread(4 * CHUNK + 7, 1)
        assert file.pread(0, 50) == PLAIN[:50]


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, PLAIN)
    with VaultReader.open(path, RING) as file:
        os.truncate(path, 3000)
        with pytest.raises(VerificationError, match="shorter"):
            file.read()


def test_a_file_that_is_not_closed_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, b"old")

    def stop() -> None:
        with VaultWriter.open(
            path, [OWNER.public], OWNER.signing, chunk_bits=CHUNK_BITS, threads=2
        ) as file:
            file.write(PLAIN)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    forgotten = VaultWriter.open(path, [OWNER.public], OWNER.signing, chunk_bits=CHUNK_BITS)
    forgotten.write(PLAIN)
    del forgotten
    gc.collect()
    assert VaultReader.open(path, RING).read() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_closed_or_discarded_writer_takes_nothing_more(tmp_path: Path) -> None:
    for end in ("close", "discard"):
        file = VaultWriter.open(tmp_path / end, [OWNER.public], OWNER.signing)
        getattr(file, end)()
        getattr(file, end)()
        with pytest.raises(ValueError, match="closed"):
            file.write(b"x")
    assert names(tmp_path) == ["close"]


def test_places_that_cannot_be_read_or_written_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        VaultReader.open(tmp_path / "none", RING)
    assert caught.value.code == "not-found"
    with pytest.raises(InputError):
        VaultWriter.open(tmp_path / "none" / "a", [OWNER.public], OWNER.signing)


def test_a_stream_is_written_in_order_and_half_of_it_cannot_be_read() -> None:
    out = io.BytesIO()
    file = VaultWriter(
        StreamSink(out), [OWNER.public], OWNER.signing, chunk_bits=CHUNK_BITS, threads=4
    )
    file.write(PLAIN)
    half = out.getvalue()
    with pytest.raises(VerificationError), opened(half) as reader:
        reader.read()
    file.close()
    assert opened(out.getvalue()).read() == PLAIN


def test_private_keys_are_neither_printed_nor_pickled() -> None:
    assert "seed" not in repr(OWNER)
    assert OWNER.public.fingerprint in repr(Keyring([OWNER]))
    with pytest.raises(TypeError, match="private key"):
        pickle.dumps(OWNER)


def test_keys_and_cached_plaintext_are_overwritten_when_a_file_is_closed() -> None:
    file = opened(vault_file(PLAIN))
    file.pread(0, 10)
    chunk = file._cache[0]
    cipher = file._cipher
    assert cipher is not None
    key = cipher._key
    assert any(chunk)
    assert any(key)
    file.close()
    assert not any(chunk)
    assert not any(key)


FORKED_WRITER = """
import os, sys
from pathlib import Path
from tests.support.vault import OWNER
from cohortium.vault.writer import VaultWriter
file = VaultWriter.open(Path(sys.argv[1]), [OWNER.public], OWNER.signing)
file.write(b"whole")
for act in (lambda: file.write(b"more"), file.discard, file.close, file.__del__):
    child = os.fork()
    if not child:
        try:
            act()
        except ValueError:
            pass
        os._exit(0)
    os.waitpid(child, 0)
file.close()
"""


def test_a_forked_process_does_not_touch_a_file_being_written(tmp_path: Path) -> None:
    """Two processes under one key would encrypt two chunks with one nonce."""
    place = tmp_path / "f"
    subprocess.run([sys.executable, "-c", FORKED_WRITER, str(place)], cwd=ROOT, check=True)
    with VaultReader.open(place, Keyring([OWNER])) as file:
        assert file.read() == b"whole"
    assert names(tmp_path) == ["f"]
