"""The result of a hypothesis test, whatever the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import Variable
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, Row, as_cell, limits_text, p_text
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary, fixed, text_table
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence limits; those are None where there are none."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    confidence: float | None = None


class HypothesisTest(Result):
    """A test of one null hypothesis.

    Attributes:
        test: Which one: ``welch``, ``chi-square``, ...
        title: Its name for people.
        null: The null hypothesis in one sentence.
        alternative: two-sided, less or greater.
        statistic: Of the name `statistic_name`; None where the test has none (Fisher).
        df: Degrees of freedom; two for an F statistic; empty where there are none.
        p_value: For the stated alternative; None where it was not released.
        n: Persons in the test. n_missing: persons left out because a value is missing.
        estimate: What the test is about, with its interval; None for some tests.
        effects: Effect sizes.
        groups: Each group's level and numbers.
        adjusted_for: What the estimate is adjusted for or stratified by.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.test = str(data["test"])
        self.title = str(data["title"])
        self.null = str(data["null"])
        self.alternative = str(data.get("alternative", "two-sided"))
        self.variable: str | None = data.get("variable")
        self.by: str | None = data.get("by")
        self.statistic_name = str(data.get("statistic_name", ""))
        self.statistic = as_number(data.get("statistic"))
        df = data.get("df")
        self.df = tuple(
            float(one) for one in (df if isinstance(df, list) else [df]) if one is not None
        )
        self.p_value = as_number(data.get("p_value"))
        self.n = int(data["n"])
        self.n_missing = int(data.get("n_missing", 0))
        self.n_sites = int(data["n_sites"])
        self.estimate = _estimate(data.get("estimate"))
        self.effects = tuple(one for e in data.get("effects") or () if (one := _estimate(e)))
        self.groups: tuple[dict[str, Any], ...] = tuple(dict(g) for g in data.get("groups") or ())
        self.adjusted_for = tuple(str(name) for name in data.get("adjusted_for") or ())

    def to_frame(self) -> pd.DataFrame:
        """One row: test, variable, by, statistic, df, df2, p, n, and the estimate with limits."""
        import pandas as pd

        row: dict[str, Any] = {
            "test": self.title,
            "variable": self.variable,
            "by": self.by,
            self.statistic_name or "statistic": self.statistic,
            "df": self.df[0] if self.df else None,
            "df2": self.df[1] if len(self.df) > 1 else None,
            "p": self.p_value,
            "n": self.n,
        }
        for one in self.estimates:
            row |= {one.name: one.value, f"{one.name} low": one.low, f"{one.name} high": one.high}
        return pd.DataFrame([row]).dropna(axis="columns", how="all")

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The estimate and the effect sizes."""
        return (*((self.estimate,) if self.estimate else ()), *self.effects)

    def heading(self, lang: Language = "en") -> str:
        """The test and its variables."""
        about = [name for name in (self.variable, self.by) if name]
        if not about:
            return say(self.title, lang)
        if lang == "zh":
            return f"{say(self.title, lang)}：{' × '.join(about)}"
        return f"{self.title}: {' by '.join(about)}"

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The groups, where there are any, and the test with its estimates, one a row."""
        require_language(lang)
        notes = self.notes(lang)
        test = self._test_table(lang, notes)
        columns, _ = self._group_rows()
        if not columns:
            return (test,)
        rows = tuple(
            Row((str(g["level"]), *(as_cell(g.get(column)) for column in columns)))
            for g in self.groups
        )
        head = (self.by or say("group", lang), *(say(column, lang) for column in columns))
        return PrintedTable(self.heading(lang), head, rows), test

    def _test_table(self, lang: Language, notes: tuple[str, ...]) -> PrintedTable:
        """The test, and each estimate below it with its limits."""
        zh = lang == "zh"
        df = ", ".join(f"{one:.6g}" for one in self.df)
        title = say(self.title, lang)
        if self.statistic is not None and self.statistic_name:
            title += f"（{self.statistic_name}）" if zh else f" ({self.statistic_name})"
        rows = [Row((title, self.statistic, df, None, p_text(self.p_value) or "—"))]
        for one in self.estimates:
            limits = None
            if one.low is not None and one.high is not None:
                limits = limits_text(one.low, one.high, lang)
            rows.append(Row((say(one.name, lang), one.value, None, limits, None)))
        share = next((f"{e.confidence * 100:g}%" for e in self.estimates if e.confidence), "95%")
        interval = f"{share} 置信区间" if zh else f"{share} CI"
        head = ("test", "value", "df", interval, "p")
        persons = (
            f"{self.n_sites} 家机构共 {self.n:,} 人；因数值缺失未纳入 {self.n_missing:,} 人。"
            if zh
            else f"{self.n:,} persons of {self.n_sites} sites; {self.n_missing:,} left out for "
            "missing values."
        )
        heads = tuple(say(name, lang) for name in head)
        return PrintedTable(self.heading(lang), heads, tuple(rows), (persons, *notes))

    def summary(self) -> Summary:
        """The test as a table of text."""
        facts = [("Hypothesis:", self.null), *self._facts()]
        if len(facts) % 2 == 0:
            facts.append(("", ""))
        columns, rows = self._group_rows()
        table = text_table(self.title, facts, columns, rows)
        notes = [f"Not released: {why}" for why in self.suppressed]
        return Summary("\n".join([table, *self._estimate_lines(), *notes]))

    def interpret(self, lang: Language = "en") -> str:
        """What the test says, in plain words, and what is not adjusted for."""
        from cohortium.sdk.words import interpret_test

        return interpret_test(self, lang)

    def plot(self) -> alt.TopLevelMixin:
        """The groups' means with their standard deviations, or the estimates with their limits."""
        import pandas as pd

        from cohortium.sdk.plots import forest, means, side_by_side

        groups = [g for g in self.groups if g.get("mean") is not None and g.get("sd") is not None]
        if groups and len(groups) == len(self.groups):
            rows = [
                {
                    "group": str(g["level"]),
                    "mean": g["mean"],
                    "low": g["mean"] - g["sd"],
                    "high": g["mean"] + g["sd"],
                }
                for g in groups
            ]
            chart = means(self.variable or "", rows, [r["group"] for r in rows], self.by)
            return side_by_side([chart])
        ones = [one for one in self.estimates if one.low is not None and one.high is not None]
        if not ones:
            return super().plot()
        frame = pd.DataFrame(
            [
                {"term": e.name, "effect": e.value, "low": e.low, "high": e.high, "p": self.p_value}
                for e in ones
            ]
        )
        ratio = all("ratio" in one.name for one in ones)
        return forest(
            frame, effect="estimate", ratio=ratio, title=self.title, subtitle=self.run.line()
        )

    def _facts(self) -> list[tuple[str, str]]:
        facts = []
        if self.statistic is not None:
            df = f" (df {', '.join(f'{one:.6g}' for one in self.df)})" if self.df else ""
            facts.append((f"{self.statistic_name}:", f"{self.statistic:.6g}{df}"))
        facts.append(("p:", "not released" if self.p_value is None else f"{self.p_value:.4g}"))
        facts.append(("Alternative:", self.alternative))
        facts += [("Persons:", f"{self.n}"), ("Missing:", f"{self.n_missing}")]
        return [*facts, ("Sites:", f"{self.n_sites}")]

    def _estimate_lines(self) -> list[str]:
        width = max((len(one.name) for one in self.estimates), default=0)
        return [
            f"{one.name.ljust(width)}  {one.value:.6g}"
            + (
                ""
                if one.low is None or one.high is None
                else f" ({(one.confidence or 0.95) * 100:g}% CI {one.low:.6g} to {one.high:.6g})"
            )
            for one in self.estimates
        ]

    def _group_rows(self) -> tuple[Sequence[str], dict[str, list[str]]]:
        columns = list(dict.fromkeys(key for g in self.groups for key in g if key != "level"))
        rows = {str(g["level"]): [_cell(g.get(column)) for column in columns] for g in self.groups}
        return columns, rows

    def _text(self) -> str:
        return str(self.summary())


def _cell(value: object) -> str:
    if isinstance(value, float):
        return fixed(value, 4)
    return "" if value is None else str(value)


def as_number(value: object) -> float | None:
    """A number of the hub's JSON; None for anything else."""
    return float(value) if isinstance(value, int | float) else None


def _estimate(data: Mapping[str, Any] | None) -> Estimate | None:
    if data is None or as_number(data.get("value")) is None:
        return None
    return Estimate(
        name=str(data["name"]),
        value=float(data["value"]),
        low=as_number(data.get("low")),
        high=as_number(data.get("high")),
        confidence=as_number(data.get("confidence")),
    )
