"""The released form of `glm`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.families import Family
from cohortium.analysis.formula import Parsed
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.interface import Scope
from cohortium.analysis.least_squares import inverse
from cohortium.core.dictionary import VariableType

Floats = npt.NDArray[np.float64]

_CONFIDENCE = 0.95


def assemble(
    at: Progress,
    information: Floats,
    deviance: float,
    *,
    parsed: Parsed,
    formula: str,
    family: Family,
    scope: Scope,
) -> dict[str, Any]:
    """The result as JSON values; a number that is not finite is None.

    `aic` counts the scale of a gaussian as a parameter, as R does (statsmodels does not).
    """
    n, missing, sites = (int(count) for count in at.counts)
    p = len(parsed.names)
    df = n - p
    scale = deviance / df if family.free_scale else 1.0
    beta, cov = _uncentred(at, information, scale, parsed)
    loglik = _log_likelihood(at, n, deviance, family)
    return {
        "formula": formula,
        "family": family.name,
        "link": family.link,
        "terms": list(parsed.names),
        "params": _list(beta),
        **_wald(beta, np.sqrt(np.diag(cov)), df, family),
        "deviance": deviance,
        "null_deviance": at.null_deviance,
        "aic": _number(-2 * loglik + 2 * (p + family.free_scale)),
        "loglik": _number(loglik),
        "df_resid": df,
        "df_model": p - parsed.intercept,
        "iterations": at.step,
        "n": n,
        "n_missing": missing,
        "scale": scale,
        "cov": [_list(row) for row in cov],
        "n_sites": scope.n_sites,
        "n_sites_contributing": sites,
        "event": parsed.response.levels[1] if parsed.response.levels else None,
        "levels": {
            name: list(scope.variables[name].levels or ())
            for name in sorted(parsed.variables)
            if scope.variables[name].type is VariableType.CATEGORY
        },
    }


def _uncentred(
    at: Progress, information: Floats, scale: float, parsed: Parsed
) -> tuple[Floats, Floats]:
    """Coefficients (p,) and their covariance (p, p), of the columns as they were."""
    back = np.eye(len(parsed.names))
    if parsed.intercept:
        back[0, 1:] = -at.centre[1:]
    beta = back @ at.beta
    if parsed.intercept:
        beta[0] += at.offset
    return beta, scale * (back @ inverse(information) @ back.T)


def _wald(beta: Floats, bse: Floats, df: int, family: Family) -> dict[str, Any]:
    """Two-sided tests of each coefficient = 0 and 95% limits: t where the scale is free, else z."""
    from scipy import special

    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = beta / bse
    if family.free_scale:
        pvalues = 2.0 * special.stdtr(df, -np.abs(statistic))
        width = float(special.stdtrit(df, 0.5 + _CONFIDENCE / 2))
    else:
        pvalues = 2.0 * special.ndtr(-np.abs(statistic))
        width = float(special.ndtri(0.5 + _CONFIDENCE / 2))
    return {
        "bse": _list(bse),
        "statistic": _list(statistic),
        "statistic_name": "t" if family.free_scale else "z",
        "pvalues": _list(pvalues),
        "conf_low": _list(beta - width * bse),
        "conf_high": _list(beta + width * bse),
    }


def _log_likelihood(at: Progress, n: int, deviance: float, family: Family) -> float:
    if not family.free_scale:
        return at.saturated - deviance / 2
    return -n / 2 * (math.log(2 * math.pi * deviance / n) + 1) if deviance > 0 else math.inf


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _list(values: Floats) -> list[float | None]:
    return [_number(float(value)) for value in values]
