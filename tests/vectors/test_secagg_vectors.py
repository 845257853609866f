"""The committed vectors of the masked sum, replayed; and recomputed without our own code."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from cohortium.core.rounds import Array, FieldSpec, Layout
from cohortium.errors import CohortiumError
from cohortium.secagg.aggregator import aggregate
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.party import Party
from cohortium.secagg.ring import RINGS
from cohortium.secagg.roster import Roster

VECTORS: dict[str, Any] = json.loads(
    Path(__file__).with_name("secagg.json").read_text(encoding="utf-8")
)
SITES: dict[str, dict[str, Any]] = VECTORS["sites"]
BINDING = RoundBinding(**VECTORS["binding"])
LAYOUT: Layout = {
    name: FieldSpec(tuple(spec["shape"]), spec["kind"]) for name, spec in VECTORS["layout"].items()
}


def numbers(name: str, texts: list[str]) -> Array:
    spec = LAYOUT[name]
    flat: Array = (
        np.array([int(text) for text in texts], dtype=np.int64)
        if spec.kind == "count"
        else np.array([float.fromhex(text) for text in texts])
    )
    return flat.reshape(spec.shape)


def arrays(texts: Mapping[str, list[str]]) -> dict[str, Array]:
    return {name: numbers(name, texts[name]) for name in LAYOUT}


def roster(envelopes: list[str]) -> Roster:
    return Roster.verify(
        [envelope.encode() for envelope in envelopes],
        contract_keys={site: entry["contract_key"] for site, entry in SITES.items()},
        run_id=BINDING.run_id,
        contract_digest=BINDING.contract_digest,
        request_digest=BINDING.request_digest,
        min_sites=VECTORS["min_sites"],
    )


def good_roster() -> Roster:
    return roster([entry["envelope"] for entry in SITES.values()])


def party(site: str) -> Party:
    return Party(site, bytes.fromhex(SITES[site]["x25519_secret"]), good_roster())


def unhex(masked: Mapping[str, str]) -> dict[str, bytes]:
    return {site: bytes.fromhex(vector) for site, vector in masked.items()}


def named(cases: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(case, id=case["what"]) for case in cases]


def test_the_rings_are_the_ones_of_the_file() -> None:
    assert {k: [r.bits, r.fraction_bits] for k, r in RINGS.items()} == VECTORS["rings"]


def test_the_roster_has_its_digest() -> None:
    assert good_roster().digest == VECTORS["roster_digest"]


@pytest.mark.parametrize("site", SITES)
def test_each_site_masks_to_the_bytes_of_the_file(site: str) -> None:
    masked = party(site).mask(BINDING, LAYOUT, arrays(SITES[site]["contribution"]))
    assert masked.hex() == SITES[site]["masked"]


def test_the_masked_vectors_sum_to_the_total() -> None:
    masked = unhex({site: entry["masked"] for site, entry in SITES.items()})
    total = aggregate(masked, good_roster(), BINDING, LAYOUT)
    for name, texts in VECTORS["total"].items():
        expected = numbers(name, texts).astype(total[name].dtype)
        assert total[name].tobytes() == expected.tobytes()


@pytest.mark.parametrize("case", named(VECTORS["refused_sums"]))
def test_a_bad_set_of_vectors_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(CohortiumError) as caught:
        aggregate(unhex(case["masked"]), good_roster(), BINDING, LAYOUT)
    assert caught.value.code == case["code"]


@pytest.mark.parametrize("case", named(VECTORS["refused_rosters"]))
def test_a_bad_roster_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(CohortiumError) as caught:
        roster(case["envelopes"])
    assert caught.value.code == case["code"]


@pytest.mark.parametrize("case", named(VECTORS["refused_contributions"]))
def test_a_bad_contribution_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(CohortiumError) as caught:
        party("Aarhus").mask(BINDING, LAYOUT, arrays(case["contribution"]))
    assert caught.value.code == case["code"]
    assert caught.value.details == {"field": case["field"], "index": case["index"]}


# --- a second implementation: integers, hmac, and the protocol's text -----------------------------


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def hkdf_expand(key: bytes, info: bytes) -> bytes:
    return hmac.digest(key, info + b"\x01", "sha256")


def sha256_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def json_list(*texts: str) -> bytes:
    return json.dumps(texts, separators=(",", ":"), ensure_ascii=False).encode()


def elements() -> list[tuple[int, int, str, int]]:
    """(bits, fraction bits, field, place) of each element after the check word."""
    out = []
    for name in sorted(VECTORS["layout"]):
        spec = VECTORS["layout"][name]
        bits, fraction = VECTORS["rings"][spec["kind"]]
        out += [(bits, fraction, name, place) for place in range(prod(spec["shape"]))]
    return out


@pytest.mark.parametrize("site", SITES)
def test_a_second_implementation_comes_to_the_same_bytes(site: str) -> None:
    secrets = {
        name: X25519PrivateKey.from_private_bytes(bytes.fromhex(entry["x25519_secret"]))
        for name, entry in SITES.items()
    }
    binding = VECTORS["binding"] | {
        "layout": VECTORS["layout"],
        "roster_digest": VECTORS["roster_digest"],
    }
    values = [(64, 1)]
    for bits, fraction, name, place in elements():
        text = SITES[site]["contribution"][name][place]
        exact = Fraction(int(text) if fraction == 0 else float.fromhex(text)) * 2**fraction
        values.append((bits, round(exact)))
    length = sum(bits for bits, _ in values) // 8

    for peer in SITES:
        if peer == site:
            continue
        shared = secrets[site].exchange(secrets[peer].public_key())
        both = sorted([site, peer])
        pair_info = json_list("cohortium/secagg/pair/1", VECTORS["roster_digest"], *both)
        pair = hkdf_expand(hkdf_extract(bytes(32), shared), pair_info)
        key = hkdf_expand(pair, b"cohortium/secagg/round/1 " + sha256_json(binding).encode())
        stream = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(length))
        start = 0
        for number, (bits, value) in enumerate(values):
            word = int.from_bytes(stream[start : start + bits // 8], "little")
            values[number] = (bits, value + word if site < peer else value - word)
            start += bits // 8
    masked = b"".join((value % 2**bits).to_bytes(bits // 8, "little") for bits, value in values)
    assert masked.hex() == SITES[site]["masked"]
