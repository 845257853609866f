"""Tests of means as a researcher sees them, over a federation in this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.errors import InputError, ProtocolError
from cohortium.sdk.hypothesis import HypothesisTest
from cohortium.sdk.mean_results import AnovaResult, LeveneResult, NormalityResult, TTestResult
from cohortium.sdk.result_types import result_from_wire
from cohortium.sdk.study import Study

scipy_stats = pytest.importorskip("scipy.stats")


def frames() -> dict[str, pd.DataFrame]:
    out = {}
    for seed, site in enumerate(("North", "East", "South")):
        random = np.random.default_rng(seed)
        n = 150
        sex = random.choice(["f", "m"], n)
        before = np.round(random.normal(130, 15, n) + 4 * (sex == "m"))
        frame = pd.DataFrame(
            {
                "sex": sex,
                "grade": random.choice(["I", "II", "III"], n),
                "before": before,
                "after": np.round(before - 5 + random.normal(0, 8, n)),
                "marker": np.round(random.gamma(1.5, 4, n), 1),
            }
        )
        frame.loc[random.random(n) < 0.03, "before"] = np.nan
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
def results(study: Study) -> dict[str, HypothesisTest]:
    return {
        "two": study.t_test("before", by="sex"),
        "pairs": study.t_test("before", second="after", mu=4),
        "one": study.t_test("after", mu=125, alternative="greater"),
        "levels": study.t_test("marker", by="grade", levels=("III", "I"), kind="student"),
        "anova": study.anova("before", by="grade"),
        "sites": study.anova("before", by="site", kind="welch"),
        "levene": study.levene("marker", by="grade"),
        "shape": study.normality("marker"),
        "residuals": study.normality("before", by="sex", kind="jarque-bera"),
    }


def test_t_tests_are_the_pooled_ones(
    results: dict[str, HypothesisTest], pooled: pd.DataFrame
) -> None:
    known = pooled.dropna()
    women, men = (known[known["sex"] == sex]["before"] for sex in ("f", "m"))
    two = results["two"]
    assert isinstance(two, TTestResult)
    expected = scipy_stats.ttest_ind(women, men, equal_var=False)
    assert (two.statistic, two.p_value) == pytest.approx(tuple(expected)[:2])
    assert [group["n"] for group in two.groups] == [len(women), len(men)]
    assert two.n_missing == len(pooled) - len(known)
    pairs = results["pairs"]
    assert isinstance(pairs, TTestResult)
    expected = scipy_stats.ttest_1samp(known["before"] - known["after"], 4)
    assert pairs.statistic == pytest.approx(expected.statistic)
    assert (pairs.variable, pairs.second, pairs.mu) == ("before - after", "after", 4.0)
    assert pairs.standard_error == pytest.approx(expected._standard_error)
    one = scipy_stats.ttest_1samp(pooled["after"], 125, alternative="greater")
    assert results["one"].p_value == pytest.approx(one.pvalue)
    third, first = (pooled[pooled["grade"] == grade]["marker"] for grade in ("III", "I"))
    levels = results["levels"]
    assert isinstance(levels, TTestResult)
    assert levels.statistic == pytest.approx(scipy_stats.ttest_ind(third, first).statistic)
    cohens_d = levels.effect("Cohen's d")
    assert cohens_d is not None
    assert cohens_d.low is not None
    assert cohens_d.low < cohens_d.value
    assert levels.effect("eta squared") is None


def test_analyses_of_variance_have_a_table(results: dict[str, HypothesisTest]) -> None:
    anova, sites = results["anova"], results["sites"]
    assert isinstance(anova, AnovaResult)
    assert isinstance(sites, AnovaResult)
    table = anova.table
    assert list(table.index) == ["between", "within"]
    assert table.loc["between", "df"] == 2
    between, within = table["sum_of_squares"]
    assert anova.eta_squared == pytest.approx(between / (between + within))
    assert anova.omega_squared <= anova.eta_squared
    assert (sites.by, sites.groups, sites.df[0]) == ("site", (), 2)


def test_tables_for_a_paper(results: dict[str, HypothesisTest]) -> None:
    groups, squares, test = results["anova"].tables("zh")
    assert [row.cells[0] for row in squares.rows] == ["组间", "组内"]
    assert squares.columns == ("变异来源", "自由度", "平方和", "均方")
    assert [row.cells[0] for row in groups.rows] == ["I", "II", "III"]
    assert test.notes[-1].startswith("运行")
    assert len(results["sites"].tables()) == 2
    *_, shape = results["shape"].tables()
    assert [row.cells[0] for row in shape.rows][-2:] == ["skewness", "excess kurtosis"]
    assert len(shape.rows) == 6


def test_variances_and_shape(results: dict[str, HypothesisTest], pooled: pd.DataFrame) -> None:
    levene, shape = results["levene"], results["shape"]
    assert isinstance(levene, LeveneResult)
    for group, (low, high) in levene.medians_between.items():
        assert low <= pooled[pooled["grade"] == group]["marker"].median() <= high
    assert isinstance(shape, NormalityResult)
    expected = scipy_stats.normaltest(pooled["marker"])
    assert shape.tests["dagostino"].statistic == pytest.approx(expected.statistic)
    assert shape.skewness == pytest.approx(scipy_stats.skew(pooled["marker"]))
    assert shape.kurtosis == pytest.approx(scipy_stats.kurtosis(pooled["marker"]))
    assert list(shape.to_frame()["test"])[:2] == ["Jarque-Bera test", "D'Agostino-Pearson test"]
    bins = shape.histogram
    assert bins["n"].sum() == shape.n
    assert bins["n"].min() >= 5
    assert np.isnan(bins["low"].iloc[0])
    residuals = results["residuals"]
    assert isinstance(residuals, NormalityResult)
    assert (residuals.test, residuals.mean) == ("jarque-bera", 0.0)


def test_every_result_has_its_faces(results: dict[str, HypothesisTest], tmp_path: Path) -> None:
    for name, result in results.items():
        assert result.title in str(result.summary())
        assert len(result.to_frame()) >= 1
        words = result.interpret()
        assert f"over {result.n:,} persons of 3 sites" in words
        assert words.endswith("Not adjusted for other variables or for multiple testing.")
        chinese = result.interpret("zh")
        assert re.search("[\u4e00-\u9fff]", chinese)
        assert chinese.endswith("也未作多重检验校正。")
        assert result.save(tmp_path / f"{name}.json").stat().st_size > 500
        assert result.tables("zh")
        with pytest.raises(InputError):
            result.interpret("fr")  # type: ignore[arg-type]
    assert "The difference is sex = f minus sex = m." in results["two"].interpret()
    assert "look at" in results["shape"].interpret()
    assert "直方图" in results["shape"].interpret("zh")
    assert "III (" in results["levene"].interpret()


def test_a_chart_is_written_without_a_browser(
    results: dict[str, HypothesisTest], tmp_path: Path
) -> None:
    pytest.importorskip("vl_convert")
    for name in ("two", "shape"):
        assert results[name].save(tmp_path / f"{name}.svg").read_text().startswith("<svg")


def test_a_result_that_lacks_something_is_a_protocol_error(
    results: dict[str, HypothesisTest], study: Study
) -> None:
    for name, field in (("two", "mu"), ("shape", "histogram"), ("anova", "n")):
        result = results[name]
        data = {key: value for key, value in result.to_json()["result"].items() if key != field}
        with pytest.raises(ProtocolError):
            result_from_wire(result.run, data, study.variables)
