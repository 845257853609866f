"""Cumulative links: the likelihood of a person's level between two thresholds, and its slopes.

``P(level <= k) = F(theta_k - eta)``. A person at level k lies between ``low = theta_(k-1) - eta``
and ``high = theta_k - eta``. F is log-concave for each link here, so the log-likelihood is concave
in thresholds and coefficients together.

Reference: McCullagh 1980; Pratt 1981; Burridge 1981.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Link = Literal["logit", "probit", "cloglog"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEAST_GAP = 1e-10
"""Between two thresholds."""
_FAR = 500.0
"""Where F is 0 or 1, and nothing below overflows; beyond the lowest and the highest threshold."""
_MOST: Mapping[str, float] = {"logit": 300.0, "probit": 40.0, "cloglog": 40.0}
"""Of what else is asked about: a step that far is one that the hub takes back."""


@dataclass(frozen=True)
class Between:
    """Of some persons; arrays have shape (n_rows,).

    Attributes:
        loglik: The log-probabilities, summed.
        high: Slope along the higher threshold.
        low: The fall along the lower one: minus its slope.
        fall_high: The fall of both slopes together along the higher threshold.
        fall_low: Along the lower one.
        both: The slope of `high` along the lower threshold; minus the mixed fall.
    """

    loglik: float
    high: Floats
    low: Floats
    fall_high: Floats
    fall_low: Floats
    both: Floats

    @staticmethod
    def of(link: Link, thresholds: Floats, y: Ints, eta: Floats) -> Between:
        """For levels `y` from 0 and increasing thresholds.

        Args:
            thresholds: Shape (K - 1,).
        """
        edges = np.concatenate([[-_FAR], thresholds, [_FAR]])
        most = _MOST[link]
        low = np.where(y == 0, -_FAR, np.clip(edges[y] - eta, -most, most))
        high = np.where(y == len(thresholds), _FAR, np.clip(edges[y + 1] - eta, -most, most))
        ends = (y == 0) | (y == len(thresholds))
        return _LINKS[link](low, high, np.where(ends, high - low, np.diff(edges)[y]))


def cumulative(link: Link, at: Floats) -> Floats:
    """F."""
    from scipy import special

    if link == "logit":
        return np.asarray(special.expit(at))
    if link == "probit":
        return np.asarray(special.ndtr(at))
    return np.asarray(-np.expm1(-np.exp(np.minimum(at, _FAR))))


def thresholds_of(link: Link, counts: Floats) -> Floats:
    """The thresholds of the model without covariates, from the persons at each level."""
    from scipy import special

    at = np.cumsum(counts)[:-1] / counts.sum()
    if link == "logit":
        return np.asarray(special.logit(at))
    if link == "probit":
        return np.asarray(special.ndtri(at))
    return np.asarray(np.log(-np.log1p(-at)))


def _logit(low: Floats, high: Floats, gap: Floats) -> Between:
    """As F(high) - F(low) = F(high) F(-low) (1 - exp(-gap)), which cancels nowhere."""
    above, below = _expit(-high), _expit(low)
    left = -np.expm1(-gap)
    ratio = np.exp(-gap) / left
    log_high, log_low = (-np.logaddexp(0.0, value) for value in (-high, low))
    return Between(
        loglik=float((log_high + log_low + np.log(left)).sum()),
        high=above + ratio,
        low=below + ratio,
        fall_high=above * (1 - above),
        fall_low=below * (1 - below),
        both=ratio * (1 + ratio),
    )


def _expit(at: Floats) -> Floats:
    small = np.exp(-np.abs(at))
    return np.where(at >= 0, 1.0, small) / (1.0 + small)


def _probit(low: Floats, high: Floats, gap: Floats) -> Between:
    """In the lower tail of a symmetric law, where no difference of two numbers near 1 is taken."""
    from scipy import special

    mirror = low + high > 0
    one, other = np.where(mirror, -low, high), np.where(mirror, -high, low)
    log_one = special.log_ndtr(one)
    share = np.exp(special.log_ndtr(other) - log_one)
    # Where the interval is narrow, it is the density times its width that is left.
    narrow = np.minimum(gap, 1.0) * _mills(one)
    left = np.maximum(1 - share, np.minimum(narrow, 1e-9))
    log_p = log_one + np.log(left)
    slopes = [np.exp(_log_density(at) - log_p) for at in (high, low)]
    return _general(log_p, slopes[0], slopes[1], -high, -low)


def _mills(at: Floats) -> Floats:
    """Density over distribution function of the normal law."""
    from scipy import special

    return np.asarray(np.exp(_log_density(at) - special.log_ndtr(at)))


def _log_density(at: Floats) -> Floats:
    return np.asarray(-np.square(at) / 2 - 0.5 * math.log(2 * math.pi))


def _cloglog(low: Floats, high: Floats, gap: Floats) -> Between:
    """As F(high) - F(low) = S(low) - S(high), with S = exp(-exp)."""
    rate_low, rate_high = np.exp(low), np.exp(high)
    more = rate_low * np.expm1(gap)
    left = -np.expm1(-more)
    log_p = np.log(left) - rate_low
    return _general(
        log_p, rate_high * np.exp(-more) / left, rate_low / left, 1 - rate_high, 1 - rate_low
    )


def _general(
    log_p: Floats, high: Floats, low: Floats, bend_high: Floats, bend_low: Floats
) -> Between:
    """From the density over the probability at both ends, and the density's relative slopes."""
    return Between(
        loglik=float(log_p.sum()),
        high=high,
        low=low,
        fall_high=high * (high - low - bend_high),
        fall_low=low * (low - high + bend_low),
        both=high * low,
    )


_LINKS: Mapping[Link, Callable[[Floats, Floats, Floats], Between]] = {
    "logit": _logit,
    "probit": _probit,
    "cloglog": _cloglog,
}
