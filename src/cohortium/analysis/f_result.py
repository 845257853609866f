"""From sums of squares to F, p and effect sizes; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cohortium.analysis.moments import Floats, Moments
from cohortium.errors import InputError


@dataclass(frozen=True)
class OneWay:
    """A one-way layout.

    Attributes:
        groups: How many.
        n: Persons.
        between, within: Sums of squares.
    """

    groups: int
    n: int
    between: float
    within: float

    @staticmethod
    def of(known: Moments, held: Sequence[int]) -> OneWay:
        """Of groups with known means."""
        at = list(held)
        n = int(known.counted.persons[at].sum())
        return OneWay(len(at), n, known.between(held), float(known.squares[at].sum()))

    @property
    def df(self) -> tuple[int, int]:
        """Degrees of freedom between and within the groups."""
        return self.groups - 1, self.n - self.groups

    def classical(self) -> dict[str, Any]:
        """F with equal variances, its table, and effect sizes.

        Raises:
            InputError: ``no-convergence`` where nothing varies within the groups.
        """
        upper, lower = self.df
        if lower < 1 or not self.within > 0:
            raise InputError("no-convergence", "Within the groups all values are equal.")
        return {
            **_tail((self.between / upper) / (self.within / lower), upper, lower),
            **self.shares(),
        }

    def shares(self) -> dict[str, Any]:
        """The table of the analysis of variance, and what part of the variance is between."""
        upper, lower = self.df
        whole, error = self.between + self.within, self.within / lower
        omega = (self.between - upper * error) / (whole + error)
        return {
            "effects": [
                {"name": "eta squared", "value": self.between / whole},
                {"name": "omega squared", "value": max(omega, 0.0)},
            ],
            "table": [
                _row("between", upper, self.between),
                _row("within", lower, self.within),
            ],
        }


@dataclass(frozen=True)
class Weighted:
    """Sums over the groups for Welch's F, in units of a common standard deviation.

    Attributes:
        sums: Of w, w m, w m^2, 1 / (n - 1), w / (n - 1) and w^2 / (n - 1), where m is a group's
            mean from the joint one and w its persons divided by its variance.
    """

    groups: int
    sums: Floats

    @staticmethod
    def terms(n: float, mean: float, variance: float) -> Floats:
        """One group's terms."""
        w, r = n / variance, 1 / (n - 1)
        return np.array([w, w * mean, w * mean**2, r, w * r, w * w * r])

    def test(self) -> dict[str, Any]:
        """F with its own degrees of freedom."""
        k = self.groups
        w, wm, wmm, r, wr, wwr = (float(value) for value in self.sums)
        spread = max(r - 2 * wr / w + wwr / w**2, 0.0)
        f = (wmm - wm**2 / w) / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * spread)
        return _tail(max(f, 0.0), k - 1, (k**2 - 1) / (3 * spread))


def weigh(known: Moments, held: Sequence[int]) -> dict[str, Any]:
    """Welch's F of groups with known means."""
    at = list(held)
    n = known.counted.persons[at]
    if np.any(n < 2):
        raise InputError("no-convergence", "A group of one person has no variance.")
    variance = known.squares[at] / (n - 1)
    unit = float(np.median(variance))
    high, low = known.grand(held)
    away = ((known.mean[at] - high) + (known.low[at] - low)) / unit**0.5
    terms = [
        Weighted.terms(float(one), float(mean), float(v) / unit)
        for one, mean, v in zip(n, away, variance, strict=True)
    ]
    return Weighted(len(at), np.sum(terms, axis=0)).test()


def _tail(f: float, upper: float, lower: float) -> dict[str, Any]:
    from scipy.stats import f as fisher

    return {
        "statistic_name": "F",
        "statistic": f,
        "df": [upper, lower],
        "p_value": float(fisher.sf(f, upper, lower)),
    }


def _row(source: str, df: int, squares: float) -> dict[str, Any]:
    return {"source": source, "df": df, "sum_of_squares": squares, "mean_square": squares / df}
