"""Penalised models against printed tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split
from tests.support.prostate import NAMES, prostate

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

COLUMNS = NAMES[:8]
FORMULA = f"lpsa ~ {' + '.join(COLUMNS)}"


def training() -> list[Table]:
    """The 67 men at three sites; predictors of unit variance among all 97, as in the book."""
    data = prostate()
    train = data["train"] == 1
    columns = {
        name: ((data[name] - data[name].mean()) / data[name].std(ddof=1))[train] for name in COLUMNS
    }
    variables = {name: Variable(name=name, type=VariableType.REAL) for name in (*COLUMNS, "lpsa")}
    return split(Table(variables, {**columns, "lpsa": data["lpsa"][train]}), [20, 25, 22])


def fit(**params: Any) -> dict[str, Any]:
    limits = Disclosure(persons_per_parameter=5)
    params = {"formula": FORMULA, "folds": 0, **params}
    analysis = find("models.elastic_net")
    return dict(run_pooled_sum(analysis, params, training(), limits).result)


def test_the_lasso_of_the_prostate_data_is_as_the_book_prints_it() -> None:
    # Hastie, Tibshirani & Friedman 2009, The Elements of Statistical Learning, Table 3.3. The book
    # gives no lambda; at this one all nine printed numbers come out.
    found = fit(lambdas=[0.209])
    printed = [2.468, 0.533, 0.169, 0, 0.002, 0.094, 0, 0, 0]
    assert np.round(found["coefficients"][0], 3).tolist() == printed
    assert found["nonzero"] == [4]


def test_lambda_towards_zero_gives_the_books_least_squares() -> None:
    # Table 3.3, column LS (the book prints 2.465 for the intercept).
    found = fit(lambdas=[1e-9])
    printed = [2.465, 0.680, 0.263, -0.141, 0.210, 0.305, -0.288, -0.021, 0.267]
    assert np.array(found["coefficients"][0]) == pytest.approx(printed, abs=6e-4)


def test_the_lasso_of_the_diabetes_data_is_as_scikit_learn_finds_it() -> None:
    # scikit-learn's Lasso on its own scaling of the columns, converged to 1e-14.
    linear_model = pytest.importorskip("sklearn.linear_model")
    datasets = pytest.importorskip("sklearn.datasets")
    data = datasets.load_diabetes(as_frame=True).frame
    variables = {name: Variable(name=name, type=VariableType.REAL) for name in data.columns}
    columns = {name: data[name].to_numpy() for name in data.columns}
    sites = split(Table(variables, columns), [150, 142, 150])
    names = [name for name in data.columns if name != "target"]
    params = {
        "formula": f"target ~ {' + '.join(names)}",
        "lambdas": [1.0, 0.1],
        "standardize": False,
        "folds": 0,
    }
    found = run_pooled_sum(find("models.elastic_net"), params, sites).result
    for lambda_, beta in zip((1.0, 0.1), found["coefficients"], strict=True):
        pooled = linear_model.Lasso(alpha=lambda_, tol=1e-14, max_iter=100_000)
        pooled.fit(data[names], data["target"])
        assert beta[1:] == pytest.approx(pooled.coef_, rel=1e-8, abs=1e-8)
        assert beta[0] == pytest.approx(pooled.intercept_)
