"""The vault: any way of reading gives the content, any change of the file is refused."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.vault import (
    CHUNK,
    FRIEND,
    OWNER,
    content,
    header_of,
    opened,
    parts,
    vault_file,
    verify_all,
)

from cohortium.errors import PolicyRefusal, VerificationError
from cohortium.vault.grants import Grants, parse_grants
from cohortium.vault.header import announced_bytes, announced_plain_bytes, parse_header
from cohortium.vault.keys import Keyring
from cohortium.vault.reader import VaultReader, open_data_key
from cohortium.vault.storage import LocalSink
from cohortium.vault.writer import VaultWriter

PLAIN = content(3 * CHUNK + 777)
FILE = vault_file(PLAIN)
HEADER, CHUNKS = parts(FILE)
ring = Keyring([OWNER])


def is_refused(data: bytes) -> bool:
    """Whether opening it or reading all of it fails, with a VerificationError only."""
    try:
        with opened(data) as file:
            verify_all(file)
    except VerificationError:
        return True
    return False


@settings(max_examples=60, deadline=None)
@given(
    ops=st.lists(
        st.tuples(
            st.sampled_from(["read", "readinto", "pread", "seek"]),
            st.integers(0, len(PLAIN) + 100),
            st.integers(0, 2 * CHUNK + 5),
        ),
        max_size=12,
    ),
    threads=st.integers(1, 3),
)
def test_any_way_of_reading_gives_the_content(
    ops: list[tuple[str, int, int]], threads: int
) -> None:
    with opened(FILE, threads=threads) as file, io.BytesIO(PLAIN) as plain:
        for op, at, n in ops:
            if op == "seek":
                assert file.seek(at) == plain.seek(at)
            elif op == "pread":
                assert file.pread(at, n) == PLAIN[at : at + n]
            elif op == "read":
                assert file.read(n) == plain.read(n)
            else:
                mine, theirs = bytearray(n), bytearray(n)
                assert file.readinto(mine) == plain.readinto(theirs)
                assert mine == theirs
            assert file.tell() == plain.tell()


@settings(max_examples=30, deadline=None)
@given(
    pieces=st.lists(st.integers(0, 2 * CHUNK + 3), max_size=8),
    threads=st.integers(1, 3),
)
def test_any_way_of_writing_makes_the_same_content(
    pieces: list[int], threads: int, tmp_path_factory: object
) -> None:
    path = Path(tmp_path_factory.mktemp("vault")) / "a"  # type: ignore[attr-defined]
    plain = content(sum(pieces))
    with VaultWriter(
        LocalSink(path, durable=False),
        [OWNER.public],
        OWNER.signing,
        chunk_bits=12,
        threads=threads,
    ) as file:
        at = 0
        for n in pieces:
            file.write(plain[at : at + n])
            at += n
    with VaultReader.open(path, ring) as reader:
        assert reader.read() == plain


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(FILE) - 1), flip=st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, flip: int) -> None:
    assert is_refused(FILE[:at] + bytes([FILE[at] ^ flip]) + FILE[at + 1 :])


@settings(max_examples=60, deadline=None)
@given(order=st.lists(st.integers(0, len(CHUNKS) - 1), max_size=6))
def test_any_other_list_of_chunks_is_refused(order: list[int]) -> None:
    changed = order != list(range(len(CHUNKS)))
    assert is_refused(HEADER + b"".join(CHUNKS[i] for i in order)) == changed


@settings(max_examples=60, deadline=None)
@given(begin=st.integers(0, len(FILE)), n=st.integers(1, len(FILE)))
def test_any_cut_is_refused(begin: int, n: int) -> None:
    cut = FILE[:begin] + FILE[begin + n :]
    assert cut == FILE or is_refused(cut)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(FILE)), more=st.binary(min_size=1, max_size=40))
def test_any_insertion_is_refused(at: int, more: bytes) -> None:
    assert is_refused(FILE[:at] + more + FILE[at:])


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200), like=st.booleans(), at=st.integers(0, 73))
def test_parsers_of_any_bytes_refuse_as_they_say(data: bytes, like: bool, at: int) -> None:
    if like:
        data = FILE[:at] + data + FILE[at + len(data) : 1400]
    for parse in (
        parse_header,
        announced_bytes,
        lambda some: announced_plain_bytes(some, 10**6),
        parse_grants,
    ):
        with contextlib.suppress(VerificationError):
            parse(data)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 1300), flip=st.integers(1, 255))
def test_changed_grants_never_open_with_another_content(at: int, flip: int) -> None:
    key = open_data_key(header_of(FILE), Keyring([OWNER]))
    grants = Grants(header_of(FILE).digest).add(key, [FRIEND.public]).to_bytes()
    at %= len(grants)
    with contextlib.suppress(VerificationError, PolicyRefusal):
        changed = parse_grants(grants[:at] + bytes([grants[at] ^ flip]) + grants[at + 1 :])
        with opened(FILE, FRIEND, grants=lambda: changed) as file:
            assert file.read() == PLAIN
