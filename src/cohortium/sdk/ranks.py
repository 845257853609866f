"""Tests of ranks: the methods of a study."""

from __future__ import annotations

from typing import Literal

from cohortium.sdk.rank_results import KruskalResult, KsResult, MannWhitneyResult
from cohortium.sdk.submission import Submits, as_type

Alternative = Literal["two-sided", "less", "greater"]


class RankMethods(Submits):
    """Tests of ranks."""

    def mann_whitney(
        self,
        variable: str,
        by: str,
        *,
        levels: tuple[str, str] | None = None,
        alternative: Alternative = "two-sided",
        confidence: float = 0.95,
    ) -> MannWhitneyResult:
        """The Mann-Whitney U test (Wilcoxon's rank-sum test), corrected for ties.

        Args:
            variable: With an order: a number, a date.
            by: A category or boolean.
            levels: Two levels of `by`; needed where it has more. U is of the first.
            alternative: ``greater``: values are greater in the first.
            confidence: Of the interval of the effect size.

        Raises:
            InputError: What is named does not fit together; all values are equal.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {
            "variable": variable,
            "by": by,
            "levels": levels,
            "alternative": alternative,
            "confidence": confidence,
        }
        return as_type(MannWhitneyResult, self.submit("stats.mann_whitney", params).result())

    def kruskal(self, variable: str, by: str) -> KruskalResult:
        """The Kruskal-Wallis test of two groups or more, corrected for ties.

        Args:
            variable: With an order: a number, a date.
            by: A category or boolean.

        Raises:
            InputError: What is named does not fit together; all values are equal.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {"variable": variable, "by": by}
        return as_type(KruskalResult, self.submit("stats.kruskal", params).result())

    def ks(
        self,
        variable: str,
        by: str,
        *,
        levels: tuple[str, str] | None = None,
        alternative: Alternative = "two-sided",
    ) -> KsResult:
        """The two-sample Kolmogorov-Smirnov test.

        Args:
            variable: With an order: a number, a date.
            by: A category or boolean.
            levels: Two levels of `by`; needed where it has more.
            alternative: ``greater``: the distribution function of the first is the greater one
                somewhere, so that its values are smaller.

        Raises:
            InputError: What is named does not fit together.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {
            "variable": variable,
            "by": by,
            "levels": levels,
            "alternative": alternative,
        }
        return as_type(KsResult, self.submit("stats.ks", params).result())
