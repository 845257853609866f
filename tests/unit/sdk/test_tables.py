"""Tables and their tests in a researcher's hands, over a whole federation in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.errors import InputError, PolicyRefusal
from cohortium.sdk.study import Study
from cohortium.sdk.table_results import CrosstabResult


def frame(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sex, smoking = rng.choice(["f", "m"], 300), rng.choice(["never", "now", "past"], 300)
    ill = rng.random(300) < np.where(sex == "m", 0.4, 0.2)
    later = np.where(rng.random(300) < 0.3, ~ill, ill)
    rare = (smoking == "now") & (np.cumsum(smoking == "now") <= 2)
    columns = {"sex": sex, "smoking": smoking, "ill": ill, "later": later, "rare": rare}
    return pd.DataFrame(columns)


FRAMES = {name: frame(seed) for seed, name in enumerate(("North", "South"))}
EVERYBODY = pd.concat(FRAMES.values())


@pytest.fixture(scope="module")
def study() -> Iterator[Study]:
    with co.local(FRAMES) as fed:
        yield fed.study()


@pytest.fixture(scope="module")
def table(study: Study) -> CrosstabResult:
    return study.crosstab("sex", "ill")


def test_a_crosstab_is_that_of_pandas(table: CrosstabResult) -> None:
    ill = EVERYBODY["ill"].map({False: "false", True: "true"})
    expected = pd.crosstab(EVERYBODY["sex"], ill, margins=True)
    pd.testing.assert_frame_equal(table.to_frame(), expected, check_dtype=False, check_names=True)
    by_row = pd.crosstab(EVERYBODY["sex"], ill, normalize="index")
    np.testing.assert_allclose(table.percent("row"), 100 * by_row)
    by_column = pd.crosstab(EVERYBODY["sex"], ill, normalize="columns")
    np.testing.assert_allclose(table.percent("column"), 100 * by_column)
    assert table.percent("all").to_numpy().sum() == pytest.approx(100.0)
    with pytest.raises(InputError):
        table.percent("none")  # type: ignore[arg-type]


def test_its_tests_and_measures_have_names(table: CrosstabResult) -> None:
    assert table.chi2 is not None
    assert table.yates is not None
    assert table.fisher is not None
    assert table.likelihood_ratio is not None
    assert table.p_value == table.chi2.p_value < 0.001
    assert table.yates.statistic is not None
    assert table.chi2.statistic is not None
    assert table.yates.statistic < table.chi2.statistic
    assert table.fisher.estimate is not None
    assert table.odds_ratio == table.estimate
    assert table.odds_ratio is not None
    assert table.fisher.estimate.value == pytest.approx(table.odds_ratio.value, rel=0.01)
    assert table.risk_ratio is not None
    assert table.risk_ratio.value == pytest.approx(
        (table.share("m", "true") or 0) / (table.share("f", "true") or 1)
    )
    assert table.risk_difference is not None
    assert table.cramers_v is not None
    assert table.expected is not None
    assert table.residuals is not None
    assert table.expected.loc["f"].sum() == pytest.approx(table.row_totals["f"])
    assert table.residuals["true"].max() > 4


def test_a_cell_is_found_by_its_levels(table: CrosstabResult) -> None:
    assert table.cell("f", "true") == table.counts.loc["f", "true"]
    with pytest.raises(InputError):
        table.cell("f", "maybe")
    with pytest.raises(InputError):
        table.cell("f")


def test_words_say_shares_interval_and_what_was_not_adjusted_for(table: CrosstabResult) -> None:
    english, chinese = table.interpret(), table.interpret("zh")
    assert "The odds ratio is" in english
    assert "95% CI" in english
    assert "with sex = m against f" in english
    assert english.endswith("Not adjusted for other variables or for multiple testing.")
    assert "比值比为" in chinese
    assert "，自由度 1）" in chinese
    assert "sex = m 对比 f" in chinese
    with pytest.raises(InputError):
        table.interpret("fr")  # type: ignore[arg-type]


def test_it_prints_exports_and_draws(table: CrosstabResult, tmp_path: Path) -> None:
    text = str(table.summary())
    assert "Fisher's exact test" in text
    assert "Total" in text
    assert "run " in repr(table)
    written = table.export(tmp_path / "table.csv", "zh").read_text(encoding="utf-8")
    assert "列联表：sex × ill" in written
    assert "Fisher 精确检验" in written
    assert table.save(tmp_path / "table.svg").read_text().count("<svg") == 1


def test_a_withheld_cell_is_missing_and_so_are_the_tests(study: Study, tmp_path: Path) -> None:
    table = study.crosstab("smoking", "rare")
    assert table.cell("now", "true") is None
    assert table.cell("now", "false") is None
    assert table.to_frame().loc["All"].isna().sum() == 2
    assert (table.p_value, table.chi2, table.odds_ratio, table.expected) == (None,) * 4
    assert "—" in str(table.summary())
    assert "Not released" in str(table.summary())
    assert "Some cells or tests were not released." in table.interpret()
    assert "未发布" in table.interpret("zh")
    assert table.to_frame().loc["All", "All"] == 600
    table.save(tmp_path / "table.json")


def test_frequencies_are_counts_and_shares(study: Study, tmp_path: Path) -> None:
    table = study.frequency("smoking")
    counts = EVERYBODY["smoking"].value_counts().sort_index()
    assert table.to_frame()["n"].drop("All").tolist() == counts.tolist()
    assert table.to_frame()["share"].tolist()[-1] == 1.0
    assert table.percent("all")["n"].sum() == pytest.approx(100.0)
    assert f"never {counts['never']}" in table.interpret()
    assert "频数表" in table.interpret("zh")
    assert len(table.tables()) == 1
    table.save(tmp_path / "table.json")


def test_rounded_tables_say_so(study: Study) -> None:
    table = study.crosstab("sex", "ill", rounding=10)
    assert (table.counts % 10 == 0).to_numpy().all()
    assert table.rounding == 10
    assert table.p_value is None
    assert any("rounded" in why for why in table.suppressed)


def test_mantel_haenszel_over_sites_and_over_levels(study: Study, tmp_path: Path) -> None:
    over_sites, over_levels = study.cmh("sex", "ill"), study.cmh("sex", "ill", "smoking")
    assert (over_sites.strata, over_sites.n_strata) == (None, 2)
    assert (over_levels.strata, over_levels.n_strata) == ("smoking", 3)
    assert set(over_sites.tests) == {"cmh", "cmh-corrected"}
    assert set(over_levels.homogeneity) == {"breslow-day", "tarone"}
    assert over_sites.estimate is not None
    assert 1.5 < over_sites.estimate.value < 5
    assert "Adjusted for institution" in over_sites.interpret()
    assert "Breslow-Day" in over_levels.interpret("zh")
    assert "Tarone" in str(over_levels.summary())
    assert "分层：smoking（3 层）" in over_levels.notes("zh")
    over_levels.save(tmp_path / "cmh.json")


def test_mcnemar_says_who_changed_which_way(study: Study) -> None:
    pairs = study.mcnemar("ill", "later")
    up = int((~EVERYBODY["ill"] & EVERYBODY["later"]).sum())
    assert f"{up} changed from false to true" in pairs.interpret()
    assert f"{up} 人由 false 变为 true" in pairs.interpret("zh")
    assert pairs.exact is not None
    assert pairs.exact.statistic is None
    assert "Exact McNemar's test" in str(pairs.summary())
    assert study.mcnemar("ill", "later", correction=False).statistic_name == "chi2"


def test_a_small_cell_stops_mantel_haenszel(study: Study) -> None:
    with pytest.raises(PolicyRefusal):
        study.cmh("sex", "rare")
