"""Infers a data dictionary from columns that pass by in chunks: one pass, bounded memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError
from cohortium.node.columns import (
    DATE,
    DATETIME,
    EXACT,
    FALSE,
    REAL,
    TRUE,
    as_text,
    exact_decimals,
    matches,
    parse,
    to_numpy,
)

MAX_LEVELS = 1000
MAX_INFERRED_LEVELS = 100
MAX_NAMED_VALUES = 20
RARE_PERSONS = 5

_DAY_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True)
class InferredColumn:
    """A column's proposed dictionary entry.

    Attributes:
        source: The column's name in the source.
        notes: Lines for the steward, shown as comments; they stay at the site.
    """

    source: str
    variable: Variable
    notes: tuple[str, ...] = ()


def legal_names(headers: Sequence[str]) -> list[str]:
    """A legal and unique variable name for each column header.

    Raises:
        InputError: ``bad-data`` for two equal headers or an overlong one.
    """
    repeated = [header for header, count in Counter(headers).items() if count > 1]
    if repeated:
        raise InputError(
            "bad-data",
            f"The header names {len(repeated)} columns twice; rename them in the source.",
            columns=repeated[:10],
        )
    if any(len(header) > 200 for header in headers):
        raise InputError("bad-data", "A column header is longer than 200 characters.")
    taken: set[str] = set()
    names = []
    for place, header in enumerate(headers):
        name = unique = _legal(header, place)
        number = 1
        while unique.lower() in taken:
            number += 1
            unique = f"{name[:58]}_{number}"
        taken.add(unique.lower())
        names.append(unique)
    return names


def _legal(header: str, place: int) -> str:
    text = re.sub(r"[^A-Za-z0-9_]+", "_", header.strip()).strip("_")
    if not text:
        return "index" if place == 0 and not header.strip() else f"column_{place + 1}"
    return (text if text[0].isalpha() else f"v_{text}")[:64]


@dataclass
class ColumnProfile:
    """What is known of one column after some chunks (see `cohortium.node.columns.normalise`).

    Attributes:
        declared_levels: Levels that the source itself declares (a pandas or Arrow category).
    """

    source: str
    kind: pa.DataType
    declared_levels: tuple[str, ...] | None = None
    n_rows: int = 0
    missing: int = 0
    counts: Counter[str] | None = field(default_factory=Counter)
    fits: Counter[str] = field(default_factory=Counter)
    decimals: int | None = 0
    whole: bool = True
    too_long: bool = False
    midnight: bool = True
    increasing: bool = True
    _last: float = -np.inf

    def update(self, column: pa.Array) -> None:
        """Look at the next chunk."""
        self.n_rows += len(column)
        self.missing += column.null_count
        if column.null_count:
            self.increasing = False
            column = column.drop_null()
        if len(column) == 0:
            return
        if pa.types.is_string(self.kind):
            self._look_at_text(column)
        elif pa.types.is_integer(self.kind) or pa.types.is_floating(self.kind):
            self._look_at_numbers(column)
        elif pa.types.is_timestamp(self.kind):
            self._look_at_times(column)
        self._count(column)

    def _count(self, column: pa.Array) -> None:
        if self.counts is None:
            return
        found = pc.value_counts(column)
        if len(found) + len(self.counts) > 2 * MAX_LEVELS:
            self.counts = None
            return
        values, counts = as_text(found.field("values")), found.field("counts")
        self.counts.update(dict(zip(values.to_pylist(), counts.to_pylist(), strict=True)))
        if len(self.counts) > MAX_LEVELS:
            self.counts = None

    def _look_at_numbers(self, column: pa.Array) -> None:
        values = to_numpy(column, 0)
        if pa.types.is_integer(column.type):
            self.too_long |= bool(((values >= EXACT) | (values <= -EXACT)).any())
        else:
            self._look_at_floats(values)
        self.increasing &= bool(values[0] > self._last and (np.diff(values) > 0).all())
        self._last = float(values[-1])

    def _look_at_floats(self, values: npt.NDArray[np.float64]) -> None:
        self.whole &= bool(((np.rint(values) == values) & (np.abs(values) < EXACT)).all())
        if self.decimals is not None:
            self.decimals = exact_decimals(values, self.decimals)

    def _look_at_times(self, column: pa.Array) -> None:
        microseconds = to_numpy(column.cast(pa.int64()), 0)
        self.midnight &= bool((microseconds % _DAY_MICROSECONDS == 0).all())

    def _look_at_text(self, column: pa.Array) -> None:
        numbers = _numbers(column)
        if numbers is not None:
            self.fits["number"] += len(column)
            large = column.filter(pc.greater_equal(pc.abs(numbers), float(EXACT)))
            if len(large):  # digits alone are an identifier; 1e300 is a number
                self.too_long |= bool(pc.any(matches(large, r"^[+-]?\d+$")).as_py())
            self._look_at_numbers(numbers)
            return
        self.increasing = False
        if self.counts is None and not self._may_be_typed:
            return
        encoded = column.dictionary_encode()
        weights = np.bincount(to_numpy(encoded.indices, 0), minlength=len(encoded.dictionary))
        for name, fitting in _fitting(encoded.dictionary).items():
            self.fits[name] += int(weights[np.array(fitting.to_pylist(), dtype=bool)].sum())
        real = encoded.dictionary.filter(matches(encoded.dictionary, REAL))
        if len(real):
            self._look_at_floats(to_numpy(parse(real, VariableType.REAL), 0))
        if self.fits["datetime"] == self._present:
            self._look_at_times(parse(column, VariableType.DATETIME))

    @property
    def _present(self) -> int:
        return self.n_rows - self.missing

    @property
    def _may_be_typed(self) -> bool:
        seen = self.fits.total()
        return seen > 0 and max(self.fits.values()) >= self._present // 2

    def _type(self) -> VariableType:
        if self._present == 0:
            return VariableType.REAL
        if self.declared_levels is not None:
            return VariableType.CATEGORY
        if pa.types.is_boolean(self.kind):
            return VariableType.BOOLEAN
        if pa.types.is_date(self.kind):
            return VariableType.DATE
        if pa.types.is_timestamp(self.kind):
            return VariableType.DATE if self.midnight else VariableType.DATETIME
        if pa.types.is_string(self.kind):
            return self._type_of_text()
        return self._type_of_numbers()

    def _type_of_numbers(self) -> VariableType:
        if self.too_long:
            return VariableType.TEXT
        return VariableType.INTEGER if self.whole else VariableType.REAL

    def _type_of_text(self) -> VariableType:
        whole = {name for name, count in self.fits.items() if count == self._present}
        if "number" in whole:
            return self._type_of_numbers()
        if "boolean" in whole:
            return VariableType.BOOLEAN
        if "date" in whole:
            return VariableType.DATE
        if "datetime" in whole:
            return VariableType.DATE if self.midnight else VariableType.DATETIME
        few = self.counts is not None and len(self.counts) <= MAX_INFERRED_LEVELS
        # A level has two persons on average, or the "levels" may be names.
        if few and self.counts is not None and 2 * len(self.counts) <= self._present:
            fit = all(0 < len(level) <= 200 and level.isprintable() for level in self.counts)
            return VariableType.CATEGORY if fit else VariableType.TEXT
        return VariableType.TEXT

    def result(self, name: str) -> InferredColumn:
        """The proposed entry under the legal name `name`."""
        kind = self._type()
        levels = self.declared_levels
        if kind is VariableType.CATEGORY and levels is None:
            levels = tuple(sorted(self.counts or ()))
        variable = Variable(
            name=name,
            type=kind,
            levels=levels if kind is VariableType.CATEGORY else None,
            decimals=self.decimals if kind is VariableType.REAL and self._present else None,
            missing=self.missing,
            source=None if name == self.source else self.source,
        )
        return InferredColumn(self.source, variable, tuple(self._notes(kind)))

    def _notes(self, kind: VariableType) -> Iterable[str]:
        if self._present == 0:
            yield "No person has a value: the type is a guess."
            return
        counts = self.counts or Counter()
        if kind is VariableType.CATEGORY:
            rare = [level for level, count in counts.items() if count < RARE_PERSONS]
            if rare:
                yield (
                    f"Fewer than {RARE_PERSONS} persons: {_some(rare)}. Merge them or make them "
                    "missing under `recode`, and take them out of `levels`."
                )
        elif kind is VariableType.INTEGER and 0 < len(counts) <= MAX_NAMED_VALUES:
            merged: Counter[int] = Counter()
            for text, count in counts.items():
                merged[int(float(text))] += count
            found = ", ".join(
                f"{value} ({count} persons)" for value, count in sorted(merged.items())
            )
            yield f"Values: {found}. If they are codes, make the type category or boolean."
        elif kind is VariableType.TEXT:
            yield "Text cannot be used in a study. Delete this entry unless you need it."
        numbers = self.fits["number"]
        if pa.types.is_string(self.kind) and 0 < numbers < self._present:
            yield (
                f"Mixed: {numbers} values are numbers, {self._present - numbers} are not. To use "
                "the numbers, make the type real and map the others under `recode`."
            )
        if kind is VariableType.INTEGER and self.increasing and self._present > 1:
            yield "Looks like a row number or an identifier. Delete this entry unless you need it."


def _some(values: list[str]) -> str:
    shown = ", ".join(sorted(values)[:10])
    return f"{shown} and {len(values) - 10} more" if len(values) > 10 else shown


def _numbers(text: pa.Array) -> pa.Array | None:
    """All texts as float64, or None where one is not a number (``007`` is a code, not one)."""
    try:
        text.slice(0, 1).cast(pa.float64())  # Arrow tries every value before it fails
        numbers = text.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    if not pc.all(pc.is_finite(numbers)).as_py():
        return None
    zero = pc.or_(pc.starts_with(text, "0"), pc.starts_with(text, "-0"))
    leading = text.filter(zero)
    if len(leading) and not pc.all(matches(leading, REAL)).as_py():
        return None
    return numbers


def _fitting(texts: pa.Array) -> dict[str, pa.Array]:
    lower = pc.utf8_lower(texts)
    return {
        "number": matches(texts, REAL),
        "boolean": pc.is_in(lower, value_set=pa.array(sorted(TRUE | FALSE), pa.string())),
        "date": _parseable(texts, DATE, VariableType.DATE),
        "datetime": _parseable(texts, DATETIME, VariableType.DATETIME),
    }


def _parseable(texts: pa.Array, pattern: str, kind: VariableType) -> pa.Array:
    """Which texts match; none at all where one that matches is no such day."""
    fitting = matches(texts, pattern)
    try:
        parse(texts.filter(fitting), kind)
    except pa.ArrowInvalid:
        return pa.array(np.zeros(len(texts), dtype=bool))
    return fitting
