"""Wald and likelihood-ratio tests of released models, and the options of `study.glm`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

import cohortium as co

pytestmark = pytest.mark.filterwarnings("ignore:The InversePower link")

FAMILIES = {
    "binomial": (sm.families.Binomial(), "dead"),
    "gaussian": (sm.families.Gaussian(), "cost"),
    "poisson": (sm.families.Poisson(), "events"),
    "gamma": (sm.families.Gamma(), "cost"),
}


def _frames() -> dict[str, pd.DataFrame]:
    out = {}
    for number, site in enumerate(("North", "East", "South", "West", "Hill")):
        rng = np.random.default_rng(number)
        age = rng.integers(20, 80, 80) / 10
        stage = rng.choice(["I", "II", "III"], 80)
        eta = 0.1 * age - 0.4 + 0.3 * (stage == "III")
        out[site] = pd.DataFrame(
            {
                "age": age,
                "stage": stage,
                "bmi": np.where(rng.random(80) < 0.05, np.nan, rng.normal(25, 3, 80).round(1)),
                "dead": rng.random(80) < 1 / (1 + np.exp(-eta)),
                "events": rng.poisson(np.exp(eta)),
                "cost": rng.gamma(4, np.exp(eta) / 4).round(3) + 0.01,
                "log_days": rng.normal(0, 0.2, 80).round(2),
                "times": rng.integers(1, 4, 80),
                "times_ill": rng.poisson(rng.gamma(1.25, np.exp(eta + 0.5) / 1.25)),
            }
        )
    return out


@pytest.fixture(scope="module")
def study() -> Iterator[co.Study]:
    with co.local(_frames()) as made:
        yield made.study()


@pytest.fixture(scope="module")
def pooled() -> pd.DataFrame:
    frame = pd.concat(_frames().values(), ignore_index=True)
    return frame.assign(dead=frame["dead"].astype(int))


def fits(study: co.Study, family: Any) -> tuple[co.GlmResult, co.GlmResult]:
    outcome = FAMILIES[family][1]
    return study.glm(f"{outcome} ~ age", family), study.glm(f"{outcome} ~ age + stage", family)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_wald_tests_are_those_of_statsmodels(
    study: co.Study, pooled: pd.DataFrame, family: str
) -> None:
    kind, outcome = FAMILIES[family]
    large = fits(study, family)[1]
    theirs = smf.glm(f"{outcome} ~ age + stage", pooled, family=kind).fit(tol=1e-14)
    test = large.wald_test("stage")
    use_f = large.statistic_name == "t"
    wald = theirs.wald_test("stage[T.II] = 0, stage[T.III] = 0", use_f=use_f, scalar=True)
    assert test.statistic == pytest.approx(wald.statistic, rel=1e-6)
    assert test.p_value == pytest.approx(float(wald.pvalue), rel=1e-6)
    assert test.df == ((2.0, 396.0) if use_f else (2.0,))
    assert large.wald_test("age").p_value == pytest.approx(large.pvalues["age"], rel=1e-9)
    assert test.adjusted_for == ("age",)


@pytest.mark.parametrize("family", ["binomial", "poisson"])
def test_a_likelihood_ratio_test_is_that_of_the_pooled_likelihoods(
    study: co.Study, pooled: pd.DataFrame, family: str
) -> None:
    kind, outcome = FAMILIES[family]
    small, large = fits(study, family)
    one, other = (
        smf.glm(f"{outcome} ~ {right}", pooled, family=kind).fit(tol=1e-14)
        for right in ("age", "age + stage")
    )
    test = co.anova(large, small)  # in either order
    assert test.statistic == pytest.approx(2 * (other.llf - one.llf), rel=1e-6)
    assert (test.test, test.df, test.n) == ("likelihood-ratio", (2.0,), 400)


def test_an_f_test_is_that_of_nested_linear_models(study: co.Study, pooled: pd.DataFrame) -> None:
    small, large = fits(study, "gaussian")
    theirs = anova_lm(
        smf.ols("cost ~ age", pooled).fit(), smf.ols("cost ~ age + stage", pooled).fit()
    ).iloc[1]
    test = co.anova(small, large)
    assert test.statistic == pytest.approx(theirs["F"], rel=1e-9)
    assert test.p_value == pytest.approx(theirs["Pr(>F)"], rel=1e-9)
    assert test.df == (2.0, 396.0)
    assert "Hypothesis" in str(test.summary())
    assert "cost" in test.interpret()
    assert "嵌套模型" in test.interpret("zh")


def test_models_that_cannot_be_compared_are_refused_with_the_reason(study: co.Study) -> None:
    small, large = fits(study, "poisson")
    others = {
        "same terms": small,
        "not nested": study.glm("events ~ stage", "poisson"),
        "family": study.glm("events ~ age + stage", "gaussian"),
        "outcome": study.glm("times ~ age + stage", "poisson"),
        "offset": study.glm("events ~ age + stage", "poisson", offset="log_days"),
        "weights": study.glm("events ~ age + stage", "poisson", weights="times"),
        "wald_test": study.glm("events ~ age + stage", "poisson", errors="HC3"),
        "NOT NULL": study.glm("events ~ age + bmi", "poisson"),
        "of different": study.cohort(include="age > 4").glm("events ~ age + stage", "poisson"),
    }
    for why, other in others.items():
        with pytest.raises(co.InputError, match=why):
            co.anova(small, other)
    moved = co.GlmResult(large.run, large._data, large._variables)
    moved.run = large.run.model_copy(update={"contract_digest": "sha256:" + "0" * 64})
    with pytest.raises(co.InputError, match="of different"):
        co.anova(small, moved)
    cohort = study.cohort(include="bmi IS NOT NULL")
    nested = [cohort.glm(f"events ~ age{more}", "poisson") for more in ("", " + bmi")]
    assert co.anova(*nested).df == (1.0,)


def test_terms_that_are_not_there_or_too_many_are_refused(study: co.Study) -> None:
    fit = study.glm("events ~ age + stage + bmi", "poisson", errors="site")
    assert (fit.statistic_name, fit.df_test) == ("t", 4)
    assert fit.wald_test(["age", "stage"]).df == (3.0, 4.0)
    with pytest.raises(co.InputError, match="singular"):
        fit.wald_test(list(fit.terms))
    with pytest.raises(co.InputError, match="no term"):
        fit.wald_test("sex")
    with pytest.raises(co.InputError, match="at least one"):
        fit.wald_test([])


def test_a_model_says_its_offset_weights_and_errors(study: co.Study, pooled: pd.DataFrame) -> None:
    fit = study.glm("events ~ age", "poisson", offset="log_days", weights="times", errors="HC0")
    theirs = smf.glm(
        "events ~ age",
        pooled,
        family=sm.families.Poisson(),
        offset=pooled["log_days"],
        freq_weights=pooled["times"],
    ).fit(tol=1e-14)
    assert fit.params.to_numpy() == pytest.approx(theirs.params.to_numpy(), rel=1e-8)
    text = str(fit.summary())
    assert all(word in text for word in ("log_days", "times", "robust (HC0)"))
    assert "Offset: log_days" in fit.interpret()
    assert "稳健" in fit.interpret("zh")
    predicted = fit.predict(pooled[["age", "log_days"]])
    expected = theirs.predict(pooled, offset=pooled["log_days"])
    assert predicted.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-8)


def test_a_gamma_model_has_its_own_words(study: co.Study, pooled: pd.DataFrame) -> None:
    inverse, log = (study.glm("cost ~ age", "gamma", link=link) for link in ("inverse", "log"))
    assert "ratio_of_means" in log.to_frame().columns
    assert "inverse" in str(inverse.summary())
    assert "ratio of means" in log.interpret().lower()
    assert "均值倒数之差" in inverse.interpret("zh")
    assert inverse.tables()[0].rows
    assert log.plot() is not None
    mean = inverse.predict(pooled)
    assert mean.mean() == pytest.approx(pooled["cost"].mean(), rel=1e-8)


def test_a_negative_binomial_model_is_a_model_with_a_dispersion(
    study: co.Study, pooled: pd.DataFrame
) -> None:
    small = study.negative_binomial("times_ill ~ age")
    large = study.negative_binomial("times_ill ~ age + stage", offset=None)
    assert 0.3 < large.alpha < 2.0
    assert "Alpha (SE):" in str(large.summary())
    assert "rate_ratio" in large.to_frame().columns
    assert large.interpret().startswith("Negative binomial regression of times_ill")
    assert "负二项回归" in large.interpret("zh")
    test = co.anova(small, large)
    assert test.statistic == pytest.approx(2 * (large.llf - small.llf))
    assert test.df == (2.0,)
    assert large.wald_test("stage").n == 400
    with pytest.raises(co.InputError, match="family"):
        co.anova(study.glm("times_ill ~ age", "poisson"), large)
    assert large.predict(pooled).mean() == pytest.approx(pooled["times_ill"].mean(), rel=0.05)


def test_weights_and_robust_errors_of_a_negative_binomial_model_are_shown(study: co.Study) -> None:
    plain = study.negative_binomial("times_ill ~ age", weights="times")
    fit = study.negative_binomial("times_ill ~ age", weights="times", errors="site")
    assert fit.params.to_numpy() == pytest.approx(plain.params.to_numpy())
    assert (fit.df_test, fit.statistic_name, plain.df_test) == (4, "t", None)
    for word in ("Weights:", "clustered by institution", "Alpha (SE):"):
        assert word in str(fit.summary())
    assert "频数权重：times。" in fit.interpret("zh")
    with pytest.raises(co.InputError, match="wald_test"):
        co.anova(plain, study.negative_binomial("times_ill ~ age + stage", errors="HC0"))


def test_an_inverse_gaussian_model_is_said_and_predicts(
    study: co.Study, pooled: pd.DataFrame
) -> None:
    squared, log = (
        study.glm("cost ~ age", "inverse_gaussian", link=link) for link in (None, "log")
    )
    assert squared.link == "inverse_squared"
    assert "均值平方倒数之差" in squared.interpret("zh")
    assert log.interpret().startswith("Inverse Gaussian regression of cost")
    assert "ratio_of_means" in log.to_frame().columns
    assert squared.predict(pooled).mean() == pytest.approx(pooled["cost"].mean(), rel=0.05)
    test = co.anova(study.glm("cost ~ 1", "inverse_gaussian", link="log"), log)
    assert test.statistic_name == "F"
    with pytest.raises(co.InputError, match="has the link"):
        study.glm("cost ~ age", "inverse_gaussian", link="inverse")
