"""A data frame of the caller as a typed table, for predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.errors import InputError


def to_pandas(frame: Any) -> pd.DataFrame:
    """A pandas, polars or pyarrow frame (anything with ``to_pandas``) as pandas.

    Raises:
        InputError: ``bad-input`` for another type.
    """
    if isinstance(frame, pd.DataFrame):
        return frame
    if hasattr(frame, "to_arrow"):
        frame = frame.to_arrow()
    convert = getattr(frame, "to_pandas", None)
    made = convert() if callable(convert) else None
    if not isinstance(made, pd.DataFrame):
        raise InputError(
            "bad-input",
            f"A {type(frame).__name__} is not a data frame: give pandas, polars or pyarrow.",
        )
    return made


def frame_to_table(frame: Any, variables: Mapping[str, Variable]) -> tuple[Table, pd.Index[Any]]:
    """The named variables of a frame as a `Table`, and the frame's index.

    Raises:
        InputError: ``not-found`` for an absent column, ``bad-data`` for values of another type or a
            level that the contract does not declare.
    """
    data = to_pandas(frame)
    missing = [name for name in variables if name not in data.columns]
    if missing:
        raise InputError("not-found", f"The frame has no column {', '.join(missing)}.")
    columns = {name: _column(data[name], variable) for name, variable in variables.items()}
    return Table(dict(variables), columns), data.index


def _column(series: pd.Series[Any], variable: Variable) -> npt.NDArray[Any]:
    if variable.type is VariableType.CATEGORY:
        return _codes(series, variable)
    try:
        if variable.type is VariableType.DATE:
            return _since_epoch(series, "D")
        if variable.type is VariableType.DATETIME:
            return _since_epoch(series, "s")
        return np.asarray(pd.to_numeric(series), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(
            "bad-data", f"Column {variable.name} does not hold {variable.type} values."
        ) from error


def _since_epoch(series: pd.Series[Any], unit: str) -> npt.NDArray[np.float64]:
    moments = pd.to_datetime(series, utc=True).dt.tz_localize(None).to_numpy()
    seconds = moments.astype("datetime64[s]").astype(np.float64)
    seconds[np.isnat(moments)] = np.nan
    return np.floor(seconds / 86_400) if unit == "D" else seconds


def _codes(series: pd.Series[Any], variable: Variable) -> npt.NDArray[np.int32]:
    levels = {level: code for code, level in enumerate(variable.levels or ())}
    codes = np.full(len(series), -1, dtype=np.int32)
    for row, value in enumerate(series.tolist()):
        if value is None or value is pd.NaT or value is pd.NA or value != value:  # noqa: PLR0124
            continue
        code = levels.get(level_text(value))
        if code is None:
            raise InputError(
                "bad-data",
                f"Column {variable.name} has a value that is not one of its declared levels "
                f"({', '.join(levels)}).",
            )
        codes[row] = code
    return codes


def level_text(value: object) -> str:
    """How a level is written: a whole float (an integer column with gaps) as an integer."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
