"""The released form of `missing.mice`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import Scope
from cohortium.analysis.mice_model import Plan
from cohortium.analysis.mice_state import Progress
from cohortium.analysis.rubin import pool

Floats = npt.NDArray[np.float64]

_CONFIDENCE = 0.95


def assemble(
    at: Progress, fits: Sequence[Mapping[str, Any]], plan: Plan, scope: Scope
) -> dict[str, Any]:
    """The result as JSON values; a number that is not finite is None."""
    from scipy import special

    first, params = fits[0], plan.params
    estimates = np.array([fit["params"] for fit in fits], dtype=np.float64)
    covariances = np.array([fit["cov"] for fit in fits], dtype=np.float64)
    pooled = pool(estimates, covariances, float(first["df_resid"]))
    bse = np.sqrt(np.diag(pooled.cov))
    statistic = pooled.estimate / bse
    width = special.stdtrit(pooled.df, 0.5 + _CONFIDENCE / 2)
    n, left_out, sites, complete = (int(count) for count in at.counts)
    return {
        "formula": params.formula,
        "family": params.family,
        "link": first["link"],
        "terms": list(first["terms"]),
        "params": _list(pooled.estimate),
        "bse": _list(bse),
        "statistic": _list(statistic),
        "statistic_name": "t",
        "df": _list(pooled.df),
        "pvalues": _list(2.0 * special.stdtr(pooled.df, -np.abs(statistic))),
        "conf_low": _list(pooled.estimate - width * bse),
        "conf_high": _list(pooled.estimate + width * bse),
        "within": _list(pooled.within),
        "between": _list(pooled.between),
        "riv": _list(pooled.riv),
        "lambda": _list(pooled.share),
        "fmi": _list(pooled.fmi),
        "cov": [_list(row) for row in pooled.cov],
        "df_complete": first["df_resid"],
        "m": params.m,
        "iterations": params.iterations,
        "seed": params.seed,
        "n": n,
        "n_missing": left_out,
        "n_complete": complete,
        "n_sites": scope.n_sites,
        "n_sites_contributing": sites,
        "event": first["event"],
        "levels": first["levels"],
        "imputed": [
            {
                "variable": plan.names[v],
                "method": method,
                "missing": int(at.missing[v]),
                "present": n - int(at.missing[v]),
            }
            for v, method in zip(at.imputed, at.methods, strict=True)
        ],
        "auxiliary": list(params.auxiliary),
        "trace": _trace(at, plan),
    }


def _trace(at: Progress, plan: Plan) -> list[dict[str, Any]]:
    """Mean and sd of what was imputed, [iteration][chain], of each variable in `imputed`."""
    m = plan.params.m
    trace = at.trace.reshape(plan.params.iterations, len(at.imputed), m, 2)
    return [
        {
            "variable": plan.names[v],
            "mean": [_list(row) for row in trace[:, place, :, 0]],
            "sd": [_list(row) for row in trace[:, place, :, 1]],
        }
        for place, v in enumerate(at.imputed)
    ]


def _list(values: Floats) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values.tolist()]
