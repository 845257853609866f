"""A checked expression as an Ibis expression, for a table in any database that Ibis speaks to.

It means what `evaluate` computes, so the rows are the same: numbers are doubles, integers too;
division by zero, and whatever else is not finite, is NULL, before the database can make an error or
an infinity of it. (A product beyond 1.8e308 is an error in PostgreSQL.)

The table's columns have the variables' names; a category holds its levels as text. Needs the extra
``sql``.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta
from functools import reduce
from operator import and_, or_
from typing import Any, Final

from cohortium.cohort.evaluate import EXP_LIMIT
from cohortium.cohort.population import Population
from cohortium.cohort.syntax import Expr
from cohortium.core.dictionary import VariableType
from cohortium.errors import InputError

_LARGEST: Final = sys.float_info.max
_WHOLE: Final = 2.0**53
"""From here on every double is a whole number."""
_SQL_TYPES: Final = {
    VariableType.INTEGER: "float64",
    VariableType.REAL: "float64",
    VariableType.BOOLEAN: "boolean",
    VariableType.CATEGORY: "string",
    VariableType.DATE: "date",
    VariableType.DATETIME: "int64",
}
_EPOCH: Final = date(1970, 1, 1)


def derive(population: Population, table: Any) -> Any:
    """The table with every derived variable whose sources it has."""
    for name, expr in population.derivations.items():
        if name not in table.columns and expr.reads <= set(table.columns):
            value = Translation(table).value(expr)
            kind = expr.type.kind
            if kind is VariableType.INTEGER:
                value = value.cast("int64")
            elif kind is VariableType.DATETIME:
                value = value.as_timestamp("s")
            table = table.mutate(**{name: value})
    return table


def persons(population: Population, table: Any) -> Any:
    """The rows of a table with all derived variables that are in the population."""
    translation = Translation(table)
    tests = [translation.true(expr) for expr in population.include]
    tests += [translation.true(expr, truth=False) for expr in population.exclude]
    return table.filter(*tests) if tests else table


class Translation:
    """Expressions over one Ibis table.

    Raises:
        InputError: ``missing-extra`` without Ibis.
    """

    def __init__(self, table: Any) -> None:
        try:
            import ibis
        except ImportError as error:
            raise InputError(
                "missing-extra", "Criteria in databases need: pip install 'cohortium[sql]'."
            ) from error
        self._ibis = ibis
        self._table = table

    def true(self, expr: Expr, *, truth: bool = True) -> Any:
        """Whether a condition is true, or whether it is not: false or NULL."""
        return self._ibis.coalesce(self.value(expr), False) == truth

    def value(self, expr: Expr) -> Any:
        """The expression's value."""
        kind = expr.type.kind
        match expr.op:
            case "column":
                return self._column(expr)
            case "null":
                return self._null(expr)
            case "number":
                return self._constant(expr)
            case "text" | "truth":
                return self._ibis.literal(expr.value)
            case "case":
                return self._case(expr)
            case "coalesce":
                return self._ibis.coalesce(*self._args(expr))
            case "cut":
                return self._cut(expr)
        if kind is VariableType.BOOLEAN:
            return self._condition(expr)
        return self._number(expr)

    def _args(self, expr: Expr) -> list[Any]:
        return [self.value(arg) for arg in expr.args]

    def _null(self, expr: Expr) -> Any:
        kind = expr.type.kind
        return self._ibis.null("boolean" if kind is None else _SQL_TYPES[kind])

    def _column(self, expr: Expr) -> Any:
        column = self._table[str(expr.value)]
        match expr.type.kind:
            case VariableType.DATETIME:
                return column.epoch_seconds()
            case VariableType.INTEGER:
                return column.cast("float64")
            case VariableType.REAL:
                return self._finite(column.cast("float64"))
        return column

    def _constant(self, expr: Expr) -> Any:
        number = float(expr.value)  # type: ignore[arg-type]
        if expr.type.kind is VariableType.DATE:
            return self._ibis.date((_EPOCH + timedelta(days=int(number))).isoformat())
        if expr.type.kind is VariableType.DATETIME:
            return self._ibis.literal(int(number), "int64")
        return self._double(number)

    def _double(self, number: float) -> Any:
        # Written as 0.1 it would be a decimal to PostgreSQL, which reckons with more digits.
        return self._ibis.literal(repr(number)).cast("float64")

    def _finite(self, value: Any) -> Any:
        """NULL for infinities and NaN, which is larger than any number to a database."""
        return self._ibis.ifelse(value.abs() <= _LARGEST, value, self._ibis.null("float64"))

    def _only(self, test: Any, value: Any) -> Any:
        """The value where the test holds, NULL elsewhere."""
        return self._ibis.ifelse(test, value, self._ibis.null(value.type()))

    def _case(self, expr: Expr) -> Any:
        *branches, default = self._args(expr)
        pairs = list(zip(branches[::2], branches[1::2], strict=True))
        return self._ibis.cases(*pairs, else_=default)

    def _cut(self, expr: Expr) -> Any:
        value = self.value(expr.args[0])
        edges = [float(edge) for edge in expr.value]  # type: ignore[union-attr]
        branches = [
            ((value >= low) & (value < high), level)
            for low, high, level in zip(edges, edges[1:], expr.type.levels or (), strict=False)
        ]
        return self._ibis.cases(*branches, else_=self._ibis.null("string"))

    def _condition(self, expr: Expr) -> Any:
        args = self._args(expr)
        match expr.op:
            case "and":
                return reduce(and_, args)
            case "or":
                return reduce(or_, args)
            case "not":
                return self._not(args[0])
            case "iff" | "same":
                return args[0] == args[1]
            case "is" if expr.value is None:
                return args[0].isnull()
            case "is":
                return self._ibis.coalesce(args[0] if expr.value else self._not(args[0]), False)
            case "compare":
                return self._compare(expr, *args)
        return self._member(expr, args[0])

    def _not(self, value: Any) -> Any:
        # Ibis 12 writes no brackets around NOT: (NOT x) IS NULL would become NOT x IS NULL.
        return value == self._ibis.literal(False)

    def _compare(self, expr: Expr, left: Any, right: Any) -> Any:
        match expr.value:
            case "=":
                return left == right
            case "<>":
                return left != right
            case "<":
                return left < right
        return left <= right

    def _member(self, expr: Expr, value: Any) -> Any:
        chosen = expr.value if isinstance(expr.value, tuple) else ()
        if not chosen:  # an empty list would be false of NULL too
            return self._only(value.notnull(), self._ibis.literal(False))
        kind = expr.args[0].type
        if kind.kind is VariableType.CATEGORY:
            return value.isin(list(chosen))
        return value.isin([self._constant(Expr("number", kind, value=one)) for one in chosen])

    def _number(self, expr: Expr) -> Any:
        args = self._args(expr)
        match expr.op:
            case "least" | "greatest":
                extreme = self._ibis.least if expr.op == "least" else self._ibis.greatest
                return self._only(reduce(and_, [arg.notnull() for arg in args]), extreme(*args))
            case "datediff":
                return args[0].delta(args[1], unit="day").cast("float64")
            case "year":
                return args[0].year().cast("float64")
            case "+":
                return self._finite(args[0] + args[1])
            case "-":
                return self._finite(args[0] - args[1])
            case "*":
                return self._finite(args[0] * args[1])
            case "/":
                return self._finite(args[0] / args[1].nullif(0.0))
            case "neg":
                return -args[0]
        return self._function(expr, args[0])

    def _function(self, expr: Expr, x: Any) -> Any:
        match expr.op:
            case "abs":
                return x.abs()
            case "floor" | "ceil":  # which Ibis makes an integer of 64 bits
                near = x.abs() < _WHOLE
                within = self._only(near, x)
                whole = within.floor() if expr.op == "floor" else within.ceil()
                return self._ibis.ifelse(near, whole.cast("float64"), x)
            case "sqrt":
                return self._only(x >= 0, x).sqrt()
            case "ln":
                return self._only(x > 0, x).ln()
            case "log10":
                return self._only(x > 0, x).log10()
            case "exp":
                near = (x <= EXP_LIMIT) & (x >= -EXP_LIMIT)
                return self._ibis.ifelse(
                    x < -EXP_LIMIT, self._double(0.0), self._only(near, x).exp()
                )
        exponent = float(expr.value)  # type: ignore[arg-type]
        if exponent < 0:
            x = x.nullif(0.0)
        if not exponent.is_integer():
            x = self._only(x >= 0, x)
        return self._finite(x**exponent)
