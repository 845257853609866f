"""Tables for tests."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table


def table_of(variables: Sequence[Variable], columns: Mapping[str, Sequence[Any]]) -> Table:
    """A table from plain values; None is missing, categories are given by level."""
    out = {}
    for variable in variables:
        values = list(columns[variable.name])
        if variable.type is VariableType.CATEGORY:
            at = {level: code for code, level in enumerate(variable.levels or ())}
            out[variable.name] = np.array(
                [-1 if value is None else at[value] for value in values], dtype=np.int32
            )
        else:
            out[variable.name] = np.array(
                [np.nan if value is None else float(value) for value in values], dtype=np.float64
            )
    return Table({variable.name: variable for variable in variables}, out)


def pooled(tables: Sequence[Table]) -> Table:
    """All persons in one table."""
    first = tables[0]
    return Table(
        first.variables,
        {name: np.concatenate([t.columns[name] for t in tables]) for name in first.columns},
    )


def split(table: Table, sizes: Sequence[int]) -> list[Table]:
    """Consecutive parts of a table."""
    edges = np.cumsum([0, *sizes])
    rows = np.arange(table.n_rows)
    return [table.take((rows >= a) & (rows < b)) for a, b in itertools.pairwise(edges)]


CNSIM_VARIABLES = (
    *(
        Variable(name=name, type=VariableType.REAL, decimals=4)
        for name in ("LAB_TSC", "LAB_TRIG", "LAB_HDL", "LAB_GLUC_ADJUSTED", "PM_BMI_CONTINUOUS")
    ),
    *(Variable(name=name, type=VariableType.INTEGER) for name in ("DIS_DIAB", "DIS_CVA")),
    Variable(name="GENDER", type=VariableType.INTEGER),
    Variable(name="PM_BMI_CATEGORICAL", type=VariableType.CATEGORY, levels=("1", "2", "3")),
)


def cnsim(folder: Path) -> list[Table]:
    """The three simulated cohorts of DataSHIELD's CNSIM, one table per file."""
    tables = []
    for path in sorted(folder.glob("CNSIM*.csv")):
        frame = pd.read_csv(path)
        frame.columns = pd.Index([str(name).strip() for name in frame.columns])
        columns = {
            v.name: [
                None
                if pd.isna(value)
                else str(int(value))
                if v.type is VariableType.CATEGORY
                else float(value)
                for value in frame[v.name]
            ]
            for v in CNSIM_VARIABLES
        }
        tables.append(table_of(CNSIM_VARIABLES, columns))
    return tables
