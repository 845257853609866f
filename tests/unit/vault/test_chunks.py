from __future__ import annotations

import pytest
from tests.support.vault import CHUNK, OWNER, content, header_of, parts, vault_file

from cohortium.errors import VerificationError
from cohortium.vault.chunks import ChunkCipher, Places, nonce
from cohortium.vault.keys import Keyring
from cohortium.vault.reader import open_data_key

FILE = vault_file(content(2 * CHUNK + 5))
HEADER = header_of(FILE)


def cipher() -> ChunkCipher:
    return ChunkCipher(open_data_key(HEADER, Keyring([OWNER])), HEADER)


def test_nothing_of_an_altered_chunk_is_left() -> None:
    _, (first, *_) = parts(FILE)
    into = bytearray(CHUNK)
    cipher().decrypt(0, False, memoryview(first), memoryview(into))
    assert into == content(CHUNK)
    altered = first[:-1] + bytes([first[-1] ^ 1])
    for index, last, data in ((0, False, altered), (1, False, first), (0, True, first)):
        into = bytearray(b"\xee" * CHUNK)
        with pytest.raises(VerificationError, match=f"chunk {index}"):
            cipher().decrypt(index, last, memoryview(data), memoryview(into))
        assert not any(into)


def test_each_chunk_has_its_nonce() -> None:
    assert nonce(0, False) == bytes(12)
    assert nonce(2**32 - 1, True).hex() == "00000000000000ffffffff01"
    for index in (-1, 2**32):
        with pytest.raises(RuntimeError):
            nonce(index, False)


def test_places_cover_the_file() -> None:
    places = Places(HEADER, len(FILE))
    assert [places.plain(i) for i in range(places.n_chunks)] == [CHUNK, CHUNK, 5]
    assert places.stored(2) + 5 + 16 == len(FILE)
