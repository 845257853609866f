"""Principal components over sites are those of everybody's values, and give no small class away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.correlated import NAMES, VARIABLES, disclosures, tables
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

import cohortium as co
from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal

decomposition = pytest.importorskip("sklearn.decomposition")
datasets = pytest.importorskip("sklearn.datasets")

SCALES = (1e-3, 1.0, 1e4)


def run(sites: list[Table], limits: Disclosure, **params: Any) -> Any:
    try:
        params = {"variables": list(NAMES), **params}
        return dict(run_pooled_sum(find("stats.pca"), params, sites, limits).result)
    except CohortiumError as error:
        return error


def contributed(sites: list[Table], names: list[str], limits: Disclosure) -> pd.DataFrame:
    floor = limits.min_cell if limits.floor == "site" else 0
    frames = [pd.DataFrame(dict(site.columns))[names].dropna() for site in sites]
    spoken = [frame for frame in frames if len(frame) >= floor]
    return pd.concat(spoken or [frames[0][:0]])


@settings(max_examples=30, deadline=None)
@given(sites=tables(SCALES), limits=disclosures, scale=st.booleans(), rare=st.booleans())
def test_components_over_sites_are_those_together(
    sites: list[Table], limits: Disclosure, *, scale: bool, rare: bool
) -> None:
    names = list(NAMES if rare else NAMES[:3])
    found = run(sites, limits, variables=names, scale=scale)
    if isinstance(found, CohortiumError):
        return
    rows = contributed(sites, names, limits)
    assert found["n"] == len(rows)
    values = (rows - rows.mean()) / (rows.std() if scale else 1.0)
    expected = decomposition.PCA().fit(values)
    assert found["eigenvalues"] == pytest.approx(
        expected.explained_variance_, rel=1e-8, abs=1e-10 * expected.explained_variance_[0]
    )
    assert found["share"] == pytest.approx(expected.explained_variance_ratio_, abs=1e-10)
    assert found["cumulative"][-1] == pytest.approx(1)
    gaps = np.abs(np.diff(expected.explained_variance_)) / expected.explained_variance_[0]
    if gaps.min() > 1e-3:
        weights = np.array(found["weights"])
        assert np.abs(weights) == pytest.approx(np.abs(expected.components_), abs=1e-6)
        clear = np.sort(np.abs(weights), axis=1)
        same = clear[:, -1] - clear[:, -2] > 1e-6
        assert weights[same] == pytest.approx(expected.components_[same], abs=1e-6)
        scores = values.to_numpy() @ weights.T
        of = np.corrcoef(np.column_stack([rows.to_numpy(), scores]), rowvar=False)
        released = np.array(found["eigenvalues"])
        seen = released > 1e-8 * released[0]
        loadings = np.array(found["loadings"])[seen]
        assert loadings == pytest.approx(of[len(names) :, : len(names)][seen], abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(sites=tables(SCALES), limits=disclosures)
def test_components_give_no_small_class_away(sites: list[Table], limits: Disclosure) -> None:
    found = run(sites, limits)
    k = contributed(sites, list(NAMES), limits)["k"]
    if 0 < min(int((k == 1).sum()), int((k == 2).sum())) < limits.min_cell:
        assert isinstance(found, PolicyRefusal)
        assert found.code in {"too-few-persons", "too-few-sites", "too-many-parameters"}


@settings(max_examples=15, deadline=None)
@given(sites=tables(SCALES), limits=disclosures, seed=st.integers(0, 99))
def test_the_order_of_sites_does_not_matter(
    sites: list[Table], limits: Disclosure, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(sites))
    one, other = run(sites, limits), run([sites[at] for at in order], limits)
    assert str(one) == str(other)


def iris() -> list[Table]:
    """Fisher's flowers, a species at each of three sites."""
    data = datasets.load_iris()["data"]
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    variables = {name: Variable(name=name, type=VariableType.REAL) for name in names}
    return split(Table(variables, dict(zip(names, data.T.copy(), strict=True))), [50, 50, 50])


def test_iris_is_as_r_prints_it() -> None:
    # R 4: prcomp(iris[, 1:4], scale. = TRUE), and prcomp(iris[, 1:4])
    names = list(iris()[0].variables)
    scaled = run(iris(), Disclosure(), variables=names)
    assert np.sqrt(scaled["eigenvalues"]) == pytest.approx(
        [1.7083611, 0.9560494, 0.3830886, 0.1439265], abs=6e-8
    )
    assert scaled["weights"][0] == pytest.approx(
        [0.5210659, -0.2693474, 0.5804131, 0.5648565], abs=6e-8
    )
    raw = run(iris(), Disclosure(), variables=names, scale=False, components=2)
    assert np.sqrt(raw["eigenvalues"]) == pytest.approx([2.0562689, 0.4926162], abs=6e-8)
    # scikit-learn's documentation of PCA on iris
    assert raw["share"] == pytest.approx([0.92461872, 0.05306648], abs=6e-9)
    assert len(raw["weights"]) == 2


def made(random: np.random.Generator, n: int = 60) -> dict[str, Any]:
    return {name: random.normal(size=n) for name in NAMES[:3]}


def test_what_cannot_be_decomposed_is_refused() -> None:
    random = np.random.default_rng(3)
    columns = made(random) | {"k": np.full(60, 2.0)}
    sites = split(Table(VARIABLES, columns), [30, 30])
    assert run(sites, Disclosure()).code == "no-convergence"
    assert run(sites, Disclosure(), variables=["u", "v"], components=3).code == "bad-input"
    assert run(sites, Disclosure(), variables=["u"]).code == "bad-input"
    columns["k"] = 3 * columns["u"] + 1
    twice = run(split(Table(VARIABLES, columns), [30, 30]), Disclosure())
    assert twice.code == "too-few-persons"
    assert "one follows from the other" in twice.message


def test_a_researcher_sees_components_words_and_a_scree_plot() -> None:
    random = np.random.default_rng(5)
    with co.local({name: pd.DataFrame(made(random)) for name in ("North", "East")}) as fed:
        found = fed.study().pca(["u", "v", "w"], components=2)
    assert list(found.explained_variance.index) == ["PC1", "PC2"]
    assert found.explained_variance_ratio.sum() < 1
    assert found.total_variance == pytest.approx(3)
    assert np.square(found.components).sum().tolist() == pytest.approx([1, 1])
    assert found.loadings.shape == (3, 2)
    assert "PC1 explains" in found.interpret()
    assert "PC1 解释总方差的" in found.interpret("zh")
    with pytest.raises(InputError):
        found.interpret("fr")  # type: ignore[arg-type]
    assert "变量" in found.tables("zh")[1].columns[0]
    assert "cumulative_share" in str(found.summary())
    assert '"PC1"' in found.plot().to_json()
