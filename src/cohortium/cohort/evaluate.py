"""A checked expression over a table, in SQL's three-valued logic.

A condition is true, false or NULL of a person: what is asked for is one side of it, so that most
criteria cost one comparison. A number that is NULL is NaN; division by zero and whatever else is
not finite are NULL. No loop goes over persons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cohortium.cohort.syntax import Expr
from cohortium.core.dictionary import VariableType
from cohortium.core.table import Table

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Marks = npt.NDArray[np.bool_]

EXP_LIMIT: Final = 700.0
"""Beyond it EXP is NULL, and 0 below its negative: databases differ near the ends of a double."""

_COMPARISONS: Final[dict[str, Callable[..., Any]]] = {
    "=": np.equal,
    "<>": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
}
_OPPOSITES: Final = {"=": "<>", "<>": "=", "<": ">=", "<=": ">"}
_FALSE: Final[dict[str, Callable[..., Any]]] = {">=": np.greater_equal, ">": np.greater}
_ARITHMETIC: Final[dict[str, Callable[..., Any]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "ln": np.log,
    "log10": np.log10,
    "neg": np.negative,
    "sqrt": np.sqrt,
}


class Evaluation:
    """Expressions over one table; what two of them have in common is computed once.

    Args:
        table: Has every variable that the expressions name.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._marks: dict[tuple[int, bool], Marks] = {}
        self._numbers: dict[int, Floats] = {}
        self._codes: dict[int, Codes] = {}
        self._alive: list[Expr] = []  # a key above is the id of an expression that still exists

    def true(self, expr: Expr) -> Marks:
        """For whom a condition is true; shape (n_rows,)."""
        self._alive.append(expr)
        with np.errstate(all="ignore"):
            marks = self._is(expr, True)
        return np.broadcast_to(marks, (self._table.n_rows,))

    def column(self, expr: Expr) -> npt.NDArray[Any]:
        """Values as `Table` keeps them; shape (n_rows,)."""
        self._alive.append(expr)
        kind = expr.type.kind
        with np.errstate(all="ignore"):
            if kind is VariableType.CATEGORY:
                out: npt.NDArray[Any] = self._category(expr)
            elif kind is VariableType.BOOLEAN:
                out = np.where(self._is(expr, True), 1.0, np.nan)
                out = np.where(self._is(expr, False), 0.0, out)
            else:
                out = self._number(expr)
        return np.broadcast_to(out, (self._table.n_rows,))

    # Conditions

    def _is(self, expr: Expr, truth: bool) -> Marks:
        """For whom a condition is true, or for whom it is false."""
        key = (id(expr), truth)
        if key not in self._marks:
            self._marks[key] = self._decide(expr, truth)
        return self._marks[key]

    def _decide(self, expr: Expr, truth: bool) -> Marks:
        match expr.op:
            case "and" | "or":
                every = (expr.op == "and") is truth
                join = np.logical_and if every else np.logical_or
                out = self._is(expr.args[0], truth)
                for arg in expr.args[1:]:
                    out = join(out, self._is(arg, truth))
                return out
            case "not":
                return self._is(expr.args[0], not truth)
            case "truth":
                return np.asarray(expr.value is truth)
            case "null":
                return np.asarray(False)
            case "column":
                return np.asarray(self._table.columns[str(expr.value)] == float(truth))
            case "compare":
                return self._compare(expr, truth)
            case "among" | "level" | "same":
                return self._member(expr, truth)
            case "iff":
                left, right = expr.args
                both: Marks = self._is(left, True) & self._is(right, truth)
                neither: Marks = self._is(left, False) & self._is(right, not truth)
                return both | neither
            case "is":
                asked = self._null(expr.args[0]) if expr.value is None else None
                if asked is None:
                    asked = self._is(expr.args[0], bool(expr.value))
                return asked if truth else np.logical_not(asked)
            case "case" | "coalesce":
                return np.asarray(
                    self._chosen(expr, lambda arg: self._is(arg, truth), np.asarray(False))
                )
        raise RuntimeError("a condition that was not checked")

    def _compare(self, expr: Expr, truth: bool) -> Marks:
        left, right = (self._number(arg) for arg in expr.args)
        symbol = str(expr.value) if truth else _OPPOSITES[str(expr.value)]
        compare = _COMPARISONS.get(symbol) or _FALSE[symbol]
        marks: Marks = compare(left, right)
        if symbol == "<>":  # the one comparison that NaN passes
            marks = marks & ~np.isnan(left) & ~np.isnan(right)
        return marks

    def _member(self, expr: Expr, truth: bool) -> Marks:
        if expr.op == "among":
            values = self._number(expr.args[0])
            found = np.isin(values, np.asarray(expr.value, dtype=np.float64))
            return np.asarray(found if truth else ~found & ~np.isnan(values))
        codes = self._category(expr.args[0])
        if expr.op == "level":
            levels = expr.args[0].type.levels or ()
            wanted = set(expr.value) if isinstance(expr.value, tuple) else set()
            # One more place, which -1 (missing) reads.
            hits = np.array([(level in wanted) is truth for level in levels] + [False])
            return np.asarray(hits[codes])
        other = _mapped(self._category(expr.args[1]), expr.args[1], expr.args[0].type.levels or ())
        present = (codes >= 0) & (other != -1)
        return np.asarray(present & ((codes == other) if truth else (codes != other)))

    def _null(self, expr: Expr) -> Marks:
        if expr.type.kind is None:
            return np.asarray(True)
        if expr.type.kind is VariableType.CATEGORY:
            return np.asarray(self._category(expr) < 0)
        if expr.type.kind is VariableType.BOOLEAN:
            return np.asarray(~(self._is(expr, True) | self._is(expr, False)))
        return np.asarray(np.isnan(self._number(expr)))

    def _chosen(self, expr: Expr, value: Callable[[Expr], Any], missing: Any) -> Any:
        """What CASE or COALESCE picks for each person."""
        if expr.op == "coalesce":
            out = value(expr.args[-1])
            for arg in reversed(expr.args[:-1]):
                out = np.where(self._null(arg), out, value(arg))
            return out
        *branches, default = expr.args
        out = missing if default.op == "null" else value(default)
        for place in range(len(branches) - 2, -1, -2):
            out = np.where(self._is(branches[place], True), value(branches[place + 1]), out)
        return out

    # Values

    def _number(self, expr: Expr) -> Floats:
        key = id(expr)
        if key not in self._numbers:
            self._numbers[key] = self._compute(expr)
        return self._numbers[key]

    def _compute(self, expr: Expr) -> Floats:
        match expr.op:
            case "column":
                return np.asarray(self._table.columns[str(expr.value)], dtype=np.float64)
            case "number":
                return np.float64(expr.value)  # type: ignore[arg-type,return-value]
            case "null":
                return np.asarray(np.nan)
            case "case" | "coalesce":
                return np.asarray(self._chosen(expr, self._number, np.asarray(np.nan)))
            case "least" | "greatest":
                extreme = np.minimum if expr.op == "least" else np.maximum
                out = self._number(expr.args[0])
                for arg in expr.args[1:]:
                    out = extreme(out, self._number(arg))
                return out
            case "datediff":
                return np.asarray(np.subtract(*(self._number(arg) for arg in expr.args)))
            case "year":
                return _year(self._number(expr.args[0]))
            case "exp":
                power = self._number(expr.args[0])
                powers = np.exp(np.where(power > EXP_LIMIT, np.nan, power))
                return np.asarray(np.where(power < -EXP_LIMIT, 0.0, powers))
            case "power":
                return _finite(np.power(self._number(expr.args[0]), np.float64(expr.value)))  # type: ignore[arg-type]
        args = [self._number(arg) for arg in expr.args]
        operation = _ARITHMETIC.get(expr.op) or _FUNCTIONS[expr.op]
        return _finite(operation(*args))

    def _category(self, expr: Expr) -> Codes:
        key = id(expr)
        if key not in self._codes:
            self._codes[key] = self._encode(expr)
        return self._codes[key]

    def _encode(self, expr: Expr) -> Codes:
        """Codes into the expression's own levels."""
        match expr.op:
            case "column":
                return np.asarray(self._table.columns[str(expr.value)], dtype=np.int32)
            case "text":
                return np.asarray(0, dtype=np.int32)
            case "null":
                return np.asarray(-1, dtype=np.int32)
            case "cut":
                return _cut(self._number(expr.args[0]), expr)
        levels = expr.type.levels or ()
        missing = np.asarray(-1, dtype=np.int32)
        codes = self._chosen(expr, lambda arg: _mapped(self._category(arg), arg, levels), missing)
        return np.asarray(codes, dtype=np.int32)


def _finite(values: Any) -> Floats:
    """Infinities are NULL; the array is a fresh one."""
    out = np.asarray(values, dtype=np.float64)
    infinite = np.isinf(out)
    if infinite.any():
        return np.where(infinite, np.nan, out)
    return out


def _mapped(codes: Codes, expr: Expr, levels: tuple[str, ...]) -> Codes:
    """Codes into other levels; -1 stays, and a level that is not among them is -2."""
    own = expr.type.levels or ()
    if own == levels:
        return codes
    place = {level: number for number, level in enumerate(levels)}
    table = np.array([place.get(level, -2) for level in own] + [-1], dtype=np.int32)
    return np.asarray(table[codes], dtype=np.int32)


def _cut(values: Floats, expr: Expr) -> Codes:
    edges = np.asarray(expr.value, dtype=np.float64)
    codes = np.searchsorted(edges, values, side="right") - 1
    return np.where(codes == len(edges) - 1, -1, codes).astype(np.int32)  # beyond, or NaN


def _year(days: Floats) -> Floats:
    missing = np.isnan(days)
    whole = np.where(missing, 0.0, np.floor(days)).astype("datetime64[D]")
    years = whole.astype("datetime64[Y]").astype(np.int64) + 1970
    return np.where(missing, np.nan, years.astype(np.float64))
