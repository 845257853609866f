"""The steps of `missing.mice` at the hub: what is enough, what is drawn, what is pooled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import Continue, Scope, Total
from cohortium.analysis.least_squares import aliased, solve, unpack
from cohortium.analysis.mice_model import MAX_DRAWN, MAX_STEPS, Method, Plan, Scales, level_shares
from cohortium.analysis.mice_state import FARTHEST, MAX_NEWTON, Progress
from cohortium.analysis.philox import Key, key_of, normals, uniforms
from cohortium.core.dictionary import VariableType
from cohortium.disclosure.suppression import LEAST_SITES, follows_from_mean, is_binary, is_small
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]

_SETTLED = 1e-4
"""Largest squared Newton step, in standard errors, after which what is left is far below what is
drawn about the estimate.
"""
_SIGMA = 2**31
"""The place of what is drawn for sigma, beside the coefficients'."""


def release_counts(at: Progress, total: Total, plan: Plan, scope: Scope) -> Progress:
    """Refuse too few persons; and decide what is imputed, perhaps after another count.

    Raises:
        PolicyRefusal: ``too-few-persons``, ``too-few-sites``.
        InputError: ``bad-input`` where nothing is missing.
    """
    counts = np.asarray(total["persons"], dtype=np.int64)
    missing = np.asarray(total["missing"], dtype=np.int64)
    observed = np.asarray(total["present"], dtype=np.int64)
    n, _, sites, complete = counts.tolist()
    limits = scope.disclosure
    if n < limits.cohort:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {limits.cohort} persons have a value of every variable that is not "
            "imputed.",
        )
    if sites < LEAST_SITES:
        raise PolicyRefusal(
            "too-few-sites", "Only one institution has such persons; a joint model needs two."
        )
    few = [v for v in at.imputed if is_small(int(missing[v]), limits.min_cell)]
    if few and plan.params.impute is not None:
        names = ", ".join(plan.names[v] for v in few)
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {limits.min_cell} persons lack {names}; what is imputed for them would "
            "tell of them. Leave it out of `impute`, and them with it.",
        )
    rare = [plan.names[v] for v in at.imputed if observed[v] < limits.cohort]
    if rare:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {limits.cohort} persons have a value of {', '.join(rare)}.",
        )
    at = at.but(counts=counts, missing=missing)
    if few:
        return at.but(imputed=tuple(v for v in at.imputed if v not in few))
    chain = sorted((v for v in at.imputed if missing[v]), key=lambda v: (int(missing[v]), v))
    if not chain:
        raise InputError(
            "bad-input",
            "Nobody lacks a value that could be imputed (or fewer than the minimum cell size do, "
            "and are left out): fit the model with glm.",
        )
    if is_small(complete, limits.min_cell):
        raise PolicyRefusal(
            "too-few-persons", f"Fewer than {limits.min_cell} persons have every value."
        )
    return at.but(imputed=tuple(chain), phase="moments")


def release_moments(at: Progress, total: Total, plan: Plan, scope: Scope) -> Progress:
    """Refuse groups of few persons, and say how each variable is imputed.

    Raises:
        PolicyRefusal: ``too-few-persons``, ``too-many-parameters``.
        InputError: ``bad-input`` for a constant, or too much at once.
    """
    n, min_cell = int(at.counts[0]), scope.disclosure.min_cell
    sums = np.asarray(total["sums"], dtype=np.float64)
    levels = np.asarray(total.get("levels", np.zeros(0)), dtype=np.int64)
    there = np.maximum(n - at.missing, 1)
    means, squares = sums[:, 0] / there, sums[:, 1] / there
    numbers = np.array([one.levels is None for one in plan.variables])
    variance = np.maximum(squares - means**2, 0.0)
    constant = variance <= 1e-14 * squares
    small = [
        f"{plan.names[v]} of one value"
        for v in np.flatnonzero(numbers).tolist()
        if follows_from_mean(int(there[v]), float(means[v]), float(squares[v]), min_cell)
    ]
    shares = np.zeros(len(levels))
    for v, one in enumerate(plan.variables):
        here = slice(plan.level_at[v], plan.level_at[v + 1])
        counts = levels[here]
        small += [
            f"{one.name} = {level}"
            for level, count in zip(one.levels or (), counts.tolist(), strict=True)
            if is_small(count, min_cell)
        ]
        shares[here] = counts / max(1, int(counts.sum()))
        single = one.levels is not None and np.count_nonzero(counts) < 2
        if single or (one.levels is None and constant[v]):
            raise InputError(
                "bad-input",
                f"All persons have the same value of {one.name}; leave it out.",
                variable=one.name,
            )
    if small:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {min_cell} persons are in: {', '.join(small[:5])}. Merge or leave out.",
            cells=small[:50],
        )
    methods: list[Method] = []
    for v in at.imputed:
        one, binary = plan.variables[v], is_binary(float(means[v]), float(squares[v]))
        if one.levels is not None and len(one.levels) > 2:
            methods.append("polyreg")
        elif one.levels is not None or (binary and one.type is not VariableType.REAL):
            methods.append("logreg")
        else:
            methods.append("norm")
    scales = Scales(
        np.where(numbers, means, 0.0),
        np.where(numbers & ~constant, np.sqrt(variance), 1.0),
        shares,
    )
    at = at.but(scales=scales, methods=tuple(methods), phase="impute")
    _require_room(at, plan, scope)
    return begin(at.but(last=_first(at, plan)), plan)


def _require_room(at: Progress, plan: Plan, scope: Scope) -> None:
    limits, n = scope.disclosure, int(at.counts[0])
    for v, method in zip(at.imputed, at.methods, strict=True):
        p = len(plan.predictors(v)) * plan.outcomes(v, method)
        observed = n - int(at.missing[v])
        if p * limits.per_parameter > observed or observed - p < limits.df:
            raise PolicyRefusal(
                "too-many-parameters",
                f"{plan.names[v]} is imputed by a model of {p} parameters from {observed} persons; "
                f"each needs {limits.per_parameter}, and {limits.df} residual degrees of freedom "
                "must be left.",
                parameters=p,
                persons=observed,
            )
    steps = plan.params.iterations * len(at.imputed)
    if steps > MAX_STEPS or plan.params.m * at.n_drawn(plan, steps) > MAX_DRAWN:
        raise InputError(
            "bad-input",
            "These are too many imputations, iterations and variables at once; ask for fewer.",
        )


def _first(at: Progress, plan: Plan) -> Floats:
    """From where each logistic model begins: the observed shares."""
    parts = [np.zeros(0)]
    for v, method in zip(at.imputed, at.methods, strict=True):
        if method == "norm":
            continue
        shares = level_shares(plan, at.scales, v)
        beta = np.zeros((plan.outcomes(v, method), len(plan.predictors(v))))
        beta[:, 0] = np.log(np.maximum(shares[1:], 1e-6) / max(float(shares[0]), 1e-6))
        parts += [beta.ravel()] * plan.params.m
    return np.concatenate(parts)


def begin(at: Progress, plan: Plan) -> Progress:
    """The next step of the chain, or the models."""
    if at.done == plan.params.iterations * len(at.imputed):
        return at.but(phase="fit", newton=0, beta=np.zeros(0))
    place = at.step[1]
    beta = np.zeros(0) if at.methods[place] == "norm" else at.last[at.begins_at(plan, place)]
    return at.but(newton=0, beta=beta)


def traced(at: Progress, total: Total) -> Progress:
    """Keep mean and standard deviation of what the last step imputed."""
    if "imputed" not in total:
        return at
    v = at.imputed[(at.done - 1) % len(at.imputed)]
    n = int(at.missing[v])
    sums = np.asarray(total["imputed"], dtype=np.float64)
    mean = sums[:, 0] / n
    variance = np.maximum(sums[:, 1] - n * mean**2, 0.0) / max(n - 1, 1)
    centre, spread = at.scales.centre[v], at.scales.spread[v]
    now = np.column_stack([centre + spread * mean, spread * np.sqrt(variance)])
    return at.but(trace=np.concatenate([at.trace, now.ravel()]))


def next_step(at: Progress, total: Total, plan: Plan) -> Continue:
    """Draw the parameters of the step's model, or take a Newton step towards it.

    Raises:
        InputError: ``no-convergence``.
    """
    place = at.step[1]
    v, method = at.imputed[place], at.methods[place]
    m, name = plan.params.m, plan.names[v]
    progress = 0.1 + 0.7 * at.done / (plan.params.iterations * len(at.imputed))
    message = f"iteration {at.step[0] + 1}, {name}"
    key = key_of(f"cohortium missing.mice parameters {plan.params.seed}".encode())
    where = [(at.step[0] + 1, v, chain) for chain in range(m)]
    if method == "norm":
        products = np.asarray(total["products"])
        observed = int(at.counts[0] - at.missing[v])
        drawn = [_linear(products[k], observed, key, where[k], (plan, v)) for k in range(m)]
        return _onward(at, np.stack(drawn), at.last, plan, (progress, message))
    q = plan.drawn(v, method)
    beta = at.beta.reshape(m, q)
    steps, roots = np.zeros((m, q)), []
    settled = True
    for k in range(m):
        information = unpack(np.asarray(total["information"][k]), q)
        slope = np.asarray(total["gradient"][k])
        unit, root = _root(information, plan, v)
        half = np.linalg.solve(root, slope * unit)
        steps[k] = np.linalg.solve(root.T, half) * unit
        settled = settled and float(half @ half) <= _SETTLED
        steps[k] *= min(1.0, 5.0 / max(float(np.abs(steps[k]).max()), 1e-300))
        roots.append((unit, root))
    beta = beta + steps
    if at.newton >= MAX_NEWTON - 1 or np.abs(beta).max() > FARTHEST / 100:
        raise InputError(
            "no-convergence",
            f"{name} is predicted perfectly for some persons, so that it cannot be imputed by a "
            "logistic model. Leave a variable out, or merge levels.",
            variable=name,
        )
    if not settled:
        onward = at.but(beta=beta.ravel(), newton=at.newton + 1)
        return Continue(onward.to_state(), progress, message)
    index = np.arange(q)
    drawn = [
        beta[k] + np.linalg.solve(root.T, normals(key, index, where[k])) * unit
        for k, (unit, root) in enumerate(roots)
    ]
    last = at.last.copy()
    last[at.begins_at(plan, place)] = beta.ravel()
    return _onward(at, np.stack(drawn), last, plan, (progress, message))


def _onward(
    at: Progress, drawn: Floats, last: Floats, plan: Plan, said: tuple[float, str]
) -> Continue:
    drawn = np.clip(drawn, -FARTHEST, FARTHEST)
    all_drawn = np.concatenate([at.drawn, drawn.ravel()])
    onward = at.but(drawn=all_drawn, last=last, done=at.done + 1)
    return Continue(begin(onward, plan).to_state(), *said)


def _linear(
    packed: Floats, observed: int, key: Key, where: tuple[int, int, int], of: tuple[Plan, int]
) -> Floats:
    """Coefficients and sigma from their posterior under a flat prior (Rubin 1987, p. 167)."""
    from scipy import special

    plan, v = of
    p = len(plan.predictors(v))
    products = unpack(packed, p + 1)
    information, slope = products[:p, :p], products[:p, p]
    unit, root = _root(information, plan, v)
    beta = solve(information, slope)
    left = max(float(products[p, p] - slope @ beta), 0.0)
    share = float(uniforms(key, np.array([_SIGMA]), where)[0])
    chi2 = 2.0 * float(special.gammaincinv((observed - p) / 2, share))
    sigma = np.sqrt(left / chi2)
    noise = normals(key, np.arange(p), where)
    return np.append(beta + sigma * np.linalg.solve(root.T, noise) * unit, sigma)


def _root(information: Floats, plan: Plan, v: int) -> tuple[Floats, Floats]:
    """Cholesky of the information on unit diagonal: ``(unit, root)``.

    Raises:
        InputError: ``no-convergence`` for columns that follow from others.
    """
    bad = aliased(information, np.zeros(len(information)))
    if bad:
        predictors, owners = plan.predictors(v), []
        for at in bad:
            column = int(predictors[at % len(predictors)])
            owners += [
                plan.names[u]
                for u, where in enumerate(plan.columns)
                if where.start <= column < where.stop
            ]
        names = list(dict.fromkeys(owners))
        raise InputError(
            "no-convergence",
            f"{plan.names[v]} cannot be imputed: among those who have it, "
            f"{', '.join(names[:5]) or 'a variable'} follows from the other variables, or nobody "
            "has one of its levels. Leave it out.",
            terms=names[:50],
        )
    unit = 1.0 / np.sqrt(np.diag(information))
    return unit, np.asarray(np.linalg.cholesky(information * np.outer(unit, unit)))
