"""Correlations over sites are those of everybody's values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.correlated import NAMES, disclosures, tables
from tests.support.federation import run_pooled_sum

from cohortium.analysis.builtin import find
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, PolicyRefusal

stats = pytest.importorskip("scipy.stats")

SCALES = (1e-6, 1.0, 1e7)


def run(params: dict[str, Any], sites: list[Table], limits: Disclosure) -> Any:
    try:
        return dict(run_pooled_sum(find("stats.correlation"), params, sites, limits).result)
    except PolicyRefusal as refusal:
        return refusal


def contributed(
    sites: list[Table], names: tuple[str, ...], used: tuple[str, ...], limits: Disclosure
) -> pd.DataFrame:
    """The persons with every value in `names`, as far as their sites may speak of them."""
    floor = limits.min_cell if limits.floor == "site" else 0
    frames = [pd.DataFrame(dict(site.columns)).dropna(subset=list(names)) for site in sites]
    return pd.concat([frame[list(used)] for frame in frames if len(frame) >= floor])


def matrix(result: dict[str, Any], name: str) -> Any:
    return np.array(result[name], dtype=float)


@settings(max_examples=40, deadline=None)
@given(sites=tables(SCALES), limits=disclosures)
def test_complete_persons_over_sites_are_those_together(
    sites: list[Table], limits: Disclosure
) -> None:
    result = run({"variables": list(NAMES)}, sites, limits)
    if isinstance(result, PolicyRefusal):
        return
    frame = contributed(sites, NAMES, NAMES, limits)
    assert result["n"] == len(frame)
    found, expected = matrix(result, "correlation"), frame.corr().to_numpy()
    known = ~np.isnan(found)
    assert found[known] == pytest.approx(expected[known], abs=1e-10)
    spread = np.sqrt(np.diag(frame.cov()))
    known &= np.outer(spread, spread) > 0
    scaled = matrix(result, "covariance")[known] / np.outer(spread, spread)[known]
    assert scaled == pytest.approx(expected[known], abs=1e-9)
    for i, j in zip(*np.nonzero(np.triu(known, 1)), strict=True):
        one = stats.pearsonr(frame.iloc[:, i], frame.iloc[:, j])
        assert result["p_value"][i][j] == pytest.approx(one.pvalue, rel=1e-7, abs=1e-300)
        interval = one.confidence_interval()
        assert result["low"][i][j] == pytest.approx(interval.low, abs=1e-9)
        assert result["high"][i][j] == pytest.approx(interval.high, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(sites=tables(SCALES), limits=disclosures)
def test_pairs_over_sites_are_pairs_together(sites: list[Table], limits: Disclosure) -> None:
    result = run({"variables": list(NAMES), "missing": "pairwise"}, sites, limits)
    if isinstance(result, PolicyRefusal):
        return
    for i, first in enumerate(NAMES):
        for j, second in enumerate(NAMES[:i]):
            r = result["correlation"][i][j]
            if r is None:
                continue
            frame = contributed(sites, (first, second), (first, second), limits)
            assert result["n_pairs"][i][j] == len(frame) >= limits.min_cell
            assert r == pytest.approx(frame.corr().iloc[0, 1], abs=1e-10)


@settings(max_examples=40, deadline=None)
@given(sites=tables(SCALES), limits=disclosures, missing=st.sampled_from(["complete", "pairwise"]))
def test_a_correlation_gives_no_small_class_away(
    sites: list[Table], limits: Disclosure, missing: str
) -> None:
    result = run({"variables": list(NAMES), "missing": missing}, sites, limits)
    if isinstance(result, PolicyRefusal):
        return
    for j, other in enumerate(NAMES[:3]):
        names = NAMES if missing == "complete" else (other, "k")
        k = contributed(sites, names, ("k",), limits)["k"]
        sizes = [int((k == 1).sum()), int((k == 2).sum())]
        if 0 < min(sizes) < limits.min_cell:
            assert result["correlation"][3][j] is None
            assert result["covariance"][3][j] is None
            assert result["suppressed"]


@settings(max_examples=30, deadline=None)
@given(sites=tables(SCALES), limits=disclosures)
def test_partial_correlations_are_those_of_residuals(
    sites: list[Table], limits: Disclosure
) -> None:
    result = run({"variables": ["u", "v"], "given": ["w"]}, sites, limits)
    if isinstance(result, CohortiumError):
        return
    frame = contributed(sites, ("u", "v", "w"), ("u", "v", "w"), limits).to_numpy()
    x = np.column_stack([np.ones(len(frame)), frame[:, 2]])
    rest = [
        y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        for y in ((frame[:, at] - frame[:, at].mean()) / frame[:, at].std() for at in (0, 1))
    ]
    expected = np.corrcoef(rest)[0, 1]
    assert result["correlation"][0][1] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(sites=tables(SCALES), limits=disclosures, seed=st.integers(0, 99))
def test_the_order_of_sites_does_not_matter(
    sites: list[Table], limits: Disclosure, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(sites))
    params = {"variables": ["u", "v", "w"], "missing": "pairwise"}
    one, other = run(params, sites, limits), run(params, [sites[at] for at in order], limits)
    assert str(one) == str(other) if isinstance(one, CohortiumError) else one == other
