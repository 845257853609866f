"""Columns of a model that could single out persons: numbers made of others, and zeros and ones.

Where two columns of zeros and ones differ by one person, the difference of their coefficients is
about that person alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import Parsed, complete, design, values_of
from cohortium.analysis.least_squares import pack, unpack
from cohortium.core.rounds import Array
from cohortium.core.table import Table
from cohortium.disclosure.suppression import follows_from_mean, is_binary, nearly_equal

Floats = npt.NDArray[np.float64]


def numbers_made(table: Table, parsed: Parsed) -> list[Floats]:
    """Columns with an expression or a product of numbers, and an outcome with an expression; see
    `MakesNumbers`.
    """
    made = tuple(column for column in parsed.columns if column.makes_number)
    if not made and not parsed.response.makes_number:
        return []
    out = list(design(table, replace(parsed, columns=made))[0].T)
    if parsed.response.makes_number:
        out.append(values_of(parsed.response, table))
    rows = complete(table, parsed)
    return [np.where(rows, values, np.nan) for values in out]


def n_marks(parsed: Parsed) -> int:
    """How many columns, the outcome among them, may be of zeros and ones."""
    return len(parsed.marks) + parsed.response.may_mark


def joint_counts(x: Floats, y: Floats, parsed: Parsed) -> Array:
    """Of how many persons two columns are 1, for each pair of columns; the outcome comes last."""
    ones = x[:, parsed.marks] == 1
    if parsed.response.may_mark:
        ones = np.column_stack([ones, y == 1])
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
    names = [*parsed.names, parsed.response.text]
    means, mean_squares = (sums / n).tolist(), (squares / n).tolist()
    small = [
        column.name
        for column, mean, square in zip(parsed.columns, means, mean_squares, strict=False)
        if not column.is_cell and follows_from_mean(n, mean, square, min_cell)
    ]
    if small or joint is None:
        return small
    binary = np.array([is_binary(*pair) for pair in zip(means, mean_squares, strict=True)])
    at = [*parsed.marks, *([len(parsed.columns)] if parsed.response.may_mark else [])]
    both = unpack(np.asarray(joint, dtype=np.float64), len(at)).astype(np.int64)
    sizes = np.diag(both)
    first, second = sizes[:, None] - both, sizes[None, :] - both
    close = nearly_equal(np.stack([both, first, second, n - first - second - both]), min_cell)
    close &= np.outer(binary[at], binary[at])
    pairs = np.argwhere(np.triu(close, 1)).tolist()
    return [f"{names[at[i]]} but not {names[at[j]]}" for i, j in pairs]
