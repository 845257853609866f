"""The doubly robust form of `causal.propensity`: weights augmented by a model of the outcome.

A linear model of the outcome in each arm, by least squares: ``m(x)``. The mean of an arm is that of
``m + 1[arm] w (y - m)`` over everybody. Numbers are distances from the arm's weighted mean.

Reference: Robins, Rotnitzky & Zhao 1994; Glynn & Quinn 2010 (AIPW).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import Scope, Total
from cohortium.analysis.least_squares import aliased, inverse, pack, unpack
from cohortium.analysis.propensity_model import Design
from cohortium.analysis.propensity_state import Weighing
from cohortium.core.rounds import Array
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]


def require_enough(at: Weighing, design: Design, scope: Scope) -> None:
    """Refuse a model of the outcome with too many terms for an arm.

    Raises:
        PolicyRefusal: ``too-many-parameters``.
    """
    p, limits = len(design.parsed.names), scope.disclosure
    for arm, kept in zip(design.arms, at.known["kept"].tolist(), strict=True):
        if p * limits.per_parameter > kept or kept - p < limits.df:
            raise PolicyRefusal(
                "too-many-parameters",
                f"The model of the outcome has {p} parameters for the {kept} persons with "
                f"{design.params.treatment} = {arm}; each needs {limits.per_parameter}.",
                parameters=p,
                persons=kept,
            )


def add(
    out: dict[str, Array],
    x: Floats,
    y: Floats,
    rest: Floats,
    weights: tuple[Floats, Floats],
    *,
    mine: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    at: Weighing,
) -> None:
    """Add a block's sums of the stages ``outcome``, ``augment`` and ``influence``.

    Args:
        x: Centred columns of the persons that are not trimmed.
        y: Their outcome.
        rest: Treatment less score, of all persons.
        weights: Weights and their slopes along the log odds of the score.
        mine: Who is in each arm.
    """
    told = []
    for one, here in enumerate(mine):
        away = y - at.known["means"][one]
        if at.stage == "outcome":
            own = x[here]
            out["products"][one] += pack(own.T @ own)
            out["moments"][one] += away[here] @ own
            continue
        model = x @ at.known["gamma"][one]
        left = np.where(here, away - model, 0.0)
        estimate = model + weights[0] * left
        if at.stage == "augment":
            out["estimates"][one] += estimate.sum()
            out["pull"][one] += (1.0 - weights[0] * here) @ x
            out["slope"][one] += (weights[1] * left) @ x
            continue
        along = x @ at.known["along"][one].T
        told.append(estimate - at.known["estimates"][one] + left * along[:, 0] + rest * along[:, 1])
    if told:
        both = np.array(told)
        out["influence"] += pack(both @ both.T)


def add_score(out: dict[str, Array], x: Floats, rest: Floats, at: Weighing) -> None:
    """The influence of trimmed persons, who are in the model of the score only."""
    both = (x @ at.known["along"][:, 1].T).T * rest
    out["influence"] += pack(both @ both.T)


def onward(at: Weighing, total: Total, design: Design) -> Weighing:
    """What follows the stages ``outcome`` and ``augment``.

    Raises:
        InputError: ``no-convergence`` for columns that others determine in an arm.
    """
    p = len(design.parsed.names)
    if at.stage == "outcome":
        products = [unpack(one, p) for one in np.asarray(total["products"])]
        for arm, matrix in zip(design.arms, products, strict=True):
            bad = aliased(matrix, matrix[0, 0] * at.model.centre**2)
            if bad:
                names = [design.parsed.names[j] for j in bad]
                raise InputError(
                    "no-convergence",
                    f"Among {design.params.treatment} = {arm} these columns follow from the "
                    f"others: {', '.join(names[:5])}. Leave them out.",
                    terms=names[:50],
                )
        bread = [inverse(matrix) for matrix in products]
        gamma = np.array([b @ m for b, m in zip(bread, np.asarray(total["moments"]), strict=True)])
        known = {**at.known, "gamma": gamma, "bread_outcome": np.array([pack(b) for b in bread])}
        return replace(at, stage="augment", known=known)
    of_score = unpack(at.model.bread, p)
    if design.params.errors == "robust":
        of_score = np.zeros_like(of_score)
    along = np.array(
        [
            [unpack(bread, p) @ pull, of_score @ slope]
            for bread, pull, slope in zip(
                at.known["bread_outcome"],
                np.asarray(total["pull"]),
                np.asarray(total["slope"]),
                strict=True,
            )
        ]
    )
    estimates = np.asarray(total["estimates"]) / at.known["kept"].sum()
    known = {**at.known, "along": along, "estimates": estimates}
    return replace(at, stage="influence", known=known)
