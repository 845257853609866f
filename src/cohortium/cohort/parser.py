"""From a text to a `Node`: sqlglot reads it, and only what is listed here comes through.

The tokens are checked first: words other than `KEYWORDS` are names, so that no statement, type or
clause of SQL can begin, and a variable may be called `time` or `group`. Functions are not looked
up by sqlglot, whose meaning of some depends on the dialect, but by `cohortium.cohort.check`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

from cohortium.cohort.syntax import (
    MAX_BRACKETS,
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_NODES,
    Node,
    refused,
)
from cohortium.errors import InputError

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

_CONSTANTS: Final = {
    "NULL": ("null", None),
    "TRUE": ("truth", True),
    "FALSE": ("truth", False),
}
"""Names to sqlglot, which keeps the place of a name and of no constant."""
KEYWORDS: Final = frozenset(
    {"AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "IS", "CASE", "WHEN", "THEN", "ELSE", "END"}
)
_SIGNS: Final = frozenset("=<>+-*/()[],") | {"==", "<>", "!=", "<=", ">="}
_PREFIXES: Final = frozenset({"NOT", "-", "+"})
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER: Final = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_NOT_UNDERSTOOD: Final = "This is not understood here; write a condition such as age >= 18."

_BINARY: Final = {
    "And": "and",
    "Or": "or",
    "EQ": "=",
    "NEQ": "<>",
    "LT": "<",
    "LTE": "<=",
    "GT": ">",
    "GTE": ">=",
    "Add": "+",
    "Sub": "-",
    "Mul": "*",
    "Div": "/",
}


@lru_cache(maxsize=1024)
def parse(text: str) -> Node:
    """Read an expression.

    Raises:
        InputError: ``bad-criterion``, with the place in the text; never anything else.
    """
    if len(text) > MAX_CHARACTERS:
        raise refused(text[:60], 60, f"A criterion has at most {MAX_CHARACTERS} characters.")
    for at, character in enumerate(text):
        if not character.isprintable() and character not in " \t\n\r":
            raise refused(text, at, "This character cannot stand in a criterion.")
    tokens = _tokens(text)
    _check_nesting(text, tokens)
    return _Conversion(text, [token.start for token in tokens]).convert(_tree(text, tokens))


def _tokens(text: str) -> list[Token]:
    from sqlglot.errors import SqlglotError
    from sqlglot.tokenizer_core import Token, TokenType
    from sqlglot.tokens import Tokenizer

    try:
        found = Tokenizer().tokenize(text)
    except (SqlglotError, ValueError, RecursionError) as error:
        at = max(text.rfind(mark) for mark in "'\"")
        raise refused(text, max(at, 0), "A quotation mark here is not closed.") from error
    if not found:
        raise refused(text, 0, "A criterion is missing here.")
    out = []
    for place, token in enumerate(found):
        source = text[token.start : token.end + 1]
        kind, upper = token.token_type, source.upper()
        if token.comments:
            raise refused(text, _comment_at(text, token.start), "A comment cannot stand here.")
        following = found[place + 1].token_type if place + 1 < len(found) else None
        if upper == "DATE" and following is TokenType.STRING:
            kind = TokenType.DATE
        elif upper in _CONSTANTS or (_WORD.fullmatch(source) and upper not in KEYWORDS):
            kind = TokenType.VAR
        elif kind is TokenType.IDENTIFIER and source[0] == '"' and _WORD.fullmatch(token.text):
            pass
        elif not (
            (kind is TokenType.STRING and source[0] == "'")
            or (kind is TokenType.NUMBER and _NUMBER.fullmatch(source))
            or upper in KEYWORDS
            or source in _SIGNS
        ):
            raise refused(text, token.start, f"{source[:20]!r} cannot stand in a criterion.")
        out.append(Token(kind, token.text, token.line, token.col, token.start, token.end))
    return out


def _comment_at(text: str, start: int) -> int:
    """Where the comment is that sqlglot attached to the token at `start`."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", lambda found: " " * len(found.group()), text)
    places = [bare.find(mark) for mark in ("--", "/*", "#", "//")]
    return min((at for at in places if at >= 0), default=start)


def _check_nesting(text: str, tokens: list[Token]) -> None:
    depth = run = 0
    for token in tokens:
        word = text[token.start : token.end + 1].upper()
        depth += (word in {"(", "[", "CASE"}) - (word in {")", "]", "END"})
        run = run + 1 if word in _PREFIXES else 0
        if depth + max(run - 1, 0) > MAX_BRACKETS:
            raise refused(
                text, token.start, f"More than {MAX_BRACKETS} brackets are inside one another."
            )


@lru_cache(maxsize=1)
def _parser() -> Callable[..., Any]:
    """The parser of sqlglot without its functions."""
    from sqlglot import exp, parser

    class Criteria(parser.Parser):
        FUNCTIONS: ClassVar[Any] = {}
        FUNCTION_PARSERS: ClassVar[Any] = {}
        NO_PAREN_FUNCTIONS: ClassVar[Any] = {}
        NO_PAREN_FUNCTION_PARSERS: ClassVar[Any] = {
            "CASE": parser.Parser.NO_PAREN_FUNCTION_PARSERS["CASE"]
        }

    def read(tokens: list[Token], text: str) -> Any:
        return Criteria().parse_into(exp.Condition, tokens, text)

    return read


def _tree(text: str, tokens: list[Token]) -> Any:
    from sqlglot.errors import ParseError

    try:
        trees = _parser()(tokens, text)
    except ParseError as error:
        at, token = _fault(error, tokens, len(text))
        why = _NOT_UNDERSTOOD
        if token is not None:
            why = f"{text[token.start : token.end + 1][:20]!r} is not understood here."
        elif at == len(text):
            why = "Something is missing here."
        raise refused(text, at, why) from error
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        raise refused(text, 0, _NOT_UNDERSTOOD) from error
    if len(trees) != 1 or trees[0] is None:
        raise refused(text, 0, _NOT_UNDERSTOOD)
    return trees[0]


def _fault(error: Any, tokens: list[Token], end: int) -> tuple[int, Token | None]:
    """Where the text went wrong; sqlglot names line and column of the last character of a token."""
    fault = (getattr(error, "errors", None) or [{}])[0]
    found = [t for t in tokens if (t.line, t.col) == (fault.get("line"), fault.get("col"))]
    if not found:
        return 0, None
    if found[0] is tokens[-1] and "Unexpected" not in str(fault.get("description")):
        return end, None
    return found[0].start, found[0]


class _Conversion:
    """One text's tree, turned into `Node`s."""

    def __init__(self, text: str, starts: list[int]) -> None:
        self._text = text
        self._first = starts[0]
        self._n_nodes = 0

    def convert(self, tree: Any) -> Node:
        """The expression that sqlglot's tree stands for."""
        return self._convert(tree, 0)

    def _convert(self, tree: Any, depth: int) -> Node:
        self._n_nodes += 1
        if depth > MAX_DEPTH or self._n_nodes > MAX_NODES:
            raise refused(self._text, self._first, "The criterion is too long; split it.")
        kind = type(tree).__name__
        if kind in {"And", "Or"}:
            return self._chain(tree, kind, depth)
        if kind in _BINARY:
            self._only(tree, "this", "expression", typed=False, safe=False)
            args = tuple(self._convert(tree.args[key], depth + 1) for key in ("this", "expression"))
            return Node(_BINARY[kind], args, at=args[0].at)
        reads: dict[str, Callable[[Any, int], Node]] = {
            "Anonymous": self._anonymous,
            "Array": self._array,
            "Between": self._between,
            "Case": self._case,
            "Cast": self._cast,
            "Column": self._column,
            "In": self._in,
            "Is": self._is,
            "Like": self._like,
            "Literal": self._literal,
            "Neg": self._neg,
            "Not": self._not,
            "Paren": self._paren,
        }
        if kind not in reads:
            raise self._refused(tree)
        return reads[kind](tree, depth)

    def _chain(self, tree: Any, kind: str, depth: int) -> Node:
        """``a AND b AND c``, however long, is one node."""
        parts, pending = [], [tree]
        while pending:
            part = pending.pop()
            if type(part).__name__ == kind:
                self._only(part, "this", "expression")
                pending += [part.args["expression"], part.args["this"]]
            else:
                parts.append(self._convert(part, depth + 1))
        return Node(_BINARY[kind], tuple(parts), at=parts[0].at)

    def _only(self, tree: Any, *keys: str, **defaults: object) -> None:
        """Nothing may be in the tree that is not looked at."""
        for key, value in tree.args.items():
            plain = key in keys or value in (None, False, []) or value == defaults.get(key)
            if not plain:
                raise self._refused(tree)

    def _refused(self, tree: Any) -> InputError:
        return refused(self._text, self._at(tree), _NOT_UNDERSTOOD)

    def _at(self, tree: Any) -> int:
        starts = [n.meta["start"] for n in tree.walk() if "start" in n.meta]
        return min(starts, default=self._first)

    def _paren(self, tree: Any, depth: int) -> Node:
        self._only(tree, "this")
        return self._convert(tree.this, depth + 1)

    def _not(self, tree: Any, depth: int) -> Node:
        self._only(tree, "this")
        arg = self._convert(tree.this, depth + 1)
        return Node("not", (arg,), at=arg.at)

    def _neg(self, tree: Any, depth: int) -> Node:
        self._only(tree, "this")
        arg = self._convert(tree.this, depth + 1)
        if arg.op == "number" and isinstance(arg.value, int | float):
            return Node("number", value=-arg.value, at=arg.at)
        return Node("neg", (arg,), at=arg.at)

    def _column(self, tree: Any, _depth: int) -> Node:
        self._only(tree, "this")
        if type(tree.this).__name__ != "Identifier":
            raise self._refused(tree)
        name = str(tree.this.this)
        if name.upper() in _CONSTANTS and not tree.this.args.get("quoted"):
            op, value = _CONSTANTS[name.upper()]
            return Node(op, value=value, at=self._at(tree))
        return Node("name", value=name, at=self._at(tree))

    def _literal(self, tree: Any, _depth: int) -> Node:
        at = self._at(tree)
        if tree.is_string:
            return Node("text", value=str(tree.this), at=at)
        written = str(tree.this)
        value = float(written)
        if not math.isfinite(value):
            raise refused(self._text, at, "This number is too large.")
        if written.isdigit() and value < 2**53:
            return Node("number", value=int(written), at=at)
        return Node("number", value=value, at=at)

    def _between(self, tree: Any, depth: int) -> Node:
        self._only(tree, "this", "low", "high")
        args = tuple(self._convert(tree.args[key], depth + 1) for key in ("this", "low", "high"))
        return Node("between", args, at=args[0].at)

    def _in(self, tree: Any, depth: int) -> Node:
        self._only(tree, "this", "expressions")
        if not tree.expressions:
            raise refused(self._text, self._at(tree), "IN needs a list of values: IN (1, 2).")
        args = tuple(self._convert(part, depth + 1) for part in (tree.this, *tree.expressions))
        return Node("in", args, at=args[0].at)

    def _like(self, tree: Any, depth: int) -> Node:
        self._only(tree, "this", "expression", negate=True)
        args = tuple(self._convert(tree.args[key], depth + 1) for key in ("this", "expression"))
        like = Node("like", args, at=args[0].at)
        return Node("not", (like,), at=like.at) if tree.args.get("negate") else like

    def _is(self, tree: Any, depth: int) -> Node:
        self._only(tree, "this", "expression")
        arg = self._convert(tree.this, depth + 1)
        what = self._convert(tree.expression, depth + 1)
        if what.op not in {"null", "truth"}:
            raise refused(self._text, what.at, "IS is followed by NULL, TRUE or FALSE.")
        return Node("is", (arg,), value=what.value, at=arg.at)

    def _case(self, tree: Any, depth: int) -> Node:
        self._only(tree, "this", "ifs", "default")
        parts: list[Node] = []
        at = self._at(tree)
        subject = None if tree.this is None else self._convert(tree.this, depth + 1)
        for branch in tree.args["ifs"]:
            self._only(branch, "this", "true")
            when = self._convert(branch.this, depth + 1)
            if subject is not None:
                when = Node("=", (subject, when), at=when.at)
            parts += [when, self._convert(branch.args["true"], depth + 1)]
        default = tree.args.get("default")
        parts.append(Node("null", at=at) if default is None else self._convert(default, depth + 1))
        return Node("case", tuple(parts), at=at)

    def _cast(self, tree: Any, _depth: int) -> Node:
        """``DATE '2020-01-31'``; there is no other cast."""
        at = self._at(tree)
        written = str(tree.this.this)
        if type(tree.this).__name__ != "Literal" or not tree.this.is_string:
            raise self._refused(tree)
        day = as_date(written)
        if day is None:
            raise refused(self._text, at, f"{written[:20]!r} is not a date; write '2020-01-31'.")
        return Node("date", value=day, at=at)

    def _anonymous(self, tree: Any, depth: int) -> Node:
        """A call; `check` knows which functions there are."""
        self._only(tree, "this", "expressions")
        if not isinstance(tree.this, str):
            raise self._refused(tree)
        args = tuple(self._convert(part, depth + 1) for part in tree.expressions)
        return Node("call", args, value=tree.this, at=self._at(tree))

    def _array(self, tree: Any, depth: int) -> Node:
        self._only(tree, "expressions")
        args = tuple(self._convert(part, depth + 1) for part in tree.expressions)
        return Node("list", args, at=self._at(tree))


def as_date(written: str) -> int | None:
    """Days since 1970-01-01 of an ISO date, or None."""
    if not _DATE.fullmatch(written):
        return None
    try:
        return (date.fromisoformat(written) - date(1970, 1, 1)).days
    except ValueError:
        return None
