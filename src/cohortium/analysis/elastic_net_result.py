"""The released form of `models.elastic_net`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.elastic_net_model import FAMILY_ERRORS, Net
from cohortium.analysis.elastic_net_state import Fit
from cohortium.analysis.interface import Scope
from cohortium.core.dictionary import VariableType
from cohortium.errors import PolicyRefusal

Floats = npt.NDArray[np.float64]

_DIGITS: Final = 6
"""Of the cross-validated errors: another seed gives another function of everybody's records."""


@dataclass(frozen=True)
class Found:
    """What the search has found, at falling lambdas.

    Attributes:
        path: (L, p); coefficients of the standardised columns.
        deviances: (L,); `null_deviance` without terms.
        errors: (K, L); of each fold, per person; None without cross-validation.
        violation: Largest distance from the conditions of the minimum, per person.
        steps: Of the search.
    """

    path: Floats
    deviances: Floats
    null_deviance: float
    errors: Floats | None
    violation: float
    steps: int


def assemble(at: Fit, found: Found, net: Net, scope: Scope) -> dict[str, Any]:
    """The result as JSON values.

    Raises:
        PolicyRefusal: ``too-many-parameters`` where nothing may be released.
    """
    base, parsed, params = at.base, net.model.parsed, net.params
    n, missing, sites = (int(count) for count in base.counts)
    nonzero = np.count_nonzero(found.path[:, 1:], axis=1)
    many, suppressed = _released(nonzero, at.lambdas, n, scope)
    lambdas = at.lambdas[:many]
    slopes = found.path[:many] / base.spread
    slopes[:, 0] += base.offset - slopes[:, 1:] @ base.centre[1:]
    return {
        "formula": params.formula,
        "family": params.family,
        "link": net.model.family.link,
        "alpha": params.alpha,
        "standardize": params.standardize,
        "terms": list(parsed.names),
        "sd": np.where(at.units[0] > 0, base.spread[1:], 0.0).tolist(),
        "lambdas": lambdas.tolist(),
        "coefficients": slopes.tolist(),
        "nonzero": nonzero[:many].tolist(),
        "deviance_ratio": (1 - found.deviances[:many] / found.null_deviance).tolist(),
        "null_deviance": found.null_deviance,
        "cv": None if found.errors is None else _validated(at, found.errors[:, :many], net),
        "n": n,
        "n_missing": missing,
        "n_sites": scope.n_sites,
        "n_sites_contributing": sites,
        "violation": found.violation / at.scale if at.scale else 0.0,
        "event": parsed.response.levels[1] if parsed.response.levels else None,
        "levels": {
            name: list(scope.variables[name].levels or ())
            for name in sorted(parsed.variables)
            if scope.variables[name].type is VariableType.CATEGORY
        },
        "suppressed": suppressed,
    }


def _released(
    nonzero: npt.NDArray[np.int64], lambdas: Floats, n: int, scope: Scope
) -> tuple[int, list[str]]:
    """How many lambdas have few enough coefficients for the persons, and what is withheld."""
    limits = scope.disclosure
    parameters = nonzero + 1
    many = (parameters * limits.per_parameter > n) | (n - parameters < limits.df)
    if not many.any():
        return len(nonzero), []
    first = int(np.argmax(many))
    if first == 0:
        raise PolicyRefusal(
            "too-many-parameters",
            f"Even at the largest lambda {int(parameters[0])} coefficients are not 0, for {n} "
            f"persons; each needs {limits.per_parameter}. Ask for larger lambdas or a larger "
            "alpha, or leave terms out.",
            parameters=int(parameters[0]),
            persons=n,
        )
    return first, [f"lambda <= {lambdas[first]:.4g}: too many coefficients for the persons"]


def _validated(at: Fit, errors: Floats, net: Net) -> dict[str, Any]:
    """The mean error over the folds by their sizes, its standard error, and two choices."""
    weight = at.persons / at.persons.sum()
    mean = weight @ errors
    se = np.sqrt(weight @ np.square(errors - mean) / (len(weight) - 1))
    best = int(np.argmin(mean))
    simplest = int(np.argmax(mean <= mean[best] + se[best]))
    return {
        "measure": FAMILY_ERRORS[net.params.family],
        "folds": net.parts,
        "seed": net.params.seed,
        "mean": [_rounded(value) for value in mean.tolist()],
        "se": [_rounded(value) for value in se.tolist()],
        "lambda_min": float(at.lambdas[best]),
        "lambda_1se": float(at.lambdas[simplest]),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
