"""Tests of means, variances and normality as they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import Variable
from cohortium.sdk.hypothesis import Estimate, HypothesisTest
from cohortium.sdk.language import Language
from cohortium.sdk.mean_words import interpret_means, interpret_normality, interpret_variances
from cohortium.sdk.publication import PrintedTable, Row
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary
from cohortium.sdk.table_lines import OneTest, lines_of, lines_table, one_test
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


def _in_order(group: Mapping[str, Any]) -> dict[str, Any]:
    """As people read them; canonical JSON has sorted the names."""
    names = ("level", "n", "mean", "sd", "median")
    return {name: group[name] for name in names if name in group}


class MeanTest(HypothesisTest):
    """A test of means; each group has level, n, mean and sd."""

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.groups = tuple(_in_order(group) for group in self.groups)

    def effect(self, name: str) -> Estimate | None:
        """An effect size by its name, ``Cohen's d``; None where the test has not got it."""
        return next((one for one in self.effects if one.name == name), None)

    def interpret(self, lang: Language = "en") -> str:
        """What the test says, in plain words, and what is not adjusted for."""
        return interpret_means(self, lang)


class TTestResult(MeanTest):
    """A t-test.

    Attributes:
        second: What was subtracted from the first variable in a paired test, whose `variable` is
            ``first - second``.
        mu: The mean or difference under the null hypothesis.
        standard_error: Of the estimate.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.second: str | None = data.get("second")
        if self.second is not None:
            self.variable = f"{self.variable} - {self.second}"
        self.mu = float(data["mu"])
        self.standard_error = float(data["standard_error"])

    def plot(self) -> alt.TopLevelMixin:
        """The means with their standard deviations, and the estimate with its limits."""
        from cohortium.sdk.mean_plots import difference
        from cohortium.sdk.plots import means, side_by_side

        one = self.estimate
        charts = []
        if self.by is not None:
            rows = [
                {
                    "group": str(g["level"]),
                    "mean": g["mean"],
                    "low": g["mean"] - g["sd"],
                    "high": g["mean"] + g["sd"],
                }
                for g in self.groups
            ]
            charts.append(means(self.variable or "", rows, [r["group"] for r in rows], self.by))
        if one is not None and one.low is not None and one.high is not None:
            name = f"{one.name} ({(one.confidence or 0.95) * 100:g}% CI)"
            charts.append(difference(name, one.value, one.low, one.high, self.mu))
        return side_by_side(charts)


class AnovaResult(MeanTest):
    """A one-way analysis of variance; by institution it has no groups."""

    @property
    def table(self) -> pd.DataFrame:
        """Degrees of freedom, sum of squares and mean square, between and within the groups."""
        import pandas as pd

        columns = ["source", "df", "sum_of_squares", "mean_square"]
        return pd.DataFrame(self._data["table"], columns=columns).set_index("source")

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The groups, the sums of squares, and the test as a row."""
        *before, test = super().tables(lang)
        names = ("source", "df", "sum_of_squares", "mean_square")
        rows = tuple(
            Row((say(str(row["source"]), lang), *(row[name] for name in names[1:])))
            for row in self._data["table"]
        )
        head = tuple(say(name.replace("_", " "), lang) for name in names)
        return (*before, PrintedTable(self.heading(lang), head, rows), test)

    @property
    def eta_squared(self) -> float:
        """The part of the variance that is between the groups."""
        return self._share("eta squared")

    @property
    def omega_squared(self) -> float:
        """The same without its bias."""
        return self._share("omega squared")

    def _share(self, name: str) -> float:
        one = self.effect(name)
        return float("nan") if one is None else one.value

    def plot(self) -> alt.TopLevelMixin:
        """The groups' means with their standard deviations; by institution the variance's parts."""
        if self.groups:
            return super().plot()
        from cohortium.sdk.mean_plots import bars

        whole = sum(float(row["sum_of_squares"]) for row in self._data["table"])
        rows = [
            {"row": row["source"], "share": row["sum_of_squares"] / whole}
            for row in self._data["table"]
        ]
        return bars(rows, x="share", axis=f"share of the variance of {self.variable}", percent=True)


class LeveneResult(HypothesisTest):
    """A test of equal variances; each group has level, n, mean, sd and, where asked, median.

    Attributes:
        medians_between: Of the groups whose median is not exact: the interval that holds it.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.groups = tuple(_in_order(group) for group in self.groups)
        found = (data.get("resolution") or {}).get("medians") or ()
        self.medians_between: dict[str, tuple[float, float]] = {
            str(one["level"]): (float(one["low"]), float(one["high"])) for one in found
        }

    def interpret(self, lang: Language = "en") -> str:
        """What the test says, in plain words, and how exact its medians are."""
        return interpret_variances(self, lang)

    def plot(self) -> alt.TopLevelMixin:
        """The groups' standard deviations."""
        from cohortium.sdk.mean_plots import bars

        rows = [{"row": str(g["level"]), "sd": g["sd"]} for g in self.groups]
        return bars(rows, x="sd", axis=f"standard deviation of {self.variable}")


class NormalityResult(HypothesisTest):
    """Tests of normality from moments; the one that was asked for comes first.

    Attributes:
        tests: ``jarque-bera``, ``dagostino``, ``skewness`` and ``kurtosis``.
        skewness: g1. kurtosis: g2, 0 for a normal distribution.
        mean, sd: Of the normal curve to compare with; of residuals the mean is 0.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.groups = tuple(_in_order(group) for group in self.groups)
        self.tests: dict[str, OneTest] = {str(one["test"]): one_test(one) for one in data["tests"]}
        shape = {one.name: one.value for one in self.effects}
        self.skewness = shape["skewness"]
        self.kurtosis = shape["excess kurtosis"]
        self.mean = float(data["histogram"]["mean"])
        self.sd = float(data["histogram"]["sd"])

    @property
    def histogram(self) -> pd.DataFrame:
        """Persons in each bin: low, high (NaN at the open ends) and n."""
        import pandas as pd

        frame = pd.DataFrame(self._data["histogram"]["bins"], columns=["low", "high", "n"])
        return frame.astype({"low": float, "high": float})

    def to_frame(self) -> pd.DataFrame:
        """One row a test."""
        import pandas as pd

        rows = [
            {
                "test": one.title,
                "variable": self.variable,
                "statistic": one.statistic,
                "df": one.df,
                "p": one.p_value,
                "n": self.n,
            }
            for one in self.tests.values()
        ]
        return pd.DataFrame(rows)

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The groups, and one line a test."""
        *before, _ = super().tables(lang)
        lines = lines_of(self.tests.values(), self.effects, lang)
        return (*before, lines_table(self.heading(lang), lines, lang, self.notes(lang)))

    def summary(self) -> Summary:
        """The first test, and then all of them."""
        others = self.to_frame().drop(columns=["variable", "n"]).to_string(index=False, na_rep="")
        return Summary(f"{super().summary()}\n{others}")

    def interpret(self, lang: Language = "en") -> str:
        """What the test says, in plain words, and what it is not good for."""
        return interpret_normality(self, lang)

    def plot(self) -> alt.TopLevelMixin:
        """The histogram, and the normal curve of the same mean and standard deviation."""
        from cohortium.sdk.mean_plots import density

        name = self.variable or ""
        name = f"{name} from its mean by {self.by}" if self.by else name
        bins = self._data["histogram"]["bins"]
        return density(name, bins, n=self.n, mean=self.mean, sd=self.sd)
