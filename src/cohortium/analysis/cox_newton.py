"""Newton's method for the partial likelihood, at the hub."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from cohortium.analysis.cox_model import Model
from cohortium.analysis.cox_state import Progress
from cohortium.analysis.interface import Continue
from cohortium.analysis.least_squares import aliased, solve
from cohortium.analysis.newton import Point, farthest_of, move
from cohortium.core.rounds import Total
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]

_NEAR = 1e-12
"""Squared distance in standard errors, with a pooled baseline: the last round corrects it."""
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
    score, information = known
    onward = "risk" if model.pooled else "fit"
    if model.pooled and at.step > 0 and _is_near(score, information):
        last = at.but(phase="final", beta=at.beta + solve(information, score), previous=at.beta)
        return Continue(last.but(step=at.step + 1).to_state(), 0.9, "tests")
    point = Point(at.beta, at.previous, at.spread, float(at.scalars[0]), at.step, at.halvings)
    to = move(point, loglik, score, information, partial(_without_end, model))
    if to.kind == "half":
        back = at.but(phase=onward, beta=to.beta, halvings=at.halvings + 1)
        return Continue(back.to_state(), 0.5, f"iteration {at.step}, half a step")
    ahead = at.but(beta=to.beta, previous=at.beta, step=at.step + 1)
    if to.kind == "last":
        return Continue(ahead.but(phase="final").to_state(), 0.9, "tests")
    onto = ahead.but(phase=onward).scalar(0, loglik)
    progress = min(0.9, 0.3 + 0.1 * at.step)
    return Continue(onto.to_state(), progress, f"iteration {at.step + 2}")


def _is_near(score: Floats, information: Floats) -> bool:
    """Whether the last step, with the information of the last round, gives all digits."""
    try:
        return float(score @ solve(information, score)) <= _NEAR
    except np.linalg.LinAlgError:
        return False


def _without_end(model: Model, moves: Floats) -> InputError:
    """Name the terms whose coefficients run away, in units of their columns' spread."""
    names = farthest_of(model.names, moves)
    return InputError(
        "no-convergence",
        f"The likelihood grows without end (monotone): {', '.join(names[:5]) or 'the model'} "
        "tells for sure who has the event first, so that no finite estimate exists. Merge levels "
        "or leave the term out.",
        terms=names[:50],
    )
