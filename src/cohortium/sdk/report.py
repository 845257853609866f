"""A study's report: methods, every released result, what was withheld and refused, evidence."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cohortium.core.clock import Instant
from cohortium.core.rest import Receipt
from cohortium.errors import InputError
from cohortium.sdk import report_words as words
from cohortium.sdk import vocabulary
from cohortium.sdk.export import html_page, html_table
from cohortium.sdk.files import writing
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, Row, clean
from cohortium.sdk.results import Result

if TYPE_CHECKING:
    import altair as alt

    from cohortium.sdk.run import Run
    from cohortium.sdk.study import Study

ENDINGS: Final = (".html", ".pdf")


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is a part of the report, 2 a result."""

    text: str
    level: int = 1


@dataclass(frozen=True)
class Paragraph:
    """Running text; `small` for what stands below a table."""

    text: str
    small: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Chart:
    """A chart and what it shows, for those who do not see it."""

    chart: alt.TopLevelMixin
    text: str


Block = Heading | Paragraph | Facts | PrintedTable | Chart


@dataclass(frozen=True)
class Report:
    """All released results of a study as a document.

    Attributes:
        results: What it is made of, oldest first.
        refused: Runs without a result.
    """

    title: str
    lang: Language
    blocks: tuple[Block, ...]
    results: tuple[Result, ...] = ()
    refused: int = 0

    def html(self) -> str:
        """One page that needs nothing else: no scripts, charts inside."""
        parts = [f"<h1>{escape(clean(self.title))}</h1>\n"]
        parts += map(_html, self.blocks)
        return html_page(self.title, "".join(parts), self.lang).decode()

    def pdf(self) -> bytes:
        """A4 pages.

        Raises:
            InputError: ``missing-extra`` without reportlab.
        """
        from cohortium.sdk.report_pdf import as_pdf

        return as_pdf(self)

    def save(self, path: str | Path) -> Path:
        """Write it; the ending, ``.html`` or ``.pdf``, says how.

        Raises:
            InputError: ``bad-input`` for another ending; ``missing-extra``.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".html":
                with writing(path):
                    path.write_text(self.html(), encoding="utf-8")
            case ".pdf":
                with writing(path):
                    path.write_bytes(self.pdf())
            case other:
                raise InputError(
                    "bad-input",
                    f"A report is written as {' or '.join(ENDINGS)}, not {other or path.name!r}.",
                )
        return path

    def __repr__(self) -> str:
        return f"<Report {self.title}: {len(self.results)} results, {self.refused} without>"

    def _repr_html_(self) -> str:
        return "".join(map(_html, self.blocks))


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level + 1}>{escape(clean(block.text))}</h{block.level + 1}>\n"
        case Paragraph():
            kind = ' class="notes"' if block.small else ""
            return f"<p{kind}>{escape(clean(block.text))}</p>\n"
        case Facts():
            pairs = (
                f"<dt>{escape(clean(name))}</dt><dd>{escape(clean(value))}</dd>"
                for name, value in block.pairs
            )
            return f"<dl>{''.join(pairs)}</dl>\n"
        case Chart():
            return _figure(block)
        case _:
            return html_table(block)


def _figure(block: Chart) -> str:
    from cohortium.sdk.plots import picture

    drawn = picture(block.chart, ".svg")
    if drawn is None:
        return ""
    # As an image nothing in it can run or load, whatever its labels are.
    data = base64.b64encode(drawn).decode()
    alt = escape(clean(block.text))
    return f'<figure><img alt="{alt}" src="data:image/svg+xml;base64,{data}"></figure>\n'


def compose(
    study: Study, runs: Iterable[Run], also: Result | Sequence[Result], lang: Language, now: Instant
) -> Report:
    """Verify and gather the results of these runs.

    Args:
        runs: Newest first, as the hub lists them.
        also: Results that are composed of others (Table 1), which stand before the runs'.
        now: Printed as the time of the report.

    Raises:
        VerificationError: A result is not the one that was witnessed.
    """
    require_language(lang)
    contract = study.contract
    oldest = list(runs)[::-1]
    also = (also,) if isinstance(also, Result) else tuple(also)
    given: tuple[object, ...] = also
    wrong = [type(result).__name__ for result in given if not isinstance(result, Result)]
    if wrong:
        raise InputError("bad-input", f"`also` holds results, not {wrong[0]}.")
    done = [run for run in oldest if run.status == "succeeded"]
    found = [(run.result(), run.receipt) for run in done]
    infos = [result.run for result, _ in found]
    others = [run for run in oldest if run.info.finished and run.status != "succeeded"]
    head = words.HEADS
    blocks: list[Block] = [
        Facts(tuple(words.facts(contract, study.status, now, lang))),
        Heading(head["methods"].of(lang)),
        *(Paragraph(text) for text in words.methods(contract, infos, lang)),
        Heading(head["limits"].of(lang)),
        *(Paragraph(text) for text in words.limits(contract, lang)),
        Heading(head["results"].of(lang)),
    ]
    for result in also:
        blocks += _section(result, None, lang, composed=True)
    for result, receipt in found:
        blocks += _section(result, receipt, lang)
    if not found and not also:
        blocks.append(Paragraph(head["none"].of(lang)))
    results = [*also, *(result for result, _ in found)]
    blocks += _withheld(results, lang)
    blocks += _refusals(others, lang)
    blocks += [Heading(head["evidence"].of(lang)), Paragraph(words.evidence(contract, lang))]
    return Report(contract.title, lang, tuple(blocks), tuple(results), len(others))


def _section(
    result: Result, receipt: Receipt | None, lang: Language, *, composed: bool = False
) -> list[Block]:
    blocks: list[Block] = [Heading(result.heading(lang), 2)]
    if not composed:
        blocks.append(Paragraph(words.run_line(result.run, receipt, lang), small=True))
    try:
        blocks.append(Paragraph(result.interpret(lang)))
    except InputError:  # an installed package's analysis need not have words
        blocks.append(Paragraph(vocabulary.heading(result.run.computation, lang)))
    heading = result.heading(lang)
    blocks += [
        replace(table, title="") if table.title == heading else table
        for table in result.tables(lang)
    ]
    with suppress(InputError):  # not every result can be drawn
        blocks.append(Chart(result.plot(), result.heading(lang)))
    return blocks


def _withheld(results: Sequence[Result], lang: Language) -> list[Block]:
    rows = [
        Row((result.run.id[:8], result.run.computation, why))
        for result in results
        for why in result.suppressed
    ]
    title = words.HEADS["withheld"].of(lang)
    blocks: list[Block] = [Heading(title)]
    if not rows:
        return [*blocks, Paragraph(words.HEADS["all_released"].of(lang))] if results else []
    unique = tuple(dict.fromkeys(rows))
    return [*blocks, PrintedTable("", words.withheld_heads(lang), unique)]


def _refusals(runs: Sequence[Run], lang: Language) -> list[Block]:
    rows = tuple(
        Row(
            (
                run.id[:8],
                run.info.computation,
                f"{run.info.submitted_at:%Y-%m-%d %H:%M}",
                run.status,
                _why(run),
            )
        )
        for run in runs
    )
    title = words.HEADS["refusals"].of(lang)
    if not rows:
        return []
    return [Heading(title), PrintedTable("", words.refusal_heads(lang), rows)]


def _why(run: Run) -> str:
    error = run.info.error
    if error is None:
        return ""
    return f"{error.get('code', '')}: {error.get('message', '')}"
