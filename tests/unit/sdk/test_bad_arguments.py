"""Whatever is given to a method, it answers with an error of ours."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.errors import InputError
from cohortium.inprocess.federation import LocalFederation
from cohortium.sdk.analyses import Analyses
from cohortium.sdk.submission import plain

GOOD = {
    "variables": ["x"],
    "variable": "x",
    "by": "s",
    "row": "s",
    "column": "g",
    "before": "died",
    "after": "died",
    "formula": "x ~ y",
    "time": "t",
    "event": "died",
    "event_level": "a",
    "effect": "smd",
    "outcome": "died",
    "treatment": "s",
    "covariates": ["x"],
    "model": "x",
}
BAD = [5, object(), [None], {"a": object()}, b"x"]
METHODS = [
    name
    for name, _ in inspect.getmembers(Analyses, inspect.isfunction)
    if not name.startswith("_") and name != "submit"
]


def frame(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": random.normal(size=60).round(2),
            "y": random.normal(size=60).round(2),
            "s": random.choice(["a", "b"], 60),
            "g": random.choice(["u", "v"], 60),
            "died": random.uniform(size=60) < 0.4,
            "t": random.exponential(5, 60).round(1) + 0.1,
        }
    )


@pytest.fixture(scope="module")
def fed() -> Iterator[LocalFederation]:
    with co.local({"A": frame(1), "B": frame(2)}, by_site=True) as one:
        yield one


@pytest.mark.parametrize("method", METHODS)
def test_arguments_that_make_no_sense_are_refused(fed: LocalFederation, method: str) -> None:
    study = fed.study()
    function = getattr(study, method)
    parameters = [
        one
        for one in inspect.signature(function).parameters.values()
        if one.kind is not one.VAR_KEYWORD
    ]
    needed = {one.name: GOOD[one.name] for one in parameters if one.default is one.empty}
    asked = {"method": method}
    for parameter in parameters:
        for value in BAD:
            asked |= {"parameter": parameter.name, "value": repr(value)}
            try:
                function(**{**needed, parameter.name: value})
            except co.CohortiumError:
                continue
            except Exception as error:
                raise AssertionError(f"{asked}: {error!r}") from error


def test_what_cannot_be_asked_names_the_parameter(fed: LocalFederation) -> None:
    study = fed.study()
    with pytest.raises(InputError, match="variables: must be a list"):
        study.describe(5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mu: must be a number"):
        study.t_test("x", mu="x")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="definition must be a text"):
        study.derive(None)  # type: ignore[arg-type]
    for wrong in (5, [5], None):
        with pytest.raises(InputError, match="Not a list of criteria"):
            study.cohort(include=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="quantiles cannot be sent: it is a bytes"):
        study.describe("x", quantiles=[b"0.5"])  # type: ignore[list-item]


@pytest.mark.parametrize("value", [math.nan, -math.inf, [0.5, math.inf], 2**70])
def test_numbers_that_json_does_not_have_name_the_parameter(
    fed: LocalFederation, value: Any
) -> None:
    with pytest.raises(InputError, match="mu must be a") as caught:
        fed.study().t_test("x", mu=value)
    assert "JSON" not in caught.value.message


def test_what_is_no_published_model_and_no_threshold_is_refused(fed: LocalFederation) -> None:
    study = fed.study()
    for formula, coefficients in ((3, {"x": 1}), ("x", 4), ("x", {"x": "one"}), ("x", {"x": None})):
        with pytest.raises(InputError):
            study.evaluate("died", co.PublishedModel(formula, coefficients))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="thresholds are numbers"):
        study.evaluate("died", "x").thresholds(at=["a"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="which variable"):
        study.impute(5)  # type: ignore[arg-type]


def test_numbers_too_large_to_sum_are_an_error_without_a_warning() -> None:
    gap = np.where(np.arange(60) % 3 == 0, np.nan, 1.5 * np.arange(60))
    far = frame(1).assign(x=np.linspace(-1e300, 1e308, 60), gap=gap)
    with co.local({"A": far, "B": far}, by_site=True) as one, warnings.catch_warnings():
        warnings.simplefilter("error")
        study = one.study()
        asked: list[Callable[[], object]] = [
            lambda: study.describe("x"),
            lambda: study.t_test("x", by="s"),
            lambda: study.glm("died ~ x"),
            lambda: study.cox("Surv(t, died) ~ x"),
            lambda: study.propensity("died", "x"),
            lambda: study.evaluate("died", "x"),
            lambda: study.correlation(["x", "y"]),
            lambda: study.elastic_net("y ~ x + t", folds=3),
            lambda: study.mice("y ~ x + gap", m=2),
        ]
        for ask in asked:
            with pytest.raises(InputError, match="x: a sum of it"):
                ask()
        for ask in (
            lambda: study.meta_effect("x", "s", "smd"),
            lambda: study.meta("died ~ x"),
        ):
            with pytest.raises(co.PolicyRefusal) as caught:
                ask()
            assert caught.value.code == "too-few-sites"


@pytest.mark.parametrize("family", ["gaussian", "gamma", "inverse_gaussian"])
def test_an_outcome_that_is_the_same_for_all_is_an_error(family: Any) -> None:
    same = frame(1).assign(x=7.0)
    same_for_all = pytest.raises(InputError, match="x is the same for all")
    with co.local({"A": same, "B": same}) as one, same_for_all as caught:
        one.study().glm("x ~ y", family)
    assert caught.value.code == "no-convergence"


def test_numpys_numbers_and_lists_are_taken_as_they_are_meant() -> None:
    given = {"a": np.float64(0.5), "b": np.array([1, 2]), "c": (np.True_, None)}
    assert plain("x", given) == {"a": 0.5, "b": [1, 2], "c": [True, None]}
    assert plain("x", pd.Index(["a", "b"])) == ["a", "b"]
    deep: list[object] = []
    for _ in range(50):
        deep = [deep]
    with pytest.raises(InputError):
        plain("x", deep)
