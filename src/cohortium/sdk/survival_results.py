"""Survival curves and tests of them as they come back."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.hypothesis import HypothesisTest
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, Row, limits_text, shown
from cohortium.sdk.released_points import ReleasedAt, floats, require_even
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.survival_words import interpret_curves, interpret_logrank, point_notes
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_STEPS = ("time", "at_risk", "events", "censored", "survival", "std_error", "low", "high")
_TICKS = 8
_WIDTH = 90


@dataclass(frozen=True)
class TimeQuantile:
    """When a share of the persons has had the event; None where the curve ends before.

    Attributes:
        p: The share; 0.5 is the median.
        time: Exact, or on the line between the two released points around it.
        after, by: It is later than `after` and not later than `by`; `after` is None where `time` is
            exact.
        low, high: Confidence limits.
    """

    p: float
    time: float | None
    after: float | None
    by: float | None
    low: float | None
    high: float | None

    @property
    def exact(self) -> bool:
        """Whether `time` is the pooled estimate itself."""
        return self.time is not None and self.after is None


@dataclass(frozen=True)
class SurvivalAt(ReleasedAt):
    """Survival at a time that was asked for; None where the curve ends before.

    Attributes:
        at_risk: Persons who had not left by the released point before.
        survival: Exact, or on the line between the released points around it.
    """

    at_risk: int | None
    survival: float | None

    @property
    def value(self) -> float | None:
        """The survival."""
        return self.survival


@dataclass(frozen=True)
class SurvivalCurve:
    """One curve.

    Attributes:
        level: Of the grouping variable; None for everybody.
        n, events, censored: Persons; None where they are withheld.
        every_time: Whether each time at which somebody left is a point; else steps are merged.
        steps: The released points, a list a column: time, at_risk (persons who had not left by the
            point before), events and censored (since then), survival, std_error, low, high; came
            (since then) where persons come under observation late.
        quantiles: As asked for.
        at: As asked for.
    """

    level: str | None
    n: int
    events: int | None
    censored: int | None
    every_time: bool
    steps: Mapping[str, Sequence[Any]]
    quantiles: tuple[TimeQuantile, ...]
    at: tuple[SurvivalAt, ...]

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SurvivalCurve:
        """As the hub released it."""
        names = (*_STEPS, *(["came"] if "came" in data["steps"] else []))
        steps = {name: list(data["steps"][name]) for name in names}
        require_even([*steps.values()])
        if not steps["time"]:
            raise ValueError("a curve has no point")
        return SurvivalCurve(
            data["level"],
            int(data["n"]),
            data["events"],
            data["censored"],
            bool(data["every_time"]),
            steps,
            tuple(TimeQuantile(**floats(one)) for one in data["quantiles"]),
            tuple(SurvivalAt(**floats(one) | {"at_risk": one["at_risk"]}) for one in data["at"]),
        )

    @property
    def median(self) -> float | None:
        """The median time to the event; None where it is not known or was not asked for."""
        return next((one.time for one in self.quantiles if one.p == 0.5), None)

    def at_risk(self, time: float) -> int | None:
        """Persons who had not left by the released point before; None after the curve's end."""
        points = self.steps["time"]
        if time > points[-1]:
            return None
        later = next(at for at, point in enumerate(points) if point >= time)
        return int(self.steps["at_risk"][later])


class KaplanMeierResult(Result):
    """Kaplan-Meier curves.

    Attributes:
        time, unit: The variable and its unit in the dictionary; None where it declares none.
        event: What ends survival.
        by: The grouping variable; None for one curve of everybody.
        entry: From when persons are at risk; None: all from the beginning.
        confidence: Of all limits.
        n: Persons with a time and an event. n_missing: without one of them.
        min_at_risk: A curve ends before fewer persons are at risk.
        exact_times: Whether all times are told apart as they are recorded.
        curves: One a group.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.time = str(data["time"])
        self.unit: str | None = data.get("unit")
        self.event = str(data["event"])
        self.by: str | None = data.get("by")
        self.entry: str | None = data.get("entry")
        self.confidence = float(data["confidence"])
        self.min_at_risk = int(data["min_at_risk"])
        self.exact_times = bool(data["exact_times"])
        self.n = int(data["n"])
        self.n_missing = int(data["n_missing"])
        self.n_sites = int(data["n_sites"])
        self.curves = tuple(SurvivalCurve.from_json(one) for one in data["curves"])

    def curve(self, level: str | None = None) -> SurvivalCurve:
        """The curve of a group.

        Raises:
            InputError: ``not-found``.
        """
        for one in self.curves:
            if one.level == level:
                return one
        known = ", ".join(str(one.level) for one in self.curves if one.level is not None)
        raise InputError("not-found", f"There is no curve of {level!r}; there are: {known}.")

    @property
    def median(self) -> float | None:
        """The median of the one curve; with groups: ``curve(level).median``.

        Raises:
            InputError: ``bad-input`` where there are several curves.
        """
        if len(self.curves) != 1:
            raise InputError("bad-input", "There are several curves: ask curve(level).median.")
        return self.curves[0].median

    @property
    def time_name(self) -> str:
        """The time with its unit: ``time (days)``."""
        return f"{self.time} ({self.unit})" if self.unit else self.time

    def to_frame(self) -> pd.DataFrame:
        """The released points, one a row; with groups their level comes first."""
        import pandas as pd

        frames = []
        for one in self.curves:
            frame = pd.DataFrame({name: one.steps[name] for name in _STEPS})
            if self.by is not None:
                frame.insert(0, self.by, one.level)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def quantiles(self) -> pd.DataFrame:
        """The quantiles of each curve with their limits."""
        return self._frame("quantiles", ("p", "time", "after", "by", "low", "high"))

    def survival_at(self) -> pd.DataFrame:
        """Survival at the times that were asked for."""
        names = ("time", "at_risk", "survival", "std_error", "low", "high", "least", "most")
        return self._frame("at", names)

    def numbers_at_risk(self, times: Sequence[float] | None = None) -> pd.DataFrame:
        """Persons at risk, a group a row; empty after the curve's end.

        Args:
            times: By default those at which the chart shows them. The number is of those who had
                not left by the released point before the time.
        """
        import pandas as pd

        asked = self.ticks() if times is None else [float(time) for time in times]
        table = [[one.at_risk(time) for time in asked] for one in self.curves]
        index = pd.Index([self._label(one) for one in self.curves], name=self.by or "")
        return pd.DataFrame(table, index=index, columns=asked, dtype="Int64")

    def ticks(self) -> list[float]:
        """Round times over the whole of the curves."""
        import numpy as np

        end = max(one.steps["time"][-1] for one in self.curves)
        if end <= 0:
            return [0.0]
        rough = end / _TICKS
        power = 10.0 ** np.floor(np.log10(rough))
        step = next(base * power for base in (1, 2, 5, 10) if base * power >= rough * (1 - 1e-9))
        return [float(f"{step * at:.12g}") for at in range(int(end / step + 1e-9) + 1)]

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The groups with their quantiles, survival at times, and persons at risk."""
        require_language(lang)
        group = self.by or say("group", lang)
        unit = "" if self.unit is None else f" ({self.unit})"
        rows = []
        for one in self.curves:
            cells: list[Any] = [self._label(one, lang), one.n, one.events, one.censored]
            for quantile in one.quantiles:
                cells += [_within(quantile, lang), _limits(quantile.low, quantile.high, lang)]
            rows.append(Row(tuple(cells)))
        interval = f"{self.confidence * 100:g}% {'置信区间' if lang == 'zh' else 'CI'}"
        head = [group, say("n", lang), say("events", lang), say("censored", lang)]
        for quantile in self.curves[0].quantiles:
            name = say("median", lang) if quantile.p == 0.5 else f"{quantile.p:g}"
            head += [f"{name}{unit}", interval]
        tables = [PrintedTable(self.heading(lang), tuple(head), tuple(rows))]
        if self.curves[0].at:
            tables.append(self._at_table(lang, group, interval))
        ticks = self.ticks()
        title = say("Persons at risk", lang) + unit
        at_risk = tuple(
            Row((self._label(one, lang), *(one.at_risk(time) for time in ticks)))
            for one in self.curves
        )
        columns = (group, *(f"{time:g}" for time in ticks))
        tables.append(PrintedTable(title, columns, at_risk, self.notes(lang)))
        return tuple(tables)

    def heading(self, lang: Language = "en") -> str:
        """What the curves are of."""
        about = f"{self.event} × {self.by}" if self.by and lang == "zh" else self.event
        if lang == "zh":
            return f"{say('Kaplan-Meier curves', lang)}：{about}"
        return f"Kaplan-Meier curves: {self.event}" + (f" by {self.by}" if self.by else "")

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """The footnotes: also where points are and where the curve ends."""
        return (*point_notes(self, lang), *super().notes(lang))

    def interpret(self, lang: Language = "en") -> str:
        """Medians and survival at times, in plain words."""
        return interpret_curves(self, lang)

    def plot(self) -> alt.TopLevelMixin:
        """The curves with their limits, and the persons at risk beneath."""
        from cohortium.sdk.survival_plots import survival

        return survival(self)

    def _at_table(self, lang: Language, group: str, interval: str) -> PrintedTable:
        rows = []
        for one in self.curves:
            for at in one.at:
                value = at.text(lang)
                limits = _limits(at.low, at.high, lang)
                rows.append(Row((self._label(one, lang), at.time, at.at_risk, value, limits)))
        heads = ("time", "at_risk", "survival")
        columns = (group, *(say(name, lang) for name in heads), interval)
        unit = f" ({self.unit})" if self.unit else ""
        return PrintedTable(say("Survival at times", lang) + unit, columns, tuple(rows))

    def _label(self, one: SurvivalCurve, lang: Language = "en") -> str:
        return say("everybody", lang) if one.level is None else one.level

    def _frame(self, what: str, names: Sequence[str]) -> pd.DataFrame:
        import pandas as pd

        rows = [
            ({} if self.by is None else {self.by: curve.level})
            | {name: getattr(one, name) for name in names}
            for curve in self.curves
            for one in getattr(curve, what)
        ]
        head = [*([] if self.by is None else [self.by]), *names]
        return pd.DataFrame(rows, columns=head)

    def _text(self) -> str:
        tables = self.tables()
        plain = [PrintedTable(t.title, t.columns, t.rows) for t in tables]
        notes = [*point_notes(self, "en"), *(f"Not released: {why}" for why in self.suppressed)]
        lines = [line for note in notes for line in textwrap.wrap(note, _WIDTH)]
        return "\n".join([*(table.text() for table in plain), *lines])


def _within(quantile: TimeQuantile, lang: Language) -> str | float | None:
    """A quantile, with the released points around it where it is not exact."""
    if quantile.exact or quantile.time is None:
        return quantile.time
    around = limits_text(quantile.after or 0.0, quantile.by or 0.0, lang)
    return f"{shown(quantile.time)} [{around}]"


def _limits(low: float | None, high: float | None, lang: Language) -> str | None:
    if low is None and high is None:
        return None
    ends = ["—" if end is None else shown(end) for end in (low, high)]
    return ("至" if lang == "zh" else " to ").join(ends)


class LogrankResult(HypothesisTest):
    """A log-rank test; each group has level, n, observed and expected events.

    Attributes:
        event: What ends survival. unit: Of the time.
        strata: Within whose levels persons were compared; None: over everybody.
        within_sites: Whether they were compared within their institution.
        hazard_ratio: Peto's, of the second of two groups to the first; else None.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.event = str(data["event"])
        self.unit: str | None = data.get("unit")
        self.strata: str | None = data.get("strata")
        self.within_sites = bool(data["within_sites"])
        self.hazard_ratio = None if self.estimate is None else self.estimate.value
        columns = ("level", "n", "observed", "expected")
        self.groups = tuple(
            {name: group[name] for name in columns if name in group} for group in self.groups
        )

    def interpret(self, lang: Language = "en") -> str:
        """What the test says, in plain words, and what it is adjusted for."""
        return interpret_logrank(self, lang)


class GrayResult(HypothesisTest):
    """Gray's test; each group has level, n, and observed events of the cause.

    Attributes:
        event, cause: The variable, and which of its levels is compared.
        strata: Within whose levels persons were compared; None: over everybody.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.event = str(data["event"])
        self.cause = str(data["cause"])
        self.unit: str | None = data.get("unit")
        self.strata: str | None = data.get("strata")
        self.groups = tuple(
            {name: group[name] for name in ("level", "n", "observed") if name in group}
            for group in self.groups
        )
