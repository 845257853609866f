"""How good a model is, from the persons with and without the event at each score.

Everything here equals the statistic of the pooled persons with these scores.

Reference: DeLong, DeLong & Clarke-Pearson 1988; Boyd, Eng & Page 2013 (average precision); Cox
1958, Steyerberg et al. 2010 (calibration); Hosmer & Lemeshow 1980; Brier 1950.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.least_squares import inverse, solve

MAX_STEPS: Final = 50
_CLOSE: Final = 1e-12
_SURE: Final = 36.0
"""Log odds of the last probability below 1 in a float64, nearly."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Persons by score; ascending, shape (C,).

    Attributes:
        without, having: The event.
        log_odds: The predicted ones; empty where the score is no probability.
    """

    without: Ints
    having: Ints
    log_odds: Floats

    @property
    def n(self) -> int:
        """Persons."""
        return int(self.without.sum() + self.having.sum())

    @property
    def events(self) -> int:
        """Persons with the event."""
        return int(self.having.sum())

    @property
    def risk(self) -> Floats:
        """The predicted probabilities."""
        return expit(self.log_odds)

    def mean(self, without: Floats, having: Floats) -> float:
        """The mean over persons of what is one number with and another without the event."""
        return float((self.without @ without + self.having @ having) / self.n)


def expit(x: Floats) -> Floats:
    """1 / (1 + exp(-x)); never 0 or 1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -_SURE, _SURE))))


def softplus(x: Floats) -> Floats:
    """log(1 + exp(x))."""
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def placements(without: Ints, having: Ints) -> tuple[Floats, Floats]:
    """Of each score: the share of persons without the event below it, and of those with it above;
    ties count half.
    """
    below = 2 * (np.cumsum(without) - without) + without
    above = 2 * (having.sum() - np.cumsum(having)) + having
    return below / (2.0 * without.sum()), above / (2.0 * having.sum())


def area(of: Scored) -> tuple[float, float, float]:
    """The area under the ROC curve; its variances from persons with and without the event."""
    below = 2 * (np.cumsum(of.without) - of.without) + of.without
    n0, n1 = int(of.without.sum()), int(of.having.sum())
    value = int(of.having @ below) / (2.0 * n0 * n1)
    v10, v01 = placements(of.without, of.having)
    s10 = float(of.having @ np.square(v10 - value)) / max(n1 - 1, 1)
    s01 = float(of.without @ np.square(v01 - value)) / max(n0 - 1, 1)
    return value, s10 / n1, s01 / n0


def tied(of: Scored) -> float:
    """The share of pairs of a person with and one without the event who have the same score."""
    return int(of.without @ of.having) / (float(of.without.sum()) * float(of.having.sum()))


def limits(value: float, error: float, z: float) -> dict[str, Any]:
    """An estimate on the normal scale."""
    return {"value": value, "std_error": error, "low": value - z * error, "high": value + z * error}


def share(value: float, error: float, z: float) -> dict[str, Any]:
    """An estimate of what lies between 0 and 1."""
    found = limits(value, error, z)
    return found | {"low": max(found["low"], 0.0), "high": min(found["high"], 1.0)}


def average_precision(of: Scored, z: float) -> dict[str, Any]:
    """The mean of the precision over the steps of recall, with limits on the logit scale."""
    having, without = of.having[::-1], of.without[::-1]
    true, false = np.cumsum(having), np.cumsum(without)
    value = float(having @ (true / (true + false))) / of.events
    out: dict[str, Any] = {"value": value, "low": None, "high": None, "chance": of.events / of.n}
    if 0 < value < 1:
        at = math.log(value / (1 - value))
        wide = z / math.sqrt(of.events * value * (1 - value))
        out["low"], out["high"] = (1 / (1 + math.exp(-end)) for end in (at - wide, at + wide))
    return out


def brier(of: Scored, z: float) -> dict[str, Any]:
    """The mean squared error of the probabilities; scaled: 1 less its ratio to that of everybody's
    having the mean risk. The scaled one's error is by the delta method.
    """
    p, n = of.risk, of.n
    ones, zeros = np.square(1 - p), np.square(p)
    value = of.mean(zeros, ones)
    rate = of.events / n
    null = rate * (1 - rate)
    spread = of.mean(np.square(zeros - value), np.square(ones - value))
    slope = value / null**2 * (1 - 2 * rate)
    inner = [-(loss - value) / null + slope * (y - rate) for y, loss in ((0.0, zeros), (1.0, ones))]
    error = math.sqrt(of.mean(np.square(inner[0]), np.square(inner[1])) / (n - 1))
    return share(value, math.sqrt(spread / (n - 1)), z) | {
        "null": null,
        "scaled": limits(1 - value / null, error, z),
    }


def log_loss(of: Scored, z: float) -> dict[str, Any]:
    """The mean of -log of the probability of what came."""
    zeros, ones = softplus(of.log_odds), softplus(-of.log_odds)
    value = of.mean(zeros, ones)
    spread = of.mean(np.square(zeros - value), np.square(ones - value))
    rate = of.events / of.n
    null = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
    return limits(value, math.sqrt(spread / (of.n - 1)), z) | {"null": null}


def observed_to_expected(of: Scored, z: float) -> dict[str, Any]:
    """Events over the sum of the probabilities, with limits on the log scale."""
    expected = of.n * of.mean(of.risk, of.risk)
    value = of.events / expected
    error = math.sqrt((1 - of.events / of.n) / of.events)
    return {
        "value": value,
        "low": value * math.exp(-z * error),
        "high": value * math.exp(z * error),
        "expected": expected,
    }


def recalibrate(of: Scored, z: float) -> dict[str, Any] | None:
    """Logistic regression of the event on the predicted log odds: intercept and slope, by Newton's
    method; and the intercept where the slope is 1. None where no finite estimate exists.

    The test: intercept 0 and slope 1 at once, by likelihood ratio.
    """
    from scipy import special

    if _parts(of.without, of.having) or _parts(of.having, of.without):
        return None
    ones = np.ones_like(of.log_odds)
    alone = _logistic(of, ones[:, None], of.log_odds)
    both = _logistic(of, np.column_stack([ones, of.log_odds]), np.zeros_like(of.log_odds))
    if alone is None or both is None:
        return None
    perfect = -of.n * of.mean(softplus(of.log_odds), softplus(-of.log_odds))
    statistic = max(2 * (both[2] - perfect), 0.0)
    errors = np.sqrt(np.diag(both[1]))
    return {
        "in_the_large": limits(float(alone[0][0]), float(np.sqrt(alone[1][0, 0])), z),
        "intercept": limits(float(both[0][0]), float(errors[0]), z),
        "slope": limits(float(both[0][1]), float(errors[1]), z),
        "test": {
            "statistic": statistic,
            "df": 2,
            "p_value": float(special.chdtrc(2, statistic)),
        },
    }


def _parts(lower: Ints, upper: Ints) -> bool:
    """Whether all of the one are at or below all of the other."""
    return bool(np.flatnonzero(lower)[-1] <= np.flatnonzero(upper)[0])


def _logistic(of: Scored, x: Floats, offset: Floats) -> tuple[Floats, Floats, float] | None:
    """Maximum likelihood: coefficients, covariance, log-likelihood; None where there is none."""
    persons = (of.without + of.having).astype(np.float64)
    beta = np.zeros(x.shape[1])
    best = -math.inf
    step = beta
    for _ in range(MAX_STEPS):
        eta = x @ beta + offset
        p = expit(eta)
        value = -float(of.without @ softplus(eta) + of.having @ softplus(-eta))
        if value < best - _CLOSE * abs(best):
            beta = beta - step / 2
            step = step / 2
            continue
        best = value
        weight = persons * p * (1 - p)
        information = x.T @ (weight[:, None] * x)
        try:
            step = solve(information, x.T @ (of.having - persons * p))
        except np.linalg.LinAlgError:
            return None
        if float(step @ information @ step) < _CLOSE:
            return beta + step, inverse(information), best
        beta = beta + step
    return None


def hosmer_lemeshow(n: Ints, events: Ints, expected: Floats) -> dict[str, Any] | None:
    """Hosmer and Lemeshow's statistic over groups of risk; None of fewer than three.

    `df` counts two less than there are groups, as for a model fitted to these persons;
    `p_value_new` is with as many as there are groups, for persons whom the model has not seen.
    """
    from scipy import special

    if len(n) < 3:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.square(events - expected) / (expected * (1 - expected / n))
    statistic = float(parts.sum())
    if not math.isfinite(statistic):
        return None
    groups = len(n)
    return {
        "statistic": statistic,
        "df": groups - 2,
        "p_value": float(special.chdtrc(groups - 2, statistic)),
        "df_new": groups,
        "p_value_new": float(special.chdtrc(groups, statistic)),
    }


def wilson(successes: Floats, n: Floats, z: float) -> tuple[Floats, Floats]:
    """Wilson's limits of shares; NaN of nobody."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = successes / n
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
