"""The released form of `models.ordinal`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cohortium.analysis.category_model import Model
from cohortium.analysis.category_release import about
from cohortium.analysis.category_state import Progress
from cohortium.analysis.glm_result import wald
from cohortium.analysis.interface import Scope
from cohortium.analysis.least_squares import inverse, unpack

if TYPE_CHECKING:
    from cohortium.analysis.ordinal import OrdinalParams


def assemble(
    at: Progress,
    tests: list[dict[str, Any]] | None,
    *,
    model: Model,
    params: OrdinalParams,
    scope: Scope,
) -> dict[str, Any]:
    """The result as JSON values.

    Coefficients come before thresholds in `cov`, as in R's ``vcov(polr)``.

    Args:
        at: With the fit.
        tests: Of proportional odds; None where there are none.
    """
    cuts, p = model.k - 1, model.p
    back = np.eye(model.q)
    back[:cuts, cuts:] = at.centre  # a threshold of the columns as they were
    order = np.concatenate([np.arange(cuts, model.q), np.arange(cuts)])
    whole = back[order]
    beta = whole @ at.fitted
    cov = whole @ inverse(unpack(at.information, model.q)) @ whole.T
    bse = np.sqrt(np.diag(cov))
    names = [f"{a}|{b}" for a, b in zip(model.levels, model.levels[1:], strict=False)]
    thresholds = wald(beta[p:], bse[p:], None)
    result = about(at, float(at.scalars[1]), model, scope)
    reason = "a logit model of one cut of the levels has no finite estimate"
    if params.link == "logit" and tests is None:
        result["suppressed"] = [f"test of proportional odds: {reason}"]
    return {
        **result,
        "family": "ordinal",
        "link": params.link,
        "terms": list(model.parsed.names),
        "params": beta[:p].tolist(),
        **wald(beta[:p], bse[:p], None),
        "thresholds": {
            "names": names,
            "params": beta[p:].tolist(),
            **{key: thresholds[key] for key in ("bse", "conf_low", "conf_high")},
        },
        "cov": cov.tolist(),
        "proportional_odds": tests or [],
        "iterations": round(float(at.scalars[2])),
    }
