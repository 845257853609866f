"""The released form of `models.mixed`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cohortium.analysis.formula import Parsed
from cohortium.analysis.interface import Scope
from cohortium.analysis.least_squares import inverse
from cohortium.analysis.mixed_fit import Method, Profile, Sufficient
from cohortium.core.dictionary import VariableType

_CONFIDENCE = 0.95


def assemble(
    sums: Sufficient,
    *,
    parsed: Parsed,
    method: Method,
    sites: Sequence[str],
    n_missing: int,
    scope: Scope,
) -> dict[str, Any]:
    """Fit, and give coefficients in the columns' own units."""
    from scipy.special import chdtrc, ndtr, ndtri

    profile = Profile(sums, method)
    fit = profile.best()
    spread, unit = profile.spread[:-1], float(profile.spread[-1])
    p = len(parsed.names)
    within = fit.squares / profile.df * unit**2
    back = np.eye(p)
    back[1:, 1:] = np.diag(1 / spread)
    back[0, 1:] = -sums.centre[:-1] / spread
    beta = unit * (back @ fit.beta)
    beta[0] += sums.centre[-1]
    cov = within * (back @ inverse(fit.information) @ back.T)
    bse = np.sqrt(np.diag(cov))
    width = float(ndtri(0.5 + _CONFIDENCE / 2))
    between = fit.theta * within
    loglik = profile.log_likelihood(fit.theta)
    ratio = max(0.0, 2 * (loglik - profile.log_likelihood(0.0)))
    share = fit.theta * fit.weights
    return {
        "title": "Linear mixed model",
        "formula": parsed.text,
        "method": method,
        "terms": list(parsed.names),
        "params": beta.tolist(),
        "bse": bse.tolist(),
        "statistic_name": "z",
        "statistic": (beta / bse).tolist(),
        "pvalues": (2 * ndtr(-np.abs(beta / bse))).tolist(),
        "conf_low": (beta - width * bse).tolist(),
        "conf_high": (beta + width * bse).tolist(),
        "cov": cov.tolist(),
        "variance_between": between,
        "variance_within": within,
        "icc": fit.theta / (1 + fit.theta),
        "loglik": loglik,
        "aic": -2 * loglik + 2 * (p + 2),
        "lr_statistic": ratio,
        "lr_p_value": 0.5 * float(chdtrc(1, ratio)) if ratio > 0 else 1.0,
        "n": int(sums.n),
        "n_missing": n_missing,
        "n_sites": scope.n_sites,
        "n_sites_contributing": len(sites),
        "institutions": [
            {
                "site": site,
                "n": int(n),
                "intercept": float(b),
                "std_error": math.sqrt(v),
            }
            for site, n, b, v in zip(
                sites,
                sums.persons,
                unit * share * fit.rest,
                between / (1 + sums.persons * fit.theta),
                strict=True,
            )
        ],
        "levels": {
            name: list(scope.variables[name].levels or ())
            for name in sorted(parsed.variables)
            if scope.variables[name].type is VariableType.CATEGORY
        },
        "suppressed": [],
    }
