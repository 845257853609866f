"""What the vault is composed of, against published vectors, and a file that must stay readable."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.support.vault import FRIEND, OWNER, content, opened, verify_all

from cohortium.errors import VerificationError
from cohortium.vault.keys import kem_private

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("vault.json").read_text())


def test_aes_256_gcm() -> None:
    """McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 to 16."""
    for case in VECTORS["aes_256_gcm"]:
        key, iv, plain, aad, cipher, tag = (
            bytes.fromhex(case[name]) for name in ("K", "IV", "P", "A", "C", "T")
        )
        assert AESGCM(key).encrypt(iv, plain, aad or None) == cipher + tag
        into = bytearray(len(plain))
        AESGCM(key).decrypt_into(iv, cipher + tag, aad or None, into)
        assert into == plain


def test_the_hybrid_kem_and_hpke() -> None:
    """The vector of MLKEM768-X25519 with HKDF-SHA256 in draft-ietf-hpke-pq (test-vectors.json)."""
    vector = VECTORS["hpke"]
    assert (vector["kem_id"], vector["kdf_id"], vector["aead_id"]) == (0x647A, 1, 3)
    mlkem, x25519 = kem_private(bytes.fromhex(vector["skRm"]))
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    assert sha256(public).hexdigest() == vector["sha256_of_pkRm"]
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    plain = openssl.hpke._decrypt_with_aad(
        suite,
        bytes.fromhex(vector["enc"] + vector["ct"]),
        hpke.MLKEM768X25519PrivateKey(mlkem, x25519),
        bytes.fromhex(vector["info"]),
        bytes.fromhex(vector["aad"]),
    )
    assert plain.hex() == vector["pt"]


def test_a_file_of_format_1_is_read_for_ever() -> None:
    data = bytes.fromhex(VECTORS["file"]["hex"])
    for key in (OWNER, FRIEND):
        with opened(data, key) as file:
            assert file.read() == content(5000)
    assert header_facts(data) == VECTORS["file"]["header"]


def header_facts(data: bytes) -> dict[str, object]:
    with opened(data) as file:
        header = file.header
    return {
        "file_id": header.file_id.hex(),
        "version": header.version,
        "writer": header.writer_key,
        "digest": header.digest.hex(),
    }


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["why"])
def test_malicious_files_are_refused(case: dict[str, Any]) -> None:
    data = bytearray.fromhex(VECTORS["file"]["hex"])
    for begin, end, text in case["edits"]:
        data[begin:end] = bytes.fromhex(text)
    with pytest.raises(VerificationError) as caught, opened(bytes(data)) as file:
        verify_all(file)
    assert caught.value.code == case["code"]
