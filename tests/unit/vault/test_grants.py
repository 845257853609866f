from __future__ import annotations

import pytest
from tests.support.vault import FRIEND, OWNER, STRANGER, header_of, opened, vault_file

from cohortium.errors import InputError, PolicyRefusal, VerificationError
from cohortium.vault.grants import Grants, parse_grants
from cohortium.vault.keys import Keyring, PrivateKey
from cohortium.vault.reader import open_data_key

FILE = vault_file(b"content")
HEADER = header_of(FILE)
DATA_KEY = open_data_key(HEADER, Keyring([OWNER]))
SHARED = Grants(HEADER.digest).add(DATA_KEY, [FRIEND.public])


def test_a_friend_opens_a_file_that_was_not_written_for_it() -> None:
    with pytest.raises(PolicyRefusal):
        opened(FILE, FRIEND)
    assert opened(FILE, FRIEND, grants=lambda: parse_grants(SHARED.to_bytes())).read() == b"content"
    assert opened(FILE, OWNER, grants=lambda: SHARED).read() == b"content"
    again = Grants(HEADER.digest).add(open_data_key(HEADER, Keyring([FRIEND]), lambda: SHARED), [])
    assert again.recipients == ()


def test_sharing_twice_is_sharing_once() -> None:
    assert SHARED.add(DATA_KEY, [FRIEND.public, FRIEND.public]) is not SHARED
    assert len(SHARED.add(DATA_KEY, [FRIEND.public, STRANGER.public]).recipients) == 2


def test_grants_of_another_file_or_version_open_nothing() -> None:
    other = vault_file(b"other", file_id=HEADER.file_id, version=2)
    with pytest.raises(PolicyRefusal):
        opened(other, FRIEND, grants=lambda: SHARED)
    moved = Grants(header_of(other).digest, SHARED.recipients)
    with pytest.raises(VerificationError):
        opened(other, FRIEND, grants=lambda: moved)


def test_a_key_granted_by_a_liar_opens_nothing() -> None:
    lie = Grants(HEADER.digest).add(b"k" * 32, [FRIEND.public])
    with pytest.raises(VerificationError), opened(FILE, FRIEND, grants=lambda: lie) as file:
        file.read()


def test_a_grant_cannot_take_the_place_of_the_header_s_own_key() -> None:
    lie = Grants(HEADER.digest).add(b"k" * 32, [OWNER.public])
    assert opened(FILE, OWNER, grants=lambda: lie).read() == b"content"


def test_damaged_grants_are_refused() -> None:
    data = SHARED.to_bytes()
    twice = Grants(HEADER.digest, SHARED.recipients * 2).to_bytes()
    for bad in (b"", data[:43], data[:-1], data + b"\0", b"X" + data[1:], twice):
        with pytest.raises(VerificationError) as caught:
            parse_grants(bad)
        assert caught.value.code == "bad-vault-file"
    with pytest.raises(VerificationError):
        parse_grants(data[:9] + b"\2" + data[10:])


def test_there_is_an_end_to_sharing() -> None:
    keys = [PrivateKey(bytes([i]) * 32).public for i in range(65)]
    with pytest.raises(InputError) as caught:
        SHARED.add(DATA_KEY, keys)
    assert caught.value.code == "too-large"
