"""What models of a category check before they go on, and what their results have in common."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.category_model import Model
from cohortium.analysis.category_state import Progress
from cohortium.analysis.glm_release import require_groups, require_table
from cohortium.analysis.interface import Scope, Total
from cohortium.analysis.least_squares import aliased
from cohortium.core.dictionary import VariableType
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]


def release_moments(at: Progress, total: Total, model: Model, scope: Scope) -> Progress:
    """Refuse groups of few persons, and find where columns are centred.

    Raises:
        PolicyRefusal: ``too-few-persons``.
        InputError: ``no-convergence`` for a group of nobody.
    """
    parsed, n, min_cell = model.parsed, at.n, scope.disclosure.min_cell
    sums, squares = np.asarray(total["columns"]), np.asarray(total["squares"])
    outcomes = np.asarray(total["outcomes"], dtype=np.int64)
    cells = [
        (f"{model.outcome}[{level}]", count)
        for level, count in zip(model.levels, outcomes.tolist(), strict=True)
    ]
    cells += [
        (f"{factor.text}[{level}]", count)
        for (factor, level), count in zip(
            parsed.levels, total.get("levels", np.empty(0)).tolist(), strict=True
        )
    ]
    cells += [
        (column.name, round(float(sums[j])))
        for j, column in enumerate(parsed.columns)
        if column.is_cell and len(column.parts) > 1
    ]
    joint = np.asarray(total["marks"], dtype=np.int64)
    require_groups(cells, n, sums, squares, joint, parsed=parsed, min_cell=min_cell)
    means, mean_squares = sums / n, squares / n
    require_table(n, sums, squares, joint, parsed=parsed, min_cell=min_cell)
    ones = np.array([not column.parts for column in parsed.columns])
    spread = np.sqrt(np.maximum(mean_squares - means**2, 0.0))
    return at.but(
        outcomes=outcomes,
        centre=np.where(ones, 0.0, means),
        spread=np.where(ones | (spread == 0), 1.0, spread),
    )


def require_independent(names: tuple[str, ...], information: Floats, magnitude: Floats) -> None:
    """Refuse columns that follow from others.

    Args:
        information, magnitude: See `least_squares.aliased`.

    Raises:
        InputError: ``no-convergence``.
    """
    found = [names[j] for j in aliased(information, magnitude)]
    if found:
        raise InputError(
            "no-convergence",
            f"These columns follow from the others (collinear): {', '.join(found[:5])}. "
            "Leave them out.",
            terms=found[:50],
        )


def separated(model: Model, found: list[str]) -> InputError:
    """The error for coefficients that run away."""
    return InputError(
        "no-convergence",
        f"The outcome is separated: {', '.join(found[:5]) or 'the model'} predicts a level of "
        f"{model.outcome} perfectly for some persons, so that no finite estimate exists. Merge "
        "levels or leave the term out.",
        terms=found[:50],
    )


def about(at: Progress, loglik: float, model: Model, scope: Scope) -> dict[str, Any]:
    """The part of a result that says what was fitted, on whom, and how well."""
    from scipy import special

    n, missing, sites = (int(count) for count in at.counts)
    counts = at.outcomes.astype(np.float64)
    null = float(counts @ np.log(counts / n))
    df, q = model.q - (model.k - 1), model.q
    ratio = max(2 * (loglik - null), 0.0)
    return {
        "formula": model.formula,
        "outcome_levels": [
            {"level": level, "n": int(count)}
            for level, count in zip(model.levels, at.outcomes.tolist(), strict=True)
        ],
        "loglik": loglik,
        "null_loglik": null,
        "deviance": -2 * loglik,
        "null_deviance": -2 * null,
        "aic": -2 * loglik + 2 * q,
        "bic": -2 * loglik + math.log(n) * q,
        "pseudo_r2": 1 - loglik / null,
        "lr_test": {
            "statistic": ratio,
            "df": df,
            "p_value": float(special.chdtrc(df, ratio)) if df else None,
        },
        "df_resid": n - q,
        "df_model": df,
        "df_test": None,
        "scale": 1.0,
        "n": n,
        "n_missing": missing,
        "n_sites": scope.n_sites,
        "n_sites_contributing": sites,
        "event": None,
        "levels": {
            name: list(scope.variables[name].levels or ())
            for name in sorted(model.parsed.variables)
            if scope.variables[name].type is VariableType.CATEGORY
        },
    }
