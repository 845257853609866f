"""`stats.ks`: the Kolmogorov-Smirnov test of two groups over sites."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from cohortium.analysis.distribution import Distribution
from cohortium.analysis.ranks import Undecided, is_open, surrogates
from cohortium.analysis.two_groups import Alternative, TwoGroupParams, TwoGroupTest

EXACT_UP_TO = 10_000
"""Persons in the larger group: scipy's rule."""


class KsParams(TwoGroupParams):
    """As `TwoGroupParams`.

    Attributes:
        alternative: ``greater``: the distribution function of X is somewhere above that of Y, so
            that X tends to be smaller.
    """


class Ks(TwoGroupTest):
    """Two-sample Kolmogorov-Smirnov test of the pooled persons.

    Null hypothesis: the values have the same distribution in both groups. Assumes independent
    persons and a continuous variable; with ties the p value is too large rather than too small.

    D is the largest distance between the two empirical distribution functions (for a one-sided
    alternative: of the first above, or below, the second). p exact where the larger group has at
    most 10,000 persons, else asymptotic, as scipy's ``ks_2samp``. Where D is reached is a person's
    value and is not released.

    Leaves the site: see `cohortium.analysis.distribution`; the hub sees how many persons of each
    group have which value.

    Refuses: a group of fewer than `min_cell` persons, or of one institution's alone, and whatever
    would give a smaller one away: PolicyRefusal ``too-few-persons``, ``too-few-sites``; so too a
    variable of two values where 1 to ``min_cell - 1`` persons of a group have one of them. A site
    with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its persons.

    Reference: Hodges 1958, The significance probability of the Smirnov two-sample test.
    """

    name: ClassVar[str] = "stats.ks"
    version: ClassVar[int] = 1
    params_type = KsParams

    def assess(
        self, of: Distribution, params: KsParams, levels: Sequence[str | None]
    ) -> dict[str, Any]:
        """D and p."""
        x, y = (int(n) for n in of.counts.sum(axis=0))
        # In units of 1 / (x y), so that the distance is an integer.
        after = np.cumsum(of.counts[:, 0]) * y - np.cumsum(of.counts[:, 1]) * x
        distance = _largest(after, params.alternative) / (x * y)
        resolution = None
        if is_open(of):
            before = after - of.counts[:, 0] * y + of.counts[:, 1] * x
            ends = np.concatenate([before + of.counts[:, 0] * y, before - of.counts[:, 1] * x])
            most = _largest(ends, params.alternative) / (x * y)
            resolution = Undecided(1 / of.scale, distance, most)
        p = _exact_p(of, params.alternative) if max(x, y) <= EXACT_UP_TO else None
        method = "asymptotic" if p is None else "exact"
        if p is None:
            p = asymptotic_p(distance, x, y, params.alternative)
        return {
            "test": "kolmogorov-smirnov",
            "title": "Kolmogorov-Smirnov test",
            "by": params.by,
            "null": f"{params.variable} has the same distribution in {params.by} = {levels[0]} and "
            f"{params.by} = {levels[1]}.",
            "alternative": params.alternative,
            "method": method,
            "statistic_name": "D",
            "statistic": distance,
            "df": None,
            "p_value": p,
            "estimate": None,
            "effects": [],
            "resolution": None if resolution is None else resolution.to_json(),
        }


def _largest(differences: np.ndarray[Any, np.dtype[np.int64]], alternative: Alternative) -> int:
    above, below = int(differences.max(initial=0)), int(-differences.min(initial=0))
    return {"two-sided": max(above, below), "greater": above, "less": below}[alternative]


def _exact_p(of: Distribution, alternative: Alternative) -> float | None:
    """None where the exact calculation does not succeed."""
    from scipy.stats import ks_2samp

    x, y = surrogates(of)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", RuntimeWarning)
        p = float(ks_2samp(x, y, alternative=alternative, method="auto").pvalue)
    return None if told else p


def asymptotic_p(distance: float, x: int, y: int, alternative: Alternative) -> float:
    """As scipy's: the one-sample distribution at the effective size, or Hodges' expansion."""
    from scipy.stats import kstwo

    large, small = float(max(x, y)), float(min(x, y))
    size = large * small / (large + small)
    if alternative == "two-sided":
        return min(max(float(kstwo.sf(distance, round(size))), 0.0), 1.0)
    z = math.sqrt(size) * distance
    correction = 2 * z * (large + 2 * small) / math.sqrt(large * small * (large + small)) / 3.0
    return min(max(math.exp(-2 * z**2 - correction), 0.0), 1.0)
