"""Chained equations over sites are those on everybody's rows, with the same draws."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from tests.support.federation import run_pooled_sum, through_the_wire
from tests.support.frames import split

from cohortium.analysis.interface import Continue, Scope
from cohortium.analysis.mice import Mice, MiceParams
from cohortium.analysis.mice_model import Plan
from cohortium.analysis.philox import Key, key_of, normals, uniforms
from cohortium.analysis.rubin import pool
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

sm = pytest.importorskip("statsmodels.api")

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="y", type=VariableType.REAL),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="b", type=VariableType.BOOLEAN),
        Variable(name="s", type=VariableType.CATEGORY, levels=("p", "q", "r")),
        Variable(name="k", type=VariableType.INTEGER),
    )
}
SIZES = [150, 90, 160]


def people(seed: int, n: int = sum(SIZES)) -> Table:
    random = np.random.default_rng(seed)
    x = random.normal(50, 10, n)
    b = (random.uniform(size=n) < special.expit((x - 50) / 10)).astype(float)
    s = random.integers(0, 3, n).astype(np.int32)
    y = 1 + 0.1 * x + 0.5 * b + 0.3 * s + random.normal(size=n)
    k = random.poisson(2, n).astype(float)
    x[random.uniform(size=n) < 0.5 * special.expit(y - 6)] = np.nan
    b[random.uniform(size=n) < 0.15] = np.nan
    s[random.uniform(size=n) < 0.1] = -1
    return Table(VARIABLES, {"y": y, "x": x, "b": b, "s": s, "k": k})


def by_outcome(table: Table, plan: Plan, site: str) -> tuple[Key, np.ndarray[Any, Any]]:
    """Noise that a person has wherever they are."""
    del plan, site
    bits = np.ascontiguousarray(table.columns["y"]).view(np.uint64)
    return key_of(b"test"), ((bits >> np.uint64(8)) % np.uint64(2**31)).astype(np.int64)


def run(tables: list[Table], limits: Disclosure | None = None, **params: Any) -> dict[str, Any]:
    analysis = Mice(by_outcome)
    asked = {"formula": "y ~ x + b", "m": 3, "iterations": 2, **params}
    return dict(run_pooled_sum(analysis, asked, tables, limits or Disclosure()).result)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32), floor=st.sampled_from(["site", "total"]))
def test_where_the_persons_are_makes_no_difference(seed: int, floor: Any) -> None:
    table = people(seed)
    asked = {"formula": "y ~ x + b + s", "auxiliary": ["k"], "seed": seed}
    limits = Disclosure(floor=floor)
    three = run(split(table, SIZES), limits, **asked)
    turned = run(split(table, SIZES)[::-1], limits, **asked)
    two = run(split(table, [200, 200]), limits, **asked)
    for other in (turned, two):
        for name in ("params", "bse", "df", "fmi"):
            assert other[name] == pytest.approx(three[name], rel=1e-7), name
        assert other["imputed"] == three["imputed"]
    assert [one["method"] for one in three["imputed"]].count("polyreg") == 1


def test_it_is_the_chain_on_everybodys_rows() -> None:
    """Another program of the same algorithm, with statsmodels' models, in one place."""
    table, m, iterations, seed = people(5), 3, 3, 7
    ours = run(split(table, SIZES), m=m, iterations=iterations, seed=seed)
    y, x, b = (table.columns[name] for name in ("y", "x", "b"))
    no_x, no_b = np.isnan(x), np.isnan(b)
    order = sorted([("x", no_x.sum(), 1), ("b", no_b.sum(), 0)], key=lambda one: one[1:])
    key, who = by_outcome(table, None, "")  # type: ignore[arg-type]
    drawn = key_of(f"cohortium missing.mice parameters {seed}".encode())
    mx, sx, mb = np.nanmean(x), np.nanstd(x), np.nanmean(b)
    sb = np.nanstd(b)
    zy = (y - y.mean()) / y.std()
    place = {"b": 0, "x": 1, "y": 2}
    fits = []
    for chain in range(m):
        cx, cb = x.copy(), b.copy()
        cx[no_x] = mx + sx * normals(key, who[no_x], (0, place["x"], chain))
        cb[no_b] = uniforms(key, who[no_b], (0, place["b"], chain)) > 1 - mb
        for step in range(1, iterations + 1):
            for name, _, _ in order:
                where = (step, place[name], chain)
                if name == "x":
                    design = np.column_stack([np.ones(len(y)), (cb - mb) / sb, zy])
                    fit = sm.OLS((x[~no_x] - mx) / sx, design[~no_x]).fit()
                    u = uniforms(drawn, np.array([2**31]), where)[0]
                    chi2 = 2 * special.gammaincinv(fit.df_resid / 2, u)
                    sigma = np.sqrt(fit.ssr / chi2)
                    root = _root(fit.normalized_cov_params)
                    beta = fit.params + sigma * root @ normals(drawn, np.arange(3), where)
                    noise = normals(key, who[no_x], where)
                    cx[no_x] = mx + sx * (design[no_x] @ beta + sigma * noise)
                else:
                    design = np.column_stack([np.ones(len(y)), (cx - mx) / sx, zy])
                    fit = sm.Logit(b[~no_b], design[~no_b]).fit(disp=0, tol=1e-12)
                    root = _root(fit.cov_params())
                    beta = fit.params + root @ normals(drawn, np.arange(3), where)
                    chance = special.expit(design[no_b] @ beta)
                    cb[no_b] = uniforms(key, who[no_b], where) > 1 - chance
        fits.append(sm.OLS(y, np.column_stack([np.ones(len(y)), cx, cb])).fit())
    theirs = pool(
        np.array([fit.params for fit in fits]),
        np.array([fit.cov_params() for fit in fits]),
        fits[0].df_resid,
    )
    assert ours["params"] == pytest.approx(theirs.estimate, rel=1e-3)
    assert ours["bse"] == pytest.approx(np.sqrt(np.diag(theirs.cov)), rel=1e-3)
    assert ours["fmi"] == pytest.approx(theirs.fmi, rel=1e-2)


def _root(cov: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The root of a covariance that belongs to the Cholesky factor of its inverse."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(np.linalg.inv(cov))).T)


def test_a_site_that_lost_its_memory_and_one_that_has_it_answer_alike() -> None:
    table = people(2)
    params = MiceParams(formula="y ~ x + b + s", m=2, iterations=2)
    warm = Mice()
    scope = Scope(VARIABLES, Disclosure(), 3, ("a", "b", "c"))
    state, parts = warm.start(params, scope), split(table, SIZES)
    for _ in range(200):
        received = through_the_wire(state)
        given_ = []
        for at, part in enumerate(parts):
            here = replace(scope, site=at)
            one, again = (a.local(part, received, params, here) for a in (warm, Mice()))
            assert all(np.array_equal(one[name], again[name]) for name in one)
            given_.append(one)
        total = {name: np.sum([one[name] for one in given_], axis=0) for name in given_[0]}
        step = warm.finish(total, state, params, scope)
        if not isinstance(step, Continue):
            return
        state = step.state
    pytest.fail("it did not end")


def test_estimates_are_without_bias_and_intervals_hold_the_truth() -> None:
    """Values missing at random given the outcome: complete cases are biased, imputed data not."""
    inside, slopes, complete = 0, [], []
    rounds = 40
    for seed in range(rounds):
        random = np.random.default_rng(seed)
        n = 300
        x = random.normal(size=n)
        y = 1 + x + random.normal(size=n)
        x[random.uniform(size=n) < special.expit(1.5 * y - 1.5)] = np.nan
        variables = {name: VARIABLES[name] for name in ("x", "y")}
        table = Table(variables, {"x": x, "y": y})
        there = ~np.isnan(x)
        complete.append(np.polyfit(x[there], y[there], 1)[0])
        asked = {"formula": "y ~ x", "m": 5, "iterations": 3, "seed": seed}
        result = run_pooled_sum(Mice(), asked, split(table, [120, 180])).result
        slopes.append(result["params"][1])
        inside += result["conf_low"][1] < 1 < result["conf_high"][1]
    error = np.std(slopes) / np.sqrt(rounds)
    assert abs(np.mean(slopes) - 1) < 3 * error
    assert abs(np.mean(complete) - 1) > 5 * error
    assert inside >= 34  # 38 expected; 33 or fewer happen once in a hundred


def test_it_agrees_with_statsmodels_mice() -> None:
    """The same posterior, by predictive mean matching there: near, beside the error."""
    from statsmodels.imputation import mice

    table = people(11, 800)
    frame = {name: table.columns[name] for name in ("y", "x", "k")}
    ours = run(split(table, [300, 500]), formula="y ~ x + k", m=10, iterations=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas as pd

        np.random.seed(3)  # noqa: NPY002 - statsmodels draws from it
        theirs = mice.MICE("y ~ x + k", sm.OLS, mice.MICEData(pd.DataFrame(frame))).fit(5, 10)
    assert np.all(np.abs(ours["params"] - theirs.params) < 1.5 * theirs.bse)
    assert ours["bse"] == pytest.approx(theirs.bse, rel=0.35)


def refused(tables: list[Table], **params: Any) -> CohortiumError:
    with pytest.raises((InputError, PolicyRefusal)) as caught:
        run(tables, **params)
    return caught.value


def test_what_the_data_do_not_allow_is_refused() -> None:
    table = people(3)
    full = {name: column.copy() for name, column in table.columns.items()}
    for name in ("x", "b"):
        full[name][np.isnan(full[name])] = 1.0
    full["s"][full["s"] < 0] = 0
    whole = Table(VARIABLES, full)
    error = refused(split(whole, SIZES))
    assert error.code == "bad-input"
    assert "glm" in str(error)
    few = dict(full)
    few["x"] = full["x"].copy()
    few["x"][[0, 200]] = np.nan
    assert refused(split(Table(VARIABLES, few), SIZES)).code == "bad-input"
    error = refused(split(Table(VARIABLES, few), SIZES), impute=["x"])
    assert error.code == "too-few-persons"
    assert "lack x" in str(error)
    assert refused(split(table, SIZES), impute=["s"]).code == "bad-input"
    assert refused(split(table, SIZES), formula="k ~ x", family="poisson", impute=["k"]).code
    rare = dict(table.columns)
    rare["s"] = np.where(rare["s"] == 2, 0, rare["s"]).astype(np.int32)
    rare["s"][[0, 300]] = 2
    assert refused(split(Table(VARIABLES, rare), SIZES), auxiliary=["s"]).code == "too-few-persons"
    twin = dict(table.columns)
    twin["k"] = table.columns["y"] * 2
    error = refused(split(Table(VARIABLES, twin), SIZES), auxiliary=["k"])
    assert error.code == "no-convergence"
    constant = dict(table.columns)
    constant["k"] = np.ones(table.n_rows)
    assert refused(split(Table(VARIABLES, constant), SIZES), auxiliary=["k"]).code == "bad-input"


def test_an_imputation_model_needs_persons_for_its_parameters() -> None:
    """The model that is wanted has two parameters, the one that imputes has seven."""
    tables = split(people(3, 60), [30, 30])
    asked = {"formula": "y ~ x", "auxiliary": ["b", "s", "k"]}
    error = refused(tables, **asked, limits=Disclosure(min_cell=3))
    assert error.code == "too-many-parameters"
    assert "is imputed by a model of" in str(error)
    assert run(tables, Disclosure(min_cell=3, persons_per_parameter=3, residual_df=5), **asked)


def test_few_who_lack_a_value_are_left_out_where_nobody_asks_for_them() -> None:
    table = people(4)
    columns = dict(table.columns)
    columns["y"] = table.columns["y"].copy()
    columns["y"][[1, 170, 300]] = np.nan
    analysis = Mice()
    asked = {"formula": "y ~ x + b", "m": 2, "iterations": 1}
    result = run_pooled_sum(analysis, asked, split(Table(VARIABLES, columns), SIZES)).result
    assert (result["n"], result["n_missing"]) == (397, 3)
    assert {one["variable"] for one in result["imputed"]} == {"x", "b"}


@lru_cache(maxsize=1)
def states() -> list[State]:
    """Of every round of a run."""
    seen: list[Any] = []
    asked = {"formula": "y ~ x + b + s", "m": 2, "iterations": 2}
    run_pooled_sum(Mice(), asked, split(people(1), SIZES), seen=seen)
    return [state for state, _ in seen]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_forged_state_is_a_protocol_error(data: st.DataObject) -> None:
    params = MiceParams(formula="y ~ x + b + s", m=2, iterations=2)
    state = data.draw(st.sampled_from(states()))
    values, arrays = dict(state.values), dict(state.arrays)
    name = data.draw(st.sampled_from(sorted(values) + sorted(arrays)))
    if name in values:
        junk = st.one_of(st.none(), st.integers(-3, 99), st.lists(st.integers(-2, 99), max_size=4))
        values[name] = data.draw(junk)
    else:
        array = arrays[name]
        forged = [array[:-1], array.astype(np.float32), np.full_like(array, -5)]
        if array.dtype == np.float64:
            forged += [np.full_like(array, np.nan), np.full_like(array, 1e9)]
        arrays[name] = forged[data.draw(st.integers(0, len(forged) - 1))]
    scope = Scope(VARIABLES, Disclosure(), 3)
    with contextlib.suppress(ProtocolError, InputError, PolicyRefusal):
        Mice().local(people(1, 60), State(values, arrays), params, scope)
    parts = {"drawn": [np.nan], "spread": [-1.0], "trace": []}
    for one, wrong in parts.items():
        broken = {**states()[-1].arrays, one: np.array(wrong, dtype=np.float64)}
        last = State(states()[-1].values, broken)
        with pytest.raises(ProtocolError):
            Mice().local(people(1, 60), last, params, scope)
