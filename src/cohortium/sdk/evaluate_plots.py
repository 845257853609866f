"""Charts of prediction models: released points only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd

from cohortium.errors import InputError
from cohortium.sdk.plots import BLUE, GREY, WIDTH, side_by_side

if TYPE_CHECKING:
    from cohortium.sdk.evaluate_results import EvaluationResult

HEIGHT = 320
_PARTS = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}


def roc(result: EvaluationResult) -> alt.TopLevelMixin:
    """Sensitivity by false positive rate, and the line of chance."""
    labels = {one.name: f"{one.name} ({one.auc.value:.3f})" for one in result.models}
    frame = _named(result, result.roc()).drop(columns="threshold")
    frame["model"] = frame["model"].map(labels)
    x = alt.X("false_positive_rate:Q").title("1 - specificity").scale(domain=[0, 1])
    y = alt.Y("sensitivity:Q").title("sensitivity").scale(domain=[0, 1])
    lines = _lines(frame, x, y, list(labels.values()), "model (area)")
    chance = _dashed(pd.DataFrame({"x": [0, 1], "y": [0, 1]})).encode(alt.X("x:Q"), alt.Y("y:Q"))
    return _chart([chance, lines], result)


def pr(result: EvaluationResult) -> alt.TopLevelMixin:
    """Precision by recall, and the share with the event."""
    names = {one.name: f"{one.name} ({one.average_precision.value:.3f})" for one in result.models}
    frame = _named(result, result.pr()).drop(columns="threshold")
    frame["model"] = frame["model"].map(names)
    x = alt.X("recall:Q").title("recall (sensitivity)").scale(domain=[0, 1])
    y = alt.Y("precision:Q").title("precision (PPV)").scale(domain=[0, 1])
    lines = _lines(frame, x, y, list(names.values()), "model (average precision)")
    rate = pd.DataFrame({"y": [result.events / result.n]})
    return _chart([_rule(rate).encode(alt.Y("y:Q")), lines], result)


def calibration(result: EvaluationResult) -> alt.TopLevelMixin:
    """What came by what was predicted, in groups of risk with their limits."""
    frame = _named(result, result.calibration()).dropna(subset=["mean_risk"])
    names = [one.name for one in result.models if one.probability]
    end = float(max(frame["mean_risk"].max(), frame["high"].max()))
    scale = alt.Scale(domain=[0, min(1.0, end * 1.02)])
    x = alt.X("mean_risk:Q").title("predicted risk").scale(scale)
    y = alt.Y("observed:Q").title("observed share").scale(scale)
    lines = _lines(frame, x, y, names, "model", dots=True)
    bars = (
        alt.Chart(frame)
        .mark_rule(strokeWidth=1.5)
        .encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), color=_color(names, "model"))
    )
    ends = [0.0, min(1.0, end * 1.02)]
    ideal = _dashed(pd.DataFrame({"x": ends, "y": ends})).encode(alt.X("x:Q"), alt.Y("y:Q"))
    return _chart([ideal, bars, lines], result)


def decision_curve(result: EvaluationResult) -> alt.TopLevelMixin:
    """Net benefit by threshold probability, with treating all and treating nobody."""
    found = _named(result, result.decision_curve())
    names = [one.name for one in result.models if one.probability]
    frame = found[["model", "threshold", "net_benefit"]]
    everybody = found[["threshold", "treat_all"]].rename(columns={"treat_all": "net_benefit"})
    everybody = everybody.assign(model="treat all").drop_duplicates("threshold")
    top = float(max(frame["net_benefit"].max(), result.events / result.n)) * 1.05
    low = -0.15 * top
    x = alt.X("threshold:Q").title("threshold probability").scale(domainMin=0)
    y = alt.Y("net_benefit:Q").title("net benefit").scale(domain=[low, top])
    every = pd.concat([frame, everybody.sort_values("threshold")])
    lines = _lines(every, x, y, [*names, "treat all"], "strategy")
    nobody = _rule(pd.DataFrame({"y": [0.0]})).encode(alt.Y("y:Q"))
    return _chart([nobody, lines], result)


def thresholds(result: EvaluationResult) -> alt.TopLevelMixin:
    """Sensitivity, specificity and predictive values by cutoff; a panel for each model."""
    panels = []
    for one in result.models:
        frame = result.thresholds(model=one.name)
        if not len(frame):
            continue
        long = frame.melt("threshold", list(_PARTS), "measure", "share")
        long["measure"] = long["measure"].map(_PARTS)
        x = alt.X("threshold:Q").title("threshold")
        y = alt.Y("share:Q").title("share").scale(domain=[0, 1])
        base = alt.Chart(long.dropna()).mark_line(strokeWidth=2).encode(x, y)
        color = alt.Color("measure:N").sort([*_PARTS.values()]).title(None)
        panels.append(
            base.encode(color).properties(width=WIDTH, height=HEIGHT * 2 // 3, title=one.name)
        )
    if not panels:
        raise InputError("bad-input", "No point of a curve was released; there is no chart.")
    return side_by_side(panels)


def _named(result: EvaluationResult, frame: pd.DataFrame) -> pd.DataFrame:
    """With the model's name also where there is one."""
    if "model" not in frame:
        frame.insert(0, "model", result.models[0].name)
    return frame


def _color(names: list[str], title: str) -> Any:
    if len(names) == 1:
        return alt.value(BLUE)
    return (
        alt.Color("model:N")
        .sort(names)
        .title(title)
        .scale(domain=names)
        .legend(orient="bottom", direction="vertical", symbolOpacity=1, labelLimit=WIDTH)
    )


def _lines(
    frame: pd.DataFrame, x: Any, y: Any, names: list[str], title: str, *, dots: bool = False
) -> Any:
    point = alt.OverlayMarkDef(filled=True, size=40) if dots else False
    columns = [name for name in frame.columns if name != "model"]
    return (
        alt.Chart(frame)
        .mark_line(strokeWidth=2, point=point, clip=True)
        .encode(
            x,
            y,
            color=_color(names, title),
            order=alt.Order("place:Q"),
            tooltip=["model:N", *(alt.Tooltip(f"{one}:Q", format=".4g") for one in columns)],
        )
        .transform_window(place="row_number()")
    )


def _dashed(frame: pd.DataFrame) -> Any:
    return alt.Chart(frame).mark_line(color=GREY, strokeDash=[4, 3], strokeWidth=1)


def _rule(frame: pd.DataFrame) -> Any:
    return alt.Chart(frame).mark_rule(color=GREY, strokeDash=[4, 3])


def _chart(layers: list[Any], result: EvaluationResult) -> alt.TopLevelMixin:
    title = alt.Title(result.heading(), subtitle=result.run.line(), anchor="start")
    return side_by_side([alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)])
