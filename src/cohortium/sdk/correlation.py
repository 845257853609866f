"""Correlations: the methods of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cohortium.sdk.correlation_results import CorrelationResult
from cohortium.sdk.submission import Submits, as_type, listed


class CorrelationMethods(Submits):
    """Correlations."""

    def correlation(
        self,
        variables: Sequence[str],
        *,
        given: str | Sequence[str] = (),
        missing: Literal["complete", "pairwise"] = "complete",
        confidence: float = 0.95,
    ) -> CorrelationResult:
        """Pearson's correlation of every two of the variables.

        Args:
            variables: Two numbers or more.
            given: What is held constant; with it the correlations are partial ones.
            missing: ``complete``: persons with a value of every variable; ``pairwise``: for each
                pair, those with both.
            confidence: Of the intervals.

        Raises:
            InputError: What is named does not fit together; a variable follows from others.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {
            "variables": listed(variables),
            "given": listed(given),
            "missing": missing,
            "confidence": confidence,
        }
        return as_type(CorrelationResult, self.submit("stats.correlation", params).result())

    def spearman(self, variables: Sequence[str], *, confidence: float = 0.95) -> CorrelationResult:
        """Spearman's rank correlation of every two of the variables.

        Exact where every value is shared by enough persons, as on ordinal scales; else
        `CorrelationResult.resolution` says how far off it can be.

        Args:
            variables: Two or more with an order: numbers, dates.
            confidence: Of the intervals.

        Raises:
            InputError: What is named does not fit together.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {"variables": listed(variables), "confidence": confidence}
        return as_type(CorrelationResult, self.submit("stats.spearman", params).result())
