"""Penalised models over sites are those of everybody's rows, and so is their cross-validation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.federation import run_pooled_sum

from cohortium.analysis.builtin import find
from cohortium.analysis.folds import folds_of
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import PolicyRefusal

linear_model = pytest.importorskip("sklearn.linear_model")

Floats = npt.NDArray[np.float64]

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="y", type=VariableType.REAL),
        Variable(name="c", type=VariableType.INTEGER),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="z", type=VariableType.REAL),
        Variable(name="k", type=VariableType.INTEGER),
        Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "d")),
    )
}
COLUMNS = 5
FOLDS = 4

disclosures = st.builds(
    Disclosure, min_cell=st.sampled_from([2, 5]), floor=st.sampled_from(["site", "total"])
)


def people(seed: int, sizes: list[int], family: str, scale: float) -> list[Table]:
    random = np.random.default_rng(seed)
    tables = []
    for n in sizes:
        x = random.normal(size=n)
        z = 0.8 * x + random.normal(size=n)
        k, s = random.integers(0, 4, n) * 1.0, random.integers(0, 3, n)
        eta = 0.9 * x - 0.4 * (s == 1) + 0.1 * k
        count = (
            (random.uniform(size=n) < 1 / (1 + np.exp(-eta))) * 1.0
            if family == "binomial"
            else random.poisson(np.exp(0.5 * eta)) * 1.0
        )
        x = x * scale + 100 * scale
        x[random.uniform(size=n) < 0.1] = np.nan
        columns = {"y": 5 + 2 * eta + random.normal(size=n), "c": count, "x": x, "z": z, "k": k}
        tables.append(Table(VARIABLES, {**columns, "s": s.astype(np.int32)}))
    return tables


def run(sites: list[Table], limits: Disclosure, family: str, **params: Any) -> dict[str, Any]:
    outcome = "y" if family == "gaussian" else "c"
    params = {
        "formula": f"{outcome} ~ x + z + k + s",
        "family": family,
        "folds": FOLDS,
        "n_lambdas": 12,
        **params,
    }
    return dict(run_pooled_sum(find("models.elastic_net"), params, sites, limits).result)


def pooled(
    sites: list[Table], limits: Disclosure, family: str, seed: int = 1
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Design, outcome and folds of those who take part."""
    rows, outcomes, folds = [], [], []
    least = limits.min_cell if limits.floor == "site" else 1
    for site in sites:
        c = site.columns
        complete = ~np.isnan(c["x"])
        if np.count_nonzero(complete) < least:
            continue
        x = np.column_stack([c["s"] == 1, c["s"] == 2, c["x"], c["z"], c["k"]])
        rows.append(x[complete].astype(np.float64))
        outcomes.append(c["y" if family == "gaussian" else "c"][complete])
        folds.append(folds_of(complete, FOLDS, seed, limits.min_cell, ""))
    return np.concatenate(rows), np.concatenate(outcomes), np.concatenate(folds)


def order(found: dict[str, Any]) -> list[int]:
    names = ["s[T.b]", "s[T.d]", "x", "z", "k"]
    return [0, *(found["terms"].index(name) for name in names)]


def minimum(x: Floats, y: Floats, family: str, lambda_: float, alpha: float) -> Floats:
    """By scikit-learn, on standardised columns; the intercept first."""
    centre, sd = x.mean(axis=0), x.std(axis=0)
    z, n = (x - centre) / sd, len(y)
    if family == "gaussian":
        model = linear_model.ElasticNet(
            alpha=lambda_, l1_ratio=alpha, tol=1e-13, max_iter=1_000_000
        )
        if alpha == 0:
            model = linear_model.Ridge(alpha=n * lambda_)
        model.fit(z, y)
    elif family == "binomial":
        options = {"C": 1 / (n * lambda_), "tol": 1e-12, "max_iter": 100_000}
        if alpha == 0:
            model = linear_model.LogisticRegression(solver="newton-cholesky", **options)
        else:
            model = linear_model.LogisticRegression(
                l1_ratio=alpha, solver="saga", random_state=0, **options
            )
        model.fit(z, y)
    else:
        model = linear_model.PoissonRegressor(
            alpha=lambda_, solver="newton-cholesky", tol=1e-12, max_iter=1000
        )
        model.fit(z, y)
    slopes = np.ravel(model.coef_) / sd
    return np.append(np.ravel(model.intercept_) - slopes @ centre, slopes)


def loss(x: Floats, y: Floats, beta: Floats, family: str) -> float:
    """Per person, as cv.glmnet measures it."""
    eta = beta[0] + x @ beta[1:]
    if family == "gaussian":
        return float(np.mean((y - eta) ** 2))
    if family == "binomial":
        p = np.clip(1 / (1 + np.exp(-eta)), 1e-5, 1 - 1e-5)
        return float(-2 * np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    saturated = np.where(y > 0, y * np.log(np.where(y > 0, y, 1)), 0) - y
    return float(2 * np.mean(saturated - (y * eta - np.exp(eta))))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(40, 90), min_size=2, max_size=4),
    limits=disclosures,
    family=st.sampled_from(["gaussian", "binomial", "poisson"]),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    standardize=st.booleans(),
)
def test_the_path_keeps_the_conditions_of_the_pooled_minimum(
    seed: int,
    sizes: list[int],
    limits: Disclosure,
    family: str,
    alpha: float,
    scale: float,
    *,
    standardize: bool,
) -> None:
    sites = people(seed, sizes, family, scale)
    found = run(sites, limits, family, alpha=alpha, standardize=standardize)
    x, y, _ = pooled(sites, limits, family)
    assert found["n"] == len(y)
    sd = x.std(axis=0) if standardize else np.ones(x.shape[1])
    z = (x - x.mean(axis=0)) / sd
    steepest = np.abs(z.T @ (y - y.mean())).max() / len(y)
    assert found["lambdas"][0] == pytest.approx(steepest / max(alpha, 1e-3))
    assert found["lambdas"][1] / found["lambdas"][0] == pytest.approx(1e-4 ** (1 / 11))
    for lambda_, coefficients in zip(found["lambdas"], found["coefficients"], strict=True):
        beta = np.array(coefficients)[order(found)]
        eta = beta[0] + x @ beta[1:]
        inverse: dict[str, Any] = {"gaussian": lambda e: e, "poisson": np.exp}
        mean = inverse.get(family, lambda e: 1 / (1 + np.exp(-e)))(eta)
        slope, b = z.T @ (y - mean) / len(y), beta[1:] * sd
        assert abs(np.mean(y - mean)) < 1e-8 * max(1.0, steepest)
        pulled = slope - lambda_ * (1 - alpha) * b
        off = np.where(
            b != 0,
            np.abs(pulled - lambda_ * alpha * np.sign(b)),
            np.maximum(np.abs(pulled) - lambda_ * alpha, 0),
        )
        assert off.max() < 1e-8 * steepest
        assert found["nonzero"][found["lambdas"].index(lambda_)] == np.count_nonzero(b)


@pytest.mark.parametrize(
    ("family", "alpha", "floor"),
    [
        ("gaussian", 1.0, "site"),
        ("gaussian", 0.5, "total"),
        ("gaussian", 0.0, "site"),
        ("binomial", 1.0, "total"),
        ("binomial", 0.5, "site"),
        ("binomial", 0.0, "total"),
        ("poisson", 0.0, "site"),
    ],
)
def test_path_and_cross_validation_are_scikit_learns_on_everybody(
    family: str, alpha: float, floor: Any
) -> None:
    sites, limits = people(5, [70, 4, 90, 60], family, 10.0), Disclosure(floor=floor)
    # scikit-learn's saga stops too early where nothing but the intercept is left
    lambdas = [0.1, 0.05, 0.02]
    found = run(sites, limits, family, alpha=alpha, lambdas=lambdas, seed=7)
    x, y, folds = pooled(sites, limits, family, seed=7)
    at = order(found)
    errors = np.empty((FOLDS, len(lambdas)))
    for number, lambda_ in enumerate(lambdas):
        beta = np.array(found["coefficients"][number])[at]
        assert beta == pytest.approx(minimum(x, y, family, lambda_, alpha), rel=2e-6, abs=2e-7)
        for k in range(FOLDS):
            without = minimum(x[folds != k], y[folds != k], family, lambda_, alpha)
            errors[k, number] = loss(x[folds == k], y[folds == k], without, family)
    weight = np.bincount(folds) / len(folds)
    mean = weight @ errors
    se = np.sqrt(weight @ (errors - mean) ** 2 / (FOLDS - 1))
    cv = found["cv"]
    assert cv["mean"] == pytest.approx(mean, rel=1e-5)
    assert cv["se"] == pytest.approx(se, rel=2e-5)
    best = int(np.argmin(mean))
    assert cv["lambda_min"] == lambdas[best]
    assert cv["lambda_1se"] == max(
        lambda_ for lambda_, m in zip(lambdas, mean, strict=True) if m <= mean[best] + se[best]
    )


def test_share_of_the_deviance_is_that_of_the_pooled_model() -> None:
    for family in ("gaussian", "binomial", "poisson"):
        sites = people(3, [80, 80], family, 1.0)
        found = run(sites, Disclosure(), family, folds=0, lambdas=[0.1])
        x, y, _ = pooled(sites, Disclosure(), family)
        beta = np.array(found["coefficients"][0])[order(found)]
        null = np.zeros(COLUMNS + 1)
        mean = y.mean()
        null[0] = mean if family == "gaussian" else math.log(mean)
        null[0] -= math.log(1 - mean) if family == "binomial" else 0.0
        explained = 1 - loss(x, y, beta, family) / loss(x, y, null, family)
        assert found["deviance_ratio"] == [pytest.approx(explained, rel=1e-6)]
        assert found["null_deviance"] == pytest.approx(loss(x, y, null, family) * len(y))
        assert found["cv"] is None


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32), family=st.sampled_from(["gaussian", "binomial"]))
def test_the_order_of_sites_does_not_matter(seed: int, family: str) -> None:
    sites = people(seed, [50, 40, 70], family, 1.0)
    one = run(sites, Disclosure(), family, n_lambdas=5)
    assert one == run([sites[2], sites[0], sites[1]], Disclosure(), family, n_lambdas=5)


def test_a_minimum_takes_few_rounds() -> None:
    for family, most in (("gaussian", 2), ("binomial", 20), ("poisson", 20)):
        seen: list[tuple[State, Total]] = []
        params = {"formula": f"{'y' if family == 'gaussian' else 'c'} ~ x + z + k + s"}
        run_pooled_sum(
            find("models.elastic_net"),
            {**params, "family": family, "folds": 5},
            people(1, [150, 150, 150], family, 1.0),
            seen=seen,
        )
        assert len(seen) <= most


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(20, 60), limits=disclosures)
def test_small_folds_are_refused(seed: int, n: int, limits: Disclosure) -> None:
    sites = people(seed, [n, n], "gaussian", 1.0)
    try:
        found = run(sites, limits, "gaussian", folds=10)
    except PolicyRefusal:
        return
    for site in sites:
        rows = ~np.isnan(site.columns["x"])
        assert np.bincount(folds_of(rows, 10, 1, limits.min_cell, "")).min() > 0
    assert found["n"] >= 10 * max(limits.min_cell, COLUMNS + 1)
