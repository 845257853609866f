"""The negative binomial likelihood (NB2) of persons, and its derivatives.

The variance is ``mean + alpha mean²``; it is a function of the coefficients and of ``log alpha``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MAX_COUNT = 1_000_000
_FAR = 50.0
"""A linear predictor that far is one that the hub steps back from."""


@dataclass(frozen=True)
class Dispersed:
    """Of some persons, at a linear predictor and an alpha; arrays have shape (n_rows,).

    Attributes:
        loglik: The log-likelihood, summed.
        deviance: Against the model that fits each person with this alpha.
        score: Slope along the linear predictor.
        observed: The fall of that slope.
        expected: Its mean.
        cross: The fall of that slope along ``log alpha``.
        slope_alpha: The slope along ``log alpha``.
        score_alpha: That, summed.
        observed_alpha: The fall of that, summed.
    """

    loglik: float
    deviance: float
    score: Floats
    observed: Floats
    expected: Floats
    cross: Floats
    slope_alpha: Floats
    score_alpha: float
    observed_alpha: float

    @staticmethod
    def of(y: Floats, eta: Floats, alpha: float, times: Floats | None = None) -> Dispersed:
        """For whole numbers `y` from 0; sums over ``k < y`` stand for differences of log gammas,
        which would cancel.

        Args:
            times: How often each person counts in what is summed; None: once.
        """
        mu = np.exp(np.minimum(eta, _FAR))
        k = np.arange(int(y.max(initial=0.0)) + 1, dtype=np.float64)
        at = y.astype(np.int64)
        share = k / (1 + alpha * k)
        logs, slopes, bends, factorials = (
            np.concatenate([[0.0], np.cumsum(part)])[:-1][at]
            for part in (np.log1p(alpha * k), share, np.square(share), np.log(k + 1))
        )
        one = 1 + alpha * mu
        log_one, ratio = np.log1p(alpha * mu), mu / one
        loglik = logs + y * np.minimum(eta, _FAR) - (y + 1 / alpha) * log_one - factorials
        slope = slopes + log_one / alpha**2 - (y + 1 / alpha) * ratio
        bend = (
            -bends
            - 2 * log_one / alpha**3
            + 2 * ratio / alpha**2
            + (y + 1 / alpha) * np.square(ratio)
        )
        fitted = y * np.log(np.where(y > 0, y, 1.0) / mu)
        unit = fitted - (y + 1 / alpha) * np.log1p(alpha * (y - mu) / one)
        total = _sum(slope, times)
        return Dispersed(
            loglik=_sum(loglik, times),
            deviance=2 * _sum(unit, times),
            score=(y - mu) / one,
            observed=mu * (1 + alpha * y) / one**2,
            expected=mu / one,
            cross=alpha * mu * (y - mu) / one**2,
            slope_alpha=alpha * slope,
            score_alpha=alpha * total,
            observed_alpha=-(alpha**2 * _sum(bend, times) + alpha * total),
        )


def _sum(values: Floats, times: Floats | None) -> float:
    return float(values.sum() if times is None else values @ times)
