"""The factors of a formula: a small checked part of Python's syntax, computed with numpy."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cohortium.cohort.singling import MAX_DEGREE, Form, NotGentle, apart
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]

FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
}
"""Transformations of one number, the same at every site. None of them is as steep as exp."""

_FORMS: Mapping[str, Callable[[Form], Form]] = {
    "I": lambda form: form,
    "log": Form.log,
    "log2": Form.log,
    "log10": Form.log,
    "log1p": lambda form: (form + Form.constant()).log(),
    "sqrt": Form.root,
}
_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_MAX_NUMBER = 1e15
_MAX_DEPTH = 30


_VARIABLE: Final = Form.variable()


@dataclass(frozen=True)
class Expression:
    """A checked factor.

    What it makes of numbers is gentle (`cohort.singling`): it could pick out persons otherwise.

    Attributes:
        text: As the formula names it.
        node: Its syntax, of allowed nodes only.
        names: Variables that it reads.
        category: The variable that ``C()`` makes a category of.
        reference: The level that ``Treatment()`` names.
        form: Of the number that it makes.
    """

    text: str
    node: ast.expr
    names: frozenset[str]
    category: str | None = None
    reference: str | None = None
    form: Form = _VARIABLE


def check(text: str, method: str) -> Expression:
    """Check one factor against the allow-list.

    Args:
        text: The factor's source.
        method: ``lookup`` (a name) or ``python`` (an expression), as formulaic says.

    Raises:
        InputError: ``bad-formula``.
    """
    if method == "lookup":
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text):
            raise _refused(text)
        return Expression(text, ast.Name(text), frozenset({text}))
    if method != "python":
        raise _refused(text)
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(text) from error
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "C":
        return _category(text, node)
    names: set[str] = set()
    try:
        form = _check_number(node, text, names, 0)
    except NotGentle as found:
        raise InputError(
            "bad-formula",
            f"{text[:80]!r} is not allowed in a formula. {found} It could pick out single persons "
            "otherwise. Let the contract derive it (`derived:` in the study file), for all sites "
            "to sign.",
        ) from None
    if not names:
        raise InputError("bad-formula", f"{text[:80]!r} does not read a variable.")
    return Expression(text, node, frozenset(names), form=form)


def evaluate(node: ast.expr, columns: Mapping[str, npt.NDArray[Any]]) -> Floats:
    """Compute a checked expression; what is not finite stays so."""
    with np.errstate(all="ignore"):
        return np.asarray(_evaluate(node, columns), dtype=np.float64)


def parts_made(node: ast.expr, columns: Mapping[str, npt.NDArray[Any]]) -> Iterator[Floats]:
    """As `cohort.singling.parts_made`, of a checked expression."""
    match node:
        case ast.Constant():
            return
        case ast.BinOp(left=left, right=right):
            below = [left, right]
        case ast.UnaryOp(operand=operand):
            below = [operand]
        case ast.Call(args=[argument]):
            below = [argument]
        case _:
            below = []
    yield apart(evaluate(node, columns))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield from (evaluate(term, columns) for term in below if not isinstance(term, ast.Constant))
    for part in below:
        yield from parts_made(part, columns)


def _refused(text: str) -> InputError:
    return InputError(
        "bad-formula",
        f"{text[:80]!r} is not allowed in a formula. Allowed are variables, arithmetic inside I(), "
        f"{', '.join(FUNCTIONS)}, and C(x) or C(x, Treatment('level')).",
    )


def _category(text: str, node: ast.Call) -> Expression:
    """``C(x)`` and ``C(x, Treatment("reference"))``."""
    match node:
        case ast.Call(args=[ast.Name(id=name)], keywords=[]):
            return Expression(text, ast.Name(name), frozenset({name}), category=name)
        case ast.Call(
            args=[
                ast.Name(id=name),
                ast.Call(
                    func=ast.Name(id="Treatment"),
                    args=[ast.Constant(value=str(reference))],
                    keywords=[],
                ),
            ],
            keywords=[],
        ):
            return Expression(text, ast.Name(name), frozenset({name}), name, reference)
    raise _refused(text)


def _check_number(node: ast.AST, text: str, names: set[str], depth: int) -> Form:
    """The form of a number.

    Raises:
        InputError: ``bad-formula``.
        NotGentle: It could pick out persons.
    """
    if depth > _MAX_DEPTH:
        raise InputError("bad-formula", "The formula is nested too deeply.")
    match node:
        case ast.Name(id=name):
            names.add(name)
            return Form.variable()
        case ast.Constant(value=int() | float() as value):
            if isinstance(value, bool) or not abs(value) <= _MAX_NUMBER:
                raise _refused(text)
            return Form.constant(value)
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            inner = _check_number(operand, text, names, depth + 1)
            return -inner if isinstance(sign, ast.USub) else inner
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() | float() as power)):
            if isinstance(power, bool) or not 0 < power <= MAX_DEGREE:
                raise InputError("bad-formula", f"A power is at most {MAX_DEGREE}.")
            return _check_number(left, text, names, depth + 1).power(float(power))
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as op):
            one = _check_number(left, text, names, depth + 1)
            other = _check_number(node.right, text, names, depth + 1)
            combine = _OPERATORS[type(op)]
            form: Form = combine(one, other)
            return form
        case ast.Call(func=ast.Name(id=function), args=[argument], keywords=[]) if (
            function == "I" or function in FUNCTIONS
        ):
            return _FORMS[function](_check_number(argument, text, names, depth + 1))
    raise _refused(text)


def _evaluate(node: ast.expr, columns: Mapping[str, npt.NDArray[Any]]) -> Any:
    match node:
        case ast.Name(id=name):
            return columns[name]
        case ast.Constant(value=int() | float() as value):
            return np.float64(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, columns)
        case ast.UnaryOp(operand=operand):
            return _evaluate(operand, columns)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_evaluate(left, columns), _evaluate(right, columns))
        case ast.Call(func=ast.Name(id=function), args=[argument]):
            inner = _evaluate(argument, columns)
            return inner if function == "I" else FUNCTIONS[function](inner)
    raise RuntimeError("an expression that was not checked")
