"""A report as PDF, with reportlab: BSD, pure Python, and with fonts for Chinese of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final
from xml.sax.saxutils import escape

from cohortium.sdk.export import require_library
from cohortium.sdk.publication import PrintedTable, clean, wide
from cohortium.sdk.report import Block, Chart, Facts, Heading, Paragraph, Report

LATIN: Final = "Times-Roman"
LATIN_BOLD: Final = "Times-Bold"
CHINESE: Final = "STSong-Light"
MARGIN: Final = 56.7  # points: 2 cm
CELL: Final = 8.0
NOTE: Final = 7.5
MOST_SHRUNK: Final = 1.5
"""How much more than the page a table may ask for before it is parted."""


def as_pdf(report: Report) -> bytes:
    """A4 pages with page numbers; the same report gives the same bytes.

    Raises:
        InputError: ``missing-extra`` without reportlab.
    """
    require_library("reportlab", ".pdf")
    from reportlab.lib.pagesizes import A4
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.platypus import SimpleDocTemplate

    pdfmetrics.registerFont(UnicodeCIDFont(CHINESE))
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN,
        title=clean(report.title),
        author="Cohortium",
        lang="zh-CN" if report.lang == "zh" else "en",
        invariant=1,
    )
    styles = _styles()
    story = [_text(report.title, styles["title"])]
    for block in report.blocks:
        story += _flowables(block, styles, document.width)
    document.build(story, onFirstPage=_numbered, onLaterPages=_numbered)
    return out.getvalue()


def markup(text: str, latin: str = LATIN) -> str:
    """A text in reportlab's markup: escaped, each run of characters in a font that has them."""
    parts = []
    for is_latin, run in groupby(clean(text), _in_latin_font):
        chars = escape("".join(run))
        parts.append(chars if is_latin else f'<font name="{CHINESE}">{chars}</font>')
    return f'<font name="{latin}">{"".join(parts)}</font>'


def _in_latin_font(character: str) -> bool:
    try:
        character.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


def _styles() -> dict[str, Any]:
    from reportlab.lib.styles import ParagraphStyle

    body = ParagraphStyle(
        "body", fontName=LATIN, fontSize=10, leading=14, spaceAfter=5, wordWrap="CJK"
    )
    return {
        "body": body,
        "title": ParagraphStyle(
            "title", body, fontName=LATIN_BOLD, fontSize=17, leading=22, spaceAfter=10
        ),
        "h1": ParagraphStyle(
            "h1", body, fontName=LATIN_BOLD, fontSize=13, leading=17, spaceBefore=12, keepWithNext=1
        ),
        "h2": ParagraphStyle(
            "h2", body, fontName=LATIN_BOLD, fontSize=11, leading=15, spaceBefore=8, keepWithNext=1
        ),
        "note": ParagraphStyle("note", body, fontSize=NOTE, leading=NOTE + 2.2, spaceAfter=1),
        "left": ParagraphStyle("left", body, fontSize=CELL, leading=CELL + 2, spaceAfter=0),
        "right": ParagraphStyle(
            "right", body, fontSize=CELL, leading=CELL + 2, spaceAfter=0, alignment=2
        ),
    }


def _text(text: str, style: Any) -> Any:
    from reportlab.platypus import Paragraph as Flowing

    return Flowing(markup(text, style.fontName), style)


def _flowables(block: Block, styles: dict[str, Any], width: float) -> Iterator[Any]:
    from reportlab.platypus import Spacer

    match block:
        case Heading():
            yield _text(block.text, styles["h1" if block.level == 1 else "h2"])
        case Paragraph():
            yield _text(block.text, styles["note" if block.small else "body"])
        case Facts():
            rows = [
                [_text(name, styles["left"]), _text(value, styles["left"])]
                for name, value in block.pairs
            ]
            yield _grid(rows, [width * 0.2, width * 0.8], ruled=False)
            yield Spacer(1, 6)
        case Chart():
            yield from _picture(block, width)
        case _:
            yield from _table(block, styles, width)


def _table(table: PrintedTable, styles: dict[str, Any], width: float) -> Iterator[Any]:
    from reportlab.platypus import Spacer

    if table.title:
        yield _text(table.title, styles["h2"])
    every = [list(table.columns), *table.texts()]
    indents = [0, *(row.indent for row in table.rows)]
    asked = _asked(every)
    for part in _parts(asked, width):
        rows = [
            [
                _text("\u00a0" * 4 * indent + cells[0], styles["left"]),
                *(_text(cells[c], styles["right"]) for c in part[1:]),
            ]
            for indent, cells in zip(indents, every, strict=True)
        ]
        shrink = min(1.0, width / sum(asked[c] for c in part))
        yield _grid(rows, [asked[c] * shrink for c in part], ruled=True)
        yield Spacer(1, 3)
    for note in table.notes:
        yield _text(note, styles["note"])
    yield Spacer(1, 8)


def _asked(every: Sequence[Sequence[str]]) -> list[float]:
    """The width that each column's longest text asks for; long ones are broken into lines."""
    longest = (max(map(wide, column)) for column in zip(*every, strict=True))
    return [min(max(one, 4), 48) * CELL * 0.56 + 10 for one in longest]


def _parts(asked: Sequence[float], width: float) -> Iterator[list[int]]:
    """Columns that stand beside each other; a table that is too wide goes on below, named again."""
    part = [0]
    for c in range(1, len(asked)):
        if len(part) > 1 and sum(asked[k] for k in (*part, c)) > width * MOST_SHRUNK:
            yield part
            part = [0]
        part.append(c)
    yield part


def _grid(rows: list[list[Any]], widths: list[float], *, ruled: bool) -> Any:
    from reportlab.lib.colors import black
    from reportlab.platypus import Table

    style: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 1.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3),
    ]
    if ruled:
        style += [
            ("LINEABOVE", (0, 0), (-1, 0), 1, black),
            ("LINEBELOW", (0, 0), (-1, 0), 0.5, black),
            ("LINEBELOW", (0, -1), (-1, -1), 1, black),
        ]
    return Table(
        rows, widths, repeatRows=1 if ruled else 0, hAlign="LEFT", style=style, splitInRow=1
    )


def _picture(block: Chart, width: float) -> Iterator[Any]:
    from reportlab.lib.utils import ImageReader
    from reportlab.platypus import Image, Spacer

    from cohortium.sdk.plots import picture

    drawn = picture(block.chart, ".png")
    if drawn is None:
        return
    across, down = ImageReader(io.BytesIO(drawn)).getSize()
    scale = min(72 / 160, width / across, 500 / down)
    yield Image(io.BytesIO(drawn), across * scale, down * scale, hAlign="LEFT")
    yield Spacer(1, 8)


def _numbered(canvas: Any, document: Any) -> None:
    canvas.saveState()
    canvas.setFont(LATIN, 8)
    canvas.drawRightString(document.pagesize[0] - MARGIN, MARGIN / 2, f"{document.page}")
    canvas.restoreState()
