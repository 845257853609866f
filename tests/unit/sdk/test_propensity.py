"""Weighting by the propensity score as a researcher sees it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.property.test_propensity import population
from tests.support.frames import split
from tests.support.pooled_study import PooledStudy, result_of

from cohortium.errors import InputError, ProtocolError
from cohortium.sdk.computations import METHODS
from cohortium.sdk.propensity_results import PropensityResult

NAMES = {"age", "stage", "drug", "died", "cost", "true", "false", "III", "logistic", "delta"}


@pytest.fixture(scope="module")
def study() -> PooledStudy:
    return PooledStudy(split(population(1, 700), [300, 400]))


@pytest.fixture(scope="module")
def risks(study: PooledStudy) -> PropensityResult:
    return study.propensity("drug", ["age", "stage"], "died", trim=(0.2, 1.0))


@pytest.fixture(scope="module")
def means(study: PooledStudy) -> PropensityResult:
    return study.propensity("drug", "age + stage", "cost", estimand="ATO", confidence=0.9)


def test_effects_are_typed(risks: PropensityResult, means: PropensityResult) -> None:
    assert [one.name for one in risks.effects] == ["risk difference", "risk ratio", "odds ratio"]
    assert [one.is_ratio for one in risks.effects] == [False, True, True]
    assert means.effect.name == "mean difference"
    assert means.effect.low < means.effect.value < means.effect.high
    half = (means.effect.high - means.effect.low) / 2
    assert half == pytest.approx(1.6448536 * means.effect.std_error)
    assert (means.estimand, means.weighting, means.trim) == ("ATO", "overlap weights", None)
    assert risks.trim == (0.2, 1.0)
    frame = risks.to_frame()
    assert frame.index.names == ["effect", "weighted"]
    assert frame.loc[("risk ratio", True), "value"] == risks.effects[1].value
    assert frame.loc[("risk ratio", False), "value"] == risks.crude[1].value


def test_frames_have_arms_balance_means_and_scores(risks: PropensityResult) -> None:
    assert risks.arms["n"].sum() == risks.n
    assert (risks.arms["n_trimmed"] + risks.arms["n_weighted"]).equals(risks.arms["n"])
    assert list(risks.balance["variable"]) == ["age", "stage", "stage", "stage"]
    assert risks.scores["treated"].sum() == risks.arms["n"]["true"]
    difference = risks.means["value"]["true"] - risks.means["value"]["false"]
    assert difference == pytest.approx(risks.effect.value)
    name, before, after = risks.worst
    assert after == max(abs(pair[1]) for pair in risks.differences.values())
    assert name in risks.differences
    assert before > after


def test_the_model_predicts_scores(means: PropensityResult) -> None:
    frame = pd.DataFrame({"age": [990.0, 1010.0], "stage": ["I", "III"]})
    low, high = means.model.predict(frame)
    assert 0 < low < high < 1
    assert means.model.family == "binomial"


@pytest.mark.parametrize("errors", ["stacked", "robust"])
def test_words_say_effect_balance_and_assumptions(study: PooledStudy, errors: Any) -> None:
    result = study.propensity("drug", "age + stage", "died", errors=errors, trim=(0.0, 1.0))
    en, zh = result.interpret(), result.interpret("zh")
    for words in ("no unmeasured confounding", "overlap", "risk ratio", "everybody (ATE)", "IPTW"):
        assert words in en
    for words in ("无未测量混杂", "重叠假定", "相对危险度", "逆概率加权", "有效样本量"):
        assert words in zh
    assert ("taken for known" in en) == (errors == "robust")
    assert ("视为已知" in zh) == (errors == "robust")
    assert "Nobody has a score outside" in en
    assert "无人评分" in zh
    with pytest.raises(InputError):
        result.interpret("fr")  # type: ignore[arg-type]


def test_a_doubly_robust_effect_says_so(study: PooledStudy) -> None:
    result = study.propensity("drug", "age + stage", "cost", doubly_robust=True)
    assert result.doubly_robust
    assert "doubly robust (AIPW), linear models of cost in each arm" in result.interpret()
    assert "the model of the score or that of the outcome is right" in result.interpret()
    assert "双稳健" in result.interpret("zh")
    assert "ATE (AIPW)" in str(result.summary())
    assert result.effect.value == pytest.approx(-2000, abs=300)


def test_chinese_has_no_english_left(risks: PropensityResult, means: PropensityResult) -> None:
    for result in (risks, means):
        texts = [result.interpret("zh"), result.heading("zh")]
        for table in result.tables("zh"):
            texts += [table.title, *table.columns, *(str(row.cells[0]) for row in table.rows)]
            texts += [note for note in table.notes if not note.startswith("运行")]
        joined = "\n".join(texts)
        assert not set(re.findall("[A-Za-z]{3,}", joined)) - NAMES - {"ATE", "ATO"}
        assert not re.findall("[\u4e00-\u9fff][,:;(]", joined)


def test_balance_alone_has_no_effect(study: PooledStudy) -> None:
    result = study.propensity("drug", "age + stage", estimand="ATT")
    assert result.outcome is None
    assert result.effects == ()
    assert result.to_frame().equals(result.balance)
    assert "Balance of drug = true" in result.interpret()
    assert "均衡性" in result.interpret("zh")
    assert len(result.tables()) == 2
    with pytest.raises(InputError) as caught:
        _ = result.effect
    assert "outcome" in caught.value.message


def test_what_is_not_balanced_is_said(study: PooledStudy) -> None:
    data = study.propensity("drug", "age").to_json()["result"]
    data["balance"][0]["smd_after"] = -0.25
    result = result_of("causal.propensity", data)
    assert "up to" in result.interpret()
    assert "above 0.1, so the arms are not balanced" in result.interpret()
    assert "两组仍不均衡" in result.interpret("zh")


def test_charts_show_balance_and_overlap(risks: PropensityResult, tmp_path: Path) -> None:
    love = risks.plot_balance().to_dict()
    assert "absolute standardised difference" in str(love)
    assert "propensity score" in str(risks.plot_overlap().to_dict())
    assert risks.save(tmp_path / "chart.json").stat().st_size > 1000


def test_tables_are_written(risks: PropensityResult, tmp_path: Path) -> None:
    assert METHODS["causal.propensity"].en in risks.tables()[-1].notes
    assert len({table.title for table in risks.tables("zh")}) == 4
    text = risks.export(tmp_path / "effect.csv").read_text()
    assert "risk ratio" in text
    assert "stage = III" in text
    assert "IPTW" in str(risks.summary())
    assert "<" in risks._repr_html_()


def test_a_result_that_lacks_something_is_refused(study: PooledStudy) -> None:
    data = study.propensity("drug", "age", "died").to_json()["result"]
    for name in ("arms", "balance", "scores", "treatment", "outcome"):
        less = {key: value for key, value in data.items() if key != name}
        with pytest.raises(ProtocolError):
            result_of("causal.propensity", less)
    with pytest.raises(ProtocolError):
        result_of("causal.propensity", {**data, "outcome": {"variable": "died"}})


def test_names_are_joined_to_a_formula(study: PooledStudy) -> None:
    study.propensity("drug", ["age", "stage"])
    _, params = study.submitted[-1]
    assert params["covariates"] == "age + stage"
    assert np.isclose(params["confidence"], 0.95)
