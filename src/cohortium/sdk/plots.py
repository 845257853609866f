"""Charts of results with Altair, and writing them to files without the internet."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from cohortium.core.dictionary import NUMERIC
from cohortium.errors import InputError

if TYPE_CHECKING:
    from cohortium.sdk.describe import DescribeResult, VariableSummary
    from cohortium.sdk.glm import GlmResult

BLUE = "#1f5a93"
GREY = "#8a8f98"
ENDINGS = (".png", ".svg", ".html", ".json")
ROW_HEIGHT = 24
WIDTH = 360


def save(chart: alt.TopLevelMixin, path: Path) -> Path:
    """Write a chart; the ending of `path` says how.

    Raises:
        InputError: ``bad-input`` for an unknown ending; ``missing-extra`` without vl-convert, which
            draws PNG and SVG and puts the scripts into HTML so that it works offline.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(
            "bad-input", f"A chart is written as {', '.join(ENDINGS)}, not {ending or path.name!r}."
        )
    if ending != ".json" and importlib.util.find_spec("vl_convert") is None:
        raise InputError("missing-extra", f'Writing {ending} needs: pip install "cohortium[png]"')
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


def forest_chart(fit: GlmResult) -> alt.TopLevelMixin:
    """Effects with 95% limits, one line a term, and the line of no effect."""
    ratio = fit.link != "identity"
    limits = fit.conf_int()
    scale = np.exp if ratio else np.asarray
    frame = pd.DataFrame(
        {
            "term": list(fit.terms),
            "effect": scale(fit.params.to_numpy()),
            "low": scale(limits[0].to_numpy()),
            "high": scale(limits[1].to_numpy()),
            "p": fit.pvalues.to_numpy(),
        }
    )
    frame = frame[frame["term"] != "Intercept"]
    if ratio:
        # A log axis cannot show 0 or infinity: a term without a finite interval is left out.
        frame = frame[(frame["low"] > 0) & np.isfinite(frame["high"])]
    title = fit.ratio_name.capitalize() if ratio else "Coefficient"
    x = alt.X("effect:Q").title(f"{title} (95% CI)")
    x = x.scale(type="log", nice=False, padding=12) if ratio else x.scale(zero=False, padding=12)
    base = alt.Chart(frame).encode(
        alt.Y("term:N").sort(list(frame["term"])).title(None),
        tooltip=[
            alt.Tooltip("term:N"),
            alt.Tooltip("effect:Q", format=".4g", title=title),
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
        title=alt.Title(
            fit.formula,
            subtitle=f"{fit.family}, {fit.nobs:,} persons, {fit.n_sites} sites",
            anchor="start",
        ),
    )
    return _styled(layered)


def describe_chart(result: DescribeResult) -> alt.TopLevelMixin:
    """One small chart a variable: mean with one SD, or the share of each level."""
    order = ["all" if group is None else group for group in result.groups]
    by_name: dict[str, list[tuple[str, VariableSummary]]] = {}
    for group, one in result.summaries():
        by_name.setdefault(one.name, []).append(("all" if group is None else group, one))
    charts = [
        _shares(name, ones, order) if ones[0][1].levels else _means(name, ones, order, result.by)
        for name, ones in by_name.items()
        if ones[0][1].levels or _has_mean(ones[0][1])
    ]
    if not charts:
        raise InputError("bad-input", "Nothing in this result can be drawn.")
    chart = alt.concat(*charts, columns=2).resolve_scale(color="independent")
    return _styled(chart)


def _has_mean(one: VariableSummary) -> bool:
    return one.mean is not None or one.type in {kind.value for kind in NUMERIC}


def _means(
    name: str, ones: Sequence[tuple[str, VariableSummary]], order: list[str], by: str | None
) -> Any:
    rows = [
        {"group": group, "mean": one.mean, "low": one.mean - one.sd, "high": one.mean + one.sd}
        for group, one in ones
        if one.mean is not None and one.sd is not None
    ]
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


def _shares(name: str, ones: Sequence[tuple[str, VariableSummary]], order: list[str]) -> Any:
    levels = [cell.level for cell in ones[0][1].levels]
    rows = [
        {"group": group, "level": cell.level, "share": cell.share, "n": cell.count}
        for group, one in ones
        for cell in one.levels
        if cell.share is not None
    ]
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


def _styled(chart: Any) -> alt.TopLevelMixin:
    styled: alt.TopLevelMixin = (
        chart.configure_view(stroke=None)
        .configure_axis(
            labelLimit=240, labelFlush=False, grid=False, domainColor=GREY, tickColor=GREY
        )
        .configure_title(fontSize=13, subtitleColor=GREY, fontWeight="normal")
    )
    return styled
