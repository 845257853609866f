"""Tables for a paper: CSV, XLSX, DOCX, LaTeX and HTML, by the ending of the file.

Labels come from the sites: each writer escapes them for its format, and none lets a spreadsheet
take one for a formula.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cohortium.errors import InputError
from cohortium.sdk.files import writing
from cohortium.sdk.language import Language
from cohortium.sdk.publication import Cell, PrintedTable, Row, clean, shown

if TYPE_CHECKING:
    import pandas as pd

EXTRA: Final = 'pip install "cohortium[report]"'


def export(tables: Sequence[PrintedTable], path: Path, lang: Language = "en") -> Path:
    """Write tables; the ending of `path` says how.

    Raises:
        InputError: ``bad-input`` for another ending, or a folder that there is not;
            ``missing-extra`` without the library that writes XLSX or DOCX.
    """
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(
            "bad-input",
            f"Tables are written as {', '.join(WRITERS)}, not {path.suffix or path.name!r}.",
        )
    with writing(path):
        path.write_bytes(writer(tables, lang))
    return path


def require_library(module: str, what: str) -> None:
    """Say what to install, where a library of the extra ``report`` is absent.

    Raises:
        InputError: ``missing-extra``.
    """
    if importlib.util.find_spec(module) is None:
        raise InputError("missing-extra", f"Writing {what} needs: {EXTRA}")


def as_csv(tables: Sequence[PrintedTable], lang: Language = "en") -> bytes:
    """UTF-8; title and notes are lines that begin with ``#``: ``read_csv(path, comment="#")``.

    Numbers have all their digits, and the levels of a category two spaces before them.
    """
    del lang
    out = io.StringIO(newline="")
    for at, table in enumerate(tables):
        if at:
            out.write("\n")
        out.write(f"# {clean(table.title)}\n")
        writer = csv.writer(out, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
        quoted = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        rows = [tuple(table.columns), *(_indented(row) for row in table.rows)]
        for row in rows:
            cells = [_no_formula(cell) if isinstance(cell, str) else cell for cell in row]
            hash_ = any(isinstance(cell, str) and "#" in cell for cell in cells)
            (quoted if hash_ else writer).writerow(cells)
        out.writelines(f"# {clean(note)}\n" for note in table.notes)
    return out.getvalue().encode()


def frame_csv(frame: pd.DataFrame) -> bytes:
    """A frame with all its digits; a text that a spreadsheet took for a formula is quoted."""
    safe = frame.rename(columns=lambda name: _no_formula(str(name)))
    safe = safe.map(lambda cell: _no_formula(cell) if isinstance(cell, str) else cell)
    named = frame.index.name is not None
    if named:
        safe.index = safe.index.map(lambda one: _no_formula(one) if isinstance(one, str) else one)
    text: str = safe.to_csv(index=named)
    return text.encode()


_HARMLESS = re.compile(r"[-+]?[\d][\d.,;()\[\]%\s–−-]*(?:e[-+]?\d+)?(?: (?:to|至) .*\d)?")


def _no_formula(text: str) -> str:
    """A text that a spreadsheet does not take for a formula: with an apostrophe before it.

    Numbers with their interval stay as they are.
    """
    text = clean(text)
    if text.lstrip()[:1] in {"=", "+", "-", "@"} and not _HARMLESS.fullmatch(text):
        return f"'{text}"
    return text


def _indented(row: Row) -> tuple[Cell, ...]:
    return ("  " * row.indent + shown(row.cells[0]), *row.cells[1:]) if row.indent else row.cells


def as_xlsx(tables: Sequence[PrintedTable], lang: Language = "en") -> bytes:
    """One sheet a table; numbers are numbers, and every text is a text, never a formula."""
    del lang
    require_library("openpyxl", ".xlsx")
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Border, Font, Side

    book = Workbook()
    book.remove(book.active)
    line = Side(style="thin")
    for at, table in enumerate(tables, start=1):
        sheet = book.create_sheet(f"Table {at}")
        put = _cell_writer(sheet)
        put(1, 1, table.title).font = Font(bold=True)
        for c, name in enumerate(table.columns, start=1):
            cell = put(3, c, name)
            cell.font = Font(bold=True)
            cell.border = Border(top=line, bottom=line)
        last = 3
        for last, row in enumerate(table.rows, start=4):
            for c, value in enumerate(row.cells, start=1):
                cell = put(last, c, value)
                left = c == 1
                cell.alignment = Alignment(
                    horizontal="left" if left else "right", indent=row.indent * 2 if left else 0
                )
        for c in range(1, len(table.columns) + 1):
            cell = sheet.cell(last, c)
            top = line if last == 3 else None
            cell.border = Border(bottom=line, top=top)
            longest = max([len(table.columns[c - 1]), *(len(row[c - 1]) for row in table.texts())])
            sheet.column_dimensions[cell.column_letter].width = min(60, longest + 4)
        for n, note in enumerate(table.notes, start=last + 2):
            put(n, 1, note).font = Font(italic=True, size=9)
        sheet.freeze_panes = "B4"
    return _saved(book)


def _cell_writer(sheet: Any) -> Callable[[int, int, Cell], Any]:
    def put(row: int, column: int, value: Cell) -> Any:
        cell = sheet.cell(row, column)
        if isinstance(value, str):
            if not value:
                return cell
            cell.value = clean(value)
            cell.data_type = "s"  # "=1+1" would become a formula
            cell.quotePrefix = value[:1] in {"=", "+", "-", "@"}
        elif isinstance(value, float) and not math.isfinite(value):
            cell.value = shown(value)
        elif value is not None:
            cell.value = value
        return cell

    return put


def as_docx(tables: Sequence[PrintedTable], lang: Language = "en") -> bytes:
    """Tables with three rules, as journals print them, each with title and notes."""
    require_library("docx", ".docx")
    from docx import Document
    from docx.oxml.ns import qn
    from docx.shared import Pt

    document = Document()
    style = document.styles["Normal"]
    style.font.name, style.font.size = "Times New Roman", Pt(10)
    style.element.get_or_add_rPr().get_or_add_rFonts().set(qn("w:eastAsia"), "SimSun")
    language = "zh-CN" if lang == "zh" else "en-GB"
    document.core_properties.language = language
    document.core_properties.author = "Cohortium"
    document.core_properties.title = clean(tables[0].title)[:255] if tables else ""
    for at, table in enumerate(tables, start=1):
        title = document.add_paragraph()
        title.paragraph_format.keep_with_next = True
        title.add_run(clean(table.title)).bold = True
        _docx_table(document, table)
        for note in table.notes:
            paragraph = document.add_paragraph()
            paragraph.paragraph_format.space_after = Pt(0)
            paragraph.add_run(clean(note)).font.size = Pt(8)
        if at < len(tables):
            document.add_paragraph()
    return _saved(document)


def _docx_table(document: Any, table: PrintedTable) -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Pt

    rows = [list(table.columns), *table.texts()]
    indents = [0, *(row.indent for row in table.rows)]
    made = document.add_table(rows=len(rows), cols=len(table.columns))
    made.autofit = True
    for r, (cells, indent) in enumerate(zip(rows, indents, strict=True)):
        for c, (cell, text) in enumerate(zip(made.rows[r].cells, cells, strict=True)):
            paragraph = cell.paragraphs[0]
            paragraph.paragraph_format.space_after = Pt(0)
            run = paragraph.add_run(clean(text))
            run.font.size = Pt(9)
            run.bold = r == 0
            if c:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
            elif indent:
                paragraph.paragraph_format.left_indent = Pt(10 * indent)
            edges = [
                e for e, here in (("top", r == 0), ("bottom", r in {0, len(rows) - 1})) if here
            ]
            if edges:
                _rule(cell, edges)
    _repeat_head(made.rows[0])


def _rule(cell: Any, edges: Sequence[str]) -> None:
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    borders = OxmlElement("w:tcBorders")
    for edge in edges:
        line = OxmlElement(f"w:{edge}")
        for name, value in (("val", "single"), ("sz", "6"), ("space", "0"), ("color", "auto")):
            line.set(qn(f"w:{name}"), value)
        borders.append(line)
    cell._tc.get_or_add_tcPr().append(borders)  # noqa: SLF001 - python-docx has no borders


def _repeat_head(row: Any) -> None:
    from docx.oxml import OxmlElement

    row._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))  # noqa: SLF001 - as above


def _saved(document: Any) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


_TEX: Final[Mapping[str, str]] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": r"$-$",
    "χ": r"$\chi$",
    "η": r"$\eta$",
    "ω": r"$\omega$",
    "ε": r"$\varepsilon$",
    "²": r"$^2$",
    "—": "---",
    "–": "--",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
}


def tex(text: str) -> str:
    """A text that LaTeX prints as it is."""
    return "".join(_TEX.get(c, c) for c in clean(text))


def as_latex(tables: Sequence[PrintedTable], lang: Language = "en") -> bytes:
    """``table`` environments for ``booktabs`` and ``textcomp``, to be put into a document."""
    needs = r"\usepackage{booktabs,textcomp}" + (r" \usepackage{ctex}" if lang == "zh" else "")
    lines = [f"% Needs {needs}; UTF-8."]
    for table in tables:
        columns = "l" + "r" * (len(table.columns) - 1)
        lines += [
            r"\begin{table}[htbp]",
            r"\centering",
            rf"\caption{{{tex(table.title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(tex, table.columns)) + r" \\",
            r"\midrule",
        ]
        for row, cells in zip(table.rows, table.texts(), strict=True):
            first = r"\quad " * row.indent + tex(cells[0])
            lines.append(" & ".join([first, *map(tex, cells[1:])]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        if table.notes:
            notes = r" \\".join(f"\n{tex(note)}" for note in table.notes)
            lines.append(
                r"\par\smallskip\parbox{\linewidth}{\footnotesize\raggedright" + notes + "}"
            )
        lines += [r"\end{table}", ""]
    return "\n".join(lines).encode()


STYLE: Final = """
body{font-family:Georgia,"Times New Roman","Songti SC",SimSun,serif;line-height:1.45;color:#1c2330;
max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;border-top:1.5px solid #1c2330;border-bottom:1.5px solid #1c2330;
margin:.4rem 0}
caption{text-align:left;font-weight:bold;padding:.3rem 0}
th{border-bottom:1px solid #1c2330;text-align:right;padding:.2rem .7rem;vertical-align:bottom}
td{text-align:right;padding:.12rem .7rem}
th:first-child,td:first-child{text-align:left}
td.i1{padding-left:2rem}td.i2{padding-left:3.3rem}
.notes{font-size:.8rem;color:#444c58;margin:.2rem 0 1.4rem;overflow-wrap:anywhere}
.notes p{margin:0}.wide{overflow-x:auto}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ccd2da}
dt{font-weight:bold}dd{margin:0 0 .3rem 1rem;overflow-wrap:anywhere}
figure{margin:.6rem 0}figure svg,figure img{max-width:100%;height:auto}
@media print{body{max-width:none;margin:0}h2{break-after:avoid}figure,table{break-inside:avoid}}
"""


def html_table(table: PrintedTable) -> str:
    """A table as an HTML fragment; everything in it is escaped."""
    head = "".join(f'<th scope="col">{escape(clean(name))}</th>' for name in table.columns)
    body = []
    for row, cells in zip(table.rows, table.texts(), strict=True):
        first = f' class="i{min(row.indent, 2)}"' if row.indent else ""
        body.append(
            f"<tr><td{first}>{escape(cells[0])}</td>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
            + "</tr>"
        )
    notes = "".join(f"<p>{escape(clean(note))}</p>" for note in table.notes)
    caption = f"<caption>{escape(clean(table.title))}</caption>" if table.title else ""
    return (
        f'<div class="wide"><table>{caption}'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody></table></div>"
        f'<div class="notes">{notes}</div>\n'
    )


def html_page(title: str, body: str, lang: Language) -> bytes:
    """A page that needs nothing else and may run nothing; `body` is HTML that was escaped."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"
    language = "zh-CN" if lang == "zh" else "en"
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(clean(title))}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    ).encode()


def as_html(tables: Sequence[PrintedTable], lang: Language = "en") -> bytes:
    """One page with all tables."""
    title = tables[0].title if tables else ""
    return html_page(title, "".join(map(html_table, tables)), lang)


WRITERS: Final[Mapping[str, Callable[[Sequence[PrintedTable], Language], bytes]]] = {
    ".csv": as_csv,
    ".xlsx": as_xlsx,
    ".docx": as_docx,
    ".tex": as_latex,
    ".html": as_html,
}
