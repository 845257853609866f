"""Spearman's correlation over sites is that of everybody's ranks, within what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis.builtin import find
from cohortium.analysis.distribution import Distribution
from cohortium.analysis.rank_bins import bins_of
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, PolicyRefusal

stats = pytest.importorskip("scipy.stats")

VARIABLES = {
    "x": Variable(name="x", type=VariableType.REAL),
    "d": Variable(name="d", type=VariableType.REAL, decimals=1),
    "o": Variable(name="o", type=VariableType.INTEGER),
    "q": Variable(name="q", type=VariableType.INTEGER),
    "b": Variable(name="b", type=VariableType.BOOLEAN),
}
NAMES = tuple(VARIABLES)


@st.composite
def tables(draw: st.DrawFn) -> list[Table]:
    """Two to four sites; continuous, recorded, ordinal and boolean variables that go together."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(0, 150), min_size=2, max_size=4))
    n = sum(sizes)
    base = random.normal(size=n)
    columns: dict[str, Any] = {
        "x": base * draw(st.sampled_from([1e-6, 1.0])) + 5,
        "d": np.round(np.exp(base / 2 + random.normal(size=n)), 1),
        "o": np.clip(np.round(base), -1, 1) + 3,
        "q": np.clip(np.round(base + random.normal(size=n)), -1, 1),
        "b": (base + random.normal(size=n) > draw(st.sampled_from([0.0, 2.5]))).astype(float),
    }
    for column in columns.values():
        column[random.uniform(size=n) < draw(st.sampled_from([0.0, 0.05]))] = np.nan
    return split(Table(VARIABLES, columns), sizes)


disclosures = st.builds(
    Disclosure, min_cell=st.sampled_from([1, 5]), floor=st.sampled_from(["site", "total"])
)


def run(
    names: tuple[str, ...],
    sites: list[Table],
    limits: Disclosure,
    seen: list[tuple[State, Any]] | None = None,
) -> Any:
    params = {"variables": list(names)}
    try:
        done = run_pooled_sum(find("stats.spearman"), params, sites, limits, seen=seen)
    except PolicyRefusal as refusal:
        return refusal
    return dict(done.result)


def contributed(sites: list[Table], names: tuple[str, ...], limits: Disclosure) -> pd.DataFrame:
    floor = limits.min_cell if limits.floor == "site" else 0
    frames = [pd.DataFrame(dict(site.columns))[list(names)].dropna() for site in sites]
    return pd.concat([frame for frame in frames if len(frame) >= floor])


@settings(max_examples=40, deadline=None)
@given(sites=tables(), limits=disclosures)
def test_the_correlation_of_everybodys_ranks_lies_within_the_resolution(
    sites: list[Table], limits: Disclosure
) -> None:
    result = run(NAMES, sites, limits)
    if isinstance(result, PolicyRefusal):
        return
    frame = contributed(sites, NAMES, limits)
    assert result["n"] == len(frame)
    expected = frame.corr(method="spearman").to_numpy()
    for i in range(len(NAMES)):
        for j in range(i):
            r = result["correlation"][i][j]
            if r is None:
                continue
            low = high = r
            if result["resolution"] is not None:
                low, high = (result["resolution"][end][i][j] for end in ("low", "high"))
            assert low - 1e-9 <= expected[i, j] <= high + 1e-9
            assert low - 1e-9 <= r <= high + 1e-9
            assert r == pytest.approx(expected[i, j], abs=30 / len(frame) ** 1.5 + 1e-9)


@settings(max_examples=30, deadline=None)
@given(sites=tables(), limits=disclosures)
def test_ordinal_scales_are_exact(sites: list[Table], limits: Disclosure) -> None:
    result = run(("o", "q"), sites, limits)
    if isinstance(result, PolicyRefusal):
        return
    frame = contributed(sites, ("o", "q"), limits)
    if min(frame[name].value_counts().min() for name in frame) < limits.min_cell:
        return
    assert result["resolution"] is None
    expected = stats.spearmanr(frame["o"], frame["q"])
    assert result["correlation"][0][1] == pytest.approx(expected.statistic, abs=1e-12)
    assert result["p_value"][0][1] == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)


@settings(max_examples=30, deadline=None)
@given(sites=tables(), limits=disclosures)
def test_no_site_is_told_of_fewer_persons_than_a_cell(
    sites: list[Table], limits: Disclosure
) -> None:
    seen: list[tuple[State, Any]] = []
    if isinstance(run(NAMES, sites, limits, seen), CohortiumError):
        return
    state = seen[-1][0]
    for v in range(len(NAMES)):
        assert state.arrays[f"persons_{v}"].min() >= limits.min_cell


@settings(max_examples=60, deadline=None)
@given(
    persons=st.lists(st.integers(1, 12), min_size=1, max_size=60),
    gaps=st.lists(st.integers(1, 1000), min_size=60, max_size=60),
    start=st.integers(-10_000, 10_000),
    min_cell=st.integers(1, 8),
)
def test_bins_are_as_fine_as_they_may_be(
    persons: list[int], gaps: list[int], start: int, min_cell: int
) -> None:
    if sum(persons) < min_cell:
        return
    cells = start + np.cumsum(gaps[: len(persons)])
    of = Distribution(cells, np.array(persons)[:, None], 1.0, True)
    bins = bins_of(of, min_cell)
    at = np.searchsorted(bins.edges, cells, side="right")
    assert np.array_equal(np.bincount(at, weights=persons), bins.persons)
    assert bins.persons.min() >= min_cell
    assert bins.persons.max() < 4 * max(min_cell, *persons)
    assert np.array_equal(bins.tied == 1, np.bincount(at) == 1)
    ranks, doubt = bins.ranks(np.repeat(cells, persons).astype(float))
    # Who has everybody here knows everybody's rank.
    assert ranks == pytest.approx(stats.rankdata(np.repeat(cells, persons)))
    assert doubt.max() < 1e-9
