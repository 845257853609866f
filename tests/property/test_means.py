"""Tests of means over sites are those of everybody together, and give no small cell."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal

stats = pytest.importorskip("scipy.stats")
oneway = pytest.importorskip("statsmodels.stats.oneway")

X = Variable(name="x", type=VariableType.REAL)
Y = Variable(name="y", type=VariableType.REAL, decimals=1)
K = Variable(name="k", type=VariableType.INTEGER)
S = Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c", "d"))
B = Variable(name="b", type=VariableType.BOOLEAN)


@st.composite
def tables(draw: st.DrawFn) -> list[Table]:
    """Two to four sites of odd scales and skewness, with missing values, ties and rare levels."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(0, 100), min_size=2, max_size=4))
    n = sum(sizes)
    scale, centre = draw(st.sampled_from([(1e-9, 0.0), (1.0, 1.0), (1e6, -1e3), (1.0, 1e9)]))
    rates = draw(st.sampled_from([(0.25, 0.25, 0.25, 0.25), (0.6, 0.35, 0.05, 0.0)]))
    s = random.choice(4, n, p=rates).astype(np.int32)
    x = (random.gamma(2.0, 1.0, n) * (1 + s) + centre) * scale
    y = np.round(random.normal(20, draw(st.sampled_from([0.2, 4.0])), n) + 0.1 * s, 1)
    k = random.integers(-3, draw(st.sampled_from([0, 3, 40])), n).astype(float)
    b = (random.uniform(size=n) < draw(st.sampled_from([0.05, 0.5]))).astype(float)
    missing = draw(st.sampled_from([0.0, 0.2]))
    for column in (x, y, k, b):
        column[random.uniform(size=n) < missing] = np.nan
    s[random.uniform(size=n) < missing / 2] = -1
    columns: dict[str, Any] = {"x": x, "y": y, "k": k, "s": s, "b": b}
    return split(Table({v.name: v for v in (X, Y, K, S, B)}, columns), sizes)


disclosures = st.builds(
    Disclosure, min_cell=st.sampled_from([2, 3, 5]), floor=st.sampled_from(["site", "total"])
)
measured = st.sampled_from(["x", "y", "k"])
grouped = st.sampled_from(["s", "b"])


def run(
    name: str, sites: list[Table], limits: Disclosure, **params: Any
) -> dict[str, Any] | CohortiumError:
    try:
        return dict(run_pooled_sum(find(f"stats.{name}"), params, sites, limits).result)
    except (PolicyRefusal, InputError) as refused:
        return refused


def heard(
    sites: list[Table], limits: Disclosure, names: tuple[str, ...], by: str | None = None
) -> list[list[Any]]:
    """For each group, each site's values of the variable (or differences) that count."""
    floor = limits.min_cell if limits.floor == "site" else 1
    levels = [None] if by is None else range(4 if by == "s" else 2)
    out = []
    for level in levels:
        parts = []
        for site in sites:
            rows = np.all([site.present(name) for name in names], axis=0)
            if by is not None:
                rows &= site.columns[by] == level
            values = site.columns[names[0]][rows]
            if len(names) > 1:
                values = values - site.columns[names[1]][rows]
            if len(values) >= floor:
                parts.append(values)
        out.append(parts)
    return out


def pooled(groups: list[list[Any]]) -> list[Any]:
    return [np.concatenate([*parts, np.empty(0)]) for parts in groups]


def near_zero(values: list[Any]) -> list[Any]:
    """Moved by a whole number, exactly: the references lose digits far from zero."""
    everybody = np.concatenate(values)
    shift = np.round(np.median(everybody)) if len(everybody) else 0.0
    return [one - shift for one in values]


def refused_rightly(refused: CohortiumError, groups: list[list[Any]], limits: Disclosure) -> bool:
    """One of the reasons that the docstrings give."""
    values = pooled(groups)
    held = [one for one in values if len(one) >= limits.min_cell]
    small = any(0 < len(one) < limits.min_cell for one in values)
    alone = any(len(parts) == 1 for parts in groups)
    flat = any(np.ptp(one) == 0 for one in held)
    few = any(
        set(np.unique(one)) <= {0.0, 1.0} and min(one.sum(), len(one) - one.sum()) < limits.min_cell
        for one in held
    )
    return small or alone or flat or few or len(held) < max(1, min(2, len(groups)))


@settings(max_examples=40, deadline=None)
@given(
    sites=tables(),
    limits=disclosures,
    x=measured,
    by=grouped,
    welch=st.booleans(),
    alternative=st.sampled_from(["two-sided", "less", "greater"]),
)
def test_two_means(
    sites: list[Table], limits: Disclosure, x: str, by: str, welch: bool, alternative: str
) -> None:
    levels = ["a", "b"] if by == "s" else None
    kind = "welch" if welch else "student"
    params = {"variable": x, "by": by, "levels": levels, "kind": kind, "alternative": alternative}
    result = run("t_test", sites, limits, **params)
    groups = heard(sites, limits, (x,), by)
    if isinstance(result, CohortiumError):
        assert refused_rightly(result, groups, limits)
        return
    one, two = pooled(groups)[:2]
    a, b = near_zero([one, two])
    t = stats.ttest_ind(a, b, equal_var=not welch, alternative=alternative)
    both = stats.ttest_ind(a, b, equal_var=not welch).confidence_interval()
    scale = 1e-15 * max(abs(one).max(), abs(two).max())
    assert result["statistic"] == pytest.approx(t.statistic, rel=1e-7, abs=1e-7)
    assert result["df"] == pytest.approx(t.df, rel=1e-7)
    assert result["p_value"] == pytest.approx(t.pvalue, rel=1e-6, abs=1e-12)
    assert result["estimate"]["low"] == pytest.approx(both.low, rel=1e-8, abs=100 * scale)
    assert result["estimate"]["high"] == pytest.approx(both.high, rel=1e-8, abs=100 * scale)
    assert [g["n"] for g in result["groups"]] == [len(one), len(two)]
    for group, values in zip(result["groups"], (one, two), strict=True):
        assert group["mean"] == pytest.approx(values.mean(), rel=1e-12, abs=scale)
        assert group["sd"] == pytest.approx(values.std(ddof=1), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(sites=tables(), limits=disclosures, paired=st.booleans(), mu=st.sampled_from([0.0, 20.0]))
def test_one_mean(sites: list[Table], limits: Disclosure, paired: bool, mu: float) -> None:
    names = ("y", "k") if paired else ("y",)
    params = {"variable": "y", "mu": mu, "kind": "paired" if paired else "one-sample"}
    result = run("t_test", sites, limits, **params, **({"second": "k"} if paired else {}))
    groups = heard(sites, limits, names)
    if isinstance(result, CohortiumError):
        assert refused_rightly(result, groups, limits)
        return
    t = stats.ttest_1samp(pooled(groups)[0], mu)
    assert result["statistic"] == pytest.approx(t.statistic, rel=1e-9, abs=1e-9)
    assert (result["df"], result["n"]) == (t.df, t.df + 1)
    assert result["p_value"] == pytest.approx(t.pvalue, rel=1e-7, abs=1e-12)
    assert result["estimate"]["low"] == pytest.approx(t.confidence_interval().low, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(sites=tables(), limits=disclosures, x=measured, by=grouped, welch=st.booleans())
def test_many_means(sites: list[Table], limits: Disclosure, x: str, by: str, welch: bool) -> None:
    kind = "welch" if welch else "classical"
    result = run("anova", sites, limits, variable=x, by=by, kind=kind)
    groups = heard(sites, limits, (x,), by)
    if isinstance(result, CohortiumError):
        assert refused_rightly(result, groups, limits)
        return
    values = near_zero([one for one in pooled(groups) if len(one)])
    f = oneway.anova_oneway(values, use_var="unequal" if welch else "equal")
    assert result["statistic"] == pytest.approx(f.statistic, rel=1e-6, abs=1e-7)
    assert result["df"] == pytest.approx(list(f.df), rel=1e-6)
    assert result["p_value"] == pytest.approx(f.pvalue, rel=1e-5, abs=1e-12)
    everybody = np.concatenate(values)
    total = np.square(everybody - everybody.mean()).sum()
    assert sum(row["sum_of_squares"] for row in result["table"]) == pytest.approx(total, rel=1e-7)
    small = [len(one) < limits.min_cell for one in values]
    assert not any(small)


@settings(max_examples=25, deadline=None)
@given(sites=tables(), limits=disclosures, x=measured, welch=st.booleans())
def test_institutions(sites: list[Table], limits: Disclosure, x: str, welch: bool) -> None:
    kind = "welch" if welch else "classical"
    result = run("anova", sites, limits, variable=x, kind=kind)
    (values,) = heard(sites, limits, (x,))
    if isinstance(result, CohortiumError):
        few = sum(map(len, values)) < limits.min_cell
        assert len(values) < 3 or few or any(np.ptp(one) == 0 for one in values)
        return
    f = oneway.anova_oneway(near_zero(values), use_var="unequal" if welch else "equal")
    assert result["statistic"] == pytest.approx(f.statistic, rel=1e-6, abs=1e-7)
    assert result["df"] == pytest.approx(list(f.df), rel=1e-6)
    assert result["p_value"] == pytest.approx(f.pvalue, rel=1e-5, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(sites=tables(), limits=disclosures, x=measured, by=grouped, mean=st.booleans())
def test_variances(sites: list[Table], limits: Disclosure, x: str, by: str, mean: bool) -> None:
    centre = "mean" if mean else "median"
    result = run("levene", sites, limits, variable=x, by=by, centre=centre)
    groups = heard(sites, limits, (x,), by)
    values = [one for one in pooled(groups) if len(one)]
    if isinstance(result, CohortiumError):
        tail = not mean and any(len(one) < 2 * limits.min_cell for one in values)
        assert tail or refused_rightly(result, groups, limits)
        return
    if mean or result["resolution"] is None:
        w = stats.levene(*near_zero(values), center=centre)
        assert result["statistic"] == pytest.approx(w.statistic, rel=1e-6, abs=1e-7)
        assert result["p_value"] == pytest.approx(w.pvalue, rel=1e-5, abs=1e-12)
        return
    medians = [group["median"] for group in result["groups"]]
    w = stats.f_oneway(*(abs(v - m) for v, m in zip(values, medians, strict=True)))
    assert result["statistic"] == pytest.approx(w.statistic, rel=1e-6, abs=1e-6)
    for interval in result["resolution"]["medians"]:
        at = [g["level"] for g in result["groups"]].index(interval["level"])
        slack = 1e-9 * max(abs(interval["low"]), abs(interval["high"]))
        assert interval["low"] - slack <= np.median(values[at]) <= interval["high"] + slack


@settings(max_examples=40, deadline=None)
@given(sites=tables(), limits=disclosures, x=measured, by=st.sampled_from([None, "s"]))
def test_shape(sites: list[Table], limits: Disclosure, x: str, by: str | None) -> None:
    result = run("normality", sites, limits, variable=x, by=by)
    groups = heard(sites, limits, (x,), by)
    values = near_zero([one for one in pooled(groups) if len(one)] or [np.empty(0)])
    values = [one - one.mean() for one in values if len(one)]
    if isinstance(result, CohortiumError):
        assert sum(map(len, values)) < 8 or refused_rightly(result, groups, limits)
        return
    residuals = np.concatenate(values)
    expected = {
        "jarque-bera": stats.jarque_bera(residuals),
        "dagostino": stats.normaltest(residuals),
        "skewness": stats.skewtest(residuals),
        "kurtosis": stats.kurtosistest(residuals),
    }
    for test in result["tests"]:
        reference = expected[test["test"]]
        if expected["kurtosis"].statistic < -5 and test["test"] in {"dagostino", "kurtosis"}:
            continue  # Of values so flat, Anscombe & Glynn's z is near its pole.
        assert test["statistic"] == pytest.approx(reference.statistic, rel=1e-6, abs=1e-6)
        assert test["p_value"] == pytest.approx(reference.pvalue, rel=1e-5, abs=1e-12)
    bins = result["histogram"]["bins"]
    assert sum(one["n"] for one in bins) == result["n"] == len(residuals)
    assert min(one["n"] for one in bins) >= limits.min_cell
    assert (bins[0]["low"], bins[-1]["high"]) == (None, None)
    assert all(a["high"] == b["low"] for a, b in itertools.pairwise(bins))


@settings(max_examples=15, deadline=None)
@given(sites=tables(), limits=disclosures, seed=st.integers(0, 99))
def test_the_order_of_sites_does_not_matter(
    sites: list[Table], limits: Disclosure, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(sites))
    shuffled = [sites[at] for at in order]
    for name, params in (
        ("t_test", {"variable": "x", "by": "b"}),
        ("anova", {"variable": "x", "by": "s"}),
        ("anova", {"variable": "x", "kind": "welch"}),
        ("levene", {"variable": "k", "by": "b"}),
        ("normality", {"variable": "y"}),
    ):
        one, other = (run(name, tables, limits, **params) for tables in (sites, shuffled))
        if isinstance(one, CohortiumError):
            assert isinstance(other, CohortiumError)
            assert one.to_wire() == other.to_wire()
        else:
            assert one == other
