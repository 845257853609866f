"""Sums over 2x2 tables, one a stratum, for tests of Mantel and Haenszel's kind.

Every number here is a sum of one term a stratum, so that the strata may as well be institutions
whose tables nobody sees.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.contingency import chi2_tail, log_limits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TERMS: Final = ("excess", "variance", "R", "S", "PR", "PS_QR", "QS")
"""a - E(a), its variance, a d / n, b c / n, and the three sums of Robins, Breslow & Greenland."""

EVEN: Final = ("apart", "apart_squared", "variance")
"""a - A, (a - A)^2 / variance and the variance, where A fits a common odds ratio."""

LEAST_PART: Final = 1e-9
"""Of a fitted cell, so that odds that a hub makes up cannot divide by zero."""


def informative(tables: Ints) -> npt.NDArray[np.bool_]:
    """Which strata, shape (K,), have somebody in both rows and both columns."""
    return np.asarray((tables.sum(axis=1) > 0).all(axis=1) & (tables.sum(axis=2) > 0).all(axis=1))


def terms(tables: Ints) -> Floats:
    """The sums of `TERMS` over tables of shape (K, 2, 2); a stratum that says nothing adds none."""
    used = tables[informative(tables)].astype(np.float64)
    a, b, c, d = used[:, 0, 0], used[:, 0, 1], used[:, 1, 0], used[:, 1, 1]
    n = used.sum(axis=(1, 2))
    row, column = a + b, a + c
    mean = row * column / n
    variance = mean * (n - row) * (n - column) / (n * (n - 1))
    p, q, r, s = (a + d) / n, (b + c) / n, a * d / n, b * c / n
    each = (a - mean, variance, r, s, p * r, p * s + q * r, q * s)
    return np.array([term.sum() for term in each])


def even_terms(tables: Ints, odds: float) -> Floats:
    """The sums of `EVEN` over tables, for a common odds ratio."""
    used = tables[informative(tables)].astype(np.float64)
    a = used[:, 0, 0]
    n, row, column = used.sum(axis=(1, 2)), used[:, 0].sum(axis=1), used[:, :, 0].sum(axis=1)
    fitted = _fitted(row, column, n, odds)
    parts = np.array([fitted, row - fitted, column - fitted, n - row - column + fitted])
    variance = 1.0 / (1.0 / np.maximum(parts, LEAST_PART)).sum(axis=0)
    away = a - fitted
    return np.array([away.sum(), (away**2 / variance).sum(), variance.sum()])


def _fitted(row: Floats, column: Floats, n: Floats, odds: float) -> Floats:
    """The count in the first cell at which a table with these margins has these odds.

    The root of (1 - odds) A^2 + (n - (1 - odds) (row + column)) A - odds row column = 0 between the
    bounds of A, in the form that does not cancel.
    """
    second, first = 1.0 - odds, n - (1.0 - odds) * (row + column)
    root = np.sqrt(np.maximum(first**2 + 4.0 * second * odds * row * column, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(
            first >= 0, 2.0 * odds * row * column / (first + root), (root - first) / (2.0 * second)
        )


def common_odds(sums: Floats) -> float | None:
    """Mantel and Haenszel's estimate; None where it would be infinite or not a number."""
    of = dict(zip(TERMS, sums.tolist(), strict=True))
    return of["R"] / of["S"] if of["S"] > 0 else None


def cmh_result(sums: Floats, *, correction: bool, confidence: float) -> dict[str, Any]:
    """The test with and without continuity correction, and the common odds ratio."""
    of = dict(zip(TERMS, sums.tolist(), strict=True))
    tests = []
    for corrected in (True, False):
        away = abs(of["excess"])
        away -= min(0.5, away) if corrected else 0.0
        statistic = away**2 / of["variance"]
        tests.append(
            {
                "test": "cmh-corrected" if corrected else "cmh",
                "title": "Cochran-Mantel-Haenszel test"
                + (" with continuity correction" if corrected else ""),
                "continuity_correction": corrected,
                "statistic_name": "M2",
                "statistic": statistic,
                "df": 1,
                "p_value": chi2_tail(statistic, 1),
            }
        )
    odds = common_odds(sums)
    low, high = log_limits(odds, _log_odds_se(of) if odds else None, confidence)
    chosen = tests[0] if correction else tests[1]
    return {
        **{key: chosen[key] for key in ("statistic_name", "statistic", "df", "p_value")},
        "tests": tests,
        "estimate": {
            "name": "common odds ratio",
            "value": odds,
            "low": low,
            "high": high,
            "confidence": confidence,
            "method": "Robins-Breslow-Greenland",
        },
    }


def _log_odds_se(of: dict[str, float]) -> float:
    r, s = of["R"], of["S"]
    variance = of["PR"] / r**2 + of["PS_QR"] / (r * s) + of["QS"] / s**2
    return math.sqrt(variance / 2.0)


def homogeneity(even: Floats, strata: int) -> list[dict[str, Any]]:
    """Breslow and Day's test that the odds ratio is common, without and with Tarone's term."""
    apart, squared, variance = even.tolist()
    lines = []
    for test, title, statistic in (
        ("breslow-day", "Breslow-Day test", squared),
        ("tarone", "Breslow-Day test with Tarone's correction", squared - apart**2 / variance),
    ):
        lines.append(
            {
                "test": test,
                "title": title,
                "statistic_name": "chi2",
                "statistic": max(0.0, statistic),
                "df": strata - 1,
                "p_value": chi2_tail(max(0.0, statistic), strata - 1),
            }
        )
    return lines
