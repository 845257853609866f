"""Describing sites gives what describing everybody gives, and no small cell."""

from __future__ import annotations

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
from cohortium.errors import PolicyRefusal

scipy_stats = pytest.importorskip("scipy.stats")

X = Variable(name="x", type=VariableType.REAL)
D = Variable(name="d", type=VariableType.REAL, decimals=1)
K = Variable(name="k", type=VariableType.INTEGER)
S = Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c", "d"))
QUANTILES = [0.05, 0.25, 0.5, 0.9]


@st.composite
def tables(draw: st.DrawFn) -> list[Table]:
    """One to four sites, some empty, of odd scales, with missing values and rare levels."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(0, 120), min_size=1, max_size=4))
    n = sum(sizes)
    scale = draw(st.sampled_from([1e-9, 1.0, 1e6]))
    centre = draw(st.sampled_from([0.0, 1.0, -1e3]))
    x = (random.standard_t(4, n) + centre) * scale
    k = random.integers(-3, draw(st.sampled_from([-2, 0, 3, 40])), n).astype(float)
    d = np.round(random.normal(20, draw(st.sampled_from([0.2, 4.0])), n), 1)
    rates = draw(st.sampled_from([(0.25, 0.25, 0.25, 0.25), (0.6, 0.35, 0.05, 0.0)]))
    s = random.choice(4, n, p=rates).astype(np.int32)
    missing = draw(st.sampled_from([0.0, 0.2, 0.9]))
    for column in (x, k, d):
        column[random.uniform(size=n) < missing] = np.nan
    s[random.uniform(size=n) < missing / 2] = -1
    table = Table({v.name: v for v in (X, D, K, S)}, {"x": x, "d": d, "k": k, "s": s})
    return split(table, sizes)


disclosures = st.builds(
    Disclosure, min_cell=st.sampled_from([1, 3, 5, 10]), floor=st.sampled_from(["site", "total"])
)


def describe(sites: list[Table], disclosure: Disclosure, by: str | None) -> dict[str, Any] | None:
    params = {"variables": ["x", "d", "k", "s"], "by": by, "quantiles": QUANTILES}
    try:
        return dict(run_pooled_sum(find("stats.describe"), params, sites, disclosure).result)
    except PolicyRefusal:
        return None


def contributed(sites: list[Table], name: str, level: int | None, limits: Disclosure) -> Any:
    """The values that the sites may contribute, in one array."""
    floor = limits.min_cell if limits.floor == "site" else 0
    parts = []
    for site in sites:
        rows = np.ones(site.n_rows, bool) if level is None else site.columns["s"] == level
        values = site.columns[name][rows & site.present(name)]
        if rows.sum() >= floor and len(values) >= floor:
            parts.append(values)
    return np.concatenate([*parts, np.empty(0)])


def check_moments(entry: dict[str, Any], values: Any) -> None:
    spread = float(np.std(values))
    assert entry["mean"] == pytest.approx(np.mean(values), rel=1e-10, abs=1e-12 * spread)
    if len(values) > 1:
        expected = np.var(values, ddof=1)
        assert entry["variance"] == pytest.approx(expected, rel=1e-10, abs=1e-28)
    if entry["skewness"] is not None:
        assert entry["skewness"] == pytest.approx(scipy_stats.skew(values), rel=1e-8, abs=1e-8)
        assert entry["kurtosis"] == pytest.approx(scipy_stats.kurtosis(values), rel=1e-8, abs=1e-8)


def check_quantiles(entry: dict[str, Any], values: Any, min_cell: int) -> None:
    ordered = np.sort(values)
    for released in entry["quantiles"]:
        exact = np.quantile(values, released["q"])
        position = (len(values) - 1) * released["q"]
        around = ordered[[int(np.floor(position)), int(np.ceil(position))]]
        if released["value"] is None:
            continue
        low, value, high = released["low"], released["value"], released["high"]
        slack = 1e-9 * max(abs(low), abs(high))
        assert low - slack <= exact <= high + slack
        assert low <= value <= high
        persons = [int(np.isclose(values, a, rtol=0, atol=1e-9).sum()) for a in around]
        if entry["grid"] and min(persons) >= min_cell:
            assert value == pytest.approx(exact, rel=1e-12, abs=1e-12)
        if entry["grid"]:
            assert (low == high) == (min(persons) >= min_cell)


@settings(max_examples=60, deadline=None)
@given(sites=tables(), limits=disclosures, grouped=st.booleans())
def test_the_federated_description_is_the_pooled_one(
    sites: list[Table], limits: Disclosure, grouped: bool
) -> None:
    result = describe(sites, limits, "s" if grouped else None)
    if result is None:
        return
    for at, group in enumerate(result["groups"]):
        level = at if grouped else None
        if group["n"] is None:
            continue
        for name in ("x", "d", "k"):
            values = contributed(sites, name, level, limits)
            entry = {**group["variables"][name], "grid": name != "x"}
            if entry["n"] is None:
                assert len(values) < limits.min_cell
                continue
            assert entry["n"] == len(values)
            if entry["n"] and entry["mean"] is not None:
                check_moments(entry, values)
                check_quantiles(entry, values, limits.min_cell)


@settings(max_examples=60, deadline=None)
@given(sites=tables(), limits=disclosures, grouped=st.booleans())
def test_no_small_cell_is_released(sites: list[Table], limits: Disclosure, grouped: bool) -> None:
    result = describe(sites, limits, "s" if grouped else None)
    small = range(1, limits.min_cell)
    if result is None:
        return
    for group in result["groups"]:
        assert group["n"] not in small
        if group["n"] is None:
            assert group["variables"] == {}
        for entry in group["variables"].values():
            assert entry["n"] not in small
            if entry["n"] is None:
                assert set(entry) <= {"type", "unit", "n", "missing"}
                assert entry["missing"] is None
                continue
            counts = [level["count"] for level in entry.get("levels", ())]
            assert not set(counts) & set(small)
            if None in counts:
                rest = entry["n"] - sum(count for count in counts if count is not None)
                assert counts.count(None) >= 2
                assert rest >= limits.min_cell


@settings(max_examples=25, deadline=None)
@given(sites=tables(), limits=disclosures, seed=st.integers(0, 99), grouped=st.booleans())
def test_the_order_of_sites_does_not_matter(
    sites: list[Table], limits: Disclosure, seed: int, grouped: bool
) -> None:
    by = "s" if grouped else None
    order = np.random.default_rng(seed).permutation(len(sites))
    assert describe([sites[at] for at in order], limits, by) == describe(sites, limits, by)
