"""Descriptive statistics as they come back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import NUMERIC, Variable
from cohortium.errors import InputError
from cohortium.sdk.html import result_html, table_html
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

MOMENTS = ("mean", "sd", "variance", "skewness", "kurtosis")


@dataclass(frozen=True)
class Quantile:
    """A quantile to the data's own resolution.

    Attributes:
        low, high: The interval in which the search ended; equal to `value` where it is exact.
    """

    q: float
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class LevelShare:
    """Persons with one level; None where the cell is smaller than the contract releases."""

    level: str
    count: int | None
    share: float | None


@dataclass(frozen=True)
class VariableSummary:
    """One variable in one group; a number that was not released is None.

    Attributes:
        skewness: Fisher-Pearson g1. kurtosis: excess, g2 (as the analysis's docstring defines).
    """

    name: str
    type: str
    n: int | None
    missing: int | None
    mean: float | None = None
    sd: float | None = None
    variance: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None
    quantiles: tuple[Quantile, ...] = ()
    levels: tuple[LevelShare, ...] = ()

    def quantile(self, q: float) -> float | None:
        """The value of quantile `q`, which must have been asked for."""
        for found in self.quantiles:
            if abs(found.q - q) < 1e-12:
                return found.value
        raise InputError("not-found", f"Quantile {q} of {self.name} was not asked for.")

    @property
    def median(self) -> float | None:
        """The 0.5 quantile."""
        return self.quantile(0.5)


class DescribeResult(Result):
    """Summaries of variables, overall or by the levels of one.

    ``result["age"]`` is the overall summary of a variable, ``result["age", "2"]`` that of a group.

    Attributes:
        by: The grouping variable.
        n: Persons in each group by level (``None``: all).
        n_sites: Sites whose data is summed.
        rounding: What numbers of persons are rounded to multiples of; None: exact.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.by: str | None = run.params.get("by")
        self.n_sites = int(data.get("n_sites") or len(run.participants))
        self.rounding: int | None = data.get("rounding")
        self.n: dict[str | None, int | None] = {}
        self._summaries: dict[tuple[str | None, str], VariableSummary] = {}
        for group in data["groups"]:
            level = None if group["level"] is None else str(group["level"])
            self.n[level] = group.get("n")
            for name in _in_order(group["variables"], run.params.get("variables", ())):
                self._summaries[level, name] = _summary(name, group["variables"][name])

    def __getitem__(self, key: str | tuple[str, str | None]) -> VariableSummary:
        name, level = (key, None) if isinstance(key, str) else key
        if (level, name) not in self._summaries:
            known = list(dict.fromkeys(name for _, name in self._summaries))
            message = f"This result has no {key!r}. Variables: {', '.join(known)}."
            if self.by is not None:
                groups = [str(group) for group in self.groups]
                message += f" Groups: {', '.join(groups)}; as in result{[known[0], groups[0]]}."
            raise InputError("not-found", message)
        return self._summaries[level, name]

    @property
    def groups(self) -> tuple[str | None, ...]:
        """The levels of `by`, or ``(None,)``."""
        return tuple(self.n)

    def to_frame(self) -> pd.DataFrame:
        """Tidy: a row for each group and variable, and for each level of a category.

        Columns: the grouping variable (where there is one), variable, level, n, missing, mean, sd,
        variance, skewness, kurtosis, one for each quantile (``q25``, ``median``), share. For a
        level, n counts its persons and share is among those with a value. The quantiles of a date
        are ISO dates.
        """
        import pandas as pd

        rows: list[dict[str, object]] = []
        for (group, name), one in self._summaries.items():
            base: dict[str, object] = {"": group, "variable": name, "level": None}
            rows.append(
                base
                | {"n": one.n, "missing": one.missing}
                | {moment: getattr(one, moment) for moment in MOMENTS}
                | {quantile_name(found.q): found.value for found in one.quantiles}
            )
            rows.extend(
                base | {"level": cell.level, "n": cell.count, "share": cell.share}
                for cell in one.levels
            )
        quantiles = sorted({found.q for one in self._summaries.values() for found in one.quantiles})
        numbers = ["n", "missing", *MOMENTS, *map(quantile_name, quantiles), "share"]
        frame = pd.DataFrame(rows, columns=["", "variable", "level", *numbers])
        for column in numbers:
            if column in {"n", "missing"}:
                frame[column] = frame[column].astype(pd.Int64Dtype())
            elif not any(isinstance(value, str) for value in frame[column]):
                frame[column] = frame[column].astype("float64")
        if self.by is None:
            return frame.drop(columns="")
        # A grouping variable that is itself called "n" or "mean" cannot name the column.
        return frame.rename(columns={"": "group" if self.by in frame.columns else self.by})

    def plot(self) -> alt.TopLevelMixin:
        """Means with one standard deviation, and shares of levels; one small chart a variable."""
        from cohortium.sdk.plots import means, shares, side_by_side

        order = [_group_name(group) for group in self.groups]
        by_name: dict[str, list[tuple[str, VariableSummary]]] = {}
        for group, one in self.summaries():
            by_name.setdefault(one.name, []).append((_group_name(group), one))
        charts = []
        for name, ones in by_name.items():
            first = ones[0][1]
            if first.levels:
                levels = [cell.level for cell in first.levels]
                charts.append(shares(name, _share_rows(ones), order, levels))
            elif first.mean is not None or first.type in NUMERIC:
                charts.append(means(name, _mean_rows(ones), order, self.by))
        if not charts:
            raise InputError("bad-input", "Nothing in this result can be drawn.")
        return side_by_side(charts)

    def interpret(self, lang: Language = "en") -> str:
        """The numbers of each variable, group by group; nothing is adjusted for or tested."""
        from cohortium.sdk.words import interpret_describe

        return interpret_describe(self, lang)

    def heading(self, lang: Language = "en") -> str:
        """What stands above the table."""
        text = super().heading(lang)
        if self.by is None:
            return text
        return f"{text}（按 {self.by} 分组）" if lang == "zh" else f"{text} by {self.by}"

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """The footnotes: also whether numbers of persons are rounded."""
        return (*rounded(self.rounding, lang), *super().notes(lang))

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """A row for each group and variable, and indented ones for the levels of a category."""
        require_language(lang)
        frame = self.to_frame().drop(columns=["variance", "skewness", "kurtosis"])
        levels = say("level", lang)
        frame = frame.rename(columns={name: say(str(name), lang) for name in frame.columns})
        if self.by is not None:
            frame = frame[[frame.columns[1], frame.columns[0], *frame.columns[2:]]]
        return (from_frame(self.heading(lang), frame, self.notes(lang), levels),)

    def summaries(self) -> tuple[tuple[str | None, VariableSummary], ...]:
        """Every (group, summary)."""
        return tuple((group, one) for (group, _), one in self._summaries.items())

    def _text(self) -> str:
        """A table that fits a terminal: levels stand under their variable, and the higher moments,
        which `to_frame` has, are left out.
        """
        frame = self.to_frame()
        is_level = frame["level"].notna()
        frame["variable"] = frame["variable"].mask(is_level, "  " + frame["level"].astype(str))
        frame = frame.drop(columns=["level", "variance", "skewness", "kurtosis"])
        columns, rows = _cells(frame)
        widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
        texts = columns.index("variable") + 1
        lines = [
            "  ".join(
                cell.ljust(w) if i < texts else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [columns, *rows]
        ]
        return "\n".join([*lines, *(f"Not released: {why}" for why in self.suppressed)])

    def _repr_html_(self) -> str:
        return result_html(table_html(*_cells(self.to_frame())), self.run.line())


def rounded(to: int | None, lang: Language) -> tuple[str, ...]:
    """The footnote on rounded numbers; none where they are exact."""
    if to is None:
        return ()
    if lang == "zh":
        return (f"人数取整至 {to} 的倍数，由人数得出的比例和检验均为近似值。",)
    return (
        f"Numbers of persons are rounded to multiples of {to}; what rests on them is approximate.",
    )


def _group_name(group: str | None) -> str:
    return "all" if group is None else group


def _mean_rows(ones: Iterable[tuple[str, VariableSummary]]) -> list[dict[str, object]]:
    return [
        {"group": group, "mean": one.mean, "low": one.mean - one.sd, "high": one.mean + one.sd}
        for group, one in ones
        if one.mean is not None and one.sd is not None
    ]


def _share_rows(ones: Iterable[tuple[str, VariableSummary]]) -> list[dict[str, object]]:
    return [
        {"group": group, "level": cell.level, "share": cell.share, "n": cell.count}
        for group, one in ones
        for cell in one.levels
        if cell.share is not None
    ]


def _in_order(found: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
    """As the researcher named them: canonical JSON sorts its keys."""
    places = {name: place for place, name in enumerate(asked)}
    return sorted(found, key=lambda name: places.get(name, len(places)))


def quantile_name(q: float) -> str:
    """``median`` for 0.5, ``q25`` for 0.25, ``q2.5`` for 0.025."""
    return "median" if q == 0.5 else f"q{q * 100:g}"


def _cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people: rounded, empty columns left out."""
    frame = frame.dropna(axis="columns", how="all")
    names = [str(column) for column in frame.columns]
    rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    return names, [[_shown(n, cell) for n, cell in zip(names, row, strict=True)] for row in rows]


def _shown(column: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1%}" if column == "share" else f"{value:.6g}"


def _summary(name: str, entry: Mapping[str, Any]) -> VariableSummary:
    return VariableSummary(
        name=name,
        type=str(entry["type"]),
        n=entry.get("n"),
        missing=entry.get("missing"),
        quantiles=tuple(
            Quantile(float(one["q"]), one.get("value"), one.get("low"), one.get("high"))
            for one in entry.get("quantiles") or ()
        ),
        levels=tuple(
            LevelShare(str(one["level"]), one.get("count"), one.get("share"))
            for one in entry.get("levels") or ()
        ),
        **{moment: entry.get(moment) for moment in MOMENTS},
    )
