"""Write ``secagg.json``: the masked sum with fixed secrets, good and malicious.

Run it again only when the protocol changes on purpose: ``python -m tests.vectors.make_secagg``.
The test reads the file only.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.secagg import BINDING, RUN, World, seed

from cohortium.core.canonical import digest
from cohortium.core.rounds import Contribution, FieldSpec, Layout
from cohortium.crypto.keys import SigningKey, b64url
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.ring import RINGS
from cohortium.secagg.roster import Roster
from cohortium.secagg.round_key import RoundKey

FILE = Path(__file__).with_name("secagg.json")

SITES = ["Aarhus", "Boston", "北京"]
LAYOUT: Layout = {
    "n": FieldSpec((2,), "count"),
    "sums": FieldSpec((2, 2), "real"),
    "update": FieldSpec((3,), "vector"),
}


def contribution(site: str) -> dict[str, list[str]]:
    """Values as text: integers in decimal, reals in hexadecimal, row by row."""
    k = SITES.index(site) + 1
    return {
        "n": [str(7 * k), str(-k)],
        "sums": [(0.1 * k).hex(), (-1e20 / k).hex(), (2.0**-75 * k).hex(), (-0.0).hex()],
        "update": [(0.5 * k).hex(), (-0.125).hex(), (1.0 / k).hex()],
    }


def arrays(values: dict[str, list[str]], layout: Layout) -> Contribution:
    """The contribution that the texts stand for."""
    return {
        name: np.array(
            [int(v) if spec.kind == "count" else float.fromhex(v) for v in values[name]],
            dtype=np.int64 if spec.kind == "count" else np.float64,
        ).reshape(spec.shape)
        for name, spec in layout.items()
    }


def mask(
    world: World,
    site: str,
    binding: RoundBinding = BINDING,
    roster: Roster | None = None,
    layout: Layout = LAYOUT,
) -> str:
    values = arrays(contribution(site), layout)
    return world.party(site, roster).mask(binding, layout, values).hex()


def sum_cases(world: World, honest: dict[str, str]) -> list[dict[str, Any]]:
    """Masked vectors that the aggregator must refuse."""
    roster = world.roster()
    two = replace(roster, keys={s: roster.keys[s] for s in SITES[:2]})
    swapped = replace(roster, keys={**roster.keys, "Boston": seed("a key of the hub's")})
    flat: Layout = {**LAYOUT, "sums": FieldSpec((4,), "real")}
    check_bit = (
        bytes([bytes.fromhex(honest["Aarhus"])[0] ^ 1]) + bytes.fromhex(honest["Aarhus"])[1:]
    )
    cases = {
        "another state": mask(world, "Aarhus", replace(BINDING, state_digest=digest("lie"))),
        "another round": mask(world, "Aarhus", replace(BINDING, round=1)),
        "another roster": mask(world, "Aarhus", roster=two),
        "a swapped key": mask(world, "Aarhus", roster=swapped),
        "another layout": mask(world, "Aarhus", layout=flat),
        "a bit flipped in the check word": check_bit.hex(),
        "another site's vector": honest["Boston"],
        "zeros": bytes(len(check_bit)).hex(),
        "a byte short": honest["Aarhus"][:-2],
        "a word long": honest["Aarhus"] + "00" * 8,
        "nothing": "",
    }
    short = {"a byte short", "a word long", "nothing"}
    out: list[dict[str, Any]] = [
        {
            "what": what,
            "masked": {**honest, "Aarhus": vector},
            "code": "wrong-length" if what in short else "masks-do-not-cancel",
        }
        for what, vector in cases.items()
    ]
    missing = {site: honest[site] for site in SITES[1:]}
    out.append({"what": "a missing party", "masked": missing, "code": "roster-mismatch"})
    extra = {**honest, "Eve": honest["Aarhus"]}
    return [*out, {"what": "a party too many", "masked": extra, "code": "roster-mismatch"}]


def roster_cases(world: World) -> list[dict[str, Any]]:
    """Lists of round keys that a site must refuse."""
    honest = world.envelopes
    hub = SigningKey.from_seed(seed("hub"))

    def statement(site: str, key: bytes, signer: SigningKey, **changes: str) -> bytes:
        fields = {
            "run_id": RUN,
            "contract_digest": BINDING.contract_digest,
            "request_digest": BINDING.request_digest,
            "site": site,
            "x25519": b64url(key),
        }
        return RoundKey(**{**fields, **changes}).sign(signer)

    boston = world.signing["Boston"]
    key = seed("another key")
    flipped = json.loads(honest["Boston"])
    payload = flipped["payload"]
    flipped["payload"] = payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]
    cases: dict[str, tuple[list[bytes], str]] = {
        "a key swapped by the hub": ([statement("Boston", key, hub)], "unknown-signer"),
        "a site that is no participant": ([statement("Eve", key, hub)], "unknown-signer"),
        "signed by another participant": (
            [statement("Boston", key, world.signing["Aarhus"])],
            "unknown-signer",
        ),
        "of another run": ([statement("Boston", key, boston, run_id="f" * 32)], "wrong-round"),
        "of another contract": (
            [statement("Boston", key, boston, contract_digest=digest("x"))],
            "wrong-round",
        ),
        "of another request": (
            [statement("Boston", key, boston, request_digest=digest("x"))],
            "wrong-round",
        ),
        "a bit flipped in the payload": ([json.dumps(flipped).encode()], "bad-signature"),
        "the same site twice": (
            [honest["Boston"], statement("Boston", key, boston)],
            "roster-mismatch",
        ),
        "the same key twice": (
            [statement("Boston", world.roster().keys["Aarhus"], boston)],
            "roster-mismatch",
        ),
        "one party": ([], "too-few-sites"),
        "not an envelope": ([b"[]"], "malformed-message"),
    }
    return [
        {"what": what, "envelopes": [e.decode() for e in (honest["Aarhus"], *extra)], "code": code}
        for what, (extra, code) in cases.items()
    ]


def mask_cases() -> list[dict[str, Any]]:
    """Contributions that a site must refuse to mask."""
    good = contribution("Aarhus")
    cases = {
        "NaN": ("sums", 2, "nan"),
        "infinity": ("update", 1, "inf"),
        "minus infinity": ("sums", 0, "-inf"),
        "an overflowing real": ("sums", 1, math.nextafter(2.0**127 / 3, math.inf).hex()),
        "an overflowing vector": ("update", 0, math.nextafter(2.0**31 / 3, math.inf).hex()),
        "an overflowing count": ("n", 1, str(2**63 // 3 + 1)),
    }
    return [
        {
            "what": what,
            "contribution": {**good, name: [*good[name][:i], bad, *good[name][i + 1 :]]},
            "code": "overflow",
            "field": name,
            "index": i,
        }
        for what, (name, i, bad) in cases.items()
    ]


def main() -> None:
    """Write the file."""
    world = World(SITES)
    roster = world.roster()
    honest = {site: mask(world, site) for site in SITES}
    values = {site: arrays(contribution(site), LAYOUT) for site in SITES}
    total = world.sum(LAYOUT, values)
    document = {
        "about": "The masked sum with fixed secrets; written by make_secagg.py. Reals are "
        "hexadecimal floats, words little-endian, the check word first, then fields by name.",
        "rings": {kind: [ring.bits, ring.fraction_bits] for kind, ring in RINGS.items()},
        "binding": asdict(BINDING),
        "layout": {n: {"shape": list(s.shape), "kind": s.kind} for n, s in LAYOUT.items()},
        "min_sites": world.min_sites,
        "sites": {
            site: {
                "contract_key": world.contract_keys[site],
                "x25519_secret": world.secrets[site].hex(),
                "envelope": world.envelopes[site].decode(),
                "contribution": contribution(site),
                "masked": honest[site],
            }
            for site in SITES
        },
        "roster_digest": roster.digest,
        "total": {
            name: [str(v) if array.dtype == np.int64 else float(v).hex() for v in array.reshape(-1)]
            for name, array in total.items()
        },
        "refused_sums": sum_cases(world, honest),
        "refused_rosters": roster_cases(world),
        "refused_contributions": mask_cases(),
    }
    FILE.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
