"""Weighting by the propensity score over sites is the pooled computation, written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.federation import run_pooled_sum
from tests.support.frames import pooled, split

from cohortium.analysis.builtin import find
from cohortium.analysis.propensity_model import EDGES
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal

VARIABLES = {
    "drug": Variable(name="drug", type=VariableType.BOOLEAN),
    "age": Variable(name="age", type=VariableType.REAL),
    "stage": Variable(name="stage", type=VariableType.CATEGORY, levels=("I", "II", "III")),
    "died": Variable(name="died", type=VariableType.BOOLEAN),
    "cost": Variable(name="cost", type=VariableType.REAL),
}
TERMS = "age + stage"
limits = st.builds(
    Disclosure, min_cell=st.sampled_from([1, 5]), floor=st.sampled_from(["site", "total"])
)


def population(seed: int, n: int, steep: float = 1.0, missing: float = 0.05) -> Table:
    rng = np.random.default_rng(seed)
    age = rng.normal(1000, 3, n)
    stage = rng.integers(0, 3, n)
    drug = rng.random(n) < 1 / (1 + np.exp(0.4 - steep * ((age - 1000) / 4 + 0.5 * (stage == 2))))
    died = rng.random(n) < 1 / (1 + np.exp(0.3 - (age - 1000) / 5 + 0.5 * drug))
    columns: dict[str, Any] = {
        "drug": drug.astype(float),
        "age": age,
        "stage": stage.astype(np.int32),
        "died": died.astype(float),
        "cost": 5e4 + 100 * age - 2000 * drug + rng.normal(0, 900, n),
    }
    for name in ("drug", "age", "died", "cost"):
        columns[name][rng.random(n) < missing] = np.nan
    columns["stage"][rng.random(n) < missing] = -1
    return Table(VARIABLES, columns)


def speaking(sites: list[Table], names: list[str], disclosure: Disclosure) -> Table:
    """Complete persons of the sites that contribute."""
    kept = []
    for site in sites:
        rows = np.ones(site.n_rows, dtype=bool)
        for name in names:
            rows &= site.present(name)
        site = site.take(rows)
        arms = [int((site.columns["drug"] == one).sum()) for one in (0, 1)]
        least = disclosure.min_cell if disclosure.floor == "site" else 0
        if site.n_rows >= least and not any(0 < count < least for count in arms):
            kept.append(site)
    return pooled(kept)


def by_hand(
    table: Table,
    outcome: str,
    estimand: str,
    trim: tuple[float, float],
    errors: str,
    *,
    doubly: bool = False,
) -> dict[str, Any]:
    """The definition, person by person."""
    stage, z, y = (table.columns[name] for name in ("stage", "drug", outcome))
    age = table.columns["age"] - 1000
    x = np.column_stack([np.ones(len(z)), stage == 1, stage == 2, age]).astype(float)
    beta = np.zeros(4)
    for _ in range(30):
        e = 1 / (1 + np.exp(-x @ beta))
        beta = beta + np.linalg.solve((x * (e * (1 - e))[:, None]).T @ x, x.T @ (z - e))
    e = 1 / (1 + np.exp(-x @ beta))
    tilt = {"ATE": np.ones_like(e), "ATT": e, "ATC": 1 - e, "ATO": e * (1 - e)}[estimand]
    slope = {"ATE": 0 * e, "ATT": 1 + 0 * e, "ATC": -1 + 0 * e, "ATO": 1 - 2 * e}[estimand]
    kept = (e >= trim[0]) & (e < trim[1])
    own = np.where(z == 1, e, 1 - e)
    w = kept * tilt / own
    # d w / d eta = e (1 - e) d(h / own) / de
    turn = e * (1 - e) * (slope / own - tilt * np.where(z == 1, 1, -1) / own**2) * kept
    information = (x * (e * (1 - e))[:, None]).T @ x
    influence, means, ess = [], [], []
    for arm in (0, 1):
        here = z == arm
        size = w @ here
        mean = (w * here) @ y / size
        psi = w * here * (y - mean)
        if doubly:
            own = kept & here
            bread = np.linalg.inv(x[own].T @ x[own])
            gamma = bread @ (x[own].T @ y[own])
            left = own * (y - x @ gamma)
            size = kept.sum()
            mean = (kept * (x @ gamma) + w * left).sum() / size
            pull = ((kept - w * here)[:, None] * x).sum(axis=0)
            psi = kept * (x @ gamma - mean) + w * left + left * (x @ bread @ pull)
        if errors == "stacked":
            along = x.T @ (turn * (left if doubly else here * (y - mean)))
            psi = psi + (x * (z - e)[:, None]) @ np.linalg.solve(information, along)
        influence.append(psi / size)
        means.append(mean)
        ess.append((w @ here) ** 2 / (w**2 @ here))
    cov = np.array(influence) @ np.array(influence).T
    smd = {}
    for name, values in (("age", age), ("stage = III", (stage == 2).astype(float))):
        v = [values[z == arm].var(ddof=1 if name == "age" else 0) for arm in (0, 1)]
        before = [values[z == arm].mean() for arm in (0, 1)]
        after = [np.average(values[z == arm], weights=w[z == arm]) for arm in (0, 1)]
        scale = np.sqrt(np.mean(v))
        smd[name] = ((before[1] - before[0]) / scale, (after[1] - after[0]) / scale)
    return {"means": means, "cov": cov, "ess": ess, "smd": smd, "e": e, "z": z, "w": w, "n": len(z)}


def run(sites: list[Table], disclosure: Disclosure, **params: Any) -> Any:
    params = {"treatment": "drug", "covariates": TERMS, **params}
    try:
        return dict(run_pooled_sum(find("causal.propensity"), params, sites, disclosure).result)
    except CohortiumError as error:
        return error


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 250), min_size=2, max_size=4),
    disclosure=limits,
    estimand=st.sampled_from(["ATE", "ATT", "ATC", "ATO"]),
    errors=st.sampled_from(["stacked", "robust"]),
    outcome=st.sampled_from(["died", "cost"]),
    trim=st.sampled_from([None, (0.0, 0.9), (0.2, 0.8)]),
    doubly=st.booleans(),
)
def test_weights_over_sites_are_those_together(
    seed: int,
    sizes: list[int],
    disclosure: Disclosure,
    estimand: str,
    errors: str,
    outcome: str,
    trim: tuple[float, float] | None,
    *,
    doubly: bool,
) -> None:
    estimand = "ATE" if doubly else estimand
    sites = split(population(seed, sum(sizes)), sizes)
    asked = {"outcome": outcome, "estimand": estimand, "errors": errors, "trim": trim}
    found = run(sites, disclosure, **asked, doubly_robust=doubly)
    if isinstance(found, CohortiumError):
        assert found.code != "malformed-message"
        return
    rows = speaking(sites, ["drug", "age", "stage", outcome], disclosure)
    hand = by_hand(rows, outcome, estimand, trim or (0.0, 2.0), errors, doubly=doubly)
    assert found["n"] == hand["n"]
    of = found["outcome"]
    assert [one["value"] for one in of["means"]] == pytest.approx(hand["means"], rel=1e-9)
    np.testing.assert_allclose(of["cov"], hand["cov"], rtol=1e-6, atol=1e-8 * hand["cov"].max())
    assert [one["ess"] for one in found["arms"]] == pytest.approx(hand["ess"], rel=1e-8)
    sums = [hand["w"][hand["z"] == arm].sum() for arm in (0, 1)]
    assert [one["weight_sum"] for one in found["arms"]] == pytest.approx(sums, rel=1e-8)
    balance = {(one["variable"], one["level"]): one for one in found["balance"]}
    for key, name in ((("age", None), "age"), (("stage", "III"), "stage = III")):
        one = balance[key]
        assert one["smd_before"] == pytest.approx(hand["smd"][name][0], rel=1e-7, abs=1e-9)
        assert one["smd_after"] == pytest.approx(hand["smd"][name][1], rel=1e-6, abs=1e-8)
    edges, counts = found["scores"]["edges"], np.array(found["scores"]["counts"])
    for arm in (0, 1):
        expected = np.histogram(hand["e"][hand["z"] == arm], edges)[0]
        assert counts[arm].tolist() == expected.tolist()
    assert not np.any((counts > 0) & (counts < disclosure.min_cell))
    _check_effects(of, hand)


def _check_effects(of: dict[str, Any], hand: dict[str, Any]) -> None:
    control, treated = hand["means"]
    cov = hand["cov"]
    effects = {one["name"]: one for one in of["effects"]}
    if of["variable"] == "cost":
        assert list(effects) == ["mean difference"]
        return
    assert of["kind"] == "risk"
    assert effects["risk difference"]["value"] == pytest.approx(treated - control, rel=1e-7)
    spread = np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    assert effects["risk difference"]["std_error"] == pytest.approx(spread, rel=1e-6)
    slopes = np.array([-1 / control, 1 / treated])
    ratio = effects["risk ratio"]
    assert ratio["value"] == pytest.approx(treated / control, rel=1e-7)
    assert ratio["std_error"] == pytest.approx(np.sqrt(slopes @ cov @ slopes), rel=1e-6)
    odds = effects["odds ratio"]
    assert odds["value"] == pytest.approx(
        treated / (1 - treated) / (control / (1 - control)), rel=1e-7
    )
    slopes = slopes / np.array([1 - control, 1 - treated])
    assert odds["std_error"] == pytest.approx(np.sqrt(slopes @ cov @ slopes), rel=1e-6)
    assert odds["low"] < odds["value"] < odds["high"]


def test_most_runs_of_that_kind_are_released() -> None:
    found = run(split(population(1, 700), [300, 250, 150]), Disclosure(), outcome="cost")
    assert found["n_sites_contributing"] == 3
    assert found["outcome"]["effects"][0]["value"] == pytest.approx(-2000, abs=300)
    assert found["n_missing"] + found["n"] == 700


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99), disclosure=limits)
def test_the_order_of_sites_does_not_matter(seed: int, disclosure: Disclosure) -> None:
    sites = split(population(seed, 500), [200, 180, 120])
    one = run(sites, disclosure, outcome="died", estimand="ATO")
    other = run(sites[::-1], disclosure, outcome="died", estimand="ATO")
    assert str(one) == str(other)


def test_overlap_weights_balance_every_mean_exactly() -> None:
    found = run(split(population(3, 600), [300, 300]), Disclosure(), estimand="ATO")
    assert found["outcome"] is None
    assert max(abs(one["smd_after"]) for one in found["balance"]) < 1e-9
    assert max(abs(one["smd_before"]) for one in found["balance"]) > 0.3


def test_stabilized_weights_have_mean_near_one_and_the_same_effect() -> None:
    sites = split(population(3, 600), [300, 300])
    one = run(sites, Disclosure(), outcome="died")
    other = run(sites, Disclosure(), outcome="died", stabilized=True)
    assert other["outcome"]["effects"] == one["outcome"]["effects"]
    assert [arm["ess"] for arm in other["arms"]] == [arm["ess"] for arm in one["arms"]]
    assert [arm["weight_mean"] for arm in other["arms"]] == pytest.approx([1, 1], abs=0.05)


def test_a_variable_of_two_values_is_balanced_as_shares() -> None:
    table = population(5, 600, missing=0)
    found = run(split(table, [300, 300]), Disclosure(), covariates="age + stage + died + age:stage")
    rows = {one["variable"]: one for one in found["balance"]}
    assert rows["died"]["kind"] == "share"
    assert set(rows) == {"age", "died", "stage"}
    z = table.columns["drug"]
    died = [float(table.columns["died"][z == arm].mean()) for arm in (0, 1)]
    assert rows["died"]["before"] == pytest.approx(died)
    assert rows["died"]["smd_before"] == pytest.approx(
        (died[1] - died[0]) / np.sqrt(np.mean([p * (1 - p) for p in died]))
    )


def test_extreme_weights_are_refused_and_overlap_weights_are_not() -> None:
    sites = split(population(8, 300, steep=9.0), [150, 150])
    refused = run(sites, Disclosure(), outcome="cost")
    assert isinstance(refused, PolicyRefusal)
    assert refused.code == "too-few-persons"
    assert "ATO" in refused.message
    assert isinstance(run(sites, Disclosure(), outcome="cost", estimand="ATO"), dict)


def test_limits_beside_which_few_persons_are_are_refused() -> None:
    sites = split(population(11, 400), [200, 200])
    free = run(sites, Disclosure())
    edges = free["scores"]["edges"]
    inner = [edge for edge in EDGES[1:-1] if edge not in edges and edge < 0.5]
    assert inner, "the test's data have no sparse tail"
    for low in inner:
        refused = run(sites, Disclosure(), trim=(low, 1.0))
        assert isinstance(refused, PolicyRefusal)
        assert "The nearest that can: trim=(" in refused.message
    low = next(edge for edge in edges if 0 < edge < 0.5)
    counts = [row[: edges.index(low)] for row in free["scores"]["counts"]]
    found = run(sites, Disclosure(), trim=(low, 1.0))
    assert [arm["n_trimmed"] for arm in found["arms"]] == [sum(row) for row in counts]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"treatment": "age"}, "bad-input"),
        ({"treatment": "stage"}, "bad-input"),
        ({"covariates": "age + drug"}, "bad-formula"),
        ({"covariates": "age - 1"}, "bad-formula"),
        ({"covariates": "1"}, "bad-formula"),
        ({"covariates": "age ~ died"}, "bad-formula"),
        ({"outcome": "stage"}, "bad-input"),
        ({"outcome": "age"}, "bad-input"),
        ({"outcome": "drug"}, "bad-input"),
        ({"doubly_robust": True}, "bad-input"),
        ({"doubly_robust": True, "outcome": "cost", "estimand": "ATO"}, "bad-input"),
        ({"trim": (0.03, 0.9)}, "bad-input"),
        ({"trim": (0.6, 0.9)}, "bad-input"),
    ],
)
def test_what_does_not_fit_together_is_refused(params: dict[str, Any], code: str) -> None:
    found = run(split(population(2, 200), [100, 100]), Disclosure(), **params)
    assert isinstance(found, InputError)
    assert found.code == code


def test_a_treatment_that_follows_from_a_level_is_separated() -> None:
    table = population(2, 300, missing=0)
    columns = dict(table.columns)
    columns["drug"] = np.where(columns["stage"] == 2, 1.0, columns["drug"])
    found = run(split(Table(VARIABLES, columns), [150, 150]), Disclosure())
    assert isinstance(found, CohortiumError)
    assert (found.code, found.message.partition(":")[0]) == ("no-convergence", "drug is separated")
