"""The steps of `glm` at the hub."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import Parsed
from cohortium.analysis.glm_model import Model
from cohortium.analysis.glm_release import require_spread
from cohortium.analysis.glm_result import assemble
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.interface import Continue, Done, Scope, Total
from cohortium.analysis.least_squares import aliased, inverse, pack, solve, unpack
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]

_TOLERANCE = 1e-8
"""R's ``glm.control(epsilon)``."""
_DECREMENT = 1e-16
"""Largest squared Newton step, in standard errors, from which the last step is taken."""
_NOISE = 1e-13
MAX_ITERATIONS = 30
MAX_HALVINGS = 15


def first_step(
    at: Progress, information: Floats, gradient: Floats, null_deviance: float, model: Model
) -> Progress:
    """Solve the first system of equations.

    Raises:
        InputError: ``no-convergence`` for columns that follow from others.
    """
    parsed = model.parsed
    bad = aliased(information, information[0, 0] * at.centre**2)
    if bad:
        names = [parsed.names[j] for j in bad]
        raise InputError(
            "no-convergence",
            f"These columns follow from the others (collinear): {', '.join(names[:5])}. "
            "Leave them out.",
            terms=names[:50],
        )
    beta = solve(information, gradient)
    spread = np.sqrt(np.diag(information) / at.counts[0])
    scalars = at.scalars.copy()
    scalars[3] = null_deviance
    previous = np.zeros_like(beta)
    if model.family.bounded and parsed.intercept:
        previous[0] = at.null_eta  # from where a step can be halved
    return at.but(beta=beta, previous=previous, spread=spread, scalars=scalars, step=1)


def next_step(at: Progress, total: Total, model: Model, scope: Scope) -> Continue | Done:
    """Another Newton step, half the last one again, or the end.

    Raises:
        InputError: ``no-convergence``.
        PolicyRefusal: ``too-few-persons``.
    """
    family, p = model.family, len(model.parsed.names)
    information = unpack(np.asarray(total["information"]), p)
    gradient, deviance = np.asarray(total["gradient"]), float(total["deviance"][0])
    change = deviance - at.deviance
    outside = family.bounded and int(total["outside"][0]) > 0
    if outside or (at.step > 1 and change > _TOLERANCE * (abs(at.deviance) + 0.1)):
        return _half_step(at)
    if family.name == "binomial" and deviance < 1e-6 * at.null_deviance:
        raise _separated(model.parsed, at.beta * at.spread)
    try:
        newton = _newton(total, information, gradient)
    except np.linalg.LinAlgError:
        raise _separated(model.parsed, at.beta * at.spread) from None
    scale = deviance / (at.weight - p) if family.free_scale else 1.0
    decrement = float(gradient @ newton)
    converged = at.converged
    if not converged and at.step > 1 and abs(change) / (abs(deviance) + 0.1) < _TOLERANCE:
        converged = at.step
    smallest = max(scale, 1e-20 * at.null_deviance / at.weight)
    exact = decrement <= _DECREMENT * smallest
    patient = converged and at.step >= converged + 2
    if exact or (patient and (family.free_scale or decrement <= _NOISE)):
        if "working" in total:
            require_spread(np.asarray(total["working"]), scope)
        scalars = at.scalars.copy()
        scalars[6:] = deviance, float(total.get("pearson", total["deviance"])[0])
        final = at.but(beta=at.beta + newton, step=converged or at.step + 1, scalars=scalars)
        bread = inverse(information)
        if model.robust:
            onward = final.but(phase="errors", bread=pack(bread))
            return Continue(onward.to_state(), 0.95, "standard errors")
        return Done(assemble(final, bread, None, model=model, scope=scope))
    if patient or at.step >= MAX_ITERATIONS:
        raise _separated(model.parsed, newton * at.spread)
    scalars = at.scalars.copy()
    scalars[4] = deviance
    onward = at.but(
        beta=at.beta + newton,
        previous=at.beta,
        scalars=scalars,
        step=at.step + 1,
        converged=converged,
        halvings=0,
    )
    return Continue(onward.to_state(), min(0.9, 0.3 + 0.08 * at.step), f"iteration {at.step + 1}")


def last_step(at: Progress, total: Total, model: Model, scope: Scope) -> Done:
    """The result with robust standard errors.

    Raises:
        PolicyRefusal: ``too-few-persons`` where persons have a leverage above 1/2.
    """
    if int(total["odd"][0]):
        raise PolicyRefusal(
            "too-few-persons",
            "Some persons have a leverage above 1/2, so that much of the standard errors "
            f"{model.params.errors} would be about them; use errors='HC1', or leave terms out.",
        )
    p = len(model.parsed.names)
    meat = unpack(np.asarray(total["meat"]), p)
    return Done(assemble(at, unpack(at.bread, p), meat, model=model, scope=scope))


def _newton(total: Total, information: Floats, gradient: Floats) -> Floats:
    """By the observed information; by the expected one where that is not positive definite.

    Raises:
        numpy.linalg.LinAlgError: Where neither is.
    """
    if "observed" in total:
        try:
            return solve(unpack(np.asarray(total["observed"]), len(gradient)), gradient)
        except np.linalg.LinAlgError:
            pass
    return solve(information, gradient)


def _half_step(at: Progress) -> Continue:
    if at.halvings >= MAX_HALVINGS:
        raise InputError("no-convergence", "The deviance does not decrease; simplify the model.")
    back = at.but(beta=(at.beta + at.previous) / 2, halvings=at.halvings + 1)
    return Continue(back.to_state(), 0.5, f"iteration {at.step}, half a step")


def _separated(parsed: Parsed, moves: Floats) -> InputError:
    """Name the terms whose coefficients run away, in units of their columns' spread."""
    moved = np.abs(moves)
    if parsed.intercept and len(moved) > 1:
        moved[0] = 0.0
    names = [parsed.names[j] for j in np.flatnonzero(moved > 0.1 * moved.max(initial=0.0))]
    details: dict[str, Any] = {"terms": names[:50]}
    return InputError(
        "no-convergence",
        f"{parsed.response.text} is separated: {', '.join(names[:5]) or 'the model'} predicts it "
        "perfectly for some persons, so that no finite estimate exists. Merge levels or leave the "
        "term out.",
        **details,
    )
