"""A Kaplan-Meier curve of one group, and which of its points may be released.

Each released point is exactly the pooled estimate at that time. From two points it follows how many
persons had the event and how many were censored between them, so a curve is a table of persons by
interval and way to leave, and is released like one: in no interval 1 to ``min_cell - 1`` persons
had the event, or were censored. Steps are merged from the left until that is so. The rest, after
the last point, is such an interval too. Where persons come under observation late, from the points
follows also how many came between them, and their number is not small either.

A point lies at a multiple of a round step which holds `min_cell` leaving persons on average, so
that where a point lies tells of nobody's time. The step follows from the data and not from the
request: there are no two runs over the same persons to be differenced.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.survival_times import Leaving
from cohortium.disclosure.limits import Disclosure

MAX_POINTS = 2000
_MOST_STEPS = 400
_MOSTLY = 0.9
_LADDER = (1, 2, 5)
_EVEN = 1e-12

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Points:
    """Where a group's curve is released; ascending.

    Attributes:
        time: (P,).
        last: (P,); the index of the last time at which somebody has left by then.
        left: (P, ways); persons who left since the point before.
        whole: Whether every time at which somebody leaves is a point of its own.
        totals: Whether the group's numbers of events and of censored persons may be released.
        came: (P,); persons who came under observation since the point before, where some do so
            late.
    """

    time: Floats
    last: Ints
    left: Ints
    whole: bool
    totals: bool
    came: Ints | None = None


def points_of(leaving: Leaving, limits: Disclosure) -> Points:
    """The points of one group (G = 1) that may be released; perhaps none."""
    counts = leaving.counts[:, 0]
    ways = counts.shape[1]
    least = limits.min_cell
    at_risk = leaving.at_risk[:, 0]
    enough = np.ones(len(counts), dtype=np.bool_)
    if leaving.entered is not None:
        # At the first time at which they are at risk. Few may be there before most come.
        counts = np.column_stack([counts, np.diff(leaving.entered[:, 0], prepend=0)])
        enough = at_risk >= limits.at_risk
    whole = least == 1 and len(counts) <= MAX_POINTS
    if whole:
        last, time = np.arange(len(counts)), leaving.times
    else:
        last, time = _merged(leaving.times, counts, least, ways, enough)
    before = np.concatenate([[-1], last[:-1]]).astype(np.int64)[: len(last)]
    reached = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), counts.cumsum(axis=0)])
    left = reached[last + 1] - reached[before + 1]
    total = counts.sum(axis=0)
    totals = bool(fits(total, least))
    n_points = len(last)
    while n_points:
        end = int(last[n_points - 1])
        rest = total - reached[end + 1]
        persons = int(rest[:ways].sum())
        good = persons == 0 or persons >= least
        good &= not totals or bool(fits(rest[:ways], least))
        good &= bool(fits(rest[ways:], least))
        if good and at_risk[end] >= limits.at_risk:
            break
        n_points -= 1
    came = None if leaving.entered is None else left[:n_points, ways]
    return Points(time[:n_points], last[:n_points], left[:n_points, :ways], whole, totals, came)


def fits(counts: Ints, least: int) -> Bools:
    """Whether no number in the last axis is of 1 to ``least - 1`` persons."""
    return np.asarray(np.all((counts == 0) | (counts >= least), axis=-1))


def _merged(
    times: Floats, counts: Ints, least: int, ways: int, enough: Bools
) -> tuple[Ints, Floats]:
    """Multiples of a round step between which nobody few left, or came.

    Args:
        enough: Whether a point may be at a time.
    """
    step = _step(times, counts[:, :ways].sum(axis=1), least)
    base, exponent = step
    scale = 10.0**-exponent
    # A time that is a multiple of the step belongs to the step that it ends.
    slot = np.maximum(np.ceil(times * scale / base - 1e-9), 1).astype(np.int64)
    ends = np.flatnonzero(np.diff(slot, append=slot[-1] + 1 if len(slot) else 0))
    inside = np.diff(counts.cumsum(axis=0)[ends], axis=0, prepend=0)
    last: list[int] = []
    here = np.zeros(counts.shape[1], dtype=np.int64)
    for end, more in zip(ends.tolist(), inside, strict=True):
        here = here + more
        if np.all((here == 0) | (here >= least)) and enough[end]:
            last.append(end)
            here = np.zeros_like(here)
    at = np.array(last, dtype=np.int64)
    return at, slot[at] * base / scale


def _step(times: Floats, persons: Ints, least: int) -> tuple[int, int]:
    """1, 2 or 5 and a power of ten: a step that holds `least` persons on average."""
    n = int(persons.sum())
    span = float(times[np.searchsorted(persons.cumsum(), _MOSTLY * n)]) if n else 0.0
    wanted = span * max(least / (_MOSTLY * n), 1 / _MOST_STEPS) if n else 0.0
    if wanted <= 0:
        return 1, 0
    exponent = math.floor(math.log10(wanted))
    for base in _LADDER:
        if base * 10.0**exponent >= wanted * (1 - 1e-9):
            return base, exponent
    return 1, exponent + 1


def greenwood(leaving: Leaving) -> tuple[Floats, Floats]:
    """Survival and the sum in Greenwood's formula after each time of one group."""
    d = leaving.events[:, 0].astype(np.float64)
    n = leaving.at_risk[:, 0].astype(np.float64)
    survival = np.asarray(np.cumprod((n - d) / n), dtype=np.float64)
    with np.errstate(divide="ignore"):
        terms = np.where(d > 0, d / (n * (n - d)), 0.0)
    return survival, np.cumsum(terms)


def log_log(survival: Floats, terms: Floats, z: float) -> tuple[Floats, Floats]:
    """Limits on the scale of log(-log S); 1 where S is 1, NaN where it is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log = np.log(survival)
        wide = np.exp(z * np.sqrt(terms) / np.abs(log))
        low, high = np.exp(log * wide), np.exp(log / wide)
    sure, nobody = survival == 1, survival <= 0
    low, high = np.where(sure, 1.0, low), np.where(sure, 1.0, high)
    return np.where(nobody, np.nan, low), np.where(nobody, np.nan, high)


@dataclass(frozen=True)
class Curve:
    """The released points of a curve, from time 0 on; (P + 1,).

    Attributes:
        at_risk: Persons who had come by the point, and had not left by the one before.
    """

    points: Points
    at_risk: Ints
    time: Floats
    survival: Floats
    std_error: Floats
    low: Floats
    high: Floats

    @staticmethod
    def of(leaving: Leaving, points: Points, z: float) -> Curve:
        """The pooled estimate, its standard error and limits at the points."""
        survival, terms = greenwood(leaving)
        survival = np.concatenate([[1.0], survival[points.last]])
        terms = np.concatenate([[0.0], terms[points.last]])
        low, high = log_log(survival, terms, z)
        with np.errstate(invalid="ignore"):
            error = survival * np.sqrt(terms)
        time = np.concatenate([[0.0], points.time])
        gone = points.left.sum(axis=1).cumsum()
        n = int(leaving.counts.sum())
        there = np.full(len(gone), n) if points.came is None else points.came.cumsum()
        there = there - np.concatenate([[0], gone[:-1]])[: len(gone)]
        at_risk = np.concatenate([there[:1] if len(there) else [n], there]).astype(np.int64)
        return Curve(points, at_risk, time, survival, error, low, high)

    def quantile(self, p: float) -> dict[str, Any]:
        """The smallest time with survival ``1 - p`` or less, and Brookmeyer & Crowley's limits.

        Between two points it lies from `after` (exclusive) to `by`; the value is on the line
        between them, and the limits are the wider ones.
        """
        level = 1.0 - p
        out: dict[str, Any] = {"p": p, "time": None, "after": None, "by": None}
        at = _first(self.survival, level)
        if at is not None:
            out["by"] = float(self.time[at])
            out["after"] = None if self.points.whole else float(self.time[at - 1])
            out["time"] = out["by"]
            if not self.points.whole:
                above, below = self.survival[at - 1], self.survival[at]
                part = float(min(max((above - level) / (above - below), 0.0), 1.0))
                ends = float(self.time[at - 1]), float(self.time[at])
                out["time"] = ends[0] + (ends[1] - ends[0]) * part
        first, last = _first(self.low, level), _first(self.high, level)
        if first is not None and not self.points.whole:
            first -= 1
        out["low"] = None if first is None else float(self.time[first])
        out["high"] = None if last is None else float(self.time[last])
        return out

    def at(self, time: float) -> dict[str, Any]:
        """Survival at a time; between two points it lies from `least` to `most`.

        The value is on the line between them, and the limits are the wider ones. Beyond the last
        point there is nothing to say. At risk are those who had not left by the point before.
        """
        before = int(np.searchsorted(self.time, time, side="right")) - 1
        end = len(self.time) - 1
        out: dict[str, Any] = {"time": time, "at_risk": None}
        if not 0 <= time <= self.time[end]:
            return out | dict.fromkeys(("survival", "std_error", "low", "high", "least", "most"))
        exact = self.points.whole or time == self.time[before]
        after = before if exact else min(before + 1, end)
        part = 0.0
        if after > before:
            ends = self.time[before], self.time[after]
            part = float((time - ends[0]) / (ends[1] - ends[0]))
        fall = float(self.survival[before] - self.survival[after])
        even = exact or fall == 0
        return out | {
            "at_risk": int(self.at_risk[np.searchsorted(self.time, time, side="left")]),
            "survival": float(self.survival[before]) - fall * part,
            "std_error": number(self.std_error[before]) if even else None,
            "low": number(self.low[after]),
            "high": number(self.high[before]),
            "least": float(self.survival[after]),
            "most": float(self.survival[before]),
        }

    def to_json(self) -> dict[str, Any]:
        """The points, a list each."""
        left = np.concatenate([np.zeros((1, 2), np.int64), self.points.left])
        came = self.points.came
        return ({} if came is None else {"came": [0, *came.tolist()]}) | {
            "time": numbers(self.time),
            "at_risk": self.at_risk.tolist(),
            "events": left[:, 1:].sum(axis=1).tolist(),
            "censored": left[:, 0].tolist(),
            "survival": numbers(self.survival),
            "std_error": numbers(self.std_error),
            "low": numbers(self.low),
            "high": numbers(self.high),
        }


def _first(values: Floats, level: float) -> int | None:
    """Where a falling curve is first at or below a level; NaN counts as below."""
    with np.errstate(invalid="ignore"):
        below = np.flatnonzero(~(values > level + _EVEN))
    return int(below[0]) if len(below) and below[0] > 0 else None


def number(value: float) -> float | None:
    """For JSON; None for what is not a number."""
    return float(value) if math.isfinite(value) else None


def numbers(values: Sequence[float] | Floats) -> list[float | None]:
    """`number` of each."""
    return [number(value) for value in np.asarray(values, dtype=np.float64).tolist()]
