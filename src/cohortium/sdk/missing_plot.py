"""Charts of missing values, from plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from cohortium.sdk.plots import BLUE, GREY, ROW_HEIGHT, WIDTH, one_above_another, side_by_side

CELL = 34


def missing(
    rows: Sequence[tuple[str, int | None, float | None]],
    patterns: Sequence[tuple[tuple[str, ...], int]],
    together: Sequence[str],
    n: int,
    subtitle: str,
) -> alt.TopLevelMixin:
    """A bar for each variable; below, a row for each pattern: what is there and what is not."""
    shown = [(name, share) for name, _, share in rows if share is not None]
    frame = pd.DataFrame(shown, columns=["variable", "share"])
    title = alt.Title("Missing values", subtitle=subtitle, anchor="start")
    bars = alt.Chart(frame).mark_bar(color=BLUE)
    if not patterns:
        return side_by_side(
            [
                bars.encode(
                    alt.Y("variable:N").sort(list(frame["variable"])).title(None),
                    alt.X("share:Q").axis(format="%").title("missing"),
                ).properties(width=WIDTH, height=alt.Step(ROW_HEIGHT), title=title)
            ]
        )
    names = list(together)
    x = alt.X("variable:N").sort(names).scale(domain=names)
    above = bars.encode(
        x.axis(None), alt.Y("share:Q").axis(format="%", tickCount=4).title("missing")
    ).transform_filter(alt.FieldOneOfPredicate("variable", names))
    labels = [f"{count:,} ({count / n:.1%})" for _, count in patterns]
    order = [f"{at}" for at in range(len(patterns))]
    cells = pd.DataFrame(
        [
            {"pattern": str(at), "variable": name, "what": "missing" if name in lacks else "there"}
            for at, (lacks, _) in enumerate(patterns)
            for name in names
        ]
    )
    texts = pd.DataFrame({"pattern": order, "label": labels})
    y = alt.Y("pattern:N").sort(order).scale(domain=order).axis(None)
    grid = (
        alt.Chart(cells)
        .mark_rect(stroke="white", strokeWidth=2)
        .encode(
            x.axis(labelAngle=-40).title(None),
            y,
            alt.Color("what:N")
            .scale(domain=["there", "missing"], range=["#d5dde6", BLUE])
            .title(None)
            .legend(orient="top"),
        )
    )
    words = (
        alt.Chart(texts)
        .mark_text(align="left", dx=8)
        .encode(y, text="label:N", x=alt.value(CELL * len(names)))
    )
    height, width = ROW_HEIGHT * len(order), CELL * len(names)
    return one_above_another(
        [
            above.properties(width=width, height=90, title=title),
            alt.layer(grid, words).properties(width=width, height=height),
        ]
    )


def trace(frame: pd.DataFrame) -> alt.TopLevelMixin:
    """Mean and sd of what was imputed over the iterations, a line a chain."""
    last = int(frame["iteration"].max())
    ticks = [*range(1, last + 1, -(-last // 10))]  # a step of tickMinStep is not kept by all
    return side_by_side(
        [
            alt.Chart(frame[frame["variable"] == name])
            .mark_line(strokeWidth=1.2, point=alt.OverlayMarkDef(size=14))
            .encode(
                alt.X("iteration:Q").axis(values=ticks, format="d"),
                alt.Y(f"{what}:Q").scale(zero=False).title(what),
                alt.Color("chain:N").legend(None),
            )
            .properties(width=WIDTH // 2, height=90, title=f"{name}: {what} of what was imputed")
            for name in dict.fromkeys(frame["variable"])
            for what in ("mean", "sd")
        ]
    )


def fmi(values: Mapping[str, float], title: str, subtitle: str) -> alt.TopLevelMixin:
    """Fraction of missing information of each coefficient."""
    frame = pd.DataFrame({"term": list(values), "fmi": list(values.values())})
    base = alt.Chart(frame).encode(
        alt.Y("term:N").sort(list(frame["term"])).title(None),
        alt.X("fmi:Q").axis(format="%").title("fraction of missing information"),
    )
    lines = base.mark_rule(color=GREY).encode(x2=alt.datum(0))
    points = base.mark_point(color=BLUE, filled=True, opacity=1, size=70)
    return side_by_side(
        [
            alt.layer(lines, points).properties(
                width=WIDTH,
                height=alt.Step(ROW_HEIGHT),
                title=alt.Title(title, subtitle=subtitle, anchor="start"),
            )
        ]
    )
