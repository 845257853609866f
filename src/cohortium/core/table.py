"""The in-memory table that an analysis sees at a site: typed columns, declared levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError

Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Table:
    """Persons in rows.

    Attributes:
        variables: The harmonised variables by name.
        columns: One array per variable, shape (n_rows,). integer, real, boolean (0/1), date (days
            since 1970-01-01) and datetime (seconds since) are float64 with NaN for missing; a
            category is int32 codes into ``levels`` with -1 for missing; text is an object array
            with None for missing.
    """

    variables: Mapping[str, Variable]
    columns: Mapping[str, Column]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.columns.values()}
        if set(self.variables) != set(self.columns) or len(lengths) > 1:
            raise RuntimeError("columns and variables do not belong together")

    @property
    def n_rows(self) -> int:
        """Persons."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def variable(self, name: str) -> Variable:
        """The variable's dictionary entry, or InputError."""
        if name not in self.variables:
            raise InputError("not-found", f"There is no variable {name!r} here.", variable=name)
        return self.variables[name]

    def present(self, name: str) -> npt.NDArray[np.bool_]:
        """Which persons have a value; shape (n_rows,)."""
        column = self.columns[self.variable(name).name]
        kind = self.variables[name].type
        if kind is VariableType.CATEGORY:
            return np.asarray(column >= 0)
        if kind is VariableType.TEXT:
            return np.array([value is not None for value in column], dtype=np.bool_)
        return ~np.isnan(column)

    def take(self, rows: npt.NDArray[np.bool_]) -> Table:
        """The persons for whom `rows` is true."""
        return Table(self.variables, {name: column[rows] for name, column in self.columns.items()})

    def select(self, names: tuple[str, ...]) -> Table:
        """Only these variables."""
        return Table(
            {name: self.variable(name) for name in names},
            {name: self.columns[name] for name in names},
        )
