"""The tests of a table, one a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cohortium.sdk.hypothesis import Estimate
from cohortium.sdk.language import Language
from cohortium.sdk.publication import PrintedTable, Row, limits_text, p_text
from cohortium.sdk.vocabulary import say


@dataclass(frozen=True)
class OneTest:
    """One of the tests of a table.

    Attributes:
        test: ``chi-square``, ``chi-square-yates``, ``likelihood-ratio``, ``fisher``, ...
        statistic, df: None for an exact test.
    """

    test: str
    title: str
    statistic_name: str
    statistic: float | None
    df: float | None
    p_value: float
    estimate: Estimate | None = None


def one_test(data: Mapping[str, Any]) -> OneTest:
    """A test as the hub released it."""
    odds = data.get("odds_ratio")
    return OneTest(
        test=str(data["test"]),
        title=str(data["title"]),
        statistic_name=str(data["statistic_name"]),
        statistic=data["statistic"],
        df=data["df"],
        p_value=float(data["p_value"]),
        estimate=None
        if odds is None
        else Estimate(
            "conditional odds ratio", odds, data["low"], data["high"], data["confidence"]
        ),
    )


def lines_of(tests: Iterable[OneTest], estimates: Iterable[Estimate], lang: Language) -> list[Row]:
    """One line a test, then one an estimate: name, value, df, limits, p."""
    rows = []
    for one in tests:
        df = None if one.df is None else f"{one.df:g}"
        rows.append(Row((say(one.title, lang), one.statistic, df, None, p_text(one.p_value))))
    for e in estimates:
        limits = None
        if e.low is not None and e.high is not None:
            share = "" if e.confidence in {None, 0.95} else f" ({e.confidence:.4g})"
            limits = limits_text(e.low, e.high, lang) + share
        rows.append(Row((say(e.name, lang), e.value, None, limits, None)))
    return rows


def lines_table(
    title: str, lines: list[Row], lang: Language, notes: tuple[str, ...]
) -> PrintedTable:
    """The lines as a table to print."""
    interval = "95% CI" if lang == "en" else "95% 置信区间"
    head = (say("test", lang), say("value", lang), say("df", lang), interval, say("p", lang))
    return PrintedTable(say(title, lang), head, tuple(lines), notes)
