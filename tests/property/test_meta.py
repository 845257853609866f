"""Institutions' own estimates are those of statsmodels and lifelines on their rows, and combine."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.by_site import OPEN, SMALL, run_by_site

from cohortium.analysis.builtin import find, parse_params
from cohortium.analysis.interface import AnyAnalysis, Scope
from cohortium.analysis.meta import Meta
from cohortium.analysis.pooling import Pooled, pool
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="y", type=VariableType.REAL),
        Variable(name="died", type=VariableType.INTEGER),
        Variable(name="ward", type=VariableType.CATEGORY, levels=("home", "died")),
        Variable(name="k", type=VariableType.INTEGER),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="t", type=VariableType.REAL),
        Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b")),
        Variable(name="g", type=VariableType.CATEGORY, levels=("u", "v", "w")),
    )
}


def people(seed: int, sizes: list[int]) -> list[Table]:
    tables = []
    random = np.random.default_rng(seed)
    for n in sizes:
        x, s = random.normal(0, 1, n), random.integers(0, 2, n)
        away = random.normal(0, 0.4)
        died = (random.uniform(size=n) < 1 / (1 + np.exp(-away - 0.4 * x - 0.3 * s))).astype(float)
        columns = {
            "y": away + 0.5 * x + 0.7 * s + random.normal(0, 1, n),
            "died": died,
            "ward": died.astype(np.int32),
            "k": random.poisson(np.exp(0.3 + 0.2 * x)) * 1.0,
            "x": x.copy(),
            "t": np.round(random.exponential(10, n) * np.exp(-0.3 * x), 1) + 0.1,
            "s": s.astype(np.int32),
            "g": random.integers(0, 3, n).astype(np.int32),
        }
        columns["x"][random.uniform(size=n) < 0.15] = np.nan
        tables.append(Table(VARIABLES, columns))
    return tables


def meta(asked: Mapping[str, Any], sites: list[Table], limits: Disclosure = OPEN) -> dict[str, Any]:
    return run_by_site(Meta(), asked, sites, limits)


def effect(
    asked: Mapping[str, Any], sites: list[Table], limits: Disclosure = OPEN
) -> dict[str, Any]:
    return run_by_site(find("stats.meta"), asked, sites, limits)


def frame_of(table: Table) -> pd.DataFrame:
    return pd.DataFrame(dict(table.columns)).dropna()


def refused(
    asked: Mapping[str, Any],
    sites: list[Table],
    limits: Disclosure = OPEN,
    name: str = "models.meta",
) -> str:
    with pytest.raises(CohortiumError) as caught:
        run_by_site(find(name), asked, sites, limits)
    return caught.value.code


def statuses(found: dict[str, Any]) -> list[str]:
    return [str(one["status"]) for one in found["institutions"]]


# The estimates


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 160), min_size=2, max_size=4),
    family=st.sampled_from(["binomial", "gaussian", "poisson"]),
    errors=st.sampled_from(["model", "HC0"]),
    floor=st.sampled_from(["site", "total"]),
    method=st.sampled_from(["REML", "DL"]),
)
def test_each_institutions_model_is_statsmodels_on_its_rows(
    seed: int, sizes: list[int], family: str, errors: str, floor: Any, method: str
) -> None:
    smf = pytest.importorskip("statsmodels.formula.api")
    families = pytest.importorskip("statsmodels.api").families
    assume(sum(size >= 100 for size in sizes) >= 2)
    sites = people(seed, sizes)
    outcome = {"binomial": "died", "gaussian": "y", "poisson": "k"}[family]
    asked = {"formula": f"{outcome} ~ x + s", "family": family, "errors": errors}
    limits = Disclosure(by_site=True, floor=floor)
    try:
        found = meta({"glm": asked, "method": method}, sites, limits)
    except PolicyRefusal:
        assume(False)
    told = [at for at, status in enumerate(statuses(found)) if status == "estimated"]
    assert len(told) >= 2
    of = {"binomial": families.Binomial, "poisson": families.Poisson, "gaussian": families.Gaussian}
    for at in told:
        rows = frame_of(sites[at])
        fit = smf.glm(f"{outcome} ~ x + C(s)", rows, family=of[family]()).fit(
            tol=1e-14, maxiter=100, **({} if errors == "model" else {"cov_type": "HC0"})
        )
        one = found["institutions"][at]
        assert one["n"] == len(rows)
        order = [fit.params.index.get_loc(name) for name in ("Intercept", "C(s)[T.1]", "x")]
        place = [found["terms"].index(name) for name in ("Intercept", "s[T.b]", "x")]
        expected = fit.params.to_numpy()[order]
        assert np.array(one["params"])[place] == pytest.approx(expected, rel=1e-6, abs=1e-8)
        cov = fit.cov_params().to_numpy()[np.ix_(order, order)]
        scale = float(np.abs(cov).max())
        assert np.array(one["cov"])[np.ix_(place, place)] == pytest.approx(
            cov, rel=1e-5, abs=1e-6 * scale
        )
    for j, body in enumerate(found["pooled"]):
        beta, errs = (
            np.array([found["institutions"][at][key][j] for at in told])
            for key in ("params", "bse")
        )
        expected_pool = pool(beta, errs**2, method=method)  # type: ignore[arg-type]
        assert Pooled.of_json(body).random.estimate == pytest.approx(expected_pool.random.estimate)
        assert Pooled.of_json(body).tau2 == pytest.approx(expected_pool.tau2)


def test_each_institutions_cox_model_is_lifelines_on_its_rows() -> None:
    lifelines = pytest.importorskip("lifelines")
    sites = people(3, [160, 120, 200, 20])
    asked = {"formula": "x + s", "time": "t", "event": "ward", "event_level": "died"}
    found = meta({"cox": asked}, sites)
    assert statuses(found) == ["estimated"] * 3 + ["withheld"]
    for table, one in zip(sites, found["institutions"][:3], strict=False):
        rows = frame_of(table)[["x", "s", "t", "died"]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = lifelines.CoxPHFitter().fit(rows, "t", "died", fit_options={"precision": 1e-12})
        place = [found["terms"].index(name) for name in ("x", "s[T.b]")]
        expected = fit.params_[["x", "s"]].to_numpy()
        assert np.array(one["params"])[place] == pytest.approx(expected, rel=1e-6)
        assert np.array(one["bse"])[place] == pytest.approx(
            fit.standard_errors_[["x", "s"]].to_numpy(), rel=1e-6
        )
        assert (one["n"], one["n_events"]) == (len(rows), int(rows["died"].sum()))
    assert found["n_events"] == sum(one["n_events"] for one in found["institutions"][:3])


def test_all_coefficients_together_are_those_of_the_pooled_rows() -> None:
    # One model of all rows with an intercept and a slope of s in each institution; of x one slope
    smf = pytest.importorskip("statsmodels.formula.api")
    sites = people(8, [150, 200])
    found = meta({"glm": {"formula": "y ~ x", "family": "gaussian"}}, sites)
    weights = np.stack([np.linalg.inv(one["cov"]) for one in found["institutions"]])
    beta = np.array([one["params"] for one in found["institutions"]])
    expected = np.linalg.solve(weights.sum(axis=0), np.einsum("kij,kj->i", weights, beta))
    assert found["joint"]["params"] == pytest.approx(expected, rel=1e-9)
    assert found["joint"]["q_df"] == 2
    fits = [smf.ols("y ~ x", frame_of(table)).fit() for table in sites]
    shift = fits[0].params - fits[1].params
    both = fits[0].cov_params() + fits[1].cov_params()
    assert found["joint"]["q"] == pytest.approx(float(shift @ np.linalg.solve(both, shift)))


# Published meta-analyses

BCG = """
4 119 11 128, 6 300 29 274, 3 228 11 209, 62 13536 248 12619, 33 5036 47 5761, 180 1361 372 1079,
8 2537 10 619, 505 87886 499 87892, 29 7470 45 7232, 17 1699 65 1600, 186 50448 141 27197,
5 2493 3 2338, 27 16886 29 17825
"""


def trials() -> list[Table]:
    variables = {
        "tb": Variable(name="tb", type=VariableType.INTEGER),
        "arm": Variable(name="arm", type=VariableType.CATEGORY, levels=("vaccine", "none")),
    }
    tables = []
    for line in BCG.replace("\n", " ").split(","):
        a, b, c, d = map(int, line.split())
        arm = np.repeat(np.array([0, 1], dtype=np.int32), [a + b, c + d])
        tables.append(
            Table(variables, {"tb": np.repeat([1.0, 0.0, 1.0, 0.0], [a, b, c, d]), "arm": arm})
        )
    return tables


@pytest.mark.parametrize(
    ("name", "mean", "tau2", "i2", "q"),
    [
        ("risk-ratio", (-0.7145, 0.1798, -1.0669, -0.3622), (0.3132, 0.1664), 92.22, 152.2330),
        ("odds-ratio", (-0.7452, 0.1860, -1.1098, -0.3806), (0.3378, 0.1784), 92.07, 163.1649),
    ],
)
def test_vaccine_trials_as_institutions_equal_metafor(
    name: str, mean: tuple[float, ...], tau2: tuple[float, float], i2: float, q: float
) -> None:
    # rma(measure="RR" and "OR", ai=tpos, bi=tneg, ci=cpos, di=cneg, data=dat.bcg) of R's metafor
    found = effect({"variable": "tb", "by": "arm", "effect": name}, trials(), SMALL)
    one = Pooled.of_json(found["pooled"][0])
    random = one.random
    shown = (random.estimate, random.standard_error, random.low, random.high)
    assert tuple(round(value, 4) for value in shown) == mean
    assert (round(one.tau2, 4), round(one.tau2_se, 4)) == tau2
    assert (round(100 * one.i2, 2), round(one.q, 4)) == (i2, q)
    if name == "risk-ratio":  # confint() of that model
        assert (round(one.tau2_low, 4), round(one.tau2_high, 4)) == (0.1197, 1.1115)
        assert (round(100 * one.i2_low, 2), round(100 * one.i2_high, 2)) == (81.92, 97.68)


# Normand 1999, Stat. Med. 18:321, length of stay of stroke patients: metafor's dat.normand1999
STROKE = """
155 55 47 156 75 64, 31 27 7 32 29 4, 75 64 17 71 119 29, 18 66 20 18 137 48, 8 14 8 13 18 11,
57 19 7 52 18 4, 34 52 45 33 41 34, 110 21 16 183 31 27, 60 30 27 52 23 20
"""


@pytest.mark.parametrize(
    ("name", "mean", "tau2", "q"),
    [
        ("smd", (-0.5371, 0.3087, -1.1421, 0.0679), (0.7908, 0.4281), 123.7293),
        ("mean-difference", (-15.1060, 8.9466, -32.6409, 2.4289), (684.6462, 359.7541), 238.9158),
    ],
)
def test_lengths_of_stay_equal_metafor(
    name: str, mean: tuple[float, ...], tau2: tuple[float, float], q: float
) -> None:
    # rma(measure="SMD" and "MD", m1i=m1i, ..., data=dat.normand1999)
    variables = {
        "days": Variable(name="days", type=VariableType.REAL),
        "care": Variable(name="care", type=VariableType.BOOLEAN),
    }
    random, sites = np.random.default_rng(1), []
    for line in STROKE.replace("\n", " ").split(","):
        n1, m1, s1, n2, m2, s2 = map(int, line.split())
        groups = []
        for n, mean_of, sd in ((n1, m1, s1), (n2, m2, s2)):
            z = random.normal(size=n)
            groups.append(mean_of + sd * (z - z.mean()) / z.std(ddof=1))
        care = np.repeat([1.0, 0.0], [n1, n2])
        sites.append(Table(variables, {"days": np.concatenate(groups), "care": care}))
    asked = {"variable": "days", "by": "care", "effect": name, "levels": ["true", "false"]}
    found = effect(asked, sites, SMALL)
    one = Pooled.of_json(found["pooled"][0])
    random_mean = one.random
    shown = (
        random_mean.estimate,
        random_mean.standard_error,
        random_mean.low,
        random_mean.high,
    )
    assert tuple(round(value, 4) for value in shown) == mean
    assert (round(one.tau2, 4), round(one.tau2_se, 4), round(one.q, 4)) == (*tau2, q)
    if name == "smd":  # escalc()'s first rows
        first = found["institutions"][0]
        assert round(first["params"][0], 4) == -0.3552
        assert round(first["cov"][0][0], 4) == 0.0131


def test_an_empty_cell_gets_a_half_and_nothing_to_compare_is_withheld() -> None:
    variables = {
        "e": Variable(name="e", type=VariableType.CATEGORY, levels=("no", "yes")),
        "g": Variable(name="g", type=VariableType.BOOLEAN),
    }

    def site(cells: list[int]) -> Table:
        e = np.repeat(np.array([1, 0, 1, 0], dtype=np.int32), cells)
        return Table(variables, {"e": e, "g": np.repeat([1.0, 1.0, 0.0, 0.0], cells)})

    sites = [site([0, 20, 9, 11]), site([8, 12, 10, 10]), site([0, 20, 0, 20])]
    asked = {"variable": "e", "by": "g", "effect": "odds-ratio", "levels": ["true", "false"]}
    found = effect(asked, sites)
    assert statuses(found) == ["estimated", "estimated", "withheld"]
    first = found["institutions"][0]
    # Haldane 1956
    assert first["params"][0] == pytest.approx(math.log(0.5 / 20.5 / (9.5 / 11.5)))
    assert first["bse"][0] == pytest.approx(math.sqrt(1 / 0.5 + 1 / 20.5 + 1 / 9.5 + 1 / 11.5))
    risk = effect({**asked, "effect": "risk-difference"}, sites[1:2] * 2)
    assert risk["institutions"][0]["params"][0] == pytest.approx(8 / 20 - 10 / 20)
    variance = 0.4 * 0.6 / 20 + 0.5 * 0.5 / 20
    assert risk["institutions"][0]["cov"][0][0] == pytest.approx(variance)


def test_the_order_of_institutions_does_not_matter() -> None:
    sites = people(2, [120, 150, 180])
    for asked in (
        {"glm": {"formula": "died ~ x + s", "family": "binomial"}},
        {"cox": {"formula": "x", "time": "t", "event": "died"}},
    ):
        one, other = (meta(asked, order) for order in (sites, sites[::-1]))
        for left, right in zip(one["pooled"], other["pooled"], strict=True):
            assert left["random"] == pytest.approx(right["random"], rel=1e-10)
            assert left["tau2"] == pytest.approx(right["tau2"], rel=1e-8, abs=1e-12)


# What is withheld and refused

GLM = {"glm": {"formula": "died ~ x + s", "family": "binomial"}}
COX = {"cox": {"formula": "x + s", "time": "t", "event": "died"}}
MEANS = {"variable": "y", "by": "s", "effect": "smd"}
RISKS = {"variable": "died", "by": "s", "effect": "odds-ratio"}


@pytest.mark.parametrize(
    "how", ["few", "level", "mark", "alike", "separated", "constant", "parameters", "missing"]
)
def test_an_institution_that_cannot_tell_of_its_own_is_listed_as_withholding(how: str) -> None:
    sites = people(4, [150, 150, 150])
    first = {name: column.copy() for name, column in sites[0].columns.items()}
    first["x"] = np.linspace(-1, 1, 150)
    rare = (np.arange(150) < 3).astype(np.float64)
    if how == "few":
        sites[0] = sites[0].take(np.arange(150) < 4)
    elif how == "level":
        first["s"] = rare.astype(np.int32)
    elif how == "mark":
        first["died"] = rare
    elif how == "alike":
        first["s"] = (np.arange(150) < 75).astype(np.int32)
        first["x"] = (np.arange(150) < 73).astype(np.float64)
    elif how == "separated":
        first["x"] = first["died"] * 2 - 1 + 0.001 * np.arange(150)
    elif how == "constant":
        first["x"][:] = 1.0
    elif how == "parameters":
        sites[0] = sites[0].take(np.arange(150) < 25)
    else:
        first["x"][:] = np.nan
    if how not in {"few", "parameters"}:
        sites[0] = Table(VARIABLES, first)
    limits = Disclosure(by_site=True, floor="site")
    found = meta(GLM, sites, limits)
    assert statuses(found) == ["withheld", "estimated", "estimated"]
    assert "params" not in found["institutions"][0]
    assert found["n_sites_contributing"] == 2
    assert found["suppressed"] == ["site 0: its own estimate"]
    alone = meta(GLM, sites[1:], limits)
    assert found["pooled"] == alone["pooled"]


@pytest.mark.parametrize("how", ["group", "third", "cell", "equal"])
def test_an_effect_that_tells_of_few_persons_of_an_institution_is_withheld(how: str) -> None:
    sites = people(4, [150, 150, 150])
    first = {name: column.copy() for name, column in sites[0].columns.items()}
    rare = np.arange(150) < 3
    asked: dict[str, Any] = dict(RISKS if how == "cell" else MEANS)
    if how == "group":
        first["s"] = rare.astype(np.int32)
    elif how == "third":
        first["g"] = np.where(rare, 2, np.arange(150) % 2).astype(np.int32)
        asked |= {"by": "g", "levels": ["u", "v"]}
    elif how == "cell":
        first["s"] = (np.arange(150) < 70).astype(np.int32)
        first["died"] = np.where(np.arange(150) < 67, 1.0, np.arange(150) % 2)
    else:
        first["y"][:] = 2.0
    sites[0] = Table(VARIABLES, first)
    assert statuses(effect(asked, sites)) == ["withheld", "estimated", "estimated"]


def test_contracts_that_keep_institutions_together_are_refused() -> None:
    sites = people(4, [150, 150])
    for asked, name in (
        (GLM, "models.meta"),
        (COX, "models.meta"),
        (MEANS, "stats.meta"),
        (RISKS, "stats.meta"),
    ):
        assert refused(asked, sites, Disclosure(), name) == "not-permitted"
        assert refused(asked, sites, Disclosure(by_site=True, rounding=5), name) == "not-permitted"
        one = [sites[0], sites[1].take(np.arange(150) < 3)]
        assert refused(asked, one, Disclosure(by_site=True, floor="site"), name) == "too-few-sites"
        assert refused(asked, sites, Disclosure(by_site=True, min_cohort=400), name) == (
            "too-few-sites"
        )
    rule = Disclosure(by_site=True, dominance=Dominance(largest=1, percent=0.5))
    gaussian = {"glm": {"formula": "y ~ x", "family": "gaussian"}}
    assert refused(gaussian, sites, rule) == "too-few-sites"
    assert refused(MEANS, sites, rule, "stats.meta") == "too-few-sites"


def test_a_site_whose_policy_keeps_its_numbers_withholds() -> None:
    sites = people(4, [150, 150])
    analysis: AnyAnalysis = Meta()
    params = parse_params(analysis, GLM)
    scope = Scope(VARIABLES, Disclosure(), 2, ("a", "b"), site=0)
    state = analysis.start(params, replace(scope, disclosure=OPEN))
    out = analysis.local(sites[0], state, params, scope)
    assert out["status"].tolist() == [2, 0]
    assert not any(out[name].any() for name in ("persons", "estimates", "covariances"))


def test_what_institutions_leave_of_a_joint_result_is_not_few_persons() -> None:
    sites = people(4, [150, 150, 150])
    sites[2] = sites[2].take(np.arange(150) < 3)
    complete = [
        Table(VARIABLES, {**t.columns, "x": np.nan_to_num(t.columns["x"], nan=0.5)}) for t in sites
    ]
    assert refused(GLM, complete, Disclosure(by_site=True, floor="total")) == "too-few-persons"
    # With the floor of each site these three are in no joint result either.
    found = meta(GLM, complete, Disclosure(by_site=True, floor="site"))
    assert statuses(found) == ["estimated", "estimated", "withheld"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "bad-input"),
        ({**GLM, **COX}, "bad-input"),
        ({"glm": {"formula": "died ~ x", "family": "binomial", "errors": "site"}}, "bad-input"),
        ({"cox": {**COX["cox"], "baseline": "pooled"}}, "bad-input"),
        ({"glm": {"formula": "nobody ~ x"}}, "not-found"),
        ({"glm": {"formula": "died ~ ", "family": "binomial"}}, "bad-formula"),
        ({"glm": {"formula": "y ~ x", "family": "binomial"}}, "bad-input"),
        ({**GLM, "method": "EB"}, "bad-input"),
        ({**GLM, "confidence": 1.0}, "bad-input"),
    ],
)
def test_models_that_do_not_fit_are_refused(asked: dict[str, Any], code: str) -> None:
    assert refused(asked, people(4, [150, 150])) == code


@pytest.mark.parametrize(
    "asked",
    [
        {**MEANS, "by": "y"},
        {**MEANS, "by": "g"},
        {**MEANS, "levels": ["a", "z"]},
        {**MEANS, "variable": "s", "by": "g"},
        {**MEANS, "event_level": "a"},
        {**RISKS, "variable": "x"},
        {**RISKS, "variable": "k"},
        {**RISKS, "variable": "g"},
        {**RISKS, "event_level": "a"},
        {**RISKS, "effect": "hazard-ratio"},
    ],
)
def test_effects_that_do_not_fit_are_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        effect(asked, people(4, [150, 150]))


@pytest.mark.parametrize("name", ["models.meta", "stats.meta"])
def test_a_state_and_a_sum_that_are_not_as_agreed_are_refused(name: str) -> None:
    analysis: AnyAnalysis = find(name)
    params = parse_params(analysis, GLM if name == "models.meta" else MEANS)
    scope = Scope(VARIABLES, OPEN, 2, ("a", "b"), site=0)
    table = people(4, [150])[0]
    for bad in (State({"phase": "other"}), State({})):
        for use in (
            lambda bad=bad: analysis.layout(bad, params, scope),
            lambda bad=bad: analysis.local(table, bad, params, scope),
        ):
            with pytest.raises(ProtocolError):
                use()
    with pytest.raises(ProtocolError):
        analysis.narrowed(params, 1)  # type: ignore[attr-defined]
    state = analysis.start(params, scope)
    out = dict(analysis.local(table, state, params, scope))
    with pytest.raises(ProtocolError):
        analysis.finish({**out, "status": np.array([1, 7])}, state, params, scope)
    with pytest.raises(ProtocolError):
        analysis.finish({**out, "status": np.array([1, 1])}, state, params, scope)
    assert analysis.column("estimates", 0, params, scope)  # type: ignore[attr-defined]
    assert analysis.column("covariances", 0, params, scope)  # type: ignore[attr-defined]
