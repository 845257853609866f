"""A researcher who reads one person off a model of a category.

One of 240 persons is 99 years old, and the only one with a rare finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.inprocess.federation import LocalFederation

LEVELS = ("none", "some", "much")


@pytest.fixture(scope="module")
def made() -> Iterator[LocalFederation]:
    frames = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        age = rng.integers(20, 90, 120)
        frames[site] = pd.DataFrame(
            {
                "age": np.where(age > 80, 97, age),
                "bmi": rng.normal(26, 4, 120).round(1),
                "pain": rng.choice(LEVELS, 120, p=[0.4, 0.35, 0.25]),
                "finding": rng.choice(["a", "b", "c"], 120),
                "drug": np.arange(120) % 2 == 0,
                "ill": np.arange(120) % 4 == 1,
            }
        )
        frames[site].loc[10, ["ill"]] = True
    victim: dict[str, Any] = {"age": 99, "pain": "much", "finding": "rare"}
    frames["North"].loc[7, [*victim]] = [*victim.values()]
    with co.local(frames, categories=["pain", "finding"]) as one:
        yield one


METHODS: list[Callable[[Any, str], Any]] = [
    lambda of, formula: of.multinomial(formula),
    lambda of, formula: of.ordinal(formula),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "formula",
    [
        "finding ~ bmi",
        "pain ~ finding + bmi",
        "pain ~ oldest + bmi",
        "pain ~ old + older + bmi",
        "pain ~ nearly + bmi",
        "pain ~ I(bmi * oldest)",
    ],
)
def test_a_level_a_column_or_a_pair_of_them_about_one_person_is_refused(
    made: LocalFederation, method: Callable[[Any, str], Any], formula: str
) -> None:
    study = made.study()
    study.derive("oldest = age > 98")
    study.derive("old = age > 80")
    study.derive("older = age > 80 AND age < 99")
    study.derive("nearly = pain = 'much' AND age < 99")
    with pytest.raises(co.PolicyRefusal) as caught:
        method(study, formula)
    assert caught.value.code == "too-few-persons"


@pytest.mark.parametrize("method", METHODS)
def test_the_same_model_without_one_person_is_refused(
    made: LocalFederation, method: Callable[[Any, str], Any]
) -> None:
    study = made.study()
    assert method(study, "pain ~ bmi").nobs == 240
    with pytest.raises(co.PolicyRefusal) as caught:
        method(study.cohort(exclude="age > 98"), "pain ~ bmi")
    assert caught.value.code == "differencing"


@pytest.mark.parametrize("method", METHODS)
def test_a_level_that_an_earlier_table_gave_but_for_one_person_is_refused(
    made: LocalFederation, method: Callable[[Any, str], Any]
) -> None:
    """Both cohorts have 240 persons; their levels differ by one."""
    study = made.study()
    study.crosstab("pain")
    study.derive("pain2 = CASE WHEN age > 98 THEN 'none' ELSE pain END")
    with pytest.raises(co.CohortiumError) as caught:
        method(study, "pain2 ~ bmi")
    assert caught.value.code == "differencing"


@pytest.mark.parametrize("formula", ["ill ~ drug", "ill ~ drug + C(pain)", "well ~ drug"])
def test_a_binomial_model_that_is_a_table_with_a_small_cell_is_refused(
    made: LocalFederation, formula: str
) -> None:
    """Two of those with the drug are ill, which `crosstab` withholds."""
    study = made.study()
    study.derive("well = NOT ill")
    assert study.crosstab("ill", "drug").suppressed
    with pytest.raises(co.PolicyRefusal) as caught:
        study.glm(formula)
    assert caught.value.code == "too-few-persons"
    assert "a table" in caught.value.message
    assert study.glm(f"{formula} + bmi").nobs == 240  # no table


@pytest.fixture(scope="module")
def coded() -> Iterator[LocalFederation]:
    """Two persons with the drug are ill; codes are 0 and 1, and 1 and 2."""
    frames = {}
    for number, site in enumerate(("North", "South", "West")):
        rng = np.random.default_rng(number)
        drug, ill = np.arange(120) % 2 == 0, np.arange(120) % 4 == 1
        if site != "West":
            ill[10] = True
        frames[site] = pd.DataFrame(
            {
                "drug": drug.astype(int),
                "arm": np.where(drug, "new", rng.choice(["old", "none"], 120)),
                "ill": ill.astype(int),
                "status": 1 + ill,
                "bmi": rng.normal(26, 4, 120).round(1),
                "days": np.ceil(rng.exponential(30, 120)),
                "once": np.ones(120, dtype=int),
            }
        )
    with co.local(frames, categories=["arm"], by_site=True) as one:
        yield one


@pytest.mark.parametrize("outcome", ["ill", "status"])
@pytest.mark.parametrize("columns", ["drug", "arm", "drug + bmi", "arm + log(bmi)"])
def test_a_linear_model_that_counts_a_small_cell_is_refused(
    coded: LocalFederation, outcome: str, columns: str
) -> None:
    """X'y = X'X b, and X'X is in the covariances: 2 follows whatever else is in the model."""
    study = coded.study()
    for ask in (
        lambda: study.glm(f"{outcome} ~ {columns}", "gaussian"),
        lambda: study.glm(f"{outcome} ~ {columns}", "poisson"),
        lambda: study.elastic_net(f"{outcome} ~ {columns}", lambdas=[1e-12], folds=0),
        lambda: study.mixed(f"{outcome} ~ {columns}".replace("log(bmi)", "bmi")),
    ):
        with pytest.raises(co.PolicyRefusal) as caught:
            ask()
        assert caught.value.code in {"too-few-persons", "too-few-sites"}
    assert study.glm("bmi ~ drug", "gaussian").nobs == 360


def test_a_penalised_model_that_is_a_table_is_refused(coded: LocalFederation) -> None:
    with pytest.raises(co.PolicyRefusal, match="a table"):
        coded.study().elastic_net("ill ~ drug", "binomial", lambdas=[1e-12], folds=0)
    found = coded.study().elastic_net("ill ~ drug + bmi", "binomial", lambdas=[0.01], folds=0)
    assert found.to_frame().notna().all(axis=None)


@pytest.mark.parametrize("baseline", ["site", "pooled"])
@pytest.mark.parametrize("time", ["days", "once"])
@pytest.mark.parametrize("columns", ["drug", "arm"])
def test_a_cox_model_that_is_a_table_of_events_is_refused(
    coded: LocalFederation, baseline: Any, time: str, columns: str
) -> None:
    """Where all leave at one time the hazard ratio is a ratio of counts; 1 / se^2 nearly counts."""
    with pytest.raises(co.PolicyRefusal) as caught:
        coded.study().cox(f"Surv({time}, ill) ~ {columns}", baseline=baseline, ties="breslow")
    assert caught.value.code == "too-few-persons"


def test_a_mean_of_codes_of_which_few_persons_have_one_is_not_released(
    coded: LocalFederation,
) -> None:
    """A mean of 1.011 of 180 persons with codes 1 and 2 is that of two persons with a 2."""
    study = coded.study()
    for variable in ("ill", "status"):
        means = study.describe([variable], by="arm").to_frame().set_index("arm")["mean"]
        assert np.isnan(means["new"])
        with pytest.raises(co.PolicyRefusal) as caught:
            study.anova(variable, by="arm")
        assert caught.value.code == "too-few-persons"
