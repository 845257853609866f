"""Tests of ranks over sites give what scipy gives on everybody's values."""

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
from cohortium.errors import CohortiumError, InputError, PolicyRefusal

stats = pytest.importorskip("scipy.stats")

X = Variable(name="x", type=VariableType.REAL)
D = Variable(name="d", type=VariableType.REAL, decimals=1)
K = Variable(name="k", type=VariableType.INTEGER)
T = Variable(name="t", type=VariableType.DATE)
S = Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c"))
B = Variable(name="b", type=VariableType.BOOLEAN)
MEASURED = ("x", "d", "k", "t")


@st.composite
def tables(draw: st.DrawFn) -> list[Table]:
    """Two to four sites: odd scales, heavy ties, far outliers, missing values."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(0, 90), min_size=2, max_size=4))
    n = sum(sizes)
    scale = draw(st.sampled_from([1e-9, 1.0, 1e6]))
    x = (random.standard_cauchy(n) + draw(st.sampled_from([0.0, -1e3]))) * scale
    k = random.integers(-3, draw(st.sampled_from([-2, -1, 0, 40])), n).astype(float)
    d = np.round(random.lognormal(2, draw(st.sampled_from([0.1, 2.0])), n), 1)
    t = np.floor(random.uniform(15_000, 19_000, n))
    s = random.choice(3, n, p=[0.45, 0.45, 0.1]).astype(np.int32)
    b = (random.uniform(size=n) < 0.4).astype(float)
    d += (s == 1) * draw(st.sampled_from([0.0, 0.5]))
    for column in (x, k, d, t, b):
        column[random.uniform(size=n) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    s[random.uniform(size=n) < 0.05] = -1
    columns = {"x": x, "d": np.round(d, 1), "k": k, "t": t, "s": s, "b": b}
    return split(Table({v.name: v for v in (X, D, K, T, S, B)}, columns), sizes)


disclosures = st.builds(
    Disclosure, min_cell=st.sampled_from([1, 5]), floor=st.sampled_from(["site", "total"])
)


def groups_of(
    sites: list[Table], name: str, by: str, levels: tuple[int, ...], limits: Disclosure
) -> list[Any]:
    """The values that the sites may contribute, group by group."""
    floor = limits.min_cell if limits.floor == "site" else 0
    found: list[Any] = []
    for level in levels:
        parts = [np.empty(0)]
        for site in sites:
            rows = (site.columns[by] == level) & site.present(name)
            if rows.sum() >= floor:
                parts.append(site.columns[name][rows])
        found.append(np.concatenate(parts))
    return found


def run(name: str, params: dict[str, Any], sites: list[Table], limits: Disclosure) -> Any:
    try:
        return dict(run_pooled_sum(find(name), params, sites, limits).result)
    except (PolicyRefusal, InputError) as refusal:
        return refusal


def agrees(found: dict[str, Any], expected: float) -> bool:
    """Whether the statistic is exact; if not, its limits hold, and the variable is continuous."""
    limits = found["resolution"]
    if limits is None:
        assert found["statistic"] == pytest.approx(expected, rel=1e-9, abs=1e-10)
        return True
    assert found["variable"] == "x"
    assert limits["low"] - 1e-9 <= expected <= limits["high"] + 1e-9
    assert limits["low"] - 1e-9 <= found["statistic"] <= limits["high"] + 1e-9
    return False


@settings(max_examples=40, deadline=None)
@given(
    sites=tables(),
    limits=disclosures,
    name=st.sampled_from(MEASURED),
    by=st.sampled_from(["s", "b"]),
    alternative=st.sampled_from(["two-sided", "less", "greater"]),
)
def test_two_groups_over_sites_are_two_groups_together(
    sites: list[Table], limits: Disclosure, name: str, by: str, alternative: str
) -> None:
    params: dict[str, Any] = {"variable": name, "by": by, "alternative": alternative}
    if by == "s":
        params["levels"] = ["b", "a"]
    u, d = (run(f"stats.{one}", params, sites, limits) for one in ("mann_whitney", "ks"))
    x, y = groups_of(sites, name, by, (1, 0) if by == "s" else (0, 1), limits)
    if isinstance(u, PolicyRefusal):
        assert isinstance(d, PolicyRefusal)
        return
    if len(np.unique([*x, *y])) == 2:
        shares = [int(n) for one in (x, y) for n in np.unique(one, return_counts=True)[1]]
        assert min(shares) >= limits.min_cell
    assert min(len(x), len(y)) >= limits.min_cell
    expected = stats.ks_2samp(x, y, alternative=alternative)
    if agrees(d, expected.statistic):
        assert d["p_value"] == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-12)
    if isinstance(u, InputError):
        assert len(np.unique(np.concatenate([x, y]))) == 1
        return
    expected = stats.mannwhitneyu(x, y, alternative=alternative)
    if agrees(u, expected.statistic):
        assert u["p_value"] == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-12)
    assert u["estimate"]["value"] == u["statistic"] / (len(x) * len(y))
    assert [group["n"] for group in u["groups"]] == [len(x), len(y)]


@settings(max_examples=30, deadline=None)
@given(sites=tables(), limits=disclosures, name=st.sampled_from(MEASURED))
def test_several_groups_over_sites_are_several_groups_together(
    sites: list[Table], limits: Disclosure, name: str
) -> None:
    h = run("stats.kruskal", {"variable": name, "by": "s"}, sites, limits)
    if isinstance(h, PolicyRefusal):
        return
    groups = [one for one in groups_of(sites, name, "s", (0, 1, 2), limits) if len(one)]
    if isinstance(h, InputError):
        assert len(np.unique(np.concatenate(groups))) == 1
        return
    expected = stats.kruskal(*groups)
    if agrees(h, expected.statistic):
        assert h["p_value"] == pytest.approx(expected.pvalue, rel=1e-8)
    assert min(group["n"] for group in h["groups"]) >= limits.min_cell


@settings(max_examples=20, deadline=None)
@given(sites=tables(), limits=disclosures, seed=st.integers(0, 99))
def test_the_order_of_sites_does_not_matter(
    sites: list[Table], limits: Disclosure, seed: int
) -> None:
    params = {"variable": "x", "by": "s"}
    order = np.random.default_rng(seed).permutation(len(sites))
    one = run("stats.kruskal", params, sites, limits)
    other = run("stats.kruskal", params, [sites[at] for at in order], limits)
    assert str(one) == str(other) if isinstance(one, CohortiumError) else one == other
