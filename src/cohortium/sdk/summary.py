"""The text table of a fitted model, from plain data."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from cohortium.sdk.html import text_html

MIN_WIDTH = 78


class Summary(str):
    """Text that a notebook and a prompt show as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return text_html(str(self))


def text_table(
    title: str,
    facts: Sequence[tuple[str, str]],
    columns: Sequence[str],
    rows: Mapping[str, Sequence[str]],
) -> Summary:
    """A title, facts, and a row of numbers a name, in statsmodels' layout.

    Args:
        facts: The first stands on lines of its own; the others, an even number, in two columns.
        columns: Heads of the numbers.
    """
    first = max([len(name) for name in rows] + [4])
    cells = [text for texts in (columns, *rows.values()) for text in texts]
    wide = max([10, *(len(text) + 1 for text in cells)])
    width = max(MIN_WIDTH, first + 64, first + wide * len(columns))
    lines = [title.center(width).rstrip(), "=" * width]
    lines += _facts(facts, width)
    lines.append("=" * width)
    if not rows:
        return Summary("\n".join(lines))
    lines += [" " * first + "".join(column.rjust(wide) for column in columns), "-" * width]
    lines += [
        name.ljust(first) + "".join(number.rjust(wide) for number in numbers)
        for name, numbers in rows.items()
    ]
    lines.append("=" * width)
    return Summary("\n".join(lines))


def _facts(facts: Sequence[tuple[str, str]], width: int) -> list[str]:
    (name, text), *pairs = facts
    wrapped = textwrap.wrap(
        name.ljust(15) + text, width, subsequent_indent=" " * 15, break_on_hyphens=False
    )
    half = width // 2 + 1
    return wrapped + [
        (left.ljust(15) + value).ljust(half) + right.ljust(20) + other.rjust(width - half - 20)
        for (left, value), (right, other) in zip(pairs[::2], pairs[1::2], strict=True)
    ]


def fixed(value: float, digits: int) -> str:
    """Fixed point, or exponent where it would not fit or show nothing."""
    if math.isnan(value):
        return "nan"
    text = f"{value:.{digits}f}"
    tiny = digits == 4 and value != 0 and abs(value) < 0.001
    return f"{value:.2e}" if len(text) > 9 or tiny else text
