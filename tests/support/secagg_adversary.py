"""A hub that lies and sites that collude with it: what they can work out of what they heard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Literal

from tests.support.secagg import Play

from cohortium.secagg.frame import Frame
from cohortium.secagg.keys import RoundSecrets, agree, pair_mask, public_key, self_mask
from cohortium.secagg.messages import KeyShares
from cohortium.secagg.shamir import SHARE_BYTES, combine
from cohortium.secagg.vector import MaskKey, add, apply_masks

Kind = Literal["mask key", "seed"]
SECRETS: tuple[Kind, Kind] = ("mask key", "seed")


class Adversary:
    """The hub and the `corrupt` sites in one round.

    They know the secrets of the corrupt sites, every share that was sealed for these, and every
    share that an honest site opened; they open what at least a threshold of those shares opens.
    """

    def __init__(
        self, play: Play, keys: Mapping[str, KeyShares], number: int, corrupt: Collection[str]
    ) -> None:
        self._play = play
        self._keys = keys
        self._number = number
        self.corrupt = frozenset(corrupt)
        self.parties = play.parties
        self._shares: dict[tuple[str, Kind], dict[int, bytes]] = defaultdict(dict)
        self._opened: dict[tuple[str, Kind], bytes | None] = {}
        for holder in sorted(self.corrupt):
            point = self.parties.point(holder)
            for owner in sorted(self.parties.neighbours(holder) - self.corrupt):
                share = keys[owner].to(holder)
                channel = play.party(holder)._channel(owner, holder)
                both = channel.open(number, share.mask_key, share.sealed)
                self._shares[owner, "mask key"][point] = both[:SHARE_BYTES]
                self._shares[owner, "seed"][point] = both[SHARE_BYTES:]

    def hear(self, sender: str, survivors: Collection[str], shares: Mapping[str, bytes]) -> None:
        """An honest site's answer in step 4, to that list."""
        point = self.parties.point(sender)
        for owner, share in shares.items():
            kind: Kind = "seed" if owner in survivors else "mask key"
            self._shares[owner, kind][point] = share
        self._opened.clear()

    def secret(self, owner: str, kind: Kind) -> bytes | None:
        """A site's secret, where enough is known of it."""
        if (owner, kind) not in self._opened:
            self._opened[owner, kind] = self._open(owner, kind)
        return self._opened[owner, kind]

    def _open(self, owner: str, kind: Kind) -> bytes | None:
        if owner in self.corrupt:
            run = self._play.world.secrets[owner]
            secrets = RoundSecrets(run, self.parties.roster.digest, self._number)
            return secrets.mask_secret if kind == "mask key" else secrets.seed
        shares = self._shares[owner, kind]
        if len(shares) < self.parties.threshold:
            return None
        opened = combine(shares, self.parties.threshold)
        if kind == "mask key" and public_key(opened) != self._keys[owner].mask_key:
            raise AssertionError(f"the shares of {owner} do not open its mask key")
        return opened

    def open_of(self, owner: str) -> list[Kind]:
        """Which of a site's two secrets are known."""
        return [kind for kind in SECRETS if self.secret(owner, kind) is not None]

    def masks(
        self, site: str, digest: str, active: Collection[str]
    ) -> tuple[list[MaskKey], frozenset[str]]:
        """What takes the known masks away from a masked input, and whose mask is not known.

        The site's own name in the second stands for its self-mask.
        """
        known, missing = list[MaskKey](), set[str]()
        seed = self.secret(site, "seed")
        if seed is None:
            missing.add(site)
        else:
            known.append(MaskKey(self_mask(seed, digest), negate=True))
        own = self.secret(site, "mask key")
        for peer in sorted(self.parties.neighbours(site) & set(active)):
            other = self.secret(peer, "mask key")
            if own is not None:
                shared = agree(own, self._keys[peer].mask_key, peer)
            elif other is not None:
                shared = agree(other, self._keys[site].mask_key, site)
            else:
                missing.add(peer)
                continue
            key = pair_mask(shared, digest, site, peer)
            known.append(MaskKey(key, negate=site < peer))
        return known, frozenset(missing)

    def strip(
        self,
        frame: Frame,
        inputs: Mapping[str, bytes],
        digest: str,
        active: Collection[str],
    ) -> tuple[bytes, frozenset[frozenset[str]]]:
        """The sum of masked inputs without the known masks, and the masks that are left in it.

        A mask between two of the sites cancels and is not left; one site stands for a self-mask.
        """
        total = bytearray(frame.n_bytes)
        left = set[frozenset[str]]()
        for site, vector in inputs.items():
            add(frame, total, vector)
            known, missing = self.masks(site, digest, active)
            apply_masks(frame, total, known)
            left ^= {frozenset({site, peer}) for peer in missing}
        return bytes(total), frozenset(left)
