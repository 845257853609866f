"""Lines of bounded display width, whose text cannot pass for structure or steer a terminal.

Chinese characters take two columns and may be parted anywhere but before closing and after opening
punctuation; Latin text is parted at spaces. What is longer than a line is cut: a terminal would
otherwise wrap it to the left margin, where only headings stand.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Any, Final

from cohortium.core.canonical import canonical

WIDTH: Final = 96

_CLOSING: Final = frozenset("，。、；：？！）】》〉」』”’％…—,.;:?!)]}%")
_OPENING: Final = frozenset("（【《〈「『“‘([{")
_BARE: Final = re.compile(r"[\w.&'’·/+@*\-]+(?: [\w.&'’·/+@*\-]+)*")


@dataclass(frozen=True)
class Free:
    """Text that people wrote into the contract; it stands behind bars, line by line."""

    text: str


Item = Sequence[str | Free]
"""Parts of an item in the list; each begins a line."""


def say(template: str, **values: object) -> str:
    """A phrase with its values; a Chinese character and a Latin word are set apart by a space."""
    text = ""
    for literal, field, _, _ in Formatter().parse(template):
        for piece in (literal, "" if field is None else str(values[field])):
            text += " " + piece if piece and _touch(text[-1:], piece[0]) else piece
    return text


def _touch(left: str, right: str) -> bool:
    return (_ideograph(left) and _latin(right)) or (_latin(left) and _ideograph(right))


def _ideograph(character: str) -> bool:
    return character != "" and unicodedata.category(character) == "Lo" and _columns(character) == 2


def _latin(character: str) -> bool:
    return "!" <= character <= "~"


def name(text: str) -> str:
    """A name as it is, or in quotation marks where it holds what our own sentences are made of."""
    return text if _BARE.fullmatch(text) else quoted(text)


def quoted(text: str) -> str:
    """In quotation marks, with those inside it escaped."""
    return "“" + re.sub(r"([\\“”])", r"\\\1", text) + "”"


def value(data: Any) -> str:
    """A JSON value; numbers with every digit that is signed, and text in quotation marks."""
    if isinstance(data, str):
        return quoted(data)
    if isinstance(data, dict | list | tuple):
        return json.dumps(data, ensure_ascii=False, sort_keys=True)
    return canonical(data).decode()


def printable(text: str) -> str:
    """Without control and direction characters: a contract must not steer the reader's terminal.

    Spaces of other widths become common ones.
    """
    if text.isprintable():
        return text
    return "".join(
        c
        if c.isprintable()
        else " "
        if unicodedata.category(c) == "Zs"
        else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def display_width(text: str) -> int:
    """Columns that a terminal gives to the text."""
    return len(text) if text.isascii() else sum(map(_columns, text))


@lru_cache(maxsize=4096)
def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def bulleted(item: Item, bullet: str = "  - ") -> list[str]:
    """An item's lines: the first has the bullet, the others stand under its text."""
    indent = " " * len(bullet)
    lines: list[str] = []
    for part in item:
        if isinstance(part, Free):
            lines += barred(part.text, indent)
        else:
            lines += wrap(part, indent if lines else bullet, indent)
    return lines


def barred(text: str, indent: str = "") -> list[str]:
    """Free text behind bars, so that it cannot pass for a section of ours."""
    lines = text.replace("\r\n", "\n").strip().split("\n")
    wrapped = [line for part in lines for line in wrap(part, "", "", WIDTH - len(indent) - 2)]
    return [f"{indent}| {line}".rstrip() for line in wrapped]


def wrap(text: str, first: str = "", rest: str = "", width: int = WIDTH) -> list[str]:
    """Lines of at most `width` columns that begin with `first` or, after it, with `rest`."""
    lines, line, used = [], first, display_width(first)
    empty = True
    for piece in _pieces(printable(text), width - max(len(first), len(rest))):
        columns = display_width(piece.rstrip(" "))
        if not empty and used + columns > width:
            lines.append(line.rstrip(" "))
            line, used, empty = rest, display_width(rest), True
        if empty and lines:
            piece = piece.lstrip(" ")
        line += piece
        used += display_width(piece)
        empty = empty and not piece
    return [*lines, line.rstrip(" ")]


def _pieces(text: str, longest: int) -> Iterator[str]:
    """What a line is filled with: words with the spaces after them, single wide characters."""
    if text.isascii():
        yield from re.findall(rf"[^ ]{{1,{longest}}} *| +", text)
        return
    piece, columns = "", 0
    for before, c in zip(" " + text, text, strict=False):
        if piece and (_may_part(before, c) or columns + _columns(c) > longest):
            yield piece
            piece, columns = "", 0
        piece += c
        columns += 0 if c == " " else _columns(c)
    if piece:
        yield piece


def _may_part(before: str, after: str) -> bool:
    if before == " " or after == " ":
        return after != " "
    if _columns(after) == 0:
        return False
    if before in _OPENING or after in _CLOSING:
        return False
    return _columns(before) == 2 or _columns(after) == 2


__all__ = [
    "WIDTH",
    "Free",
    "Item",
    "barred",
    "bulleted",
    "display_width",
    "name",
    "printable",
    "quoted",
    "say",
    "value",
    "wrap",
]
