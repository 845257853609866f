"""Which points of a model's curves may be released.

All curves of a model - ROC, precision, calibration, net benefit - follow from one table: persons
with and without the event in intervals of the score. It is released like one: in no interval 1 to
``min_cell - 1`` persons have the event, or have it not. Neighbouring scores are merged until that
is so. Where an interval ends follows from the data and not from the request: a threshold that a
researcher names is looked up among those that are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution import Distribution
from cohortium.analysis.rank_bins import roundest

MOST_POINTS: Final = 200
MOST_VALUES: Final = 2000
"""Scores up to which each is a point of its own, where single persons may be told of."""
FEW_HIDDEN: Final = 30
"""Scores that could be worked out from the areas where no more than these are merged."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Intervals of the score, ascending; axis P.

    Attributes:
        edges: (P - 1,); the first cell of each interval but the first.
        last: (P,); the index of each interval's last cell that holds somebody.
        counts: (P, 2); persons without and with the event.
    """

    edges: Ints
    last: Ints
    counts: Ints

    @property
    def n_hidden(self) -> int:
        """Scores that are not told apart from another."""
        return int(self.last[-1]) + 1 - len(self.last) if len(self.last) else 0

    def first(self) -> Ints:
        """The index of each interval's first cell that holds somebody."""
        return np.concatenate([[0], self.last[:-1] + 1]).astype(np.int64)


def points_of(of: Distribution, min_cell: int) -> Points:
    """As many intervals as may be told."""
    counts = of.counts
    if min_cell == 1 and len(counts) <= MOST_VALUES:
        last = np.arange(len(counts), dtype=np.int64)
    else:
        last = _merged(counts, min_cell)
    first = np.concatenate([[0], last[:-1] + 1]).astype(np.int64)
    inside = np.add.reduceat(counts, first, axis=0)
    return Points(roundest(of.cells[last[:-1]], of.cells[first[1:]]), last, inside)


def fits(counts: Ints, least: int) -> bool:
    """Whether neither those with nor those without the event are 1 to ``least - 1`` persons."""
    return bool(np.all((counts == 0) | (counts >= least)))


def _merged(counts: Ints, least: int) -> Ints:
    """The last cell of each interval."""
    reached = counts.sum(axis=1).cumsum()
    enough = max(least, -(-int(reached[-1]) // MOST_POINTS))
    slot = (reached - 1) // enough
    ends = np.flatnonzero(np.diff(slot, append=slot[-1] + 1))
    inside = np.diff(counts.cumsum(axis=0)[ends], axis=0, prepend=0)
    last: list[int] = []
    sizes: list[Ints] = []
    here = np.zeros(2, dtype=np.int64)
    for end, more in zip(ends.tolist(), inside, strict=True):
        here = here + more
        if fits(here, least) and int(here.sum()) >= least:
            last.append(end)
            sizes.append(here)
            here = np.zeros(2, dtype=np.int64)
    while sizes and here.any():  # too few at the end: with the interval before
        here = here + sizes.pop()
        last.pop()
        if fits(here, least):
            break
    if here.any():
        last.append(len(counts) - 1)
    return np.array(last, dtype=np.int64)


def grouped(points: Points, groups: int) -> Ints:
    """The last interval of each of about so many groups of about as many persons.

    Groups are made of whole intervals, so that nobody is between the end of a group and a point.
    """
    reached = points.counts.sum(axis=1).cumsum()
    wanted = reached[-1] * np.arange(1, groups) / groups
    ends = np.abs(reached[None, :] - wanted[:, None]).argmin(axis=1)
    return np.unique([*ends.tolist(), len(reached) - 1]).astype(np.int64)
