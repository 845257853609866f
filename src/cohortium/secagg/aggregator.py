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


class Aggregation:
    """The running sum of one round; the order in which the vectors come does not matter.

    Not safe from several threads at once.
    """

    def __init__(self, roster: Roster, layout: Layout) -> None:
        self._roster = roster
        self._frame = Frame(layout)
        self._sum: Words = np.zeros(self._frame.n_words, dtype=np.uint64)
        self._waiting = set(roster.sites)

    def add(self, site: str, masked: bytes) -> None:
        """Add the masked vector of a party.

        Raises:
            ProtocolError: ``roster-mismatch`` for no party or one that was added already;
                ``wrong-length``.
        """
        if site not in self._waiting:
            raise ProtocolError(
                "roster-mismatch", f"{site} is no party of this round or is there twice.", site=site
            )
        if len(masked) != 8 * self._frame.n_words:
            raise ProtocolError(
                "wrong-length",
                f"The masked vector of {site} has {len(masked)} bytes, "
                f"not {8 * self._frame.n_words}.",
                site=site,
            )
        words: Words = np.frombuffer(masked, dtype="<u8")
        for segment, first, end in self._frame.pieces(BLOCK_WORDS):
            segment.ring.add(self._sum[first:end], words[first:end])
        self._waiting.remove(site)

    def total(self, binding: RoundBinding) -> Total:
        """The sum, once every party's vector is in it.

        Raises:
            ProtocolError: ``roster-mismatch``, ``wrong-round``, or ``masks-do-not-cancel`` where
                the sites did not mask for the same round.
        """
        require_same_run(binding, self._roster)
        if self._waiting:
            raise ProtocolError(
                "roster-mismatch",
                "There must be one masked vector of each party.",
                missing=sorted(self._waiting),
            )
        if int(self._sum[self._frame.check.start]) != len(self._roster.sites):
            raise ProtocolError(
                "masks-do-not-cancel",
                f"In round {binding.round} the sites did not mask for the same state and parties. "
                "Resume the run; if it happens again, a site or the hub breaks the protocol.",
                round=binding.round,
            )
        flat = {s.name: np.empty(s.spec.size, dtype=s.ring.dtype) for s in self._frame.segments}
        for segment, first, end in self._frame.pieces(BLOCK_WORDS):
            place = segment.components(first, end)
            flat[segment.name][place] = segment.ring.decode(self._sum[first:end])
        return {s.name: flat[s.name].reshape(s.spec.shape) for s in self._frame.fields}


def aggregate(
    masked: Mapping[str, bytes], roster: Roster, binding: RoundBinding, layout: Layout
) -> Total:
    """Add the parties' masked vectors; the masks cancel and the sum is left.

    Args:
        masked: One vector of each site of the roster.

    Raises:
        ProtocolError: See `Aggregation`.
    """
    aggregation = Aggregation(roster, layout)
    for site, vector in masked.items():
        aggregation.add(site, vector)
    return aggregation.total(binding)
