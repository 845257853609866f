"""Models of a category as users see them: tables, words, predictions, tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import cohortium as co

ORDER = ["low", "mid", "top"]


def _frames() -> dict[str, pd.DataFrame]:
    out = {}
    for number, site in enumerate(("North", "East", "South")):
        rng = np.random.default_rng(number)
        age, sex = rng.integers(20, 80, 120), rng.choice(["f", "m"], 120)
        latent = 0.05 * (age - 50) + 0.6 * (sex == "m") + rng.logistic(size=120)
        out[site] = pd.DataFrame(
            {
                "age": age,
                "sex": sex,
                "bmi": np.where(rng.random(120) < 0.05, np.nan, rng.normal(25, 3, 120).round(1)),
                "grade": np.array(ORDER)[np.digitize(latent, [-0.6, 1.0])],
            }
        )
    return out


@pytest.fixture(scope="module")
def study() -> Iterator[co.Study]:
    with co.local(_frames(), categories=["sex", "grade"]) as made:
        yield made.study()


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    return pd.concat(_frames().values(), ignore_index=True)


@pytest.fixture(scope="module")
def named(study: co.Study) -> co.MultinomialResult:
    return study.multinomial("grade ~ age + sex", reference="mid")


@pytest.fixture(scope="module")
def ordered(study: co.Study) -> co.OrdinalResult:
    return study.ordinal("grade ~ age + sex", levels=ORDER)


def test_coefficients_and_probabilities_of_a_multinomial_model_are_statsmodels(
    named: co.MultinomialResult, people: pd.DataFrame
) -> None:
    codes = people["grade"].map({"mid": 0, "low": 1, "top": 2})
    x = sm.add_constant(pd.DataFrame({"sex": people["sex"] == "m", "age": people["age"]})).astype(
        float
    )
    theirs = sm.MNLogit(codes, x).fit(disp=0, tol=1e-12)
    assert named.outcome_levels == ("mid", "low", "top")
    assert list(named.coefficients.columns) == ["low", "top"]
    order = ["const", "sex", "age"]
    index = ["Intercept", "sex[T.m]", "age"]
    found = named.coefficients.loc[index].to_numpy()
    assert found == pytest.approx(theirs.params.loc[order].to_numpy(), rel=1e-7)
    shares = named.predict(people)
    assert shares.to_numpy() == pytest.approx(theirs.predict(x).to_numpy(), rel=1e-6)
    likeliest = named.predict_level(people)
    assert (likeliest == shares.idxmax(axis=1)).all()
    gap = people.head(2).assign(age=[np.nan, 50.0])
    assert named.predict(gap).isna().all(axis=1).tolist() == [True, False]
    assert named.predict_level(gap).isna().tolist() == [True, False]
    assert named.llr_pvalue == pytest.approx(theirs.llr_pvalue, rel=1e-5)
    assert named.prsquared == pytest.approx(theirs.prsquared, rel=1e-6)


def test_a_wald_test_of_a_term_is_of_all_levels(named: co.MultinomialResult) -> None:
    both = named.wald_test("sex")
    assert both.df == (2.0,)
    assert both.adjusted_for == ("age",)
    one = named.wald_test("low: age")
    assert one.statistic == pytest.approx(float(named.tvalues["low: age"]) ** 2)
    with pytest.raises(co.InputError) as caught:
        named.wald_test("bmi")
    assert caught.value.code == "not-found"


def test_ratios_words_chart_and_files_of_a_multinomial_model(
    named: co.MultinomialResult, tmp_path: Path
) -> None:
    frame = named.to_frame()
    assert frame["relative_risk_ratio"].to_numpy() == pytest.approx(np.exp(named.params))
    text = str(named.summary())
    assert text.startswith(" ")
    for word in ("Multinomial logistic regression", "McFadden R2:", "Reference:", "low: age"):
        assert word in text
    assert "low against mid: " in named.interpret()
    assert "sex m versus f" in named.interpret()
    assert "low 对比 mid：" in named.interpret("zh")
    assert "相对风险比" in named.tables("zh")[0].columns
    drawn = named.plot().to_json()
    assert "top: age" in drawn
    assert "Intercept" not in drawn
    assert named.export(tmp_path / "m.csv").read_text().count("low: ") == 3


def test_an_ordinal_model_has_thresholds_probabilities_and_brants_test(
    ordered: co.OrdinalResult, people: pd.DataFrame
) -> None:
    assert list(ordered.thresholds.index) == ["low|mid", "mid|top"]
    shares = ordered.predict(people)
    assert list(shares.columns) == ORDER
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1.0)
    sex = ordered.params["sex[T.m]"] * (people["sex"] == "m").to_numpy()
    eta = ordered.params["age"] * people["age"].to_numpy() + sex
    cuts = ordered.thresholds["estimate"].to_numpy()
    assert shares["low"].to_numpy() == pytest.approx(stats.logistic.cdf(cuts[0] - eta))
    assert shares["top"].to_numpy() == pytest.approx(stats.logistic.sf(cuts[1] - eta))
    assert set(ordered.predict_level(people)) <= set(ORDER)
    gap = people.head(1).assign(age=np.nan)
    assert ordered.predict(gap).isna().to_numpy().all()
    assert ordered.cov_params().shape == (4, 4)
    assert np.sqrt(np.diag(ordered.cov_params()))[2:] == pytest.approx(
        ordered.thresholds["std_error"].to_numpy()
    )
    assert list(ordered.proportional_odds.index) == ["all", "age", "sex[T.m]"]
    test = ordered.brant_test()
    assert test.df == (2.0,)
    assert test.p_value == pytest.approx(stats.chi2.sf(test.statistic, 2))
    assert "Brant 比例优势检验" in test.interpret("zh")


def test_words_tables_and_files_of_an_ordinal_model(
    ordered: co.OrdinalResult, tmp_path: Path
) -> None:
    assert "odds_ratio" in ordered.to_frame().columns
    assert "low < mid < top" in str(ordered.summary())
    assert "low|mid" in repr(ordered)
    text = ordered.interpret()
    assert "Odds ratio, each adjusted" in text
    assert "Levels from low to high: low < mid < top; above 1 means higher levels." in text
    assert "Brant's test of proportional odds: chi-square = " in text
    assert "水平由低到高为 low < mid < top" in ordered.interpret("zh")
    tables = ordered.tables("zh")
    assert [len(table.rows) for table in tables] == [2, 2, 3]
    assert [bool(table.notes) for table in tables] == [False, False, True]
    assert "mid|top" in ordered.export(tmp_path / "o.html", "zh").read_text()


def test_links_without_odds_show_coefficients_and_have_no_brants_test(study: co.Study) -> None:
    fit = study.ordinal("grade ~ age", link="probit", levels=ORDER)
    assert "odds_ratio" not in fit.to_frame().columns
    assert fit.proportional_odds.empty
    assert "Brant" not in fit.interpret()
    assert "above 0 means higher levels" in fit.interpret()
    with pytest.raises(co.InputError, match="link logit"):
        fit.brant_test()
    hazards = study.ordinal("grade ~ age", link="cloglog", levels=ORDER)
    assert hazards.predict(pd.DataFrame({"age": [50]})).to_numpy().sum() == pytest.approx(1.0)


def test_nested_models_are_compared_and_others_are_not(
    study: co.Study, named: co.MultinomialResult, ordered: co.OrdinalResult
) -> None:
    small = study.multinomial("grade ~ age", reference="mid")
    test = co.anova(small, named)
    assert test.df == (2.0,)
    assert test.statistic == pytest.approx(2 * (named.llf - small.llf))
    assert test.adjusted_for == ("age",)
    null = study.multinomial("grade ~ 1", reference="mid")
    assert co.anova(null, named).statistic == pytest.approx(named.llr)
    assert "only intercepts" in null.interpret()
    less = study.ordinal("grade ~ age", levels=ORDER)
    assert co.anova(ordered, less).statistic == pytest.approx(2 * (ordered.llf - less.llf))
    for other, word in (
        (study.ordinal("grade ~ age", levels=ORDER[::-1]), "order of levels"),
        (study.ordinal("grade ~ age", "probit", ORDER), "link"),
        (small, "family"),
        (study.ordinal("grade ~ age + sex + bmi", levels=ORDER), "persons"),
    ):
        with pytest.raises(co.InputError, match=word):
            co.anova(ordered, other)
