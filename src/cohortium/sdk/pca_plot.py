"""The scree plot of principal components, from plain data."""

from __future__ import annotations

import altair as alt
import pandas as pd

from cohortium.sdk.plots import BLUE, WIDTH, side_by_side

HEIGHT = 220


def scree(frame: pd.DataFrame, title: str, subtitle: str) -> alt.TopLevelMixin:
    """Bars of the components' shares of the variance, and a line of the cumulative share.

    Args:
        frame: With variance_share and cumulative_share, a row for each component.
    """
    names = [str(name) for name in frame.index]
    data = pd.DataFrame(
        {
            "component": names,
            "share": frame["variance_share"].to_numpy(),
            "cumulative": frame["cumulative_share"].to_numpy(),
        }
    )
    base = alt.Chart(data).encode(alt.X("component:N").sort(names).title(None))
    axis = alt.Axis(format="%")
    bars = base.mark_bar(color=BLUE, opacity=0.7).encode(
        alt.Y("share:Q").title("share of the variance").axis(axis).scale(domain=[0, 1]),
        tooltip=["component:N", alt.Tooltip("share:Q", format=".2%")],
    )
    line = base.mark_line(color="black", point=alt.OverlayMarkDef(color="black")).encode(
        alt.Y("cumulative:Q").title("share of the variance"),
        tooltip=["component:N", alt.Tooltip("cumulative:Q", format=".2%")],
    )
    return side_by_side(
        [
            alt.layer(bars, line).properties(
                width=WIDTH,
                height=HEIGHT,
                title=alt.Title(title, subtitle=subtitle, anchor="start"),
            )
        ]
    )
