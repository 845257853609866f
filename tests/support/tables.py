"""Sites from tables of counts, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table

Counts = npt.NDArray[np.int64]


def category(name: str, *levels: str) -> Variable:
    """A category of these levels."""
    return Variable(name=name, type=VariableType.CATEGORY, levels=levels)


def persons(counts: Any, variables: Sequence[Variable], missing: int = 0) -> Table:
    """One person for each count of a table with an axis a variable; some without any value."""
    array = np.asarray(counts, dtype=np.int64)
    at = np.repeat(np.arange(array.size), array.ravel())
    columns: dict[str, Any] = {}
    for variable, codes in zip(variables, np.unravel_index(at, array.shape), strict=True):
        padded = np.concatenate([codes, np.full(missing, -1)])
        if variable.type is VariableType.BOOLEAN:
            columns[variable.name] = np.where(padded < 0, np.nan, padded).astype(np.float64)
        else:
            columns[variable.name] = padded.astype(np.int32)
    return Table({variable.name: variable for variable in variables}, columns)


def halves(counts: Any, variables: Sequence[Variable]) -> list[Table]:
    """Two sites that hold a table together, each about half of every cell."""
    array = np.asarray(counts, dtype=np.int64)
    return [persons(array // 2, variables), persons(array - array // 2, variables)]
