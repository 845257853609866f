"""The hub's side of the masked sum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cohortium.core.rounds import Layout, Total
from cohortium.errors import ProtocolError
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.frame import Frame
from cohortium.secagg.masks import BLOCK_WORDS
from cohortium.secagg.party import require_same_run
from cohortium.secagg.ring import Words
from cohortium.secagg.roster import Roster


def aggregate(
    masked: Mapping[str, bytes], roster: Roster, binding: RoundBinding, layout: Layout
) -> Total:
    """Add the parties' masked vectors; the masks cancel and the sum is left.

    Args:
        masked: One vector of each site of the roster.

    Raises:
        ProtocolError: ``roster-mismatch``, ``wrong-length``, ``wrong-round``, or
            ``masks-do-not-cancel`` where the sites did not mask for the same round.
    """
    require_same_run(binding, roster)
    if set(masked) != set(roster.sites):
        missing = sorted(set(roster.sites) - set(masked))
        raise ProtocolError(
            "roster-mismatch",
            "There must be one masked vector of each party.",
            missing=missing,
        )
    frame = Frame(layout)
    for site, vector in masked.items():
        if len(vector) != 8 * frame.n_words:
            raise ProtocolError(
                "wrong-length",
                f"The masked vector of {site} has {len(vector)} bytes, not {8 * frame.n_words}.",
                site=site,
            )
    vectors: list[Words] = [np.frombuffer(masked[site], dtype="<u8") for site in roster.sites]
    flat = {s.name: np.empty(s.spec.size, dtype=s.ring.dtype) for s in frame.segments}
    for segment, first, end in frame.pieces(BLOCK_WORDS):
        total = vectors[0][first:end].copy()
        for other in vectors[1:]:
            segment.ring.add(total, other[first:end])
        flat[segment.name][segment.components(first, end)] = segment.ring.decode(total)
        if segment is frame.check and int(total[0]) != len(roster.sites):
            raise ProtocolError(
                "masks-do-not-cancel",
                f"In round {binding.round} the sites did not mask for the same state and parties. "
                "Resume the run; if it happens again, a site or the hub breaks the protocol.",
                round=binding.round,
            )
    return {s.name: flat[s.name].reshape(s.spec.shape) for s in frame.fields}
