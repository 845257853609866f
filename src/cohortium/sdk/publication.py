"""A result as a table to print: what every writer of files and the report are given."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Cell = str | int | float | None
"""A number stays a number, so that a spreadsheet can go on with it; None is an empty cell."""

_STEERING = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
DIGITS = 4


@dataclass(frozen=True)
class Row:
    """One row; `indent` steps to the right, for the levels below their variable."""

    cells: tuple[Cell, ...]
    indent: int = 0


@dataclass(frozen=True)
class PrintedTable:
    """A table with its title above and its notes below; each row has a cell for each column.

    Attributes:
        columns: Their heads; the first column names the rows.
        notes: Footnotes: the method, what was withheld, the run and its contract.
        decimals: Of a column whose numbers are shown with a fixed number of them.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    decimals: Mapping[str, int] = field(default_factory=dict)

    def texts(self) -> list[list[str]]:
        """The rows as people read them, without the indentation."""
        return [
            [
                shown(cell, self.decimals.get(column))
                for column, cell in zip(self.columns, row.cells, strict=True)
            ]
            for row in self.rows
        ]

    def text(self) -> str:
        """The table in fixed width, for a terminal."""
        rows = [
            ["  " * row.indent + cells[0], *cells[1:]]
            for row, cells in zip(self.rows, self.texts(), strict=True)
        ]
        every = [list(self.columns), *rows]
        widths = [max(wide(row[at]) for row in every) for at in range(len(self.columns))]
        lines = [
            "  ".join(
                _padded(cell, width, left=at == 0)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in every
        ]
        rule = "-" * max(map(wide, [*lines, self.title]))
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule, *self.notes])


def from_frame(
    title: str, frame: pd.DataFrame, notes: Sequence[str] = (), levels: str | None = None
) -> PrintedTable:
    """A data frame as a table; empty columns are left out, an index with a name comes first.

    Args:
        levels: A column whose entry, where there is one, names an indented row.
    """
    frame = frame.reset_index() if frame.index.name is not None else frame
    frame = frame.dropna(axis="columns", how="all")
    columns = [str(column) for column in frame.columns]
    values = [[as_cell(cell) for cell in row] for row in frame.itertuples(index=False, name=None)]
    if levels is None or levels not in columns:
        return PrintedTable(
            title, tuple(columns), tuple(Row(tuple(row)) for row in values), tuple(notes)
        )
    at = columns.index(levels)
    rows = []
    for row in values:
        level = row.pop(at)
        rows.append(Row(tuple(row)) if level is None else Row((level, *row[1:]), indent=1))
    columns.pop(at)
    return PrintedTable(title, tuple(columns), tuple(rows), tuple(notes))


def as_cell(value: object) -> Cell:
    """A value of a frame (numpy's and pandas' scalars too) as a cell; what is missing is None."""
    item = getattr(value, "item", None)
    value = item() if callable(item) else value
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return value if isinstance(value, int) else clean(str(value))


def shown(cell: Cell, decimals: int | None = None) -> str:
    """A cell as people read it."""
    if cell is None:
        return ""
    if isinstance(cell, str):
        return clean(cell)
    if isinstance(cell, int) or not math.isfinite(cell):
        return str(cell)
    if decimals is not None:
        return f"{cell:.{decimals}f}"
    text = f"{cell:.{DIGITS}g}"
    # Persons and large sums are read in full, not as 1.234e+04.
    return f"{cell:.0f}" if "e+" in text and abs(cell) < 1e9 else text


def p_text(p: float | None, least: float = 0.001) -> str:
    """A p value as journals print it: ``<0.001``, ``0.012``, ``0.35``."""
    if p is None or math.isnan(p):
        return ""
    if p < least:
        return f"<{least:g}"
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return f"{p:.3f}" if text == "0.05" else text


def limits_text(low: float, high: float, lang: str) -> str:
    """``1.02 to 1.08``; empty where a limit is not a number."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"{shown(low)} {'至' if lang == 'zh' else 'to'} {shown(high)}"


def clean(text: str) -> str:
    """Without line ends, control and direction characters, which no table holds.

    Labels come from others; XML knows no control characters, and a direction mark changes how the
    line beside it is read.
    """
    if text.isprintable():
        return text
    return "".join(
        c if unicodedata.category(c) not in _STEERING else " " if c in "\n\r\t" else "\ufffd"
        for c in text
    )


def wide(text: str) -> int:
    """Columns of a terminal that a text takes: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, width: int, *, left: bool) -> str:
    gap = " " * (width - wide(text))
    return text + gap if left else gap + text
