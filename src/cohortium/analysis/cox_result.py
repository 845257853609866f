"""The released form of `survival.cox`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.cox_model import Model
from cohortium.analysis.cox_pooled import Joint, baseline_hazard
from cohortium.analysis.cox_state import Progress
from cohortium.analysis.interface import Scope
from cohortium.analysis.least_squares import inverse, solve, unpack
from cohortium.core.dictionary import VariableType
from cohortium.core.rounds import Total

Floats = npt.NDArray[np.float64]

_CONFIDENCE = 0.95
PAIRS = ("concordant", "discordant", "tied")


def assemble(
    at: Progress, total: Total, joint: Joint | None, model: Model, scope: Scope
) -> dict[str, Any]:
    """The result as JSON values; a number that is not finite is None."""
    from scipy import special

    drift = np.asarray(total["drifts"], dtype=np.float64)
    baseline = []
    beta = at.beta
    if at.grid is None or joint is None:
        loglik = float(total["loglik"][0])
        parts = np.stack([unpack(one, model.p) for one in np.asarray(total["information"])])
    else:
        loglik, parts, drift = joint.loglik, joint.information, drift - joint.drift
        beta = beta + solve(parts[0], joint.score)  # what the nearly exact steps left
        baseline = baseline_hazard(at.grid, joint.hazard, model)
    information = parts[0]
    naive = inverse(information)
    cov = naive
    if model.params.robust:
        half = naive @ unpack(np.asarray(total["spread"]), model.p) @ naive
        cov = (half + half.T) / 2
    bse = np.sqrt(np.diag(cov))
    z = beta / bse
    width = float(special.ndtri(0.5 + _CONFIDENCE / 2))
    null = float(at.scalars[1])
    counted = [int(pairs) for pairs in total["pairs"]]
    pairs = sum(counted)
    n, missing, sites, events, _ = (int(count) for count in at.counts)
    return {
        **_about(model, scope),
        "terms": list(model.names),
        "params": _list(beta),
        "bse": _list(bse),
        "naive_bse": _list(np.sqrt(np.diag(naive))),
        "statistic": _list(z),
        "statistic_name": "z",
        "pvalues": _list(2.0 * special.ndtr(-np.abs(z))),
        "conf_low": _list(beta - width * bse),
        "conf_high": _list(beta + width * bse),
        "cov": [_list(row) for row in cov],
        "means": _list(at.centre),
        "loglik": _number(loglik),
        "null_loglik": _number(null),
        "aic": _number(-2 * loglik + 2 * model.p),
        "tests": [
            _chi2("likelihood-ratio", max(2 * (loglik - null), 0.0), model.p),
            _chi2("wald", float(beta @ solve(cov, beta)), model.p),
            _chi2("score", float(at.scalars[2]), model.p),
        ],
        "proportionality": {
            "transform": model.params.time_transform,
            "tests": _proportionality(drift, parts, model),
        },
        "concordance": {
            "value": None if pairs == 0 else (counted[0] + counted[2] / 2) / pairs,
            **dict(zip(PAIRS, counted, strict=True)),
        },
        "baseline_hazard": baseline,
        "grid": None
        if at.grid is None
        else {
            "event_times": at.grid.event_times,
            "steps": len(at.grid),
            "exact": at.grid.exact,
        },
        "iterations": at.step,
        "n": n,
        "n_missing": missing,
        "n_events": events,
        "n_sites": scope.n_sites,
        "n_sites_contributing": sites,
    }


def _about(model: Model, scope: Scope) -> dict[str, Any]:
    params = model.params
    return {
        **model.endpoint.to_json(),
        "event_level": params.event_level,
        "event_variable": params.event,
        "formula": params.formula,
        "entry": params.entry,
        "strata": list(params.strata),
        "baseline": params.baseline,
        "ties": params.ties,
        "robust": params.robust,
        "levels": {
            name: list(scope.variables[name].levels or ())
            for name in sorted(model.parsed.variables)
            if scope.variables[name].type is VariableType.CATEGORY
        },
    }


def _proportionality(drift: Floats, parts: Floats, model: Model) -> list[dict[str, Any]]:
    """Score tests of ``beta + theta g(t)``: theta = 0, of each column and of all together.

    Reference: Grambsch & Therneau 1994; as ``cox.zph`` of R's survival since 3.0.
    """
    information, mixed, changing = parts
    try:
        left = changing - mixed @ inverse(information) @ mixed
        tests = [
            _chi2(name, _square(drift[[j]], left[[j]][:, [j]]), 1)
            for j, name in enumerate(model.names)
        ]
        return [*tests, _chi2("GLOBAL", _square(drift, left), model.p)]
    except np.linalg.LinAlgError:  # events at a single time
        return []


def _square(drift: Floats, variance: Floats) -> float:
    return float(drift @ solve(variance, drift))


def _chi2(name: str, statistic: float, df: int) -> dict[str, Any]:
    from scipy import special

    return {
        "name": name,
        "statistic": _number(statistic),
        "df": df,
        "p_value": _number(float(special.chdtrc(df, statistic))),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _list(values: Floats) -> list[float | None]:
    return [_number(float(value)) for value in values]
