"""Evaluations as a researcher sees them: frames, pictures, words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.errors import CohortiumError, ProtocolError
from cohortium.sdk.result_types import result_from_wire
from cohortium.sdk.vocabulary import withheld

metrics = pytest.importorskip("sklearn.metrics")


def hospital(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    age, sex = random.integers(30, 80, 200), random.choice(["f", "m"], 200)
    risk = 1 / (1 + np.exp(5 - 0.07 * age - 0.8 * (sex == "m")))
    return pd.DataFrame(
        {
            "age": age,
            "sex": sex,
            "days": random.integers(1, 100, 200),
            "visits": random.poisson(age / 20),
            "died": random.uniform(size=200) < risk,
            "risk": risk.round(3),
        }
    )


FRAMES = {"North": hospital(1), "South": hospital(2)}
EVERYBODY = pd.concat(FRAMES.values(), ignore_index=True)
PUBLISHED = co.PublishedModel("died ~ age + sex", {"Intercept": -5, "age": 0.07, "sex[T.m]": 0.8})


@pytest.fixture(scope="module")
def study() -> Iterator[co.Study]:
    with co.local(FRAMES) as fed:
        yield fed.study()


@pytest.fixture(scope="module")
def found(study: co.Study) -> co.EvaluationResult:
    fit = study.glm("died ~ age")
    return study.evaluate("died", {"fitted": fit, "published": PUBLISHED, "age": "age"})


def scores() -> Any:
    return np.round(-5 + 0.07 * EVERYBODY["age"] + 0.8 * (EVERYBODY["sex"] == "m"), 3)


def test_measures_are_in_a_frame_by_model(found: co.EvaluationResult) -> None:
    frame: Any = found.to_frame()
    assert frame.index.tolist() == ["fitted", "published", "age"]
    area = metrics.roc_auc_score(EVERYBODY["died"], scores())
    assert frame.loc["published", "auc"] == pytest.approx(area)
    assert found.model("published").auc.value == pytest.approx(area)
    assert frame.loc["fitted", "slope"] == pytest.approx(1, abs=1e-3)
    assert np.isnan(frame.loc["age", "brier"])
    assert frame.loc["fitted", "auc"] == pytest.approx(frame.loc["age", "auc"])
    same = next(one for one in found.comparisons if one.models == ("fitted", "age"))
    assert same.difference == 0
    with pytest.raises(co.InputError):
        found.model()
    with pytest.raises(co.InputError):
        found.model("nobody")


def test_points_of_the_curves_are_those_of_everybody(found: co.EvaluationResult) -> None:
    died, values = EVERYBODY["died"].to_numpy(), scores()
    roc: Any = found.roc("published")
    pr: Any = found.pr("published")
    for row in roc.itertuples():
        above = 1 / (1 + np.exp(-values)) >= row.threshold - 1e-12
        assert row.sensitivity == pytest.approx(above[died].mean())
        assert row.false_positive_rate == pytest.approx(above[~died].mean())
    for row in pr.itertuples():
        above = 1 / (1 + np.exp(-values)) >= row.threshold - 1e-12
        assert row.precision == pytest.approx(died[above].mean())
    assert roc.iloc[0].tolist()[1:] == [0, 0]
    assert roc.iloc[-1].tolist()[1:] == [1, 1]
    assert set(found.roc()["model"]) == {"fitted", "published", "age"}


def test_cutoffs_have_counts_shares_and_limits(found: co.EvaluationResult) -> None:
    died, p = EVERYBODY["died"].to_numpy(), 1 / (1 + np.exp(-scores()))
    frame: Any = found.thresholds(at=0.4, model="published")
    (row,) = frame.itertuples()
    assert row.asked == 0.4
    above = (p >= row.threshold - 1e-12).to_numpy()
    tn, fp, fn, tp = metrics.confusion_matrix(died, above).ravel()
    assert (row.tn, row.fp, row.fn, row.tp) == (tn, fp, fn, tp)
    assert row.f1 == pytest.approx(metrics.f1_score(died, above))
    assert row.ppv == pytest.approx(metrics.precision_score(died, above))
    assert row.npv_low < row.npv < row.npv_high
    whole = found.thresholds(model="published")
    best = found.best(model="published")
    assert best.loc[0, "youden"] == whole["youden"].max()
    assert found.best("accuracy", "published").loc[0, "accuracy"] == whole["accuracy"].max()
    assert len(found.best("closest")) == len(found.best("f1")) == 3
    with pytest.raises(co.InputError):
        found.best("cost")  # type: ignore[arg-type]


def test_net_benefit_is_vickers_and_elkins(found: co.EvaluationResult) -> None:
    died, p = EVERYBODY["died"].to_numpy(), 1 / (1 + np.exp(-scores()))
    curve: Any = found.decision_curve("published")
    rate = died.mean()
    for row in curve.itertuples():
        above = p >= row.threshold - 1e-12
        odds = row.threshold / (1 - row.threshold)
        benefit = (above & died).mean() - odds * (above & ~died).mean()
        assert row.net_benefit == pytest.approx(benefit)
        assert row.treat_all == pytest.approx(rate - (1 - rate) * odds)
        assert row.avoided_per_100 == pytest.approx(100 * (benefit - row.treat_all) / odds)
    assert set(found.decision_curve()["model"]) == {"fitted", "published"}


def test_groups_of_risk_have_what_was_predicted_and_what_came(found: co.EvaluationResult) -> None:
    groups = found.calibration("published")
    assert groups["n"].sum() == 400
    assert groups["events"].sum() == EVERYBODY["died"].sum()
    assert groups["mean_risk"].is_monotonic_increasing
    assert (groups["low"] <= groups["observed"]).all()
    with pytest.raises(co.InputError):
        found.calibration("age")


@pytest.mark.parametrize("curve", ["roc", "pr", "calibration", "decision_curve", "thresholds"])
def test_every_curve_is_drawn(found: co.EvaluationResult, curve: Any) -> None:
    drawn = found.plot(curve).to_json()
    assert "published" in drawn
    assert found.plot().to_json()
    with pytest.raises(co.InputError):
        found.plot("lift")  # type: ignore[arg-type]


def test_words_and_tables_are_in_both_languages(found: co.EvaluationResult, tmp_path: Path) -> None:
    assert "DeLong's test" in found.interpret()
    assert "Calibration slope 1 (95% CI" in found.interpret()
    assert "校准斜率 1（95% 置信区间" in found.interpret("zh")
    with pytest.raises(co.InputError):
        found.interpret("fr")  # type: ignore[arg-type]
    assert "Test that all areas are equal" not in str(found.summary())  # two of them are one
    measures, compared = found.tables("zh")
    assert measures.rows[1].cells[0] == "ROC 曲线下面积"
    assert "对比" in str(compared.rows[0].cells[0])
    assert not any(cell.isascii() for row in compared.columns[:2] for cell in row[:1])
    assert "area under the ROC curve" in str(found.summary())
    assert found.export(tmp_path / "models.csv").read_text(encoding="utf-8").count("age") >= 3


def test_one_model_needs_no_name(study: co.Study) -> None:
    found = study.evaluate("died", "risk", probability=True)
    assert found.auc == found.model("risk").auc.value
    assert "model" not in found.roc()
    assert found.models[0].brier is not None
    assert found.comparisons == ()
    assert found.plot("calibration").to_json()


def test_fitted_models_of_other_kinds_only_order_persons(study: co.Study) -> None:
    counts = study.glm("visits ~ age", "poisson")
    cox = study.cox("age + sex", time="days", event="died")
    found = study.evaluate("died", {"poisson": counts, "cox": cox, "days": "days"})
    assert [one.probability for one in found.models] == [False, False, False]
    assert "Test that all areas are equal: chi-square" in str(found.summary())
    assert "所有曲线下面积相等的检验" in found.interpret("zh")
    for why in found.suppressed:
        assert "merged" not in withheld(why, "zh")
    assert found.models[0].auc.value > 0.6


@pytest.mark.parametrize(
    "asked",
    [
        {"age": 0.1, "Intercept": -2.0},
        co.PublishedModel("age", {"Intercept": float("nan"), "age": 0.1}),
        co.PublishedModel("age", {"age": 0.1}),
        7,
        [7],
        [],
        ["age", "age"],
    ],
)
def test_what_is_no_model_is_refused(study: co.Study, asked: Any) -> None:
    with pytest.raises(CohortiumError) as caught:
        study.evaluate("died", asked)
    assert caught.value.code == "bad-input"


def test_models_with_an_offset_or_of_another_level_are_refused(study: co.Study) -> None:
    fit = study.glm("visits ~ age", "poisson", offset="risk")
    with pytest.raises(co.InputError, match="offset"):
        study.evaluate("died", fit)
    sex = study.glm("sex ~ age")
    assert study.evaluate("sex", sex, event_level="m").event == "m"
    with pytest.raises(co.InputError, match="predicts sex = m"):
        study.evaluate("sex", sex, event_level="f")


@pytest.mark.parametrize("lost", ["models", "outcome", "n"])
def test_a_result_that_lacks_something_is_a_protocol_error(
    found: co.EvaluationResult, lost: str
) -> None:
    data = {name: value for name, value in found.to_json()["result"].items() if name != lost}
    with pytest.raises(ProtocolError):
        result_from_wire(found.run, data, {})
