"""Newton's method for the partial likelihood, at the hub."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cohortium.analysis.cox_model import Model
from cohortium.analysis.cox_state import Progress
from cohortium.analysis.interface import Continue
from cohortium.analysis.least_squares import aliased, solve
from cohortium.core.rounds import Total
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]

MAX_ITERATIONS = 30
MAX_HALVINGS = 15

_DECREMENT = 1e-16
"""Largest squared Newton step, in standard errors, from which the last step is taken."""
_NOISE = 1e-12
_WORSE = 1e-11
_FLAT = 1e-6
_NO_INFORMATION = 1e8
"""Times 1e-20: the share of a column's variance that its information must exceed."""


def first_step(
    at: Progress, total: Total, loglik: float, known: tuple[Floats, Floats], model: Model
) -> Progress:
    """What is learnt where all coefficients are 0.

    Raises:
        InputError: ``no-convergence`` for columns that follow from others.
    """
    score, information = known
    squares = np.asarray(total["squares"])
    spread = np.sqrt(squares / at.n)
    bad = aliased(information, _NO_INFORMATION * at.events * spread**2)
    if bad:
        names = [model.names[j] for j in bad]
        raise InputError(
            "no-convergence",
            "These columns follow from the others, or do not differ between persons who are at "
            f"risk together (collinear): {', '.join(names[:5])}. Leave them out.",
            terms=names[:50],
        )
    test = float(score @ solve(information, score))
    return at.but(spread=spread).scalar(1, loglik).scalar(2, test)


def next_step(at: Progress, loglik: float, known: tuple[Floats, Floats], model: Model) -> Continue:
    """A Newton step, half a step back, or the last step.

    Raises:
        InputError: ``no-convergence``.
    """
    before, (score, information) = float(at.scalars[0]), known
    onward = "risk" if model.pooled else "fit"
    if at.step > 0 and loglik < before - _WORSE * (abs(before) + 0.1):
        if at.halvings >= MAX_HALVINGS:
            # It is concave: only weights beyond what a float64 holds keep it from increasing.
            raise _without_end(model, (at.beta - at.previous) * at.spread)
        back = at.but(
            phase=onward,
            beta=(at.beta + at.previous) / 2,
            halvings=at.halvings + 1,
        )
        return Continue(back.to_state(), 0.5, f"iteration {at.step}, half a step")
    try:
        newton = solve(information, score)
    except np.linalg.LinAlgError:
        raise _without_end(model, at.beta * at.spread) from None
    decrement = float(score @ newton)
    moves, moved = newton * at.spread, (at.beta - at.previous) * at.spread
    if decrement <= _DECREMENT or (decrement <= _NOISE and at.step >= MAX_ITERATIONS):
        final = at.but(
            phase="final",
            beta=at.beta + newton,
            previous=at.beta,
            step=at.step + 1,
        )
        return Continue(final.to_state(), 0.9, "tests")
    flat = at.step >= 4 and loglik - before < _FLAT * (abs(loglik) + 0.1)
    farthest = float(np.abs(moves).max())
    steady = farthest > 0.1 and farthest > 0.5 * float(np.abs(moved).max())
    if at.step >= MAX_ITERATIONS or (flat and steady):
        raise _without_end(model, moves)
    onto = at.but(
        phase=onward,
        beta=at.beta + newton,
        previous=at.beta,
        step=at.step + 1,
    ).scalar(0, loglik)
    progress = min(0.9, 0.3 + 0.1 * at.step)
    return Continue(onto.to_state(), progress, f"iteration {at.step + 2}")


def _without_end(model: Model, moves: Floats) -> InputError:
    """Name the terms whose coefficients run away, in units of their columns' spread."""
    moved = np.abs(moves)
    names = [model.names[j] for j in np.flatnonzero(moved > 0.1 * moved.max(initial=0.0))]
    return InputError(
        "no-convergence",
        f"The likelihood grows without end (monotone): {', '.join(names[:5]) or 'the model'} "
        "tells for sure who has the event first, so that no finite estimate exists. Merge levels "
        "or leave the term out.",
        terms=names[:50],
    )
