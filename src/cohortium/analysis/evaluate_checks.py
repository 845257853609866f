"""Whom the columns of an evaluated model would single out.

A researcher chooses the coefficients, so that the score can be moved by any column alone. A column
that few persons have, or by whose values few persons are far from all others, is refused: what a
model with it has beside one without it would be about these.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from cohortium.analysis.evaluate_model import Bound, EvaluatedModel
from cohortium.analysis.formula import Parsed, design, values_of
from cohortium.analysis.glm_release import require_groups
from cohortium.analysis.glm_site import blocks, level_counts
from cohortium.analysis.interface import FieldSpec, Scope
from cohortium.analysis.marks import joint_counts, n_marks
from cohortium.analysis.untrusted import floats
from cohortium.core.rounds import Array, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import LEAST_SITES, is_small
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

MAX_SPREAD: Final = 6.0
_CONSTANT: Final = 1e-9


def fields(bound: Bound) -> Layout:
    """Persons by outcome and the sites that have such; and of each formula's columns the sums."""
    of: dict[str, FieldSpec] = {"classes": FieldSpec((2, 2), "count")}
    for at, parsed in bound.formulas:
        p, k = len(parsed.columns), n_marks(parsed)
        of[f"columns_{at}"] = FieldSpec((2, p + 1), "real")
        if parsed.levels:
            of[f"levels_{at}"] = FieldSpec((len(parsed.levels),), "count")
        if k > 1:
            of[f"marks_{at}"] = FieldSpec((k * (k + 1) // 2,), "count")
    return of


def contribute(out: dict[str, Array], table: Table, bound: Bound) -> None:
    """Fill the fields.

    Args:
        table: Of persons with an outcome and every score.
    """
    having = int(bound.outcome.codes(table).sum())
    both = np.array([table.n_rows - having, having], dtype=np.int64)
    out["classes"] += np.stack([both, np.minimum(both, 1)])
    for at, parsed in bound.formulas:
        for block in blocks(table.select(tuple(sorted(parsed.variables)))):
            x = np.column_stack([design(block, parsed)[0], values_of(parsed.response, block)])
            out[f"columns_{at}"] += np.stack([x.sum(axis=0), np.square(x).sum(axis=0)])
            if f"levels_{at}" in out:
                out[f"levels_{at}"] += level_counts(block, parsed)
            if f"marks_{at}" in out:
                out[f"marks_{at}"] += joint_counts(block, parsed)


def require(total: Total, n: int, bound: Bound, scope: Scope) -> None:
    """Refuse where few persons, or one institution, would be told of.

    Raises:
        PolicyRefusal: ``too-few-persons``, ``too-few-sites``.
        InputError: ``no-convergence`` where all have the same outcome; ``bad-input`` for log odds
            that are too steep.
    """
    least, name = scope.disclosure.min_cell, bound.outcome.variable.name
    persons, sites = np.asarray(total["classes"], dtype=np.int64)
    for count, where, has in zip(
        persons.tolist(), sites.tolist(), ("do not have", "have"), strict=True
    ):
        if is_small(count, least):
            raise PolicyRefusal(
                "too-few-persons", f"Fewer than {least} persons {has} the event of {name}."
            )
        if count == 0:
            raise InputError(
                "no-convergence",
                f"All persons are alike in {name}: there is nothing to predict.",
            )
        if where < LEAST_SITES:
            raise PolicyRefusal(
                "too-few-sites",
                f"Those who {has} the event of {name} are of one institution alone.",
            )
    for at, parsed in bound.formulas:
        _require_gentle(np.asarray(total["sums"])[0, at], n, bound.params.models[at])
        sums, squares = np.asarray(total[f"columns_{at}"], dtype=np.float64)
        require_groups(
            [cell for cell in _cells(total, at, parsed) if cell[1]],
            n,
            sums,
            squares,
            total.get(f"marks_{at}"),
            parsed=parsed,
            min_cell=least,
        )


def _require_gentle(sums: Array, n: int, model: EvaluatedModel) -> None:
    """Refuse log odds so steep that the probability is a step where the researcher likes.

    It is asked of the joint standard deviation and not of extremes, which would be found out.

    Raises:
        InputError: ``bad-input``.
    """
    mean, square = (float(one) / n for one in sums)
    if model.probability and square - mean * mean > MAX_SPREAD**2:
        raise InputError(
            "bad-input",
            f"The log odds of {model.name} have a standard deviation above {MAX_SPREAD:g}: check "
            "units and coefficients; a score that is no probability is evaluated with "
            "probability=False.",
            model=model.name,
        )


def _cells(total: Total, at: int, parsed: Parsed) -> list[tuple[str, int]]:
    """Persons at each level, and in each combination of levels that is a column."""
    counts = np.asarray(total.get(f"levels_{at}", np.empty(0, dtype=np.int64))).tolist()
    sums = np.asarray(total[f"columns_{at}"], dtype=np.float64)[0]
    levels = zip(parsed.levels, counts, strict=True)
    return [
        *((f"{factor.text}[{level}]", int(count)) for (factor, level), count in levels),
        *(
            (column.name, round(float(sums[j])))
            for j, column in enumerate(parsed.columns)
            if column.is_cell and len(column.parts) > 1
        ),
    ]


def centres(total: Total, n: int, bound: Bound) -> dict[str, Array]:
    """Mean and standard deviation of each column of each formula, for a state; 1 for no spread."""
    out: dict[str, Array] = {}
    for at, _ in bound.formulas:
        sums, squares = np.asarray(total[f"columns_{at}"], dtype=np.float64)[:, :-1]
        mean = sums / n
        spread = np.sqrt(np.maximum(squares / n - np.square(mean), 0.0))
        constant = spread <= 1e-7 * np.abs(mean)
        out[f"centre_{at}"] = np.stack([mean, np.where(constant | (spread == 0), 1.0, spread)])
    return out


def read_centres(state: State, bound: Bound) -> dict[str, Array]:
    """From an untrusted state.

    Raises:
        ProtocolError: ``malformed-message``.
    """
    found: dict[str, Array] = {}
    for at, parsed in bound.formulas:
        name = f"centre_{at}"
        found[name] = floats(state, name, (2, len(parsed.columns)))
        if not np.all(np.isfinite(found[name])) or np.any(found[name][1] <= 0):
            raise ProtocolError("malformed-message", "The state has no centres of columns.")
    return found


def distances(bound: Bound) -> Layout:
    """Sums of second and fourth powers of distances from the centres."""
    return {
        f"distances_{at}": FieldSpec((2, len(parsed.columns)), "real")
        for at, parsed in bound.formulas
    }


def contribute_distances(
    out: dict[str, Array], table: Table, bound: Bound, known: dict[str, Array]
) -> None:
    """Fill those fields; see `contribute`."""
    for at, parsed in bound.formulas:
        mean, spread = known[f"centre_{at}"]
        for block in blocks(table.select(tuple(sorted(parsed.variables)))):
            squares = np.square((design(block, parsed)[0] - mean) / spread)
            out[f"distances_{at}"] += np.stack(
                [squares.sum(axis=0), np.square(squares).sum(axis=0)]
            )


def require_many(total: Total, bound: Bound, scope: Scope) -> None:
    """Refuse columns that vary by few persons: by the sum of squared distances from the mean, it is
    as if fewer than `min_cell` were away from it.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    least = scope.disclosure.min_cell
    for at, parsed in bound.formulas:
        squares, fourth = np.asarray(total[f"distances_{at}"], dtype=np.float64)
        few = [
            name
            for name, two, four in zip(parsed.names, squares.tolist(), fourth.tolist(), strict=True)
            if two > _CONSTANT and two * two < least * (1 - 1e-9) * four
        ]
        if few:
            raise PolicyRefusal(
                "too-few-persons",
                f"Fewer than {least} persons make up nearly all of how {', '.join(few[:5])} varies "
                f"(in the model {bound.params.models[at].name}): the evaluation would tell of "
                "them. Use a logarithm, leave the term out, or leave the persons out with a "
                "criterion.",
                terms=few[:50],
            )
