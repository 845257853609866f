"""What values an expression gives: numbers, dates and categories, with their types."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import pairwise
from typing import Final

from cohortium.cohort.parser import as_date
from cohortium.cohort.syntax import Expr, Node, Type, refused
from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError

_INTEGER, _REAL = VariableType.INTEGER, VariableType.REAL
_BOOLEAN, _CATEGORY = VariableType.BOOLEAN, VariableType.CATEGORY
_DATE, _DATETIME = VariableType.DATE, VariableType.DATETIME
NUMBERS: Final = frozenset({_INTEGER, _REAL})
ORDERED: Final = frozenset({_INTEGER, _REAL, _DATE, _DATETIME})
WORDS: Final = {
    _INTEGER: "a number",
    _REAL: "a number",
    _BOOLEAN: "true or false",
    _CATEGORY: "a category",
    _DATE: "a date",
    _DATETIME: "a date and time",
    None: "NULL",
}
_SHOWN_LEVELS: Final = 20
_MOST_EDGES: Final = 101
_MOST_LEVELS: Final = 1000
_REAL_FUNCTIONS: Final = frozenset({"exp", "ln", "log10", "sqrt"})
_WHOLE_FUNCTIONS: Final = frozenset({"floor", "ceil"})
FUNCTIONS: Final = (
    *("ABS", "CEIL", "COALESCE", "CUT", "DATEDIFF", "EXP", "FLOOR", "GREATEST", "LEAST"),
    *("LN", "LOG10", "POWER", "SQRT", "YEAR"),
)


class Values(ABC):
    """The values of one text against one dictionary."""

    def __init__(self, text: str, variables: Mapping[str, Variable]) -> None:
        self._text = text
        self._variables = variables

    @abstractmethod
    def check(self, node: Node) -> Expr:
        """The expression that a node stands for."""

    @abstractmethod
    def _boolean(self, node: Node) -> Expr:
        """The same, which must be true or false."""

    def _refused(self, node: Node, message: str) -> InputError:
        return refused(self._text, node.at, message)

    def _name(self, node: Node) -> Expr:
        name = str(node.value)
        variable = self._variables.get(name)
        if variable is None:
            raise self._refused(node, f"There is no variable {name[:80]!r}.{self._hint(node)}")
        if variable.type is VariableType.TEXT:
            raise self._refused(node, f"{name} is free text, which cannot be used here.")
        return Expr("column", Type(variable.type, variable.levels, variable.unit), value=name)

    def _hint(self, node: Node) -> str:
        name = str(node.value)
        names = sorted(self._variables)
        same = [known for known in names if known.lower() == name.lower()]
        close = same or get_close_matches(name, names, n=1)
        if close:
            return f" Did you mean {close[0]}?"
        if self._text[node.at : node.at + 1] == '"':
            return f" Text stands in single quotes: '{name}'."
        return f" There are {listed(names)}."

    def _level(self, node: Node) -> Expr:
        level = str(node.value)
        if not 1 <= len(level) <= 200 or not level.isprintable():
            raise self._refused(node, "A level has 1 to 200 printable characters.")
        return Expr("text", Type(_CATEGORY, (level,)), value=level)

    def _moment(self, node: Node, kind: VariableType | None) -> Expr | None:
        """A text that stands for a date or time, beside one."""
        if node.op != "text" or kind not in {_DATE, _DATETIME}:
            return None
        written = str(node.value)
        value = as_date(written) if kind is _DATE else _as_seconds(written)
        if value is None:
            form = "'2020-01-31'" if kind is _DATE else "'2020-01-31' or '2020-01-31 12:00:00'"
            raise self._refused(node, f"{written[:30]!r} is not {WORDS[kind]}; write {form}.")
        return Expr("number", Type(kind), value=float(value))

    def _text_of(self, node: Node, expr: Expr) -> str:
        if expr.op == "column":
            return f"{expr.value} ({WORDS[expr.type.kind]})"
        if node.op == "text":
            return f"the text {str(node.value)[:30]!r}"
        return WORDS[expr.type.kind]

    def _number(self, node: Node) -> Expr:
        expr = self.check(node)
        if expr.type.kind is None:
            return Expr("null", Type(_REAL))
        if expr.type.kind not in NUMBERS:
            hint = ""
            if expr.type.kind is _DATE:
                hint = " The days between two dates are DATEDIFF(later, earlier)."
            elif expr.type.kind is _BOOLEAN:
                hint = " Write CASE WHEN ... THEN 1 ELSE 0 END."
            what = self._text_of(node, expr)
            raise self._refused(node, f"A number is needed here, and this is {what}.{hint}")
        return expr

    def _arithmetic(self, node: Node) -> Expr:
        args = tuple(self._number(arg) for arg in node.args)
        whole = node.op != "/" and all(arg.type.kind is _INTEGER for arg in args)
        unit = _common_unit(args) if node.op in {"+", "-", "neg"} else None
        return Expr(node.op, Type(_INTEGER if whole else _REAL, unit=unit), args)

    def _case(self, node: Node) -> Expr:
        *branches, default = node.args
        conditions = [self._boolean(condition) for condition in branches[::2]]
        whole, values = self._alike([*branches[1::2], default])
        parts: list[Expr] = []
        for condition, value in zip(conditions, values, strict=False):
            parts += [condition, value]
        return Expr("case", whole, (*parts, values[-1]))

    def _alike(self, nodes: list[Node]) -> tuple[Type, tuple[Expr, ...]]:
        """Values of one type, and that type; a category has the levels of all."""
        exprs = [self.check(node) for node in nodes]
        known = [(n, e) for n, e in zip(nodes, exprs, strict=True) if e.type.kind is not None]
        if not known:
            raise self._refused(nodes[0], "This is NULL for everybody.")
        kinds = {expr.type.kind for _, expr in known}
        dated = kinds & {_DATE, _DATETIME}
        if dated and kinds == dated | {_CATEGORY}:
            kind = next(iter(dated))
            exprs = [self._moment(n, kind) or e for n, e in zip(nodes, exprs, strict=True)]
        return self._unified(nodes, exprs)

    def _unified(self, nodes: list[Node], exprs: list[Expr]) -> tuple[Type, tuple[Expr, ...]]:
        pairs = zip(nodes, exprs, strict=True)
        known = [(node, expr) for node, expr in pairs if expr.type.kind is not None]
        kinds = {expr.type.kind for _, expr in known}
        if not (kinds <= NUMBERS or len(kinds) == 1):
            first = known[0][1].type.kind
            other = next(pair for pair in known if pair[1].type.kind is not first)
            raise self._refused(
                other[0],
                f"All values must be of one type; this is {WORDS[other[1].type.kind]} and the "
                f"first is {WORDS[first]}.",
            )
        kind = _REAL if len(kinds) > 1 else known[0][1].type.kind
        levels = None
        if kind is _CATEGORY:
            levels = tuple(dict.fromkeys(v for _, e in known for v in e.type.levels or ()))
            if len(levels) > _MOST_LEVELS:
                raise self._refused(nodes[0], f"A category has at most {_MOST_LEVELS} levels.")
        whole = Type(kind, levels, _common_unit(expr for _, expr in known))
        return whole, tuple(
            Expr("null", whole) if expr.type.kind is None else expr for expr in exprs
        )

    def _call(self, node: Node) -> Expr:
        name = str(node.value).lower()
        calls: dict[str, Callable[[Node], Expr]] = {
            "coalesce": self._coalesce,
            "cut": self._cut,
            "datediff": self._datediff,
            "greatest": self._extreme,
            "least": self._extreme,
            "power": self._power,
            "year": self._year,
        }
        if name in calls:
            return calls[name](node)
        if name == "log":
            raise self._refused(node, "LOG has several meanings; write LN(x) or LOG10(x).")
        if name.upper() not in FUNCTIONS:
            raise self._refused(
                node,
                f"There is no function {str(node.value)[:30]} here; there are "
                f"{', '.join(FUNCTIONS)}.",
            )
        (arg,) = self._arguments(node, 1)
        number = self._number(arg)
        kind = _REAL if name in _REAL_FUNCTIONS else number.type.kind
        if name in _WHOLE_FUNCTIONS:
            kind = _INTEGER
        unit = None if name in _REAL_FUNCTIONS else number.type.unit
        return Expr(name, Type(kind, unit=unit), (number,))

    def _arguments(self, node: Node, n: int) -> tuple[Node, ...]:
        if len(node.args) != n:
            raise self._refused(
                node, f"{str(node.value).upper()} takes {n} arguments, not {len(node.args)}."
            )
        return node.args

    def _several(self, node: Node) -> list[Node]:
        if len(node.args) < 2:
            raise self._refused(node, f"{str(node.value).upper()} takes two or more arguments.")
        return list(node.args)

    def _coalesce(self, node: Node) -> Expr:
        whole, values = self._alike(self._several(node))
        return Expr("coalesce", whole, values)

    def _extreme(self, node: Node) -> Expr:
        whole, values = self._alike(self._several(node))
        if whole.kind not in ORDERED:
            raise self._refused(node.args[0], "Numbers or dates are needed here.")
        return Expr(str(node.value).lower(), whole, values)

    def _power(self, node: Node) -> Expr:
        base, exponent = self._arguments(node, 2)
        if exponent.op != "number" or not isinstance(exponent.value, int | float):
            raise self._refused(exponent, "The exponent of POWER is a number: POWER(x, 2).")
        if abs(exponent.value) > 100:
            raise self._refused(exponent, "The exponent of POWER is at most 100.")
        number = self._number(base)
        whole = isinstance(exponent.value, int) and exponent.value >= 0
        kind = number.type.kind if whole else _REAL
        return Expr("power", Type(kind), (number,), value=float(exponent.value))

    def _dates(self, node: Node, n: int) -> tuple[Expr, ...]:
        dates = []
        for arg in self._arguments(node, n):
            expr = self._moment(arg, _DATE) or self.check(arg)
            if expr.type.kind is not _DATE:
                raise self._refused(
                    arg,
                    f"{str(node.value).upper()} takes dates; this is {WORDS[expr.type.kind]}.",
                )
            dates.append(expr)
        return tuple(dates)

    def _datediff(self, node: Node) -> Expr:
        if len(node.args) == 3:
            raise self._refused(node, "DATEDIFF takes two dates and gives days: DATEDIFF(b, a).")
        return Expr("datediff", Type(_INTEGER, unit="days"), self._dates(node, 2))

    def _year(self, node: Node) -> Expr:
        return Expr("year", Type(_INTEGER), self._dates(node, 1))

    def _cut(self, node: Node) -> Expr:
        subject, listed = self._arguments(node, 2)
        number = self._number(subject)
        edges = [part.value for part in listed.args if part.op == "number"]
        numbers = tuple(float(edge) for edge in edges if isinstance(edge, int | float))
        rising = all(low < high for low, high in pairwise(numbers))
        right = listed.op == "list" and len(numbers) == len(listed.args) and rising
        if not right or not 2 <= len(numbers) <= _MOST_EDGES:
            raise self._refused(
                listed, f"cut needs 2 to {_MOST_EDGES} rising edges: cut(age, [18, 45, 65, 120])."
            )
        levels = tuple(f"[{_plain(low)}, {_plain(high)})" for low, high in pairwise(numbers))
        return Expr("cut", Type(_CATEGORY, levels), (number,), value=numbers)


def _common_unit(exprs: Iterable[Expr]) -> str | None:
    """The one unit of the operands that are not constants."""
    units = {expr.type.unit for expr in exprs if expr.op not in {"number", "null"}}
    return next(iter(units)) if len(units) == 1 else None


def _as_seconds(written: str) -> int | None:
    day = as_date(written)
    if day is not None:
        return day * 86_400
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2})?", written):
        return None
    try:
        return int(datetime.fromisoformat(written).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _plain(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def listed(names: Iterable[str]) -> str:
    """Names in a message; the first twenty."""
    shown = list(names)
    more = f" and {len(shown) - _SHOWN_LEVELS} more" if len(shown) > _SHOWN_LEVELS else ""
    return ", ".join(shown[:_SHOWN_LEVELS]) + more
