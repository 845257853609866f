"""A researcher whose models would show the outcome of one person, by coefficients of their choice.

One of 240 persons was never here before and is on a drug that nobody else takes; everybody's
covariates are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.inprocess.federation import LocalFederation


@pytest.fixture(scope="module")
def made() -> Iterator[LocalFederation]:
    frames = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        age = rng.integers(20, 90, 120)
        frames[site] = pd.DataFrame(
            {
                "age": age,
                "bmi": rng.normal(25, 4, 120).round(1),
                "doses": np.zeros(120, dtype=int),
                "drug": np.zeros(120, dtype=bool),
                "weight": rng.normal(80, 10, 120).round(1),
                "died": rng.uniform(size=120) < 1 / (1 + np.exp(4 - 0.06 * age)),
            }
        )
        frames[site]["corrected"] = frames[site]["weight"]
    frames["North"].loc[7, ["doses", "drug", "corrected"]] = [3, True, 99.9]
    with co.local(frames) as one:
        yield one


def model(formula: str, **coefficients: float) -> co.PublishedModel:
    named = {name.replace("_", ":"): value for name, value in coefficients.items()}
    return co.PublishedModel(formula, named, probability=False)


def refused(made: LocalFederation, models: Any) -> str:
    with pytest.raises(co.CohortiumError) as caught:
        made.study().evaluate("died", models)
    return caught.value.code


@pytest.mark.parametrize(
    "asked",
    [
        model("age + doses", age=0.05, doses=100.0),
        model("age + doses", age=0.05, doses=-1e-3),
        model("doses", doses=1.0),
        model("age + drug", age=0.05, drug=1.0),
        model("age + age:doses", age=0.05, age_doses=1.0),
        model("age + weight + corrected", age=0.0, weight=1.0, corrected=-1.0),
    ],
)
def test_a_term_of_one_person_is_refused(made: LocalFederation, asked: co.PublishedModel) -> None:
    assert refused(made, asked) == "too-few-persons"


def test_two_models_that_differ_for_one_person_are_refused(made: LocalFederation) -> None:
    pair = [
        model("age + weight", age=0.05, weight=0.1),
        model("age + corrected", age=0.05, corrected=0.1),
    ]
    assert refused(made, pair) == "too-few-persons"


def test_a_step_between_two_ages_is_refused(made: LocalFederation) -> None:
    def steep(slope: float) -> co.PublishedModel:
        return co.PublishedModel("age", {"Intercept": -88.5 * slope, "age": slope})

    assert refused(made, steep(50.0)) == "bad-input"
    # The steepest that is let through: many persons are not far from the step.
    assert refused(made, steep(0.32)) == "bad-input"
    found = made.study().evaluate("died", steep(0.28))
    risk = 1 / (1 + np.exp(-0.28 * np.arange(-10, 11)))
    assert np.diff(risk).max() < 0.1
    assert found.n == 240


def test_an_error_does_not_find_an_extreme(made: LocalFederation) -> None:
    """Log odds may be beyond any limit for somebody: only their spread is looked at."""
    for threshold in (80, 88.5, 95):
        asked = co.PublishedModel("age", {"Intercept": 36 - 0.2 * threshold, "age": 0.2})
        assert made.study().evaluate("died", asked).n == 240


def test_thresholds_are_not_the_researchers(made: LocalFederation) -> None:
    found = made.study().evaluate("died", "age")
    everything = found.thresholds()
    asked = found.thresholds(at=[88.5, 88.6])
    assert set(asked["threshold"]) <= set(everything["threshold"])
    for name in ("tp", "fp", "tn", "fn"):
        gained = everything[name].diff().abs().dropna()
        assert not ((gained > 0) & (gained < 5)).any()


def test_a_derived_score_of_one_person_is_refused(made: LocalFederation) -> None:
    study = made.study()
    study.derive("risk = age * doses")
    with pytest.raises(co.PolicyRefusal) as caught:
        study.evaluate("died", "risk")
    assert caught.value.code == "too-few-persons"


def test_an_evaluation_without_one_person_is_not_released_beside_that_of_all(
    made: LocalFederation,
) -> None:
    study = made.study()
    assert study.evaluate("died", "bmi").n == 240
    with pytest.raises(co.PolicyRefusal) as caught:
        study.cohort(include="doses = 0").evaluate("died", "bmi")
    assert caught.value.code == "differencing"
