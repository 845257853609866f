"""A Cox model over sites is that of everybody together: of lifelines, and by hand from records."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.federation import run_pooled_sum
from tests.support.frames import pooled, split

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

lifelines = pytest.importorskip("lifelines")

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="t", type=VariableType.REAL, unit="months", decimals=1),
        Variable(name="died", type=VariableType.BOOLEAN),
        Variable(name="came", type=VariableType.REAL),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="z", type=VariableType.REAL),
        Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c")),
        Variable(name="g", type=VariableType.CATEGORY, levels=("u", "v")),
    )
}
FORMULA = "x + z + s"
TERMS = ["s[T.b]", "s[T.c]", "x", "z"]


def people(seed: int, n: int, per_unit: float) -> Table:
    """Times on a grid, with few ties or many; some values missing."""
    random = np.random.default_rng(seed)
    x, z = random.normal(size=n), random.normal(3.0, 2.0, n)
    s, g = random.integers(0, 3, n), random.integers(0, 2, n)
    rate = np.exp(0.5 * x - 0.3 * z + np.array([0.0, 0.4, -0.4])[s] + 0.3 * g)
    event, censored = random.exponential(10 / rate), random.exponential(20, n)
    t = np.ceil(np.minimum(event, censored) * per_unit) / per_unit
    came = np.where(random.uniform(size=n) < 0.3, t * random.uniform(0, 0.9, n), 0.0)
    x[random.uniform(size=n) < 0.05] = np.nan
    return Table(
        VARIABLES,
        {
            "t": t,
            "died": (event <= censored).astype(float),
            "came": came,
            "x": x,
            "z": z,
            "s": s.astype(np.int32),
            "g": g.astype(np.int32),
        },
    )


def frame_of(tables: list[Table]) -> pd.DataFrame:
    """Complete rows, with the site."""
    table = pooled(tables)
    frame = pd.DataFrame({name: table.columns[name] for name in ("t", "died", "came", "x", "z")})
    for level in (1, 2):
        frame[f"s[T.{'abc'[level]}]"] = (table.columns["s"] == level).astype(float)
    frame["g"] = table.columns["g"]
    frame["site"] = np.repeat(np.arange(len(tables)), [one.n_rows for one in tables])
    return frame.dropna()


def fit(frame: pd.DataFrame, strata: list[str], *, entry: bool = False, **options: Any) -> Any:
    """lifelines' fit, to convergence."""
    columns = ["t", "died", *(["came"] if entry else []), *TERMS, *strata]
    model = lifelines.CoxPHFitter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(
            frame[columns],
            "t",
            "died",
            strata=strata or None,
            entry_col="came" if entry else None,
            fit_options={"precision": 1e-13, "r_precision": 1e-15},
            **options,
        )
    return model


def ours(sites: list[Table], limits: Disclosure, **params: Any) -> dict[str, Any]:
    asked = {"time": "t", "event": "died", "formula": FORMULA, **params}
    return dict(run_pooled_sum(find("survival.cox"), asked, sites, limits).result)


def agree(result: dict[str, Any], model: Any, rel: float = 2e-6) -> None:
    """As far as lifelines converges; `test_what_the_last_round_adds` asks for more."""
    at = [result["terms"].index(term) for term in TERMS]
    expected, bse = model.params_[TERMS].to_numpy(), model.standard_errors_[TERMS].to_numpy()
    assert np.all(np.abs(np.array(result["params"])[at] - expected) < rel * bse)
    assert np.array(result["bse"])[at] == pytest.approx(bse, rel=rel)
    assert result["loglik"] == pytest.approx(model.log_likelihood_, rel=1e-10)
    test = model.log_likelihood_ratio_test()
    assert result["tests"][0]["statistic"] == pytest.approx(test.test_statistic, rel=1e-6)
    cov = model.variance_matrix_.loc[TERMS, TERMS].to_numpy()
    scale = np.outer(bse, bse)
    assert np.allclose(np.array(result["cov"])[np.ix_(at, at)] / scale, cov / scale, atol=rel)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 150), min_size=2, max_size=4),
    per_unit=st.sampled_from([10.0, 1.0]),
    baseline=st.sampled_from(["site", "pooled"]),
    strata=st.sampled_from([[], ["g"]]),
    floor=st.sampled_from(["site", "total"]),
)
def test_the_federated_model_is_the_pooled_one(
    seed: int, sizes: list[int], per_unit: float, baseline: str, strata: list[str], floor: Any
) -> None:
    assume(sum(size >= 60 for size in sizes) >= 2)
    sites = split(people(seed, sum(sizes), per_unit), sizes)
    limits = Disclosure(min_cell=1, floor=floor, persons_per_parameter=2)
    result = ours(sites, limits, baseline=baseline, strata=strata)
    frame = frame_of(sites)
    model = fit(frame, [*strata, *(["site"] if baseline == "site" else [])])
    agree(result, model)
    assert (result["n"], result["n_events"]) == (len(frame), frame["died"].sum())
    assert result["n_missing"] == sum(sizes) - len(frame)
    assert baseline == "site" or result["grid"]["exact"]


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32), strata=st.sampled_from([[], ["g"]]))
def test_persons_who_enter_late_are_at_risk_from_then_on(seed: int, strata: list[str]) -> None:
    sites = split(people(seed, 300, 10.0), [140, 160])
    result = ours(sites, Disclosure(), entry="came", strata=strata)
    model = fit(frame_of(sites), [*strata, "site"], entry=True)
    expected = model.params_[result["terms"]].to_numpy()
    assert result["params"] == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert result["bse"] == pytest.approx(model.standard_errors_[result["terms"]], rel=1e-6)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    baseline=st.sampled_from(["site", "pooled"]),
    ties=st.sampled_from(["efron", "breslow"]),
    per_unit=st.sampled_from([10.0, 1.0]),
)
def test_what_the_last_round_adds_is_that_of_records(
    seed: int, baseline: str, ties: str, per_unit: float
) -> None:
    """Both ties, the sandwich, proportionality and pairs, by loops over persons."""
    sites = split(people(seed, 120, per_unit), [50, 70])
    limits = Disclosure(min_cell=1, persons_per_parameter=1)
    result = ours(
        sites, limits, baseline=baseline, ties=ties, robust=baseline == "site", transform="identity"
    )
    frame = frame_of(sites)
    frame["stratum"] = frame["site"] if baseline == "site" else 0
    x = frame[result["terms"]].to_numpy()
    beta = np.array(result["params"])
    residuals, loglik, drift, parts = by_hand(frame, x, beta, ties)
    naive = np.linalg.inv(parts[0])
    left_to_go = naive @ residuals.sum(axis=0)
    assert np.all(np.abs(left_to_go) < 1e-11 * np.sqrt(np.diag(naive)))
    assert result["loglik"] == pytest.approx(loglik, rel=1e-12)
    assert result["naive_bse"] == pytest.approx(np.sqrt(np.diag(naive)), rel=1e-9)
    meat = residuals.T @ residuals
    cov = naive @ meat @ naive if baseline == "site" else naive
    assert np.array(result["cov"]) == pytest.approx(cov, rel=1e-7, abs=1e-10)
    left = parts[2] - parts[1] @ naive @ parts[1]
    tests = result["proportionality"]["tests"]
    assert tests[-1]["statistic"] == pytest.approx(drift @ np.linalg.solve(left, drift), rel=1e-7)
    singles = [one["statistic"] for one in tests[:-1]]
    assert singles == pytest.approx(drift**2 / np.diag(left), rel=1e-7)
    pairs = result["concordance"]
    counted = [0, 0, 0]
    for _, site in frame.groupby("site"):
        eta = np.round(site[result["terms"]].to_numpy() @ beta, 9)
        t, died = site["t"].to_numpy(), site["died"].to_numpy()
        for i in np.flatnonzero(died):
            others = (t > t[i]) | ((t == t[i]) & (died == 0))
            counted[0] += int((others & (eta < eta[i])).sum())
            counted[1] += int((others & (eta > eta[i])).sum())
            counted[2] += int((others & (eta == eta[i])).sum())
    assert [pairs["concordant"], pairs["discordant"], pairs["tied"]] == counted


def by_hand(frame: pd.DataFrame, x: Any, beta: Any, ties: str) -> tuple[Any, float, Any, list[Any]]:
    """Score residuals, log-likelihood, drift, and the information weighted by powers of time."""
    t, died = frame["t"].to_numpy(), frame["died"].to_numpy() == 1
    stratum, w = frame["stratum"].to_numpy(), np.exp(x @ beta)
    mean = t[died].mean()
    residuals, loglik = np.zeros_like(x), 0.0
    drift, parts = np.zeros(x.shape[1]), [np.zeros((x.shape[1],) * 2) for _ in range(3)]
    for s, when in {(s, u) for s, u, d in zip(stratum, t, died, strict=True) if d}:
        at_risk = np.flatnonzero((stratum == s) & (t >= when))
        dead = at_risk[(t[at_risk] == when) & died[at_risk]]
        for step in range(len(dead)):
            share = step / len(dead) if ties == "efron" else 0.0
            weight = w.copy()
            weight[dead] *= 1 - share
            inside = weight[at_risk]
            phi = inside.sum()
            expected = inside @ x[at_risk] / phi
            away = x - expected
            variance = (away[at_risk] * inside[:, None]).T @ away[at_risk] / phi
            residuals[dead] += away[dead] / len(dead)
            residuals[at_risk] -= away[at_risk] * (inside / phi)[:, None]
            loglik += (x[dead] @ beta).mean() - np.log(phi)
            drift += (when - mean) * away[dead].mean(axis=0)
            for power in range(3):
                parts[power] += (when - mean) ** power * variance
    return residuals, loglik, drift, parts


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    ties=st.sampled_from(["efron", "breslow"]),
    strata=st.sampled_from([[], ["g"]]),
)
def test_steps_that_few_leave_are_merged_and_the_model_is_that_of_merged_times(
    seed: int, ties: str, strata: list[str]
) -> None:
    sites = split(people(seed, 400, 10.0), [100, 130, 170])
    seen: list[tuple[State, Total]] = []
    params = {"time": "t", "event": "died", "formula": FORMULA, "baseline": "pooled"}
    result = run_pooled_sum(
        find("survival.cox"),
        params | {"ties": ties, "strata": strata},
        sites,
        Disclosure(min_cell=5),
        seen=seen,
    ).result
    assert not result["grid"]["exact"]
    state, total = next((s, t) for s, t in seen if s.values["phase"] == "risk")
    frame = frame_of(sites)
    frame["g"] = frame["g"] if strata else 0
    edges, starts = state.arrays["grid_edges"], state.arrays["grid_starts"]
    cell = np.rint(frame["t"] * state.values["grid"]["scale"])
    step = np.empty(len(frame))
    for s in range(len(edges) - 1):
        here = (frame["g"] == s).to_numpy()
        step[here] = np.searchsorted(starts[edges[s] : edges[s + 1]], cell[here], side="right")
    events, leaving = np.asarray(total["events"])
    others = leaving - events
    assert leaving.min() >= 5
    if ties == "efron":
        assert np.all((events == 1) | (events >= 5))
        assert np.all((events == 1) | (others == 0) | (others >= 5))
        single = events == 1
        assert len(total["dying"]) == np.count_nonzero(~single)
    # Who is censored in a step leaves after its events.
    frame["t"] = 1 + step + np.where(frame["died"] == 1, 0.0, 0.5)
    frame["stratum"] = frame["g"]
    if ties == "efron":
        model = fit(frame, strata)
        expected, error = model.params_[result["terms"]], model.standard_errors_[result["terms"]]
        assert result["params"] == pytest.approx(expected.to_numpy(), rel=1e-6, abs=1e-7)
        assert result["bse"] == pytest.approx(error.to_numpy(), rel=1e-6)
        return
    x, beta = frame[result["terms"]].to_numpy(), np.array(result["params"])
    residuals, loglik, _, parts = by_hand(frame, x, beta, ties)
    assert np.abs(residuals.sum(axis=0)).max() < 1e-8 * len(frame)
    assert result["loglik"] == pytest.approx(loglik, rel=1e-11)
    assert result["bse"] == pytest.approx(np.sqrt(np.diag(np.linalg.inv(parts[0]))), rel=1e-9)


def test_the_baseline_hazard_is_lifelines() -> None:
    sites = split(people(3, 300, 1.0), [140, 160])
    limits = Disclosure(min_cell=1)
    result = ours(sites, limits, baseline="pooled", ties="breslow")
    model = fit(frame_of(sites), [])
    (curve,) = result["baseline_hazard"]
    hazard = model.baseline_cumulative_hazard_.iloc[:, 0]
    # lifelines sums d / S0 at Efron's estimate: near Breslow's own.
    at = hazard.index.searchsorted(np.array(curve["time"]) + 1e-9, side="right") - 1
    assert curve["cumulative_hazard"] == pytest.approx(hazard.to_numpy()[at], rel=0.1)
    frame = frame_of(sites)
    x = frame[result["terms"]].to_numpy()
    w = np.exp((x - x.mean(axis=0)) @ np.array(result["params"]))
    t, died = frame["t"].to_numpy(), frame["died"].to_numpy() == 1
    steps = {u: died[t == u].sum() / w[t >= u].sum() for u in np.unique(t[died])}
    expected = [sum(h for u, h in steps.items() if u <= until) for until in curve["time"]]
    assert curve["cumulative_hazard"] == pytest.approx(expected, rel=1e-10)
    assert set(curve["time"]) >= set(steps)


@pytest.mark.parametrize("baseline", ["site", "pooled"])
def test_scales_and_the_order_of_sites_do_not_matter(baseline: str) -> None:
    table = people(11, 400, 1.0)
    limits = Disclosure(min_cell=1)
    sites = split(table, [100, 180, 120])
    one = ours(sites, limits, baseline=baseline)
    assert ours(sites[::-1], limits, baseline=baseline) == one
    odd = {**table.columns, "x": table.columns["x"] * 1e-9, "z": table.columns["z"] * 1e6 + 1e9}
    far = ours(split(Table(VARIABLES, odd), [100, 180, 120]), limits, baseline=baseline)
    unit = {"x": 1e-9, "z": 1e6}
    for j, term in enumerate(one["terms"]):
        factor = unit.get(term, 1.0)
        assert far["params"][j] * factor == pytest.approx(one["params"][j], rel=1e-7, abs=1e-8)
        assert far["bse"][j] * factor == pytest.approx(one["bse"][j], rel=1e-7)
