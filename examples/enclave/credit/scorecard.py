"""A scorecard: bins of each column, their weight of evidence, and a logistic regression of them.

Reference: Siddiqi 2006, Credit Risk Scorecards, ch. 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

BINS = 6
TOLD_DIGITS = 2
LEAST_SHARE = 0.05
"""Of customers in a bin: its points tell its column's owner how many of them did not pay."""
SMOOTHED = 0.5
POINTS_AT_EVEN_ODDS = 400
POINTS_THAT_DOUBLE_ODDS = 40


@dataclass(frozen=True)
class Bins:
    """A column in bins, the last of which is for what is missing.

    Attributes:
        edges: The upper ends but the last, included; rounded, as they are told.
        evidence: ln(share of the paid / share of the unpaid) of each; 0 where it has too few.
        share: Of customers, in each.
    """

    edges: NDArray[np.float64]
    evidence: NDArray[np.float64]
    share: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[np.float64], unpaid: NDArray[np.int64]) -> Bins:
        """Bins of about as many customers each."""
        known = np.sort(values[~np.isnan(values)])
        least = LEAST_SHARE * len(values)
        edges: list[float] = []
        below = 0
        for cut in _cuts(known):
            count = np.searchsorted(known, cut, side="right")
            if count - below >= least and len(known) - count >= least:
                edges.append(float(cut))
                below = count
        place = cls._place(values, np.array(edges))
        size = len(edges) + 2
        bad = np.bincount(place, unpaid, size) + SMOOTHED
        good = np.bincount(place, 1 - unpaid, size) + SMOOTHED
        evidence = np.log(good / good.sum()) - np.log(bad / bad.sum())
        share = np.bincount(place, minlength=size) / len(values)
        return cls(np.array(edges), np.where(share >= LEAST_SHARE, evidence, 0.0), share)

    def of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each value's evidence."""
        return self.evidence[self._place(values, self.edges)]

    @staticmethod
    def _place(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
        place = np.searchsorted(edges, values)
        return np.where(np.isnan(values), len(edges) + 1, place)


@dataclass(frozen=True)
class Scorecard:
    """More points: less risk."""

    bins: dict[str, Bins]
    weight: NDArray[np.float64]
    constant: float

    @classmethod
    def fit(cls, table: pd.DataFrame, unpaid: NDArray[np.int64]) -> Scorecard:
        """Of numbers in columns, and 1 where it was not paid back."""
        bins = {name: Bins.fit(table[name].to_numpy(float), unpaid) for name in map(str, table)}
        evidence = np.column_stack(
            [one.of(table[name].to_numpy(float)) for name, one in bins.items()]
        )
        model = LogisticRegression(C=1.0, max_iter=1000).fit(evidence, 1 - unpaid)
        return cls(bins, model.coef_[0], float(model.intercept_[0]))

    def points(self) -> pd.DataFrame:
        """A line a bin: the column, the range, the share of customers in it, its points."""
        rows = []
        for (name, bins), weight in zip(self.bins.items(), self.weight, strict=True):
            ends = [-np.inf, *bins.edges, np.inf]
            ranges = [(*pair, False) for pair in pairwise(ends)]
            for (above, up_to, missing), evidence, share in zip(
                [*ranges, (np.nan, np.nan, True)], bins.evidence, bins.share, strict=True
            ):
                if share >= LEAST_SHARE:
                    told = _points(weight * evidence)
                    rows.append((name, above, up_to, missing, round(share, 3), told))
        columns = ["column", "above", "up_to", "missing", "share", "points"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def base_points(self) -> int:
        """What each customer has before any column."""
        return POINTS_AT_EVEN_ODDS + _points(self.constant)

    def risk(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """The probability that it is not paid back."""
        odds = self.constant + _evidence(self.bins, table) @ self.weight
        return 1 / (1 + np.exp(odds))


def _evidence(bins: dict[str, Bins], table: pd.DataFrame) -> NDArray[np.float64]:
    return np.column_stack([one.of(table[name].to_numpy(float)) for name, one in bins.items()])


def _points(log_odds: float) -> int:
    return round(float(log_odds * POINTS_THAT_DOUBLE_ODDS / np.log(2)))


def _cuts(known: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(known):
        return known
    cuts = np.quantile(known, np.arange(1, BINS) / BINS)
    return np.unique(np.round(cuts, TOLD_DIGITS) + 0.0)
