from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.vault import FRIEND, OWNER, content

from cohortium.errors import ConflictError, InputError, VerificationError
from cohortium.vault.filesystem import VaultFileSystem, default_keys
from cohortium.vault.keys import Keyring, PrivateKey, PublicKey, seal


def test_a_key_is_written_for_its_owner_only_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "me.key"
    public = OWNER.save(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert PrivateKey.load(file).public == OWNER.public
    assert PublicKey.from_text(public.read_text()) == OWNER.public
    for name in ("me.key", "me.pub"):
        with pytest.raises(ConflictError):
            FRIEND.save(file)
        (tmp_path / name).unlink()


def test_a_seed_gives_the_same_key_for_ever() -> None:
    """Another derivation would lock everybody out of their files."""
    assert OWNER.public.fingerprint == "EA80 B084 4AC4 A1BB 4419 17A3 B3BC DE7A"
    assert PrivateKey.generate().public != PrivateKey.generate().public


def test_a_key_ring_is_a_file_or_a_folder(tmp_path: Path) -> None:
    OWNER.save(tmp_path / "b.key")
    FRIEND.save(tmp_path / "a.key")
    ring = Keyring.load(tmp_path)
    assert len(ring) == 2
    assert ring.first.public == FRIEND.public
    assert Keyring.load(tmp_path / "b.key").first.public == OWNER.public
    (tmp_path / "a.key").chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        Keyring.load(tmp_path)


def test_what_is_no_key_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keygen"):
        Keyring.load(tmp_path)
    for text in ("", "vault-private1:", "vault-private1:AAAA", "vault-private1:!", "\xff"):
        file = tmp_path / "bad"
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(InputError) as caught:
            PrivateKey.load(file)
        assert caught.value.code == "bad-config"
    good = OWNER.public.to_text()
    for text in ("", "vault1:", good[:-1], good + "A", good[7:], "vault1:" + "_" * 1664):
        with pytest.raises(InputError) as caught:
            PublicKey.from_text(text)
        assert caught.value.code == "bad-input"


def test_a_data_key_is_opened_by_its_recipient_for_its_purpose() -> None:
    sealed = seal(OWNER.public, content(32), b"this file")
    assert OWNER.open(sealed.sealed, b"this file") == content(32)
    for key, data, info in (
        (FRIEND, sealed.sealed, b"this file"),
        (OWNER, sealed.sealed, b"another file"),
        (OWNER, sealed.sealed[:-1], b"this file"),
        (OWNER, b"", b"this file"),
        (OWNER, bytes(1168), b"this file"),
    ):
        with pytest.raises(VerificationError) as caught:
            key.open(data, info)
        assert caught.value.code == "bad-vault-file"


def test_a_data_key_of_another_length_is_refused() -> None:
    from cohortium.vault.keys import _SEAL_INFO, _SUITE

    sealed = _SUITE.encrypt(b"short", OWNER.public.hpke, _SEAL_INFO)
    with pytest.raises(VerificationError, match="length"):
        OWNER.open(sealed, b"")


def test_a_recipient_with_a_point_of_small_order_is_refused() -> None:
    broken = PublicKey(OWNER.public.kem[:1184] + bytes(32), OWNER.public.signing)
    with pytest.raises(InputError) as caught:
        seal(broken, content(32), b"")
    assert caught.value.code == "bad-input"


def test_one_s_keys_are_where_the_environment_says_or_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COHORTIUM_VAULT_KEYS", raising=False)
    OWNER.save(default_keys() / "me.key")
    assert default_keys() == tmp_path / ".config" / "cohortium" / "vault"
    assert VaultFileSystem().keyring.first.public == OWNER.public
    FRIEND.save(tmp_path / "friend.key")
    monkeypatch.setenv("COHORTIUM_VAULT_KEYS", str(tmp_path / "friend.key"))
    assert VaultFileSystem().keyring.first.public == FRIEND.public
    with pytest.raises(InputError):
        _ = Keyring([]).first
