"""Estimates of one effect, combined: fixed and random effects, and how much they differ.

Reference: DerSimonian & Laird 1986; Viechtbauer 2005 (REML), 2007 (interval of tau2);
Higgins & Thompson 2002 (I2); Hartung & Knapp 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Method = Literal["REML", "DL"]
Distribution = Literal["t", "normal"]

_GRID: Final = np.logspace(-8, 8, 161)
"""Values of tau2 between which its estimate is looked for, in units of the estimates' variance."""


@dataclass(frozen=True)
class Combined:
    """A combined effect, with its test against 0."""

    estimate: float
    standard_error: float
    low: float
    high: float
    statistic: float
    p_value: float

    @staticmethod
    def of_json(body: Mapping[str, Any]) -> Combined:
        """The inverse of `Pooled.to_json`."""
        names = ("estimate", "standard_error", "low", "high", "statistic", "p_value")
        return Combined(*(_real(body[name]) for name in names))


@dataclass(frozen=True)
class Pooled:
    """Effects of several studies or institutions, combined.

    Attributes:
        weights_fixed, weights_random: Share of each study in the combined effects.
        fixed, random: The combined effects.
        method: Of tau2.
        tau2: Variance of the effects between studies; `tau2_se` its standard error.
        tau2_low, tau2_high: Its limits, by the profile of Q; they need not hold the DL estimate.
        q, q_df, q_p_value: Cochran's test of homogeneity.
        i2: Share of the variation that is between studies; `i2_low` and `i2_high` its limits.
        h2: Its ratio to what chance would give.
        prediction: In which the effect of a new study lies; None for two studies by t.
    """

    effects: tuple[float, ...]
    standard_errors: tuple[float, ...]
    weights_fixed: tuple[float, ...]
    weights_random: tuple[float, ...]
    fixed: Combined
    random: Combined
    method: str
    tau2: float
    tau2_se: float
    tau2_low: float
    tau2_high: float
    q: float
    q_df: int
    q_p_value: float
    i2: float
    i2_low: float
    i2_high: float
    h2: float
    prediction: tuple[float, float] | None
    confidence: float
    hartung_knapp: bool

    @property
    def k(self) -> int:
        """Studies."""
        return len(self.effects)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; a number that is not finite is None."""
        body: dict[str, Any] = _plain(asdict(self))
        return body

    @staticmethod
    def of_json(body: Mapping[str, Any]) -> Pooled:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: Where it is not one.
        """
        lists = ("effects", "standard_errors", "weights_fixed", "weights_random")
        reals = ("tau2", "tau2_se", "tau2_low", "tau2_high", "q", "q_p_value", "i2", "i2_low")
        read: dict[str, Any] = {name: tuple(map(float, body[name])) for name in lists}
        read |= {name: _real(body[name]) for name in (*reals, "i2_high", "h2", "confidence")}
        expected = body["prediction"]
        return Pooled(
            **read,
            fixed=Combined.of_json(body["fixed"]),
            random=Combined.of_json(body["random"]),
            method=str(body["method"]),
            q_df=int(body["q_df"]),
            prediction=None if expected is None else (float(expected[0]), float(expected[1])),
            hartung_knapp=bool(body["hartung_knapp"]),
        )


def pool(
    y: Floats,
    v: Floats,
    *,
    method: Method = "REML",
    confidence: float = 0.95,
    hartung_knapp: bool = False,
    prediction: Distribution = "t",
) -> Pooled:
    """Combine effects.

    Args:
        y: Shape (k,), k from 2; on a scale on which they are about normal.
        v: Their variances, above 0.
        method: Of tau2: restricted maximum likelihood or DerSimonian and Laird's moments.
        confidence: Of all intervals.
        hartung_knapp: Interval and test of the random effects' mean by t with k - 1 degrees of
            freedom and a variance from the effects' spread.
        prediction: By t with k - 2 degrees of freedom, or normal.
    """
    from scipy.special import chdtrc

    k, fixed_w = len(y), 1 / v
    q = float(fixed_w @ (y - _mean(y, fixed_w)) ** 2)
    tau2 = _dersimonian_laird(q, fixed_w) if method == "DL" else _reml(y, v)
    low, high = _tau2_limits(y, v, confidence)
    w = 1 / (v + tau2)
    random = _combined(y, w, confidence, hartung_knapp=hartung_knapp)
    i2, h2 = _heterogeneity(q, tau2, fixed_w, method)
    return Pooled(
        effects=tuple(y.tolist()),
        standard_errors=tuple(np.sqrt(v).tolist()),
        weights_fixed=tuple((fixed_w / fixed_w.sum()).tolist()),
        weights_random=tuple((w / w.sum()).tolist()),
        fixed=_combined(y, fixed_w, confidence, hartung_knapp=False),
        random=random,
        method=method,
        tau2=tau2,
        tau2_se=_tau2_se(w, fixed_w, method),
        tau2_low=low,
        tau2_high=high,
        q=q,
        q_df=k - 1,
        q_p_value=float(chdtrc(k - 1, q)),
        i2=i2,
        i2_low=_heterogeneity(q, low, fixed_w, "REML")[0],
        i2_high=_heterogeneity(q, high, fixed_w, "REML")[0],
        h2=h2,
        prediction=_prediction(random.estimate, w, tau2, confidence, prediction),
        confidence=confidence,
        hartung_knapp=hartung_knapp,
    )


def _real(value: Any) -> float:
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(y: Floats, w: Floats) -> float:
    return float(w @ y / w.sum())


def _combined(y: Floats, w: Floats, confidence: float, *, hartung_knapp: bool) -> Combined:
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    mean, k = _mean(y, w), len(y)
    se = 1 / math.sqrt(float(w.sum()))
    if hartung_knapp:
        se *= math.sqrt(float(w @ (y - mean) ** 2) / (k - 1))
        width = float(stdtrit(k - 1, 0.5 + confidence / 2))
    else:
        width = float(ndtri(0.5 + confidence / 2))
    statistic = mean / se if se > 0 else math.nan
    p = 2 * float(stdtr(k - 1, -abs(statistic)) if hartung_knapp else ndtr(-abs(statistic)))
    return Combined(mean, se, mean - width * se, mean + width * se, statistic, p)


def _dersimonian_laird(q: float, w: Floats) -> float:
    return max(0.0, (q - (len(w) - 1)) / _spread(w))


def _spread(w: Floats) -> float:
    return float(w.sum() - (w @ w) / w.sum())


def _reml(y: Floats, v: Floats) -> float:
    """The tau2 of the largest restricted likelihood: of the roots of its slope, and 0."""
    from scipy.optimize import brentq

    def slope(tau2: float) -> float:
        w = 1 / (v + tau2)
        return float(np.square(w) @ (y - _mean(y, w)) ** 2 - w.sum() + (w @ w) / w.sum())

    unit = float(v.mean() + y.var())
    at = [0.0, *(unit * _GRID).tolist()]
    found = [0.0, *(_roots(slope, at, brentq))]
    return max(found, key=lambda tau2: _restricted(y, v, tau2))


def _roots(
    slope: Callable[[float], float], at: Sequence[float], solve: Callable[..., float]
) -> list[float]:
    """Where the slope goes from above 0 to below."""
    values = [slope(one) for one in at]
    return [
        float(solve(slope, low, high, xtol=1e-300, rtol=1e-14, maxiter=500))
        for low, high, before, after in zip(at, at[1:], values, values[1:], strict=False)
        if before > 0 >= after
    ]


def _restricted(y: Floats, v: Floats, tau2: float) -> float:
    w = 1 / (v + tau2)
    apart = float(w @ (y - _mean(y, w)) ** 2)
    return 0.5 * float(np.log(w).sum()) - 0.5 * math.log(float(w.sum())) - 0.5 * apart


def _tau2_limits(y: Floats, v: Floats, confidence: float) -> tuple[float, float]:
    """Where Q with the weights of that tau2 is a quantile of its chi-square (Q profile)."""
    from scipy.optimize import brentq
    from scipy.special import chdtri

    def beyond(tau2: float, quantile: float) -> float:
        w = 1 / (v + tau2)
        return float(w @ (y - _mean(y, w)) ** 2) - quantile

    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        quantile = float(chdtri(len(y) - 1, tail))
        if beyond(0.0, quantile) <= 0:
            ends.append(0.0)
            continue
        far = float(v.mean() + y.var())
        while beyond(far, quantile) > 0:  # it falls to below 0 as 1 / tau2
            far *= 4
        ends.append(float(brentq(beyond, 0.0, far, args=(quantile,), xtol=1e-300, rtol=1e-14)))
    return ends[0], ends[1]


def _tau2_se(w: Floats, fixed_w: Floats, method: Method) -> float:
    """Large-sample; for DL the variance of the moment estimator at the estimated tau2."""
    if method == "REML":
        trace = w @ w - 2 * (w**3).sum() / w.sum() + ((w @ w) / w.sum()) ** 2
        return math.sqrt(2 / float(trace))
    ratio = fixed_w**2 / w
    twice = (ratio**2 / fixed_w**2).sum()
    one = (fixed_w**2 / w).sum() / fixed_w.sum()
    cross = (fixed_w * (fixed_w / w) ** 2).sum() / fixed_w.sum()
    return math.sqrt(2 * float(twice - 2 * cross + one**2)) / _spread(fixed_w)


def _heterogeneity(q: float, tau2: float, w: Floats, method: Method) -> tuple[float, float]:
    """I2 as a share, and H2: from Q for DL, else from tau2 and a typical variance."""
    df = len(w) - 1
    if method == "DL":
        return (max(0.0, (q - df) / q) if q > 0 else 0.0), q / df
    typical = df / _spread(w)
    return tau2 / (tau2 + typical), (tau2 + typical) / typical


def _prediction(
    mean: float, w: Floats, tau2: float, confidence: float, by: Distribution
) -> tuple[float, float] | None:
    from scipy.special import ndtri, stdtrit

    k, level = len(w), 0.5 + confidence / 2
    if by == "t" and k < 3:
        return None
    width = float(stdtrit(k - 2, level) if by == "t" else ndtri(level))
    half = width * math.sqrt(tau2 + 1 / float(w.sum()))
    return mean - half, mean + half
