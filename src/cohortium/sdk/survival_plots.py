"""Charts of survival curves: released points only, so nobody's censoring is marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd

from cohortium.errors import InputError
from cohortium.sdk.plots import BLUE, ROW_HEIGHT, WIDTH, one_above_another

if TYPE_CHECKING:
    from cohortium.sdk.incidence_results import CumulativeIncidenceResult
    from cohortium.sdk.survival_results import KaplanMeierResult

HEIGHT = 240


def survival(result: KaplanMeierResult) -> alt.TopLevelMixin:
    """Curves with their limits; beneath them the persons at risk.

    Between merged points the line is straight, where every time is a point it has steps.

    Raises:
        InputError: ``bad-input`` where no point was released.
    """
    labels = [one.level or "everybody" for one in result.curves]
    ticks = result.ticks()
    if ticks == [0.0]:
        raise InputError("bad-input", "No point of the curve was released; there is no chart.")
    points: list[dict[str, Any]] = []
    persons: list[dict[str, Any]] = []
    for label, one in zip(labels, result.curves, strict=True):
        names = ("time", "survival", "low", "high")
        columns = (one.steps[name] for name in names)
        points += [
            {"group": label} | dict(zip(names, row, strict=True))
            for row in zip(*columns, strict=True)
        ]
        persons += [
            {"group": label, "time": time, "persons": number}
            for time in ticks
            if (number := one.at_risk(time)) is not None
        ]
    end = max(point["time"] for point in points)
    x = alt.X("time:Q").scale(domain=[0, max(end, ticks[-1])]).axis(values=ticks, grid=False)
    curves = _curves(pd.DataFrame(points), result, x, labels)
    beneath = (
        alt.Chart(pd.DataFrame(persons))
        .mark_text(fontSize=11)
        .encode(
            x.axis(None),
            alt.Y("group:N")
            .sort(labels)
            .title(None)
            .axis(domain=False, ticks=False, labelPadding=20),
            alt.Text("persons:Q"),
        )
        .properties(
            width=WIDTH,
            height=alt.Step(ROW_HEIGHT),
            title=alt.Title("persons at risk", anchor="start", fontSize=11),
        )
    )
    return one_above_another([curves, beneath])


def incidence(result: CumulativeIncidenceResult) -> alt.TopLevelMixin:
    """A panel a group; the causes' curves with their limits.

    Raises:
        InputError: ``bad-input`` where no point was released.
    """
    if all(len(one.time) < 2 for one in result.curves):
        raise InputError("bad-input", "No point of the curves was released; there is no chart.")
    frame = result.to_frame()
    steps = all(one.every_time for one in result.curves)
    how: Any = "step-after" if steps else "linear"
    panels = []
    for level in dict.fromkeys(one.level for one in result.curves):
        here = frame if result.by is None else frame[frame[result.by] == level]
        base = alt.Chart(here[["cause", "time", "incidence", "low", "high"]]).encode(
            alt.X("time:Q").title(result.time_name).scale(domainMin=0),
            color=alt.Color("cause:N")
            .sort(list(result.causes))
            .title(result.event)
            .legend(symbolOpacity=1),
        )
        bands = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.18, interpolate=how)
        bands = bands.encode(alt.Y("low:Q").scale(domain=[0, 1]), alt.Y2("high:Q"))
        y = alt.Y("incidence:Q").title("cumulative incidence")
        lines = base.mark_line(interpolate=how, strokeWidth=2).encode(y)
        title = result.heading() if result.by is None else f"{result.by} = {level}"
        panels.append(
            alt.layer(bands, lines).properties(width=WIDTH, height=HEIGHT * 2 // 3, title=title)
        )
    return one_above_another(panels)


def _curves(frame: pd.DataFrame, result: KaplanMeierResult, x: alt.X, labels: list[str]) -> Any:
    steps = all(one.every_time for one in result.curves)
    how: Any = "step-after" if steps else "linear"
    base = alt.Chart(frame).encode(x.title(result.time_name))
    y = alt.Y("survival:Q").scale(domain=[0, 1]).title(f"without {result.event}")
    bands = base.transform_filter("isValid(datum.low)").mark_area(opacity=0.18, interpolate=how)
    lines = base.mark_line(interpolate=how, strokeWidth=2)
    bands = bands.encode(alt.Y("low:Q").scale(domain=[0, 1]), alt.Y2("high:Q"))
    lines = lines.encode(y)
    dots = base.mark_point(filled=True, size=22, opacity=1).encode(
        y,
        tooltip=[
            alt.Tooltip("group:N"),
            alt.Tooltip("time:Q", title=result.time_name),
            alt.Tooltip("survival:Q", format=".4f"),
            alt.Tooltip("low:Q", format=".4f"),
            alt.Tooltip("high:Q", format=".4f"),
        ],
    )
    color: Any = alt.value(BLUE)
    if len(labels) > 1:
        color = (
            alt.Color("group:N")
            .sort(labels)
            .title(result.by)
            .legend(orient="top-right", symbolOpacity=1)
        )
    layers = [bands, lines] if steps else [bands, lines, dots]
    return alt.layer(*(layer.encode(color=color) for layer in layers)).properties(
        width=WIDTH,
        height=HEIGHT,
        title=alt.Title(result.heading(), subtitle=result.run.line(), anchor="start"),
    )
