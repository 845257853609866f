"""A study's report: everything that was released, and what was not, as HTML and PDF."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pypdf import PdfReader
from tests.support.pooled_study import result_of, run_of

import cohortium as co
from cohortium.contract.model import Cohort
from cohortium.contract.noise import Noise
from cohortium.errors import InputError, VerificationError
from cohortium.sdk.plots import picture
from cohortium.sdk.publication import PrintedTable, Row
from cohortium.sdk.report import Chart, Heading, Paragraph, Report, compose
from cohortium.sdk.report_pdf import as_pdf, markup
from cohortium.sdk.report_words import methods

HOSTILE = '<img src="x" onerror="alert(1)">'
CHINESE = "安慰剂"


def _site(seed: int) -> pd.DataFrame:
    rng, n = np.random.default_rng(seed), 120
    frame = pd.DataFrame(
        {
            "age": rng.normal(60, 9, n).round(1),
            "arm": rng.choice(["drug", CHINESE], n),
            "stage": rng.choice(["I", HOSTILE], n),
        }
    )
    frame["rare"] = "no"
    frame.loc[:0, "rare"] = "yes"
    return frame


@pytest.fixture(scope="module")
def study() -> Iterator[co.Study]:
    with co.local({"North": _site(1), "South": _site(2)}) as federation:
        study = federation.study()
        study.describe(["age", "stage", "rare"], by="arm")
        study.cohort(include="age >= 58").t_test("age", by="arm")
        with pytest.raises(co.PolicyRefusal):
            study.t_test("age", by="rare")
        yield study


@pytest.fixture(scope="module")
def report(study: co.Study) -> Report:
    return study.report()


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return report.html()


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_result_stands_with_its_run_and_verified_receipt(
    study: co.Study, report: Report, page: str
) -> None:
    assert len(report.results) == 2
    text = Tags(page).text
    for result in report.results:
        assert result.run.id in text
        assert result.interpret() in text
    assert len(re.findall("receipt verified: entry [0-9]+ of the ledger", text)) == 2
    assert study.digest in text
    assert "Persons with age >= 58." in text


def test_methods_limits_and_software_are_told(page: str) -> None:
    text = Tags(page).text
    assert "No record left its institution" in text
    assert "The results equal those of an analysis of the pooled records." in text
    assert "stats.t_test version 1" in text
    assert "minimum cell size" in text
    assert re.search(r"Software: Cohortium \d", text)
    assert "adjusted for multiple testing" in text


def test_refusals_and_suppressions_are_listed(report: Report, page: str) -> None:
    text = Tags(page).text
    assert report.refused == 1
    assert "Runs without a result" in text
    assert "too-few" in text
    assert "What was withheld" in text
    assert all(why in text for result in report.results for why in result.suppressed)
    assert any(result.suppressed for result in report.results)


def test_the_page_runs_and_loads_nothing_whatever_the_labels_are(page: str) -> None:
    tags = Tags(page)
    names = {tag for tag, _ in tags.found}
    assert not names & {"script", "iframe", "link", "object", "form", "a"}
    sources = [attrs.get("src") or "" for tag, attrs in tags.found if tag == "img"]
    assert len(sources) == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not any(name.startswith("on") for _, attrs in tags.found for name in attrs)
    assert HOSTILE in tags.text
    assert "default-src 'none'" in page


def test_the_report_in_chinese(study: co.Study) -> None:
    text = Tags(study.report(lang="zh").html()).text
    for heading in ("方法", "披露控制", "结果", "未发布的内容", "未产生结果的运行", "证据"):
        assert heading in text
    assert "收据已核验" in text
    assert "Welch t 检验" in text
    with pytest.raises(InputError):
        study.report(lang="fr")  # type: ignore[arg-type]


def test_methods_name_versions_criteria_and_noise(study: co.Study) -> None:
    noise = Noise(unit="institution", epsilon=1.0, delta=1e-6, sums=9, clip=1.0)
    changed = study.contract.model_copy(
        update={
            "cohort": Cohort(include=("age >= 18",), exclude=("stage = 'I'",)),
            "computations": tuple(
                one.model_copy(update={"noise": noise}) for one in study.contract.computations
            ),
        }
    )
    en = " ".join(methods(changed, [run_of("stats.describe", {})], "en"))
    assert "The contract's persons; included: age >= 18, excluded: stage = 'I'." in en
    assert "results are approximate" in en
    assert "another version of the contract" in en
    zh = "".join(methods(changed, [run_of("stats.describe", {})], "zh"))
    for words in ("纳入标准：age >= 18", "排除标准：stage = 'I'", "近似值", "其他版本"):
        assert words in zh


def test_an_analysis_of_a_package_stands_there_without_words(study: co.Study) -> None:
    info = run_of("other.thing", {})
    failed = run_of("other.thing", {}, number=2).model_copy(update={"status": "cancelled"})
    runs: list[Any] = [
        SimpleNamespace(info=failed, id=failed.id, status="cancelled"),
        SimpleNamespace(
            info=info,
            id=info.id,
            status="succeeded",
            receipt=None,
            result=lambda: result_of("other.thing", {"answer": 42}),
        ),
    ]
    text = Tags(compose(study, runs, (), "en", info.submitted_at).html()).text
    assert "other.thing" in text
    assert "answer42" in text.replace("\n", "")
    assert "its receipt was not checked" in text
    assert "cancelled" in text


def test_composed_tables_come_first(study: co.Study) -> None:
    table = study.table_one(["age"], by="arm", title="Table 1")
    headings = [b.text for b in study.report(also=[table]).blocks if isinstance(b, Heading)]
    assert headings.index("Table 1") == headings.index("Results") + 1


def test_one_composed_table_needs_no_list_and_what_is_none_is_refused(study: co.Study) -> None:
    table = study.smd(["age"], by="arm")
    assert study.report(also=table).results[0] is table
    with pytest.raises(co.InputError, match="int"):
        study.report(also=[5])  # type: ignore[list-item]


def test_pdf_holds_the_same_in_both_scripts(study: co.Study, tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    study.report(path, lang="zh")
    reader = PdfReader(path)
    text = "".join(page.extract_text() for page in reader.pages)
    assert reader.metadata is not None
    assert reader.metadata.title == study.title
    for words in ("方法", CHINESE, "Welch", "证据", study.digest[:40]):
        assert words in text
    assert '<img src="x"' in text
    assert sum(len(page.images) for page in reader.pages) >= 2
    assert "/JavaScript" not in path.read_bytes().decode("latin1")


def test_pdf_is_the_same_for_the_same_report() -> None:
    blocks = (Heading("中 & <b>"), Paragraph("x" * 500 + "\x00\u202e"), Paragraph("小", small=True))
    report = Report("t", "en", blocks)
    assert as_pdf(report) == as_pdf(report)


def test_a_table_that_is_too_wide_or_too_long_for_a_page_goes_on() -> None:
    names = ("variable", *(f"a long name {c}" for c in range(40)))
    wide = PrintedTable("wide", names, tuple(Row((f"row {r}", *range(40))) for r in range(50)))
    long = PrintedTable("long", ("a", "b"), (Row(("x", "word " * 1500)),))
    pages = PdfReader(io.BytesIO(as_pdf(Report("t", "en", (wide, long))))).pages
    text = " ".join(" ".join(page.extract_text() for page in pages).split())
    assert all(f"a long name {c} " in text for c in range(40))
    assert text.count("word") == 1500


def test_markup_is_escaped_and_each_script_has_its_font() -> None:
    text = markup('<a href="x">年</a> & b')
    assert "<a" not in text
    assert '<font name="STSong-Light">年</font>' in text
    assert "&amp; b" in text


def test_another_ending_is_refused(report: Report, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.html or \.pdf"):
        report.save(tmp_path / "report.docx")
    for name in ("report.html", "report.pdf"):
        with pytest.raises(InputError, match="There is no folder"):
            report.save(tmp_path / "no such" / name)
    assert repr(report).startswith("<Report ")
    assert "<h2>Methods</h2>" in report._repr_html_()


def test_without_the_extra_the_page_has_no_charts_and_pdf_is_refused(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "<img" not in report.html()
    with pytest.raises(InputError, match=r"cohortium\[report\]"):
        report.pdf()


def test_a_result_that_was_not_witnessed_stops_the_report(
    study: co.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise VerificationError("bad-digest", "Not the one that was witnessed.")

    monkeypatch.setattr("cohortium.sdk.run.verify_result", refuse)
    with pytest.raises(VerificationError):
        study.report()


def test_a_study_without_results_says_so() -> None:
    with co.local({"North": _site(1), "South": _site(2)}) as federation:
        made = federation.study().report()
    assert "No result has been released yet." in made.html()


def test_charts_are_drawn_as_svg_and_png(report: Report) -> None:
    chart = next(block.chart for block in report.blocks if isinstance(block, Chart))
    svg, png = picture(chart, ".svg"), picture(chart, ".png")
    assert svg is not None
    assert svg.startswith(b"<svg")
    assert png is not None
    assert io.BytesIO(png).read(4) == b"\x89PNG"
