"""What `glm` checks before it goes on, and before it releases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import Parsed
from cohortium.analysis.glm_model import SITES_TO_CLUSTER, Model
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.interface import Scope, Total
from cohortium.analysis.marks import few_in_table, singled_out
from cohortium.core.rounds import Array
from cohortium.disclosure.suppression import is_small
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]


def release_counts(
    at: Progress, total: Total, model: Model, scope: Scope, *, more: int = 0
) -> Progress:
    """Refuse too few persons and sites, and too many parameters.

    Args:
        more: Parameters beside the columns'.

    Raises:
        PolicyRefusal: ``too-few-persons``, ``too-few-sites``, ``too-many-parameters``.
    """
    persons = np.asarray(total["persons"], dtype=np.int64)
    require_persons(persons, len(model.parsed.names) + more, scope)
    if model.params.errors == "site":
        require_clusters(int(persons[2]))
    return at.but(counts=persons)


def require_persons(persons: npt.NDArray[np.int64], p: int, scope: Scope) -> None:
    """Refuse too few persons and sites, and too many parameters.

    Args:
        persons: int64, shape (3,); complete persons, persons left out, sites with any.
        p: Parameters.

    Raises:
        PolicyRefusal: ``too-few-persons``, ``too-few-sites``, ``too-many-parameters``.
    """
    n, _, sites = persons.tolist()
    limits = scope.disclosure
    if n < limits.cohort:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {limits.cohort} persons have a value of every variable of the formula.",
        )
    if sites < scope.least_sites:
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


def release_moments(at: Progress, total: Total, model: Model, scope: Scope) -> Progress:
    """Refuse groups of few persons, and find where columns and outcome are centred.

    Raises:
        PolicyRefusal: ``too-few-persons``.
        InputError: ``no-convergence`` for a group of nobody.
    """
    parsed, family = model.parsed, model.family
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
            (f"{parsed.response.text} = {y}", round(c))
            for y, c in enumerate((n - outcome, outcome))
        ]
    if model.params.weights is not None:
        once = int(total["once"][0])
        name = model.params.weights
        cells += [(f"{name} = 1", once or n), (f"{name} > 1", n - once or n)]
    require_groups(
        cells,
        n,
        np.append(sums, outcome),
        np.append(total["squares"], outcome_squares),
        total.get("marks"),
        parsed=parsed,
        min_cell=min_cell,
    )
    if family.name == "poisson" and outcome == 0:
        raise _nobody([f"{parsed.response.text} > 0"])
    centred = parsed.intercept
    centre = np.where(np.arange(len(sums)) > 0, sums / n, 0.0) if centred else np.zeros_like(sums)
    weighed = np.asarray(total.get("weighed", (n, outcome, 0.0, 0.0, 0.0)), dtype=np.float64)
    shift, null_eta = _null(weighed, model) if centred else (0.0, 0.0)
    scalars = np.array([shift, null_eta, saturated, 0.0, 0.0, weighed[0], 0.0, 0.0])
    return at.but(centre=centre, scalars=scalars)


def require_groups(
    cells: Sequence[tuple[str, int]],
    n: int,
    sums: Floats,
    squares: Floats,
    joint: Array | None,
    *,
    parsed: Parsed,
    min_cell: int,
) -> None:
    """Refuse groups of few persons, of nobody, and columns that few persons tell apart.

    Args:
        cells: Groups of persons: names and counts.
        n, sums, squares, joint: See `marks.singled_out`.

    Raises:
        PolicyRefusal: ``too-few-persons``.
        InputError: ``no-convergence`` for a group of nobody.
    """
    small = [name for name, count in cells if is_small(count, min_cell)]
    small = small or singled_out(n, sums, squares, joint, parsed=parsed, min_cell=min_cell)
    if small:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {min_cell} persons are in: {', '.join(small[:5])}. Merge or leave out.",
            cells=small[:50],
        )
    empty = [name for name, count in cells if count == 0]
    if empty:
        raise _nobody(empty)


def require_cells(total: Total, n: int, model: Model, scope: Scope) -> None:
    """Refuse a model from which small cells of the outcome and a group follow.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    if model.family.name not in {"binomial", "gaussian", "poisson"}:
        return
    sums, squares = (float(value) for value in np.asarray(total["outcome"])[[0, 2]])
    require_table(
        n,
        np.append(total["columns"], sums),
        np.append(total["squares"], squares),
        total.get("marks"),
        parsed=model.parsed,
        min_cell=scope.disclosure.min_cell,
        linear=model.family.name != "binomial",
    )


def require_table(
    n: int,
    sums: Floats,
    squares: Floats,
    joint: Array | None,
    *,
    parsed: Parsed,
    min_cell: int,
    linear: bool = False,
) -> None:
    """Refuse a model that is a table with small cells: see `marks.few_in_table`.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    small = few_in_table(n, sums, squares, joint, parsed=parsed, min_cell=min_cell, linear=linear)
    if small:
        why = (
            "How many persons of a group have the outcome follows from this model"
            if linear
            else "The model has no column but of groups, so that its coefficients are a table"
        )
        raise PolicyRefusal(
            "too-few-persons",
            f"{why}, and fewer than {min_cell} persons are in: {', '.join(small[:5])}. "
            "Merge levels.",
            cells=small[:50],
        )


def _nobody(cells: list[str]) -> InputError:
    return InputError(
        "no-convergence",
        f"Nobody is in: {', '.join(cells[:5])}. Its coefficient cannot be estimated: leave the "
        "variable out, or derive one, or propose a study, whose levels leave this one out.",
        cells=cells[:50],
    )


def _null(weighed: Floats, model: Model) -> tuple[float, float]:
    """What is subtracted from the outcome, and the null model's linear predictor without offset.

    With the links logit and inverse and an offset it is only near that.
    """
    times, outcome, offset, exposure, rate = weighed.tolist()
    family = model.family
    if family.link == "identity":
        return (outcome - offset) / times, 0.0
    if model.params.offset is None:
        return 0.0, family.predictor(outcome / times)
    if family.link != "log":
        return 0.0, family.predictor(outcome / times) - offset / times
    return 0.0, math.log(rate / times if family.name == "gamma" else outcome / exposure)


def require_clusters(sites: int) -> None:
    """Refuse standard errors by site of few sites.

    Raises:
        PolicyRefusal: ``too-few-sites``.
    """
    if sites < SITES_TO_CLUSTER:
        raise PolicyRefusal(
            "too-few-sites",
            f"Standard errors clustered by institution need {SITES_TO_CLUSTER} that have persons; "
            "of fewer, each could work out the others' sums. Use errors='HC1'.",
        )


def require_spread(working: Floats, scope: Scope) -> None:
    """Refuse a fit that rests on few persons, since offset or weights leave the others no weight.

    Args:
        working: Sum of the working weights, and of their squares.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    least = scope.disclosure.cohort
    if working[0] ** 2 < least * working[1]:
        raise PolicyRefusal(
            "too-few-persons",
            f"With this offset or these weights the model rests on fewer than {least} persons.",
        )
