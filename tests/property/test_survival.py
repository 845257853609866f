"""Survival curves and log-rank tests over sites are those of everybody together."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis.builtin import find
from cohortium.analysis.gray import Subdistribution
from cohortium.analysis.survival_times import Leaving
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal

lifelines = pytest.importorskip("lifelines")
lifelines_statistics = pytest.importorskip("lifelines.statistics")
duration = pytest.importorskip("statsmodels.duration.api")

DAYS = Variable(name="days", type=VariableType.INTEGER, unit="days")
YEARS = Variable(name="years", type=VariableType.REAL, decimals=1)
X = Variable(name="x", type=VariableType.REAL)
DIED = Variable(name="died", type=VariableType.BOOLEAN)
END = Variable(name="end", type=VariableType.CATEGORY, levels=("alive", "dead", "lost"))
ARM = Variable(name="arm", type=VariableType.CATEGORY, levels=("a", "b", "c"))
STAGE = Variable(name="stage", type=VariableType.CATEGORY, levels=("I", "II"))
ALL = (DAYS, YEARS, X, DIED, END, ARM, STAGE)
Floats = npt.NDArray[np.float64]


@st.composite
def tables(draw: st.DrawFn) -> list[Table]:
    """Two to four sites: ties, censoring early, late and of everybody left, missing values."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(0, 120), min_size=2, max_size=4))
    n = sum(sizes)
    arm = random.choice(3, n, p=[0.45, 0.4, 0.15]).astype(np.int32)
    event = random.exponential(draw(st.sampled_from([6.0, 300.0])), n) * (1 + 0.5 * (arm == 1))
    censored = random.exponential(draw(st.sampled_from([50.0, 2000.0])), n)
    censored = np.minimum(censored, draw(st.sampled_from([7.0, 500.0, 1e9])))
    died = (event <= censored).astype(float)
    x = np.minimum(event, censored)
    died[random.uniform(size=n) < draw(st.sampled_from([0.0, 0.1]))] = np.nan
    x[random.uniform(size=n) < draw(st.sampled_from([0.0, 0.1]))] = np.nan
    arm[random.uniform(size=n) < 0.03] = -1
    end = np.where(np.isnan(died), -1, np.where(died == 1, 1, random.choice([0, 2], n)))
    columns = {
        "days": np.ceil(x),
        "years": np.round(x / 10, 1),
        "x": x,
        "died": died,
        "end": end.astype(np.int32),
        "arm": arm,
        "stage": random.choice([0, 1], n).astype(np.int32),
    }
    return split(Table({v.name: v for v in ALL}, columns), sizes)


limits_of = st.builds(
    Disclosure, min_cell=st.sampled_from([1, 3, 5]), floor=st.sampled_from(["site", "total"])
)
times = st.sampled_from(["days", "years"])


def run(name: str, params: dict[str, Any], sites: list[Table], limits: Disclosure) -> Any:
    try:
        return dict(run_pooled_sum(find(name), params, sites, limits).result)
    except (PolicyRefusal, InputError) as refusal:
        return refusal


def pooled(
    sites: list[Table], time: str, limits: Disclosure, *more: str
) -> dict[str, npt.NDArray[Any]]:
    """The persons that may count: those of an arm that is large enough at the site."""
    floor = limits.min_cell if limits.floor == "site" else 0
    parts: dict[str, list[Any]] = {name: [] for name in ("time", "died", "arm", "site", *more)}
    for at, site in enumerate(sites):
        arm, t, d = (site.columns[name] for name in ("arm", time, "died"))
        good = (arm >= 0) & ~np.isnan(t) & ~np.isnan(d)
        few = [level for level in range(3) if (good & (arm == level)).sum() < floor]
        good &= ~np.isin(arm, few)
        for name, column in (("time", t), ("died", d), ("arm", arm)):
            parts[name].append(column[good])
        parts["site"].append(np.full(good.sum(), at))
        for name in more:
            parts[name].append(site.columns[name][good])
    return {name: np.concatenate(columns) for name, columns in parts.items()}


def same(found: Any, expected: Any) -> bool:
    none = float("nan")
    left = np.array([none if one is None else one for one in found], dtype=float)
    return np.allclose(left, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def product_limit(t: Floats, d: Floats, at: Floats) -> tuple[Floats, Floats]:
    """Survival and Greenwood's sum at some times, time by time as the textbook has it."""
    survival, total = np.ones(len(at)), np.zeros(len(at))
    for time in np.unique(t[d == 1]):
        n, dead = (t >= time).sum(), ((t == time) & (d == 1)).sum()
        survival[at >= time] *= 1 - dead / n
        with np.errstate(divide="ignore"):
            total[at >= time] += dead / (n * np.float64(n - dead))
    return survival, total


def exact_quantile(t: Floats, d: Floats, p: float) -> float:
    times = np.unique(t)
    survival, _ = product_limit(t, d, times)
    return float(times[survival <= 1 - p + 1e-12][0])


@settings(max_examples=40, deadline=None)
@given(sites=tables(), limits=limits_of, time=times)
def test_points_are_those_of_the_pooled_curve(
    sites: list[Table], limits: Disclosure, time: str
) -> None:
    asked = {"time": time, "event": "died", "by": "arm", "at": [0.0, 3.0, 40.0], "quantiles": [0.3]}
    result = run("survival.km", asked, sites, limits)
    if isinstance(result, PolicyRefusal):
        return
    assert not isinstance(result, InputError)
    everybody = pooled(sites, time, limits)
    assert result["n"] == len(everybody["time"])
    for curve in result["curves"]:
        here = everybody["arm"] == "abc".index(curve["level"])
        t, d = everybody["time"][here], everybody["died"][here]
        steps = curve["steps"]
        at = np.array(steps["time"])
        survival, total = product_limit(t, d, at)
        survival[0], total[0] = 1.0, 0.0  # before the events of time 0
        assert same(steps["survival"], survival)
        sure = (survival > 0) & (survival < 1)
        error = survival * np.sqrt(np.where(sure, total, 0.0))
        assert same(np.array(steps["std_error"])[sure], error[sure])
        for sign, name in ((1, "low"), (-1, "high")):
            log = np.log(-np.log(survival[sure]))
            wide = sign * 1.959963984540054 * np.sqrt(total[sure]) / np.log(survival[sure])
            assert same(np.array(steps[name])[sure], np.exp(-np.exp(log - wide)))
        edges = [-1.0, *at[1:]]
        for name, code in (("events", 1), ("censored", 0)):
            left = [((t > a) & (t <= b) & (d == code)).sum() for a, b in itertools.pairwise(edges)]
            assert steps[name][1:] == left
        assert steps["at_risk"][1:] == [(t > edge).sum() for edge in edges[:-1]]
        for one in curve["at"]:
            if one["survival"] is not None and one["time"] > 0:
                exact = product_limit(t, d, np.array([one["time"]]))[0][0]
                assert one["least"] - 1e-9 <= exact <= one["most"] + 1e-9
                assert one["least"] - 1e-9 <= one["survival"] <= one["most"] + 1e-9
        (quantile,) = curve["quantiles"]
        if quantile["time"] is not None:
            exact = exact_quantile(t, d, 0.3)
            after = quantile["after"]
            assert exact == quantile["time"] if after is None else after < exact <= quantile["by"]


@settings(max_examples=6, deadline=None)
@given(sites=tables(), time=times)
def test_where_every_time_is_a_point_the_curve_is_that_of_lifelines(
    sites: list[Table], time: str
) -> None:
    limits = Disclosure(min_cell=1, floor="total")
    result = run("survival.km", {"time": time, "event": "died"}, sites, limits)
    if isinstance(result, PolicyRefusal):
        return
    t, d = (np.concatenate([site.columns[name] for site in sites]) for name in (time, "died"))
    good = ~np.isnan(t) & ~np.isnan(d)
    fit = lifelines.KaplanMeierFitter().fit(t[good], d[good])
    (curve,) = result["curves"]
    first = int(0 in t[good])  # lifelines has no point before the events of time 0
    survival = fit.survival_function_.to_numpy().ravel()
    assert same(curve["steps"]["survival"][first:], survival)
    inside = (survival > 0) & (survival < 1)
    for side, name in enumerate(("low", "high")):
        bands = fit.confidence_interval_.to_numpy()[:, side]
        assert same(np.array(curve["steps"][name][first:])[inside], bands[inside])
    median = curve["quantiles"][0]["time"]
    assert fit.median_survival_time_ == (np.inf if median is None else median)


@settings(max_examples=40, deadline=None)
@given(sites=tables(), limits=limits_of, time=st.sampled_from(["days", "years", "x"]))
def test_no_small_number_follows_from_a_curve(
    sites: list[Table], limits: Disclosure, time: str
) -> None:
    asked = {"time": time, "event": "end", "event_level": "dead", "by": "arm"}
    result = run("survival.km", asked, sites, limits)
    if isinstance(result, PolicyRefusal):
        return
    least = limits.min_cell
    for curve in result["curves"]:
        steps = curve["steps"]
        told = [*steps["events"], *steps["censored"]]
        gone = sum(told)
        told.append(curve["n"] - gone)
        if curve["events"] is not None:
            told += [curve["events"] - sum(steps["events"])]
            told += [curve["censored"] - sum(steps["censored"])]
        assert not [number for number in told if 0 < number < least]
        assert min(steps["at_risk"]) >= least
        assert steps["at_risk"][-1] >= limits.at_risk


def difference(persons: dict[str, npt.NDArray[Any]], strata: Any) -> float:
    with np.errstate(invalid="ignore", divide="ignore"):
        found = duration.survdiff(persons["time"], persons["died"], persons["arm"], strata=strata)
    return float(found[0])


@settings(max_examples=40, deadline=None)
@given(
    sites=tables(),
    limits=limits_of,
    time=times,
    strata=st.sampled_from([None, "stage"]),
    within=st.booleans(),
)
def test_groups_over_sites_are_compared_as_groups_together(
    sites: list[Table], limits: Disclosure, time: str, strata: str | None, within: bool
) -> None:
    asked = {"time": time, "event": "died", "by": "arm", "strata": strata, "within_sites": within}
    result = run("survival.logrank", asked, sites, limits)
    if isinstance(result, PolicyRefusal | InputError):
        return
    persons = pooled(sites, time, limits, "stage")
    levels = ["abc".index(group["level"]) for group in result["groups"]]
    stratum = persons["stage"] * (strata is not None) + 10 * persons["site"] * within
    statistic, df = by_hand(persons, levels, stratum)
    assert result["df"] == df
    assert result["statistic"] == pytest.approx(statistic, rel=1e-8, abs=1e-10)
    for group in result["groups"]:
        here = persons["arm"] == "abc".index(group["level"])
        assert group["n"] == here.sum()
        if "observed" in group:
            assert group["observed"] == persons["died"][here].sum()
    if df == len(levels) - 1 and len(set(persons["time"])) > 3:
        expected = difference(persons, stratum if strata or within else None)
        if np.isfinite(expected):
            assert result["statistic"] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def by_hand(
    persons: dict[str, npt.NDArray[Any]], levels: list[int], stratum: npt.NDArray[Any]
) -> tuple[float, int]:
    """One 2 x k table at each event time of each stratum; as in the textbook."""
    k = len(levels)
    excess, covariance = np.zeros(k), np.zeros((k, k))
    t, d, arm = persons["time"], persons["died"], persons["arm"]
    for one in np.unique(stratum):
        for time in np.unique(t[(stratum == one) & (d == 1)]):
            risk = np.array([((stratum == one) & (t >= time) & (arm == g)).sum() for g in levels])
            dead = (stratum == one) & (t == time) & (d == 1)
            died = np.array([(dead & (arm == g)).sum() for g in levels])
            n, all_died = risk.sum(), died.sum()
            excess += died - all_died * risk / n
            if n > 1:
                share = risk / n
                factor = all_died * (n - all_died) / (n - 1)
                covariance += factor * (np.diag(share) - np.outer(share, share))
    inverse = np.linalg.pinv(covariance, rcond=1e-9, hermitian=True)
    rank = int(np.linalg.matrix_rank(covariance, tol=1e-9 * max(1.0, np.trace(covariance))))
    return float(excess @ inverse @ excess), rank


@settings(max_examples=20, deadline=None)
@given(sites=tables(), time=times, weights=st.sampled_from(["wilcoxon", "tarone-ware", "peto"]))
def test_weighted_tests_are_those_of_lifelines(sites: list[Table], time: str, weights: str) -> None:
    asked = {"time": time, "event": "died", "by": "arm", "weights": weights}
    limits = Disclosure(floor="total", min_cell=1)
    result = run("survival.logrank", asked, sites, limits)
    if isinstance(result, PolicyRefusal | InputError):
        return
    persons = pooled(sites, time, limits)
    expected = lifelines_statistics.multivariate_logrank_test(
        persons["time"], persons["arm"], persons["died"], weightings=weights
    )
    if result["df"] == len(result["groups"]) - 1:
        assert result["statistic"] == pytest.approx(expected.test_statistic, rel=1e-6, abs=1e-8)
        assert result["p_value"] == pytest.approx(expected.p_value, rel=1e-5, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(sites=tables(), limits=limits_of, seed=st.integers(0, 99))
def test_the_order_of_sites_does_not_matter(
    sites: list[Table], limits: Disclosure, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(sites))
    for name in ("survival.km", "survival.logrank"):
        asked = {"time": "days", "event": "died", "by": "arm"}
        one = run(name, asked, sites, limits)
        other = run(name, asked, [sites[at] for at in order], limits)
        assert str(one) == str(other) if isinstance(one, Exception) else one == other


@settings(max_examples=25, deadline=None)
@given(sites=tables(), limits=limits_of, time=times)
def test_incidence_is_that_of_everybody_together(
    sites: list[Table], limits: Disclosure, time: str
) -> None:
    asked = {"time": time, "event": "end", "censored": "alive", "by": "arm", "at": [3.0]}
    result = run("survival.cumulative_incidence", asked, sites, limits)
    if isinstance(result, PolicyRefusal):
        return
    assert not isinstance(result, InputError)
    everybody = pooled(sites, time, limits, "end")
    for curve in result["curves"]:
        here = everybody["arm"] == "abc".index(curve["level"])
        t, end = everybody["time"][here], everybody["end"][here]
        told = [*curve["left_censored"]]
        for cause in curve["causes"]:
            code = ("alive", "dead", "lost").index(cause["cause"])
            points = np.array(curve["time"])
            exact = incidence_by_hand(t, end, code, points)
            exact[0] = 0.0
            assert same(cause["incidence"], exact)
            told += cause["events"]
            (at,) = cause["at"]
            if at["incidence"] is not None:
                (value,) = incidence_by_hand(t, end, code, np.array([3.0]))
                assert at["least"] - 1e-9 <= value <= at["most"] + 1e-9
        assert not [number for number in told if 0 < number < limits.min_cell]


def incidence_by_hand(t: Floats, end: npt.NDArray[Any], code: int, points: Floats) -> Floats:
    """Aalen and Johansen's estimate, time by time."""
    out, free = np.zeros(len(points)), 1.0
    for time in np.unique(t[end > 0]):
        n = (t >= time).sum()
        out[points >= time] += free * ((t == time) & (end == code)).sum() / n
        free *= 1 - ((t == time) & (end > 0)).sum() / n
    return out


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(12, 60))
def test_without_ties_incidence_and_variance_are_those_of_lifelines(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    t = random.permutation(3 * n)[:n].astype(float) + 1
    end = random.choice(3, n, p=[0.3, 0.4, 0.3]).astype(np.int32)
    if not (end == 1).any():
        return
    columns = {"days": t, "end": end}
    sites = split(Table({"days": DAYS, "end": END}, columns), [n // 2, n - n // 2])
    asked = {"time": "days", "event": "end"}
    result = run("survival.cumulative_incidence", asked, sites, Disclosure(min_cell=1))
    (curve,) = result["curves"]
    dead = curve["causes"][0]
    fit = lifelines.AalenJohansenFitter(calculate_variance=True).fit(t, end, event_of_interest=1)
    expected = fit.cumulative_density_.to_numpy().ravel()
    assert same(dead["incidence"], expected)
    variance = fit.variance_.to_numpy().ravel()
    if (end == 0)[t == t.max()].all():  # else lifelines divides by nobody at the last time
        assert np.allclose(np.square(dead["std_error"]), variance, rtol=1e-9, atol=1e-13)


@settings(max_examples=15, deadline=None)
@given(sites=tables(), limits=limits_of, strata=st.sampled_from([None, "stage"]))
def test_grays_test_over_sites_is_that_of_everybody(
    sites: list[Table], limits: Disclosure, strata: str | None
) -> None:
    asked = {"time": "days", "event": "end", "event_level": "dead", "by": "arm", "strata": strata}
    result = run("survival.gray", asked, sites, limits)
    if isinstance(result, PolicyRefusal | InputError):
        return
    persons = pooled(sites, "days", limits, "end", "stage")
    levels = ["abc".index(group["level"]) for group in result["groups"]]
    score, covariance = np.zeros(len(levels)), np.zeros((len(levels), len(levels)))
    stage = persons["stage"] if strata else np.zeros(len(persons["time"]))
    for one in np.unique(stage):
        here = (stage == one) & np.isin(persons["arm"], levels)
        group = np.searchsorted(levels, persons["arm"][here])
        leaving = Leaving.of_persons(
            persons["time"][here], persons["end"][here].astype(np.int64), group, (len(levels), 3)
        )
        part = Subdistribution.of(leaving, 1)
        score += part.score()
        covariance += part.covariance()
    assert abs(score.sum()) < 1e-8
    inverse = np.linalg.pinv(covariance, rcond=1e-10)
    if result["df"] == len(levels) - 1 and np.linalg.matrix_rank(covariance) == len(levels) - 1:
        assert result["statistic"] == pytest.approx(score @ inverse @ score, rel=1e-6, abs=1e-9)
    assert 0 <= result["p_value"] <= 1
