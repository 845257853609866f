"""Sums of the log-rank test and what follows from them.

Observed and expected events and their covariance are sums over times and over strata, so that the
strata may as well be institutions whose times nobody sees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.survival_times import Leaving
from cohortium.errors import InputError

Weights = Literal["logrank", "wilcoxon", "tarone-ware", "peto"]

TITLES: dict[str, str] = {
    "logrank": "Log-rank test",
    "wilcoxon": "Gehan-Breslow-Wilcoxon test",
    "tarone-ware": "Tarone-Ware test",
    "peto": "Peto-Peto test",
}

_NONE = 1e-10

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """Sums over times and strata.

    Attributes:
        observed, expected: (G,); events of each group, and under the null hypothesis.
        excess: (G,); their weighted difference.
        covariance: (G, G); of the weighted difference.
    """

    observed: Floats
    expected: Floats
    excess: Floats
    covariance: Floats

    @staticmethod
    def of(strata: Sequence[Leaving], n_groups: int, weights: Weights = "logrank") -> Terms:
        """From who leaves when in each stratum; a time at which nobody has the event adds none."""
        vectors = np.zeros((3, n_groups))
        covariance = np.zeros((n_groups, n_groups))
        for leaving in strata:
            d_groups = leaving.events.astype(np.float64)
            some = d_groups.sum(axis=1) > 0
            d_groups, at_risk = d_groups[some], leaving.at_risk[some].astype(np.float64)
            d, n = d_groups.sum(axis=1), at_risk.sum(axis=1)
            share = at_risk / n[:, None]
            expected = d[:, None] * share
            w = _weights(weights, d, n)
            with np.errstate(invalid="ignore", divide="ignore"):
                variance = np.where(n > 1, w**2 * d * (n - d) / (n - 1), 0.0)
            vectors += (
                d_groups.sum(axis=0),
                expected.sum(axis=0),
                (w[:, None] * (d_groups - expected)).sum(axis=0),
            )
            covariance += np.diag(variance @ share) - (share * variance[:, None]).T @ share
        return Terms(vectors[0], vectors[1], vectors[2], covariance)

    @property
    def says_something(self) -> bool:
        """Whether the groups can be told apart by an event."""
        return bool(np.any(np.diag(self.covariance) > _NONE))


def _weights(kind: Weights, d: Floats, n: Floats) -> Floats:
    match kind:
        case "wilcoxon":
            return n
        case "tarone-ware":
            return np.sqrt(n)
        case "peto":
            # Peto & Peto's estimate of survival after each event time, as R's survival has not but
            # lifelines has.
            return np.asarray(np.cumprod(1.0 - d / (n + 1.0)))
        case _:
            return np.ones_like(n)


def test_of(terms: Terms, weights: Weights) -> dict[str, Any]:
    """Chi-square, degrees of freedom and p.

    Raises:
        InputError: ``no-convergence`` where the groups are never at risk together at an event.
    """
    from scipy.special import chdtrc

    used = np.flatnonzero(np.diag(terms.covariance) > _NONE)
    if len(used) < 2:
        raise InputError(
            "no-convergence", "No event happened while persons of two groups were at risk."
        )
    free = used[:-1]
    excess = terms.excess[free]
    covariance = terms.covariance[np.ix_(free, free)]
    solution, _, rank, _ = np.linalg.lstsq(covariance, excess, rcond=None)
    statistic = max(float(excess @ solution), 0.0)
    return {
        "test": weights,
        "title": TITLES[weights],
        "alternative": "two-sided",
        "statistic_name": "chi2",
        "statistic": statistic,
        "df": int(rank),
        "p_value": float(chdtrc(int(rank), statistic)),
    }


def peto_ratio(terms: Terms, levels: Sequence[str | None], confidence: float) -> dict[str, Any]:
    """Peto's one-step hazard ratio of the second of two groups to the first, with limits."""
    from scipy.special import ndtri

    variance = float(terms.covariance[1, 1])
    log = float(terms.excess[1]) / variance
    wide = float(ndtri((1 + confidence) / 2)) / math.sqrt(variance)
    return {
        "name": "hazard ratio (Peto)",
        "levels": [levels[1], levels[0]],
        "value": math.exp(log),
        "low": math.exp(log - wide),
        "high": math.exp(log + wide),
        "confidence": confidence,
    }
