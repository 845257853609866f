"""A table over sites is the pooled table, and its tests are scipy's and statsmodels'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import StratifiedTable, mcnemar
from tests.support.federation import run_pooled_sum
from tests.support.tables import category, persons

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import PolicyRefusal

stats = pytest.importorskip("scipy.stats")

ROW, COLUMN = category("row", "a", "b", "c"), category("column", "x", "y", "z", "none")
FIRST, SECOND = (Variable(name=name, type=VariableType.BOOLEAN) for name in ("first", "second"))
CLINIC = category("clinic", *"pqrs")

limits = st.builds(
    Disclosure, min_cell=st.sampled_from([1, 3, 5, 10]), floor=st.sampled_from(["site", "total"])
)


@st.composite
def counted(draw: st.DrawFn, *shape: int) -> tuple[list[Any], list[int]]:
    """Two to four sites' counts, from empty to full, and how many persons lack a value."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    mean = draw(st.sampled_from([1.0, 4.0, 12.0, 40.0]))
    rates = random.gamma(4.0, mean / 4.0, size=shape)
    rates[random.random(shape) < draw(st.sampled_from([0.0, 0.2]))] = 0.0
    n_sites = draw(st.integers(2, 4))
    sites = [random.poisson(rates * draw(st.sampled_from([0.0, 0.3, 1.0]))) for _ in range(n_sites)]
    return sites, random.integers(0, 9, size=n_sites).tolist()


def taken(sites: list[Any], disclosure: Disclosure) -> list[Any]:
    """The sites' counts, without those below their own floor."""
    floor = disclosure.min_cell if disclosure.floor == "site" else 0
    return [site for site in sites if site.sum() >= floor]


def run(
    name: str, params: dict[str, Any], tables: list[Table], disclosure: Disclosure
) -> dict[str, Any] | None:
    try:
        return dict(run_pooled_sum(find(name), params, tables, disclosure).result)
    except PolicyRefusal:
        return None


def of(result: dict[str, Any], test: str) -> dict[str, Any]:
    return next(one for one in result["tests"] if one["test"] == test)


@settings(max_examples=60, deadline=None)
@given(made=counted(3, 4), disclosure=limits)
def test_a_table_over_sites_is_the_pooled_table(
    made: tuple[list[Any], list[int]], disclosure: Disclosure
) -> None:
    sites, missing = made
    tables = [persons(s, [ROW, COLUMN], m) for s, m in zip(sites, missing, strict=True)]
    result = run("stats.crosstab", {"row": "row", "column": "column"}, tables, disclosure)
    if result is None:
        return
    kept = taken(sites, disclosure)
    pooled = np.sum(kept, axis=0)
    assert result["n"] == pooled.sum()
    parts = [
        (result["counts"], pooled),
        ([result["row_totals"]], pooled.sum(axis=1)[None]),
        ([result["column_totals"]], pooled.sum(axis=0)[None]),
    ]
    for released, exact in parts:
        for row, numbers in zip(released, exact.tolist(), strict=True):
            for number, count in zip(row, numbers, strict=True):
                assert number in {None, count}
                assert number is None or number == 0 or number >= disclosure.min_cell
    flat = [number for row in result["counts"] for number in row]
    if None in flat:
        assert result["p_value"] is None
        return
    assert np.all((np.array(kept) > 0).sum(axis=0)[pooled > 0] >= 2)
    some = pooled[pooled.sum(axis=1) > 0][:, pooled.sum(axis=0) > 0]
    if min(some.shape) < 2:
        return
    chi2 = stats.chi2_contingency(some, correction=False)
    assert result["statistic"] == pytest.approx(chi2.statistic, rel=1e-10)
    assert result["p_value"] == pytest.approx(chi2.pvalue, rel=1e-9)
    assert result["df"] == chi2.dof
    g = stats.chi2_contingency(some, correction=False, lambda_="log-likelihood")
    assert of(result, "likelihood-ratio")["statistic"] == pytest.approx(g.statistic, abs=1e-9)
    v = stats.contingency.association(some, method="cramer")
    assert result["effects"][-2]["value"] == pytest.approx(v, rel=1e-10)


@settings(max_examples=40, deadline=None)
@given(made=counted(2, 2), disclosure=limits)
def test_a_2x2_table_has_scipys_tests_and_ratios(
    made: tuple[list[Any], list[int]], disclosure: Disclosure
) -> None:
    sites, missing = made
    tables = [persons(s, [FIRST, SECOND], m) for s, m in zip(sites, missing, strict=True)]
    result = run("stats.crosstab", {"row": "first", "column": "second"}, tables, disclosure)
    if result is None or result["p_value"] is None:
        return
    pooled = np.sum(taken(sites, disclosure), axis=0)
    yates = stats.chi2_contingency(pooled, correction=True)
    assert of(result, "chi-square-yates")["statistic"] == pytest.approx(yates.statistic)
    exact = of(result, "fisher")
    assert exact["p_value"] == pytest.approx(stats.fisher_exact(pooled).pvalue, rel=1e-6)
    conditional = stats.contingency.odds_ratio(pooled, kind="conditional")
    if exact["odds_ratio"] is not None:
        low, high = conditional.confidence_interval(0.95)
        assert exact["odds_ratio"] == pytest.approx(conditional.statistic, rel=1e-6)
        assert (exact["low"], exact["high"]) == (
            pytest.approx(low, rel=1e-6),
            pytest.approx(high, rel=1e-6),
        )
    if np.all(pooled > 0):
        sample = stats.contingency.odds_ratio(pooled, kind="sample")
        low, high = sample.confidence_interval(0.95)
        assert result["estimate"]["value"] == pytest.approx(sample.statistic)
        assert (result["estimate"]["low"], result["estimate"]["high"]) == pytest.approx((low, high))
        (a, b), (c, d) = pooled.tolist()
        risk = stats.contingency.relative_risk(d, c + d, b, a + b)
        low, high = risk.confidence_interval(0.95)
        assert result["effects"][0]["value"] == pytest.approx(risk.relative_risk)
        assert (result["effects"][0]["low"], result["effects"][0]["high"]) == pytest.approx(
            (low, high)
        )


@settings(max_examples=40, deadline=None)
@given(made=counted(2, 2), disclosure=limits, correction=st.booleans())
def test_pairs_have_statsmodels_mcnemar(
    made: tuple[list[Any], list[int]], disclosure: Disclosure, correction: bool
) -> None:
    sites, missing = made
    tables = [persons(s, [FIRST, SECOND], m) for s, m in zip(sites, missing, strict=True)]
    params = {"before": "first", "after": "second", "correction": correction}
    result = run("stats.mcnemar", params, tables, disclosure)
    if result is None or result["p_value"] is None:
        return
    pooled = np.sum(taken(sites, disclosure), axis=0)
    exact = mcnemar(pooled, exact=True).pvalue
    assert of(result, "mcnemar-exact")["p_value"] == pytest.approx(exact, rel=1e-9)
    if pooled[0, 1] != pooled[1, 0]:  # statsmodels corrects beyond the null hypothesis
        other = mcnemar(pooled, exact=False, correction=correction)
        assert result["statistic"] == pytest.approx(other.statistic)
        assert result["p_value"] == pytest.approx(other.pvalue)


def check_stratified(result: dict[str, Any], strata: list[Any]) -> None:
    used = [s for s in strata if np.all(s.sum(axis=0)) and np.all(s.sum(axis=1))]
    other = StratifiedTable(np.moveaxis(np.array(used, dtype=float), 0, -1))
    assert result["n_strata"] == len(used)
    plain = other.test_null_odds(correction=False)
    assert of(result, "cmh")["statistic"] == pytest.approx(plain.statistic, rel=1e-9, abs=1e-12)
    assert of(result, "cmh")["p_value"] == pytest.approx(plain.pvalue, rel=1e-8)
    if not result["homogeneity"]:
        return
    assert result["estimate"]["value"] == pytest.approx(other.oddsratio_pooled)
    low, high = other.oddsratio_pooled_confint()
    assert (result["estimate"]["low"], result["estimate"]["high"]) == pytest.approx((low, high))
    if len(used) > 1:
        day, tarone = (other.test_equal_odds(adjust=adjust) for adjust in (False, True))
        statistics = [one["statistic"] for one in result["homogeneity"]]
        assert statistics == pytest.approx([day.statistic, tarone.statistic], abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(made=counted(2, 2), disclosure=limits)
def test_over_sites_it_is_statsmodels_stratified_table(
    made: tuple[list[Any], list[int]], disclosure: Disclosure
) -> None:
    sites, missing = made
    tables = [persons(s, [FIRST, SECOND], m) for s, m in zip(sites, missing, strict=True)]
    result = run("stats.cmh", {"row": "first", "column": "second"}, tables, disclosure)
    if result is not None:
        check_stratified(result, taken(sites, disclosure))


@settings(max_examples=40, deadline=None)
@given(made=counted(4, 2, 2), disclosure=limits)
def test_over_levels_it_is_statsmodels_stratified_table(
    made: tuple[list[Any], list[int]], disclosure: Disclosure
) -> None:
    sites, missing = made
    tables = [persons(s, [CLINIC, FIRST, SECOND], m) for s, m in zip(sites, missing, strict=True)]
    params = {"row": "first", "column": "second", "strata": "clinic"}
    result = run("stats.cmh", params, tables, disclosure)
    if result is not None:
        check_stratified(result, list(np.sum(taken(sites, disclosure), axis=0)))


@settings(max_examples=15, deadline=None)
@given(made=counted(2, 2), disclosure=limits, seed=st.integers(0, 99))
def test_the_order_of_sites_does_not_matter(
    made: tuple[list[Any], list[int]], disclosure: Disclosure, seed: int
) -> None:
    sites, missing = made
    tables = [persons(s, [FIRST, SECOND], m) for s, m in zip(sites, missing, strict=True)]
    turned = [tables[at] for at in np.random.default_rng(seed).permutation(len(tables))]
    for name in ("stats.crosstab", "stats.cmh"):
        params = {"row": "first", "column": "second"}
        assert run(name, params, turned, disclosure) == run(name, params, tables, disclosure)
