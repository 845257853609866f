"""What an expression means for a study's variables: names are found, types agree.

Operators of an `Expr` (``value`` in brackets): column [name], number [float], text [level],
truth [bool], null; and, or, not; compare [symbol] of numbers, dates and times; among [numbers];
level [levels] and same for categories; iff for booleans; is [None, True, False]; + - * / neg;
abs, ceil, datediff, exp, floor, greatest, least, ln, log10, power [exponent], sqrt, year;
case (condition, value, ..., default), coalesce, cut [edges].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cohortium.cohort.parser import parse
from cohortium.cohort.syntax import Expr, Node, Type, refused
from cohortium.cohort.values import FUNCTIONS, NUMBERS, ORDERED, WORDS, Values, listed
from cohortium.core.dictionary import Variable, VariableType

__all__ = ["FUNCTIONS", "check", "check_criterion"]

_INTEGER, _REAL = VariableType.INTEGER, VariableType.REAL
_BOOLEAN, _CATEGORY = VariableType.BOOLEAN, VariableType.CATEGORY
_DATE = VariableType.DATE
_TRUTH: Final = Type(_BOOLEAN)
_FLIPPED: Final = {">": "<", ">=": "<="}


def check(text: str, variables: Mapping[str, Variable]) -> Expr:
    """Read an expression and find out what it gives.

    Raises:
        InputError: ``bad-criterion``, with the place in the text.
    """
    node = parse(text)
    expr = _Checker(text, variables).check(node)
    if expr.type.kind is None:
        raise refused(text, node.at, "This is NULL for everybody.")
    return expr


def check_criterion(text: str, variables: Mapping[str, Variable]) -> Expr:
    """Read an expression that is true or false of a person.

    Raises:
        InputError: ``bad-criterion``, with the place in the text.
    """
    expr = check(text, variables)
    if expr.type.kind is not _BOOLEAN:
        raise refused(
            text,
            parse(text).at,
            f"A criterion is true or false of a person; this is {WORDS[expr.type.kind]}.",
        )
    return expr


class _Checker(Values):
    """The conditions, too."""

    def check(self, node: Node) -> Expr:
        """The expression that a node stands for."""
        match node.op:
            case "name":
                return self._name(node)
            case "number" if isinstance(node.value, int | float):
                kind = _INTEGER if isinstance(node.value, int) else _REAL
                return Expr("number", Type(kind), value=float(node.value))
            case "date" if isinstance(node.value, int):
                return Expr("number", Type(_DATE), value=float(node.value))
            case "text":
                return self._level(node)
            case "truth":
                return Expr("truth", _TRUTH, value=node.value)
            case "null":
                return Expr("null", Type(None))
            case "and" | "or" | "not":
                return Expr(node.op, _TRUTH, tuple(self._boolean(arg) for arg in node.args))
            case "is":
                return self._is(node)
            case "between":
                return self._between(node)
            case "in":
                return self._in(node)
            case "like":
                return self._like(node)
            case "case":
                return self._case(node)
            case "call":
                return self._call(node)
            case "list":
                raise self._refused(node, "A list in square brackets stands only in cut(x, [...]).")
            case "+" | "-" | "*" | "/" | "neg":
                return self._arithmetic(node)
        return self._compare(node)

    def _boolean(self, node: Node) -> Expr:
        expr = self.check(node)
        if expr.type.kind is None:
            return Expr("null", _TRUTH)
        if expr.type.kind is not _BOOLEAN:
            what = WORDS[expr.type.kind]
            raise self._refused(node, f"This must be true or false, and is {what}.")
        return expr

    def _is(self, node: Node) -> Expr:
        if node.value is None:
            return Expr("is", _TRUTH, (self.check(node.args[0]),))
        return Expr("is", _TRUTH, (self._boolean(node.args[0]),), value=node.value)

    def _compare(self, node: Node) -> Expr:
        left, right = self._pair(*node.args)
        kind = left.type.kind
        if kind in ORDERED:
            return _ordered(node.op, left, right)
        if node.op not in {"=", "<>"}:
            raise self._refused(
                node, f"{WORDS[kind].capitalize()} has no order here; compare with = or <>."
            )
        if kind is _BOOLEAN:
            equal = Expr("iff", _TRUTH, (left, right))
        elif right.op == "text":
            equal = Expr("level", _TRUTH, (left,), value=(str(right.value),))
        else:
            equal = Expr("same", _TRUTH, (left, right))
        return equal if node.op == "=" else Expr("not", _TRUTH, (equal,))

    def _pair(self, first: Node, second: Node) -> tuple[Expr, Expr]:
        """Two things that can be compared; a level comes second."""
        for node in (first, second):
            if node.op == "null":
                raise self._refused(
                    node, "A comparison with NULL is never true; write IS NULL or IS NOT NULL."
                )
        if first.op == "text" and second.op != "text":
            second, first = first, second
            flipped = True
        else:
            flipped = False
        left = self.check(first)
        right = self._moment(second, left.type.kind) or self.check(second)
        if left.op == "text":
            raise self._refused(first, "Two texts are compared here, and no variable.")
        self._require_same(first, left, second, right)
        if right.op == "text":
            self._require_level(left, second)
        return (right, left) if flipped and left.type.kind in ORDERED else (left, right)

    def _require_same(self, first: Node, left: Expr, second: Node, right: Expr) -> None:
        one, other = left.type.kind, right.type.kind
        if one is other or {one, other} <= NUMBERS:
            return
        what, against = self._text_of(first, left), self._text_of(second, right)
        hint = ""
        for expr, literal in ((left, second), (right, first)):
            if expr.type.kind is _BOOLEAN and literal.op == "number":
                hint = f" Write {expr.value or 'it'} IS TRUE or {expr.value or 'it'} IS FALSE."
            elif expr.type.kind is _CATEGORY and literal.op == "number" and expr.op != "text":
                hint = f" Its levels are texts: {listed(map(repr, expr.type.levels or ()))}."
        raise self._refused(second, f"{what} and {against} cannot be compared.{hint}")

    def _require_level(self, expr: Expr, literal: Node) -> None:
        levels = expr.type.levels or ()
        if literal.value not in levels:
            what = str(expr.value) if expr.op == "column" else "This category"
            raise self._refused(
                literal,
                f"{what} has no level {str(literal.value)[:80]!r}; "
                f"it has {listed(map(repr, levels))}.",
            )

    def _between(self, node: Node) -> Expr:
        subject, low, high = node.args
        parts = []
        for symbol, bound in ((">=", low), ("<=", high)):
            left, right = self._pair(subject, bound)
            if left.type.kind not in ORDERED:
                raise self._refused(
                    subject, f"BETWEEN needs a number or a date; this is {WORDS[left.type.kind]}."
                )
            parts.append(_ordered(symbol, left, right))
        return Expr("and", _TRUTH, tuple(parts))

    def _in(self, node: Node) -> Expr:
        subject, *options = node.args
        left = self.check(subject)
        if left.type.kind is None or left.op == "text":
            raise self._refused(subject, "IN is asked of a variable here, not of a constant.")
        if left.type.kind is _BOOLEAN:
            raise self._refused(subject, "This is true or false; write IS TRUE or IS FALSE.")
        values = []
        for option in options:
            if option.op not in {"number", "text", "date"}:
                raise self._refused(option, "IN lists constants: IN (1, 2) or IN ('a', 'b').")
            right = self._moment(option, left.type.kind) or self.check(option)
            self._require_same(subject, left, option, right)
            if right.op == "text":
                self._require_level(left, option)
            values.append(right.value)
        if left.type.kind is _CATEGORY:
            levels = tuple(level for level in left.type.levels or () if level in values)
            return Expr("level", _TRUTH, (left,), value=levels)
        numbers = sorted({float(v) for v in values if isinstance(v, int | float)})
        return Expr("among", _TRUTH, (left,), value=tuple(numbers))

    def _like(self, node: Node) -> Expr:
        subject, pattern = node.args
        left = self.check(subject)
        if left.type.kind is not _CATEGORY or left.op == "text":
            raise self._refused(
                subject, f"LIKE is for categories; this is {WORDS[left.type.kind]}."
            )
        if pattern.op != "text":
            raise self._refused(pattern, "LIKE is followed by a pattern: LIKE 'C34%'.")
        wanted = str(pattern.value)
        found = tuple(level for level in left.type.levels or () if _is_like(level, wanted))
        return Expr("level", _TRUTH, (left,), value=found)


def _ordered(symbol: str, left: Expr, right: Expr) -> Expr:
    if symbol in _FLIPPED:
        return Expr("compare", _TRUTH, (right, left), value=_FLIPPED[symbol])
    return Expr("compare", _TRUTH, (left, right), value=symbol)


def _is_like(level: str, pattern: str) -> bool:
    """``%`` is any text, ``_`` one character; there is no escape. Time is bounded by the product of
    the lengths: a regular expression's would not be.
    """
    at = place = 0
    star, resume = -1, 0
    while at < len(level):
        if place < len(pattern) and pattern[place] == "%":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in {"_", level[at]}:
            at, place = at + 1, place + 1
        elif star >= 0:
            place, resume = star + 1, resume + 1
            at = resume
        else:
            return False
    return not pattern[place:].strip("%")
