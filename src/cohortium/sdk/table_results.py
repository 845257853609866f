"""Contingency tables and their tests as they come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.hypothesis import Estimate, HypothesisTest
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, Row
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary
from cohortium.sdk.table_lines import OneTest, lines_of, lines_table, one_test
from cohortium.sdk.vocabulary import heading, say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Of = Literal["row", "column", "all"]

ALL = "All"
WITHHELD = "—"


class TableResult(HypothesisTest):
    """A table of persons by two variables, or one, and what was tested on it.

    Attributes:
        levels: Of the rows and, in a two-way table, of the columns.
        counts: Persons in each cell, without margins; NA where withheld.
        row_totals, column_totals: The margins; NA where withheld.
        tests: Every test by its name; empty where something is withheld.
        remarks: What to know about the tests.
        contrast: Whose odds and risks they are: those of the column ``outcome``, in the row
            ``level`` over those in the row ``against``; None but for 2x2.
        rounding: Numbers of persons are rounded to multiples of this; None: exact.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        import pandas as pd

        self.levels: tuple[tuple[str, ...], ...] = tuple(
            tuple(str(level) for level in levels) for levels in data["levels"]
        )
        self.rounding: int | None = data.get("rounding")
        self.remarks: tuple[str, ...] = tuple(str(note) for note in data.get("notes") or ())
        self.contrast: dict[str, str] | None = data.get("contrast")
        self.tests: dict[str, OneTest] = {
            str(one["test"]): one_test(one) for one in data.get("tests") or ()
        }
        rows = pd.Index(self.levels[0], name=self.variable)
        columns = pd.Index(self.levels[1] if self.two_way else ["n"], name=self.by)
        self.counts = _whole(pd.DataFrame(data["counts"], index=rows, columns=columns))
        self.row_totals = pd.Series(data["row_totals"], index=rows, name=ALL).astype("Int64")
        self.column_totals = pd.Series(data["column_totals"], index=columns, name=ALL).astype(
            "Int64"
        )

    def cell(self, row: str, column: str | None = None) -> int | None:
        """Persons in a cell; None where they are withheld.

        Args:
            row, column: Levels; no column where there is one variable.

        Raises:
            InputError: ``not-found``.
        """
        columns = self.levels[1] if self.two_way else (None,)
        if row not in self.levels[0] or column not in columns:
            raise InputError("not-found", f"This table has no cell {row!r}, {column!r}.")
        value = self._data["counts"][self.levels[0].index(row)][columns.index(column)]
        return None if value is None else int(value)

    def share(self, row: str, column: str | None = None) -> float | None:
        """The cell's part of its row, or of everybody where there is one variable; None where a
        number for it is withheld.
        """
        count = self.cell(row, column)
        of = self._data["row_totals"][self.levels[0].index(row)] if self.two_way else self.n
        return count / of if count is not None and of else None

    @property
    def two_way(self) -> bool:
        """Whether there are two variables."""
        return len(self.levels) == 2

    def percent(self, of: Of = "row") -> pd.DataFrame:
        """Percentages of the persons in the cell's row, its column or all; NaN where withheld."""
        counts = self.counts.astype("Float64").astype("float64")
        match of:
            case "row":
                return 100.0 * counts.div(self.row_totals.astype("Float64").astype(float), axis=0)
            case "column":
                whole = self.column_totals.astype("Float64").astype(float)
                return 100.0 * counts.div(whole, axis=1)
            case "all":
                return 100.0 * counts / self.n
        raise InputError("bad-input", f"Percentages are of row, column or all, not {of!r}.")

    def to_frame(self) -> pd.DataFrame:
        """The counts with their margins, as ``pandas.crosstab(..., margins=True)``; for one
        variable the counts with their shares. What is withheld is NA.
        """
        import pandas as pd

        if not self.two_way:
            frame = self.counts.copy()
            frame.loc[ALL] = self.n
            frame["share"] = frame["n"].astype("Float64") / self.n
            return frame.rename_axis(columns=None)
        frame = self.counts.copy()
        frame[ALL] = self.row_totals
        last = pd.DataFrame(
            [[*self.column_totals, self.n]], index=pd.Index([ALL]), columns=frame.columns
        )
        frame = pd.concat([frame, _whole(last)])
        return frame.rename_axis(index=self.variable, columns=self.by)

    def heading(self, lang: Language = "en") -> str:
        """The computation and its variables."""
        about = " × ".join(name for name in (self.variable, self.by) if name)
        words = heading(self.run.computation, lang)
        return f"{words}：{about}" if lang == "zh" else f"{words}: {about}"

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The counts with their percentages, and the tests and measures."""
        require_language(lang)
        notes = self.notes(lang)
        lines = lines_of(self.tests.values(), self.estimates, lang)
        counts = self._counts_table(lang, () if lines else notes)
        return (
            (counts, lines_table("Tests and measures", lines, lang, notes)) if lines else (counts,)
        )

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """The footnotes, with the remarks on the tests."""
        missing = f"缺失：{self.n_missing}" if lang == "zh" else f"Missing: {self.n_missing}"
        remarks = [say(one, lang) for one in self.remarks]
        if self.contrast is not None:
            from cohortium.sdk.table_words import contrast_words

            remarks.append(contrast_words(self, self.contrast, lang))
        return (missing, *remarks, *super().notes(lang))

    def _counts_table(self, lang: Language, notes: tuple[str, ...]) -> PrintedTable:
        total = "合计" if lang == "zh" else "Total"
        names: tuple[str | None, ...] = self.levels[1] if self.two_way else (None,)
        rows = []
        for level, margin in zip(self.levels[0], self._data["row_totals"], strict=True):
            cells = [_count(self.cell(level, one), self.share(level, one)) for one in names]
            rows.append(Row((level, *cells, *([_count(margin)] if self.two_way else []))))
        last = [_count(one) for one in self._data["column_totals"]] if self.two_way else []
        rows.append(Row((total, *last, str(self.n))))
        head = [self.variable or "", *(one or say("n", lang) for one in names)]
        head += [total] if self.two_way else []
        return PrintedTable(self.heading(lang), tuple(head), tuple(rows), notes)

    def summary(self) -> Summary:
        """The tables as text."""
        return Summary("\n\n".join(table.text() for table in self.tables()))

    def interpret(self, lang: Language = "en") -> str:
        """What the table says, in plain words, and what is not adjusted for."""
        from cohortium.sdk.table_words import interpret_table

        return interpret_table(self, lang)

    def plot(self) -> alt.TopLevelMixin:
        """Shares of the columns in each row, stacked; for one variable, of its levels."""
        from cohortium.sdk.plots import shares, side_by_side, stacked

        rows: list[dict[str, object]]
        if not self.two_way:
            rows = [
                {"group": "all", "level": level, "share": self.share(level), "n": self.cell(level)}
                for level in self.levels[0]
                if self.cell(level) is not None
            ]
            chart = shares(self.variable or "", rows, ["all"], list(self.levels[0]))
            return side_by_side([chart])
        rows = [
            {
                "row": row,
                "column": column,
                "order": at,
                "share": self.share(row, column),
                "n": self.cell(row, column),
            }
            for row in self.levels[0]
            for at, column in enumerate(self.levels[1])
            if self.share(row, column) is not None
        ]
        if not rows:
            raise InputError("bad-input", "Nothing in this table can be drawn.")
        return stacked(
            rows,
            names=(self.variable or "", self.by or ""),
            levels=(list(self.levels[0]), list(self.levels[1])),
            title=self.heading(),
            subtitle=f"{self.n:,} persons, {self.n_sites} sites",
        )

    def measure(self, name: str) -> Estimate | None:
        """A measure by its name, ``odds ratio``; None where it was not released."""
        return next((one for one in self.estimates if one.name == name), None)

    def _text(self) -> str:
        return str(self.summary())


class CrosstabResult(TableResult):
    """A contingency or frequency table.

    Attributes:
        expected: Counts under independence; None where something is withheld.
        residuals: Standardised residuals, about normal under independence; None as well.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.expected = self._like_counts(data.get("expected"))
        self.residuals = self._like_counts(data.get("residuals"))

    def _like_counts(self, values: Sequence[Sequence[float | None]] | None) -> pd.DataFrame | None:
        import pandas as pd

        if values is None:
            return None
        frame = pd.DataFrame(values, index=self.counts.index, columns=self.counts.columns)
        return frame.astype("float64")

    @property
    def chi2(self) -> OneTest | None:
        """Pearson's chi-square test; None where it was not released."""
        return self.tests.get("chi-square")

    @property
    def yates(self) -> OneTest | None:
        """The same with Yates' correction, for 2x2."""
        return self.tests.get("chi-square-yates")

    @property
    def likelihood_ratio(self) -> OneTest | None:
        """The likelihood-ratio test."""
        return self.tests.get("likelihood-ratio")

    @property
    def fisher(self) -> OneTest | None:
        """Fisher's exact test, for 2x2; its estimate is the conditional odds ratio."""
        return self.tests.get("fisher")

    @property
    def cramers_v(self) -> Estimate | None:
        """Cramer's V."""
        return self.measure("Cramer's V")

    @property
    def odds_ratio(self) -> Estimate | None:
        """The odds ratio of a 2x2 table, with Woolf's limits."""
        return self.measure("odds ratio")

    @property
    def risk_ratio(self) -> Estimate | None:
        """The risk ratio of a 2x2 table, with Katz' limits."""
        return self.measure("risk ratio")

    @property
    def risk_difference(self) -> Estimate | None:
        """The risk difference of a 2x2 table, with Wald's limits."""
        return self.measure("risk difference")


class McNemarResult(TableResult):
    """Paired binary values: the table of pairs and the tests of change."""

    def interpret(self, lang: Language = "en") -> str:
        """How many changed which way, and what is not adjusted for."""
        from cohortium.sdk.table_words import interpret_pairs

        return interpret_pairs(self, lang)

    @property
    def exact(self) -> OneTest | None:
        """The exact binomial test; None where it was not released."""
        return self.tests.get("mcnemar-exact")


class CmhResult(HypothesisTest):
    """Cochran, Mantel and Haenszel's test over strata.

    Attributes:
        strata: The variable; None where the institutions are the strata.
        n_strata: Strata that say something.
        tests: ``cmh`` and ``cmh-corrected``.
        homogeneity: Breslow-Day's test of a common odds ratio, without and with Tarone's term.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.strata: str | None = data.get("strata")
        self.n_strata = int(data["n_strata"])
        self.tests = {str(one["test"]): one_test(one) for one in data["tests"]}
        self.homogeneity = {
            str(one["test"]): one_test(one) for one in data.get("homogeneity") or ()
        }

    def interpret(self, lang: Language = "en") -> str:
        """The common odds ratio, and whether it may be common."""
        from cohortium.sdk.table_words import homogeneity_words

        return super().interpret(lang) + homogeneity_words(self, lang)

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The tests, the common odds ratio and the tests of whether it is common."""
        require_language(lang)
        lines = lines_of([*self.tests.values(), *self.homogeneity.values()], self.estimates, lang)
        return (lines_table(self.heading(lang), lines, lang, self.notes(lang)),)

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """The footnotes, with the strata."""
        of = self.strata or ("机构" if lang == "zh" else "institution")
        strata = (
            f"分层：{of}（{self.n_strata} 层）"
            if lang == "zh"
            else f"Strata: {of} ({self.n_strata}); {self.n} persons, {self.n_missing} more missing"
        )
        return (strata, *super().notes(lang))

    def summary(self) -> Summary:
        """The table as text."""
        return Summary("\n\n".join(table.text() for table in self.tables()))


def _whole(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype("Int64")


def _count(persons: int | None, share: float | None = None) -> str:
    if persons is None:
        return WITHHELD
    return str(persons) if share is None else f"{persons} ({share:.1%})"
