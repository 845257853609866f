"""A researcher who weighs persons so that one of them shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.inprocess.federation import LocalFederation

VICTIM = 99


@pytest.fixture(scope="module")
def made() -> Iterator[LocalFederation]:
    frames = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        age = rng.integers(20, 90, 150)
        frames[site] = pd.DataFrame(
            {
                "age": age,
                "chol": rng.normal(200, 30, 150).round(1),
                "drug": rng.random(150) < 1 / (1 + np.exp(-(age - 60) / 20)),
                "ill": rng.random(150) < 0.4,
                "wound": np.zeros(150, dtype=bool),
            }
        )
    frames["North"].loc[7, ["age", "chol", "drug", "ill", "wound"]] = [
        VICTIM,
        333.3,
        True,
        True,
        True,
    ]
    frames["South"].loc[frames["South"].index[~frames["South"]["drug"]][:30], "wound"] = True
    frames["North"].loc[frames["North"].index[~frames["North"]["drug"]][:30], "wound"] = True
    with co.local(frames) as one:
        yield one


def _refused(code: str) -> pytest.RaisesExc[co.CohortiumError]:
    return pytest.raises(co.CohortiumError, check=lambda error: error.code == code)


def test_treatments_that_differ_by_one_person_are_refused(made: LocalFederation) -> None:
    study = made.study()
    study.derive("old = age > 70")
    study.propensity("old", "ill", "chol")
    study.derive("older = age > 70 AND age < 99")
    with _refused("differencing"):
        study.propensity("older", "ill", "chol")


def test_a_covariate_that_one_of_the_treated_has_is_refused(made: LocalFederation) -> None:
    with _refused("too-few-persons") as caught:
        made.study().propensity("drug", "age + wound", "chol")
    assert caught.value.details["cells"] == ["wound"]


def test_an_outcome_that_one_of_the_treated_has_is_refused(made: LocalFederation) -> None:
    with _refused("too-few-persons") as caught:
        made.study().propensity("drug", "age", "wound")
    assert caught.value.details["cells"] == ["wound"]


@pytest.mark.parametrize("factor", ["I(chol / ((age - 99) ** 2 + 1e-12))", "I(age ** 9)"])
def test_a_factor_that_is_sharp_around_one_person_is_refused(
    made: LocalFederation, factor: str
) -> None:
    with _refused("bad-formula"):
        made.study().propensity("drug", f"age + {factor}", "chol")


def test_a_number_that_one_of_the_treated_dominates_is_refused(made: LocalFederation) -> None:
    study = made.study()
    with _refused("too-few-persons"):
        study.propensity("drug", "I(chol * wound) + ill")
    study.derive("other = chol + 0 * age")
    assert study.propensity("drug", "age", "other").n == 300


def test_limits_of_the_score_are_no_thresholds_of_the_researchers_choice(
    made: LocalFederation,
) -> None:
    study = made.study()
    with _refused("bad-input"):
        study.propensity("drug", "age", "chol", trim=(0.0, 0.87654))
    found = study.propensity("drug", "age", "chol")
    edges = set(found.scores["low"]) | {1.0}
    for high in (0.85, 0.9, 0.95, 0.98, 0.99):
        if high not in edges:
            with _refused("too-few-persons"):
                study.propensity("drug", "age", "chol", trim=(0.0, high))
