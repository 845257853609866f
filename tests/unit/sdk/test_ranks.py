"""Tests of ranks and correlations as a researcher sees them, over a federation in this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.errors import InputError, ProtocolError
from cohortium.sdk.correlation_results import CorrelationResult
from cohortium.sdk.rank_results import KruskalResult, KsResult, MannWhitneyResult
from cohortium.sdk.result_types import result_from_wire
from cohortium.sdk.results import Result
from cohortium.sdk.study import Study
from cohortium.sdk.summary import text_table

scipy_stats = pytest.importorskip("scipy.stats")


def frames() -> dict[str, pd.DataFrame]:
    out = {}
    for seed, site in enumerate(("North", "East", "South")):
        random = np.random.default_rng(seed)
        n = 120
        age = random.integers(30, 85, n)
        frame = pd.DataFrame(
            {
                "sex": random.choice(["f", "m"], n),
                "grade": random.choice(["I", "II", "III"], n),
                "age": age,
                "crp": np.round(random.lognormal(1, 1, n) + age / 15, 1),
                "ecog": np.clip(random.poisson(age / 45), 0, 2),
                "rare": (np.arange(n) == 7).astype(int),
            }
        )
        frame.loc[random.random(n) < 0.03, "crp"] = np.nan
        out[site] = frame
    return out


@pytest.fixture(scope="module")
def pooled() -> pd.DataFrame:
    return pd.concat(frames().values(), ignore_index=True)


@pytest.fixture(scope="module")
def study() -> Iterator[Study]:
    with co.local(frames()) as federation:
        yield federation.study()


@pytest.fixture(scope="module")
def two(study: Study) -> MannWhitneyResult:
    return study.mann_whitney("crp", "sex")


@pytest.fixture(scope="module")
def several(study: Study) -> KruskalResult:
    return study.kruskal("crp", "grade")


@pytest.fixture(scope="module")
def distance(study: Study) -> KsResult:
    return study.ks("crp", "grade", levels=("I", "III"))


@pytest.fixture(scope="module")
def matrix(study: Study) -> CorrelationResult:
    return study.correlation(["age", "crp", "ecog"])


@pytest.fixture(scope="module")
def ranks(study: Study) -> CorrelationResult:
    return study.spearman(["age", "crp", "ecog"])


def test_tests_of_ranks_are_those_of_everybody(
    two: MannWhitneyResult, several: KruskalResult, distance: KsResult, pooled: pd.DataFrame
) -> None:
    known = pooled.dropna()
    by_sex = [known["crp"][known["sex"] == one] for one in ("f", "m")]
    expected = scipy_stats.mannwhitneyu(*by_sex)
    assert (two.statistic, two.resolution) == (expected.statistic, None)
    assert two.p_value == pytest.approx(expected.pvalue)
    by_grade = [known["crp"][known["grade"] == one] for one in ("I", "II", "III")]
    assert several.p_value == pytest.approx(scipy_stats.kruskal(*by_grade).pvalue)
    assert several.df == (2.0,)
    expected = scipy_stats.ks_2samp(by_grade[0], by_grade[2])
    assert distance.p_value == pytest.approx(expected.pvalue)
    assert distance.method == "exact"
    assert two.superiority is not None
    assert two.superiority.name == "common language effect size"


def test_correlations_are_those_of_everybody(
    matrix: CorrelationResult, ranks: CorrelationResult, pooled: pd.DataFrame
) -> None:
    known = pooled[["age", "crp", "ecog"]].dropna()
    assert matrix.n == len(known)
    assert matrix.correlation.to_numpy() == pytest.approx(known.corr().to_numpy())
    assert matrix.covariance is not None
    assert matrix.covariance.to_numpy() == pytest.approx(known.cov().to_numpy())
    expected = known.corr(method="spearman").to_numpy()
    assert ranks.correlation.to_numpy() == pytest.approx(expected, abs=2e-3)
    assert ranks.resolution is not None
    low, high = (end.to_numpy()[np.triu_indices(3, 1)] for end in ranks.resolution)
    inside = expected[np.triu_indices(3, 1)]
    assert np.all((low <= inside) & (inside <= high))
    assert 0 < ranks.widest < 0.05
    assert (matrix.widest, matrix.resolution) == (0.0, None)


def test_variance_inflation_and_partial_correlations_follow_from_the_matrix(
    study: Study, matrix: CorrelationResult
) -> None:
    r = matrix.correlation.to_numpy()
    inverse = np.linalg.inv(r)
    assert matrix.vif()["crp"] == pytest.approx(inverse[1, 1])
    given = study.correlation(["age", "crp"], given="ecog")
    assert given.heading() == "Partial correlation given ecog"
    assert given.covariance is None
    assert matrix.partial().loc["age", "crp"] == pytest.approx(given.correlation.iloc[0, 1])


def test_what_is_withheld_has_no_inflation(study: Study, ranks: CorrelationResult) -> None:
    result = study.correlation(["age", "crp", "rare"])
    assert result.correlation["rare"].isna()["age"]
    with pytest.raises(InputError, match="withheld"):
        result.vif()
    with pytest.raises(InputError):
        ranks.vif()
    assert "Not released: age and rare" in str(result)
    assert "未发布" in " ".join(result.notes("zh"))
    assert "rare" not in result.interpret()


@pytest.mark.parametrize("name", ["two", "several", "distance", "matrix", "ranks"])
def test_every_face_of_a_result(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    result: Result = request.getfixturevalue(name)
    assert len(result.to_frame()) >= 1
    assert re.search(r"\d", str(result.summary()))
    assert "p " in result.interpret() or "p=" in result.interpret()
    assert re.search(r"[\u4e00-\u9fff]", result.interpret("zh"))
    with pytest.raises(InputError):
        result.interpret("fr")  # type: ignore[arg-type]
    assert result.save(tmp_path / "chart.json").stat().st_size > 100
    assert result.export(tmp_path / "table.html", "zh").stat().st_size > 100
    again = result_from_wire(
        result.run, result.to_json()["result"], request.getfixturevalue("study").variables
    )
    assert again.interpret() == result.interpret()


def test_words_say_which_group_has_more_and_how_exact_it_is(
    two: MannWhitneyResult, matrix: CorrelationResult, ranks: CorrelationResult
) -> None:
    assert "how often a person with sex = f has a greater value" in two.interpret()
    assert "Medians: " in two.interpret()
    assert "age and crp r = " in matrix.interpret()
    assert "rho = " in ranks.interpret()
    assert "not further than" in ranks.interpret()
    data = two.to_json()["result"] | {"resolution": {"step": 0.5, "low": 1.0, "high": 2.0}}
    close = MannWhitneyResult(two.run, data, {})
    assert "lies between 1 and 2" in close.interpret()
    assert "在 1 至 2 之间" in close.interpret("zh")
    assert "lies between 1 and 2" in close.notes()[0]


def test_dates_stand_apart_in_a_summary() -> None:
    row = ["207", "1955-10-10", "1961-07-19"]
    last = str(text_table("Test", [("A", "b")], ("n", "q1", "median"), {"x": row})).splitlines()[-2]
    assert last.split() == ["x", *row]


def test_one_name_is_not_taken_for_letters(study: Study) -> None:
    for method in (study.correlation, study.spearman):
        with pytest.raises(InputError, match=r"at least 2|two variables"):
            method("age")


def test_a_chart_without_quartiles_shows_the_effect(two: MannWhitneyResult) -> None:
    data = two.to_json()["result"]
    bare = data | {"groups": [{**group, "q1": None} for group in data["groups"]]}
    chart = MannWhitneyResult(two.run, bare, {}).plot().to_dict()
    assert "common language effect size" in str(chart)


@pytest.mark.parametrize("field", ["correlation", "method", "n"])
def test_a_result_that_lacks_something_is_refused(matrix: CorrelationResult, field: str) -> None:
    data = {name: one for name, one in matrix.to_json()["result"].items() if name != field}
    with pytest.raises(ProtocolError):
        result_from_wire(matrix.run, data, {})
    with pytest.raises(ProtocolError):
        result_from_wire(matrix.run, {**matrix.to_json()["result"], "low": [[1.0]]}, {})
