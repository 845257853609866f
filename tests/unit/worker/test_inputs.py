"""Ciphertext between its owner and the sandbox: what is kept of it, and what may be done to it."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from tests.support.vault import OWNER, content, vault_file

from cohortium.core.canonical import digest_bytes
from cohortium.enclave.exchange import Handed, LentFile, LentFiles
from cohortium.errors import InputError, ProtocolError, VerificationError
from cohortium.vault.grants import Grants
from cohortium.vault.header import announced_bytes, parse_header
from cohortium.vault.keys import Keyring, PrivateKey
from cohortium.worker.cache import CiphertextCache, Fetch
from cohortium.worker.inputs import LentInput

RUN = PrivateKey(b"r" * 32)
PLAIN = content(100_000)


def lent(data: bytes, path: str = "") -> LentFile:
    return LentFile(path=path, size_bytes=len(data), content_digest=digest_bytes(data))


def of(data: bytes, asked: list[int], piece: int = 30_000) -> Fetch:
    def fetch(offset: int) -> tuple[bytes, int]:
        asked.append(offset)
        return data[offset : offset + piece], len(data)

    return fetch


def ignored(_bytes: int) -> None:
    pass


def handed(data: bytes, writer: PrivateKey = OWNER) -> Handed:
    header = parse_header(data[: announced_bytes(data[:100])])
    data_key = OWNER.open(header.recipients[0].sealed, header.fixed())
    grants = Grants(header.digest).add(data_key, [RUN.public]).to_bytes()
    return Handed(
        files=LentFiles(files=(lent(data),)),
        grants={"": b64encode(grants).decode()},
        writer=writer.public.signer,
    )


def test_what_came_before_a_restart_is_not_asked_again(tmp_path: Path) -> None:
    data = vault_file(PLAIN)
    asked: list[int] = []
    first = of(data, asked)

    def breaks(offset: int) -> tuple[bytes, int]:
        if offset >= 60_000:
            raise ConnectionError
        return first(offset)

    with pytest.raises(ConnectionError):
        CiphertextCache(tmp_path, 1 << 20).file(lent(data), breaks, ignored)
    told: list[int] = []
    found = CiphertextCache(tmp_path, 1 << 20).file(lent(data), of(data, asked), told.append)
    assert asked == sorted(set(asked))
    assert sum(told) == len(data)
    assert found.path.read_bytes() == data
    assert found.head == parse_header(found.head).to_bytes() == data[: len(found.head)]


def test_a_file_of_the_cache_that_was_changed_is_fetched_again(tmp_path: Path) -> None:
    data = vault_file(PLAIN)
    asked: list[int] = []
    cache = CiphertextCache(tmp_path, 1 << 20)
    place = cache.file(lent(data), of(data, asked), ignored).path
    place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    before = len(asked)
    assert cache.file(lent(data), of(data, asked), ignored).path.read_bytes() == data
    assert len(asked) == 2 * before


def test_a_beginning_that_another_lender_made_up_spoils_no_later_run(tmp_path: Path) -> None:
    data = vault_file(PLAIN)
    cache = CiphertextCache(tmp_path, 1 << 20)
    made_up = iter([(bytes(30_000), len(data))])
    with pytest.raises(StopIteration):
        cache.file(lent(data), lambda _offset: next(made_up), ignored)
    assert cache.file(lent(data), of(data, []), ignored).path.read_bytes() == data


def test_who_names_another_size_does_not_remove_the_file_of_others(tmp_path: Path) -> None:
    data = vault_file(PLAIN)
    cache = CiphertextCache(tmp_path, 1 << 20)
    place = cache.file(lent(data), of(data, []), ignored).path
    lie = lent(data).model_copy(update={"size_bytes": len(data) - 1})
    with pytest.raises(VerificationError) as caught:
        cache.file(lie, of(data, []), ignored)
    assert caught.value.code == "bad-digest"
    assert place.read_bytes() == data


@pytest.mark.parametrize(
    ("sent", "size"), [(b"", 10), (b"short", 10), (b"x" * 20, 10), (b"other-data", 9)]
)
def test_what_is_not_the_file_is_refused_and_not_kept(
    tmp_path: Path, sent: bytes, size: int
) -> None:
    wanted = lent(b"right-data")
    answers = iter([(sent, size), (b"", size)])
    cache = CiphertextCache(tmp_path, 1 << 20)
    with pytest.raises((VerificationError, ProtocolError)):
        cache.file(wanted, lambda _offset: next(answers), ignored)
    assert not [one for one in tmp_path.rglob("*") if one.is_file() and one.suffix != ".part"]


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    files = [content(1000, bytes([number])) for number in range(4)]
    cache = CiphertextCache(tmp_path, 3000)
    places = []
    for number, data in enumerate(files[:3]):
        one = [lent(data)]
        cache.reserve(one)
        places.append(cache.file(one[0], of(data, []), ignored).path)
        if number != 1:
            cache.release(one)
    cache.reserve([lent(files[3])])
    assert [one.exists() for one in places] == [False, True, True]
    with pytest.raises(InputError, match="max_cache_bytes"):
        cache.reserve([lent(content(2000))])
    cache.release([lent(files[1])])
    cache.reserve([lent(content(2000))])


def test_a_file_that_was_exchanged_after_its_digest_was_computed_is_not_read(
    tmp_path: Path,
) -> None:
    data = vault_file(PLAIN)
    other = vault_file(b"of the same writer, for the same run", to=(OWNER, RUN))
    cache = CiphertextCache(tmp_path, 1 << 20)
    found = cache.file(lent(data), of(data, []), ignored)
    source = LentInput(lambda: None)
    source.lend(handed(data), {"": found}, Keyring([RUN]))
    assert list(source.files()) == [("", len(PLAIN))]
    assert b"".join(source.chunks("")) == PLAIN
    found.path.write_bytes(other)
    with pytest.raises(VerificationError, match="exchanged"):
        source.open("")
    changed = bytearray(data)
    changed[-30] ^= 1
    found.path.write_bytes(bytes(changed))
    with pytest.raises(VerificationError):
        b"".join(source.chunks(""))


def test_a_key_of_another_file_or_writer_opens_nothing(tmp_path: Path) -> None:
    data, other = vault_file(PLAIN), vault_file(b"another")
    found = CiphertextCache(tmp_path, 1 << 20).file(lent(data), of(data, []), ignored)
    source = LentInput(lambda: None)
    wrong = handed(data).model_copy(update={"grants": handed(other).grants})
    with pytest.raises(VerificationError, match="another file's"):
        source.lend(wrong, {"": found}, Keyring([RUN]))
    with pytest.raises(VerificationError) as caught:
        source.lend(handed(data, writer=RUN), {"": found}, Keyring([RUN]))
    assert caught.value.code == "unknown-signer"
    assert list(source.files()) == []


def test_after_the_run_nothing_can_be_read(tmp_path: Path) -> None:
    data = vault_file(PLAIN)
    found = CiphertextCache(tmp_path, 1 << 20).file(lent(data), of(data, []), ignored)
    source = LentInput(lambda: None)
    source.lend(handed(data), {"": found}, Keyring([RUN]))
    source.drop()
    assert list(source.files()) == []
    with pytest.raises(KeyError):
        source.open("")
