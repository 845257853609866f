"""Areas under ROC curves as they are published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.areas import delong
from tests.support.federation import run_pooled_sum
from tests.support.frames import pooled, split
from tests.support.heart import hospitals

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

metrics = pytest.importorskip("sklearn.metrics")

EXACT = Disclosure(min_cell=1, floor="total")

# DeLong, DeLong & Clarke-Pearson 1988: 43 patients with ovarian cancer; albumin, total protein,
# Krebs-Goplerud score, and whether surgery helped. As in the manual of SAS/STAT.
ALBUMIN = """3.0 3.2 3.9 2.8 3.2 0.9 2.5 1.6 3.8 3.7 3.2 3.8 4.1 3.6 4.3 3.6 2.3 4.2 4.0 3.5 3.8 3.0
4.5 3.7 3.1 4.1 4.3 4.3 3.2 2.6 3.3 1.7 3.7 3.3 4.2 3.5 2.9 2.1 2.8 4.0 3.3 3.7 3.6"""
PROTEIN = """5.8 6.3 6.8 4.8 5.8 4.0 5.7 5.6 5.7 6.7 5.4 6.6 6.6 5.7 7.0 6.7 4.4 7.6 6.6 5.8 6.8 4.7
7.4 7.4 6.6 8.2 7.0 6.5 5.1 4.7 6.8 4.0 6.1 6.3 7.7 6.2 5.7 4.8 6.2 7.0 5.7 6.9 6.6"""
KG = """10 5 3 6 3 5 8 5 5 6 4 6 5 5 4 4 6 4 6 6 7 8 5 5 6 6 5 4 5 6 6 7 5 7 6 5 9 7 8 7 6 5 5"""
BENEFIT = (
    """0 1 1 0 1 0 0 1 1 1 1 1 1 1 1 0 1 0 0 1 1 0 1 1 1 1 1 1 1 1 0 0 1 1 1 1 0 1 0 1 1 1 1"""
)


def numbers(text: str) -> Any:
    return np.array(text.split(), dtype=np.float64)


def evaluated(table: Table, sizes: list[int], names: list[str]) -> dict[str, Any]:
    models = [{"name": name, "score": name} for name in names]
    params = {"outcome": "y", "models": models}
    sites = split(table, sizes)
    return dict(run_pooled_sum(find("evaluate.model"), params, sites, EXACT).result)


def test_three_tests_of_ovarian_cancer_are_as_sas_prints_them() -> None:
    """SAS/STAT User's Guide, PROC LOGISTIC, example "Comparing Receiver Operating Characteristic
    Curves": ROC association statistics, contrast test and contrast estimates.
    """
    real = [Variable(name=name, type=VariableType.REAL, decimals=1) for name in ("alb", "tp")]
    whole = [Variable(name=name, type=VariableType.INTEGER) for name in ("kg", "y")]
    columns = {
        "alb": numbers(ALBUMIN),
        "tp": numbers(PROTEIN),
        "kg": 10 - numbers(KG),
        "y": numbers(BENEFIT),
    }
    table = Table({one.name: one for one in (*real, *whole)}, columns)
    found = evaluated(table, [20, 3, 20], ["kg", "alb", "tp"])
    areas = {one["name"]: one["auc"] for one in found["models"]}
    assert {name: round(one["value"], 4) for name, one in areas.items()} == {
        "alb": 0.7366,
        "tp": 0.6478,
        "kg": 0.7258,
    }
    assert {name: round(one["std_error"], 4) for name, one in areas.items()} == {
        "alb": 0.0927,
        "tp": 0.1000,
        "kg": 0.1028,
    }
    assert [round(areas["alb"][end], 4) for end in ("low", "high")] == [0.5549, 0.9182]
    assert (found["all_equal"]["df"], round(found["all_equal"]["statistic"], 4)) == (2, 2.5340)
    assert round(found["all_equal"]["p_value"], 4) == 0.2817
    first, second, _ = found["comparisons"]
    assert [round(-first["difference"], 4), round(first["std_error"], 4)] == [0.0108, 0.0953]
    assert [round(-second["difference"], 4), round(second["std_error"], 4)] == [-0.0780, 0.1046]
    expected, cov = delong(
        np.column_stack([columns[n] for n in ("kg", "alb", "tp")]), columns["y"] == 1
    )
    assert [one["auc"]["value"] for one in found["models"]] == pytest.approx(expected)
    assert first["correlation"] == pytest.approx(cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]))


def test_rated_images_are_as_stata_prints_them() -> None:
    """Hanley & McNeil 1982, table 1: 109 images rated 1 to 5. Stata's manual, roctab: ROC area
    0.8932, standard error (DeLong) 0.0307, 95% limits 0.83295 and 0.95339.
    """
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    rating = np.concatenate([np.repeat(np.arange(1.0, 6), one) for one in (normal, abnormal)])
    y = np.repeat([0.0, 1.0], [58, 51])
    order = np.random.default_rng(0).permutation(109)
    variables = [Variable(name=name, type=VariableType.INTEGER) for name in ("rating", "y")]
    table = Table({v.name: v for v in variables}, {"rating": rating[order], "y": y[order]})
    area = evaluated(table, [50, 59], ["rating"])["models"][0]["auc"]
    assert (round(area["value"], 4), round(area["std_error"], 4)) == (0.8932, 0.0307)
    assert (round(area["low"], 5), round(area["high"], 5)) == (0.83295, 0.95339)


def test_a_model_of_heart_disease_in_four_hospitals() -> None:
    """The deviance 686.616433 is statsmodels' (see `test_glm_options`): the log loss is half of it,
    a person, but for the rounding of log odds. At the maximum of the likelihood intercept and slope
    are 0 and 1, and as many events are expected as there are.
    """
    tables = hospitals()
    right = "age + sex + trestbps + chol + thalach + exang + oldpeak"
    fitted = {"formula": f"disease ~ {right}", "family": "binomial"}
    fit = run_pooled_sum(find("glm"), fitted, tables).result
    coefficients = dict(zip(fit["terms"], fit["params"], strict=True))
    model = {"name": "m", "formula": right, "coefficients": coefficients, "probability": True}
    asked = {"outcome": "disease", "models": [model, {"name": "age", "score": "age"}]}
    found = run_pooled_sum(find("evaluate.model"), asked, tables).result
    one, age = found["models"]
    assert found["n"] == 740
    assert 2 * 740 * one["log_loss"]["value"] == pytest.approx(686.616433, abs=0.01)
    calibration = one["calibration"]
    assert calibration["intercept"]["value"] == pytest.approx(0, abs=1e-3)
    assert calibration["slope"]["value"] == pytest.approx(1, abs=1e-3)
    assert calibration["observed_to_expected"]["value"] == pytest.approx(1, abs=1e-4)
    columns = pooled(tables).columns
    eta = coefficients["Intercept"] + sum(
        value * columns[name] for name, value in coefficients.items() if name != "Intercept"
    )
    y = columns["disease"] == 1
    between = one["resolution"]
    assert between["low"] <= metrics.roc_auc_score(y, eta) <= between["high"]
    assert between["high"] - between["low"] < 2e-4
    risks = 1 / (1 + np.exp(-eta))
    assert one["brier"]["value"] == pytest.approx(metrics.brier_score_loss(y, risks), abs=1e-5)
    expected = metrics.roc_auc_score(y, columns["age"])
    assert age["merged"]  # few ages have few persons
    assert age["auc"]["value"] == pytest.approx(expected, abs=5e-4)
    assert age["resolution"]["low"] <= expected <= age["resolution"]["high"]
    assert found["comparisons"][0]["p_value"] < 1e-6
