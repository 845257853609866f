"""Curves of persons who come under observation late are those of everybody together."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.federation import run_pooled_sum
from tests.support.frames import pooled, split

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal

lifelines = pytest.importorskip("lifelines")

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="t", type=VariableType.REAL, decimals=1),
        Variable(name="came", type=VariableType.REAL, decimals=2),
        Variable(name="died", type=VariableType.BOOLEAN),
        Variable(name="arm", type=VariableType.CATEGORY, levels=("a", "b")),
    )
}


def persons(seed: int, n: int, late: float, per_unit: float = 10.0) -> Table:
    random = np.random.default_rng(seed)
    event, censored = random.exponential(8, n), random.uniform(2, 20, n)
    t = np.ceil(np.minimum(event, censored) * per_unit) / per_unit
    came = np.where(
        random.uniform(size=n) < late, np.floor(t * random.uniform(0, 0.9, n) * 20) / 20, 0
    )
    came[random.uniform(size=n) < 0.03] = np.nan
    died = (event <= censored).astype(float)
    arm = random.integers(0, 2, n).astype(np.int32)
    return Table(VARIABLES, {"t": t, "came": came, "died": died, "arm": arm})


def curves(sites: list[Table], limits: Disclosure, **params: Any) -> list[dict[str, Any]]:
    asked = {"time": "t", "event": "died", "entry": "came", "quantiles": [], **params}
    result = run_pooled_sum(find("survival.km"), asked, sites, limits).result
    assert result["entry"] == "came"
    assert result["exact_times"]
    return list(result["curves"])


def complete(sites: list[Table], arm: int | None = None) -> tuple[Any, Any, Any]:
    table = pooled(sites)
    t, came, died = (table.columns[name] for name in ("t", "came", "died"))
    rows = ~np.isnan(came) & ((table.columns["arm"] == arm) | (arm is None))
    return t[rows], came[rows], died[rows] == 1


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    late=st.sampled_from([0.0, 0.3, 1.0]),
    floor=st.sampled_from(["site", "total"]),
)
def test_where_every_time_is_a_point_the_curve_is_that_of_lifelines(
    seed: int, late: float, floor: Any
) -> None:
    sites = split(persons(seed, 200, late), [60, 60, 80])
    (curve,) = curves(sites, Disclosure(min_cell=1, floor=floor))
    t, came, died = complete(sites)
    with np.errstate(all="ignore"):
        fit = lifelines.KaplanMeierFitter().fit(t, died, entry=came)
    steps = curve["steps"]
    survival = np.array(steps["survival"])
    table = fit.event_table
    expected = fit.survival_function_at_times(steps["time"]).to_numpy()
    assert np.allclose(survival, expected, rtol=1e-9, atol=1e-12)
    for time, at_risk in zip(steps["time"][1:], steps["at_risk"][1:], strict=True):
        assert at_risk == ((came < time) & (t >= time)).sum()
    assert sum(steps["came"]) == len(t) == int(table["entrance"].sum())


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    late=st.sampled_from([0.1, 0.5, 1.0]),
    least=st.sampled_from([3, 5]),
    per_unit=st.sampled_from([1.0, 10.0]),
)
def test_points_are_those_of_the_pooled_curve_and_tell_of_no_few(
    seed: int, late: float, least: int, per_unit: float
) -> None:
    sites = split(persons(seed, 600, late, per_unit), [200, 200, 200])
    limits = Disclosure(min_cell=least, floor="total", min_at_risk=least)
    try:
        found = curves(sites, limits, by="arm")
    except PolicyRefusal:
        return
    for curve in found:
        t, came, died = complete(sites, "ab".index(curve["level"]))
        steps = curve["steps"]
        survival = np.ones(len(steps["time"]))
        for time in np.unique(t[died]):
            at_risk = ((came < time) & (t >= time)).sum()
            hazard = ((t == time) & died).sum() / at_risk
            survival[np.array(steps["time"]) >= time] *= 1 - hazard
        assert np.allclose(steps["survival"], survival, rtol=1e-9, atol=1e-12)
        times = np.unique(t)
        begins = times[np.searchsorted(times, came, side="right")]  # at risk for the first time
        edges = [0.0, *steps["time"][1:]]
        for at, (a, b) in enumerate(itertools.pairwise(edges), 1):
            assert steps["came"][at] == ((begins > a) & (begins <= b)).sum()
        told = [*steps["events"], *steps["censored"], *steps["came"]]
        told.append(curve["n"] - sum(steps["came"]))
        assert not [number for number in told if 0 < number < least]
        assert min(steps["at_risk"][1:], default=least) >= least


def test_few_who_are_there_early_have_no_point_of_their_own() -> None:
    table = persons(3, 300, 0.0)
    came = np.full(300, 1.0)
    t = np.maximum(table.columns["t"], 1.5)
    died = table.columns["died"].copy()
    t[:6], t[6:12], came[:12], died[:12] = 0.5, 0.9, 0.0, 1.0  # twelve alone, all with the event
    columns = {**table.columns, "t": t, "came": came, "died": died}
    sites = split(Table(VARIABLES, columns), [150, 150])
    limits = Disclosure(min_cell=5, min_at_risk=20, floor="total")
    steps = curves(sites, limits)[0]["steps"]
    assert all(time >= 1.5 for time in steps["time"][1:])
    assert set(steps["survival"][1:]) == {0.0}  # as the pooled estimate has it
    early = curves(sites, Disclosure(min_cell=5, floor="total"))[0]["steps"]
    assert early["survival"][:3] == [1.0, 0.5, 0.0]
    assert early["at_risk"][1:3] == [12, 6]


def test_persons_come_before_they_leave() -> None:
    table = persons(1, 60, 0.5)
    came = table.columns["came"].copy()
    came[7] = table.columns["t"][7]
    sites = split(Table(VARIABLES, {**table.columns, "came": came}), [30, 30])
    with pytest.raises(InputError, match="came is not below t"):
        curves(sites, Disclosure(floor="total"))
    asked = {"time": "t", "event": "died"}
    for entry, why in (("t", "different"), ("arm", "a time is a number"), ("gone", "no variable")):
        with pytest.raises(InputError, match=why):
            run_pooled_sum(find("survival.km"), asked | {"entry": entry}, sites)


def test_without_late_entries_curves_are_as_they_were() -> None:
    sites = split(persons(5, 400, 0.0), [200, 200])
    with_entry = curves(sites, Disclosure(floor="total"))[0]
    rows = [~np.isnan(site.columns["came"]) for site in sites]
    there = [site.take(one) for site, one in zip(sites, rows, strict=True)]
    asked = {"time": "t", "event": "died", "quantiles": []}
    limits = Disclosure(floor="total")
    result = run_pooled_sum(find("survival.km"), asked, there, limits).result
    steps = dict(with_entry["steps"])
    assert steps.pop("came")[1] == with_entry["n"]
    assert steps == result["curves"][0]["steps"]
