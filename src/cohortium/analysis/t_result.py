"""From means and sums of squares to t, p, intervals and effect sizes; pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cohortium.analysis.moments import Moments
from cohortium.errors import InputError

TITLES = {
    "welch": "Welch's t-test",
    "student": "Student's t-test",
    "paired": "Paired t-test",
    "one-sample": "One-sample t-test",
}


@dataclass(frozen=True)
class Sample:
    """A group: persons, mean (in two parts), sum of squared distances from it."""

    n: int
    mean: float
    low: float
    squares: float

    @staticmethod
    def of(known: Moments, group: int) -> Sample:
        """A group's moments."""
        n = int(known.counted.persons[group])
        if n < 2:
            raise InputError("no-convergence", "A group of one person has no variance.")
        return Sample(
            n, float(known.mean[group]), float(known.low[group]), float(known.squares[group])
        )

    @property
    def variance(self) -> float:
        """Divisor n - 1."""
        return self.squares / (self.n - 1)


def assemble(
    kind: str, samples: Sequence[Sample], mu: float, alternative: str, confidence: float
) -> dict[str, Any]:
    """The part of the result that rests on arithmetic.

    Args:
        kind: One of `TITLES`.
        samples: Two, or one for a single mean.
        mu: The difference or mean under the null hypothesis.
        alternative: two-sided, less or greater.
        confidence: Of the two-sided intervals.
    """
    from scipy.stats import t as student

    first, second = samples[0], samples[-1]
    pair = len(samples) == 2
    if pair:
        difference = (first.mean - second.mean) + (first.low - second.low)
        pooled_df = first.n + second.n - 2
        pooled = math.sqrt((first.squares + second.squares) / pooled_df)
        weight = math.sqrt(first.n * second.n / (first.n + second.n))
    else:
        difference = first.mean + first.low
        pooled_df = first.n - 1
        pooled, weight = math.sqrt(first.variance), math.sqrt(first.n)
    error, df = pooled / weight, float(pooled_df)
    if kind == "welch":
        shares = [sample.variance / sample.n for sample in samples]
        error = math.sqrt(sum(shares))
        df = sum(shares) ** 2 / sum(
            share**2 / (sample.n - 1) for share, sample in zip(shares, samples, strict=True)
        )
    t = (difference - mu) / error
    p = {
        "two-sided": 2 * float(student.sf(abs(t), df)),
        "less": float(student.cdf(t, df)),
        "greater": float(student.sf(t, df)),
    }[alternative]
    reach = float(student.isf((1 - confidence) / 2, df)) * error
    name = {"paired": "mean difference", "one-sample": "mean"}.get(kind, "difference of means")
    return {
        "test": kind,
        "title": TITLES[kind],
        "alternative": alternative,
        "statistic_name": "t",
        "statistic": t,
        "df": df,
        "p_value": p,
        "standard_error": error,
        "estimate": {
            "name": name,
            "value": difference,
            "low": difference - reach,
            "high": difference + reach,
            "confidence": confidence,
        },
        "effects": _effects((difference - mu) / pooled, weight, pooled_df, confidence),
    }


def _effects(d: float, weight: float, df: int, confidence: float) -> list[dict[str, Any]]:
    """Cohen's d and Hedges' g; d times `weight` is a noncentral t with `df` degrees of freedom."""
    low, high = (end / weight for end in noncentrality(d * weight, df, confidence))
    return [
        {
            "name": name,
            "value": by * d,
            "low": by * low,
            "high": by * high,
            "confidence": confidence,
        }
        for name, by in (("Cohen's d", 1.0), ("Hedges' g", hedges_correction(df)))
    ]


def hedges_correction(df: int) -> float:
    """For the bias of d (Hedges 1981, equation 6e)."""
    if df < 2:
        return 1.0
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def noncentrality(t: float, df: float, confidence: float) -> tuple[float, float]:
    """The limits of the noncentrality of which `t` was drawn.

    Reference: Steiger & Fouladi 1997, noncentrality interval estimation.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct

    if t < 0:
        low, high = noncentrality(-t, df, confidence)
        return -high, -low
    step = math.sqrt(1 + t * t / (2 * df))
    ends = []
    for tail, way in (((1 + confidence) / 2, -1), ((1 - confidence) / 2, 1)):

        def beyond(nc: float, tail: float = tail) -> float:
            return float(nct.cdf(t, df, nc)) - tail

        far = t + way * step
        while beyond(far) * way > 0 and abs(far - t) < 40 * step:
            far += way * step
        ends.append(float(brentq(beyond, *sorted((t, far)))))
    return ends[0], ends[1]
