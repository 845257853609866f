"""Which cells of a table of persons may be released.

A cell of 1 to ``min_cell - 1`` persons is never released, and neither is anything from which it
follows: where the table's total is known, the cells withheld must be at least two and hold at
least `min_cell` persons together.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

_LARGEST_CODE = 1e5


class Release(IntEnum):
    """What may be said about a cell."""

    OPEN = 0
    TOO_FEW = 1
    SECONDARY = 2
    ONE_SITE = 3
    DOMINATED = 4


REASONS = {
    Release.TOO_FEW: "fewer persons than the minimum cell size",
    Release.SECONDARY: "withheld so that a smaller cell does not follow from the total",
    Release.ONE_SITE: "one institution's persons alone",
    Release.DOMINATED: "a few persons make up most of the sum",
}


LEAST_SITES = 2
"""Institutions that a released number rests on at least: one's own numbers are not joint data."""


def is_small(count: int, min_cell: int) -> bool:
    """Whether a cell holds somebody, but fewer than `min_cell` persons."""
    return 0 < count < min_cell


def suppress(counts: Counts, min_cell: int) -> Counts:
    """Decide on each cell of a one-way table whose total is known.

    Args:
        counts: int64, shape (n_cells,); persons.
        min_cell: Smallest count that may be released.

    Returns:
        int64, shape (n_cells,); a `Release` for each cell. Empty cells are open. The smallest
        cells are withheld first; equal ones in their order, so that every party decides alike.

    Reference: Hundepool et al. 2012, Statistical Disclosure Control, ch. 4.
    """
    status = np.full(counts.shape, Release.OPEN, dtype=np.int64)
    status[(counts > 0) & (counts < min_cell)] = Release.TOO_FEW
    if not status.any():
        return status
    open_cells = [cell for cell in np.argsort(counts, kind="stable") if not status[cell]]
    # People come before empty cells: an empty cell protects only against naming, not against sums.
    for cell in sorted(open_cells, key=lambda cell: counts[cell] == 0):
        withheld = status != Release.OPEN
        if int(withheld.sum()) >= 2 and int(counts[withheld].sum()) >= min_cell:
            break
        status[cell] = Release.SECONDARY
    return status


def nearly_equal(cells: Counts, min_cell: int) -> npt.NDArray[np.bool_]:
    """Whether two groups of the same persons, or one and what the other leaves, differ by so few
    that numbers of both tell of those.

    Args:
        cells: int64, shape (4, ...); persons in both groups, in the first only, in the second only,
            and in none of them.
    """
    both, first, second, neither = cells
    alike = (first < min_cell) & (second < min_cell) & (first + second > 0)
    opposite = (both < min_cell) & (neither < min_cell) & (both + neither > 0)
    return np.asarray(alike | opposite)


def is_binary(mean: float, mean_square: float) -> bool:
    """Whether the values of these moments are zeros and ones."""
    return abs(mean_square - mean) <= 1e-9 * max(1.0, abs(mean))


def is_two_valued(mean: float, mean_square: float) -> bool:
    """Whether whole numbers of these moments are two successive ones: 0 and 1, or codes 1 and 2.

    No whole numbers of that mean vary less. Codes are taken to be below 100,000: of larger numbers
    the moments do not say it.
    """
    low, part = floor_of(mean)
    return abs(low) < _LARGEST_CODE and abs(
        mean_square - mean * mean - part * (1 - part)
    ) <= 1e-9 * max(1.0, abs(low))


def floor_of(mean: float) -> tuple[float, float]:
    """The whole number below, and the rest."""
    low = math.floor(mean) if math.isfinite(mean) else math.nan
    return low, mean - low


def follows_from_mean(n: int, mean: float, mean_square: float, min_cell: int) -> bool:
    """Whether the mean of a whole-numbered variable gives away a small cell.

    A variable of zeros and ones (where the mean of squares is the mean) has ``n * mean`` ones; of
    one and two, what is above 1 counts the twos.

    Args:
        n: Persons.
        mean: Mean of the values.
        mean_square: Mean of their squares.
        min_cell: Smallest count that may be released.
    """
    if not is_two_valued(mean, mean_square):
        return False
    ones = round(n * floor_of(mean)[1])
    return is_small(ones, min_cell) or is_small(n - ones, min_cell)
