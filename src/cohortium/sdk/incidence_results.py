"""Cumulative incidence of events that compete, as it comes back."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, Row, limits_text
from cohortium.sdk.released_points import ReleasedAt, floats, require_even
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.survival_words import interpret_incidence, point_notes
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_WIDTH = 90
_COLUMNS = ("events", "incidence", "std_error", "low", "high")


@dataclass(frozen=True)
class IncidenceAt(ReleasedAt):
    """The incidence at a time that was asked for; None where the curve ends before.

    Attributes:
        incidence: Exact, or on the line between the released points around it.
    """

    incidence: float | None

    @property
    def value(self) -> float | None:
        """The incidence."""
        return self.incidence


@dataclass(frozen=True)
class IncidenceCurve:
    """The curve of one cause in one group.

    Attributes:
        level: Of the grouping variable; None for everybody.
        cause: Which event.
        n: Persons of the group. total: of whom so many had the event; None where it is withheld.
        every_time: Whether each time at which somebody left is a point; else steps are merged.
        time, at_risk: Of the points; persons who had not left by the point before.
        steps: A list a column: events (since the point before), incidence, std_error, low, high.
        at: As asked for.
    """

    level: str | None
    cause: str
    n: int
    total: int | None
    every_time: bool
    time: Sequence[float]
    at_risk: Sequence[int]
    steps: Mapping[str, Sequence[Any]]
    at: tuple[IncidenceAt, ...]

    @staticmethod
    def from_json(group: Mapping[str, Any], one: Mapping[str, Any]) -> IncidenceCurve:
        """As the hub released it."""
        steps = {name: list(one[name]) for name in _COLUMNS}
        require_even([group["time"], *steps.values()])
        return IncidenceCurve(
            group["level"],
            str(one["cause"]),
            int(group["n"]),
            one["total"],
            bool(group["every_time"]),
            [float(time) for time in group["time"]],
            [int(persons) for persons in group["at_risk"]],
            steps,
            tuple(IncidenceAt(**floats(at)) for at in one["at"]),
        )


class CumulativeIncidenceResult(Result):
    """Cumulative incidence by Aalen and Johansen's estimate.

    Attributes:
        time, unit: The variable and its unit in the dictionary; None where it declares none.
        event, causes: The variable and its levels that compete.
        by: The grouping variable; None for everybody.
        confidence: Of all limits.
        n: Persons with a time and an event. n_missing: without one of them.
        min_at_risk: A curve ends before fewer persons are at risk.
        exact_times: Whether all times are told apart as they are recorded.
        curves: One a group and cause.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.time = str(data["time"])
        self.unit: str | None = data.get("unit")
        self.event = str(data["event"])
        self.causes = tuple(str(cause) for cause in data["causes"])
        self.by: str | None = data.get("by")
        self.confidence = float(data["confidence"])
        self.min_at_risk = int(data["min_at_risk"])
        self.exact_times = bool(data["exact_times"])
        self.n = int(data["n"])
        self.n_missing = int(data["n_missing"])
        self.n_sites = int(data["n_sites"])
        self.curves = tuple(
            IncidenceCurve.from_json(group, one)
            for group in data["curves"]
            for one in group["causes"]
        )

    def curve(self, cause: str, level: str | None = None) -> IncidenceCurve:
        """The curve of a cause in a group.

        Raises:
            InputError: ``not-found``.
        """
        for one in self.curves:
            if (one.cause, one.level) == (cause, level):
                return one
        raise InputError("not-found", f"There is no curve of {cause!r} in {level!r}.")

    @property
    def time_name(self) -> str:
        """The time with its unit: ``time (days)``."""
        return f"{self.time} ({self.unit})" if self.unit else self.time

    def to_frame(self) -> pd.DataFrame:
        """The released points, one a row."""
        import pandas as pd

        frames = []
        for one in self.curves:
            frame = pd.DataFrame({"time": one.time, "at_risk": one.at_risk, **one.steps})
            frame.insert(0, "cause", one.cause)
            if self.by is not None:
                frame.insert(0, self.by, one.level)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """Each curve's persons, events and incidence at its last point and at the times asked."""
        require_language(lang)
        interval = f"{self.confidence * 100:g}% {'置信区间' if lang == 'zh' else 'CI'}"
        unit = f" ({self.unit})" if self.unit else ""
        names = [*([self.by] if self.by else []), say("cause", lang)]
        head = (*names, say("n", lang), say("events", lang), f"{say('time', lang)}{unit}")
        rows = []
        for one in self.curves:
            first = [*([one.level] if self.by else []), one.cause, one.n, one.total]
            for at in self.said(one):
                value = at.text(lang)
                limits = None
                if at.low is not None and at.high is not None:
                    limits = limits_text(at.low, at.high, lang)
                rows.append(Row((*first, at.time, value, limits)))
        columns = (*head, say("incidence", lang), interval)
        return (PrintedTable(self.heading(lang), columns, tuple(rows), self.notes(lang)),)

    def heading(self, lang: Language = "en") -> str:
        """What the curves are of."""
        if lang == "zh":
            about = f"{self.event} × {self.by}" if self.by else self.event
            return f"{say('Cumulative incidence', lang)}：{about}"
        return f"Cumulative incidence: {self.event}" + (f" by {self.by}" if self.by else "")

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """The footnotes: also where points are and where the curve ends."""
        return (*point_notes(self, lang), *super().notes(lang))

    def interpret(self, lang: Language = "en") -> str:
        """The incidence of each cause, in plain words."""
        return interpret_incidence(self, lang)

    def plot(self) -> alt.TopLevelMixin:
        """The curves with their limits, a panel a group."""
        from cohortium.sdk.survival_plots import incidence

        return incidence(self)

    def said(self, one: IncidenceCurve) -> tuple[IncidenceAt, ...]:
        """What words and tables say of a curve: the times asked for, or its last point."""
        return one.at or (self._last(one),)

    def _last(self, one: IncidenceCurve) -> IncidenceAt:
        value, error, low, high = (one.steps[name][-1] for name in _COLUMNS[1:])
        return IncidenceAt(one.time[-1], error, low, high, least=value, most=value, incidence=value)

    def _text(self) -> str:
        (table,) = self.tables()
        notes = [*point_notes(self, "en"), *(f"Not released: {why}" for why in self.suppressed)]
        lines = [line for note in notes for line in textwrap.wrap(note, _WIDTH)]
        return "\n".join([PrintedTable(table.title, table.columns, table.rows).text(), *lines])
