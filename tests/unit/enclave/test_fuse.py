"""What is answered to the kernel about the files of a mount."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.enclave.fuse import LARGEST_READ, Files
from cohortium.errors import InputError

LOOKUP, FORGET, GETATTR, OPEN, READ, WRITE, INIT, READDIR = 1, 2, 3, 14, 15, 16, 26, 28
OUT = 16


class Numbers:
    """Files of the bytes 0, 1, 2, ... over and over."""

    def __init__(self, files: Iterable[tuple[str, int]]) -> None:
        self._files = list(files)
        self.open_now: list[Numbers] = []
        self.opened = 0

    def files(self) -> Iterable[tuple[str, int]]:
        return self._files

    def chunks(self, _path: str) -> Iterable[bytes]:
        raise NotImplementedError

    def open(self, _path: str) -> Numbers:
        one = Numbers([])
        one.open_now = self.open_now
        self.open_now.append(one)
        self.opened += 1
        return one

    def pread_into(self, offset: int, into: memoryview) -> int:
        into[:] = bytes((offset + i) % 256 for i in range(len(into)))
        return len(into)

    def close(self) -> None:
        self.open_now.remove(self)


def ask(files: Files, operation: int, node: int = 1, body: bytes = b"") -> tuple[int, bytes]:
    """The error number and what is answered."""
    head = struct.pack("<IIQQIIIHH", 40 + len(body), operation, 77, node, 0, 0, 0, 0, 0)
    answer = b"".join(map(bytes, files.answer(memoryview(head + body))))
    length, error, unique = struct.unpack_from("<IiQ", answer)
    assert (length, unique) == (len(answer), 77)
    return -error, answer[OUT:]


def read(offset: int, size: int) -> bytes:
    return struct.pack("<QQIIQII", 0, offset, size, 0, 0, 0, 0)


def found(files: Files, name: bytes, node: int = 1) -> int:
    return int(struct.unpack_from("<Q", ask(files, LOOKUP, node, name + b"\0")[1])[0])


def test_only_what_was_listed_is_found() -> None:
    files = Files(Numbers([("a/b", 5), ("a/c", 0)]))
    folder = found(files, b"a")
    assert found(files, b"b", folder) != found(files, b"c", folder) > 1
    assert found(files, b"b") == found(files, b"..", folder) == found(files, b"a/b") == 0


def test_a_read_ends_with_its_file() -> None:
    files = Files(Numbers([("", 300)]))
    assert ask(files, READ, 1, read(290, 4096)) == (0, bytes(n % 256 for n in range(290, 300)))
    assert ask(files, READ, 1, read(301, 4096)) == (0, b"")
    large = Files(Numbers([("", LARGEST_READ * 4)]))
    assert len(ask(large, READ, 1, read(0, LARGEST_READ * 2))[1]) == LARGEST_READ


def test_a_long_listing_comes_in_parts() -> None:
    names = {f"{n:0{1 + n % 60}}": n for n in range(300)}
    files = Files(Numbers(names.items()))
    seen, offset = [], 0
    while part := ask(files, READDIR, 1, read(offset, 1000))[1]:
        assert len(part) <= 1000
        while part:
            _, offset, length, _ = struct.unpack_from("<QQII", part)
            seen.append(part[24 : 24 + length].decode())
            part = part[24 + -(-length // 8) * 8 :]
    assert seen == [".", "..", *names]


def test_few_files_are_open_at_once() -> None:
    source = Numbers((str(n), 10) for n in range(100))
    files = Files(source)
    for n in range(100):
        ask(files, READ, found(files, str(n).encode()), read(0, 10))
    assert (len(source.open_now), source.opened) == (16, 100)
    ask(files, READ, found(files, b"99"), read(0, 10))
    assert source.opened == 100
    files.close()
    assert not source.open_now


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="leads elsewhere"):
        Files(Numbers([(name, 1)]))


def test_another_protocol_is_refused() -> None:
    files = Files(Numbers([("", 1)]))
    assert ask(files, INIT, 0, struct.pack("<IIII", 8, 0, 0, 0))[0] == errno.EPROTO
    error, agreed = ask(files, INIT, 0, struct.pack("<IIII", 7, 40, 1 << 17, 0xFFFFFFFF))
    assert (error, struct.unpack_from("<II", agreed), len(agreed)) == (0, (7, 31), 64)


@pytest.mark.parametrize("operation", [OPEN, WRITE, 5, 6, 8, 9, 22, 39, 4096])
def test_what_is_not_for_reading_is_not_answered(operation: int) -> None:
    assert ask(Files(Numbers([("", 1)])), operation, 1, bytes(100)) == (errno.ENOSYS, b"")


@settings(max_examples=60)
@given(
    operation=st.sampled_from([LOOKUP, FORGET, GETATTR, READ, INIT, READDIR]) | st.integers(0, 60),
    node=st.integers(0, 5),
    body=st.binary(max_size=64),
)
def test_whatever_is_asked_is_answered_or_refused(operation: int, node: int, body: bytes) -> None:
    files = Files(Numbers([("a", 10), ("b/c", 3)]))
    head = struct.pack("<IIQQIIIHH", 40 + len(body), operation, 1, node, 0, 0, 0, 0, 0)
    answer = b"".join(map(bytes, files.answer(memoryview(head + body))))
    if answer:
        length, error, _ = struct.unpack_from("<IiQ", answer)
        assert length == len(answer)
        assert error <= 0
