"""Harrell's concordance: of two persons, does the one at greater risk have the event first?

A pair is comparable where one has the event while the other is at risk and does not have it at
the same time. Counted with ranks in O(n log n), by a wavelet matrix: no loop over persons.

Reference: Harrell et al. 1996; Claude, Navarro & Ordóñez 2015, The wavelet matrix.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cohortium.analysis.cox_risk import rows_by_stratum

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_DIGITS = 10
"""Linear predictors that agree in so many decimals are tied: others differ by rounding only."""


def concordance(
    time: Floats,
    event: Bools,
    predictor: Floats,
    stratum: Ints,
    n_strata: int,
    *,
    entry: Floats | None = None,
) -> Ints:
    """Concordant, discordant and tied pairs within the strata; shape (3,).

    Args:
        predictor: Greater where the event is expected sooner.
    """
    total = np.zeros(3, dtype=np.int64)
    risk = np.unique(np.round(predictor, _DIGITS), return_inverse=True)[1].astype(np.int64)
    for rows in rows_by_stratum(stratum, n_strata):
        t, died, score = time[rows], event[rows], risk[rows]
        if not died.any():
            continue
        # Who is censored at the time of an event is still at risk: events come first.
        order = np.lexsort((~died, t))
        ahead = np.searchsorted(t[order], t[died], side="left")
        same, here = np.unique(t[died], return_inverse=True)
        begin = ahead + np.bincount(here, minlength=len(same))[here]
        less, equal = _ranked(score[order], begin, score[died])
        more = len(t) - begin - less - equal
        if entry is not None:
            by_entry = np.argsort(entry[rows], kind="stable")
            late = np.searchsorted(entry[rows][by_entry], t[died], side="left")
            fewer, ties = _ranked(score[by_entry], late, score[died])
            less, equal = less - fewer, equal - ties
            more = more - (len(t) - late - fewer - ties)
        total += (int(less.sum()), int(more.sum()), int(equal.sum()))
    return total


def _ranked(values: Ints, begin: Ints, asked: Ints) -> tuple[Ints, Ints]:
    """For each query: of ``values[begin:]`` how many are less than `asked`, and equal to it."""
    values, asked = values.astype(np.int32), asked.astype(np.int32)
    low, high = begin.astype(np.int32), np.full(len(begin), len(values), dtype=np.int32)
    less = np.zeros_like(low)
    for level in reversed(range(max(int(values.max(initial=0)).bit_length(), 1))):
        ones = (values >> level) & 1
        zeros_before = np.zeros(len(values) + 1, dtype=np.int32)
        np.cumsum(1 - ones, out=zeros_before[1:], dtype=np.int32)
        zeros = zeros_before[-1]
        a, b = zeros_before[low], zeros_before[high]
        up = ((asked >> level) & 1).astype(np.bool_)
        less += np.where(up, b - a, 0)
        low = np.where(up, zeros + low - a, a)
        high = np.where(up, zeros + high - b, b)
        values = np.concatenate([values[ones == 0], values[ones == 1]])
    return less.astype(np.int64), (high - low).astype(np.int64)
