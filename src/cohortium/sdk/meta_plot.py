"""The forest plot of a meta-analysis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from cohortium.sdk.plots import forest

if TYPE_CHECKING:
    import altair as alt

    from cohortium.sdk.meta_results import MetaAnalysis


def forest_of_studies(found: MetaAnalysis, title: str = "") -> alt.TopLevelMixin:
    """Each study's effect with its limits, the combined ones, and what to expect of a new study."""
    frame = found.to_frame().rename_axis(index="term").reset_index()
    frame["p"] = [
        *(
            math.erfc(abs(y / se) / math.sqrt(2))
            for y, se in zip(found.effects, found.standard_errors, strict=True)
        ),
        found.fixed.p_value,
        found.random.p_value,
    ]
    if found.prediction is not None:
        low, high = found.prediction
        new = {
            "term": f"a new {found.unit}",
            "effect": found.random.estimate,
            "low": low,
            "high": high,
        }
        frame = pd.concat([frame, pd.DataFrame([new])], ignore_index=True)
    if found.ratio:
        for column in ("effect", "low", "high"):
            frame[column] = [math.exp(value) for value in frame[column]]
    share = f"{100 * found.i2:.0f}%"
    several = "studies" if found.unit == "study" else "institutions"
    return forest(
        frame[["term", "effect", "low", "high", "p"]],
        effect=found.effect or ("ratio" if found.ratio else "effect"),
        ratio=found.ratio,
        confidence=found.confidence,
        title=title or "Meta-analysis",
        subtitle=f"{found.k} {several}, {found.method}, tau2 {found.tau2:.4g}, I2 {share}",
    )
