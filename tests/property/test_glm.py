"""A model over sites is the pooled model of statsmodels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

sm = pytest.importorskip("statsmodels.api")
smf = pytest.importorskip("statsmodels.formula.api")

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="y", type=VariableType.INTEGER),
        Variable(name="w", type=VariableType.REAL),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="z", type=VariableType.REAL),
        Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c")),
    )
}
RIGHT_SIDES = [
    "x + z",
    "x * s",
    "0 + s + x",
    "x * z + s",
    "I(x ** 2) + x",
    "1",
    "C(s, Treatment('b'))",
]
FAMILIES = {
    "binomial": (sm.families.Binomial, "y"),
    "gaussian": (sm.families.Gaussian, "w"),
    "poisson": (sm.families.Poisson, "y"),
}


def people(random: np.random.Generator, n: int, family: str, scales: tuple[float, float]) -> Table:
    x, z = random.normal(size=n), random.normal(1.0, 1.0, n)
    s = random.integers(0, 3, n)
    eta = 0.3 + 0.5 * x - 0.4 * z + np.array([0.0, 0.4, -0.4])[s]
    if family == "binomial":
        y = (random.uniform(size=n) < 1 / (1 + np.exp(-eta))).astype(float)
    else:
        y = random.poisson(np.exp(eta)).astype(float)
    w = eta + random.normal(size=n)
    columns = {"y": y, "w": w, "x": x * scales[0], "z": z * scales[1], "s": s.astype(np.int32)}
    columns["x"][random.uniform(size=n) < 0.05] = np.nan
    return Table(VARIABLES, columns)


def statsmodels_fit(table: Table, right: str, family: str) -> Any:
    frame = pd.DataFrame({name: table.columns[name] for name in ("y", "w", "x", "z")})
    levels = [("a", "b", "c")[code] for code in table.columns["s"].tolist()]
    frame["s"] = pd.Categorical(levels, categories=["a", "b", "c"])
    kind, outcome = FAMILIES[family]
    model = smf.glm(
        f"{outcome} ~ {right}", frame.dropna() if "x" in right else frame, family=kind()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(tol=1e-15, tol_criterion="params", maxiter=200)


def compare(table: Table, sizes: list[int], right: str, family: str, floor: Any) -> None:
    params = {"formula": f"{FAMILIES[family][1]} ~ {right}", "family": family}
    sites = split(table, sizes)
    done = run_pooled_sum(find("glm"), params, sites, Disclosure(min_cell=1, floor=floor))
    ours, pooled = done.result, statsmodels_fit(table, right, family)
    at = [list(pooled.params.index).index(name) for name in ours["terms"]]
    assert ours["n"] == pooled.nobs
    assert ours["df_resid"] == pooled.df_resid
    bse = pooled.bse.to_numpy()[at]
    expected = pooled.params.to_numpy()[at]
    assert (
        np.max(np.abs(np.array(ours["params"]) - expected) / np.maximum(abs(expected), bse)) < 1e-8
    )
    assert ours["bse"] == pytest.approx(bse, rel=1e-8)
    cov = pooled.cov_params().to_numpy()[np.ix_(at, at)]
    assert np.allclose(
        np.array(ours["cov"]) / np.outer(bse, bse), cov / np.outer(bse, bse), atol=1e-8
    )
    assert ours["pvalues"] == pytest.approx(wald(pooled, family)[at], rel=1e-6, abs=1e-300)
    assert ours["deviance"] == pytest.approx(pooled.deviance, rel=1e-8)
    assert ours["loglik"] == pytest.approx(pooled.llf, rel=1e-8)
    extra = 2 if family == "gaussian" else 0
    assert ours["aic"] == pytest.approx(pooled.aic + extra, rel=1e-8)
    if "Intercept" in ours["terms"]:
        assert ours["df_model"] == pooled.df_model
        assert ours["null_deviance"] == pytest.approx(pooled.null_deviance, rel=1e-8)


def wald(pooled: Any, family: str) -> Any:
    from scipy import stats

    statistic = (pooled.params / pooled.bse).abs().to_numpy()
    if family == "gaussian":
        return 2 * stats.t.sf(statistic, pooled.df_resid)
    return 2 * stats.norm.sf(statistic)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 200), min_size=2, max_size=5),
    right=st.sampled_from(RIGHT_SIDES),
    family=st.sampled_from(sorted(FAMILIES)),
    floor=st.sampled_from(["site", "total"]),
)
def test_the_federated_model_is_the_pooled_one(
    seed: int, sizes: list[int], right: str, family: str, floor: str
) -> None:
    assume(sum(sizes) >= 150)
    assume(sum(size >= 50 for size in sizes) >= 2)  # both with complete persons, above any floor
    table = people(np.random.default_rng(seed), sum(sizes), family, (1.0, 1.0))
    compare(table, sizes, right, family, floor)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("scales", [(1e6, 1e-9), (1e-9, 1e6), (1e6, 1e6), (1e-9, 1e-9)])
def test_badly_scaled_columns_lose_no_digits(family: str, scales: tuple[float, float]) -> None:
    """statsmodels is given the columns in good units; estimates follow by division."""
    random = np.random.default_rng(11)
    table = people(random, 600, family, (1.0, 1.0))
    scaled = {
        **table.columns,
        "x": table.columns["x"] * scales[0],
        "z": table.columns["z"] * scales[1],
    }
    params = {"formula": f"{FAMILIES[family][1]} ~ x * z + s", "family": family}
    sites = split(Table(VARIABLES, scaled), [100, 300, 200])
    ours = run_pooled_sum(find("glm"), params, sites).result
    pooled = statsmodels_fit(table, "x * z + s", family)
    unit = {"x": scales[0], "z": scales[1], "x:z": scales[0] * scales[1]}
    for term, value, error in zip(ours["terms"], ours["params"], ours["bse"], strict=True):
        factor = unit.get(term, 1.0)
        assert value * factor == pytest.approx(pooled.params[term], rel=1e-8, abs=1e-10)
        assert error * factor == pytest.approx(pooled.bse[term], rel=1e-8)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_column_far_from_zero_loses_no_digits(family: str) -> None:
    """A calendar year or a date: the mean is many standard deviations away from zero."""
    table = people(np.random.default_rng(12), 600, family, (1.0, 1.0))
    far = {**table.columns, "x": table.columns["x"] + 1e6, "w": table.columns["w"] + 1e6}
    params = {"formula": f"{FAMILIES[family][1]} ~ x + z", "family": family}
    ours = run_pooled_sum(find("glm"), params, split(Table(VARIABLES, far), [250, 350])).result
    pooled = statsmodels_fit(table, "x + z", family)
    assert ours["params"][1:] == pytest.approx(pooled.params.to_numpy()[1:], rel=1e-8)
    assert ours["bse"][1:] == pytest.approx(pooled.bse.to_numpy()[1:], rel=1e-8)
    assert ours["deviance"] == pytest.approx(pooled.deviance, rel=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), family=st.sampled_from(sorted(FAMILIES)))
def test_the_order_of_sites_does_not_matter(seed: int, family: str) -> None:
    random = np.random.default_rng(seed)
    sites = split(people(random, 300, family, (1.0, 1.0)), [100, 80, 120])
    params = {"formula": f"{FAMILIES[family][1]} ~ x + s", "family": family}
    order = random.permutation(3)
    here = run_pooled_sum(find("glm"), params, sites).result
    assert run_pooled_sum(find("glm"), params, [sites[at] for at in order]).result == here
