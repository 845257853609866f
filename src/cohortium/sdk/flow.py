"""A flow of participants as a chart: boxes downwards, and beside each step who left.

Reference: Hopewell et al. 2025, CONSORT 2025 (flow diagram).
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import altair as alt
import pandas as pd

from cohortium.sdk.plots import BLUE, GREY

LINE: Final = 16
GAP: Final = 26
WIDE: Final = 170
SIDE: Final = 300
BETWEEN: Final = 50
LETTERS: Final = 44


@dataclass(frozen=True)
class Box:
    """A step: who remains, and the lines about who left."""

    remain: str
    left: tuple[str, ...]


def flow(start: str, boxes: Sequence[Box], note: str = "") -> alt.TopLevelMixin:
    """Draw it; the coordinates are pixels, downwards."""
    rects: list[dict[str, object]] = []
    texts: list[dict[str, object]] = []
    lines: list[dict[str, float]] = []

    def box(left: float, top: float, width: float, text: list[str], *, side: bool) -> float:
        height = LINE * len(text) + 12.0
        right, bottom = left + width, top + height
        rects.append({"x": left, "x2": right, "y": top, "y2": bottom, "side": side})
        for i, line in enumerate(text):
            x = left + 8 if side else left + width / 2
            texts.append({"x": x, "y": top + 6 + LINE * (i + 0.5), "text": line, "side": side})
        return bottom

    middle, beside = WIDE / 2, float(WIDE + BETWEEN)
    bottom = box(0, 0, WIDE, start.split("\n"), side=False)
    for one in boxes:
        wrapped = [part for line in one.left for part in textwrap.wrap(line, LETTERS) or [""]]
        top = bottom + GAP / 2
        ends = box(beside, top, SIDE, wrapped, side=True)
        at = (top + ends) / 2
        lines.append({"x": middle, "x2": beside, "y": at, "y2": at})
        below = ends + GAP / 2
        lines.append({"x": middle, "x2": middle, "y": bottom, "y2": below})
        bottom = box(0, below, WIDE, [one.remain], side=False)
    return _drawn(pd.DataFrame(rects), pd.DataFrame(texts), lines, bottom, note)


def _drawn(
    rects: pd.DataFrame,
    texts: pd.DataFrame,
    lines: list[dict[str, float]],
    height: float,
    note: str,
) -> alt.TopLevelMixin:
    width = WIDE + BETWEEN + SIDE
    x = alt.X("x:Q").axis(None).scale(domain=[-1, width + 1], nice=False, zero=False)
    y = alt.Y("y:Q").axis(None).scale(domain=[height + 1, -1], nice=False, zero=False)
    x2, y2 = alt.X2("x2:Q"), alt.Y2("y2:Q")
    frame = pd.DataFrame(lines, columns=["x", "x2", "y", "y2"])
    layers = [
        alt.Chart(frame).mark_rule(color=GREY).encode(x, y, x2, y2),
        alt.Chart(rects)
        .mark_rect(fill="white", strokeWidth=1.2)
        .encode(
            x,
            y,
            x2,
            y2,
            alt.Stroke("side:N").scale(domain=[False, True], range=[BLUE, GREY]).legend(None),
        ),
        alt.Chart(texts[~texts["side"]]).mark_text(fontSize=12).encode(x, y, alt.Text("text:N")),
    ]
    if texts["side"].any():
        beside = alt.Chart(texts[texts["side"]]).mark_text(align="left", fontSize=11)
        layers.append(beside.encode(x, y, alt.Text("text:N")))
    title = alt.Title("Flow of participants", subtitle=note, anchor="start")
    chart = alt.layer(*layers).properties(width=width, height=int(height) + 4, title=title)
    drawn: alt.TopLevelMixin = chart.configure_view(stroke=None).configure_title(
        fontSize=13, subtitleColor=GREY, fontWeight="normal"
    )
    return drawn
