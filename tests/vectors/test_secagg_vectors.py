"""The committed vectors of the secure sum, replayed; and recomputed without our own code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from cohortium.core.rounds import Array, Contribution, FieldSpec, Layout, Total
from cohortium.errors import CohortiumError
from cohortium.secagg.aggregator import TIME_IS_UP, Aggregator, Incoming
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.frame import Frame
from cohortium.secagg.messages import (
    KeyShare,
    MaskedInput,
    SurvivorList,
    SurvivorSignature,
    Unmasking,
)
from cohortium.secagg.parties import Parties
from cohortium.secagg.party import Party, PartyRound
from cohortium.secagg.roster import Roster

Json = dict[str, Any]

VECTORS: Json = json.loads(Path(__file__).with_name("secagg.json").read_text(encoding="utf-8"))
THREE: Json = VECTORS["three"]
FIVE: Json = VECTORS["five"]
ROUNDS: list[Json] = FIVE["rounds"]


def named(cases: Sequence[Json]) -> list[Any]:
    return [pytest.param(case, id=f"{number} {case['what']}") for number, case in enumerate(cases)]


def unhex(texts: Mapping[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(text) for name, text in texts.items()}


def layout_of(run: Json) -> Layout:
    return {
        name: FieldSpec(tuple(spec["shape"]), spec["kind"], spec["bound"])
        for name, spec in run["layout"].items()
    }


def numbers(spec: FieldSpec, texts: list[str]) -> Array:
    flat: Array = (
        np.array([int(text) for text in texts], dtype=np.int64)
        if spec.kind == "count"
        else np.array([float.fromhex(text) for text in texts])
    )
    return flat.reshape(spec.shape)


def arrays(run: Json, texts: Mapping[str, list[str]]) -> Contribution:
    return {name: numbers(spec, texts[name]) for name, spec in layout_of(run).items()}


def assert_total(run: Json, total: Total, texts: Mapping[str, list[str]]) -> None:
    assert set(total) == set(texts)
    for name, expected in arrays(run, texts).items():
        assert total[name].tobytes() == expected.astype(total[name].dtype).tobytes()


def binding_of(run: Json, number: int, state_digest: str) -> RoundBinding:
    return RoundBinding(
        run["run_id"], number, run["contract_digest"], run["request_digest"], state_digest
    )


def roster_of(run: Json, envelopes: Sequence[str] | None = None) -> Roster:
    if envelopes is None:
        envelopes = [entry["envelope"] for entry in run["sites"].values()]
    return Roster.verify(
        [envelope.encode() for envelope in envelopes],
        contract_keys={site: entry["contract_key"] for site, entry in run["sites"].items()},
        run_id=run["run_id"],
        contract_digest=run["contract_digest"],
        request_digest=run["request_digest"],
        min_sites=run["min_sites"],
    )


def parties_of(run: Json) -> Parties:
    return Parties(roster_of(run), run["min_sites"])


def party_of(run: Json, site: str) -> Party:
    return Party(site, bytes.fromhex(run["sites"][site]["run_secret"]), parties_of(run))


@pytest.mark.parametrize("run", [THREE, FIVE], ids=["three", "five"])
def test_a_run_has_the_files_parties_and_places(run: Json) -> None:
    parties = parties_of(run)
    assert parties.roster.digest == run["roster_digest"]
    assert {site: key.hex() for site, key in parties.roster.keys.items()} == {
        site: entry["round_key"] for site, entry in run["sites"].items()
    }
    fields = Frame(layout_of(run), len(parties.sites)).fields
    assert {f.name: [f.start, f.ring.bits, f.ring.fraction_bits] for f in fields} == {
        name: [spec["start"], spec["bits"], spec["fraction_bits"]]
        for name, spec in run["layout"].items()
    }


# --- three sites ----------------------------------------------------------------------------------


def three_masked(site: str, contribution: Mapping[str, list[str]]) -> bytes:
    binding = binding_of(THREE, THREE["round"], THREE["state_digest"])
    party, layout = party_of(THREE, site), layout_of(THREE)
    _, message = party.masked_input(binding, layout, arrays(THREE, contribution))
    return bytes(message.vector)


def three_sum(masked: Mapping[str, str]) -> Total:
    binding = binding_of(THREE, THREE["round"], THREE["state_digest"])
    hub = Aggregator(parties_of(THREE), binding, layout_of(THREE))
    state = hub.start()
    for site, vector in unhex(masked).items():
        state, _ = hub.receive(state, MaskedInput(site, THREE["round"], vector))
    if state.step != "done":
        state, _ = hub.receive(state, TIME_IS_UP)
    return hub.result(state)


@pytest.mark.parametrize("site", THREE["sites"])
def test_each_of_three_masks_to_the_bytes_of_the_file(site: str) -> None:
    assert three_masked(site, THREE["contributions"][site]).hex() == THREE["masked"][site]


def test_the_three_masked_vectors_sum_to_the_total() -> None:
    assert_total(THREE, three_sum(THREE["masked"]), THREE["total"])


@pytest.mark.parametrize("case", named(THREE["refused_sums"]))
def test_a_bad_set_of_vectors_is_refused(case: Json) -> None:
    with pytest.raises(CohortiumError) as caught:
        three_sum(case["masked"])
    assert caught.value.code == case["code"]


@pytest.mark.parametrize("case", named(THREE["refused_rosters"]))
def test_a_bad_roster_is_refused(case: Json) -> None:
    with pytest.raises(CohortiumError) as caught:
        roster_of(THREE, case["envelopes"])
    assert caught.value.code == case["code"]


@pytest.mark.parametrize("case", named(THREE["refused_contributions"]))
def test_a_bad_contribution_is_refused(case: Json) -> None:
    with pytest.raises(CohortiumError) as caught:
        three_masked("Aarhus", case["contribution"])
    assert caught.value.code == case["code"]
    assert caught.value.details == {"field": case["field"], "index": case["index"]}


# --- five sites -----------------------------------------------------------------------------------


def received(done: Json, site: str) -> Json:
    """What a site is handed, as the file writes it in a request."""
    return {
        peer: {"mask_key": keys["mask_key"], "sealed": keys["sealed"][site]}
        for peer, keys in done["keys"].items()
        if peer != site
    }


class Site:
    """A site that is sent the file's messages."""

    def __init__(self, site: str, done: Json) -> None:
        self.party = party_of(FIVE, site)
        self.parties = self.party.parties
        self.done = done
        self.memory: PartyRound | None = None

    def stored(self) -> PartyRound:
        if self.memory is None:
            raise AssertionError("a list of survivors comes after the input")
        return self.memory

    def input(self, message: Json) -> MaskedInput:
        done = self.done
        binding = binding_of(FIVE, done["round"], done["state_digest"])
        if "binding" in message:
            binding = RoundBinding(**message["binding"])
        shares = {
            peer: KeyShare(bytes.fromhex(share["mask_key"]), bytes.fromhex(share["sealed"]))
            for peer, share in message["received"].items()
        }
        self.memory, answer = self.party.masked_input(
            binding,
            layout_of(FIVE),
            arrays(FIVE, done["contributions"][self.party.site]),
            self.parties.named(bytes.fromhex(message["active"])),
            shares,
        )
        return answer

    def list(self, message: Json) -> SurvivorList:
        survivors = self.parties.from_bits(bytes.fromhex(message["survivors"]))
        return SurvivorList(message["round"], survivors, unhex(message.get("signatures", {})))

    def sign(self, message: Json, sign: Callable[[bytes], bytes]) -> SurvivorSignature:
        stored, text = self.stored(), self.list(message)
        self.memory, answer = self.party.consistency_check(stored, text, sign)
        return answer

    def unmask(self, message: Json) -> Unmasking:
        self.memory, answer = self.party.unmask(self.stored(), self.list(message))
        return answer

    def restart(self) -> None:
        text = json.dumps(self.stored().to_json(self.parties))
        self.party = party_of(FIVE, self.party.site)
        self.memory = PartyRound.from_json(json.loads(text), self.parties)

    def take(self, message: Json | str) -> None:
        if isinstance(message, str):
            self.restart()
        elif message["step"] == "MaskedInputCollection":
            self.input(message)
        elif message["step"] == "ConsistencyCheck":
            self.sign(message, lambda _: b"")
        else:
            self.unmask(message)


def survivors_of(done: Json) -> list[str]:
    return sorted(parties_of(FIVE).from_bits(bytes.fromhex(done["survivors"])))


def test_the_parameters_of_five_sites() -> None:
    parties = parties_of(FIVE)
    assert [parties.threshold, parties.quorum, parties.fewest] == [
        FIVE["threshold"],
        FIVE["quorum"],
        FIVE["fewest"],
    ]
    assert [len(survivors_of(done)) for done in ROUNDS] == [5, 4, 5]


@pytest.mark.parametrize("site", FIVE["sites"])
@pytest.mark.parametrize("done", ROUNDS, ids=["first", "second", "third"])
def test_each_of_five_answers_each_step_with_the_bytes_of_the_file(done: Json, site: str) -> None:
    at = Site(site, done)
    keys = at.party.share_keys(done["round"])
    assert keys.mask_key.hex() == done["keys"][site]["mask_key"]
    assert keys.sealed == unhex(done["keys"][site]["sealed"])
    answer = at.input({"active": done["active"], "received": received(done, site)})
    assert bytes(answer.vector).hex() == done["masked"][site]
    assert at.stored().digest == done["round_digest"]
    following = answer.next
    assert following is not None
    if done["round"] < len(ROUNDS):
        after = ROUNDS[done["round"]]["keys"][site]
        assert following.mask_key.hex() == after["mask_key"]
        assert following.sealed == unhex(after["sealed"])
    if site not in survivors_of(done):
        return
    message = {key: done[key] for key in ("round", "survivors", "signatures")}
    if done["signatures"]:
        verifying = public_of(FIVE["sites"][site]["contract_key"])
        signature = bytes.fromhex(done["signatures"][site])

        def sign(text: bytes) -> bytes:
            verifying.verify(signature, text)
            return signature

        assert at.sign(message, sign).signature == signature
    at.restart()
    assert at.unmask(message).shares == unhex(done["unmasking"][site])


def public_of(text: str) -> Ed25519PublicKey:
    raw = base64.urlsafe_b64decode(text.removeprefix("ed25519:") + "=")
    return Ed25519PublicKey.from_public_bytes(raw)


def message_of(done: Json, item: Json | str) -> Incoming:
    """A message to the hub: written out, or the name of a good one."""
    if item == "time is up":
        return TIME_IS_UP
    if isinstance(item, str):
        kind, sender = item.split(" ", 1)
        good = {
            "MaskedInput": ("vector", "masked"),
            "SurvivorSignature": ("signature", "signatures"),
            "Unmasking": ("shares", "unmasking"),
        }
        field, where = good[kind]
        return message_of(
            done,
            {"kind": kind, "sender": sender, "round": done["round"], field: done[where][sender]},
        )
    sender, number = item["sender"], item["round"]
    if item["kind"] == "MaskedInput":
        return MaskedInput(sender, number, bytes.fromhex(item["vector"]))
    if item["kind"] == "SurvivorSignature":
        return SurvivorSignature(sender, number, bytes.fromhex(item["signature"]))
    return Unmasking(sender, number, unhex(item["shares"]))


class Hub:
    """The hub in a round of five."""

    def __init__(self, done: Json, mask_keys: Mapping[str, str] | None = None) -> None:
        keys = {site: keys["mask_key"] for site, keys in done["keys"].items()}
        self.done = done
        self.hub = Aggregator(
            parties_of(FIVE),
            binding_of(FIVE, done["round"], done["state_digest"]),
            layout_of(FIVE),
            mask_keys=unhex({**keys, **(mask_keys or {})}),
        )
        self.state = self.hub.start()

    def take(self, item: Json | str) -> None:
        self.state, _ = self.hub.receive(self.state, message_of(self.done, item))

    def end(self, item: Json | str) -> Total:
        self.take(item)
        assert self.state.step == "done"
        return self.hub.result(self.state)


@pytest.mark.parametrize("done", ROUNDS, ids=["first", "second", "third"])
@pytest.mark.parametrize("silent", [None, 0, 3])
def test_the_messages_of_the_file_give_the_total(done: Json, silent: int | None) -> None:
    """Of four survivors all must answer, of five any four."""
    sites = survivors_of(done)
    hub = Hub(done)
    for site in sites:
        hub.take(f"MaskedInput {site}")
    if len(sites) == 4:
        hub.take("time is up")
        for site in sites:
            hub.take(f"SurvivorSignature {site}")
    elif silent is not None:
        sites.pop(silent)
    for site in sites[:4]:
        hub.take(f"Unmasking {site}")
    assert_total(FIVE, hub.hub.result(hub.state), done["total"])


@pytest.mark.parametrize("case", named(FIVE["refused_by_a_site"]["cases"]))
def test_a_site_refuses_a_bad_request(case: Json) -> None:
    at = Site(FIVE["refused_by_a_site"]["site"], ROUNDS[FIVE["refused_by_a_site"]["round"] - 1])
    *good, bad = case["messages"]
    for message in good:
        at.take(message)
    before = at.memory
    with pytest.raises(CohortiumError) as caught:
        at.take(bad)
    assert caught.value.code == case["code"]
    assert at.memory == before


@pytest.mark.parametrize("case", named(FIVE["refused_by_the_hub"]))
def test_the_hub_refuses_a_bad_answer(case: Json) -> None:
    hub = Hub(ROUNDS[case["round"] - 1], case.get("mask_keys"))
    *good, last = case["messages"]
    for message in good:
        hub.take(message)
    with pytest.raises(CohortiumError) as caught:
        hub.end(last)
    assert caught.value.code == case["code"]


def test_there_are_malicious_vectors_of_every_kind() -> None:
    """So that a case that is lost from the file is missed."""
    assert len(FIVE["refused_by_a_site"]["cases"]) >= 70
    assert len(FIVE["refused_by_the_hub"]) >= 45
    codes = {case["code"] for case in FIVE["refused_by_a_site"]["cases"]}
    assert codes == {
        "bad-share",
        "bad-signature",
        "malformed-message",
        "other-survivors",
        "roster-mismatch",
        "too-few-sites",
        "unexpected-message",
        "wrong-round",
    }
    assert {case["code"] for case in FIVE["refused_by_the_hub"]} == {
        "bad-signature",
        "malformed-message",
        "masks-do-not-cancel",
        "round-burnt",
        "too-few-sites",
        "unexpected-message",
        "wrong-length",
        "wrong-round",
    }


# --- a second implementation: integers, hmac, and the protocol's text -----------------------------

PRIME = 2**256 + 297


def canonical(value: Any) -> bytes:
    """RFC 8785 for what occurs here: no floats but bounds, names below U+10000."""
    if isinstance(value, dict):
        items = (canonical(key) + b":" + canonical(value[key]) for key in sorted(value))
        return b"{" + b",".join(items) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False).encode()


def sha256_json(value: Any) -> str:
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def hkdf(key: bytes, purpose: str, *facts: Any) -> bytes:
    """RFC 5869 with SHA-256, no salt, 32 bytes."""
    info = canonical(["cohortium/secagg/2/" + purpose, *facts])
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def keystream(key: bytes, length: int) -> bytes:
    return Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(length))


def x25519(secret: bytes, public: bytes) -> bytes:
    private = X25519PrivateKey.from_private_bytes(secret)
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def x25519_public(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def bitmap(run: Json, sites: Sequence[str]) -> bytes:
    order = sorted(run["sites"])
    bits = sum(1 << order.index(site) for site in sites)
    return bits.to_bytes((len(order) + 7) // 8, "little")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def second_roster_digest(run: Json) -> str:
    return sha256_json(
        {
            "run_id": run["run_id"],
            "contract_digest": run["contract_digest"],
            "request_digest": run["request_digest"],
            "keys": {
                site: b64(x25519_public(bytes.fromhex(entry["run_secret"])))
                for site, entry in run["sites"].items()
            },
        }
    )


def second_round_digest(run: Json, number: int, state_digest: str, active: bytes) -> str:
    return sha256_json(
        {
            "run_id": run["run_id"],
            "round": number,
            "contract_digest": run["contract_digest"],
            "request_digest": run["request_digest"],
            "state_digest": state_digest,
            "roster_digest": run["roster_digest"],
            "active": b64(active),
            "layout": {
                name: {key: spec[key] for key in ("shape", "kind", "bound")}
                for name, spec in run["layout"].items()
            },
        }
    )


class Words:
    """A masked vector as integers: the check word, the components, and zeros that fill 8 bytes."""

    def __init__(self, run: Json) -> None:
        self.run = run
        self.places: list[tuple[int, int]] = [(0, 64)]
        end = 8
        fields = sorted(run["layout"].items(), key=lambda item: (item[1]["kind"], item[0]))
        self.names = [name for name, _ in fields]
        for _, spec in fields:
            n_sites = len(run["sites"])
            bits, fraction = self.ring(spec, n_sites)
            assert (bits, fraction, end) == (spec["bits"], spec["fraction_bits"], spec["start"])
            n_bytes = -(-prod(spec["shape"]) * bits // 64) * 8
            self.places += [(end + at, bits) for at in range(0, n_bytes, bits // 8)]
            end += n_bytes
        self.length = end

    @staticmethod
    def ring(spec: Json, n_sites: int) -> tuple[int, int]:
        """The largest f with n bound 2^f + n <= 2^31 - 1, for vectors."""
        if spec["kind"] != "vector":
            return {"count": (64, 0), "real": (256, 128)}[spec["kind"]]
        fraction = 31
        while n_sites * Fraction(spec["bound"]) * Fraction(2) ** fraction + n_sites > 2**31 - 1:
            fraction -= 1
        return 32, fraction

    def encode(self, contribution: Mapping[str, list[str]], dither: bytes) -> list[int]:
        values = [1]
        stream = keystream(dither, self.length)
        for name in self.names:
            spec = self.run["layout"][name]
            for text in contribution[name]:
                if spec["kind"] == "count":
                    values.append(int(text))
                    continue
                exact = Fraction(float.fromhex(text)) * 2 ** spec["fraction_bits"]
                if spec["kind"] == "real":
                    values.append(round(exact))
                    continue
                at, _ = self.places[len(values)]
                drawn = int.from_bytes(stream[at : at + 4], "little")
                values.append((int(exact * 2**32) + drawn) // 2**32)
            while len(values) < len(self.places) and self.places[len(values)][0] < self.end(name):
                values.append(0)
        return values

    def end(self, name: str) -> int:
        """Where a field and what fills it up end."""
        spec = self.run["layout"][name]
        return int(spec["start"] + -(-prod(spec["shape"]) * spec["bits"] // 64) * 8)

    def add_mask(self, values: list[int], key: bytes, sign: int) -> None:
        stream = keystream(key, self.length)
        for number, (at, bits) in enumerate(self.places):
            word = int.from_bytes(stream[at : at + bits // 8], "little")
            values[number] = (values[number] + sign * word) % 2**bits

    def read(self, vector: bytes) -> list[int]:
        return [int.from_bytes(vector[at : at + bits // 8], "little") for at, bits in self.places]

    def same(self, values: list[int], vector: bytes) -> bool:
        return len(vector) == self.length and self.read(vector) == [
            value % 2**bits for value, (_, bits) in zip(values, self.places, strict=True)
        ]

    def decode(self, values: list[int]) -> dict[str, list[str]]:
        """A sum as the file writes it."""
        out: dict[str, list[str]] = {}
        left = [
            (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
            for value, (_, bits) in zip(values, self.places, strict=True)
        ][1:]
        for name in self.names:
            spec = self.run["layout"][name]
            size, width = prod(spec["shape"]), spec["bits"] // 8
            own, left = left[:size], left[(self.end(name) - spec["start"]) // width :]
            if spec["kind"] == "count":
                out[name] = [str(value) for value in own]
                continue
            exact = [Fraction(value, 2 ** spec["fraction_bits"]) for value in own]
            if spec["kind"] == "vector":
                exact = [Fraction(float(np.float32(float(value)))) for value in exact]
            out[name] = [float(value).hex() for value in exact]
        return out


def test_a_second_implementation_comes_to_the_same_masked_vectors_of_three() -> None:
    run = THREE
    assert second_roster_digest(run) == run["roster_digest"]
    everyone = bitmap(run, list(run["sites"]))
    name = second_round_digest(run, run["round"], run["state_digest"], everyone)
    words = Words(run)
    secrets = {site: bytes.fromhex(entry["run_secret"]) for site, entry in run["sites"].items()}
    total = [0] * len(words.places)
    for site, secret in secrets.items():
        dither = hkdf(secret, "rounding", name)
        values = words.encode(run["contributions"][site], dither)
        total = [a + b for a, b in zip(total, values, strict=True)]
        for peer, other in secrets.items():
            if peer != site:
                shared = x25519(secret, x25519_public(other))
                key = hkdf(shared, "pair-mask", name, *sorted([site, peer]))
                words.add_mask(values, key, 1 if site < peer else -1)
        assert words.same(values, bytes.fromhex(run["masked"][site]))
    assert total[0] == 3
    assert words.decode(total) == run["total"]


class SecondRound:
    """All secrets of a round of five, and what follows from them."""

    def __init__(self, done: Json) -> None:
        self.done = done
        self.number = done["round"]
        self.sites = sorted(FIVE["sites"])
        self.runs = {s: bytes.fromhex(FIVE["sites"][s]["run_secret"]) for s in self.sites}
        facts = (FIVE["roster_digest"], self.number)
        self.mask = {s: hkdf(self.runs[s], "mask-key", *facts) for s in self.sites}
        self.seed = {s: hkdf(self.runs[s], "self-mask-seed", *facts) for s in self.sites}
        self.name = second_round_digest(
            FIVE, self.number, done["state_digest"], bytes.fromhex(done["active"])
        )

    def shares(self, site: str) -> dict[str, bytes]:
        """By holder: the values of two polynomials; 40 bytes are drawn for each coefficient."""
        key = hkdf(self.runs[site], "share-polynomials", FIVE["roster_digest"], self.number)
        stream, at = keystream(key, 10_000), 0
        out = dict.fromkeys(self.sites, b"")
        for secret in (self.mask[site], self.seed[site]):
            coefficients: list[int] = []
            while len(coefficients) < FIVE["threshold"] - 1:
                drawn = int.from_bytes(stream[at : at + 40])
                at += 40
                if drawn < 2**320 // PRIME * PRIME:
                    coefficients.append(drawn % PRIME)
            degree = len(coefficients)
            for point, holder in enumerate(self.sites, 1):
                value = int.from_bytes(secret) + sum(
                    c * point ** (degree - i) for i, c in enumerate(coefficients)
                )
                out[holder] += (value % PRIME).to_bytes(33)
        return out

    def sealed(self, sender: str, recipient: str, text: bytes) -> bytes:
        facts = [FIVE["roster_digest"], sender, recipient]
        shared = x25519(self.runs[sender], x25519_public(self.runs[recipient]))
        about = canonical(["cohortium/secagg/2/share", *facts, self.number])
        return AESGCM(hkdf(shared, "channel", *facts)).encrypt(
            self.number.to_bytes(12), text, about + x25519_public(self.mask[sender])
        )

    def pair(self, site: str, peer: str) -> bytes:
        shared = x25519(self.mask[site], x25519_public(self.mask[peer]))
        return hkdf(shared, "pair-mask", self.name, *sorted([site, peer]))


def opened(shares: Mapping[int, int]) -> int:
    """The value at 0 of the polynomial through the first four points (Lagrange)."""
    points = sorted(shares)[: FIVE["threshold"]]
    total = Fraction()
    for x in points:
        others = [other for other in points if other != x]
        weight = Fraction(prod(others), prod(other - x for other in others))
        total += shares[x] * weight
    return total.numerator * pow(total.denominator, -1, PRIME) % PRIME


@pytest.mark.parametrize("done", ROUNDS, ids=["first", "second", "third"])
def test_a_second_implementation_comes_to_the_same_keys_and_inputs_of_five(done: Json) -> None:
    assert second_roster_digest(FIVE) == FIVE["roster_digest"]
    second, words = SecondRound(done), Words(FIVE)
    assert second.name == done["round_digest"]
    for site in second.sites:
        keys, shares = done["keys"][site], second.shares(site)
        assert keys["mask_key"] == x25519_public(second.mask[site]).hex()
        assert unhex(keys["sealed"]) == {
            peer: second.sealed(site, peer, shares[peer]) for peer in second.sites if peer != site
        }
        dither = hkdf(second.runs[site], "rounding", second.name)
        values = words.encode(done["contributions"][site], dither)
        words.add_mask(values, hkdf(second.seed[site], "self-mask", second.name), 1)
        for peer in second.sites:
            if peer != site:
                words.add_mask(values, second.pair(site, peer), 1 if site < peer else -1)
        assert words.same(values, bytes.fromhex(done["masked"][site]))


@pytest.mark.parametrize("done", ROUNDS, ids=["first", "second", "third"])
def test_a_second_implementation_unmasks_the_same_sum_of_five(done: Json) -> None:
    """From the hub's messages and public keys alone; the secrets only say what to expect."""
    second, words = SecondRound(done), Words(FIVE)
    left = [
        site for number, site in enumerate(second.sites) if int(done["survivors"], 16) >> number & 1
    ]
    secrets = {}
    for owner in second.sites:
        shares = {
            second.sites.index(holder) + 1: int(answer[owner], 16)
            for holder, answer in done["unmasking"].items()
        }
        secrets[owner] = opened(shares).to_bytes(32)
        held = second.shares(owner)
        alive = owner in left
        assert secrets[owner] == (second.seed if alive else second.mask)[owner]
        for holder, answer in done["unmasking"].items():
            half = held[holder][33:] if alive else held[holder][:33]
            assert answer[owner] == half.hex()
    total = [0] * len(words.places)
    for site in left:
        vector = words.read(bytes.fromhex(done["masked"][site]))
        total = [a + b for a, b in zip(total, vector, strict=True)]
        words.add_mask(total, hkdf(secrets[site], "self-mask", second.name), -1)
        for gone in set(second.sites) - set(left):
            shared = x25519(secrets[gone], bytes.fromhex(done["keys"][site]["mask_key"]))
            key = hkdf(shared, "pair-mask", second.name, *sorted([site, gone]))
            words.add_mask(total, key, -1 if site < gone else 1)
    assert total[0] == len(left)
    assert words.decode(total) == done["total"]


def test_the_signatures_of_the_file_are_over_the_round_and_the_survivors() -> None:
    for done in ROUNDS:
        payload = canonical(
            {
                "round_digest": done["round_digest"],
                "survivors": b64(bytes.fromhex(done["survivors"])),
            }
        )
        kind = b"application/vnd.cohortium.survivors+json"
        text = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        for site, signature in unhex(done["signatures"]).items():
            public_of(FIVE["sites"][site]["contract_key"]).verify(signature, text)
    assert [len(done["signatures"]) for done in ROUNDS] == [0, 4, 0]
