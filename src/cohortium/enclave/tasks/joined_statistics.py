"""Statistics over the joined table: describe, correlation, crosstab.

Inputs: one table or more, of any names. Output: ``statistics`` (statistics.json). Arguments: `id`,
`repeated`, `missing`, `min_cell`; `describe` and `correlation`, names of columns of numbers such as
``left.age,right.income``; `crosstab`, two columns; any may be empty.

What the output tells: of each described column how many values there are, how many are missing,
mean, standard deviation and quartiles; Pearson correlations over the rows without a missing value;
the crosstab's cells. Nothing rests on fewer than `min_cell` rows: quartiles have as many on either
side, a column of two values has as many of each, and cells that are smaller are withheld, with so
many others that no total of a row, column or table shows them. The least and greatest value are
never given. A quartile is a value of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from .call import Call, Refused
from .tables import Array, joined, numbers, require_columns, require_rows, shown

_MOST_LEVELS: Final = 100
_QUARTILES: Final = (0.25, 0.5, 0.75)


def describe(frame: pd.DataFrame, column: str, min_cell: int) -> dict[str, Any]:
    """One column's numbers; those that rest on too few are None."""
    values = numbers(frame, [column])[:, 0]
    missing = int(np.isnan(values).sum())
    values = values[~np.isnan(values)]
    n = len(values)
    require_rows(n, min_cell, f"values of {column}")
    few = shown(missing, min_cell) is None
    out: dict[str, Any] = {"column": column, "n": None if few else n}
    out["missing"] = None if few else missing
    distinct, sizes = np.unique(values, return_counts=True)
    if len(distinct) == 2 and sizes.min() < min_cell:
        return out | {"mean": None, "sd": None, "q25": None, "median": None, "q75": None}
    out["mean"] = float(values.mean())
    out["sd"] = float(values.std(ddof=1)) if n > 1 else None
    for q, name in zip(_QUARTILES, ("q25", "median", "q75"), strict=True):
        enough = min(q, 1 - q) * n >= min_cell
        out[name] = float(np.quantile(values, q)) if enough else None
    return out


def correlation(frame: pd.DataFrame, columns: Sequence[str], min_cell: int) -> dict[str, Any]:
    """Pearson's, over the rows without a missing value."""
    if len(columns) < 2:
        raise Refused("A correlation needs two columns or more.")
    values = numbers(frame, columns)
    values = values[~np.isnan(values).any(axis=1)]
    require_rows(len(values), max(min_cell, 3), "rows without a missing value")
    require_spread(values, columns, min_cell)
    r = np.corrcoef(values, rowvar=False)
    return {"columns": list(columns), "r": [[float(one) for one in line] for line in r]}


def require_spread(values: Array, columns: Sequence[str], min_cell: int) -> None:
    """Refuse a constant column, and one of two values of which one is too rare."""
    for name, column in zip(columns, values.T, strict=True):
        distinct, sizes = np.unique(column, return_counts=True)
        if len(distinct) < 2:
            raise Refused(f"{name} has one value only.")
        if len(distinct) == 2 and sizes.min() < min_cell:
            raise Refused(f"{name} has a value of fewer than {min_cell} rows (min_cell).")


def crosstab(frame: pd.DataFrame, columns: Sequence[str], min_cell: int) -> dict[str, Any]:
    """Rows by two columns; cells that are withheld are None."""
    if len(columns) != 2:
        raise Refused("A crosstab has two columns.")
    require_columns(frame, columns)
    kept = frame[list(columns)].dropna()
    require_rows(len(kept), min_cell, "rows without a missing value")
    one, other = (kept[name].astype(str) for name in columns)
    if max(one.nunique(), other.nunique()) > _MOST_LEVELS:
        raise Refused(f"A crosstab's column has {_MOST_LEVELS} values at most.")
    table = pd.crosstab(one.to_numpy(dtype=object), other.to_numpy(dtype=object))
    cells = table.to_numpy(dtype=np.int64)
    given = ~withheld(cells, min_cell)
    return {
        "columns": list(columns),
        "rows": [str(label) for label in table.index],
        "across": [str(label) for label in table.columns],
        "cells": [
            [int(cell) if seen else None for cell, seen in zip(line, row, strict=True)]
            for line, row in zip(cells, given, strict=True)
        ],
        "cells_withheld": int((~given).sum()),
    }


def withheld(cells: Array, min_cell: int) -> Array:
    """Which cells are: the small ones, and in each line so many that their sum is not small.

    A line is a row or a column: whoever knows its total then learns `min_cell` or more persons
    over two cells or more, not one small cell.
    """
    hidden = (cells > 0) & (cells < min_cell)
    while any([_thickened(cells, hidden, min_cell), _thickened(cells.T, hidden.T, min_cell)]):
        pass
    return hidden


def _thickened(cells: Array, hidden: Array, min_cell: int) -> bool:
    """Hide one more cell in each row that hides too little; whether there was one."""
    changed = False
    for own, gone in zip(cells, hidden, strict=True):
        enough = gone.sum() > 1 and own[gone].sum() >= min_cell
        if enough or gone.all() or not gone.any():
            continue
        seen = np.flatnonzero(~gone)
        # First in a column that hides something already, so that few more follow.
        order = np.lexsort((own[seen], np.logical_not(hidden.any(axis=0))[seen]))
        gone[seen[order[0]]] = True
        changed = True
    return changed


def run(call: Call) -> None:
    """Write the output."""
    frame, min_cell = joined(call).frame, call.min_cell
    require_rows(len(frame), min_cell)
    described, correlated = call.names("describe"), call.names("correlation")
    crossed = call.names("crosstab")
    if not (described or correlated or crossed):
        raise Refused("Name columns to describe, correlation or crosstab.")
    call.write(
        "statistics",
        "statistics.json",
        {
            "min_cell": min_cell,
            "describe": [describe(frame, name, min_cell) for name in described],
            "correlation": correlation(frame, correlated, min_cell) if correlated else None,
            "crosstab": crosstab(frame, crossed, min_cell) if crossed else None,
        },
    )
