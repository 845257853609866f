"""The released form of `glm`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.families import Family
from cohortium.analysis.formula import Parsed
from cohortium.analysis.glm_model import Model
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.interface import Scope
from cohortium.core.dictionary import VariableType
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]

_CONFIDENCE = 0.95


def assemble(
    at: Progress, bread: Floats, meat: Floats | None, *, model: Model, scope: Scope
) -> dict[str, Any]:
    """The result as JSON values; a number that is not finite is None.

    `aic` counts the scale of a gaussian or gamma as a parameter, as R does (statsmodels does not).

    Args:
        bread: The inverse information of the centred columns.
        meat: Sums of squares and products of scores, for robust standard errors.
    """
    parsed, family, params = model.parsed, model.family, model.params
    n, missing, sites = (int(count) for count in at.counts)
    p = len(parsed.names)
    deviance, pearson = (float(value) for value in at.scalars[6:])
    df = round(at.weight) - p
    scale = pearson / df if family.free_scale else 1.0
    if scale == 0:
        raise InputError(
            "no-convergence",
            f"{parsed.response.text} is the same for all these persons, or follows from the "
            "columns without a rest: a model explains nothing here.",
        )
    beta, cov = uncentred(at, _covariance(bread, meat, scale, at, model), parsed)
    loglik = _log_likelihood(at, deviance, family)
    df_test = sites - 1 if params.errors == "site" else df if family.free_scale else None
    more = {"offset": params.offset, "weights": params.weights, "errors": params.errors}
    return {
        "formula": params.formula,
        "family": family.name,
        "link": family.link,
        **{name: value for name, value in more.items() if value not in {None, "model"}},
        "terms": list(parsed.names),
        "params": _list(beta),
        **wald(beta, np.sqrt(np.diag(cov)), df_test),
        "deviance": deviance,
        "null_deviance": at.null_deviance if _has_null(model) else None,
        "aic": _number(-2 * loglik + 2 * (p + family.free_scale)),
        "loglik": _number(loglik),
        "df_resid": df,
        "df_model": p - parsed.intercept,
        "df_test": df_test,
        "iterations": at.step,
        "n": n,
        "n_missing": missing,
        "n_weighted": round(at.weight),
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


def _has_null(model: Model) -> bool:
    """Whether the deviance of the null model is known without fitting it."""
    link = model.family.link
    if model.params.offset is None:
        return model.parsed.intercept or link not in {"inverse", "inverse_squared"}
    if model.family.name == "inverse_gaussian":
        return False
    return link in {"identity", "log"} or (link == "logit" and not model.parsed.intercept)


def _covariance(
    bread: Floats, meat: Floats | None, scale: float, at: Progress, model: Model
) -> Floats:
    """Of the coefficients of the centred columns, shape (p, p)."""
    if meat is None:
        return scale * bread
    factor, n, sites = 1.0, at.weight, int(at.counts[2])
    if model.params.errors == "HC1":
        factor = n / (n - len(bread))
    if model.params.errors == "site":
        factor = sites / (sites - 1) * (n - 1) / (n - len(bread))
    return np.asarray(factor * (bread @ meat @ bread))


def uncentred(at: Progress, cov: Floats, parsed: Parsed) -> tuple[Floats, Floats]:
    """Coefficients (p,) and their covariance (p, p), of the columns as they were."""
    back = np.eye(len(parsed.names))
    if parsed.intercept:
        back[0, 1:] = -at.centre[1:]
    beta = back @ at.beta
    if parsed.intercept:
        beta[0] += at.offset
    return beta, back @ cov @ back.T


def wald(beta: Floats, bse: Floats, df: int | None) -> dict[str, Any]:
    """Two-sided tests of each coefficient = 0 and 95% limits: t with `df`, or z."""
    from scipy import special

    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = beta / bse
    if df is not None:
        pvalues = 2.0 * special.stdtr(df, -np.abs(statistic))
        width = float(special.stdtrit(df, 0.5 + _CONFIDENCE / 2))
    else:
        pvalues = 2.0 * special.ndtr(-np.abs(statistic))
        width = float(special.ndtri(0.5 + _CONFIDENCE / 2))
    return {
        "bse": _list(bse),
        "statistic": _list(statistic),
        "statistic_name": "z" if df is None else "t",
        "pvalues": _list(pvalues),
        "conf_low": _list(beta - width * bse),
        "conf_high": _list(beta + width * bse),
    }


def _log_likelihood(at: Progress, deviance: float, family: Family) -> float:
    """As R's ``logLik``: a scale is the deviance over n."""
    n = at.weight
    if not family.free_scale:
        return at.saturated - deviance / 2
    if deviance <= 0:
        return math.inf
    if family.name == "gamma":
        shape = n / deviance
        constant = n * (shape * math.log(shape) - math.lgamma(shape))
        return constant - at.saturated - shape * (deviance / 2 + n)
    if family.name == "inverse_gaussian":
        return -n / 2 * (math.log(2 * math.pi * deviance / n) + 1) - 1.5 * at.saturated
    return -n / 2 * (math.log(2 * math.pi * deviance / n) + 1)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _list(values: Floats) -> list[float | None]:
    return [_number(float(value)) for value in values]
