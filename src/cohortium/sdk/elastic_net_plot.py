"""Charts of penalised models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from cohortium.sdk.plots import BLUE, GREY, WIDTH, side_by_side

if TYPE_CHECKING:
    from cohortium.sdk.elastic_net_results import ElasticNetResult

HEIGHT = 260
_PALETTE = [
    "#1f5a93",
    "#c8553d",
    "#3f8f5b",
    "#8a5fa8",
    "#d39b2a",
    "#3aa6b9",
    "#a3475e",
    "#6b7a2c",
    "#5b6cb5",
    "#8c6d4f",
]
_GREYISH = "#d0d3d8"
_OTHERS = "others"
_MOST_NAMED = len(_PALETTE)
"""Terms in the legend; the others are grey."""


def coefficients(fit: ElasticNetResult) -> alt.TopLevelMixin:
    """A line for each term, over lambda from large to small."""
    path = fit.standardized
    largest = path.abs().max().sort_values(ascending=False)
    named = [str(name) for name in largest.index[:_MOST_NAMED] if largest[name] > 0]
    rows = path.reset_index().melt("lambda", var_name="term", value_name="coefficient")
    rows["shown"] = rows["term"].where(rows["term"].isin(named), _OTHERS)
    domain = named if len(named) == len(path.columns) else [*named, _OTHERS]
    lines = (
        alt.Chart(rows)
        .mark_line()
        .encode(
            _lambda(),
            alt.Y("coefficient:Q").title("coefficient per standard deviation"),
            alt.Color("shown:N").scale(domain=domain, range=_colours(domain)).title(None),
            alt.Detail("term:N"),
            tooltip=[
                "term:N",
                alt.Tooltip("lambda:Q", format=".4g"),
                alt.Tooltip("coefficient:Q", format=".4g"),
            ],
        )
    )
    zero = (
        alt.Chart(pd.DataFrame({"coefficient": [0.0]}))
        .mark_rule(color=GREY)
        .encode(alt.Y("coefficient:Q"))
    )
    return _drawn([zero, lines, *_chosen(fit)], fit)


def errors(fit: ElasticNetResult) -> alt.TopLevelMixin:
    """The cross-validated error with a standard error up and down."""
    frame = fit.cv.reset_index()
    frame["low"], frame["high"] = (
        frame["cv_error"] - frame["cv_se"],
        frame["cv_error"] + frame["cv_se"],
    )
    base = alt.Chart(frame).encode(
        _lambda(),
        tooltip=[
            alt.Tooltip("lambda:Q", format=".4g"),
            alt.Tooltip("nonzero:Q", title="nonzero"),
            alt.Tooltip("cv_error:Q", format=".5g"),
            alt.Tooltip("cv_se:Q", format=".3g"),
        ],
    )
    scale = alt.Scale(zero=False)
    bars = base.mark_rule(color="#b8c4d4").encode(
        alt.Y("low:Q").scale(scale).title(f"{fit.measure} ({fit.folds} folds)"), alt.Y2("high:Q")
    )
    points = base.mark_point(color=BLUE, filled=True, opacity=1, size=22).encode(
        alt.Y("cv_error:Q").scale(scale)
    )
    counts = _every(frame)
    top = (
        alt.Chart(counts)
        .mark_text(dy=-8, color=GREY, fontSize=10)
        .encode(_lambda(), alt.Y("top:Q").scale(scale), alt.Text("nonzero:Q"))
    )
    return _drawn([bars, points, top, *_chosen(fit)], fit)


def _every(frame: pd.DataFrame) -> pd.DataFrame:
    """Some lambdas, at which the number of coefficients is written above the chart."""
    chosen = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, 9).round().astype(int))].copy()
    chosen["top"] = float(frame["high"].max())
    return chosen


def _lambda() -> Any:
    return (
        alt.X("lambda:Q")
        .scale(type="log", reverse=True, nice=False, padding=8)
        .title("lambda")
        .axis(format="~g", tickCount=6)
    )


def _chosen(fit: ElasticNetResult) -> list[Any]:
    """Lines at the two lambdas."""
    if fit.lambda_min is None or fit.lambda_1se is None:
        return []
    frame = pd.DataFrame({"lambda": [fit.lambda_min, fit.lambda_1se], "name": ["min", "1se"]})
    base = alt.Chart(frame).encode(_lambda())
    lines = base.mark_rule(color=GREY, strokeDash=[4, 3])
    texts = base.mark_text(color=GREY, align="left", dx=3, fontSize=10).encode(
        alt.Text("name:N"), y=alt.value(HEIGHT - 8)
    )
    return [lines, texts]


def _colours(names: list[str]) -> list[str]:
    return [
        _GREYISH if name == _OTHERS else colour
        for name, colour in zip(names, [*_PALETTE, _GREYISH], strict=False)
    ]


def _drawn(layers: list[Any], fit: ElasticNetResult) -> alt.TopLevelMixin:
    subtitle = f"{fit.heading().partition(':')[0]}, {fit.nobs:,} persons, {fit.n_sites} sites"
    title = alt.Title(fit.formula, subtitle=subtitle, anchor="start", limit=520)
    chart = alt.layer(*layers).properties(width=WIDTH + 60, height=HEIGHT, title=title)
    return side_by_side([chart])
