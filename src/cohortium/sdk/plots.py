"""Charts of plain data with Altair, and writing them to files without the internet."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cohortium.errors import InputError
from cohortium.sdk.files import writing

Rows = Sequence[Mapping[str, object]]

BLUE = "#1f5a93"
GREY = "#8a8f98"
ENDINGS = (".png", ".svg", ".html", ".json")
ROW_HEIGHT = 24
WIDTH = 360


def save(chart: alt.TopLevelMixin, path: Path) -> Path:
    """Write a chart; the ending of `path` says how.

    Raises:
        InputError: ``bad-input`` for an unknown ending or folder; ``missing-extra`` without
            vl-convert, which draws PNG and SVG and puts the scripts into HTML so that it works
            offline.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(
            "bad-input", f"A chart is written as {', '.join(ENDINGS)}, not {ending or path.name!r}."
        )
    if ending != ".json" and importlib.util.find_spec("vl_convert") is None:
        raise InputError("missing-extra", f'Writing {ending} needs: pip install "cohortium[png]"')
    with writing(path):
        match ending:
            case ".png":
                chart.save(str(path), format="png", ppi=160)
            case ".svg":
                chart.save(str(path), format="svg")
            case ".html":
                chart.save(str(path), format="html", inline=True)
            case _:
                chart.save(str(path), format="json")
    return path


def picture(chart: alt.TopLevelMixin, ending: str) -> bytes | None:
    """A chart as the bytes of an ``.svg`` or ``.png``; None without vl-convert."""
    if importlib.util.find_spec("vl_convert") is None:
        return None
    if ending == ".svg":
        text = io.StringIO()
        chart.save(text, format="svg")
        return text.getvalue().encode()
    out = io.BytesIO()
    chart.save(out, format="png", ppi=160)
    return out.getvalue()


def forest(
    frame: pd.DataFrame,
    *,
    effect: str,
    ratio: bool,
    title: str,
    subtitle: str,
    confidence: float = 0.95,
) -> alt.TopLevelMixin:
    """Effects with their limits, one line a term, and the line of no effect.

    Args:
        frame: Columns term, effect, low, high, p.
        effect: What the effect is called.
        ratio: Whether no effect is 1, on a log axis, and not 0.
        confidence: Of the limits.
    """
    if ratio:
        # A log axis cannot show 0 or infinity: a term without a finite interval is left out.
        frame = frame[(frame["low"] > 0) & np.isfinite(frame["high"])]
    x = alt.X("effect:Q").title(f"{effect} ({100 * confidence:g}% CI)")
    x = x.scale(type="log", nice=False, padding=12) if ratio else x.scale(zero=False, padding=12)
    base = alt.Chart(frame).encode(
        alt.Y("term:N").sort(list(frame["term"])).title(None),
        tooltip=[
            alt.Tooltip("term:N"),
            alt.Tooltip("effect:Q", format=".4g", title=effect),
            alt.Tooltip("low:Q", format=".4g"),
            alt.Tooltip("high:Q", format=".4g"),
            alt.Tooltip("p:Q", format=".3g"),
        ],
    )
    none = (
        alt.Chart(pd.DataFrame({"effect": [1.0 if ratio else 0.0]}))
        .mark_rule(color=GREY, strokeDash=[4, 3])
        .encode(x)
    )
    bars = base.mark_rule(color=BLUE, strokeWidth=2).encode(alt.X("low:Q"), alt.X2("high:Q"))
    points = base.mark_point(color=BLUE, filled=True, opacity=1, size=70, shape="square").encode(x)
    layered = alt.layer(none, bars, points).properties(
        width=WIDTH,
        height=alt.Step(ROW_HEIGHT),
        title=alt.Title(title, subtitle=subtitle, anchor="start"),
    )
    return _styled(layered)


def love(
    values: Mapping[str, float], line: float, *, title: str, subtitle: str
) -> alt.TopLevelMixin:
    """Standardised differences, the largest above, with a line at what counts as balanced."""
    rows = [
        {"variable": name, "smd": value} for name, value in values.items() if np.isfinite(value)
    ]
    frame = pd.DataFrame(rows, columns=["variable", "smd"])
    x = alt.X("smd:Q").title("standardised mean difference").scale(domainMin=0, nice=True)
    rule = (
        alt.Chart(pd.DataFrame({"smd": [line]})).mark_rule(color=GREY, strokeDash=[4, 3]).encode(x)
    )
    points = (
        alt.Chart(frame)
        .mark_point(color=BLUE, filled=True, opacity=1, size=70)
        .encode(
            alt.Y("variable:N").sort("-x").title(None),
            x,
            tooltip=["variable:N", alt.Tooltip("smd:Q", format=".3f")],
        )
    )
    layered = alt.layer(rule, points).properties(
        width=WIDTH,
        height=alt.Step(ROW_HEIGHT),
        title=alt.Title(title, subtitle=subtitle, anchor="start"),
    )
    return _styled(layered)


def side_by_side(charts: Sequence[Any]) -> alt.TopLevelMixin:
    """Small charts in two columns."""
    return _styled(alt.concat(*charts, columns=2).resolve_scale(color="independent"))


def one_above_another(charts: Sequence[Any]) -> alt.TopLevelMixin:
    """Charts over the same horizontal axis."""
    return _styled(alt.vconcat(*charts, spacing=8).resolve_scale(x="shared"))


def means(name: str, rows: Rows, order: list[str], by: str | None) -> Any:
    """A small chart: one line a group.

    Args:
        rows: With group, mean, low, high.
        order: The groups.
        by: What they are groups of.
    """
    base = alt.Chart(pd.DataFrame(rows, columns=["group", "mean", "low", "high"])).encode(
        alt.Y("group:N").sort(order).title(by)
    )
    bars = base.mark_rule(color=BLUE, strokeWidth=2).encode(
        alt.X("low:Q").title("mean ± SD").scale(zero=False, padding=12), alt.X2("high:Q")
    )
    points = base.mark_point(color=BLUE, filled=True, opacity=1, size=70).encode(alt.X("mean:Q"))
    return alt.layer(bars, points).properties(
        title=name, width=WIDTH // 2, height=alt.Step(ROW_HEIGHT)
    )


def shares(name: str, rows: Rows, order: list[str], levels: list[str]) -> Any:
    """A small chart: one bar a level and group.

    Args:
        rows: With group, level, share, n.
        order: The groups.
    """
    chart = (
        alt.Chart(pd.DataFrame(rows, columns=["group", "level", "share", "n"]))
        .mark_bar(color=BLUE)
        .encode(
            alt.Y("level:N").sort(levels).title(None),
            alt.X("share:Q").axis(format="%").title("share"),
            tooltip=["group:N", "level:N", alt.Tooltip("share:Q", format=".1%"), "n:Q"],
        )
        .properties(title=name, width=WIDTH // 2, height=alt.Step(ROW_HEIGHT))
    )
    if len(order) > 1:
        chart = chart.encode(
            alt.YOffset("group:N").sort(order), alt.Color("group:N").sort(order).title(None)
        )
    return chart


def stacked(
    rows: Rows,
    *,
    names: tuple[str, str],
    levels: tuple[list[str], list[str]],
    title: str,
    subtitle: str,
) -> alt.TopLevelMixin:
    """One bar a row of a table, its columns stacked to their shares.

    Args:
        rows: With row, column, order (of the column), share, n.
        names: Of the variables in rows and columns.
        levels: Of both.
    """
    chart = (
        alt.Chart(pd.DataFrame(rows, columns=["row", "column", "order", "share", "n"]))
        .mark_bar(stroke="white", strokeWidth=1)
        .encode(
            alt.Y("row:N").sort(levels[0]).title(names[0]),
            alt.X("share:Q").stack("zero").axis(format="%").title("share").scale(domain=[0, 1]),
            alt.Color("column:N").sort(levels[1]).title(names[1]),
            alt.Order("order:Q"),
            tooltip=["row:N", "column:N", "n:Q", alt.Tooltip("share:Q", format=".1%")],
        )
        .properties(
            width=WIDTH,
            height=alt.Step(ROW_HEIGHT),
            title=alt.Title(title, subtitle=subtitle, anchor="start"),
        )
    )
    return _styled(chart)


def _styled(chart: Any) -> alt.TopLevelMixin:
    styled: alt.TopLevelMixin = (
        chart.configure_view(stroke=None)
        .configure_axis(
            labelLimit=240, labelFlush=False, grid=False, domainColor=GREY, tickColor=GREY
        )
        .configure_title(fontSize=13, subtitleColor=GREY, fontWeight="normal")
    )
    return styled
