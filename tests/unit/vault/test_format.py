"""The format: what a file looks like, and that whatever is not so is refused."""

from __future__ import annotations

import io

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tests.support.vault import (
    CHUNK,
    FRIEND,
    OWNER,
    STORED,
    STRANGER,
    content,
    header_of,
    opened,
    parts,
    vault_file,
    verify_all,
)

from cohortium.crypto.keys import verify
from cohortium.errors import InputError, PolicyRefusal, VerificationError
from cohortium.vault.header import (
    SIGNED,
    Header,
    Sealed,
    announced_plain_bytes,
    parse_header,
    plain_bytes,
)
from cohortium.vault.keys import Keyring
from cohortium.vault.reader import Expected, VaultReader
from cohortium.vault.storage import StreamSink, StreamSource
from cohortium.vault.writer import VaultWriter

PLAIN = content(2 * CHUNK + 100)
FILE = vault_file(PLAIN)


def refused(data: bytes) -> str:
    """The code with which opening or reading all of `data` is refused."""
    with pytest.raises(VerificationError) as caught, opened(data) as file:
        verify_all(file)
    return caught.value.code


def test_a_file_is_its_header_and_its_chunks_as_the_specification_says() -> None:
    """Taken apart here with nothing of the package but the wrapped key."""
    header = FILE[: 74 + 1200 + 64]
    assert header[:12] == b"CVAULT\r\n" + bytes([0, 1, 1, 12])
    assert int.from_bytes(header[12:16], "big") == len(header)
    assert int.from_bytes(header[32:40], "big") == 1
    assert header[40:72] == OWNER.public.signing
    verify(OWNER.public.signer, header[-64:], SIGNED + header[:-64])
    assert header[74:106] == OWNER.public.key_id
    data_key = OWNER.open(header[106 : 106 + 1168], header[:74])
    salt = hashes.Hash(hashes.SHA256())
    salt.update(header)
    hkdf = HKDF(hashes.SHA256(), 32, salt.finalize(), b"cohortium vault chunks 1")
    aead = AESGCM(hkdf.derive(data_key))
    body, plain = FILE[len(header) :], b""
    for index in range(3):
        nonce = index.to_bytes(11, "big") + bytes([index == 2])
        plain += aead.decrypt(nonce, body[index * STORED : (index + 1) * STORED], None)
    assert plain == PLAIN
    assert announced_plain_bytes(FILE[:74], len(FILE)) == len(PLAIN)


@pytest.mark.parametrize("n", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_every_length_is_read_back(n: int) -> None:
    with opened(vault_file(content(n))) as file:
        assert file.size == n
        assert file.read() == content(n)


def test_two_files_of_the_same_content_have_nothing_in_common() -> None:
    other = vault_file(PLAIN)
    (_, mine), (_, theirs) = parts(FILE), parts(other)
    assert header_of(other).file_id != header_of(FILE).file_id
    assert not set(mine) & set(theirs)


def test_each_single_changed_byte_of_a_header_is_refused() -> None:
    for at in range(header_of(FILE).n_bytes):
        changed = FILE[:at] + bytes([FILE[at] ^ 1]) + FILE[at + 1 :]
        with pytest.raises(VerificationError):
            opened(changed)


@pytest.mark.parametrize("cut", [1, 16, 100, 116, 117, STORED + 116, 2 * STORED + 116])
def test_a_cut_file_is_refused(cut: int) -> None:
    assert refused(FILE[:-cut]) == "bad-vault-file"


@pytest.mark.parametrize("n", [0, 8, 73, 74, 1337, 1338, 1339, 1353])
def test_a_beginning_alone_is_refused(n: int) -> None:
    assert refused(FILE[:n]) == "bad-vault-file"


@pytest.mark.parametrize("more", [b"\0", b"\0" * 16, FILE[-116:], FILE[-STORED - 116 :]])
def test_a_file_with_something_after_it_is_refused(more: bytes) -> None:
    assert refused(FILE + more) == "bad-vault-file"


def test_chunks_in_another_order_or_twice_are_refused() -> None:
    header, (first, second, last) = parts(FILE)
    for order in ([second, first, last], [first, first, last], [second, last], [first, last]):
        assert refused(header + b"".join(order)) == "bad-vault-file"


def test_chunks_of_another_file_or_version_are_refused() -> None:
    header, (first, second, last) = parts(FILE)
    again = vault_file(PLAIN, file_id=header_of(FILE).file_id, version=2)
    for other in (vault_file(PLAIN), again):
        other_header, others = parts(other)
        assert refused(header + others[0] + second + last) == "bad-vault-file"
        assert refused(other_header + first + second + last) == "bad-vault-file"


def test_a_full_last_chunk_is_not_the_end_unless_it_was() -> None:
    header, chunks = parts(vault_file(content(3 * CHUNK)))
    assert refused(header + b"".join(chunks[:2])) == "bad-vault-file"


def test_an_empty_chunk_ends_only_an_empty_file() -> None:
    header = header_of(FILE)
    empty = AESGCM(b"k" * 32).encrypt(b"n" * 12, b"", None)
    assert refused(FILE[:-116] + empty) == "bad-vault-file"
    assert plain_bytes(16, CHUNK) == 0
    for body in (0, 15, STORED + 16, header.chunk_bytes * (2**33)):
        with pytest.raises(VerificationError):
            plain_bytes(body, CHUNK)


def test_a_header_signed_by_its_writer_still_keeps_to_the_rules() -> None:
    """What a hostile writer could sign."""
    good = header_of(FILE)
    entry = good.recipients[0]

    def signed(**changes: object) -> bytes:
        fields = {
            "chunk_bits": 12,
            "file_id": good.file_id,
            "version": 1,
            "writer": good.writer,
            "recipients": good.recipients,
        }
        return Header(**(fields | changes)).sign(OWNER.signing).to_bytes()  # type: ignore[arg-type]

    assert parse_header(signed()) == good
    for changes in (
        {"chunk_bits": 11},
        {"chunk_bits": 25},
        {"version": 0},
        {"version": 2**63},
        {"recipients": ()},
        {"recipients": (entry, entry)},
        {"recipients": tuple(Sealed(bytes([i]) * 32, entry.sealed) for i in range(65))},
    ):
        with pytest.raises(VerificationError) as caught:
            parse_header(signed(**changes))
        assert caught.value.code == "bad-vault-file"


def test_a_data_key_sealed_for_another_file_does_not_open_this_one() -> None:
    entry = header_of(vault_file(PLAIN)).recipients[0]
    with pytest.raises(VerificationError) as caught:
        OWNER.open(entry.sealed, header_of(FILE).fixed())
    assert caught.value.code == "bad-vault-file"


def test_only_recipients_open_a_file_each_with_its_own_key() -> None:
    data = vault_file(PLAIN, to=[OWNER, FRIEND, FRIEND])
    assert len(header_of(data).recipients) == 2
    for key in (OWNER, FRIEND):
        with opened(data, key) as file:
            assert file.read() == PLAIN
    with opened(data, STRANGER, FRIEND) as file:
        assert file.read(10) == PLAIN[:10]
    with pytest.raises(PolicyRefusal) as caught:
        opened(data, STRANGER)
    assert caught.value.code == "not-authorised"
    with pytest.raises(PolicyRefusal):
        VaultReader(StreamSource(io.BytesIO(data)), Keyring([]))


def test_a_reader_takes_files_of_writers_that_count_only() -> None:
    forged = vault_file(b"poison", to=[OWNER], by=STRANGER)
    assert opened(forged).read() == b"poison"
    with pytest.raises(VerificationError) as caught:
        opened(forged, expected=Expected(writers={OWNER.public.signer}))
    assert caught.value.code == "unknown-signer"
    assert opened(FILE, expected=Expected(writers={OWNER.public.signer})).read() == PLAIN


def test_a_reader_that_knows_the_identity_takes_no_other_file() -> None:
    wanted = header_of(FILE).file_id
    assert opened(FILE, expected=Expected(file_id=wanted)).read() == PLAIN
    with pytest.raises(VerificationError) as caught:
        opened(vault_file(PLAIN), expected=Expected(file_id=wanted))
    assert caught.value.code == "vault-identity"


@pytest.mark.parametrize("n", [0, 65])
def test_a_writer_wants_one_to_sixty_four_recipients(n: int) -> None:
    keys = [type(OWNER)(bytes([i + 1]) * 32).public for i in range(n)]
    with pytest.raises(InputError) as caught:
        VaultWriter(StreamSink(io.BytesIO()), keys, OWNER.signing)
    assert caught.value.code == "bad-input"


def test_a_writer_refuses_versions_that_no_reader_takes() -> None:
    for version in (0, 2**63):
        with pytest.raises(InputError):
            VaultWriter(StreamSink(io.BytesIO()), [OWNER.public], OWNER.signing, version=version)
