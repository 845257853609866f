"""What `evaluate.model` asks before it counts scores: who would be singled out."""

from __future__ import annotations

import numpy as np

from cohortium.analysis.evaluate_model import Bound
from cohortium.analysis.formula import Parsed, design, values_of
from cohortium.analysis.glm_release import require_groups
from cohortium.analysis.glm_site import blocks, level_counts
from cohortium.analysis.interface import FieldSpec, Scope
from cohortium.analysis.marks import joint_counts, n_marks
from cohortium.core.rounds import Array, Layout, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import LEAST_SITES, is_small
from cohortium.errors import InputError, PolicyRefusal


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
        InputError: ``no-convergence`` where all have the same outcome.
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
