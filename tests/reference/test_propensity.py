"""Cattaneo's birth weights: effects of smoking, against published and statsmodels' own numbers.

The data (4,642 births, Cattaneo 2010, Journal of Econometrics 155) ship with statsmodels' tests.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table

INTEGER = VariableType.INTEGER
VARIABLES = {
    "smoke": Variable(name="smoke", type=VariableType.BOOLEAN),
    "married": Variable(name="married", type=VariableType.CATEGORY, levels=("no", "yes")),
    "first": Variable(name="first", type=VariableType.BOOLEAN),
    **{name: Variable(name=name, type=INTEGER) for name in ("mage", "medu", "weight")},
}


@pytest.fixture(scope="module")
def births() -> pd.DataFrame:
    place = files("statsmodels") / "treatment" / "tests" / "results" / "cataneo2.csv"
    if not place.is_file():
        pytest.skip("this statsmodels has no tests")
    with place.open() as file:
        return pd.read_csv(file)


def weighed(births: pd.DataFrame, **params: Any) -> dict[str, Any]:
    columns = {
        "smoke": births["mbsmoke_"].to_numpy(float),
        "married": births["mmarried_"].to_numpy(np.int32),
        "first": births["fbaby_"].to_numpy(float),
        "mage": births["mage"].to_numpy(float),
        "medu": births["medu"].to_numpy(float),
        "weight": births["bweight"].to_numpy(float),
    }
    sites = split(Table(VARIABLES, columns), [1600, 2000, 1042])
    asked = {
        "treatment": "smoke",
        "covariates": "married + mage + I(mage ** 2) + first + medu",
        "outcome": "weight",
        **params,
    }
    return dict(run_pooled_sum(find("causal.propensity"), asked, sites).result)


def test_arms_before_weighting_are_as_stata_prints_them(births: pd.DataFrame) -> None:
    # Stata 18, tabulate mbsmoke, summarize(bweight): means 3412.9116 and 3137.6597, standard
    # deviations 570.68711 and 560.89305, 3,778 and 864 births; regress: -275.2519
    found = weighed(births)
    assert [arm["n"] for arm in found["arms"]] == [3778, 864]
    crude = found["outcome"]["crude"][0]
    assert crude["value"] == pytest.approx(-275.2519, abs=5e-5)
    spread = np.sqrt(570.68711**2 / 3778 + 560.89305**2 / 864)
    assert crude["std_error"] == pytest.approx(spread, abs=5e-6)


@pytest.mark.parametrize(
    ("estimand", "effect", "control"),
    [
        # statsmodels 0.15, TreatmentEffect(OLS, mbsmoke, Logit).ipw(effect_group="all" | 1 | 0):
        # estimate and standard error of effect and mean of the controls by GMM
        ("ATE", (-231.72026, 25.1797), (3403.52678, 9.5764)),
        ("ATT", (-225.69919, 23.7133), (3363.35891, 14.2899)),
        ("ATC", (-233.02779, 26.8155), (3412.91159, 9.2835)),
    ],
)
def test_weighted_effects_are_those_of_statsmodels(
    births: pd.DataFrame,
    estimand: str,
    effect: tuple[float, float],
    control: tuple[float, float],
) -> None:
    of = weighed(births, estimand=estimand)["outcome"]
    one = of["effects"][0]
    assert one["value"] == pytest.approx(effect[0], abs=6e-6)
    assert one["std_error"] == pytest.approx(effect[1], abs=1e-4)
    assert of["means"][0]["value"] == pytest.approx(control[0], abs=6e-6)
    assert of["means"][0]["std_error"] == pytest.approx(control[1], abs=4e-4)


def test_a_doubly_robust_effect_is_that_of_statsmodels(births: pd.DataFrame) -> None:
    # statsmodels 0.15, TreatmentEffect(OLS on the same covariates, mbsmoke, Logit).aipw()
    of = weighed(births, doubly_robust=True)["outcome"]
    assert of["effects"][0]["value"] == pytest.approx(-231.07521, abs=6e-6)
    assert of["effects"][0]["std_error"] == pytest.approx(26.0056, abs=5e-5)
    assert of["means"][0]["value"] == pytest.approx(3404.31292, abs=6e-6)
    assert of["means"][0]["std_error"] == pytest.approx(9.5350, abs=5e-5)


def test_a_saturated_score_standardises(births: pd.DataFrame) -> None:
    # Of a score with a level of its own for each stratum, the weighted means are the strata's
    # means, standardised to everybody, to the treated, or by n1 n0 / n (Mantel & Haenszel's way)
    strata = births.groupby(["mmarried_", "fbaby_", "mbsmoke_"])["bweight"]
    n0, n1 = (strata.size().unstack()[arm] for arm in (0, 1))
    means = strata.mean().unstack()
    for estimand, size in (
        ("ATE", n0 + n1),
        ("ATT", n1),
        ("ATC", n0),
        ("ATO", n1 * n0 / (n1 + n0)),
    ):
        found = weighed(births, covariates="C(married) * C(first)", estimand=estimand)
        expected = np.average(means[1] - means[0], weights=size)
        assert found["outcome"]["effects"][0]["value"] == pytest.approx(expected, rel=1e-9)
