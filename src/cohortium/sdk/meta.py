"""Meta-analysis of estimates that are published or may be released one by one.

A pure function; nothing is asked of any site.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from cohortium.errors import InputError
from cohortium.sdk.meta_results import Combined, MetaAnalysis

Floats = npt.NDArray[np.float64]
Method = Literal["REML", "DL"]
Distribution = Literal["t", "normal"]

_GRID: Final = np.logspace(-8, 8, 161)
"""Values of tau2 between which its estimate is looked for, in units of the estimates' variance."""


def meta_analysis(
    effects: npt.ArrayLike,
    standard_errors: npt.ArrayLike,
    *,
    names: Sequence[str] | None = None,
    method: Method = "REML",
    confidence: float = 0.95,
    hartung_knapp: bool = False,
    prediction: Distribution = "t",
    ratio: bool = False,
) -> MetaAnalysis:
    """Estimates of the same effect, combined: fixed and random effects, heterogeneity.

    The random effects are normal with variance tau2 about their mean: by restricted maximum
    likelihood, or by DerSimonian and Laird's moments. As R's ``metafor::rma`` and
    ``combine_effects`` of statsmodels.

    Args:
        effects: One of each study or institution, on a scale on which they are about normal (log
            odds ratios, differences).
        standard_errors: Theirs.
        names: Of the studies; default 1, 2, ...
        method: Of tau2: ``REML`` or ``DL``.
        confidence: Of the intervals.
        hartung_knapp: Interval and test of the mean effect by t with k - 1 degrees of freedom and a
            variance from the effects' spread (Hartung & Knapp 2001), for few studies.
        prediction: Of the interval in which the effect of a new study lies: ``t`` with k - 2
            degrees of freedom (Higgins 2009), or ``normal``, as metafor.
        ratio: Whether the effects are logarithms of ratios, which words and the chart show.

    Raises:
        InputError: ``bad-input`` for fewer than two effects, lengths that differ, numbers that are
            not finite, or a standard error that is not positive.

    Reference: DerSimonian & Laird 1986; Viechtbauer 2005; Higgins & Thompson 2002 (I2).
    """
    y, v = _checked(effects, standard_errors)
    if method not in get_args(Method):
        raise InputError("bad-input", f"Methods are REML and DL, not {method!r}.")
    if prediction not in get_args(Distribution):
        raise InputError("bad-input", f"A prediction is by t or normal, not {prediction!r}.")
    if not 0.5 < confidence < 1:
        raise InputError("bad-input", "The confidence lies between 0.5 and 1.")
    k = len(y)
    labels = tuple(str(n) for n in (names if names is not None else range(1, k + 1)))
    if len(labels) != k or len(set(labels)) != k:
        raise InputError("bad-input", "Each effect has a name of its own.")
    from scipy.special import chdtrc

    fixed_w = 1 / v
    q = float(fixed_w @ (y - _mean(y, fixed_w)) ** 2)
    tau2 = _dersimonian_laird(q, fixed_w) if method == "DL" else _reml(y, v)
    w = 1 / (v + tau2)
    random = _combined(y, w, confidence, hartung_knapp=hartung_knapp)
    i2, h2 = _heterogeneity(q, tau2, fixed_w, method)
    return MetaAnalysis(
        names=labels,
        effects=tuple(y.tolist()),
        standard_errors=tuple(np.sqrt(v).tolist()),
        weights_fixed=tuple((fixed_w / fixed_w.sum()).tolist()),
        weights_random=tuple((w / w.sum()).tolist()),
        fixed=_combined(y, fixed_w, confidence, hartung_knapp=False),
        random=random,
        method=method,
        tau2=tau2,
        tau2_se=_tau2_se(w, fixed_w, method),
        q=q,
        q_df=k - 1,
        q_p_value=float(chdtrc(k - 1, q)),
        i2=i2,
        h2=h2,
        prediction=_prediction(random.estimate, w, tau2, confidence, prediction),
        confidence=confidence,
        hartung_knapp=hartung_knapp,
        ratio=ratio,
    )


def _checked(effects: npt.ArrayLike, errors: npt.ArrayLike) -> tuple[Floats, Floats]:
    try:
        y = np.asarray(effects, dtype=np.float64)
        se = np.asarray(errors, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("bad-input", "Effects and standard errors are numbers.") from error
    if y.ndim != 1 or y.shape != se.shape or len(y) < 2:
        raise InputError("bad-input", "Two effects or more, each with its standard error.")
    if not np.all(np.isfinite(y) & np.isfinite(se) & (se > 0)):
        raise InputError("bad-input", "Effects are finite, and standard errors more than 0.")
    return y, np.square(se)


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
