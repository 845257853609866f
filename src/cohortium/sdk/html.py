"""Notebook views. Every value is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_CELL = "padding:0.15em 0.7em"


def facts_html(title: str, facts: Mapping[str, object]) -> str:
    """A titled two-column table; facts without a value are left out."""
    rows = "".join(
        f"<tr><th style='text-align:left;{_CELL}'>{escape(str(name))}</th>"
        f"<td style='text-align:left;{_CELL}'>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"


def table_html(columns: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A plain table."""
    head = "".join(f"<th style='{_CELL}'>{escape(str(column))}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td style='{_CELL}'>{'' if cell is None else escape(str(cell))}</td>" for cell in row
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def text_html(text: str) -> str:
    """Fixed-width text."""
    return f"<pre>{escape(text)}</pre>"


def result_html(body: str, line: str) -> str:
    """A result's view with its run in small print below; `body` is HTML of this module."""
    return f"<div>{body}<small>{escape(line)}</small></div>"
