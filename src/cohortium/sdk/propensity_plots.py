"""Charts of weighting by the propensity score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import altair as alt
import pandas as pd

from cohortium.sdk.plots import BLUE, GREY, ROW_HEIGHT, WIDTH, side_by_side

if TYPE_CHECKING:
    from cohortium.sdk.propensity_results import PropensityResult

BALANCED: Final = 0.1
"""Largest standardised difference that counts as balanced (Austin 2009)."""
ORANGE = "#c8641e"
HEIGHT = 200


def balance(result: PropensityResult) -> alt.TopLevelMixin:
    """The love plot: the largest difference before weighting above."""
    return side_by_side([_love(result)])


def overlap(result: PropensityResult) -> alt.TopLevelMixin:
    """Densities of the score, so that wide and narrow intervals compare."""
    return side_by_side([_overlap(result)])


def both(result: PropensityResult) -> alt.TopLevelMixin:
    """Beside each other."""
    return side_by_side([_love(result), _overlap(result)])


def _love(result: PropensityResult) -> Any:
    rows = []
    for name, pair in result.differences.items():
        for when, smd in zip(("unweighted", "weighted"), pair, strict=True):
            rows.append({"variable": name, "when": when, "smd": abs(smd)})
    frame = pd.DataFrame(rows, columns=["variable", "when", "smd"]).dropna()
    first = frame[frame["when"] == "unweighted"].sort_values("smd", ascending=False)
    order = list(first["variable"])
    x = alt.X("smd:Q").title("absolute standardised difference").scale(domainMin=0, nice=True)
    rule = (
        alt.Chart(pd.DataFrame({"smd": [BALANCED]}))
        .mark_rule(color=GREY, strokeDash=[4, 3])
        .encode(x)
    )
    points = (
        alt.Chart(frame)
        .mark_point(filled=True, opacity=1, size=70)
        .encode(
            alt.Y("variable:N").sort(order).title(None),
            x,
            alt.Color("when:N")
            .scale(domain=["unweighted", "weighted"], range=[GREY, BLUE])
            .legend(orient="bottom", title=None),
            tooltip=["variable:N", "when:N", alt.Tooltip("smd:Q", format=".3f")],
        )
    )
    title = alt.Title(
        f"Balance of {result.treatment}",
        subtitle=f"{result.estimand}, {result.weighting}, {result.n:,} persons",
        anchor="start",
    )
    return alt.layer(rule, points).properties(width=WIDTH, height=alt.Step(ROW_HEIGHT), title=title)


def _overlap(result: PropensityResult) -> Any:
    frame = result.scores
    rows = []
    for arm, name, sign in (
        ("treated", result.treated, 1),
        ("control", result.control, -1),
    ):
        total = max(int(frame[arm].sum()), 1)
        density = frame[arm] / total / (frame["high"] - frame["low"])
        for low, high, n, value in zip(
            frame["low"], frame["high"], frame[arm], density, strict=True
        ):
            rows.append(
                {
                    "arm": f"{result.treatment} = {name}",
                    "low": low,
                    "high": high,
                    "n": int(n),
                    "density": sign * float(value),
                    "zero": 0.0,
                }
            )
    domain = [f"{result.treatment} = {one}" for one in (result.treated, result.control)]
    bars = (
        alt.Chart(pd.DataFrame(rows))
        .mark_rect(opacity=0.75, stroke="white", strokeWidth=0.5)
        .encode(
            alt.X("low:Q").title("propensity score").scale(domain=[0, 1]),
            alt.X2("high:Q"),
            alt.Y("density:Q").title("density").axis(labelExpr="abs(datum.value)"),
            alt.Y2("zero:Q"),
            alt.Color("arm:N")
            .scale(domain=domain, range=[ORANGE, BLUE])
            .legend(orient="bottom", title=None),
            tooltip=["arm:N", "low:Q", "high:Q", "n:Q"],
        )
    )
    layers = [bars]
    if result.trim is not None:
        limits = pd.DataFrame({"low": list(result.trim)})
        layers.append(
            alt.Chart(limits).mark_rule(color=GREY, strokeDash=[4, 3]).encode(alt.X("low:Q"))
        )
    return alt.layer(*layers).properties(
        width=WIDTH,
        height=HEIGHT,
        title=alt.Title("Overlap of the scores", subtitle="above: treated", anchor="start"),
    )
