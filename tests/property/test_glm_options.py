"""Gamma and inverse Gaussian models, offsets, weights and robust standard errors over sites are
statsmodels' pooled.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
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
        Variable(name="cost", type=VariableType.REAL),
        Variable(name="events", type=VariableType.INTEGER),
        Variable(name="dead", type=VariableType.INTEGER),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c")),
        Variable(name="time", type=VariableType.REAL),
        Variable(name="times", type=VariableType.INTEGER),
    )
}
SIZES = [60, 45, 70, 55, 40]
MODELS = {
    ("gamma", "inverse"): (sm.families.Gamma(sm.families.links.InversePower()), "cost"),
    ("gamma", "log"): (sm.families.Gamma(sm.families.links.Log()), "cost"),
    ("inverse_gaussian", "inverse_squared"): (
        sm.families.InverseGaussian(sm.families.links.InverseSquared()),
        "cost",
    ),
    ("inverse_gaussian", "log"): (
        sm.families.InverseGaussian(sm.families.links.Log()),
        "cost",
    ),
    ("gaussian", "identity"): (sm.families.Gaussian(), "cost"),
    ("poisson", "log"): (sm.families.Poisson(), "events"),
    ("binomial", "logit"): (sm.families.Binomial(), "dead"),
}
KINDS = sorted(MODELS)
POSITIVE = ("gamma", "inverse_gaussian")


def people(seed: int, n: int = sum(SIZES)) -> Table:
    random = np.random.default_rng(seed)
    x, s = random.uniform(-1, 1, n), random.integers(0, 3, n)
    eta = 0.4 * x + np.array([0.0, 0.3, -0.2])[s]
    time = np.round(random.uniform(-0.5, 0.5, n), 2)
    cost = random.gamma(4.0, 1 / (4.0 * (1.5 + 0.5 * eta)))
    columns = {
        "cost": cost,
        "events": random.poisson(np.exp(eta + time)).astype(float),
        "dead": (random.uniform(size=n) < 1 / (1 + np.exp(-eta))).astype(float),
        "x": x,
        "s": s.astype(np.int32),
        "time": time,
        "times": random.integers(1, 5, n).astype(float),
    }
    columns["x"][random.uniform(size=n) < 0.04] = np.nan
    columns["time"][random.uniform(size=n) < 0.02] = np.nan
    return Table(VARIABLES, columns)


def frame_of(table: Table) -> pd.DataFrame:
    frame = pd.DataFrame({name: table.columns[name] for name in VARIABLES if name != "s"})
    levels = [("a", "b", "c")[code] for code in table.columns["s"].tolist()]
    frame["s"] = pd.Categorical(levels, categories=["a", "b", "c"])
    frame["site"] = np.repeat(np.arange(len(SIZES)), SIZES)
    return frame


def pooled(kind: tuple[str, str], frame: pd.DataFrame, offset: bool = False, **fit: Any) -> Any:
    family, outcome = MODELS[kind]
    more = {"offset": frame["time"]} if offset else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return smf.glm(f"{outcome} ~ x + s", frame, family=family, **more).fit(
            tol=1e-14, tol_criterion="params", maxiter=300, **fit
        )


def federated(
    kind: tuple[str, str], table: Table, floor: Any = "total", **params: Any
) -> dict[str, Any]:
    asked = {"formula": f"{MODELS[kind][1]} ~ x + s", "family": kind[0], "link": kind[1], **params}
    sites = split(table, SIZES)
    return dict(run_pooled_sum(find("glm"), asked, sites, Disclosure(floor=floor)).result)


def same(ours: dict[str, Any], theirs: Any, rel: float = 1e-8) -> None:
    at = [list(theirs.params.index).index(name) for name in ours["terms"]]
    expected, bse = theirs.params.to_numpy()[at], theirs.bse.to_numpy()[at]
    away = np.abs(np.array(ours["params"]) - expected) / np.maximum(np.abs(expected), bse)
    assert away.max() < rel
    assert ours["bse"] == pytest.approx(bse, rel=rel)
    assert ours["deviance"] == pytest.approx(theirs.deviance, rel=rel)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from([kind for kind in KINDS if kind[0] in POSITIVE]),
    floor=st.sampled_from(["site", "total"]),
)
def test_a_model_of_positive_numbers_is_the_pooled_one(
    seed: int, kind: tuple[str, str], floor: str
) -> None:
    table = people(seed)
    ours = federated(kind, table, floor)
    theirs = pooled(kind, frame_of(table).dropna(subset=["x"]))
    same(ours, theirs)
    assert ours["scale"] == pytest.approx(theirs.scale, rel=1e-8)
    assert ours["null_deviance"] == pytest.approx(theirs.null_deviance, rel=1e-8)
    scale = theirs.deviance / theirs.nobs  # R's logLik takes this scale, statsmodels Pearson's
    assert ours["loglik"] == pytest.approx(
        theirs.family.loglike(theirs.model.endog, theirs.mu, scale=scale), rel=1e-8
    )
    assert ours["aic"] == pytest.approx(-2 * ours["loglik"] + 2 * 5)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(KINDS))
def test_an_offset_is_that_of_the_pooled_model(seed: int, kind: tuple[str, str]) -> None:
    table = people(seed)
    ours = federated(kind, table, offset="time")
    theirs = pooled(kind, frame_of(table).dropna(subset=["x", "time"]), offset=True)
    same(ours, theirs)
    assert ours["n"] == theirs.nobs
    if kind[1] in {"log", "identity"} and kind[0] != "inverse_gaussian":
        null = pooled_null(kind, frame_of(table).dropna(subset=["x", "time"]))
        assert ours["null_deviance"] == pytest.approx(null, rel=1e-8)
    else:
        assert ours["null_deviance"] is None


def pooled_null(kind: tuple[str, str], frame: pd.DataFrame) -> float:
    family, outcome = MODELS[kind]
    model = smf.glm(f"{outcome} ~ 1", frame, family=family, offset=frame["time"])
    return float(model.fit(tol=1e-14, tol_criterion="params").deviance)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(KINDS),
    errors=st.sampled_from(["model", "HC0", "HC1", "HC3"]),
)
def test_weights_are_the_model_of_repeated_rows(
    seed: int, kind: tuple[str, str], errors: str
) -> None:
    table = people(seed)
    ours = federated(kind, table, weights="times", errors=errors)
    frame = frame_of(table).dropna(subset=["x"])
    rows = frame.loc[frame.index.repeat(frame["times"].astype(int))].reset_index(drop=True)
    theirs = pooled(kind, rows)
    assert ours["n"] == len(frame)
    assert ours["n_weighted"] == len(rows)
    assert ours["params"] == pytest.approx(by_term(theirs.params, ours), rel=1e-7, abs=1e-9)
    assert ours["deviance"] == pytest.approx(theirs.deviance, rel=1e-8)
    assert ours["null_deviance"] == pytest.approx(theirs.null_deviance, rel=1e-8)
    if kind[0] not in POSITIVE:
        assert ours["loglik"] == pytest.approx(theirs.llf, rel=1e-8)
    expected = np.sqrt(np.diag(sandwich(theirs, errors)))
    assert ours["bse"] == pytest.approx(by_term(pd.Series(expected, theirs.params.index), ours))


def by_term(values: Any, ours: dict[str, Any]) -> list[float]:
    return [float(values[term]) for term in ours["terms"]]


def sandwich(theirs: Any, errors: str) -> Any:
    """The textbook's formula on the pooled rows; statsmodels' GLM has HC0 only."""
    if errors == "model":
        return theirs.cov_params().to_numpy()
    x, mu = theirs.model.exog, theirs.mu
    slope = 1 / theirs.family.link.deriv(mu)
    weight = slope**2 / theirs.family.variance(mu)
    bread = np.linalg.inv(x.T @ (weight[:, None] * x))
    residual = (theirs.model.endog - mu) * slope / theirs.family.variance(mu)
    h = weight * np.einsum("ij,jk,ik->i", x, bread, x)
    power = {"HC2": 1, "HC3": 2}.get(errors, 0)
    meat = x.T @ ((residual**2 / (1 - h) ** power)[:, None] * x)
    n, p = x.shape
    return bread @ meat @ bread * (n / (n - p) if errors == "HC1" else 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("errors", ["HC0", "HC1", "HC2", "HC3"])
def test_robust_errors_are_the_sandwich_of_the_pooled_rows(
    kind: tuple[str, str], errors: str
) -> None:
    table = people(5)
    ours = federated(kind, table, "site", errors=errors)
    theirs = pooled(kind, frame_of(table).dropna(subset=["x"]))
    order = [list(theirs.params.index).index(name) for name in ours["terms"]]
    expected = sandwich(theirs, errors)[np.ix_(order, order)]
    bse = np.sqrt(np.diag(expected))
    assert np.allclose(
        np.array(ours["cov"]) / np.outer(bse, bse), expected / np.outer(bse, bse), atol=1e-8
    )
    if errors == "HC0" and not (kind[0] in POSITIVE and kind[1] == "log"):
        robust = pooled(kind, frame_of(table).dropna(subset=["x"]), cov_type="HC0")
        assert ours["bse"] == pytest.approx(by_term(robust.bse, ours), rel=1e-7)


@pytest.mark.parametrize("errors", ["HC0", "HC1", "HC2", "HC3"])
def test_robust_errors_of_a_linear_model_are_those_of_least_squares(errors: str) -> None:
    table = people(6)
    ours = federated(("gaussian", "identity"), table, errors=errors)
    frame = frame_of(table).dropna(subset=["x"])
    theirs = smf.ols("cost ~ x + s", frame).fit(cov_type=errors, use_t=True)
    assert ours["bse"] == pytest.approx(by_term(theirs.bse, ours), rel=1e-9)
    assert ours["pvalues"] == pytest.approx(by_term(theirs.pvalues, ours), rel=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_by_site_are_clustered_ones(kind: tuple[str, str]) -> None:
    table = people(7)
    ours = federated(kind, table, errors="site")
    frame = frame_of(table).dropna(subset=["x"])
    theirs = pooled(kind, frame)
    x, mu = theirs.model.exog, theirs.mu
    slope = 1 / theirs.family.link.deriv(mu)
    weight = slope**2 / theirs.family.variance(mu)
    scores = x * ((theirs.model.endog - mu) * slope / theirs.family.variance(mu))[:, None]
    sums = np.array([scores[(frame["site"] == site).to_numpy()].sum(axis=0) for site in range(5)])
    bread = np.linalg.inv(x.T @ (weight[:, None] * x))
    n, p = x.shape
    cov = 5 / 4 * (n - 1) / (n - p) * bread @ sums.T @ sums @ bread
    expected = pd.Series(np.sqrt(np.diag(cov)), theirs.params.index)
    assert ours["bse"] == pytest.approx(by_term(expected, ours), rel=1e-7)
    assert (ours["statistic_name"], ours["df_test"]) == ("t", 4)
    if not (kind[0] in POSITIVE and kind[1] == "log"):
        clusters = {"groups": frame["site"].to_numpy()}
        robust = pooled(kind, frame, cov_type="cluster", cov_kwds=clusters)
        assert ours["bse"] == pytest.approx(by_term(robust.bse, ours), rel=1e-7)


def test_a_gamma_far_from_one_unit_loses_no_digits() -> None:
    table = people(8)
    big = Table(VARIABLES, {**table.columns, "cost": table.columns["cost"] * 1e6})
    for link, factor in (("inverse", 1e6), ("log", 1.0)):
        one, other = federated(("gamma", link), table), federated(("gamma", link), big)
        slopes = np.array(other["params"][1:]) * factor
        assert slopes == pytest.approx(np.array(one["params"][1:]), rel=1e-9)
        assert other["deviance"] == pytest.approx(one["deviance"], rel=1e-9)
    assert math.isfinite(other["loglik"])
