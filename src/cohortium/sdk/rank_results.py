"""Tests of ranks as they come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import Variable
from cohortium.sdk.hypothesis import Estimate, HypothesisTest
from cohortium.sdk.language import Language
from cohortium.sdk.rank_words import interpret_ranks, resolution_words
from cohortium.sdk.run_info import RunInfo

if TYPE_CHECKING:
    import altair as alt

_COLUMNS = ("level", "n", "q1", "median", "q3", "mean_rank")


@dataclass(frozen=True)
class Resolution:
    """How exactly values were told apart, where that was not as they are recorded.

    Attributes:
        step: Values less than this apart may have been taken as tied.
        low, high: The statistic of the recorded values is not outside these.
    """

    step: float
    low: float
    high: float


class RankTestResult(HypothesisTest):
    """A test of ranks; each group has level, n, quartiles (None: withheld) and mean rank.

    Attributes:
        method: How p was found: exact, normal approximation, ...
        resolution: None where the statistic is exact.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.method = str(data.get("method", "chi-square"))
        limits = data.get("resolution")
        self.resolution = (
            None
            if limits is None
            else Resolution(*(float(limits[name]) for name in ("step", "low", "high")))
        )
        self.groups = tuple(
            {name: group[name] for name in _COLUMNS if name in group} for group in self.groups
        )

    def interpret(self, lang: Language = "en") -> str:
        """What the test says, in plain words, and what is not adjusted for."""
        return interpret_ranks(self, lang)

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """The footnotes: also how exact the statistic is."""
        exact = resolution_words(self, lang)
        return (*((exact,) if exact else ()), *super().notes(lang))

    def plot(self) -> alt.TopLevelMixin:
        """The groups' medians and quartiles."""
        from cohortium.sdk.rank_plots import quartiles

        groups = [g for g in self.groups if isinstance(g.get("median"), int | float)]
        if not groups or any(g["q1"] is None or g["q3"] is None for g in groups):
            return super().plot()
        return quartiles(self.variable or "", groups, self.by)


class MannWhitneyResult(RankTestResult):
    """A Mann-Whitney U test. `statistic` is U of the first group, R's W."""

    @property
    def superiority(self) -> Estimate | None:
        """P(X > Y), ties counting half: how often who is in the first group has more."""
        return self.estimate


class KruskalResult(RankTestResult):
    """A Kruskal-Wallis test."""


class KsResult(RankTestResult):
    """A two-sample Kolmogorov-Smirnov test."""
