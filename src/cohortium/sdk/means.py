"""Tests of means, variances and normality: the methods of a study."""

from __future__ import annotations

from typing import Literal

from cohortium.sdk.mean_results import AnovaResult, LeveneResult, NormalityResult, TTestResult
from cohortium.sdk.submission import Submits, as_type

INSTITUTIONS = "site"


class MeanMethods(Submits):
    """Tests of means, variances and normality."""

    def t_test(
        self,
        variable: str,
        by: str | None = None,
        second: str | None = None,
        *,
        kind: Literal["welch", "student", "paired", "one-sample"] | None = None,
        levels: tuple[str, str] | None = None,
        mu: float = 0.0,
        alternative: Literal["two-sided", "less", "greater"] = "two-sided",
        confidence: float = 0.95,
    ) -> TTestResult:
        """A t-test: of two groups (`by`), of pairs (`second`), or of one mean.

        Args:
            variable: A number.
            by: A category or boolean.
            second: The number that is subtracted from `variable`, person by person.
            kind: By default welch with `by`, paired with `second`, else one-sample.
            levels: Two levels of `by`, the first minus the second; needed where it has more.
            mu: The mean, or difference, under the null hypothesis.
            confidence: Of the intervals, which are two-sided whatever the alternative.

        Raises:
            InputError: What is named does not fit together; all values are equal.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        given = "paired" if second is not None else "one-sample"
        params = {
            "variable": variable,
            "by": by,
            "second": second,
            "kind": kind or ("welch" if by is not None else given),
            "levels": levels,
            "mu": mu,
            "alternative": alternative,
            "confidence": confidence,
        }
        return as_type(TTestResult, self.submit("stats.t_test", params).result())

    def anova(
        self, variable: str, by: str, kind: Literal["classical", "welch"] = "classical"
    ) -> AnovaResult:
        """A one-way analysis of variance.

        Args:
            variable: A number.
            by: A category or boolean; ``site`` (where no variable has that name): the institutions,
                three or more, are the groups.
            kind: classical (one variance) or welch (variances may differ).

        Raises:
            InputError: What is named does not fit together; all values of a group are equal.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        institutions = by == INSTITUTIONS and by not in self.variables
        params = {"variable": variable, "by": None if institutions else by, "kind": kind}
        return as_type(AnovaResult, self.submit("stats.anova", params).result())

    def levene(
        self, variable: str, by: str, centre: Literal["mean", "median"] = "median"
    ) -> LeveneResult:
        """A test of equal variances: Brown and Forsythe's, or with the means Levene's own.

        Args:
            centre: From where distances are measured. Means are exact; a median is as exact as the
                recorded data and the disclosure limits let it be, which the result says.

        Raises:
            InputError: What is named does not fit together; all values of a group are equal.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {"variable": variable, "by": by, "centre": centre}
        return as_type(LeveneResult, self.submit("stats.levene", params).result())

    def normality(
        self,
        variable: str,
        by: str | None = None,
        kind: Literal["jarque-bera", "dagostino", "skewness", "kurtosis"] = "dagostino",
    ) -> NormalityResult:
        """Tests of normality from moments, and a histogram.

        Shapiro and Wilk's test needs the records in order and is not offered. With many persons any
        test rejects: look at the picture.

        Args:
            by: A category or boolean: the residuals within its levels are tested.
            kind: The test that comes first; all four are in the result.

        Raises:
            InputError: What is named does not fit together; too few or equal values.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {"variable": variable, "by": by, "kind": kind}
        return as_type(NormalityResult, self.submit("stats.normality", params).result())
