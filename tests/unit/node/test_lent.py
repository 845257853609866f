"""What an institution lends: encrypted on the way in, found by digest, handed out for one key."""

from __future__ import annotations

import io
from base64 import b64decode
from pathlib import Path

import pytest
from tests.support.builders import CONSORTIUM, NOW
from tests.support.vault import FRIEND, STRANGER, vault_file

from cohortium.core.clock import system_clock
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.exchange import PIECE_BYTES
from cohortium.errors import CohortiumError, InputError, VerificationError
from cohortium.node.identity import Identity
from cohortium.node.lent import Lent, LentFolder
from cohortium.node.vault_key import VaultKey
from cohortium.vault.card import VaultCard
from cohortium.vault.grants import Grants, parse_grants
from cohortium.vault.keys import Keyring, PrivateKey
from cohortium.vault.reader import VaultReader, open_data_key
from cohortium.vault.storage import StreamSource


@pytest.fixture
def vault(tmp_path: Path) -> VaultKey:
    return VaultKey(tmp_path / "vault.key")


@pytest.fixture
def lent(tmp_path: Path, vault: VaultKey) -> LentFolder:
    return LentFolder(tmp_path / "lent", vault, lambda: NOW)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    (folder / "one.png").write_bytes(b"one" * 1000)
    (folder / "deep" / "two.png").write_bytes(b"")
    return folder


def _refused(code: str, lent: LentFolder, name: str, source: Path) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        lent.add(name, "dataset", source)
    assert caught.value.code == code, caught.value.message
    return caught.value


def _digest(one: Lent, path: str = "") -> str:
    return next(file.content_digest for file in one.files.files if file.path == path)


def _opened(folder: LentFolder, one: Lent, path: str, key: PrivateKey) -> bytes:
    """What a recipient of grants reads of the ciphertext."""
    data, size = folder.piece(one, _digest(one, path), 0)
    assert len(data) == size
    grants = parse_grants(b64decode(folder.handed(one, key.public).grants[path]))
    reader = VaultReader(StreamSource(io.BytesIO(data)), Keyring([key]), grants=lambda: grants)
    return reader.read()


def test_a_folder_is_encrypted_and_its_digest_names_the_ciphertext(
    lent: LentFolder, pictures: Path, tmp_path: Path
) -> None:
    seen: list[int] = []
    one = lent.add("pictures", "dataset", pictures, seen.append)
    assert [file.path for file in one.files.files] == ["deep/two.png", "one.png"]
    assert (one.plain_bytes, sum(seen), one.source) == (3000, 3000, "pictures")
    assert one.artefact == one.files.digest == lent.find(one.artefact).artefact
    lent.verify(one)
    on_disk = b"".join(p.read_bytes() for p in (tmp_path / "lent").rglob("*") if p.is_file())
    assert b"oneone" not in on_disk
    assert _opened(lent, one, "one.png", FRIEND) == b"one" * 1000
    assert _opened(lent, one, "deep/two.png", FRIEND) == b""


def test_one_file_has_no_path_and_travels_in_pieces(lent: LentFolder, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(b"w" * (PIECE_BYTES + 10))
    one = lent.add("weights", "model", source)
    first, size = lent.piece(one, _digest(one), 0)
    last, _ = lent.piece(one, _digest(one), PIECE_BYTES)
    assert len(first) == PIECE_BYTES
    assert len(first) + len(last) == size == one.stored_bytes
    again = lent.add("again", "model", source)
    assert again.artefact != one.artefact  # another data key: nobody sees that it is the same


def test_a_vault_file_for_this_node_stays_as_it_is(
    lent: LentFolder, vault: VaultKey, tmp_path: Path
) -> None:
    data = vault_file(b"made elsewhere", to=(vault.private,), by=STRANGER)
    (tmp_path / "model").write_bytes(data)
    one = lent.add("model", "model", tmp_path / "model")
    assert lent.piece(one, _digest(one), 0)[0] == data
    assert one.writer == STRANGER.public.signer
    assert _opened(lent, one, "", FRIEND) == b"made elsewhere"


def test_a_vault_file_that_was_granted_to_this_node_keeps_its_grants(
    lent: LentFolder, vault: VaultKey, tmp_path: Path
) -> None:
    data = vault_file(b"granted", to=(FRIEND,), by=FRIEND)
    (tmp_path / "model").write_bytes(data)
    _refused("not-authorised", lent, "model", tmp_path / "model")
    reader = VaultReader(StreamSource(io.BytesIO(data)), Keyring([FRIEND]))
    key = open_data_key(reader.header, Keyring([FRIEND]))
    grants = Grants(reader.header.digest).add(key, [vault.private.public])
    (tmp_path / "model.grants").write_bytes(grants.to_bytes())
    one = lent.add("model", "model", tmp_path / "model")
    assert _opened(lent, one, "", STRANGER) == b"granted"


def test_what_cannot_be_lent_leaves_no_trace(
    lent: LentFolder, vault: VaultKey, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    _refused("bad-input", lent, "empty", tmp_path / "empty")
    _refused("not-found", lent, "nothing", tmp_path / "nothing")
    for name in ("../up", "with space", "a/b", ".hidden", "_x", "ä"):
        _refused("bad-input", lent, name, pictures)
    altered = bytearray(vault_file(b"x" * 9000, to=(vault.private,)))
    altered[-1] ^= 1
    (tmp_path / "altered").write_bytes(altered)
    _refused("bad-vault-file", lent, "altered", tmp_path / "altered")
    (pictures / "mixed").write_bytes(vault_file(b"x", to=(vault.private,)))
    assert "lend them apart" in _refused("bad-input", lent, "mixed", pictures).message
    (pictures / "mixed").unlink()
    (pictures / "link").symlink_to("/etc/passwd")
    _refused("bad-input", lent, "linked", pictures)
    (pictures / "link").unlink()
    lent.add("pictures", "dataset", pictures)
    _refused("already-exists", lent, "pictures", pictures)
    assert lent.names() == [path.name for path in (tmp_path / "lent").iterdir()] == ["pictures"]


def test_a_path_leads_nowhere_else(lent: LentFolder, pictures: Path, tmp_path: Path) -> None:
    one = lent.add("pictures", "dataset", pictures)
    (tmp_path / "lent" / "secret").write_text("secret")
    for path in (
        "../lent.json",
        "/etc/passwd",
        "deep/../one.png",
        "deep",
        "",
        "one.png\0",
        "./one.png",
        "one.png",
    ):
        with pytest.raises(InputError):
            lent.piece(one, path, 0)
    for offset in (-1, one.files.files[1].size_bytes):
        with pytest.raises(InputError):
            lent.piece(one, _digest(one, "one.png"), offset)


def test_files_that_were_exchanged_are_not_lent(
    lent: LentFolder, pictures: Path, tmp_path: Path
) -> None:
    one = lent.add("pictures", "dataset", pictures)
    file = tmp_path / "lent" / "pictures" / "data" / "one.png"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(VerificationError, match="not those that were lent"):
        lent.verify(one)
    file.write_bytes(data[:-1])
    with pytest.raises(VerificationError):
        lent.require_here(one)
    file.unlink()
    file.symlink_to("/etc/passwd")
    with pytest.raises(VerificationError):
        lent.piece(one, _digest(one, "one.png"), 0)
    with pytest.raises(VerificationError):
        lent.handed(one, FRIEND.public)


def test_what_is_removed_is_gone(lent: LentFolder, pictures: Path, tmp_path: Path) -> None:
    one = lent.add("pictures", "dataset", pictures)
    lent.remove("pictures")
    assert lent.names() == []
    assert list((tmp_path / "lent").iterdir()) == []
    for find, what in ((lent.get, "pictures"), (lent.find, one.artefact)):
        with pytest.raises(InputError) as caught:
            find(what)
        assert caught.value.code == "not-found"


def test_a_record_that_cannot_be_read_hides_nothing_else(
    lent: LentFolder, pictures: Path, tmp_path: Path
) -> None:
    one = lent.add("pictures", "dataset", pictures)
    broken = tmp_path / "lent" / "broken"
    broken.mkdir()
    (broken / "lent.json").write_text("{")
    assert lent.find(one.artefact).name == "pictures"
    with pytest.raises(InputError) as caught:
        lent.get("broken")
    assert caught.value.code == "bad-data"


def test_the_vault_key_is_made_once_and_its_card_says_whose_it_is(
    vault: VaultKey, tmp_path: Path
) -> None:
    assert not vault.exists
    key = vault.private
    assert VaultKey(tmp_path / "vault.key").private.public == key.public
    assert (tmp_path / "vault.key").stat().st_mode & 0o077 == 0
    own = SigningKey.from_seed(b"\x01" * 32)
    identity = Identity("Alpha", CONSORTIUM, own)
    envelope = vault.card(identity, system_clock)
    card, signer = VaultCard.open(envelope)
    assert (card.name, card.public, signer) == ("Alpha", key.public, own.public)
    assert VaultKey(tmp_path / "vault.key").card(identity, lambda: NOW) == envelope
    other = Identity("Alpha", CONSORTIUM, SigningKey.from_seed(b"\x02" * 32))
    assert VaultCard.open(vault.card(other, system_clock))[1] == other.key.public
