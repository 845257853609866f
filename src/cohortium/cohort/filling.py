"""Single imputation: one value stands for all that a variable lacks.

The value is in the signed request, so that every site computes with the same one and an ethics
board can read it. Who are given it enter a computation that would have left them out; whoever
compares both results has the difference: of as many persons as a site fills in, which is nobody or
`min_cell` and more. A value far from all others would mark them in whatever is computed, small
groups of them too, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.selection import Filled
from cohortium.core.table import Table
from cohortium.errors import InputError, PolicyRefusal

FARTHEST: Final = 4.0
"""Of a site's own standard deviations from its mean."""

_NUMBERS: Final = frozenset({VariableType.INTEGER, VariableType.REAL})


def column_value(filled: Filled, variables: Mapping[str, Variable]) -> float:
    """What stands in a column: the number itself, 0 or 1, or the code of a level.

    Raises:
        InputError: ``bad-criterion`` for a value that the variable cannot have.
    """
    variable = variables.get(filled.variable)
    if variable is None:
        raise InputError("bad-criterion", f"There is no variable {filled.variable} to fill.")
    value, kind = filled.value, variable.type
    if kind is VariableType.CATEGORY and value in (variable.levels or ()):
        return float((variable.levels or ()).index(str(value)))
    if kind is VariableType.BOOLEAN and isinstance(value, bool):
        return float(value)
    if kind in _NUMBERS and isinstance(value, float) and value == at_resolution(value, variable):
        return value
    raise InputError(
        "bad-criterion",
        f"{variable.name} is {kind} and cannot be filled with {str(value)[:80]!r}; take a level, "
        "true or false, or a number of as many decimals as it has.",
    )


def at_resolution(value: float, variable: Variable) -> float:
    """The nearest value to which a number is recorded."""
    if variable.type is VariableType.INTEGER:
        return float(round(value))
    return value if variable.decimals is None else round(value, variable.decimals)


def fill(table: Table, fills: Mapping[str, float], least: int) -> Table:
    """The table with a value in place of each missing one; see `Population.fill`.

    Raises:
        PolicyRefusal: ``not-permitted``.
    """
    columns = dict(table.columns)
    for name, value in fills.items():
        there = table.present(name)
        if not least <= len(there) - np.count_nonzero(there):
            continue
        if table.variable(name).type in _NUMBERS:
            _require_near(columns[name][there], value, name)
        column = columns[name].copy()
        column[~there] = value
        columns[name] = column
    return Table(table.variables, columns)


def _require_near(
    values: np.ndarray[tuple[int], np.dtype[np.float64]], value: float, name: str
) -> None:
    if not len(values):  # the sites that have some say it
        return
    if abs(value - values.mean()) <= FARTHEST * values.std() + 1e-9 * abs(value):
        return
    raise PolicyRefusal(
        "not-permitted",
        f"The value that would be filled in for {name} is far from those of a site, so that it "
        "would mark who lacks one. Fill in the joint mean or median, or a value near it.",
        variable=name,
    )


def filled_numbers(fills: Mapping[str, float], table: Table) -> tuple[str, ...]:
    """The numbers of a table that are filled."""
    return tuple(
        name
        for name in sorted(fills)
        if name in table.columns and table.variable(name).type in _NUMBERS
    )
