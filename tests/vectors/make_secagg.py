"""Write ``secagg.json``: the secure sum with fixed secrets, good and malicious.

Run it again only when the protocol changes on purpose: ``python -m tests.vectors.make_secagg``.
The test reads the file only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tests.support.secagg import BINDING, RUN, Play, World, halves, seed

from cohortium.core.canonical import digest
from cohortium.core.rounds import Contribution, FieldSpec, Layout, Total
from cohortium.crypto.keys import SigningKey, b64url
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.frame import Frame
from cohortium.secagg.keys import public_key
from cohortium.secagg.messages import KeyShare, KeyShares, SurvivorList
from cohortium.secagg.parties import Parties
from cohortium.secagg.roster import Roster
from cohortium.secagg.round_key import RoundKey
from cohortium.secagg.shamir import PRIME, SHARE_BYTES
from cohortium.secagg.survivors import statement

FILE = Path(__file__).with_name("secagg.json")

THREE = ["Aarhus", "Boston", "北京"]
FIVE = ["Aarhus", "Boston", "São Paulo", "Zürich", "北京"]
LAYOUT: Layout = {
    "n": FieldSpec((2,), "count"),
    "sums": FieldSpec((2, 2), "real"),
    "update": FieldSpec((3,), "vector", bound=4.0),
}
GONE = "Zürich"
ME = "Aarhus"
"""The site that malicious messages go to."""

Json = dict[str, Any]


def contribution(site: str, number: int = 1) -> dict[str, list[str]]:
    """Values as text: integers in decimal, reals in hexadecimal, row by row."""
    k = FIVE.index(site) + number
    return {
        "n": [str(7 * k), str(-k)],
        "sums": [(0.1 * k).hex(), (-1e20 / k).hex(), (2.0**-75 * k).hex(), (-0.0).hex()],
        "update": [(0.1 * k).hex(), (-0.7 / k).hex(), (4.0 if k % 2 else -4.0).hex()],
    }


def arrays(values: Mapping[str, list[str]], layout: Layout) -> Contribution:
    """The contribution that the texts stand for."""
    return {
        name: np.array(
            [int(v) if spec.kind == "count" else float.fromhex(v) for v in values[name]],
            dtype=np.int64 if spec.kind == "count" else np.float64,
        ).reshape(spec.shape)
        for name, spec in layout.items()
    }


def total_text(total: Total) -> dict[str, list[str]]:
    """A sum, as contributions are written."""
    return {
        name: [str(v) if array.dtype == np.int64 else float(v).hex() for v in array.reshape(-1)]
        for name, array in total.items()
    }


def layout_json(n_sites: int) -> Json:
    """The layout, with what follows from it and the number of sites."""
    return {
        segment.name: {
            "shape": list(segment.spec.shape),
            "kind": segment.spec.kind,
            "bound": segment.spec.bound,
            "bits": segment.ring.bits,
            "fraction_bits": segment.ring.fraction_bits,
            "start": segment.start,
        }
        for segment in Frame(LAYOUT, n_sites).fields
    }


def run_json(world: World) -> Json:
    """What is fixed for a run."""
    roster = world.roster()
    return {
        "run_id": RUN,
        "contract_digest": BINDING.contract_digest,
        "request_digest": BINDING.request_digest,
        "min_sites": world.min_sites,
        "layout": layout_json(len(world.sites)),
        "roster_digest": roster.digest,
        "sites": {
            site: {
                "contract_key": world.contract_keys[site],
                "run_secret": world.secrets[site].hex(),
                "round_key": roster.keys[site].hex(),
                "envelope": world.envelopes[site].decode(),
            }
            for site in world.sites
        },
    }


# --- three sites, of which none may drop ----------------------------------------------------------


def mask(
    world: World,
    site: str,
    binding: RoundBinding = BINDING,
    roster: Roster | None = None,
    layout: Layout = LAYOUT,
) -> str:
    """A masked vector in hexadecimal."""
    values = arrays(contribution(site), layout)
    return world.mask(site, layout, values, binding, roster).hex()


def sum_cases(world: World, honest: dict[str, str]) -> list[Json]:
    """Masked vectors that the aggregator must refuse."""
    roster = world.roster()
    two = replace(roster, keys={s: roster.keys[s] for s in THREE[:2]})
    swapped = replace(roster, keys={**roster.keys, "Boston": seed("a key of the hub's")})
    flat: Layout = {**LAYOUT, "sums": FieldSpec((4,), "real")}
    finer: Layout = {**LAYOUT, "update": replace(LAYOUT["update"], bound=8.0)}
    check_bit = flip(bytes.fromhex(honest["Aarhus"]), 0)
    cases = {
        "another state": mask(world, "Aarhus", replace(BINDING, state_digest=digest("lie"))),
        "another round": mask(world, "Aarhus", replace(BINDING, round=2)),
        "another roster": mask(world, "Aarhus", roster=two),
        "a swapped key": mask(world, "Aarhus", roster=swapped),
        "another layout": mask(world, "Aarhus", layout=flat),
        "another bound": mask(world, "Aarhus", layout=finer),
        "a bit flipped in the check word": check_bit.hex(),
        "another site's vector": honest["Boston"],
        "zeros": bytes(len(check_bit)).hex(),
        "a byte short": honest["Aarhus"][:-2],
        "a word long": honest["Aarhus"] + "00" * 8,
        "nothing": "",
    }
    short = {"a byte short", "a word long", "nothing"}
    out: list[Json] = [
        {
            "what": what,
            "masked": {**honest, "Aarhus": vector},
            "code": "wrong-length" if what in short else "masks-do-not-cancel",
        }
        for what, vector in cases.items()
    ]
    missing = {site: honest[site] for site in THREE[1:]}
    out.append({"what": "a missing party", "masked": missing, "code": "too-few-sites"})
    extra = {"Eve": honest["Aarhus"], **honest}
    return [*out, {"what": "a party too many", "masked": extra, "code": "unexpected-message"}]


def roster_cases(world: World) -> list[Json]:
    """Lists of round keys that a site must refuse."""
    honest = world.envelopes
    hub = SigningKey.from_seed(seed("hub"))

    def statement_of(site: str, key: bytes, signer: SigningKey, **changes: str) -> bytes:
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
        "a key swapped by the hub": ([statement_of("Boston", key, hub)], "unknown-signer"),
        "a site that is no participant": ([statement_of("Eve", key, hub)], "unknown-signer"),
        "signed by another participant": (
            [statement_of("Boston", key, world.signing["Aarhus"])],
            "unknown-signer",
        ),
        "of another run": ([statement_of("Boston", key, boston, run_id="f" * 32)], "wrong-round"),
        "of another contract": (
            [statement_of("Boston", key, boston, contract_digest=digest("x"))],
            "wrong-round",
        ),
        "of another request": (
            [statement_of("Boston", key, boston, request_digest=digest("x"))],
            "wrong-round",
        ),
        "a bit flipped in the payload": ([json.dumps(flipped).encode()], "bad-signature"),
        "the same site twice": (
            [honest["Boston"], statement_of("Boston", key, boston)],
            "roster-mismatch",
        ),
        "the same key twice": (
            [statement_of("Boston", world.roster().keys["Aarhus"], boston)],
            "roster-mismatch",
        ),
        "one party": ([], "too-few-sites"),
        "not an envelope": ([b"[]"], "malformed-message"),
    }
    return [
        {"what": what, "envelopes": [e.decode() for e in (honest["Aarhus"], *extra)], "code": code}
        for what, (extra, code) in cases.items()
    ]


def mask_cases() -> list[Json]:
    """Contributions that a site must refuse to mask."""
    good = contribution("Aarhus")
    cases = {
        "NaN": ("sums", 2, "nan"),
        "infinity": ("update", 1, "inf"),
        "minus infinity": ("sums", 0, "-inf"),
        "an overflowing real": ("sums", 1, math.nextafter(2.0**127 / 3, math.inf).hex()),
        "a vector beyond its bound": ("update", 0, math.nextafter(4.0, math.inf).hex()),
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


def three() -> Json:
    """One round; every party must be there."""
    world = World(THREE)
    honest = {site: mask(world, site) for site in THREE}
    values = {site: arrays(contribution(site), LAYOUT) for site in THREE}
    return {
        **run_json(world),
        "round": 1,
        "state_digest": BINDING.state_digest,
        "contributions": {site: contribution(site) for site in THREE},
        "masked": honest,
        "total": total_text(world.sum(LAYOUT, values)),
        "refused_sums": sum_cases(world, honest),
        "refused_rosters": roster_cases(world),
        "refused_contributions": mask_cases(),
    }


# --- five sites, of which one may drop ------------------------------------------------------------


@dataclass
class Round:
    """All messages of a round.

    Attributes:
        play: In the round.
        signatures: Step 3, in a round that somebody drops from.
        unmasking: Step 4, by sender, by the owner of what the share is of.
    """

    play: Play
    number: int
    survivors: frozenset[str]
    keys: dict[str, KeyShares]
    binding: RoundBinding
    masked: dict[str, bytes] = field(default_factory=dict)
    signatures: dict[str, bytes] = field(default_factory=dict)
    unmasking: dict[str, dict[str, bytes]] = field(default_factory=dict)
    total: Total = field(default_factory=dict)

    @property
    def parties(self) -> Parties:
        """Of the run."""
        return self.play.parties

    def digest(self, active: Collection[str] = FIVE) -> str:
        """The round's name."""
        roster = self.parties.roster.digest
        return self.binding.digest(LAYOUT, roster, self.parties.text(active))

    def received(self, site: str, active: Collection[str] = FIVE) -> dict[str, KeyShare]:
        """What a site is handed."""
        return {peer: self.keys[peer].to(site) for peer in sorted(set(active) - {site})}

    def sign(
        self,
        survivors: Collection[str],
        by: Collection[str] | None = None,
        active: Collection[str] = FIVE,
    ) -> dict[str, bytes]:
        """Signatures on any list."""
        text = statement(self.digest(active), survivors, self.parties)
        signing = self.play.world.signing
        return {s: signing[s].sign(text) for s in sorted(survivors if by is None else by)}

    def to_json(self) -> Json:
        """As in the file."""
        return {
            "round": self.number,
            "state_digest": self.binding.state_digest,
            "active": self.parties.to_bits(FIVE).hex(),
            "round_digest": self.digest(),
            "keys": {
                site: {"mask_key": keys.mask_key.hex(), "sealed": texts(keys.sealed)}
                for site, keys in self.keys.items()
            },
            "contributions": {site: contribution(site, self.number) for site in FIVE},
            "masked": texts(self.masked),
            "survivors": self.parties.to_bits(self.survivors).hex(),
            "signatures": texts(self.signatures),
            "unmasking": {site: texts(shares) for site, shares in self.unmasking.items()},
            "total": total_text(self.total),
        }


def texts(data: Mapping[str, bytes]) -> dict[str, str]:
    """Bytes in hexadecimal."""
    return {name: bytes(value).hex() for name, value in sorted(data.items())}


def play_round(play: Play, gone: Collection[str]) -> Round:
    """One round, in which every survivor answers every step."""
    number = play.number
    survivors = play.parties.all - set(gone)
    done = Round(play, number, survivors, dict(play.keys), play.binding())
    values = {site: arrays(contribution(site, number), LAYOUT) for site in FIVE}
    # A site that drops has masked, too: its input is a late one.
    done.masked = {site: bytes(play.input(site, values[site], FIVE).vector) for site in FIVE}
    message = SurvivorList(number, survivors)
    if gone:
        done.signatures = {s: play.sign(s, message).signature for s in sorted(survivors)}
        message = replace(message, signatures=done.signatures)
    done.unmasking = {site: dict(play.unmask(site, message).shares) for site in sorted(survivors)}
    found, done.total = play.round(values, without_input=gone)
    if found != survivors:
        raise RuntimeError("the round did not go as it should")
    return done


def flip(data: bytes, bit: int) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class SiteCases:
    """Requests that a site must refuse. The last message of each case is refused with `code`."""

    def __init__(self, rounds: list[Round]) -> None:
        self.first, self.second, self.third = rounds
        self.out: list[Json] = []

    def input(
        self,
        changes: Mapping[str, KeyShare | None] | None = None,
        active: Collection[str] = FIVE,
    ) -> Json:
        """A request for the input of round 2, with some shares changed or left out."""
        received: dict[str, KeyShare | None] = {**self.second.received(ME, active)}
        received.update(changes or {})
        return {
            "step": "MaskedInputCollection",
            "active": self.second.parties.to_bits(active).hex(),
            "received": {
                peer: {"mask_key": share.mask_key.hex(), "sealed": share.sealed.hex()}
                for peer, share in received.items()
                if share is not None
            },
        }

    def list(
        self,
        step: str,
        survivors: Collection[str],
        signatures: Mapping[str, bytes] | None = None,
        number: int = 2,
    ) -> Json:
        """A list of survivors."""
        out: Json = {
            "step": step,
            "round": number,
            "survivors": self.second.parties.to_bits(survivors).hex(),
        }
        if step == "Unmasking":
            out["signatures"] = texts(signatures or {})
        return out

    def add(self, what: str, code: str, *messages: Json | str) -> None:
        self.out.append({"what": what, "messages": list(messages), "code": code})

    def inputs(self) -> None:
        """Step 2."""
        keys = self.second.keys
        good = keys["Boston"].to(ME)
        cases = {
            "shares of another round": self.first.keys["Boston"].to(ME),
            "shares of the next round": self.third.keys["Boston"].to(ME),
            "shares of another sender": keys["北京"].to(ME),
            "shares for another recipient": keys["Boston"].to("北京"),
            "its own shares": KeyShare(good.mask_key, keys[ME].sealed["Boston"]),
            "a mask key of the hub's": replace(good, mask_key=public_key(seed("hub"))),
            "the mask key of another party": replace(good, mask_key=keys["北京"].mask_key),
            "the mask key of another round": replace(
                good, mask_key=self.first.keys["Boston"].mask_key
            ),
            "a bit flipped in the mask key": replace(good, mask_key=flip(good.mask_key, 9)),
            "a bit flipped in the shares": replace(good, sealed=flip(good.sealed, 300)),
            "a bit flipped in the tag": replace(good, sealed=flip(good.sealed, 8 * 82 - 1)),
            "shares of a byte less": replace(good, sealed=good.sealed[:-1]),
            "shares of a byte more": replace(good, sealed=good.sealed + b"\0"),
            "no shares in it": replace(good, sealed=b""),
            "a mask key of a byte less": replace(good, mask_key=good.mask_key[:-1]),
        }
        for what, share in cases.items():
            self.add(what, "bad-share", self.input({"Boston": share}))
        self.add("shares missing", "roster-mismatch", self.input({"Boston": None}))
        four = sorted(set(FIVE) - {GONE})
        late = self.second.keys[GONE].to(ME)
        self.add(
            "shares of a party that does not take part",
            "roster-mismatch",
            self.input({GONE: late}, four),
        )
        self.add("shares of itself", "roster-mismatch", self.input({ME: good}))
        self.add("shares of a stranger", "roster-mismatch", self.input({"Eve": good}))
        self.add("not asked itself", "roster-mismatch", self.input(active=sorted(set(FIVE) - {ME})))
        self.add("too few parties", "too-few-sites", self.input(active=FIVE[:3]))
        for bits in ("3f", "1f00", "ff"):
            self.add(
                f"parties that do not fit the roster, {bits}",
                "malformed-message",
                {**self.input(), "active": bits},
            )
        for name in ("run_id", "contract_digest", "request_digest"):
            other = "f" * 32 if name == "run_id" else digest("another")
            changed = asdict(self.second.binding) | {name: other}
            self.add(f"another {name}", "wrong-round", {**self.input(), "binding": changed})

    def lists(self) -> None:
        """Steps 3 and 4."""
        left = sorted(set(FIVE) - {GONE})
        other = sorted(set(FIVE) - {"北京"})
        good = self.second.signatures
        asked = self.input()
        for step in ("ConsistencyCheck", "Unmasking"):
            about = f" ({step})"
            self.add(
                "a list of another round" + about,
                "wrong-round",
                asked,
                self.list(step, left, good, number=3),
            )
            self.add(
                "a list without the site itself" + about,
                "roster-mismatch",
                asked,
                self.list(step, FIVE[1:], self.second.sign(FIVE[1:])),
            )
            self.add(
                "a list with a party that was not active" + about,
                "roster-mismatch",
                self.input(active=left),
                self.list(step, FIVE, self.second.sign(FIVE, active=left)),
            )
            few = FIVE[:3]
            self.add(
                "too few survivors" + about,
                "too-few-sites",
                asked,
                self.list(step, few, self.second.sign(few)),
            )
            for bits in ("00", "2f", "0f00", ""):
                code = "roster-mismatch" if bits == "00" else "malformed-message"
                self.add(
                    f"survivors that do not fit the roster, {bits!r}" + about,
                    code,
                    asked,
                    {**self.list(step, left, good), "survivors": bits},
                )
            for before in ("ConsistencyCheck", "Unmasking"):
                for restart in ([], ["restart"]):
                    for now in (other, FIVE):
                        self.add(
                            f"equivocation: {before} for four, {step} for "
                            f"{'all' if now == FIVE else 'other four'}"
                            + (" after a restart" if restart else ""),
                            "other-survivors",
                            asked,
                            self.list(before, left, good),
                            *restart,
                            self.list(step, now, self.second.sign(now)),
                        )
            self.add(
                f"equivocation: unmasked for all, then {step} for four",
                "other-survivors",
                asked,
                self.list("Unmasking", FIVE),
                self.list(step, left, good),
            )

    def signatures(self) -> None:
        """Step 4: those on the list."""
        left = sorted(set(FIVE) - {GONE})
        other = sorted(set(FIVE) - {"北京"})
        good = self.second.signatures
        without = {site: text for site, text in good.items() if site != "Boston"}
        eve = SigningKey.from_seed(seed("Eve")).sign(
            statement(self.second.digest(), left, self.second.parties)
        )
        cases = {
            "no signatures": ({}, "too-few-sites"),
            "a signature too few": (without, "too-few-sites"),
            "a signature over another list": (
                without | self.second.sign(other, ["Boston"]),
                "bad-signature",
            ),
            "a signature over all parties": (
                without | self.second.sign(FIVE, ["Boston"]),
                "bad-signature",
            ),
            "a signature over the list in another round": (
                without | self.third.sign(left, ["Boston"]),
                "bad-signature",
            ),
            "a signature over the list among other parties": (
                without | self.second.sign(left, ["Boston"], active=left),
                "bad-signature",
            ),
            "one signature for two": (without | {"Boston": good[ME]}, "bad-signature"),
            "a bit flipped in a signature": (
                good | {"Boston": flip(good["Boston"], 77)},
                "bad-signature",
            ),
            "a signature of a byte less": (
                good | {"Boston": good["Boston"][:-1]},
                "bad-signature",
            ),
            "signed by another key": (good | {"Boston": eve}, "bad-signature"),
            "signed by a stranger": (good | {"Eve": eve}, "unexpected-message"),
            "signed by the one who dropped": (
                without | self.second.sign(left, [GONE]),
                "unexpected-message",
            ),
        }
        for what, (signatures, code) in cases.items():
            message = self.list("Unmasking", left, signatures)
            self.add(what, code, self.input(), message)
        self.add(
            "another list than the one that was signed",
            "unexpected-message",
            self.input(),
            self.list("Unmasking", other, good),
        )


class HubCases:
    """Answers that the hub must refuse, at the last message or when the sum is asked for.

    A message is the name of a good one of the round, or is written out.
    """

    def __init__(self, rounds: list[Round]) -> None:
        self.first, self.second, self.third = rounds
        self.left = sorted(self.second.survivors)
        self.out: list[Json] = []

    def add(self, number: int, what: str, code: str, *messages: Json | str, **extra: Any) -> None:
        self.out.append(
            {"what": what, "round": number, "messages": list(messages), "code": code, **extra}
        )

    @staticmethod
    def good(kind: str, sites: Collection[str]) -> list[str]:
        """Names of good messages."""
        return [f"{kind} {site}" for site in sorted(sites)]

    def input(self, sender: str, vector: bytes, number: int = 2) -> Json:
        return {"kind": "MaskedInput", "sender": sender, "round": number, "vector": vector.hex()}

    def signature(self, sender: str, signature: bytes, number: int = 2) -> Json:
        return {
            "kind": "SurvivorSignature",
            "sender": sender,
            "round": number,
            "signature": signature.hex(),
        }

    def unmasking(self, sender: str, shares: Mapping[str, bytes], number: int = 2) -> Json:
        return {
            "kind": "Unmasking",
            "sender": sender,
            "round": number,
            "shares": texts(shares),
        }

    def inputs(self) -> None:
        """Step 2."""
        good = self.second.masked[ME]
        others = self.good("MaskedInput", set(FIVE) - {ME})
        rest = self.good("Unmasking", FIVE)[:4]
        first = self.first.masked[ME]
        for what, vector in {
            "a replayed input of another round": self.second.masked[ME],
            "another site's input": self.first.masked["Boston"],
            "a bit flipped in the check word": flip(first, 3),
            "an input masked for other parties": self.for_others(),
            "zeros": bytes(len(first)),
        }.items():
            self.add(1, what, "masks-do-not-cancel", *others, self.input(ME, vector, 1), *rest)
        self.add(2, "an input of another round", "wrong-round", self.input(ME, first, 1))
        self.add(2, "a stranger's input", "unexpected-message", self.input("Eve", good))
        name = f"MaskedInput {ME}"
        self.add(2, "an input twice", "unexpected-message", name, name)
        for what, vector in {
            "of a byte less": good[:-1],
            "of a word more": good + bytes(8),
            "of no bytes": b"",
        }.items():
            self.add(2, f"an input {what}", "wrong-length", self.input(ME, vector))
        dropped = [*self.good("MaskedInput", self.left), "time is up"]
        late = f"MaskedInput {GONE}"
        self.add(2, "an input after its time", "unexpected-message", *dropped, late)
        few = self.good("MaskedInput", self.left[:3])
        self.add(2, "too few inputs", "too-few-sites", *few, "time is up")

    def for_others(self) -> bytes:
        """The input of round 1 of a site that was told of four parties only."""
        party = self.first.play.party(ME)
        values = arrays(contribution(ME), LAYOUT)
        received = self.first.received(ME, self.left)
        _, message = party.masked_input(self.first.binding, LAYOUT, values, self.left, received)
        return bytes(message.vector)

    def signatures(self) -> None:
        """Step 3."""
        before = [*self.good("MaskedInput", self.left), "time is up"]
        three = self.good("SurvivorSignature", self.left[1:])
        good = self.second.signatures[ME]
        other = sorted(set(FIVE) - {"北京"})
        cases = {
            "a signature over another list": self.second.sign(other, [ME])[ME],
            "a signature over all parties": self.second.sign(FIVE, [ME])[ME],
            "a signature over the list in another round": self.third.sign(self.left, [ME])[ME],
            "another site's signature": self.second.signatures["Boston"],
            "a bit flipped in a signature": flip(good, 200),
            "an empty signature": b"",
        }
        for what, signature in cases.items():
            message = self.signature(ME, signature)
            self.add(2, what, "bad-signature", *before, *three, message)
        name = f"SurvivorSignature {ME}"
        self.add(2, "a signature twice", "unexpected-message", *before, name, name)
        self.add(
            2,
            "a signature of the one who dropped",
            "unexpected-message",
            *before,
            self.signature(GONE, self.second.sign(self.left, [GONE])[GONE]),
        )
        self.add(2, "a signature too early", "unexpected-message", self.signature(ME, good))
        self.add(
            2,
            "a signature for another round",
            "wrong-round",
            *before,
            self.signature(ME, good, 1),
        )
        self.add(2, "too few signatures", "round-burnt", *before, *three, "time is up")

    def shares(self) -> None:
        """Step 4."""
        before = [
            *self.good("MaskedInput", self.left),
            "time is up",
            *self.good("SurvivorSignature", self.left),
        ]
        three = self.good("Unmasking", self.left[1:])
        good = self.second.unmasking[ME]
        boston, gone = good["Boston"], good[GONE]
        keys = self.second.play
        keys.number, keys.keys = 2, self.second.keys  # for `halves`
        both = {owner: halves(keys, owner, ME) for owner in (GONE, "Boston")}

        def altered(share: bytes) -> bytes:
            return ((int.from_bytes(share) + 1) % PRIME).to_bytes(SHARE_BYTES)

        wrong_form = {
            "no shares": {},
            "a share missing": {o: s for o, s in good.items() if o != "Boston"},
            "the dropped party's share missing": {o: s for o, s in good.items() if o != GONE},
            "a share too many": {**good, "Eve": boston},
            "a share of a byte less": {**good, "Boston": boston[1:]},
            "both of a peer's shares": {**good, GONE: b"".join(both[GONE])},
            "an empty share": {**good, "Boston": b""},
        }
        for what, shares in wrong_form.items():
            message = self.unmasking(ME, shares)
            self.add(2, what, "malformed-message", *before, message)
        wrong = {
            "an altered share of a seed": {**good, "Boston": altered(boston)},
            "an altered share of its own seed": {**good, ME: altered(good[ME])},
            "an altered share of a mask key": {**good, GONE: altered(gone)},
            "a bit flipped in a share of a seed": {**good, "Boston": flip(boston, 33 * 8 - 5)},
            "shares exchanged": {**good, "Boston": good["北京"], "北京": boston},
            "the share of the mask key of a survivor": {**good, "Boston": both["Boston"][0]},
            "the share of the seed of the dropped party": {**good, GONE: both[GONE][1]},
            "the shares of another site": self.second.unmasking["Boston"],
        }
        for what, shares in wrong.items():
            message = self.unmasking(ME, shares)
            self.add(2, what, "masks-do-not-cancel", *before, message, *three)
        out_of_field = {**good, "Boston": PRIME.to_bytes(SHARE_BYTES)}
        self.add(
            2,
            "a share that is no element of the field",
            "malformed-message",
            *before,
            self.unmasking(ME, out_of_field),
        )
        name = f"Unmasking {ME}"
        self.add(2, "shares twice", "unexpected-message", *before, name, name)
        self.add(
            2,
            "shares of the one who dropped",
            "unexpected-message",
            *before,
            self.unmasking(GONE, good),
        )
        self.add(2, "shares for another round", "wrong-round", *before, self.unmasking(ME, good, 3))
        self.add(
            2, "shares too early", "unexpected-message", *before[:-1], self.unmasking(ME, good)
        )
        self.add(2, "shares of too few", "round-burnt", *before, *three, "time is up")
        hub_key = public_key(seed("hub")).hex()
        self.add(
            2,
            "a swapped mask key of the dropped party",
            "masks-do-not-cancel",
            *before,
            name,
            *three,
            mask_keys={GONE: hub_key},
        )
        self.add(
            2,
            "a swapped mask key of a survivor",
            "masks-do-not-cancel",
            *before,
            name,
            *three,
            mask_keys={"Boston": hub_key},
        )
        all_shares = self.first.unmasking[ME]
        self.add(
            1,
            "shares of another round under this one's number",
            "masks-do-not-cancel",
            *self.good("MaskedInput", FIVE),
            self.unmasking(ME, {**self.third.unmasking[ME], ME: all_shares[ME]}, 1),
            *self.good("Unmasking", FIVE[1:4]),
        )


def five() -> Json:
    """Three rounds; in the second, a site drops."""
    world = World(FIVE, min_sites=3)
    play = Play(world, LAYOUT)
    rounds = [play_round(play, gone) for gone in ([], [GONE], [])]
    parties = play.parties
    at_site, at_hub = SiteCases(rounds), HubCases(rounds)
    at_site.inputs()
    at_site.lists()
    at_site.signatures()
    at_hub.inputs()
    at_hub.signatures()
    at_hub.shares()
    return {
        **run_json(world),
        "threshold": parties.threshold,
        "quorum": parties.quorum,
        "fewest": parties.fewest,
        "rounds": [done.to_json() for done in rounds],
        "refused_by_a_site": {"site": ME, "round": 2, "cases": at_site.out},
        "refused_by_the_hub": at_hub.out,
    }


def main() -> None:
    """Write the file."""
    document = {
        "about": "The secure sum with fixed secrets; written by make_secagg.py. Reals are "
        "hexadecimal floats, bytes hexadecimal, sets of parties bitmaps over the roster's order. "
        "A masked vector is the check word, then fields by kind and name at multiples of 8 bytes, "
        "words little-endian. An Unmasking holds, of each other party, the share of the seed of a "
        "survivor or of the mask key of a dropped one. TIME_IS_UP is written 'time is up'.",
        "three": three(),
        "five": five(),
    }
    FILE.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
