from __future__ import annotations

import hmac

import pytest
from tests.support.secagg import seed

from cohortium.errors import ProtocolError
from cohortium.secagg.keys import (
    SEALED_BYTES,
    Channel,
    RoundSecrets,
    agree,
    derive,
    pair_mask,
    public_key,
    self_mask,
)
from cohortium.secagg.shamir import SHARE_BYTES

ROSTER, ROUND = "sha256:" + "1" * 64, "sha256:" + "2" * 64
TEXT = bytes(range(2 * SHARE_BYTES))
KEY = public_key(seed("mask key"))


def test_a_key_is_derived_by_hkdf_sha256() -> None:
    """RFC 5869 with an empty salt, written out."""
    key, info = seed("key"), b'["cohortium/secagg/2/purpose","\xc3\xa9",7]'
    extracted = hmac.digest(bytes(32), key, "sha256")
    assert derive(key, "purpose", "é", 7) == hmac.digest(extracted, info + b"\x01", "sha256")


def test_other_purposes_and_facts_give_other_keys() -> None:
    key = seed("key")
    keys = [
        derive(key, "one"),
        derive(key, "two"),
        derive(key, "one", "x"),
        derive(key, "one", "x", "y"),
        derive(key, "one", "xy"),
        derive(key, "one", 1),
        derive(key, "one", "1"),
        derive(seed("other"), "one"),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}


def test_keys_agree_as_in_rfc_7748() -> None:
    """Section 6.1: Bob's secret, with Alice's public key."""
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert public_key(bob).hex().startswith("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674d")
    assert agree(bob, alice, "alice").hex() == shared


@pytest.mark.parametrize(
    "point",
    [
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "",
        "09",
    ],
)
def test_points_of_small_order_and_other_lengths_are_refused(point: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        agree(seed("secret"), bytes.fromhex(point), "b")
    assert caught.value.code == "roster-mismatch"
    assert caught.value.details == {"site": "b"}


def test_a_pair_mask_is_the_same_for_both_and_another_for_anything_else() -> None:
    shared = seed("shared")
    mask = pair_mask(shared, ROUND, "a", "b")
    assert mask == pair_mask(shared, ROUND, "b", "a")
    others = [
        pair_mask(shared, ROSTER, "a", "b"),
        pair_mask(shared, ROUND, "a", "c"),
        pair_mask(seed("other"), ROUND, "a", "b"),
        self_mask(shared, ROUND),
        self_mask(shared, ROSTER),
    ]
    assert len({mask, *others}) == 6


def test_a_rounds_secrets_follow_from_the_run_secret_and_from_nothing_else_of_the_run() -> None:
    secrets = [
        RoundSecrets(run, roster, number)
        for run, roster, number in (
            (seed("run"), ROSTER, 1),
            (seed("run"), ROSTER, 2),
            (seed("run"), ROUND, 1),
            (seed("another"), ROSTER, 1),
        )
    ]
    drawn = [x for s in secrets for x in (s.mask_secret, s.seed, s.stream()(32))]
    assert len(set(drawn)) == 12
    again = RoundSecrets(seed("run"), ROSTER, 1)
    assert [again.mask_secret, again.seed, again.stream()(32)] == drawn[:3]


def test_the_randomness_of_shares_goes_on_and_starts_again() -> None:
    secrets = RoundSecrets(seed("run"), ROSTER, 1)
    stream = secrets.stream()
    drawn = stream(40) + stream(1) + stream(40)
    assert drawn == secrets.stream()(81)
    assert drawn[:40] != drawn[41:]


def channel(shared: str = "shared", roster: str = ROSTER, ends: str = "ab") -> Channel:
    return Channel(seed(shared), roster, ends[0], ends[1])


def test_what_is_sealed_is_opened() -> None:
    sealed = channel().seal(7, KEY, TEXT)
    assert len(sealed) == SEALED_BYTES
    assert sealed == channel().seal(7, KEY, TEXT)
    assert channel().open(7, KEY, sealed) == TEXT


@pytest.mark.parametrize(
    "other",
    [
        channel("another secret"),
        channel(roster=ROUND),
        channel(ends="ba"),
        channel(ends="cb"),
        channel(ends="ac"),
    ],
)
def test_another_channel_opens_nothing(other: Channel) -> None:
    with pytest.raises(ProtocolError) as caught:
        other.open(7, KEY, channel().seal(7, KEY, TEXT))
    assert caught.value.code == "bad-share"


def test_another_round_or_mask_key_opens_nothing() -> None:
    sealed = channel().seal(7, KEY, TEXT)
    for number, key in ((8, KEY), (7, public_key(seed("another"))), (7, KEY[:31]), (7, b"")):
        with pytest.raises(ProtocolError) as caught:
            channel().open(number, key, sealed)
        assert caught.value.details == {"site": "a"}


def test_every_flipped_bit_is_noticed() -> None:
    sealed = channel().seal(7, KEY, TEXT)
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            channel().open(7, KEY, bytes(changed))
    for length in range(len(sealed)):
        with pytest.raises(ProtocolError):
            channel().open(7, KEY, sealed[:length])
