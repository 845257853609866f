"""Differences between groups from the groups' own summaries: tests and standardised differences.

Everything here is exact: a mean, a standard deviation and a count are all that these tests ask of a
group.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """A numeric variable in one group; `sd` with divisor n - 1."""

    n: int
    mean: float
    sd: float


def pooled(groups: Sequence[Group]) -> Group:
    """The groups taken together."""
    n = sum(group.n for group in groups)
    mean = sum(group.n * group.mean for group in groups) / n
    squares = sum((g.n - 1) * g.sd**2 + g.n * (g.mean - mean) ** 2 for g in groups)
    return Group(n, mean, math.sqrt(squares / (n - 1)) if n > 1 else math.nan)


def anova_p(groups: Sequence[Group], *, equal_var: bool = True) -> float:
    """P of equal means: one-way analysis of variance, or Welch's where variances may differ.

    Over two groups it is the p value of Student's, or Welch's, t-test. NaN where it is undefined.

    Reference: Welch 1951, Biometrika 38.
    """
    from scipy import stats

    k = len(groups)
    n = np.array([group.n for group in groups], dtype=np.float64)
    if k < 2 or np.any(n < 2):
        return math.nan
    means = np.array([group.mean for group in groups])
    variances = np.array([group.sd for group in groups]) ** 2
    if equal_var:
        grand = float(np.sum(n * means) / np.sum(n))
        within = float(np.sum((n - 1) * variances)) / (float(n.sum()) - k)
        between = float(np.sum(n * (means - grand) ** 2)) / (k - 1)
        if within == 0:
            return math.nan
        return float(stats.f.sf(between / within, k - 1, float(n.sum()) - k))
    if np.any(variances == 0):
        return math.nan
    weights = n / variances
    total = float(weights.sum())
    centre = float(np.sum(weights * means)) / total
    spread = float(np.sum((1 - weights / total) ** 2 / (n - 1)))
    between = float(np.sum(weights * (means - centre) ** 2)) / (k - 1)
    statistic = between / (1 + 2 * (k - 2) / (k**2 - 1) * spread)
    return float(stats.f.sf(statistic, k - 1, (k**2 - 1) / (3 * spread)))


@dataclass(frozen=True)
class ChiSquare:
    """A test of independence; `sparse` where an expected count is below 5 (Cochran's rule)."""

    p: float
    sparse: bool


def chi_square(table: Counts, *, correct: bool = True) -> ChiSquare:
    """Pearson's test of a table of counts, levels by groups; with Yates' correction for 2x2.

    Empty levels and groups do not count. NaN where fewer than two of either are left.
    """
    from scipy import stats

    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return ChiSquare(math.nan, sparse=False)
    found = stats.chi2_contingency(table, correction=correct)
    return ChiSquare(float(found[1]), sparse=bool(np.any(found[3] < 5)))


def smd_means(a: Group, b: Group) -> float:
    """The absolute difference of means over the root of the mean of the variances.

    Reference: Austin 2009, Statistics in Medicine 28.
    """
    difference = abs(a.mean - b.mean)
    spread = math.sqrt((a.sd**2 + b.sd**2) / 2)
    if spread == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / spread


def smd_shares(a: Counts, b: Counts) -> float:
    """The Mahalanobis distance between two distributions over the same levels.

    For two levels it is the difference of the shares over the root of the mean of ``p (1 - p)``.

    Reference: Yang & Dalton 2012, SAS Global Forum, paper 335.
    """
    if a.sum() == 0 or b.sum() == 0:
        return math.nan
    p, q = (a / a.sum())[1:], (b / b.sum())[1:]
    difference = p - q
    if not np.any(difference):
        return 0.0
    covariance = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
    squared = float(difference @ np.linalg.pinv(covariance, hermitian=True) @ difference)
    # Where the groups share no level the covariance does not span the difference.
    if squared <= 0 or not np.allclose(
        covariance @ np.linalg.pinv(covariance, hermitian=True) @ difference, difference
    ):
        return math.inf
    return math.sqrt(squared)


def pairs(n: int) -> list[tuple[int, int]]:
    """All pairs of n groups, in order."""
    return list(itertools.combinations(range(n), 2))
