"""The released form of `glm`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.families import FAMILIES
from cohortium.analysis.formula import Parsed
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.interface import Scope
from cohortium.analysis.least_squares import inverse
from cohortium.core.dictionary import VariableType

if TYPE_CHECKING:
    from cohortium.analysis.glm import GlmParams

Floats = npt.NDArray[np.float64]

_CONFIDENCE = 0.95


def assemble(
    at: Progress,
    information: Floats,
    deviance: float,
    *,
    parsed: Parsed,
    params: GlmParams,
    scope: Scope,
) -> dict[str, Any]:
    """The result as JSON values; a number that is not finite is None.

    `aic` counts the scale of a gaussian as a parameter, as R does (statsmodels does not).
    """
    from scipy import special

    family = FAMILIES[params.family]
    n, missing, sites = (int(count) for count in at.counts)
    p = len(parsed.names)
    df = n - p
    scale = deviance / df if family.free_scale else 1.0
    back = np.eye(p)
    if parsed.intercept:
        back[0, 1:] = -at.centre[1:]
    beta = back @ at.beta
    if parsed.intercept:
        beta[0] += at.offset
    cov = scale * (back @ inverse(information) @ back.T)
    bse = np.sqrt(np.diag(cov))
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = beta / bse
    if family.free_scale:
        pvalues = 2.0 * special.stdtr(df, -np.abs(statistic))
        width = float(special.stdtrit(df, 0.5 + _CONFIDENCE / 2))
    else:
        pvalues = 2.0 * special.ndtr(-np.abs(statistic))
        width = float(special.ndtri(0.5 + _CONFIDENCE / 2))
    if family.free_scale:
        loglik = -n / 2 * (math.log(2 * math.pi * deviance / n) + 1) if deviance > 0 else math.inf
    else:
        loglik = at.saturated - deviance / 2
    return {
        "formula": params.formula,
        "family": family.name,
        "link": family.link,
        "terms": list(parsed.names),
        "params": _list(beta),
        "bse": _list(bse),
        "statistic": _list(statistic),
        "statistic_name": "t" if family.free_scale else "z",
        "pvalues": _list(pvalues),
        "conf_low": _list(beta - width * bse),
        "conf_high": _list(beta + width * bse),
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


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _list(values: Floats) -> list[float | None]:
    return [_number(float(value)) for value in values]
