"""A site's side of the masked sum."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cohortium.core.rounds import Contribution, Layout
from cohortium.crypto.keys import SigningKey, b64url
from cohortium.errors import InputError, ProtocolError
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.frame import Frame, name_component
from cohortium.secagg.masks import BLOCK_WORDS, MaskStream, new_buffer, pair_key
from cohortium.secagg.ring import Words
from cohortium.secagg.roster import Roster
from cohortium.secagg.round_key import RoundKey

__all__ = ["Party"]

TAG_LABEL: Final = b"cohortium/secagg/answer-tag/1"


class Party:
    """One site in one run: it turns contributions into masked vectors.

    The caller keeps `secret` as long as the run lives, calls `mask` for one contribution only under
    one binding, and keeps to one roster in a run.

    Args:
        site: This site's name in the contract.
        secret: The X25519 secret, 32 bytes, from `prepare`.
        roster: Verified; holds this site with the key of `secret`.

    Raises:
        ProtocolError: ``roster-mismatch``.
    """

    def __init__(self, site: str, secret: bytes, roster: Roster) -> None:
        private = X25519PrivateKey.from_private_bytes(secret)
        if roster.keys.get(site) != private.public_key().public_bytes_raw():
            raise ProtocolError(
                "roster-mismatch", "The parties' list does not hold this site with its own key."
            )
        self.site = site
        self.roster = roster
        self._tag_key = HKDF(SHA256(), length=32, salt=None, info=TAG_LABEL).derive(secret)
        self._pairs = {
            peer: pair_key(private, site, peer, roster) for peer in roster.sites if peer != site
        }

    @staticmethod
    def prepare(
        *,
        site: str,
        run_id: str,
        contract_digest: str,
        request_digest: str,
        signing_key: SigningKey,
        random: Callable[[int], bytes] = os.urandom,
    ) -> tuple[bytes, bytes]:
        """A site's secret for a run (32 bytes) and its signed `RoundKey` (a DSSE envelope)."""
        secret = random(32)
        public = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
        statement = RoundKey(
            run_id=run_id,
            contract_digest=contract_digest,
            request_digest=request_digest,
            site=site,
            x25519=b64url(public),
        )
        return secret, statement.sign(signing_key)

    def mask(self, binding: RoundBinding, layout: Layout, contribution: Contribution) -> bytearray:
        """The masked vector: encoding + masks of later peers - masks of earlier ones.

        Leaves the site: words that are uniform to anyone who lacks one of the pair keys; summed
        over all parties they are the sum of the encodings.

        Raises:
            InputError: ``overflow``, with `field` and `index` of the component.
            ProtocolError: ``wrong-round`` where the binding is not of this run.
        """
        require_same_run(binding, self.roster)
        frame = Frame(layout)
        frame.check_shapes(contribution)
        values = {s.name: contribution[s.name].reshape(-1) for s in frame.fields}
        values[frame.check.name] = np.ones(1, dtype=np.int64)

        name = binding.digest(layout, self.roster.digest)
        streams = [(MaskStream(pair, name), self.site > peer) for peer, pair in self._pairs.items()]
        masked = bytearray(8 * frame.n_words)
        out: Words = np.frombuffer(masked, dtype="<u8")
        buffer = new_buffer()
        for segment, first, end in frame.pieces(BLOCK_WORDS):
            block = out[first:end]
            place = segment.components(first, end)
            try:
                block[:] = segment.ring.encode(values[segment.name][place], len(self.roster.sites))
            except InputError as error:
                raise name_component(error, segment, place.start) from error
            for stream, negate in streams:
                segment.ring.add(block, stream.next(end - first, buffer), negate=negate)
        return masked

    def tag(self, masked: bytes | bytearray) -> str:
        """Tells this site whether two answers are the same: GMAC (SP 800-38D) under its secret.

        For an answer of 80 MB it takes a fifth of the time of a hash.
        """
        return AESGCM(self._tag_key).encrypt(bytes(12), b"", masked).hex()


def require_same_run(binding: RoundBinding, roster: Roster) -> None:
    """Refuse a round whose run, contract or request is not the roster's."""
    bound = (binding.run_id, binding.contract_digest, binding.request_digest)
    if bound != (roster.run_id, roster.contract_digest, roster.request_digest):
        raise ProtocolError("wrong-round", "The round and the parties belong to different runs.")
