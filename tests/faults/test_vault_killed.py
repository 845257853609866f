"""A writer that dies or whose disk fails leaves what was there before, or the new file whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.source import ROOT
from tests.support.vault import CHUNK, OWNER, content, header_of, vault_file

from cohortium.errors import InputError
from cohortium.vault.anchor import MemoryAnchor
from cohortium.vault.keys import Keyring
from cohortium.vault.reader import VaultReader
from cohortium.vault.storage import LocalSink
from cohortium.vault.writer import VaultWriter

NEW = content(5 * CHUNK, b"new")

PROGRAM = """
import os, sys
from pathlib import Path
from tests.support.vault import OWNER, content, CHUNK
from cohortium.vault.writer import VaultWriter
file = VaultWriter.open(sys.argv[1], [OWNER.public], OWNER.signing, chunk_bits=12, threads=2)
file.write(content(5 * CHUNK, b"new"))
print("written", flush=True)
sys.stdin.read()
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(vault_file(b"old"))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert VaultReader.open(path, Keyring([OWNER])).read() == b"old"
    (left,) = (other for other in tmp_path.iterdir() if other != path)
    assert left.name.endswith(".part")


class _Fails:
    """A sink whose k-th call fails, before it has done anything or after it has done it."""

    parallel = False

    def __init__(self, path: Path, call: int, after: bool) -> None:
        self._sink = LocalSink(path, durable=False)
        self._left, self._after = call, after

    def _fails_now(self) -> bool:
        self._left -= 1
        return self._left == -1

    def write_at(self, offset: int, data: memoryview) -> None:
        fails = self._fails_now()
        if not fails or self._after:
            self._sink.write_at(offset, data)
        if fails:
            raise OSError(28, "No space left on device")

    def commit(self) -> None:
        fails = self._fails_now()
        if not fails or self._after:
            self._sink.commit()
        if fails:
            raise OSError(5, "Input/output error")

    def discard(self) -> None:
        self._sink.discard()


def write(path: Path, call: int, after: bool, anchor: MemoryAnchor) -> None:
    old = header_of(path.read_bytes())
    with VaultWriter(
        _Fails(path, call, after),
        [OWNER.public],
        OWNER.signing,
        chunk_bits=12,
        file_id=old.file_id,
        version=old.version + 1,
        anchor=anchor,
    ) as file:
        file.write(NEW)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(7))
def test_each_write_that_fails_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, call: int, after: bool
) -> None:
    """Six writes (header, five chunks) and the commit."""
    path, anchor = tmp_path / "a", MemoryAnchor()
    path.write_bytes(vault_file(b"old", anchor=anchor))
    with pytest.raises(OSError, match=r"space|Input"):
        write(path, call, after, anchor)
    assert [other.name for other in tmp_path.iterdir()] == ["a"]
    is_new = call == 6 and after
    with VaultReader.open(path, Keyring([OWNER])) as file:
        assert file.read() == (NEW if is_new else b"old")
        assert file.header.version == (2 if is_new else 1)
    known = anchor.latest(header_of(path.read_bytes()).file_id)
    assert known is not None
    assert known.version == 1
    write(path, 99, False, anchor)


def test_a_full_disk_is_an_error_of_the_catalogue() -> None:
    with pytest.raises(InputError) as caught:
        VaultWriter.open("/proc/none", [OWNER.public], OWNER.signing)
    assert caught.value.code == "bad-input"
