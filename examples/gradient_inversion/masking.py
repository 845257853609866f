"""A round of Cohortium's secure sum over three sites' updates, and all that the hub sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cohortium.core.canonical import digest
from cohortium.core.rounds import FieldSpec, Layout
from cohortium.crypto.keys import SigningKey
from cohortium.disclosure.budget import Part, noise_multiplier, share_sigma
from cohortium.secagg.aggregator import Aggregator
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.frame import Frame
from cohortium.secagg.noise import discrete_gaussian
from cohortium.secagg.parties import Parties
from cohortium.secagg.party import Party
from cohortium.secagg.roster import Roster
from cohortium.secagg.vector import decode, encode_masked

Update = npt.NDArray[np.float64]
"""Shape (parameters,)."""

BOUND = 256.0
"""Of any component of a site's update; the sum has room for the noise beside them."""

CLIP = 60.0
"""Largest L2 norm of a site's update, where noise is to hide it."""


@dataclass(frozen=True)
class Seen:
    """A round's vectors, each decoded from fixed point as if it were an update.

    Attributes:
        plain: By site: what the hub would have seen without masks.
        masked: By site: what it saw.
        total: The sum that the round released.
    """

    plain: tuple[Update, ...]
    masked: tuple[Update, ...]
    total: Update


def secure_sum(updates: Sequence[Update], epsilon: float | None = None) -> Seen:
    """One round: keys signed and exchanged, updates encoded and masked, masked vectors added.

    Args:
        epsilon: Each site adds its share of the noise that makes this one sum (epsilon,
            10^-5)-differentially private for a site's whole update; None: no noise.
    """
    sites = [f"site-{place}" for place in range(1, len(updates) + 1)]
    binding = RoundBinding(
        run_id="0" * 32,
        round=1,
        contract_digest=digest("the contract that the sites signed"),
        request_digest=digest("the researcher's request"),
        state_digest=digest("the model's weights"),
    )
    signing = {site: SigningKey.generate() for site in sites}
    prepared = {
        site: Party.prepare(
            site=site,
            run_id=binding.run_id,
            contract_digest=binding.contract_digest,
            request_digest=binding.request_digest,
            signing_key=signing[site],
        )
        for site in sites
    }
    roster = Roster.verify(
        [round_key for _, round_key in prepared.values()],
        contract_keys={site: key.public for site, key in signing.items()},
        run_id=binding.run_id,
        contract_digest=binding.contract_digest,
        request_digest=binding.request_digest,
        min_sites=len(sites),
    )
    parties = Parties(roster, len(sites))
    layout: Layout = {"update": FieldSpec(updates[0].shape, "vector", bound=BOUND)}

    aggregator = Aggregator(parties, binding, layout)
    state = aggregator.start()
    frame = Frame(layout, len(sites))
    plain, masked = [], []
    for site, update in zip(sites, updates, strict=True):
        contribution, noise = {"update": update}, None
        if epsilon is not None:
            contribution = {"update": update * min(1.0, CLIP / float(np.linalg.norm(update)))}
            noise = {"update": _noise(frame, epsilon, len(sites))}
        party = Party(site, prepared[site][0], parties)
        _, message = party.masked_input(binding, layout, contribution, noise=noise)
        masked.append(_decode(frame, message.vector))
        plain.append(_decode(frame, encode_masked(frame, contribution, [], dither=bytes(32))))
        state, _ = aggregator.receive(state, message)
    total = aggregator.result(state)["update"].astype(np.float64)
    return Seen(tuple(plain), tuple(masked), total)


def _noise(frame: Frame, epsilon: float, n_sites: int) -> npt.NDArray[np.int64]:
    """A site's share, as a contract's `noise` with the unit institution asks for it."""
    (field,) = frame.fields
    scale = 2.0**field.ring.fraction_bits
    part = Part(field.spec.size, scale, rounded=True)
    multiplier = noise_multiplier(epsilon, delta=1e-5, sums=1)
    sigma = share_sigma(multiplier, CLIP, [part], shares=n_sites - 1)  # one site may collude
    return discrete_gaussian(sigma * scale, field.spec.size)


def _decode(frame: Frame, vector: bytes | bytearray) -> Update:
    return decode(frame, vector)["update"].astype(np.float64)
