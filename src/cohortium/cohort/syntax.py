"""The language's own syntax: what a text becomes once nothing in it can surprise.

A `Node` is what was written; an `Expr` is what it means for a study's variables. Both are
immutable trees with an operator and its operands.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from cohortium.core.dictionary import VariableType
from cohortium.errors import InputError

MAX_CHARACTERS: Final = 2000
MAX_NODES: Final = 1000
MAX_DEPTH: Final = 60
MAX_BRACKETS: Final = 12
"""Brackets, CASE, NOT and signs inside one another. The parser is recursive, and a limit that the
stack sets would be another one at each site."""

Constant = str | float | int | bool | tuple[str, ...] | tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Node:
    """A text's syntax, before it is known what its names stand for.

    Attributes:
        op: ``name``, ``number``, ``text``, ``date``, ``truth``, ``null``, an operator's symbol or a
            function's name in lower case.
        value: Of a name or a constant.
        at: Where it stands in the text, from 0.
    """

    op: str
    args: tuple[Node, ...] = ()
    value: Constant = None
    at: int = field(default=0, compare=False)

    def walk(self) -> Iterator[Node]:
        """The node and all below it."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.args)


@dataclass(frozen=True, slots=True)
class Type:
    """What an expression gives.

    Attributes:
        kind: None for a bare NULL.
        levels: Of a category.
    """

    kind: VariableType | None
    levels: tuple[str, ...] | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Expr:
    """A checked expression; see `cohortium.cohort.check` for the operators."""

    op: str
    type: Type
    args: tuple[Expr, ...] = ()
    value: Constant = None

    def walk(self) -> Iterator[Expr]:
        """The expression and all below it."""
        pending = [self]
        while pending:
            expr = pending.pop()
            yield expr
            pending.extend(expr.args)

    @property
    def reads(self) -> frozenset[str]:
        """The variables that it names itself; derived ones are not followed."""
        return frozenset(str(e.value) for e in self.walk() if e.op == "column")


def refused(text: str, at: int, message: str) -> InputError:
    """The error that points at a place in a criterion."""
    at = max(0, min(at, len(text)))
    start = text.rfind("\n", 0, at) + 1
    line = text[start:].split("\n", 1)[0]
    before = "".join("\t" if c == "\t" else " " * _columns(c) for c in text[start:at])
    shown = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line)
    return InputError(
        "bad-criterion",
        f"{message}\n  {shown}\n  {before}^ (character {at})",
        position=at,
        reason=message,
    )


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
