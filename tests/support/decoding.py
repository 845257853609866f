"""What a hub can decode from everything that it heard, by brute force.

It takes off every mask whose key it can compute: from shares that were opened to it, in every
combination, and from the secrets of sites that collude with it. Then it tries every sum and every
difference of what is left; the check word, in which each site has put 1, tells when no mask is in.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cohortium.contract.model import Contract, RunRequest
from cohortium.core.rounds import Layout, Total
from cohortium.errors import ProtocolError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import get_state
from cohortium.link.rounds import get_key_shares, get_shares, get_unmasking
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.frame import Frame
from cohortium.secagg.keys import Channel, RoundSecrets, agree, pair_mask, public_key, self_mask
from cohortium.secagg.parties import Parties
from cohortium.secagg.roster import Roster
from cohortium.secagg.shamir import SHARE_BYTES, combine
from cohortium.secagg.vector import MaskKey, add, apply_masks, decode

MAX_COMBINATIONS = 3_000_000
Words = np.ndarray[tuple[int], np.dtype[np.uint64]]
Place = tuple[str, int, str]
"""The roster's digest, the round, the site whose secret it is."""


@dataclass(frozen=True)
class Heard:
    """One exchange as the hub saw it."""

    site: str
    asked: pb.Message
    reply: pb.Message


@dataclass(frozen=True)
class Contribution:
    """What a site adds for one state of one computation: the same in every run and round."""

    site: str
    computation: str
    state: str


@dataclass(frozen=True, eq=False)
class Vector:
    """A masked vector; `left` are its words without the masks that the hub knows, a guess each."""

    of: Contribution
    run_id: str
    round: int
    left: Sequence[bytearray] = field(repr=False)


@dataclass(frozen=True)
class Sum:
    """A combination of vectors, each with 1 or -1, in which no mask is left."""

    signs: Mapping[Vector, int]
    total: Total | None = field(repr=False)

    @property
    def plain(self) -> bool:
        """Whether it is a sum, of one vector of each site."""
        return len(self.sites) == len(self.signs) and set(self.signs.values()) == {1}

    @property
    def sites(self) -> frozenset[str]:
        return frozenset(vector.of.site for vector in self.signs)


class Decoding:
    """The knowledge of a hub and of the sites that collude with it.

    Args:
        layout: Of all contributions.
        colluding: The secrets that each of these sites ever drew.
    """

    def __init__(
        self,
        heard: Sequence[Heard],
        contract: Contract,
        layout: Layout,
        colluding: Mapping[str, Sequence[bytes]],
    ) -> None:
        self._heard = heard
        self._contract = contract
        self._layout = layout
        self._colluding = colluding

    def sums(self, *requests: RunRequest) -> list[Sum]:
        """Everything that can be decoded from the vectors of these runs together."""
        vectors = [
            vector
            for request in requests
            for vector in _Run(self._heard, self._contract, self._layout, request, self._colluding)
        ]
        return list(_combinations(vectors, self._layout))

    def smallest(self, *requests: RunRequest) -> float:
        """Of how many honest sites' contributions the smallest combination is that follows.

        From what can be decoded, any combination of it follows too: sums, differences, multiples.
        """
        found = self.sums(*requests)
        honest = {v.of for s in found for v in s.signs if v.of.site not in self._colluding}
        columns = sorted(honest, key=lambda one: (one.site, one.computation, one.state))
        place = {one: index for index, one in enumerate(columns)}
        rows = np.zeros((len(found), len(columns)))
        for row, one in zip(rows, found, strict=True):
            for vector, sign in one.signs.items():
                if vector.of in place:
                    row[place[vector.of]] += sign
        rows = np.unique(rows, axis=0)
        rank = np.linalg.matrix_rank(rows) if rows.size else 0
        if not rank:
            return math.inf
        for size in range(1, len(columns) + 1):
            for kept in itertools.combinations(range(len(columns)), size):
                if np.linalg.matrix_rank(np.delete(rows, kept, axis=1)) < rank:
                    return size
        raise RuntimeError("a combination of all contributions is one")


class _Run:
    """What is known of one run; iterates over its vectors."""

    def __init__(
        self,
        heard: Sequence[Heard],
        contract: Contract,
        layout: Layout,
        request: RunRequest,
        colluding: Mapping[str, Sequence[bytes]],
    ) -> None:
        self._contract, self._layout, self._request = contract, layout, request
        self._colluding = colluding
        self._made: dict[tuple[bytes, ...], Parties] = {}
        self._mask_keys: dict[Place, set[bytes]] = defaultdict(set)
        self._shares: dict[Place, dict[str, set[bytes]]] = defaultdict(lambda: defaultdict(set))
        self._vectors: dict[bytes, tuple[Heard, Parties]] = {}
        self._secrets: dict[Place, Counter[bytes]] = {}
        at: dict[str, Parties] = {}
        for one in heard:
            with suppress(ProtocolError):  # what nobody can read says nothing
                self._take(one, at)

    def _parties(self, envelopes: Sequence[bytes]) -> Parties:
        key, contract, request = tuple(envelopes), self._contract, self._request
        if key not in self._made:
            roster = Roster.verify(
                envelopes,
                contract_keys={p.name: p.key for p in contract.participants},
                run_id=request.run_id,
                contract_digest=contract.digest,
                request_digest=request.digest,
                min_sites=2,
            )
            self._made[key] = Parties(roster, contract.min_sites)
        return self._made[key]

    def _take(self, one: Heard, at: dict[str, Parties]) -> None:
        asked: Any = getattr(one.asked, one.asked.WhichOneof("body") or "ack")
        body = one.reply.WhichOneof("body")
        if getattr(asked, "run_id", "") != self._request.run_id or body == "error":
            return
        if getattr(asked, "roster", ()):
            at[one.site] = self._parties(asked.roster)
        if body == "share_reply":
            self._take_keys(one.site, one.reply.share_reply, at[one.site])
        elif body == "round_reply":
            self._vectors.setdefault(one.reply.round_reply.masked, (one, at[one.site]))
            if one.reply.round_reply.HasField("next"):
                self._take_keys(one.site, one.reply.round_reply.next, at[one.site])
        elif body == "unmasking" and one.site not in self._colluding:
            parties = at[one.site]
            answer = get_unmasking(one.reply.unmasking, one.site, parties)
            for owner, share in answer.shares.items():
                place = (parties.roster.digest, answer.round, owner)
                self._shares[place][one.site].add(share)

    def _take_keys(self, sender: str, reply: pb.ShareReply, parties: Parties) -> None:
        keys = get_key_shares(reply, sender, parties)
        place = (parties.roster.digest, keys.round, sender)
        self._mask_keys[place].add(keys.mask_key)
        for site in set(self._colluding) & set(keys.sealed):
            shared = agree(self._run_secret(site, parties), parties.roster.keys[sender], sender)
            channel = Channel(shared, parties.roster.digest, sender, site)
            both = channel.open(keys.round, keys.mask_key, keys.sealed[site])
            self._shares[place][site] |= {both[:SHARE_BYTES], both[SHARE_BYTES:]}

    def _run_secret(self, site: str, parties: Parties) -> bytes:
        key = parties.roster.keys[site]
        return next(s for s in self._colluding[site] if public_key(s) == key)

    def _opened(self, place: Place, parties: Parties) -> Counter[bytes]:
        """What shares of a site's two secrets open to, right and wrong ones, and how often."""
        if place not in self._secrets:
            shares, threshold = self._shares[place], parties.threshold
            found = Counter[bytes]()
            for holders in itertools.combinations(sorted(shares), threshold):
                for chosen in itertools.product(*(sorted(shares[h]) for h in holders)):
                    points = dict(zip(map(parties.point, holders), chosen, strict=True))
                    found.update(_combined(points, threshold))
            if place[2] in self._colluding:
                own = self._run_secret(place[2], parties)
                secrets = RoundSecrets(own, place[0], place[1])
                found.update([secrets.mask_secret, secrets.seed] * 2)
            self._secrets[place] = found
        return self._secrets[place]

    def _mask_secrets(self, place: Place, parties: Parties) -> set[bytes]:
        """Known secrets of the mask keys of a place, wherever they were opened."""
        digest, _, owner = place
        opened = {s for p in self._places(digest, owner) for s in self._opened(p, parties)}
        return {secret for secret in opened if public_key(secret) in self._mask_keys[place]}

    def _seeds(self, place: Place, parties: Parties) -> set[bytes]:
        """What may be the seed of a place; if nothing was opened there, seeds of other rounds."""
        own = self._seeds_at(place, parties)
        if own:
            return own
        digest, _, owner = place
        places = set(self._places(digest, owner)) - {place}
        return {secret for other in places for secret in self._seeds_at(other, parties)}

    def _seeds_at(self, place: Place, parties: Parties) -> set[bytes]:
        """What shares open to more than once is right; else each may be."""
        masks = self._mask_secrets(place, parties)
        found = {s: n for s, n in self._opened(place, parties).items() if s not in masks}
        return {s for s, n in found.items() if n > 1} or set(found)

    def _places(self, digest: str, owner: str) -> list[Place]:
        return [place for place in self._mask_keys if (place[0], place[2]) == (digest, owner)]

    def __iter__(self) -> Iterator[Vector]:
        for masked, (one, parties) in self._vectors.items():
            asked = one.asked.round_request
            state = get_state(asked).digest
            request = self._request
            binding = RoundBinding(
                request.run_id, asked.round, request.contract_digest, request.digest, state
            )
            active = parties.named(asked.active)
            name = binding.digest(self._layout, parties.roster.digest, parties.text(active))
            yield Vector(
                Contribution(one.site, f"{request.computation} {request.params}", state),
                request.run_id,
                asked.round,
                list(self._stripped(masked, one, parties, name)),
            )

    def _stripped(
        self, masked: bytes, one: Heard, parties: Parties, name: str
    ) -> Iterator[bytearray]:
        """The vector without the masks that are known; for each seed that may be the site's."""
        frame = Frame(self._layout, len(parties.sites))
        known = [
            MaskKey(pair_mask(shared, name, one.site, peer), negate=one.site < peer)
            for peer, shared in self._pairs(one, parties).items()
        ]
        number = one.asked.round_request.round
        place = (parties.roster.digest, number, one.site)
        seeds = self._seeds(place, parties)
        for seed in [None] if not seeds or not parties.recoverable else sorted(seeds):
            own = [] if seed is None else [MaskKey(self_mask(seed, name), negate=True)]
            words = bytearray(masked)
            if len(words) == frame.n_bytes:
                apply_masks(frame, words, known + own)
            yield words

    def _pairs(self, one: Heard, parties: Parties) -> dict[str, bytes]:
        """The secrets that a site shares with its peers, as far as they are known."""
        pairs, site = {}, one.site
        if not parties.recoverable:
            keys = parties.roster.keys
            for peer in parties.neighbours(site):
                if site in self._colluding:
                    pairs[peer] = agree(self._run_secret(site, parties), keys[peer], peer)
                elif peer in self._colluding:
                    pairs[peer] = agree(self._run_secret(peer, parties), keys[site], site)
            return pairs
        asked = one.asked.round_request
        places = {s: (parties.roster.digest, asked.round, s) for s in parties.sites}
        for peer, share in get_shares(asked, parties).items():
            for secret in self._mask_secrets(places[site], parties):
                pairs[peer] = agree(secret, share.mask_key, peer)
            for secret in self._mask_secrets(places[peer], parties):
                if public_key(secret) == share.mask_key:
                    for mask_key in self._mask_keys[places[site]]:
                        pairs[peer] = agree(secret, mask_key, site)
        return pairs


def _combined(shares: Mapping[int, bytes], threshold: int) -> Iterator[bytes]:
    try:
        yield combine(shares, threshold)
    except ProtocolError:
        return


def _combinations(vectors: Sequence[Vector], layout: Layout) -> Iterator[Sum]:
    """Meets in the middle: two lists of all combinations of half the vectors."""
    choices = [
        [None, *((sign, words) for words in vector.left for sign in (1, -1))] for vector in vectors
    ]
    halves = choices[: len(choices) // 2], choices[len(choices) // 2 :]
    left, right = (_check_words(half) for half in halves)
    order = np.argsort(right, kind="stable")
    wanted = np.zeros_like(left) - left
    first = np.searchsorted(right[order], wanted, "left")
    last = np.searchsorted(right[order], wanted, "right")
    for one in np.flatnonzero(first < last):
        for other in order[first[one] : last[one]]:
            chosen = [*_chosen(int(one), halves[0]), *_chosen(int(other), halves[1])]
            found = [
                (vector, choice)
                for vector, choice in zip(vectors, chosen, strict=True)
                if choice is not None
            ]
            # Of a combination and its opposite, one.
            if found and found[0][1][0] == 1:
                signs = {vector: sign for vector, (sign, _) in found}
                yield Sum(signs, _total([c for _, c in found], layout))


Choice = tuple[int, bytearray] | None


def _check_words(choices: Sequence[Sequence[Choice]]) -> Words:
    """The check word of each combination, less the number of sites that it should show."""
    if math.prod(map(len, choices)) > MAX_COMBINATIONS:
        raise RuntimeError("too many vectors to try all combinations of")
    sums: Words = np.zeros(1, dtype=np.uint64)
    for options in choices:
        each = [
            0 if option is None else option[0] * (int.from_bytes(option[1][:8], "little") - 1)
            for option in options
        ]
        words = np.array([value % 2**64 for value in each], dtype=np.uint64)
        sums = (sums[:, None] + words[None, :]).ravel()
    return sums


def _chosen(index: int, choices: Sequence[Sequence[Choice]]) -> list[Choice]:
    found: list[Choice] = []
    for options in reversed(choices):
        index, at = divmod(index, len(options))
        found.append(options[at])
    return found[::-1]


def _total(chosen: Collection[tuple[int, bytearray]], layout: Layout) -> Total | None:
    if any(sign != 1 for sign, _ in chosen):
        return None
    frame = Frame(layout, len(chosen))
    total = bytearray(frame.n_bytes)
    for _, words in chosen:
        add(frame, total, words)
    return decode(frame, total)
