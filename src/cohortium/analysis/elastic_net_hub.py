"""The rounds of `models.elastic_net` at the hub."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.elastic_net_fit import (
    Penalty,
    between,
    end_of_path,
    lambdas_of,
    path_of,
    step,
    units_of,
)
from cohortium.analysis.elastic_net_model import Net
from cohortium.analysis.elastic_net_result import Found, assemble
from cohortium.analysis.elastic_net_state import Fit
from cohortium.analysis.glm_release import release_moments, require_cells, require_persons
from cohortium.analysis.interface import Continue, Done, Scope, Total
from cohortium.analysis.least_squares import unpack
from cohortium.analysis.penalised import penalty as penalty_of
from cohortium.disclosure.suppression import LEAST_SITES
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]

TOLERANCE: Final = 1e-9
"""Of the slopes at the minimum, as a share of the largest one at the null model."""
FOLD_TOLERANCE: Final = 1e-8
MAX_PATH_ROUNDS: Final = 60
MAX_FOLD_ROUNDS: Final = 60
_WORSE: Final = 1e-11
_NOISE: Final = 1e-12
_SEPARATED: Final = 1e-6
"""Share of the null deviance at which `glm` calls outcomes separated."""


def first(at: Fit, total: Total, net: Net, scope: Scope) -> Continue:
    """Counts, then moments.

    Raises:
        PolicyRefusal, InputError: Few persons, sites; many columns; what `glm` refuses.
    """
    base, persons = at.base, at.persons
    if "persons" in total:
        counts = np.asarray(total["persons"], dtype=np.int64)
        require_persons(counts, 1, scope)
        persons = _require_folds(total, counts, net, scope)
        base = base.but(counts=counts)
        if at.phase == "counts":
            return Continue(
                at.but(phase="moments", base=base, persons=persons).to_state(), 0.05, "counts"
            )
    base = release_moments(base, total, net.model, scope)
    require_cells(total, int(base.counts[0]), net.model, scope)
    onward = at.but(phase="gram", base=base, persons=persons)
    return Continue(onward.to_state(), 0.1, "column means")


def _require_folds(
    total: Total, counts: npt.NDArray[np.int64], net: Net, scope: Scope
) -> npt.NDArray[np.int64]:
    """Persons in each fold, enough for what is summed of them."""
    n, limits, p = int(counts[0]), scope.disclosure, net.columns
    if n - p < limits.df:
        raise PolicyRefusal(
            "too-many-parameters",
            f"The model has {p} columns for {n} persons; it needs {limits.df} more persons than "
            "columns.",
            parameters=p,
            persons=n,
        )
    if not net.params.folds:
        return counts[:1]
    persons, sites = np.asarray(total["folds"], dtype=np.int64)
    if sites.min() < LEAST_SITES:
        raise PolicyRefusal(
            "too-few-sites",
            "A fold of the cross-validation has persons of one institution only; ask for fewer "
            "folds.",
        )
    least = max(limits.cohort, p)
    if persons.min() < least:
        raise PolicyRefusal(
            "too-few-persons",
            f"A fold of the cross-validation has fewer than {least} persons; ask for fewer folds"
            f"{' or terms' if p > limits.cohort else ''}.",
        )
    return np.asarray(persons)


def second(at: Fit, total: Total, net: Net, scope: Scope) -> Continue | Done:
    """Standard deviations, lambdas, and of gaussian everything."""
    p, n = net.columns, int(at.base.counts[0])
    grams = np.array([unpack(one, p) for one in np.asarray(total["gram"])])
    gradients = np.asarray(total["gradient"], dtype=np.float64)
    spread, units = units_of(grams, at.base.centre, net=net)
    grams, gradients = grams / np.outer(spread, spread), gradients / spread
    slope = gradients.sum(axis=0) / n
    _require_variation(slope[1:], at, total, net)
    lambdas = lambdas_of(slope[1:], units[0], net)
    at = at.but(
        base=at.base.but(spread=spread),
        units=units,
        lambdas=lambdas,
        scale=float(np.abs(slope[1:]).max()),
    )
    null = np.zeros(p)
    if net.gaussian:
        return _gaussian(
            at, grams, gradients, np.asarray(total["outcome_squares"]), net=net, scope=scope
        )
    _require_outcomes(gradients[:, 0], at, net)
    null[0] = at.base.null_eta
    weight = float(net.model.family.weight(null[:1])[0])
    path = path_of(
        weight * grams.sum(axis=0) / n, slope, null, lambdas, Penalty(net.params.alpha, units[0])
    )
    before = np.tile(null, (len(lambdas), 1))
    onward = at.but(
        phase="path",
        path=path,
        before=before,
        merit=np.full(len(lambdas), 1e300),
        deviances=np.zeros(len(lambdas) + 1),
    )
    return Continue(onward.to_state(), 0.15, "penalties")


def _require_variation(slope: Floats, at: Fit, total: Total, net: Net) -> None:
    """An outcome that varies, and a column that varies with it."""
    n, centre = int(at.base.counts[0]), abs(at.base.offset)
    if net.gaussian:
        size = math.sqrt(float(np.asarray(total["outcome_squares"]).sum()) / n)
    else:
        size = math.sqrt(float(net.model.family.weight(np.array([at.base.null_eta]))[0]))
    if size <= _NOISE * centre or np.abs(slope).max() <= _NOISE * size:
        raise InputError(
            "no-convergence",
            f"No term varies together with {net.model.parsed.response.text}; there is nothing to "
            "select.",
        )


def _require_outcomes(residual: Floats, at: Fit, net: Net) -> None:
    """Both outcomes, or some counts, without any fold."""
    if not net.params.folds:
        return
    mean = float(net.model.family.mean(np.array([at.base.null_eta]))[0])
    sums = residual + mean * at.persons
    rest, persons = sums.sum() - sums, at.persons.sum() - at.persons
    none = rest < 0.5
    if net.params.family == "binomial":
        none |= persons - rest < 0.5
    if none.any():
        raise InputError(
            "no-convergence",
            "Everybody with an outcome of one kind is in one fold; ask for fewer folds or another "
            "seed.",
        )


def _gaussian(
    at: Fit, grams: Floats, gradients: Floats, squares: Floats, *, net: Net, scope: Scope
) -> Done:
    """The path, and each fold's error, from the sums of products."""
    n, lambdas, null = int(at.base.counts[0]), at.lambdas, np.zeros(net.columns)
    gram, gradient = grams.sum(axis=0), gradients.sum(axis=0)
    rule = Penalty(net.params.alpha, at.units[0])
    path = path_of(gram / n, gradient / n, null, lambdas, rule)
    left = _left(path, gram, gradient, float(squares.sum()))
    null_deviance = float(squares.sum() - gradient[0] ** 2 / n)
    off = rule.violation((gradient - path @ gram) / n, path, lambdas)
    if float(off.max()) > TOLERANCE * at.scale:
        raise _unsettled()
    many = end_of_path(1 - left / null_deviance, net)
    errors = None
    if net.params.folds:
        errors = np.empty((net.parts, many))
        for k, (one, cross) in enumerate(zip(grams, gradients, strict=True)):
            rest = n - int(at.persons[k])
            fold = path_of(
                (gram - one) / rest,
                (gradient - cross) / rest,
                null,
                lambdas[:many],
                Penalty(net.params.alpha, at.units[k + 1]),
            )
            errors[k] = _left(fold, one, cross, float(squares[k])) / at.persons[k]
    found = Found(path[:many], left[:many], null_deviance, errors, float(off[:many].max()), 1)
    return Done(assemble(at, found, net, scope))


def _left(beta: Floats, gram: Floats, gradient: Floats, squares: float) -> Floats:
    """Residual sums of squares of coefficients, shape (L, p)."""
    explained = 2 * beta @ gradient - np.einsum("lj,jk,lk->l", beta, gram, beta)
    return np.asarray(np.maximum(squares - explained, 0.0))


def along(at: Fit, total: Total, net: Net, scope: Scope) -> Continue | Done:
    """A step of every lambda of the path that has not converged, with its own matrix."""
    n, lambdas = int(at.base.counts[0]), at.lambdas
    rule = Penalty(net.params.alpha, at.units[0])
    slope = np.asarray(total["gradient"]) / n
    deviances = np.asarray(total["deviance"], dtype=np.float64)
    off = rule.violation(slope, at.path, lambdas)
    settled = off <= TOLERANCE * at.scale
    at = at.but(deviances=deviances, rounds=at.rounds + 1)
    if settled.all() or at.rounds >= MAX_PATH_ROUNDS:
        settled &= deviances[:-1] > _SEPARATED * deviances[-1]
        at = _cut(at, len(lambdas) if settled.all() else int(np.argmin(settled)), net)
        at = _cut(at, end_of_path(1 - at.deviances[:-1] / at.deviances[-1], net), net)
        worst = float(off[: len(at.lambdas)].max())
        if net.params.folds:
            onward = at.but(phase="split", worst=worst)
            return Continue(onward.to_state(), 0.5, "cross-validation")
        found = Found(at.path, at.deviances[:-1], float(at.deviances[-1]), None, worst, at.rounds)
        return Done(assemble(at, found, net, scope))
    penalty = penalty_of(
        at.path[:, 1:], rule.absolute(lambdas[:, None]), rule.square(lambdas[:, None])
    )
    objective = deviances[:-1] / (2 * n) + penalty
    worse = ~settled & (objective > at.merit + _WORSE * (np.abs(at.merit) + 0.1))
    anchors = net.anchors("path", len(lambdas))
    hessian = np.asarray(total["hessian"]) / n
    path, before, merit = at.path.copy(), at.before.copy(), at.merit.copy()
    for number in np.flatnonzero(~settled).tolist():
        if worse[number]:
            path[number] = (path[number] + before[number]) / 2
            continue
        before[number], merit[number] = path[number], objective[number]
        here = between(hessian, anchors, number, net.columns)
        path[number] = step(here, slope[number], path[number], float(lambdas[number]), rule)
    onward = at.but(path=path, before=before, merit=merit)
    share = min(0.45, 0.15 + 0.05 * at.rounds)
    return Continue(onward.to_state(), share, f"path, step {at.rounds}")


def _cut(at: Fit, many: int, net: Net) -> Fit:
    """The first lambdas only."""
    if many == len(at.lambdas):
        return at
    if many < 2 or net.params.lambdas is not None:
        raise _unsettled()
    cut = at.but(
        lambdas=at.lambdas[:many],
        path=at.path[:many],
        before=at.before[:many],
        merit=at.merit[:many],
        deviances=np.append(at.deviances[:many], at.deviances[-1]),
    )
    if not at.folds.size:
        return cut
    return cut.but(
        folds=at.folds[:, :many],
        folds_before=at.folds_before[:, :many],
        folds_merit=at.folds_merit[:, :many],
        left=at.left[:, :many],
    )


def _unsettled() -> InputError:
    return InputError(
        "no-convergence",
        "The penalised model does not converge at its smallest lambdas; ask for larger ones, or "
        "leave terms out.",
    )


class _Rests:
    """What is left of the sums without a fold, per person."""

    def __init__(self, hessian: Floats, at: Fit, net: Net) -> None:
        total = hessian.sum(axis=1)
        self.n = int(at.base.counts[0]) - at.persons
        self._all, self._each = total, hessian
        self._joint = int(at.base.counts[0])
        self._anchors = net.anchors("folds", len(at.lambdas))
        self._net = net

    def hessian(self, k: int) -> Floats:
        """At the anchors, packed."""
        if self._net.by_fold:
            return np.asarray((self._all - self._each[:, k]) / self.n[k])
        return np.asarray(self._all / self._joint)

    def at(self, packed: Floats, number: int) -> Floats:
        """At a lambda."""
        return between(packed, self._anchors, number, self._net.columns)


def split(at: Fit, total: Total, net: Net) -> Continue:
    """From everybody's model to those without a fold."""
    gradient = np.asarray(total["gradient"], dtype=np.float64)
    rests = _Rests(np.asarray(total["hessian"]), at, net)
    folds = np.tile(at.path, (net.parts, 1, 1))
    merit = np.empty(folds.shape[:2])
    whole = gradient.sum(axis=0)
    for k in range(net.parts):
        slope = (whole - gradient[k]) / rests.n[k]
        rule, packed = Penalty(net.params.alpha, at.units[k + 1]), rests.hessian(k)
        merit[k] = rule.violation(slope, at.path, at.lambdas)
        for number, lambda_ in enumerate(at.lambdas.tolist()):
            here = at.path[number]
            folds[k, number] = step(rests.at(packed, number), slope[number], here, lambda_, rule)
    onward = at.but(
        phase="folds",
        folds=folds,
        folds_before=np.tile(at.path, (net.parts, 1, 1)),
        folds_merit=np.maximum(merit, at.scale),
        left=np.ones(merit.shape, dtype=np.int64),
        rounds=0,
    )
    return Continue(onward.to_state(), 0.6, "cross-validation")


def validate(at: Fit, total: Total, net: Net) -> Continue:
    """A step of every model without a fold that has not converged."""
    rests = _Rests(np.asarray(total["hessian"]), at, net)
    models = np.argwhere(at.left > 0).tolist()
    folds, before = at.folds.copy(), at.folds_before.copy()
    merit, left = at.folds_merit.copy(), at.left.copy()
    rules = [Penalty(net.params.alpha, units) for units in at.units[1:]]
    packed = {k: rests.hessian(k) for k in {k for k, _ in models}}
    gradient = np.asarray(total["gradient"], dtype=np.float64)
    for (k, number), sums in zip(models, gradient, strict=True):
        here, lambda_ = folds[k, number], float(at.lambdas[number])
        slope = sums / rests.n[k]
        off = float(rules[k].violation(slope[None], here[None], at.lambdas[number : number + 1])[0])
        if off <= FOLD_TOLERANCE * at.scale:
            left[k, number] = 0
        elif off > merit[k, number]:
            folds[k, number] = (here + before[k, number]) / 2
        else:
            before[k, number], merit[k, number] = here, off
            folds[k, number] = step(rests.at(packed[k], number), slope, here, lambda_, rules[k])
    at = at.but(
        folds=folds, folds_before=before, folds_merit=merit, left=left, rounds=at.rounds + 1
    )
    if at.rounds >= MAX_FOLD_ROUNDS and left.any():
        at = _cut(at, int(np.argmax(left.any(axis=0))), net)
    if not at.left.any():
        return Continue(at.but(phase="error").to_state(), 0.95, "cross-validated error")
    share = min(0.9, 0.65 + 0.04 * at.rounds)
    return Continue(at.to_state(), share, f"cross-validation, step {at.rounds}")


def last(at: Fit, total: Total, net: Net, scope: Scope) -> Done:
    """The result of binomial and poisson with cross-validation."""
    errors = np.asarray(total["deviance"]) / at.persons[:, None]
    deviances, null_deviance = at.deviances[:-1], float(at.deviances[-1])
    found = Found(at.path, deviances, null_deviance, errors, at.worst, at.rounds)
    return Done(assemble(at, found, net, scope))
