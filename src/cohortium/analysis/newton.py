"""Newton's method up a concave log-likelihood, one step a round, at the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.least_squares import solve
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]

MAX_ITERATIONS = 30
MAX_HALVINGS = 15

_DECREMENT = 1e-16
"""Largest squared Newton step, in standard errors, from which the last step is taken."""
_NOISE = 1e-12
_WORSE = 1e-11
_FLAT = 1e-6


@dataclass(frozen=True)
class Point:
    """Where the search stands; q coefficients.

    Attributes:
        beta: (q,); where the sums were taken.
        previous: (q,); the step before.
        spread: (q,); by which a coefficient is multiplied to be compared with others.
        loglik: At `previous`.
        step: Newton steps.
        halvings: Half steps taken back, in all.
    """

    beta: Floats
    previous: Floats
    spread: Floats
    loglik: float
    step: int
    halvings: int


@dataclass(frozen=True)
class Move:
    """Where to go: half of the last step back, onward, or to the estimate."""

    kind: Literal["half", "onward", "last"]
    beta: Floats


def move(
    at: Point,
    loglik: float,
    score: Floats,
    information: Floats,
    without_end: Callable[[Floats], InputError],
) -> Move:
    """The next move, from the sums at `at.beta`.

    Args:
        without_end: The error for a likelihood that grows for ever, from each coefficient's move in
            units of its column's spread.

    Raises:
        InputError: That of `without_end`.
    """
    if at.step > 0 and loglik < at.loglik - _WORSE * (abs(at.loglik) + 0.1):
        if at.halvings >= MAX_HALVINGS:
            # It is concave: only weights beyond what a float64 holds keep it from increasing.
            raise without_end((at.beta - at.previous) * at.spread)
        return Move("half", (at.beta + at.previous) / 2)
    try:
        newton = solve(information, score)
    except np.linalg.LinAlgError:
        raise without_end(at.beta * at.spread) from None
    decrement = float(score @ newton)
    moves, moved = newton * at.spread, (at.beta - at.previous) * at.spread
    if decrement <= _DECREMENT or (decrement <= _NOISE and at.step >= MAX_ITERATIONS):
        return Move("last", at.beta + newton)
    flat = at.step >= 4 and loglik - at.loglik < _FLAT * (abs(loglik) + 0.1)
    farthest = float(np.abs(moves).max())
    steady = farthest > 0.1 and farthest > 0.5 * float(np.abs(moved).max())
    if at.step >= MAX_ITERATIONS or (flat and steady):
        raise without_end(moves)
    return Move("onward", at.beta + newton)


def farthest_of(names: tuple[str, ...], moves: Floats) -> list[str]:
    """The names whose coefficients run away, from their moves."""
    moved = np.abs(moves)
    return [names[j] for j in np.flatnonzero(moved > 0.1 * moved.max(initial=0.0))]
