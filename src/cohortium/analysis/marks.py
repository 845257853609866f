"""Columns of a model that could single out persons: numbers made of others, and zeros and ones.

Where two columns of zeros and ones differ by one person, the difference of their coefficients is
about that person alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.coding import Coded, Column
from cohortium.analysis.expression import parts_made
from cohortium.analysis.formula import Parsed, complete, design, values_of
from cohortium.analysis.least_squares import pack, unpack
from cohortium.core.rounds import Array
from cohortium.core.table import Table
from cohortium.disclosure.suppression import (
    follows_from_mean,
    is_small,
    is_two_valued,
    nearly_equal,
)

Floats = npt.NDArray[np.float64]

_ROUNDING: Final = 1e-9
_TINY: Final = 1e-300


def numbers_made(table: Table, parsed: Parsed) -> list[Floats]:
    """Columns with an expression or a product of numbers, an outcome with an expression, what they
    are made of, and what others leave of each; see `MakesNumbers`.

    What all others leave together shows one person where they nearly explain the column; where
    another is the same but for few persons, those are marked, and so is who is apart in a factor.
    """
    made = [at for at, column in enumerate(parsed.columns) if column.makes_number]
    outcome = parsed.response.makes_number
    if not made and not outcome:
        return []
    rows = complete(table, parsed)
    x = design(table, parsed)[0][rows]
    looked_at = [(x[:, at], np.delete(x, at, axis=1)) for at in made]
    if outcome:
        looked_at.append((values_of(parsed.response, table)[rows], x))
    out: list[Floats] = []
    columns = {name: table.columns[name][rows] for name in parsed.variables}
    for factor in _factors(parsed, made):
        out += parts_made(factor.node, columns)
    for values, others in looked_at:
        out += [values, _residual(values, others)]
        marked = (_differs(values, other) for other in others.T)
        out += [marks for marks in marked if marks.any()]
    return [_on_all(values, rows) for values in out]


def _factors(parsed: Parsed, made: list[int]) -> list[Coded]:
    """The numbers that the columns, and the outcome where it is an expression, are made of."""
    parts = [part for at in made for part in parsed.columns[at].parts]
    factors = [factor for factor, level in parts if level is None]
    if parsed.response.makes_number:
        factors.append(parsed.response)
    return list({factor.text: factor for factor in factors}.values())


def _residual(values: Floats, others: Floats) -> Floats:
    """What a constant and other columns leave of a column; 0 where that is rounding."""
    x = np.column_stack([np.ones(len(values)), others])
    x /= np.maximum(np.abs(x).max(axis=0, initial=0.0), _TINY)
    left = values - x @ np.linalg.lstsq(x, values, rcond=None)[0]
    rounding = _ROUNDING * np.abs(values).max(initial=0.0)
    return np.where(np.abs(left) > rounding, left, 0.0)


def differences(numbers: Sequence[Floats]) -> list[Floats]:
    """What numbers leave of one another, and who is apart from what one is of another for most.

    Args:
        numbers: Of the table's persons, shape (n_rows,); NaN where one has none.
    """
    out = []
    for first, second in itertools.combinations(numbers, 2):
        rows = np.isfinite(first) & np.isfinite(second)
        a, b = first[rows], second[rows]
        found = (_residual(a, b[:, None]), _residual(b, a[:, None]), _differs(a, b))
        out += [_on_all(one, rows) for one in found if one.any()]
    return out


def _differs(values: Floats, other: Floats) -> Floats:
    """1 for persons of whom one column is not what it is of most: a multiple of another."""
    if not len(values):
        return values
    one, another = values - np.median(values), other - np.median(other)
    there = (one != 0) & (another != 0)
    if not there.any():
        return np.zeros(len(values))
    left = one - np.median(one[there] / another[there]) * another
    differs = np.abs(left) > _ROUNDING * np.abs(one).max()
    return np.asarray(differs & (2 * np.count_nonzero(differs) < len(values)), dtype=np.float64)


def _on_all(values: Floats, rows: npt.NDArray[np.bool_]) -> Floats:
    out = np.full(len(rows), np.nan)
    out[rows] = values
    return out


@dataclass(frozen=True)
class Mark:
    """Persons whom a column tells from others.

    Attributes:
        column: Of zeros and ones.
        number: Its place in the model where it is a variable that may have other values too; an
            outcome that is one has the last.
        level: Of an outcome of more than two levels, which of them.
    """

    column: Column
    number: int | None
    level: int | None = None


def marks_of(parsed: Parsed) -> tuple[Mark, ...]:
    """The cells of categories, and variables that may be of zeros and ones; the outcome's last: its
    own, or those of its levels where they are more than two.
    """
    found: dict[tuple[tuple[str, int | None], ...], Mark] = {}
    for at, column in enumerate(parsed.columns):
        cells = tuple(part for part in column.parts if part[1] is not None)
        if cells or (len(column.parts) == 1 and not column.makes_number):
            parts = cells or column.parts
            key = tuple((factor.text, level) for factor, level in parts)
            found.setdefault(key, Mark(Column(column.name, parts), None if cells else at))
    outcome = parsed.response
    if outcome.makes_number:
        return tuple(found.values())
    if outcome.levels is not None and len(outcome.levels) > 2:
        of_levels = (
            Mark(Column(f"{outcome.text}[{level}]", ((outcome, at),)), None, at)
            for at, level in enumerate(outcome.levels)
        )
        return (*found.values(), *of_levels)
    return (*found.values(), Mark(Column(outcome.text, ((outcome, None),)), len(parsed.columns)))


def n_marks(parsed: Parsed) -> int:
    """How many of them there are."""
    return len(marks_of(parsed))


def joint_counts(table: Table, parsed: Parsed) -> Array:
    """Of how many persons two columns are 1, for each pair of `marks_of`.

    Args:
        table: Of persons with a value of every variable.
    """
    columns = tuple(mark.column for mark in marks_of(parsed) if mark.number != len(parsed.columns))
    ones = design(table, replace(parsed, columns=columns))[0] == 1
    if len(columns) < n_marks(parsed):
        ones = np.column_stack([ones, values_of(parsed.response, table) == 1])
    counts = ones.astype(np.float64)
    return pack(counts.T @ counts).astype(np.int64)


def singled_out(
    n: int,
    sums: Floats,
    squares: Floats,
    joint: Array | None,
    *,
    parsed: Parsed,
    min_cell: int,
) -> list[str]:
    """The columns of zeros and ones that tell of fewer than `min_cell` persons.

    Args:
        n: Persons.
        sums: Of each column's values; the outcome's come last.
        squares: Of their squares.
        joint: See `joint_counts`; None where there are not two such columns.
    """
    means, mean_squares = (sums / n).tolist(), (squares / n).tolist()
    small = [
        column.name
        for column, mean, square in zip(parsed.columns, means, mean_squares, strict=False)
        if not column.is_cell and follows_from_mean(n, mean, square, min_cell)
    ]
    if small or joint is None:
        return small
    marks = marks_of(parsed)
    binary = np.array(
        [m.number is None or is_two_valued(means[m.number], mean_squares[m.number]) for m in marks]
    )
    both = unpack(np.asarray(joint, dtype=np.float64), len(marks)).astype(np.int64)
    sizes = np.diag(both)
    rest = n - sizes
    few = binary & (sizes > 0) & (rest > 0) & (np.minimum(sizes, rest) < min_cell)
    if few.any():
        return [marks[i].column.name for i in np.flatnonzero(few).tolist()]
    first, second = sizes[:, None] - both, sizes[None, :] - both
    close = nearly_equal(np.stack([both, first, second, n - first - second - both]), min_cell)
    close &= np.outer(binary, binary)
    pairs = np.argwhere(np.triu(close, 1)).tolist()
    return [f"what {marks[i].column.name} and {marks[j].column.name} differ in" for i, j in pairs]


def few_in_table(
    n: int,
    sums: Floats,
    squares: Floats,
    joint: Array | None,
    *,
    parsed: Parsed,
    min_cell: int,
    linear: bool = False,
) -> list[str]:
    """Crossings of a category (or 0 and 1) that is the outcome with the columns that hold few
    persons, where their counts follow from the estimate: all columns mark groups.

    Args:
        n, sums, squares, joint: See `singled_out`; sums and squares with the outcome's.
        linear: Whether the outcome's sum over a column follows, whatever the other columns are: of
            least squares, and of Poisson models, from coefficients and their covariances.
    """
    if joint is None:
        return []
    marks, last = marks_of(parsed), len(parsed.columns)
    two = [
        is_two_valued(s / n, q / n) for s, q in zip(sums.tolist(), squares.tolist(), strict=True)
    ]
    groups = [column.is_cell or two[at] for at, column in enumerate(parsed.columns)]
    if not (linear or all(groups)):
        return []
    both = unpack(np.asarray(joint, dtype=np.float64), len(marks)).astype(np.int64)
    sizes = np.diag(both)
    is_outcome = [mark.level is not None or mark.number == last for mark in marks]
    others = [
        at
        for at, mark in enumerate(marks)
        if not is_outcome[at] and (mark.number is None or two[mark.number])
    ]
    small = []
    for at in np.flatnonzero(is_outcome).tolist():
        name = marks[at].column.name
        if marks[at].level is None and not two[last]:
            continue
        rows = [(name, int(sizes[at]), both[at])]
        if marks[at].level is None:
            rows.append((f"not {name}", n - int(sizes[at]), sizes - both[at]))
        for called, persons, row in rows:
            left: dict[str, int] = {}
            for other in others:
                column, count = marks[other].column, int(row[other])
                if is_small(count, min_cell):
                    small.append(f"{called} and {column.name}")
                if len(column.parts) == 1:
                    factor = column.parts[0][0].text
                    left[factor] = left.get(factor, persons) - count
            small += [
                f"{called} and the reference of {factor}"
                for factor, count in left.items()
                if is_small(count, min_cell)
            ]
    return small
