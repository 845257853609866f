"""Arrow columns in the forms they pass through: as the source gives them, as text, as typed.

Only numpy and pyarrow are imported here. Messages name rows and counts, never values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError

MISSING_MARKERS = frozenset({"", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "?", "."})
"""Texts that mean "no value", in every source."""

EXACT = 2**53
"""Integers below are exact in float64, which is what analyses see."""

REAL = r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"
DATE = r"^\d{4}[-/]\d{1,2}[-/]\d{1,2}$"
DATETIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?$"
TRUE = frozenset({"true", "yes", "是"})
FALSE = frozenset({"false", "no", "否"})
_MORE_TRUE = TRUE | {"1", "t", "y"}
_MORE_FALSE = FALSE | {"0", "f", "n"}

STORED: dict[VariableType, pa.DataType] = {
    VariableType.INTEGER: pa.int64(),
    VariableType.REAL: pa.float64(),
    VariableType.BOOLEAN: pa.bool_(),
    VariableType.CATEGORY: pa.int32(),
    VariableType.DATE: pa.date32(),
    VariableType.DATETIME: pa.timestamp("us"),
    VariableType.TEXT: pa.string(),
}
"""The Arrow type of a stored column; a category is codes into the dictionary's levels."""


def _bad(name: str, message: str, **details: Any) -> InputError:
    return InputError("bad-data", f"Column {name!r}: {message}", column=name, **details)


def normal_type(name: str, given: pa.DataType) -> pa.DataType:
    """The type in which a source's column is kept until its dictionary is confirmed.

    One of int64, float64, bool, string, date32, timestamp[us] (UTC or without a zone).

    Raises:
        InputError: ``bad-data`` for types that a table of persons cannot hold.
    """
    if pa.types.is_dictionary(given):
        return normal_type(name, given.value_type)
    kinds: tuple[tuple[Any, pa.DataType], ...] = (
        (pa.types.is_boolean, pa.bool_()),
        (pa.types.is_integer, pa.int64()),
        (pa.types.is_floating, pa.float64()),
        (pa.types.is_decimal, pa.float64()),
        (pa.types.is_null, pa.float64()),
        (pa.types.is_date, pa.date32()),
        (pa.types.is_timestamp, pa.timestamp("us")),
    )
    for is_kind, normal in kinds:
        if is_kind(given):
            return normal
    texts = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_time,
    )
    if any(is_text(given) for is_text in texts):
        return pa.string()
    raise _bad(name, f"the type {given} cannot be a variable; leave the column out.")


def normalise(name: str, column: pa.Array) -> pa.Array:
    """A source's column in its normal type: text trimmed, missing markers and NaN as null.

    Raises:
        InputError: ``bad-data``.
    """
    target = normal_type(name, column.type)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        if pa.types.is_decimal(column.type):
            # Arrow's own cast is not correctly rounded; its parser is.
            column = column.cast(pa.string()).cast(pa.float64())
        elif pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        column = column.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _bad(name, f"the type {column.type} does not fit into {target}.") from error
    if pa.types.is_string(target):
        return _clean(column)
    if pa.types.is_floating(target):
        return _finite(name, column)
    return column


def _clean(column: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(column)
    marked = pc.is_in(text, value_set=pa.array(sorted(MISSING_MARKERS), pa.string()))
    if not pc.any(marked).as_py():
        return text
    return pc.if_else(marked, pa.scalar(None, pa.string()), text)


def _finite(name: str, column: pa.Array) -> pa.Array:
    if pc.any(pc.is_inf(column)).as_py():
        raise _bad(name, "a value is infinite. Replace it in the source.")
    nan = pc.is_nan(column)
    if not pc.any(nan).as_py():
        return column
    return pc.if_else(nan, pa.scalar(None, pa.float64()), column)


def presence(column: pa.Array) -> npt.NDArray[np.uint8]:
    """1 where there is a value, else 0; shape (n_rows,)."""
    return np.asarray(to_numpy(column.is_valid().cast(pa.uint8()), 0))


def to_numpy(column: pa.Array, missing: float) -> npt.NDArray[Any]:
    """The values of an integer or float column with `missing` for nulls; maybe read-only.

    Arrow's own ``to_numpy`` and ``fill_null`` import pandas, which is too large for a node at rest.
    """
    dtype = np.dtype(column.type.to_pandas_dtype())
    buffer = column.buffers()[1]
    if buffer is None or len(column) == 0:
        return np.full(len(column), missing, dtype)
    values = np.frombuffer(buffer, dtype, len(column), column.offset * dtype.itemsize)
    if column.null_count == 0:
        return values
    return np.where(presence(column).view(np.bool_), values, dtype.type(missing))


def matches(text: pa.Array, pattern: str) -> pa.Array:
    """Which texts match an RE2 pattern; null where there is no text."""
    return pc.match_substring_regex(text, pattern)


def parse(text: pa.Array, kind: VariableType) -> pa.Array:
    """Text that matches its type's pattern as int64, float64, date32 or timestamp.

    Raises:
        pa.ArrowInvalid: A text does not denote such a value (30 February).
    """
    if kind in {VariableType.INTEGER, VariableType.REAL}:
        try:
            numbers = text.cast(pa.float64())
        except pa.ArrowInvalid:  # a plus sign
            unsigned = pc.replace_substring_regex(text, pattern=r"^\+", replacement="")
            numbers = unsigned.cast(pa.float64())
        return numbers.cast(STORED[kind])
    if kind is VariableType.DATE:
        return _parse_dates(text)
    return _parse_datetimes(text)


def _parse_dates(text: pa.Array) -> pa.Array:
    dashed = pc.replace_substring(text, pattern="/", replacement="-")
    padded = pc.replace_substring_regex(dashed, pattern=r"-(\d)(-|$)", replacement=r"-0\1\2")
    padded = pc.replace_substring_regex(padded, pattern=r"-(\d)$", replacement=r"-0\1")
    return padded.cast(pa.date32())


def _parse_datetimes(text: pa.Array) -> pa.Array:
    zoned = pc.fill_null(pc.match_substring_regex(text, r"(Z|[+-]\d{2}:?\d{2})$"), fill_value=False)
    # A time without a zone is taken as it is; one with a zone becomes UTC.
    in_utc = pc.if_else(zoned, text, pc.binary_join_element_wise(text, "Z", ""))
    nanoseconds = in_utc.cast(pa.timestamp("ns", "UTC"))
    return nanoseconds.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.timestamp("us"))


def as_inferred(column: pa.Array, inferred: VariableType) -> pa.Array:
    """A normal column in the type that was inferred for it; text stays text for the others."""
    source = column.type
    if pa.types.is_string(source):
        parsed = {
            VariableType.INTEGER,
            VariableType.REAL,
            VariableType.DATE,
            VariableType.DATETIME,
        }
        return parse(column, inferred) if inferred in parsed else column
    if inferred is VariableType.INTEGER and pa.types.is_floating(source):
        return column.cast(pa.int64())
    if inferred is VariableType.DATE and pa.types.is_timestamp(source):
        return column.cast(pa.date32())
    return column


def as_text(column: pa.Array) -> pa.Array:
    """Each value as people write it: ``3``, ``1.5``, ``true``, ``2020-01-31``."""
    if pa.types.is_string(column.type):
        return column
    return column.cast(pa.string())


def recoded(text: pa.Array, recode: Mapping[str, str | None]) -> pa.Array:
    """`text` with some values replaced; None makes a value missing."""
    if not recode:
        return text
    place = pc.index_in(text, value_set=pa.array(list(recode), pa.string()))
    replaced = pc.take(pa.array(list(recode.values()), pa.string()), place)
    return pc.if_else(pc.is_valid(place), replaced, text)


def to_declared(
    column: pa.Array, variable: Variable, recode: Mapping[str, str | None], first_row: int
) -> pa.Array:
    """A column (see `as_inferred`) in the stored type of its confirmed variable.

    Args:
        first_row: Number of the column's first row in the dataset, from 1; for messages.

    Raises:
        InputError: ``bad-data``: a value is not of that type, or a level is not declared.
    """
    if recode or variable.type in {VariableType.CATEGORY, VariableType.TEXT}:
        column = recoded(as_text(column), recode)
    if variable.type is VariableType.CATEGORY:
        levels = pa.array(variable.levels, pa.string())
        typed, what = pc.index_in(column, value_set=levels), "a declared level"
    elif variable.type is VariableType.TEXT:
        return column
    else:
        typed, what = _converted(column, variable.type), f"of type {variable.type.value}"
    wrong = pc.and_(pc.is_valid(column), pc.is_null(typed))
    if pc.any(wrong).as_py():
        row = first_row + int(pc.index(wrong, pa.scalar(value=True)).as_py())
        count = int(pc.sum(wrong).as_py())
        raise _bad(
            variable.name,
            f"row {row} has a value that is not {what} ({count} such in this part of the file). "
            "Change the type or the levels, or map the value under `recode`, "
            "in dictionary.yaml and confirm again.",
            row=row,
        )
    return typed


def _converted(column: pa.Array, kind: VariableType) -> pa.Array:
    """`column` as `kind`, null where a value does not denote one."""
    if pa.types.is_string(column.type):
        return _converted_text(column, kind)
    if column.type == STORED[kind]:
        return column
    nothing = pa.nulls(len(column), STORED[kind])
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if kind is VariableType.BOOLEAN and number:
        binary = pc.is_in(column, value_set=pa.array([0, 1], column.type))
        return pc.if_else(binary, pc.equal(column, pa.scalar(1, column.type)), nothing)
    if kind is VariableType.INTEGER and pa.types.is_floating(column.type):
        whole = pc.and_(pc.equal(column, pc.round(column)), pc.less(pc.abs(column), float(EXACT)))
        return pc.if_else(whole, column, pa.scalar(None, pa.float64())).cast(pa.int64())
    if kind is VariableType.INTEGER and pa.types.is_boolean(column.type):
        return column.cast(pa.int64())
    if kind is VariableType.REAL and (number or pa.types.is_boolean(column.type)):
        return column.cast(pa.float64())
    if kind is VariableType.DATE and pa.types.is_timestamp(column.type):
        return pc.floor_temporal(column, unit="day").cast(pa.date32())
    if kind is VariableType.DATETIME and pa.types.is_date(column.type):
        return column.cast(pa.timestamp("us"))
    return nothing


def _converted_text(text: pa.Array, kind: VariableType) -> pa.Array:
    if kind is VariableType.BOOLEAN:
        lower = pc.utf8_lower(text)
        yes = pc.is_in(lower, value_set=pa.array(sorted(_MORE_TRUE), pa.string()))
        no = pc.is_in(lower, value_set=pa.array(sorted(_MORE_FALSE), pa.string()))
        return pc.if_else(pc.or_(yes, no), yes, pa.scalar(None, pa.bool_()))
    patterns = {
        VariableType.INTEGER: r"^[+-]?\d{1,15}(\.0*)?$",
        VariableType.REAL: r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$",
        VariableType.DATE: DATE,
        VariableType.DATETIME: DATETIME,
    }
    fitting = pc.if_else(matches(text, patterns[kind]), text, pa.scalar(None, pa.string()))
    try:
        return parse(fitting, kind)
    except pa.ArrowInvalid:
        return _parse_each(fitting, kind)


def _parse_each(text: pa.Array, kind: VariableType) -> pa.Array:
    """`parse` with null for each text that does not denote a value; only after a failure."""
    out = []
    for value in text.dictionary_encode().dictionary:
        try:
            out.append(parse(pa.array([value.as_py()], pa.string()), kind)[0].as_py())
        except pa.ArrowInvalid:
            out.append(None)
    encoded = text.dictionary_encode()
    return pc.take(pa.array(out, STORED[kind]), encoded.indices)


def exact_decimals(values: npt.NDArray[np.float64], start: int) -> int | None:
    """Fewest digits after the point, from `start` to 12, that write every value exactly.

    None where more would be needed: the values are continuous.
    """
    for decimals in range(start, 13):
        with np.errstate(over="ignore"):  # what is beyond float64 is not exact
            scaled = values * 10.0**decimals
        # The quotient of two exact integers is correctly rounded, so that equality means that
        # the value is the float64 nearest to a decimal number of that many digits.
        exact = (np.rint(scaled) / 10.0**decimals == values) & (np.abs(scaled) < EXACT)
        if bool(exact.all()):
            return decimals
    return None
