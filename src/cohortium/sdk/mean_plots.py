"""Charts of tests of means, from plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from cohortium.sdk.plots import BLUE, GREY, ROW_HEIGHT, WIDTH, side_by_side

Rows = Sequence[Mapping[str, object]]


def difference(name: str, value: float, low: float, high: float, none: float) -> Any:
    """An estimate with its limits, and the line of the null hypothesis."""
    frame = pd.DataFrame([{"estimate": value, "low": low, "high": high, "row": name}])
    x = alt.X("estimate:Q").title(name).scale(zero=False, padding=12)
    base = alt.Chart(frame).encode(alt.Y("row:N").title(None).axis(None))
    line = alt.Chart(pd.DataFrame({"estimate": [none]})).mark_rule(color=GREY, strokeDash=[4, 3])
    bars = base.mark_rule(color=BLUE, strokeWidth=2).encode(alt.X("low:Q"), alt.X2("high:Q"))
    points = base.mark_point(color=BLUE, filled=True, opacity=1, size=70).encode(x)
    return alt.layer(line.encode(x), bars, points).properties(
        width=WIDTH // 2, height=alt.Step(2 * ROW_HEIGHT)
    )


def bars(rows: Rows, *, x: str, axis: str, percent: bool = False) -> alt.TopLevelMixin:
    """One bar a row.

    Args:
        rows: With `x` and ``row``, in order.
        axis: What `x` is.
    """
    frame = pd.DataFrame(rows)
    scale = alt.X(f"{x}:Q").title(axis)
    chart = (
        alt.Chart(frame)
        .mark_bar(color=BLUE)
        .encode(
            scale.axis(format="%") if percent else scale,
            alt.Y("row:N").sort(list(frame["row"])).title(None),
        )
        .properties(width=WIDTH, height=alt.Step(ROW_HEIGHT))
    )
    return side_by_side([chart])


def density(name: str, bins: Rows, *, n: int, mean: float, sd: float) -> alt.TopLevelMixin:
    """A histogram whose areas are shares, with the normal curve of the same mean and sd.

    Args:
        bins: With low, high and n; low or high is None in an open bin, which is drawn paler and to
            the edge of the picture.
    """
    ends = (mean - 4 * sd, mean + 4 * sd)
    rows = []
    for one in bins:
        low = ends[0] if one["low"] is None else float(str(one["low"]))
        high = ends[1] if one["high"] is None else float(str(one["high"]))
        persons = int(str(one["n"]))
        if high > low:
            is_open = one["low"] is None or one["high"] is None
            rows.append(
                {
                    "low": low,
                    "high": high,
                    "n": persons,
                    "density": persons / n / (high - low),
                    "opacity": 0.2 if is_open else 0.5,
                }
            )
    points = [mean + sd * step / 20 for step in range(-80, 81)]
    curve = pd.DataFrame(
        {
            "at": points,
            "density": [
                math.exp(-((at - mean) ** 2) / (2 * sd**2)) / (sd * math.sqrt(2 * math.pi))
                for at in points
            ],
        }
    )
    histogram = (
        alt.Chart(pd.DataFrame(rows, columns=["low", "high", "n", "density", "opacity"]))
        .mark_rect(color=BLUE, stroke="white")
        .encode(
            alt.X("low:Q").title(name).scale(zero=False),
            alt.X2("high:Q"),
            alt.Y("density:Q").title("density"),
            alt.Y2(datum=0),
            alt.Opacity("opacity:Q").scale(None).legend(None),
            tooltip=["low:Q", "high:Q", "n:Q"],
        )
    )
    normal = alt.Chart(curve).mark_line(color=GREY, strokeDash=[4, 3])
    drawn = normal.encode(alt.X("at:Q").title(name), alt.Y("density:Q"))
    return side_by_side([alt.layer(histogram, drawn).properties(width=WIDTH, height=200)])
