"""`glm`: generalised linear models over sites, by iteratively reweighted least squares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import StringConstraints

from cohortium.analysis.families import FAMILIES, Family
from cohortium.analysis.formula import (
    MAX_CHARACTERS,
    Parsed,
    complete,
    design,
    parse,
    values_of,
    variables_of,
)
from cohortium.analysis.glm_result import assemble
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.interface import Continue, Done, DropOuts, Params, Scope
from cohortium.analysis.least_squares import aliased, pack, solve, unpack
from cohortium.analysis.marks import joint_counts, numbers_made, singled_out
from cohortium.core.dictionary import VariableType
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import LEAST_SITES, is_small
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]

_TOLERANCE = 1e-8
"""R's ``glm.control(epsilon)``."""
_DECREMENT = 1e-16
"""Largest squared Newton step, in standard errors, from which the last step is taken."""
_NOISE = 1e-13
_MAX_ITERATIONS = 30
_MAX_HALVINGS = 15
_BLOCK = 2048


class GlmParams(Params):
    """The model.

    Attributes:
        formula: See `cohortium.analysis.formula`.
        family: With its canonical link: logit, identity, log.
    """

    formula: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    family: Literal["binomial", "gaussian", "poisson"] = "gaussian"


class Glm:
    """Generalised linear model of the pooled persons with a value of every variable.

    Maximum likelihood by Fisher scoring as in R's ``glm.fit``: the same start, and iterations until
    ``|change in deviance| / (|deviance| + 0.1) < 1e-8``; then one more Newton step from sums that
    are at hand, so that the estimate is exact to rounding. Columns are centred at the joint means
    on the way, so that badly scaled ones lose no digits. Standard errors from the expected
    information; Wald tests (t with n - p degrees of freedom for gaussian, else z).

    Leaves the site, summed under masks, over its complete persons (p columns), never for a person:
        round 1: persons, persons left out, whether the site contributes; with the floor ``site``
            also what follows, which with the floor ``total`` is the next round, once the joint
            number of persons is known to be enough;
        moments: the p column sums and sums of squares, those of the outcome, for poisson the sum of
            its log factorials, the persons at each level of each category, and the persons for whom
            two columns, or a column and the outcome, are 1;
        each iteration: the p (p + 1) / 2 entries of ``X'WX``, the p of ``X'(y - mean)``, the
            deviance.

    Refuses: a site with the floor ``site`` sends zeros where it has fewer than `min_cell` complete
    persons. PolicyRefusal ``too-few-persons`` where fewer are left jointly, where a level (or a
    combination of levels that is a column) has 1 to ``min_cell - 1`` of them, or as few have one of
    the values of a column of zeros and ones, or of two outcomes, or where two such columns (or one
    and the outcome) differ by as few; ``too-many-parameters`` where
    there are fewer than 10 persons for a parameter or residual degrees of freedom (or what the
    limits say). InputError ``no-convergence`` for columns that others determine and for separated
    outcomes, with their names; ``bad-input`` for an outcome that does not fit the family.

    Reference: McCullagh & Nelder 1989, ch. 2; Albert & Anderson 1984 (separation).
    """

    name: ClassVar[str] = "glm"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 3 + _MAX_ITERATIONS + _MAX_HALVINGS
    params_type = GlmParams

    def variables(self, params: GlmParams) -> frozenset[str]:
        """The names in the formula."""
        return variables_of(params.formula)

    def start(self, params: GlmParams, scope: Scope) -> State:
        """Begin with counts, and with moments where each site guards its own floor."""
        parsed = parse(params.formula, scope.variables)
        _check_response(parsed, scope, params.family)
        at_once = scope.disclosure.floor == "site"
        return Progress.nothing(parsed, "counts+moments" if at_once else "counts").to_state()

    def layout(self, state: State, params: GlmParams, scope: Scope) -> Layout:
        """See the class."""
        parsed = parse(params.formula, scope.variables)
        return Progress.from_state(state, parsed).layout(parsed)

    def local(self, table: Table, state: State, params: GlmParams, scope: Scope) -> Contribution:
        """See the class."""
        parsed = parse(params.formula, scope.variables)
        at = Progress.from_state(state, parsed)
        out: dict[str, Array] = {
            name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
            for name, spec in at.layout(parsed).items()
        }
        table = table.select(tuple(sorted(parsed.variables)))
        rows = complete(table, parsed)
        persons = int(np.count_nonzero(rows))
        floor = scope.disclosure.min_cell if scope.disclosure.floor == "site" else 1
        if persons < floor:
            return out
        if "persons" in out:
            out["persons"][:] = (persons, table.n_rows - persons, 1)
        if at.phase == "counts":
            return out
        family = FAMILIES[params.family]
        for block in _blocks(table if persons == table.n_rows else table.take(rows)):
            y = values_of(parsed.response, block)
            _check_outcome(y, parsed, family)
            x, _ = design(block, parsed)
            if "columns" in out:
                out["columns"] += x.sum(axis=0)
                out["squares"] += np.square(x).sum(axis=0)
                out["outcome"] += (y.sum(), family.saturated(y), np.square(y).sum())
                if "marks" in out:
                    out["marks"] += joint_counts(block, parsed)
                if "levels" in out:
                    out["levels"] += _level_counts(block, parsed)
            else:
                x -= at.centre
                _iterate(out, x, y - at.offset, at, family)
        return out

    def numbers_made(self, table: Table, params: GlmParams, scope: Scope) -> Iterator[Floats]:
        """Columns with an expression or a product of numbers, and an outcome with an expression."""
        return numbers_made(table, parse(params.formula, scope.variables))

    def column(self, field: str, index: int, params: GlmParams, scope: Scope) -> str:
        """The term, or the pair of terms, of a component; the outcome where it is of no term."""
        parsed = parse(params.formula, scope.variables)
        names = parsed.names
        if field in {"columns", "squares", "gradient"}:
            return names[index]
        if field == "information":
            pair = (names[int(axis[index])] for axis in np.triu_indices(len(names)))
            return " and ".join(dict.fromkeys(pair))
        return parsed.response.text

    def finish(
        self, total: Total, state: State, params: GlmParams, scope: Scope
    ) -> Continue | Done:
        """Check what must be enough, then take a step."""
        parsed = parse(params.formula, scope.variables)
        at = Progress.from_state(state, parsed)
        if "persons" in total:
            at = _release_counts(at, total, parsed, scope)
            if at.phase == "counts":
                return Continue(at.but(phase="moments").to_state(), 0.1, "counts")
        if at.phase in {"moments", "counts+moments"}:
            at = _release_moments(at, total, parsed, scope, FAMILIES[params.family])
            return Continue(at.but(phase="start").to_state(), 0.2, "column means")
        information = unpack(np.asarray(total["information"]), len(parsed.names))
        gradient = np.asarray(total["gradient"])
        deviance = float(total["deviance"][0])
        if at.phase == "start":
            at = _first_step(at, information, gradient, deviance, parsed)
            return Continue(at.but(phase="fit").to_state(), 0.3, "iteration 1")
        return _next_step(
            at, information, gradient, deviance, parsed=parsed, params=params, scope=scope
        )


def _check_response(parsed: Parsed, scope: Scope, family: str) -> None:
    response = parsed.response
    names = sorted(response.names)
    if family == "gaussian":
        if response.levels is not None:
            raise InputError("bad-input", f"{names[0]} is a category; a gaussian needs a number.")
        return
    if response.text != names[0]:
        raise InputError(
            "bad-input", f"The outcome of a {family} model is a variable, not {response.text}."
        )
    variable = scope.variable(names[0])
    if family == "binomial":
        if response.levels is not None and len(response.levels) == 2:
            return
        if variable.type in {VariableType.INTEGER, VariableType.BOOLEAN}:
            return
        raise InputError(
            "bad-input",
            f"{variable.name} is {variable.type}; a binomial outcome is an integer of 0 and 1, "
            "a boolean, or a category of two levels, the second being the event.",
        )
    if variable.type is not VariableType.INTEGER and variable.type is not VariableType.BOOLEAN:
        raise InputError("bad-input", f"{variable.name} is {variable.type}; a count is an integer.")


def _check_outcome(y: Floats, parsed: Parsed, family: Family) -> None:
    """At a site: says which variable is wrong, and no value."""
    name = parsed.response.text
    if family.name == "binomial" and not np.all((y == 0) | (y == 1)):
        raise InputError(
            "bad-input", f"{name} has values other than 0 and 1 at a site.", variable=name
        )
    if family.name == "poisson" and np.any(y < 0):
        raise InputError("bad-input", f"{name} has negative values at a site.", variable=name)


def _blocks(table: Table) -> Iterator[Table]:
    """Parts that stay in the processor's cache, and that no BLAS splits over threads."""
    for begin in range(0, table.n_rows, _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        yield Table(table.variables, {name: c[rows] for name, c in table.columns.items()})


def _level_counts(table: Table, parsed: Parsed) -> Array:
    counts = []
    for factor in parsed.categories:
        codes = values_of(factor, table).astype(np.int64)
        counts.append(np.bincount(codes, minlength=len(factor.levels or ())))
    return np.concatenate(counts)


def _iterate(out: dict[str, Array], x: Floats, y: Floats, at: Progress, family: Family) -> None:
    """Add the weighted sums at the present coefficients, or at R's start."""
    with np.errstate(over="ignore", invalid="ignore"):
        if at.phase == "start":
            eta = family.start(y)
            weight = family.weight(eta)
            gradient = x.T @ (weight * eta + (y - family.mean(eta)))
            deviance = family.deviance(y, np.full_like(y, at.null_eta))
        else:
            eta = x @ at.beta
            weight = family.weight(eta)
            gradient = x.T @ (y - family.mean(eta))
            deviance = family.deviance(y, eta)
        out["information"] += pack((x * weight[:, None]).T @ x)
    out["gradient"] += gradient
    out["deviance"] += deviance


def _release_counts(at: Progress, total: Total, parsed: Parsed, scope: Scope) -> Progress:
    n, missing, sites = (int(count) for count in total["persons"])
    limits, p = scope.disclosure, len(parsed.names)
    if n < limits.cohort:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {limits.cohort} persons have a value of every variable of the formula.",
        )
    if sites < LEAST_SITES:
        raise PolicyRefusal(
            "too-few-sites",
            "Only one institution has persons with a value of every variable of the formula; a "
            "joint model needs two.",
        )
    if p * limits.per_parameter > n or n - p < limits.df:
        raise PolicyRefusal(
            "too-many-parameters",
            f"The model has {p} parameters for {n} persons"
            + (
                ": it is saturated."
                if p >= n
                else f"; each needs {limits.per_parameter} persons, and {limits.df} residual "
                "degrees of freedom must be left."
            ),
            parameters=p,
            persons=n,
        )
    return at.but(counts=np.array([n, missing, sites], dtype=np.int64))


def _release_moments(
    at: Progress, total: Total, parsed: Parsed, scope: Scope, family: Family
) -> Progress:
    n, min_cell = int(at.counts[0]), scope.disclosure.min_cell
    sums = np.asarray(total["columns"], dtype=np.float64)
    outcome, saturated, outcome_squares = (float(value) for value in total["outcome"])
    cells = [
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
    if family.name == "binomial":
        cells += [
            (f"{parsed.response.text} = {y}", c) for y, c in enumerate((n - outcome, outcome))
        ]
    small = [name for name, count in cells if is_small(round(count), min_cell)]
    small = small or singled_out(
        n,
        np.append(sums, outcome),
        np.append(total["squares"], outcome_squares),
        total.get("marks"),
        parsed=parsed,
        min_cell=min_cell,
    )
    if small:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {min_cell} persons are in: {', '.join(small[:5])}. Merge or leave out.",
            cells=small[:50],
        )
    empty = [name for name, count in cells if round(count) == 0]
    if empty or (family.name == "poisson" and outcome == 0):
        raise InputError(
            "no-convergence",
            f"Nobody is in: {', '.join(empty[:5]) or parsed.response.text + ' > 0'}. "
            "Its coefficient cannot be estimated: leave the variable out, or propose a study whose "
            "levels leave this one out.",
            cells=empty[:50],
        )
    centred = parsed.intercept
    centre = np.where(np.arange(len(sums)) > 0, sums / n, 0.0) if centred else np.zeros_like(sums)
    shift = outcome / n if centred and family.free_scale else 0.0
    null_eta = family.predictor(outcome / n) - shift if centred else 0.0
    return at.but(centre=centre, scalars=np.array([shift, null_eta, saturated, 0.0, 0.0]))


def _first_step(
    at: Progress, information: Floats, gradient: Floats, null_deviance: float, parsed: Parsed
) -> Progress:
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
    return at.but(beta=beta, previous=np.zeros_like(beta), spread=spread, scalars=scalars, step=1)


def _next_step(
    at: Progress,
    information: Floats,
    gradient: Floats,
    deviance: float,
    *,
    parsed: Parsed,
    params: GlmParams,
    scope: Scope,
) -> Continue | Done:
    family = FAMILIES[params.family]
    n, p = int(at.counts[0]), len(parsed.names)
    change = deviance - at.deviance
    if at.step > 1 and change > _TOLERANCE * (abs(at.deviance) + 0.1):
        if at.halvings >= _MAX_HALVINGS:
            raise InputError(
                "no-convergence", "The deviance does not decrease; simplify the model."
            )
        back = at.but(beta=(at.beta + at.previous) / 2, halvings=at.halvings + 1)
        return Continue(back.to_state(), 0.5, f"iteration {at.step}, half a step")
    if family.name == "binomial" and deviance < 1e-6 * at.null_deviance:
        raise _separated(parsed, at.beta * at.spread)
    try:
        newton = solve(information, gradient)
    except np.linalg.LinAlgError:
        raise _separated(parsed, at.beta * at.spread) from None
    scale = deviance / (n - p) if family.free_scale else 1.0
    decrement = float(gradient @ newton)
    converged = at.converged
    if not converged and at.step > 1 and abs(change) / (abs(deviance) + 0.1) < _TOLERANCE:
        converged = at.step
    smallest = max(scale, 1e-20 * at.null_deviance / n)
    exact = decrement <= _DECREMENT * smallest
    patient = converged and at.step >= converged + 2
    if exact or (patient and (family.free_scale or decrement <= _NOISE)):
        beta = at.beta + newton
        final = at.but(beta=beta, step=converged or at.step + 1)
        return Done(
            assemble(
                final,
                information,
                deviance,
                parsed=parsed,
                formula=params.formula,
                family=family,
                scope=scope,
            )
        )
    if patient or at.step >= _MAX_ITERATIONS:
        raise _separated(parsed, newton * at.spread)
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


def _separated(parsed: Parsed, moves: Floats) -> InputError:
    """Name the terms whose coefficients run away, in units of their columns' spread."""
    moved = np.abs(moves)
    if parsed.intercept and len(moved) > 1:
        moved[0] = 0.0
    names = [parsed.names[j] for j in np.flatnonzero(moved > 0.1 * moved.max(initial=0.0))]
    details: dict[str, Any] = {"terms": names[:50]}
    return InputError(
        "no-convergence",
        f"The outcome is separated: {', '.join(names[:5]) or 'the model'} predicts it perfectly "
        "for some persons, so that no finite estimate exists. Merge levels or leave the term out.",
        **details,
    )
