"""Minima of quadratics with an elastic-net penalty, at the hub.

    1/2 b'Db - c'b + sum_j w_j |b_j|,   D symmetric and positive semidefinite

Exact by an active set: on the coefficients that are not zero the minimum is a system of equations,
one step towards it ends where the first changes its sign; coefficients that want to leave zero
join. Each step lowers the objective, so that the search ends; from the solution of a near problem
it takes one to three steps. Where columns follow from others the systems have no single solution;
then sweeps of coordinate descent go on.

Reference: Lee, Battle, Raina & Ng 2007 (feature-sign search); Friedman, Hastie & Tibshirani 2010.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_ROUNDING: Final = 1e-13
"""Share of the largest slope that counts as none."""
_MAX_STEPS: Final = 2000
_SWEEPS: Final = 20


def minimise(d: Floats, c: Floats, w: Floats, start: Floats, free: Bools) -> Floats:
    """The minimum, shape (p,).

    Args:
        d: Shape (p, p); with the quadratic penalty on its diagonal.
        c: Shape (p,).
        w: Shape (p,); at least 0.
        start: Shape (p,); 0 where a coefficient is not `free`.
        free: Shape (p,); which coefficients may be other than 0.

    Raises:
        InputError: ``no-convergence``.
    """
    b = start.copy()
    noise = _ROUNDING * (float(np.abs(c).max(initial=0.0)) + float(w.max(initial=0.0)))
    patient = False
    for _ in range(_MAX_STEPS):
        slope = c - d @ b
        active = b != 0
        toward = np.where(active, np.sign(b), np.sign(slope))
        off = np.where(active, np.abs(slope - w * toward), np.abs(slope) - w)
        wants = free & (off > noise) & ~active
        settled = not np.any(off[active] > noise)
        if settled and not wants.any():
            return b
        if patient and wants.any():  # one at a time
            wants = (off == off[wants].max()) & wants
        moved = _step(d, c - w * toward, b, toward, active=active, wants=wants)
        if moved is None and not patient:
            patient = True
            continue
        if moved is None or np.array_equal(moved, b):
            moved = _descend(d, c, w, b, free)
            noise *= 1.1  # where rounding is larger than it looks
        b, patient = moved, False
    raise InputError("no-convergence", "The penalised model does not settle; leave terms out.")


def _step(
    d: Floats, target: Floats, b: Floats, toward: Floats, *, active: Bools, wants: Bools
) -> Floats | None:
    """Towards the minimum with these signs, until one changes; None where there is no such step."""
    from scipy.linalg.lapack import dposv

    chosen = np.flatnonzero(active | wants)
    while len(chosen):
        _, solution, info = dposv(d[np.ix_(chosen, chosen)], target[chosen])
        if info != 0:
            return None
        wrong = ~active[chosen] & (solution * toward[chosen] <= 0)
        if not wrong.any():
            break
        if not active.any() and wrong.all():
            return None
        chosen = chosen[~wrong]
    else:
        return None
    out = b.copy()
    now = b[chosen]
    crossing = active[chosen] & (solution * now <= 0)
    if not crossing.any():
        out[chosen] = solution
        return out
    share = np.full(len(chosen), np.inf)
    share[crossing] = now[crossing] / (now[crossing] - solution[crossing])
    first = float(share.min())
    out[chosen] = now + first * (solution - now)
    out[chosen[share <= first]] = 0.0
    return out


def _descend(d: Floats, c: Floats, w: Floats, b: Floats, free: Bools) -> Floats:
    """Sweeps of coordinate descent."""
    b = b.copy()
    slope = c - d @ b
    diagonal = np.diag(d)
    columns = np.flatnonzero(free & (diagonal > 0)).tolist()
    for _ in range(_SWEEPS):
        for j in columns:
            pull = slope[j] + diagonal[j] * b[j]
            new = np.sign(pull) * max(abs(pull) - w[j], 0.0) / diagonal[j]
            if new != b[j]:
                slope -= d[:, j] * (new - b[j])
                b[j] = new
    return b


def violation(slope: Floats, b: Floats, w: Floats, l2: Floats, free: Bools) -> Floats:
    """How far coefficients are from the conditions of the minimum.

    Args:
        slope: Shape (..., p); of the log-likelihood over the persons.
        b: Shape (..., p).
        w, l2: Of the penalties; shapes that go with it.
        free: Likewise.

    Returns:
        The largest distance, shape (...).
    """
    pulled = slope - l2 * b
    off = np.where(b != 0, np.abs(pulled - w * np.sign(b)), np.maximum(np.abs(pulled) - w, 0.0))
    return np.asarray(np.where(free, off, 0.0).max(axis=-1, initial=0.0))


def penalty(b: Floats, w: Floats, l2: Floats) -> Floats:
    """Of coefficients of shape (..., p); shape (...)."""
    return np.asarray((w * np.abs(b) + 0.5 * l2 * np.square(b)).sum(axis=-1))
