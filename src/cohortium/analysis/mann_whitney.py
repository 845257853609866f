"""`stats.mann_whitney`: the rank-sum test of two groups over sites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from cohortium.analysis.distribution import Distribution
from cohortium.analysis.ranks import (
    Undecided,
    is_open,
    rank_sum_limits,
    surrogates,
    tie_sum,
    twice_rank_sums,
)
from cohortium.analysis.two_groups import Alternative, TwoGroupParams, TwoGroupTest
from cohortium.errors import InputError

EXACT_UP_TO = 8
"""Persons in the smaller group, without ties: scipy's rule."""
MOST_EXACT = 2000
"""Persons in the larger group up to which the exact distribution is worth its time."""


class MannWhitneyParams(TwoGroupParams):
    """As `TwoGroupParams`.

    Attributes:
        alternative: ``greater``: X tends to be greater than Y.
        confidence: Of the interval of P(X > Y).
    """

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class MannWhitney(TwoGroupTest):
    """Mann-Whitney U test (Wilcoxon rank-sum test) of the pooled persons.

    Null hypothesis: a person of X has a greater value than a person of Y as often as a smaller one
    (the distributions are the same). Assumes independent persons; the variance of U is that under
    equal distributions.

    U is the number of pairs in which X is greater, ties counting half. p from the normal
    approximation with the variance corrected for ties and a continuity correction, as scipy's and
    R's; exact where a group has at most 8 persons and no two persons are tied. Effects: P(X > Y),
    ties counting half, with DeLong's interval on the logit scale; the rank-biserial correlation
    2 P - 1.

    Leaves the site: see `cohortium.analysis.distribution`; the hub sees how many persons of each
    group have which value.

    Refuses: a group of fewer than `min_cell` persons, or of one institution's alone, and whatever
    would give a smaller one away: PolicyRefusal ``too-few-persons``, ``too-few-sites``; so too a
    variable of two values where 1 to ``min_cell - 1`` persons of a group have one of them. A site
    with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its persons.
    InputError ``no-convergence`` where all values are equal.

    Reference: Mann & Whitney 1947; Lehmann 1975, Nonparametrics, ch. 1; DeLong et al. 1988.
    """

    name: ClassVar[str] = "stats.mann_whitney"
    version: ClassVar[int] = 1
    params_type = MannWhitneyParams

    def assess(
        self, of: Distribution, params: MannWhitneyParams, levels: Sequence[str | None]
    ) -> dict[str, Any]:
        """U, p and effects."""
        x, y = (int(n) for n in of.counts.sum(axis=0))
        u = (int(twice_rank_sums(of)[0]) - x * (x + 1)) / 2.0
        exact = (
            min(x, y) <= EXACT_UP_TO
            and max(x, y) <= MOST_EXACT
            and not np.any(of.counts.sum(axis=1) > 1)
        )
        p_value = _exact_p(of, params.alternative) if exact else _normal_p(of, u, params)
        greater = u / (x * y)
        low, high = _limits(of, greater, params.confidence)
        effect = {"value": greater, "low": low, "high": high, "confidence": params.confidence}
        biserial = {
            "name": "rank-biserial correlation",
            "value": 2 * greater - 1,
            "low": None if low is None else 2 * low - 1,
            "high": None if high is None else 2 * high - 1,
            "confidence": params.confidence,
        }
        resolution = None
        if is_open(of):
            first, last = rank_sum_limits(of)
            ends = (float(first[0]), float(last[0]))
            resolution = Undecided(1 / of.scale, *(end - x * (x + 1) / 2.0 for end in ends))
        return {
            "test": "mann-whitney",
            "title": "Mann-Whitney U test",
            "by": params.by,
            "null": f"A value of {params.variable} is as often greater as smaller in "
            f"{params.by} = {levels[0]} than in {params.by} = {levels[1]}.",
            "alternative": params.alternative,
            "method": "exact" if exact else "normal approximation",
            "statistic_name": "U",
            "statistic": u,
            "df": None,
            "p_value": p_value,
            "estimate": {"name": "common language effect size", **effect},
            "effects": [biserial],
            "resolution": None if resolution is None else resolution.to_json(),
        }


def _normal_p(of: Distribution, u: float, params: MannWhitneyParams) -> float:
    from scipy.special import ndtr

    x, y = (int(n) for n in of.counts.sum(axis=0))
    n = x + y
    variance = x * y / 12.0 * ((n + 1) - tie_sum(of) / (n * (n - 1)))
    if variance <= 0:
        raise InputError("no-convergence", f"All values of {params.variable} are equal.")
    mean = x * y / 2.0
    above = {"two-sided": abs(u - mean), "greater": u - mean, "less": mean - u}
    z = (above[params.alternative] - 0.5) / math.sqrt(variance)
    p = float(ndtr(-z)) * (2 if params.alternative == "two-sided" else 1)
    return min(p, 1.0)


def _exact_p(of: Distribution, alternative: Alternative) -> float:
    from scipy.stats import mannwhitneyu

    x, y = surrogates(of)
    return float(mannwhitneyu(x, y, alternative=alternative, method="exact").pvalue)


def _limits(
    of: Distribution, greater: float, confidence: float
) -> tuple[float | None, float | None]:
    """DeLong's variance of P(X > Y) from the placements, on the logit scale."""
    from scipy.special import ndtri

    x, y = of.counts[:, 0], of.counts[:, 1]
    n_x, n_y = int(x.sum()), int(y.sum())
    if n_x < 2 or n_y < 2 or not 0 < greater < 1:
        return None, None
    below = (np.cumsum(y) - y / 2.0) / n_y
    above = 1.0 - (np.cumsum(x) - x / 2.0) / n_x
    variance = float(x @ (below - greater) ** 2) / (n_x - 1) / n_x
    variance += float(y @ (above - greater) ** 2) / (n_y - 1) / n_y
    step = float(ndtri(0.5 + confidence / 2)) * math.sqrt(variance) / (greater * (1 - greater))
    centre = math.log(greater / (1 - greater))
    low, high = (1 / (1 + math.exp(-end)) for end in (centre - step, centre + step))
    return low, high
