"""Meta-analysis of estimates that are published or may be released one by one.

A pure function; nothing is asked of any site.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

import numpy as np
import numpy.typing as npt

from cohortium.analysis.pooling import Distribution, Method, pool
from cohortium.errors import InputError
from cohortium.sdk.meta_results import MetaAnalysis

Floats = npt.NDArray[np.float64]

_LARGEST: Final = 1e15
_SMALLEST: Final = 1e-15
_MOST: Final = 1e3
"""Eighth powers of such numbers are still finite."""


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
    pooled = pool(
        y,
        v,
        method=method,
        confidence=confidence,
        hartung_knapp=hartung_knapp,
        prediction=prediction,
    )
    return MetaAnalysis(**vars(pooled), names=labels, ratio=ratio)


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
    if max(np.abs(y).max(), se.max()) > _LARGEST or se.min() < _SMALLEST:
        raise InputError(
            "bad-input",
            f"An effect or a standard error is beyond {_LARGEST:g}, or a standard error below "
            f"{_SMALLEST:g}: give them in other units.",
        )
    if se.max() > _MOST * se.min():
        raise InputError(
            "bad-input",
            f"Standard errors differ by a factor above {_MOST:g}: beside the most precise estimate "
            "the others would not count. Check their units.",
        )
    return y, np.square(se)
