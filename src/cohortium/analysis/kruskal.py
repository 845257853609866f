"""`stats.kruskal`: the rank test of several groups over sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from cohortium.analysis.distribution import Distribution, Question
from cohortium.analysis.interface import Scope
from cohortium.analysis.ranks import (
    RankParams,
    RankTest,
    Undecided,
    is_open,
    rank_sum_limits,
    tie_sum,
    twice_rank_sums,
)
from cohortium.core.dictionary import Name
from cohortium.errors import InputError


class KruskalParams(RankParams):
    """What is compared.

    Attributes:
        variable: With an order: a number, a date.
        by: A category or boolean.
    """

    variable: Name
    by: Name

    def question(self, scope: Scope) -> Question:
        """Persons with a value, in the groups of `by`."""
        return Question.of(scope, [self.variable], self.by)


class Kruskal(RankTest):
    """Kruskal-Wallis test of the pooled persons in two groups or more.

    Null hypothesis: the values have the same distribution in all groups. Assumes independent
    persons; it is sensitive to groups in which values tend to be greater.

    H from the mean ranks, corrected for ties; p from chi-square with one degree of freedom fewer
    than groups, as scipy's and R's. Effect: epsilon squared, H / (n - 1), from 0 to 1. Levels in
    which nobody counts are left out and named.

    Leaves the site: see `cohortium.analysis.distribution`; the hub sees how many persons of each
    group have which value.

    Refuses: a group of 1 to ``min_cell - 1`` persons, or of one institution's alone, and whatever
    would give a smaller one away: PolicyRefusal ``too-few-persons``, ``too-few-sites``; so too a
    variable of two values where 1 to ``min_cell - 1`` persons of a group have one of them. A site
    with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its persons.
    InputError ``no-convergence`` where all values are equal.

    Reference: Kruskal & Wallis 1952; Tomczak & Tomczak 2014 (epsilon squared).
    """

    name: ClassVar[str] = "stats.kruskal"
    version: ClassVar[int] = 1
    params_type = KruskalParams

    def variables(self, params: KruskalParams) -> frozenset[str]:
        """The variable and the grouping one."""
        return frozenset({params.variable, params.by})

    def partition(self, params: KruskalParams, scope: Scope) -> tuple[str, ...]:
        """The grouping variable."""
        return tuple(variable.name for variable in params.question(scope).groups.by)

    def assess(
        self, of: Distribution, params: KruskalParams, levels: Sequence[str | None]
    ) -> dict[str, Any]:
        """H, p and the effect."""
        from scipy.special import chdtrc

        sizes = of.counts.sum(axis=0).astype(np.float64)
        n = float(sizes.sum())
        ties = 1.0 - tie_sum(of) / (n**3 - n)
        if ties <= 0:
            raise InputError("no-convergence", f"All values of {params.variable} are equal.")
        middle = (n + 1) / 2
        away = twice_rank_sums(of) / (2 * sizes) - middle
        weight = 12.0 / (n * (n + 1))
        h = float(weight * np.sum(sizes * away**2) / ties)
        resolution = None
        if is_open(of):
            first, last = (one / sizes - middle for one in rank_sum_limits(of))
            least = np.where((first <= 0) & (last >= 0), 0.0, np.minimum(abs(first), abs(last)))
            most = np.maximum(abs(first), abs(last))
            low = float(weight * np.sum(sizes * least**2))
            resolution = Undecided(
                1 / of.scale, low, float(weight * np.sum(sizes * most**2) / ties)
            )
        df = len(levels) - 1
        return {
            "test": "kruskal-wallis",
            "title": "Kruskal-Wallis test",
            "by": params.by,
            "null": f"{params.variable} has the same distribution at all levels of {params.by}.",
            "alternative": "two-sided",
            "statistic_name": "H",
            "statistic": h,
            "df": df,
            "p_value": float(chdtrc(df, h)),
            "estimate": None,
            "effects": [{"name": "epsilon squared", "value": h / (n - 1)}],
            "resolution": None if resolution is None else resolution.to_json(),
        }
