"""Cox models as they come back: formulas, names, texts, tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import cohortium as co
from cohortium.errors import InputError, ProtocolError
from cohortium.sdk.cox import Written
from cohortium.sdk.cox_results import CoxResult
from cohortium.sdk.result_types import result_from_wire


@pytest.fixture(scope="module")
def study() -> Iterator[Any]:
    random = np.random.default_rng(8)

    def hospital(n: int, rate: float) -> pd.DataFrame:
        age = random.normal(62, 9, n).round()
        stage = random.choice(["I", "II", "III"], n, p=[0.5, 0.3, 0.2])
        late = np.select([stage == "II", stage == "III"], [0.4, 0.9], 0.0)
        death = random.exponential(1 / (rate * np.exp(0.03 * (age - 62) + late)))
        seen = random.uniform(6, 60, n)
        return pd.DataFrame(
            {
                "months": np.ceil(np.minimum(death, seen)),
                "died": death <= seen,
                "age": age,
                "stage": stage,
            }
        )

    with co.local({"North": hospital(200, 0.02), "South": hospital(200, 0.03)}) as federation:
        yield federation.study()


@pytest.fixture(scope="module")
def fit(study: Any) -> CoxResult:
    result = study.cox("Surv(months, died) ~ age + stage")
    assert isinstance(result, CoxResult)
    return result


@pytest.fixture(scope="module")
def pooled(study: Any) -> CoxResult:
    result = study.cox("age", time="months", event="died", strata="stage", baseline="pooled")
    assert isinstance(result, CoxResult)
    return result


def test_numbers_have_the_names_that_people_know(fit: CoxResult) -> None:
    assert fit.formula == "Surv(months, died) ~ age + stage"
    assert list(fit.params.index) == ["age", "stage[T.II]", "stage[T.III]"]
    assert fit.hazard_ratios["age"] == pytest.approx(np.exp(fit.params["age"]))
    assert fit.tvalues["age"] == pytest.approx(fit.params["age"] / fit.bse["age"])
    assert np.sqrt(np.diag(fit.cov_params())) == pytest.approx(fit.bse.to_numpy())
    frame = fit.to_frame()
    low = np.exp(fit.conf_int()[0].to_numpy())
    assert frame["hazard_ratio_low"].to_numpy() == pytest.approx(low)
    assert np.all(fit.conf_int(0.01)[0] < fit.conf_int()[0])
    assert fit.aic == pytest.approx(-2 * fit.log_likelihood + 6)
    test = fit.log_likelihood_ratio_test()
    assert test.statistic == pytest.approx(2 * (fit.llf - fit.llnull))
    assert (test.df, set(fit.tests)) == (3, {"likelihood-ratio", "wald", "score"})
    assert list(fit.proportionality().index) == [*fit.params.index, "GLOBAL"]
    with pytest.raises(InputError, match="alpha"):
        fit.conf_int(2)


def test_a_baseline_of_each_site_is_not_released(fit: CoxResult, pooled: CoxResult) -> None:
    with pytest.raises(InputError, match="pooled"):
        fit.baseline_cumulative_hazard()
    curves = pooled.baseline_cumulative_hazard()
    assert list(curves.columns) == ["I", "II", "III"]
    assert curves["I"].dropna().is_monotonic_increasing


def test_a_summary_is_lifelines_table(study: Any, fit: CoxResult, pooled: CoxResult) -> None:
    text = str(fit.summary())
    for part in ("exp(coef)", "se(coef)", "Concordance:", "each site's own", "efron", "Events:"):
        assert part in text
    robust = study.cox("Surv(months, died) ~ age", robust=True)
    assert "robust" in str(robust.summary())
    assert any("稳健" in note for note in robust.tables("zh")[-1].notes)
    assert f"in {pooled.steps} steps" in str(pooled)
    assert fit.run.id[:8] in repr(fit)


def test_words_say_what_was_adjusted_for(fit: CoxResult, pooled: CoxResult) -> None:
    english = fit.interpret()
    assert "each adjusted for the model's other terms: age (per unit) 1.0" in english
    assert "stage III versus I" in english
    assert "within the same institution only" in english
    assert "Not adjusted for variables outside the model" in english
    assert "institution" not in pooled.interpret()
    assert "within the same stage only" in pooled.interpret()
    assert "Not adjusted for any other variable." in pooled.interpret()
    chinese = fit.interpret("zh")
    assert "风险比分别为" in chinese
    assert "基线风险按 机构 分层" in chinese
    assert "stage III 对比 I" in chinese
    assert "未对模型之外的变量进行调整" in chinese
    with pytest.raises(InputError):
        fit.interpret("de")  # type: ignore[arg-type]


def test_tables_are_printed_in_both_languages(fit: CoxResult, pooled: CoxResult) -> None:
    main, proportional = fit.tables()
    assert main.columns == ("Term", "Coefficient", "SE", "Hazard ratio", "95% CI", "p")
    assert [row.cells[0] for row in proportional.rows][-1] == "GLOBAL"
    assert any("own" in note or "same institution" in note for note in proportional.notes)
    chinese = pooled.tables("zh")
    assert chinese[0].title.startswith("Cox 比例风险模型")
    assert any("合并" in note for note in chinese[-1].notes)


def test_a_chart_and_a_file(fit: CoxResult, tmp_path: Path) -> None:
    assert "Hazard ratio" in fit.plot().to_json()
    path = fit.export(tmp_path / "cox.html")
    assert "Hazard ratio" in path.read_text(encoding="utf-8")


def test_a_formula_is_read_as_in_r() -> None:
    assert Written.read("age + sex") == Written("age + sex", ())
    read = Written.read("Surv(start, stop, dead) ~ age * sex + strata(ward, site) + strata(g)")
    assert read == Written("age * sex", ("ward", "site", "g"), "stop", "dead", "start")
    read = Written.read("Surv(days, status == 'dead') ~ I(age + 1)")
    assert (read.event, read.level, read.covariates) == ("status", "dead", "I(age + 1)")
    for wrong in (
        "",
        "strata(ward)",
        "Surv(days) ~ age",
        "log(days) ~ age",
        "Surv(days, dead, more, much) ~ age",
        "age * strata(ward)",
        "Surv(days, dead > 1) ~ age",
    ):
        with pytest.raises(InputError) as caught:
            Written.read(wrong)
        assert caught.value.code == "bad-formula"


def test_what_is_said_twice_must_agree(study: Any) -> None:
    with pytest.raises(InputError, match="in Surv"):
        study.cox("Surv(months, died) ~ age", time="age")
    with pytest.raises(InputError, match="Say what is modelled"):
        study.cox("age", time="months")


def test_a_result_that_lacks_something_is_refused(fit: CoxResult) -> None:
    data = fit.to_json()["result"]
    for name in ("params", "tests", "loglik", "proportionality", "terms", "concordance"):
        rest = {key: value for key, value in data.items() if key != name}
        with pytest.raises(ProtocolError):
            result_from_wire(fit.run, rest, {})


def test_nested_models_are_compared_by_likelihood_and_terms_by_wald(
    study: Any, fit: CoxResult
) -> None:
    small = study.cox("Surv(months, died) ~ age")
    test = co.anova(fit, small)  # in either order
    assert test.statistic == pytest.approx(2 * (fit.llf - small.llf))
    assert (test.df, test.n, test.n_sites) == ((2.0,), 400, 2)
    assert test.p_value == pytest.approx(stats.chi2.sf(test.statistic, 2))
    assert "Surv(months, died) ~ age is enough: stage[T.II], stage[T.III] add" in test.null
    assert "Adjusted for age" in test.interpret()
    assert test.interpret("zh")
    wald = fit.wald_test("stage")
    at = [1, 2]
    beta, cov = fit.params.to_numpy()[at], fit.cov_params().to_numpy()[np.ix_(at, at)]
    assert wald.statistic == pytest.approx(beta @ np.linalg.solve(cov, beta))
    assert wald.statistic == pytest.approx(test.statistic, rel=0.15)
    robust = study.cox("Surv(months, died) ~ age + stage", robust=True)
    assert robust.wald_test(["stage"]).statistic != wald.statistic
    one = study.cox("Surv(months, died) ~ age", baseline="pooled")
    two = study.cox("Surv(months, died) ~ age + stage", baseline="pooled")
    assert co.anova(one, two).statistic == pytest.approx(2 * (two.llf - one.llf))


def test_cox_models_that_cannot_be_compared_are_refused_with_the_reason(
    study: Any, fit: CoxResult
) -> None:
    others = {
        "same terms": fit,
        "not nested": study.cox("Surv(months, died) ~ I(age ** 2)"),
        "baseline": study.cox("Surv(months, died) ~ age", baseline="pooled"),
        "ties": study.cox("Surv(months, died) ~ age", ties="breslow"),
        "strata": study.cox("Surv(months, died) ~ age + strata(stage)"),
        "wald_test": study.cox("Surv(months, died) ~ age", robust=True),
        "of different": study.cohort(include="age > 50").cox("Surv(months, died) ~ age"),
        "family": study.glm("died ~ age"),
    }
    for why, other in others.items():
        with pytest.raises(InputError, match=why):
            co.anova(fit, other)
