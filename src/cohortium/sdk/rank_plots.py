"""Charts of tests of ranks and of correlations, from plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from cohortium.sdk.plots import BLUE, ROW_HEIGHT, WIDTH, side_by_side

CELL = 44


def quartiles(
    name: str, groups: Sequence[Mapping[str, object]], by: str | None
) -> alt.TopLevelMixin:
    """Medians with the first and third quartile, one line a group.

    Args:
        groups: With level, q1, median, q3.
    """
    frame = pd.DataFrame(
        [{"group": str(g["level"])} | {q: g[q] for q in ("q1", "median", "q3")} for g in groups]
    )
    base = alt.Chart(frame).encode(alt.Y("group:N").sort(list(frame["group"])).title(by))
    bars = base.mark_rule(color=BLUE, strokeWidth=2).encode(
        alt.X("q1:Q").title("median and quartiles").scale(zero=False, padding=12), alt.X2("q3:Q")
    )
    points = base.mark_point(color=BLUE, filled=True, opacity=1, size=70).encode(alt.X("median:Q"))
    return side_by_side(
        [alt.layer(bars, points).properties(title=name, width=WIDTH, height=alt.Step(ROW_HEIGHT))]
    )


def heatmap(frame: pd.DataFrame, title: str, subtitle: str) -> alt.TopLevelMixin:
    """A correlation matrix; a cell that is withheld is empty.

    Args:
        frame: The matrix, named on both sides.
    """
    names = [str(name) for name in frame.columns]
    rows = [
        {"row": row, "column": column, "r": r}
        for row, line in zip(names, frame.to_numpy().tolist(), strict=True)
        for column, r in zip(names, line, strict=True)
        if row != column and not math.isnan(r)
    ]
    base = alt.Chart(pd.DataFrame(rows, columns=["row", "column", "r"])).encode(
        alt.X("column:N").sort(names).title(None).scale(domain=names).axis(labelAngle=-40),
        alt.Y("row:N").sort(names).title(None).scale(domain=names),
    )
    cells = base.mark_rect().encode(
        alt.Color("r:Q").scale(scheme="redblue", domain=[-1, 1], reverse=True).title("r"),
        tooltip=["row:N", "column:N", alt.Tooltip("r:Q", format=".4f")],
    )
    texts = base.mark_text(fontSize=11).encode(
        alt.Text("r:Q", format=".2f"),
        color=alt.condition("abs(datum.r) > 0.6", alt.value("white"), alt.value("black")),
    )
    size = CELL * len(names)
    return side_by_side(
        [
            alt.layer(cells, texts).properties(
                width=size,
                height=size,
                title=alt.Title(title, subtitle=subtitle, anchor="start"),
            )
        ]
    )
