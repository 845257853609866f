"""Every result has words, tables and footnotes in English and Chinese."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.support.by_site import run_by_site
from tests.support.frames import split, table_of
from tests.support.pooled_study import PooledStudy, result_of, run_of

from cohortium.analysis.builtin import BUILTIN, find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.selection import Derived, Selection
from cohortium.errors import InputError
from cohortium.sdk.computations import COMPUTATIONS, METHODS
from cohortium.sdk.glm import GlmResult
from cohortium.sdk.publication import p_text, shown
from cohortium.sdk.result_types import RESULT_TYPES
from cohortium.sdk.results import Result, population
from cohortium.sdk.terms import TERMS
from cohortium.sdk.vocabulary import say, withheld
from cohortium.sdk.words import p_words, term_words

VARIABLES = (
    Variable(name="age", type=VariableType.REAL, decimals=1),
    Variable(name="bmi", type=VariableType.REAL, decimals=1),
    Variable(name="arm", type=VariableType.CATEGORY, levels=("a", "b")),
    Variable(name="stage", type=VariableType.CATEGORY, levels=("I", "II", "III")),
    Variable(name="died", type=VariableType.BOOLEAN),
    Variable(name="ill", type=VariableType.BOOLEAN),
)
NAMES = {"age", "bmi", "arm", "stage", "died", "ill", "false", "true"}
# Names of people, symbols and family names that are not translated.
KEPT = {
    *("Welch", "Student", "Brown", "Forsythe", "Levene", "Pearson", "Spearman", "Fisher", "Yates"),
    *(
        "Cohen",
        "Hedges",
        "Mann",
        "Whitney",
        "Kruskal",
        "Wallis",
        "Kolmogorov",
        "Smirnov",
        "McNemar",
    ),
    *("Cochran", "Mantel", "Haenszel", "Breslow", "Day", "Tarone", "Agostino", "Jarque", "Bera"),
    *("Cram", "rho", "chi", "logistic", "SMD", "Shapiro", "Wilk", "Yang", "Dalton", "III", "Wald"),
    *("Meta", "REML", "tau"),
}

TRIED = sorted(
    name for name in BUILTIN if name.startswith("stats.") and name != "stats.attrition"
)  # survival analyses have tests of their own
TRIED.append("glm")


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    rng, n = np.random.default_rng(1), 300
    columns = {
        "age": rng.normal(60, 9, n).round(1).tolist(),
        "bmi": rng.normal(25, 4, n).round(1).tolist(),
        "arm": rng.choice(["a", "b"], n).tolist(),
        "stage": rng.choice(["I", "II", "III"], n).tolist(),
        "died": rng.integers(0, 2, n).tolist(),
        "ill": rng.integers(0, 2, n).tolist(),
    }
    tables = split(table_of(VARIABLES, columns), [140, 160])
    study = PooledStudy(tables)
    asked = {"variable": "age", "by": "arm", "effect": "smd"}
    each = run_by_site(find("stats.meta"), asked, tables, names=("甲", "乙"))
    found: list[Result] = [
        study.describe(["age", "stage"], by="arm"),
        study.glm("died ~ age + arm"),
        study.t_test("age", by="arm"),
        study.anova("age", by="stage"),
        study.levene("age", by="arm"),
        study.normality("age"),
        study.crosstab("died", "arm"),
        study.cmh("died", "arm"),
        study.mcnemar("died", "ill"),
        study.mann_whitney("age", by="arm"),
        study.kruskal("age", by="stage"),
        study.ks("age", by="arm"),
        study.correlation(["age", "bmi"]),
        study.spearman(["age", "bmi"]),
        study.pca(["age", "bmi"]),
        result_of("stats.meta", each),
    ]
    return {one.run.computation: one for one in found}


def test_every_computation_has_a_type_a_name_and_a_method() -> None:
    assert set(BUILTIN) <= set(RESULT_TYPES)
    assert set(BUILTIN) == set(COMPUTATIONS) == set(METHODS)


@pytest.mark.parametrize("computation", TRIED)
def test_words_say_in_both_languages_what_was_not_adjusted_for(
    results: dict[str, Result], computation: str
) -> None:
    result = results[computation]
    assert re.search("[Nn]ot adjusted for|Nothing is adjusted for", result.interpret())
    zh = result.interpret("zh")
    assert re.search("未.*调整", zh)
    assert zh.endswith("。")
    with pytest.raises(InputError):
        result.interpret("fr")  # type: ignore[arg-type]


@pytest.mark.parametrize("computation", TRIED)
def test_chinese_has_no_english_left_and_its_own_punctuation(
    results: dict[str, Result], computation: str
) -> None:
    result = results[computation]
    texts = [result.interpret("zh"), result.heading("zh")]
    for table in result.tables("zh"):
        texts += [table.title, *table.columns, *(str(row.cells[0]) for row in table.rows)]
        texts += [note for note in table.notes if not note.startswith("运行")]
    joined = "\n".join(str(text) for text in texts)
    words = set(re.findall("[A-Za-z]{3,}", joined)) - NAMES - KEPT - {"Intercept"}
    assert not words
    assert not re.findall("[\u4e00-\u9fff][,:;(]", joined)


def test_attrition_is_a_table_of_steps() -> None:
    steps = [
        {"kind": "include", "criterion": "age >= 50", "n": 60},
        {"kind": "exclude", "criterion": "ill", "n": 40},
    ]
    (table,) = result_of("stats.attrition", {"start": 100, "steps": steps}).tables("zh")
    assert [row.cells[1:3] for row in table.rows[1:]] == [("纳入", "age >= 50"), ("排除", "ill")]
    assert table.columns == ("步骤", "类型", "标准", "例数", "排除人数")


@pytest.mark.parametrize("computation", TRIED)
def test_tables_name_method_run_and_contract(results: dict[str, Result], computation: str) -> None:
    result = results[computation]
    for lang, method in (("en", METHODS[computation].en), ("zh", METHODS[computation].zh)):
        notes = result.tables(lang)[-1].notes  # type: ignore[arg-type]
        assert method in notes
        assert result.run.id in notes[-1]
        assert result.run.contract_digest in notes[-1]


def test_no_term_is_translated_to_itself_without_being_a_symbol() -> None:
    same = {name for name, words in TERMS.items() if name == words}
    assert all(re.fullmatch("(Cohen's|Hedges'|Glass') .|[A-Za-z]{1,3}2?|z .*", n) for n in same), (
        same
    )


def test_a_name_without_a_translation_is_shown_as_it_is() -> None:
    assert say("some index", "zh") == "some index"
    assert say("odds ratio low", "zh") == "比值比下限"
    assert say("odds ratio", "en") == "odds ratio"


def test_what_was_withheld_keeps_its_place() -> None:
    line = "age, sex = 1: fewer persons than the minimum cell size"
    assert withheld(line, "en") == f"Not released: {line}"
    assert withheld(line, "zh") == "未发布：age, sex = 1（人数少于最小单元格人数）"


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0004, "<0.001"), (0.012, "0.012"), (0.0496, "0.050"), (0.351, "0.35"), (1.0, "1.00")],
)
def test_p_values_are_printed_as_journals_do(p: float, text: str) -> None:
    assert p_text(p) == text
    assert p_words(None, "en") == "p was not released"
    assert p_words(None, "zh") == "P 值未发布"
    assert p_words(0.0001, "zh") == "P < 0.001"


def test_numbers_of_persons_are_shown_in_full() -> None:
    assert (shown(21606.0), shown(1234567), shown(0.000012345)) == ("21606", "1234567", "1.234e-05")
    assert (shown(None), shown(2.0, 2), shown(float("inf"))) == ("", "2.00", "inf")


def test_terms_of_a_model_are_said_with_their_reference() -> None:
    levels = {"arm": ("a", "b")}
    assert term_words("arm[T.b]", levels, "en") == "arm b versus a"
    assert term_words("arm[T.b]", levels, "zh") == "arm b 对比 a"
    assert term_words("age", levels, "en") == "age (per unit)"
    assert term_words("age:arm[T.b]", levels, "en") == "age × arm b versus a"
    assert term_words("other[T.x]", levels, "en") == "other = x"


def test_a_model_of_the_intercept_alone_is_not_called_adjusted() -> None:
    data = {
        "formula": "died ~ 1", "family": "binomial", "link": "logit", "terms": ["Intercept"],
        "n": 10, "n_missing": 0, "n_sites": 2, "deviance": 1.0, "df_resid": 9, "df_model": 0,
        "iterations": 3, "scale": 1.0, "statistic_name": "z", "params": [0.1], "bse": [0.2],
        "statistic": [0.5], "pvalues": [0.6], "cov": [[0.04]],
    }  # fmt: skip
    fit = result_of("glm", data)
    assert isinstance(fit, GlmResult)
    assert "no term but the intercept" in fit.interpret()
    assert "仅含截距项" in fit.interpret("zh")


def test_the_researchers_criteria_stand_below_a_table() -> None:
    cohort = Selection(
        include=("age >= 18",),
        exclude=("ill",),
        derived=(Derived(name="old", expression="age > 70"),),
    )
    run = run_of("stats.describe", {}).model_copy(update={"cohort": cohort})
    (en,), (zh,) = population(run, "en"), population(run, "zh")
    assert en == "Persons with age >= 18, without ill. Derived: old = age > 70."
    assert zh == "纳入标准：age >= 18。排除标准：ill。派生变量：old = age > 70。"
    assert population(run_of("stats.describe", {}), "en") == ()


def test_a_package_without_words_still_has_a_table() -> None:
    result = result_of("other.thing", {"answer": 42, "suppressed": ["x: a reason"]})
    (table,) = result.tables("zh")
    assert table.title == "other.thing"
    assert table.rows[0].cells == ("answer", 42)
    assert any(note.startswith("未发布：x") for note in table.notes)
    with pytest.raises(InputError):
        result.interpret()


def test_withheld_groups_and_levels_and_dates_are_said() -> None:
    data = {
        "n_sites": 2,
        "by": "arm",
        "groups": [
            {"level": "a", "n": None, "variables": {}},
            {
                "level": "b",
                "n": 60,
                "variables": {
                    "seen": {
                        "type": "date",
                        "n": 58,
                        "missing": 2,
                        "quantiles": [{"q": 0.5, "value": "2026-01-31"}],
                    },
                    "stage": {
                        "type": "category",
                        "n": 60,
                        "missing": 0,
                        "levels": [
                            {"level": "I", "count": None, "share": None},
                            {"level": "II", "count": 45, "share": 0.75},
                        ],
                    },
                    "bmi": {"type": "real", "n": None, "missing": None},
                },
            },
        ],
    }
    params = {"variables": ["seen", "stage", "bmi"], "by": "arm"}
    result = result_of("stats.describe", data, params)
    en = result.interpret()
    assert "arm = a is withheld" in en
    assert "seen median 2026-01-31 (2 missing)" in en
    assert "stage I withheld, II 45 (75.0%)" in en
    assert "bmi is withheld" in en
    zh = result.interpret("zh")
    assert "arm = a 组未发布" in zh
    assert "seen 中位数 2026-01-31（缺失 2 人）" in zh
    assert "stage I 隐匿、II 45（75.0%）" in zh
