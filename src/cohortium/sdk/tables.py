"""Contingency tables and their tests: the methods of a study."""

from __future__ import annotations

from cohortium.sdk.submission import Submits, as_type
from cohortium.sdk.table_results import CmhResult, CrosstabResult, McNemarResult


class TableMethods(Submits):
    """Contingency tables and their tests."""

    def crosstab(
        self,
        row: str,
        column: str | None = None,
        rounding: int | None = None,
        confidence: float = 0.95,
    ) -> CrosstabResult:
        """Persons by the levels of two variables (or one), with tests and measures.

        Args:
            row, column: Categories or booleans.
            rounding: Release all numbers rounded to multiples of this, and no tests.
            confidence: Of the limits of ratios and differences.

        Raises:
            InputError: An unknown variable, or one without levels.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {"row": row, "column": column, "rounding": rounding, "confidence": confidence}
        return as_type(CrosstabResult, self.submit("stats.crosstab", params).result())

    def frequency(self, variable: str, rounding: int | None = None) -> CrosstabResult:
        """Persons by the levels of one variable.

        Raises:
            InputError: As `crosstab`.
            PolicyRefusal: As `crosstab`.
        """
        return self.crosstab(variable, rounding=rounding)

    def cmh(
        self,
        row: str,
        column: str,
        strata: str | None = None,
        correction: bool = True,
        confidence: float = 0.95,
    ) -> CmhResult:
        """Cochran-Mantel-Haenszel test and common odds ratio of 2x2 tables.

        Args:
            row, column: Categories or booleans of two levels.
            strata: A category or boolean; None: each institution is a stratum.
            correction: Continuity correction of `p_value`; both tests are in `tests`.

        Raises:
            InputError: As `crosstab`.
            PolicyRefusal: As `crosstab`; a cell is too small.
        """
        params = {
            "row": row,
            "column": column,
            "strata": strata,
            "correction": correction,
            "confidence": confidence,
        }
        return as_type(CmhResult, self.submit("stats.cmh", params).result())

    def mcnemar(
        self, before: str, after: str, correction: bool = True, confidence: float = 0.95
    ) -> McNemarResult:
        """McNemar's test: has a binary variable changed?

        Args:
            before, after: Booleans, or categories with the same two levels.
            correction: Continuity correction of `p_value`; all tests are in `tests`.

        Raises:
            InputError: As `crosstab`.
            PolicyRefusal: As `crosstab`.
        """
        params = {
            "before": before,
            "after": after,
            "correction": correction,
            "confidence": confidence,
        }
        return as_type(McNemarResult, self.submit("stats.mcnemar", params).result())
