"""A dataset's stored column as the study's variable: numpy arrays of `cohortium.core.table`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cohortium.core.dictionary import NUMERIC, Variable, VariableType
from cohortium.core.table import Column
from cohortium.errors import InputError
from cohortium.node.columns import to_numpy

_SECONDS_PER_DAY = 86_400.0
_MICROSECONDS = 1e6


def harmonised(column: pa.ChunkedArray, have: Variable, want: Variable) -> Column:
    """The stored column `have` as the study's variable `want`.

    integer, real and boolean become one another where no value changes; whole numbers and booleans
    become a category by their text (``0``, ``1``; ``false``, ``true``); a category of numbers
    becomes a number; a date becomes a datetime at midnight and back where all are at midnight.

    Raises:
        InputError: ``bad-data``: the types do not fit, or a value is not among the study's levels.
    """
    if want.type is VariableType.TEXT:
        if have.type is not VariableType.TEXT:
            raise _misfit(have, want)
        return _text(column)
    if want.type is VariableType.CATEGORY:
        return _codes(column, have, want)
    if have.type is VariableType.CATEGORY:
        return _fitting(_level_numbers(column, have, want), have, want)
    if have.type in NUMERIC and want.type in NUMERIC:
        return _fitting(_floats(column), have, want)
    times = {VariableType.DATE, VariableType.DATETIME}
    if have.type in times and want.type in times:
        return _times(column, have, want)
    raise _misfit(have, want)


def _misfit(have: Variable, want: Variable) -> InputError:
    return InputError(
        "bad-data",
        f"The dataset's {have.name!r} is {have.type.value}; "
        f"it cannot serve as the study's {want.name!r}, which is {want.type.value}.",
        variable=want.name,
    )


def _floats(column: Any) -> npt.NDArray[np.float64]:
    return _joined(column.cast(pa.float64()), np.float64, np.nan)


def _joined(column: Any, dtype: type[Any], missing: float) -> npt.NDArray[Any]:
    """All chunks as one array of our own, with `missing` for nulls."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return np.concatenate([np.empty(0, dtype), *(to_numpy(chunk, missing) for chunk in chunks)])


def _fitting(
    values: npt.NDArray[np.float64], have: Variable, want: Variable
) -> npt.NDArray[np.float64]:
    order = [VariableType.BOOLEAN, VariableType.INTEGER, VariableType.REAL]
    widening = have.type in order and order.index(have.type) <= order.index(want.type)
    if widening or want.type is VariableType.REAL:
        return values
    present = values[~np.isnan(values)]
    if want.type is VariableType.INTEGER:
        fits = bool((np.rint(present) == present).all())
    elif want.type is VariableType.BOOLEAN:
        fits = bool(((present == 0) | (present == 1)).all())
    else:
        fits = False
    if not fits:
        raise _misfit(have, want)
    return values


def _level_numbers(
    column: pa.ChunkedArray, have: Variable, want: Variable
) -> npt.NDArray[np.float64]:
    try:
        numbers = [float(level) for level in have.levels or ()]
    except ValueError as error:
        raise _misfit(have, want) from error
    codes = _int_codes(column)
    return np.append(np.array(numbers), np.nan)[codes]  # -1 picks the NaN


def _int_codes(column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    return _joined(column, np.int32, -1)


def _codes(column: pa.ChunkedArray, have: Variable, want: Variable) -> npt.NDArray[np.int32]:
    levels = want.levels or ()
    if have.type is VariableType.CATEGORY:
        codes = _int_codes(column)
        if have.levels == levels:
            return codes
        place = {level: code for code, level in enumerate(levels)}
        translated = np.array([place.get(level, -2) for level in have.levels or ()] + [-1])
        out = translated[codes].astype(np.int32)
    elif have.type in {VariableType.INTEGER, VariableType.BOOLEAN}:
        text = column.cast(pa.string())
        found = pc.index_in(text, value_set=pa.array(levels, pa.string()))
        unknown = pc.and_(text.is_valid(), pc.is_null(found))
        out = _int_codes(pc.if_else(unknown, pa.scalar(-2, pa.int32()), found))
    else:
        raise _misfit(have, want)
    if bool((out == -2).any()):
        raise InputError(
            "bad-data",
            f"The dataset's {have.name!r} holds values that the study's {want.name!r} does not "
            "declare among its levels.",
            variable=want.name,
        )
    return out


def _times(column: pa.ChunkedArray, have: Variable, want: Variable) -> npt.NDArray[np.float64]:
    if have.type is VariableType.DATE:
        days = _floats(column.cast(pa.int32()))
        return days if want.type is VariableType.DATE else days * _SECONDS_PER_DAY
    seconds = _floats(column.cast(pa.int64())) / _MICROSECONDS
    if want.type is VariableType.DATETIME:
        return seconds
    days = seconds / _SECONDS_PER_DAY
    present = days[~np.isnan(days)]
    if not bool((np.floor(present) == present).all()):
        raise _misfit(have, want)
    return days


def _text(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    out = np.empty(len(column), dtype=object)
    out[:] = column.to_pylist()
    return out
