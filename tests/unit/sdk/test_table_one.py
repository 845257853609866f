"""Table 1: its numbers equal those of the pooled data, and it says what is withheld."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.support.frames import split, table_of
from tests.support.pooled_study import PooledStudy

from cohortium.core.dictionary import Variable, VariableType
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal
from cohortium.sdk.balance import Group, anova_p, chi_square, pooled, smd_means, smd_shares
from cohortium.sdk.table_one import TableOne

VARIABLES = (
    Variable(name="age", type=VariableType.REAL, decimals=1, unit="years"),
    Variable(name="bili", type=VariableType.REAL, decimals=1),
    Variable(name="stage", type=VariableType.CATEGORY, levels=("1", "2", "3")),
    Variable(name="died", type=VariableType.INTEGER),
    Variable(name="arm", type=VariableType.CATEGORY, levels=("drug", "none", "placebo")),
)


def _frame(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    arm = rng.choice(["drug", "placebo"], n)
    frame = pd.DataFrame(
        {
            "age": rng.normal(60, 10, n).round(1) + (arm == "drug"),
            "bili": rng.lognormal(0.5, 0.8, n).round(1),
            "stage": rng.choice(["1", "2", "3"], n, p=[0.2, 0.5, 0.3]),
            "died": rng.integers(0, 2, n),
            "arm": arm,
        }
    ).astype(object)
    frame.loc[:6, "age"] = None
    frame.loc[10:12, "stage"] = None
    return frame


def _study(frame: pd.DataFrame, disclosure: Disclosure | None = None) -> PooledStudy:
    table = table_of(VARIABLES, {str(name): frame[name].tolist() for name in frame})
    return PooledStudy(split(table, [120, len(frame) - 120]), disclosure)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return _frame()


@pytest.fixture(scope="module")
def table(frame: pd.DataFrame) -> TableOne:
    study = _study(frame)
    return study.table_one(["age", "bili", "stage", "died"], by="arm", nonnormal=["bili"])


def test_numbers_are_those_of_the_pooled_persons(table: TableOne, frame: pd.DataFrame) -> None:
    printed: Any = table.to_frame().set_index(["variable", "level"]).loc
    age = frame["age"].astype(float)
    for column, rows in (("Overall", frame["arm"].notna()), ("drug", frame["arm"] == "drug")):
        assert printed[("age", None), column] == f"{age[rows].mean():.2f} ({age[rows].std():.2f})"
        level = frame["stage"][rows].dropna() == "2"
        assert printed[("stage", "2"), column] == f"{level.sum()} ({100 * level.mean():.1f})"
        died = frame["died"][rows].astype(int)
        assert printed[("died", "1"), column] == f"{died.sum()} ({100 * died.mean():.1f})"
    assert printed[("age", None), "missing"] == 7
    assert table.n == {
        "drug": (frame["arm"] == "drug").sum(),
        "placebo": (frame["arm"] == "placebo").sum(),
    }


def test_p_values_are_those_of_the_pooled_tests(table: TableOne, frame: pd.DataFrame) -> None:
    drug, placebo = (frame[frame["arm"] == arm] for arm in ("drug", "placebo"))
    age = stats.ttest_ind(drug["age"].dropna().astype(float), placebo["age"].dropna().astype(float))
    assert table.p["age"] == pytest.approx(age.pvalue, rel=1e-9)
    ranks = stats.kruskal(drug["bili"].astype(float), placebo["bili"].astype(float))
    assert table.p["bili"] == pytest.approx(ranks.pvalue, rel=1e-9)
    for name in ("stage", "died"):
        counts = pd.crosstab(frame[name], frame["arm"])
        assert table.p[name] == pytest.approx(stats.chi2_contingency(counts)[1], rel=1e-9)


def test_differences_are_those_of_the_pooled_persons(table: TableOne, frame: pd.DataFrame) -> None:
    drug, placebo = (frame[frame["arm"] == arm] for arm in ("drug", "placebo"))
    for name in ("age", "bili"):
        x, y = drug[name].dropna().astype(float), placebo[name].dropna().astype(float)
        expected = abs(x.mean() - y.mean()) / math.sqrt((x.var() + y.var()) / 2)
        assert table.smd[name] == pytest.approx(expected, rel=1e-9)
    one, other = float(drug["died"].mean()), float(placebo["died"].mean())
    spread = math.sqrt((one * (1 - one) + other * (1 - other)) / 2)
    assert table.smd["died"] == pytest.approx(abs(one - other) / spread, rel=1e-9)


def test_a_group_that_is_not_released_has_no_column(table: TableOne) -> None:
    assert table.groups == ("drug", "placebo")
    assert table.without == ("none",)
    assert any("arm = none, which was withheld" in note for note in table.notes())
    assert table.tables()[0].columns == (
        "Characteristic",
        "Overall",
        "drug",
        "placebo",
        "Missing",
        "p",
        "SMD",
    )


def test_it_looks_as_journals_print_it(table: TableOne) -> None:
    printed = table.tables()[0]
    assert printed.rows[0].cells[0] == "n"
    assert printed.rows[1].cells[0] == "age (years), mean (SD)"
    assert printed.rows[2].cells[0] == "bili, median [IQR]"
    assert [row.indent for row in printed.rows] == [0, 0, 0, 0, 1, 1, 1, 0]
    assert printed.rows[7].cells[0] == "died = 1, n (%)"
    zh = table.tables("zh")[0]
    assert zh.rows[1].cells[0] == "age（years），均值（标准差）"
    assert zh.title == "按 arm 分组的基线特征"
    assert any("多重检验" in note for note in zh.notes)


def test_a_notebook_shows_it_as_a_table(table: TableOne) -> None:
    page = table._repr_html_()
    assert "<td style='padding:0.15em 0.7em'>\u20031</td>" in page
    assert table.run.id in page


def test_all_runs_are_named(table: TableOne) -> None:
    assert [one.run.computation for one in table.runs] == [
        "stats.describe",
        "stats.describe",
        "stats.kruskal",
    ]
    notes = " ".join(table.notes())
    assert all(one.run.id in notes for one in table.runs)
    assert table.run.contract_digest in notes


def test_words_name_what_differs_and_what_was_not_adjusted_for(table: TableOne) -> None:
    assert "Nothing is adjusted for" in table.interpret()
    assert "未作多重检验校正" in table.interpret("zh")
    assert "300 persons of 2 sites" in table.interpret()


def test_what_is_withheld_is_a_dash_with_a_note(frame: pd.DataFrame) -> None:
    few = frame.copy()
    few.loc[few["stage"] == "3", "stage"] = "2"
    few.loc[20:22, "stage"] = "3"
    table = _study(few, Disclosure(floor="total")).table_one(["stage", "age"], by="arm")
    levels = [row for row in table.tables()[0].rows if row.indent]
    assert "—" in levels[2].cells
    assert table.p["stage"] is None
    assert table.smd["stage"] is None
    assert table.p["age"] is not None
    assert any(note.startswith("— Not released") for note in table.notes())


def test_rounded_numbers_are_said_to_be_rounded(frame: pd.DataFrame) -> None:
    study = _study(frame, Disclosure(rounding=5))
    table = study.table_one(["stage"], by="arm")
    assert table.n == {"drug": 140, "placebo": 160}
    assert any("rounded to multiples of 5" in note for note in table.notes())
    assert any("取整至 5 的倍数" in note for note in study.describe(["age"]).notes("zh"))


def test_without_groups_there_is_one_column(frame: pd.DataFrame) -> None:
    study = _study(frame)
    table = study.table_one(["age", "stage"])
    assert table.tables()[0].columns == ("Characteristic", "Overall", "Missing")
    assert len(study.submitted) == 1
    assert "p" not in table.to_frame()


def test_a_refused_rank_test_leaves_its_cell_empty_and_says_so(frame: pd.DataFrame) -> None:
    study = _study(frame)
    study.refuses["stats.kruskal"] = PolicyRefusal("not-permitted", "No.")
    table = study.table_one(["bili"], by="arm", nonnormal=["bili"])
    assert table.p["bili"] is None
    assert any("stats.kruskal was refused (not-permitted)" in note for note in table.notes())
    assert any("未能运行" in note for note in table.notes("zh"))


def test_fishers_test_is_for_two_by_two(frame: pd.DataFrame) -> None:
    table = _study(frame).table_one(["died"], by="arm", exact=["died"])
    counts = pd.crosstab(frame["died"], frame["arm"])
    assert table.p["died"] == pytest.approx(stats.fisher_exact(counts)[1], rel=1e-9)
    with pytest.raises(InputError, match="two levels in two groups"):
        _study(frame).table_one(["stage"], by="arm", exact=["stage"])


@pytest.mark.parametrize(
    "options", [{"smd": "median"}, {"decimals": 9}, {"nonnormal": ["nobody"]}, {"exact": ["age"]}]
)
def test_unknown_options_are_refused(frame: pd.DataFrame, options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        _study(frame).table_one(["age"], by="arm", **options)  # type: ignore[arg-type]


def test_differences_of_each_pair(frame: pd.DataFrame, tmp_path: Path) -> None:
    found = _study(frame).smd(["age", "died"], by="stage")
    assert list(found.pairs["age"]) == [("1", "2"), ("1", "3"), ("2", "3")]
    one, other = (frame[frame["stage"] == s]["died"].astype(float) for s in ("1", "3"))
    spread = (one.mean() * (1 - one.mean()) + other.mean() * (1 - other.mean())) / 2
    expected = abs(one.mean() - other.mean()) / math.sqrt(spread)
    assert found.pairs["died"]["1", "3"] == pytest.approx(expected, rel=1e-9)
    assert found["died"] == max(v for v in found.pairs["died"].values() if v is not None)
    assert found.to_frame().loc["died", "largest"] == found["died"]
    assert "stage" in found.interpret()
    assert "标准化均值差" in found.interpret("zh")
    with pytest.raises(InputError):
        found["nobody"]
    (printed,) = found.tables("zh")
    assert printed.columns == ("变量", "1 / 2", "1 / 3", "2 / 3", "最大值")
    assert printed.notes[0].startswith("SMD：标准化均值差")
    assert found.save(tmp_path / "balance.json").exists()


def test_faces_of_a_table(table: TableOne, tmp_path: Path) -> None:
    said = table.to_json()
    assert said["runs"] == [one.run.id for one in table.runs]
    assert said["result"]["rows"][0]["variable"] == "age"
    assert json.loads(json.dumps(said))["result"]["by"] == "arm"
    assert table.save(tmp_path / "balance.json").exists()
    assert "<td>" in table.export(tmp_path / "table.html").read_text(encoding="utf-8")
    assert "Characteristics by arm" in table.summary()


def test_differences_need_groups(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="name them"):
        _study(frame).smd(["age"], by="")


def test_three_groups_have_the_average_or_the_largest_difference(frame: pd.DataFrame) -> None:
    pairs = [v for v in _study(frame).smd(["age"], by="stage").pairs["age"].values() if v]
    average = _study(frame).table_one(["age"], by="stage")
    assert average.smd["age"] == pytest.approx(sum(pairs) / 3)
    assert any("the average over the pairs" in note for note in average.notes())
    largest = _study(frame).table_one(["age"], by="stage", smd="maximum")
    assert largest.smd["age"] == max(pairs)
    assert any("各组两两比较的最大值" in note for note in largest.notes("zh"))


samples = st.lists(
    st.lists(st.integers(0, 50), min_size=3, max_size=12).filter(lambda x: len(set(x)) > 1),
    min_size=2,
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(samples)
def test_summaries_are_enough_for_the_tests_of_means(values: list[list[int]]) -> None:
    arrays = [np.array(one, dtype=float) for one in values]
    groups = [Group(a.size, float(a.mean()), float(a.std(ddof=1))) for a in arrays]
    pooled_p = stats.f_oneway(*arrays).pvalue
    assume(not math.isnan(pooled_p))  # scipy's sums of squares cancel where all means are equal
    assert anova_p(groups) == pytest.approx(pooled_p, rel=1e-7)
    welch = stats.f_oneway(*arrays, equal_var=False).pvalue
    assert anova_p(groups, equal_var=False) == pytest.approx(welch, rel=1e-7)
    together = np.concatenate(arrays)
    whole = pooled(groups)
    assert whole.n == together.size
    assert whole.mean == pytest.approx(together.mean())
    assert whole.sd == pytest.approx(together.std(ddof=1))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=2, max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_distance_of_shares_does_not_depend_on_the_order_of_levels(
    counts: list[tuple[int, int]], random: object
) -> None:
    a, b = (np.array(column, dtype=float) for column in zip(*counts, strict=True))
    order = list(range(len(counts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert smd_shares(a[order], b[order]) == pytest.approx(smd_shares(a, b), rel=1e-6, abs=1e-9)
    assert smd_shares(a, b) == pytest.approx(smd_shares(b, a), rel=1e-6, abs=1e-9)


def test_groups_without_spread_or_overlap() -> None:
    assert smd_means(Group(5, 1.0, 0.0), Group(5, 1.0, 0.0)) == 0
    assert smd_means(Group(5, 1.0, 0.0), Group(5, 2.0, 0.0)) == math.inf
    assert smd_shares(np.array([5.0, 0, 0]), np.array([0.0, 5, 5])) == math.inf
    assert math.isnan(smd_shares(np.zeros(2), np.array([1.0, 2])))
    assert math.isnan(anova_p([Group(5, 1.0, 0.0), Group(5, 2.0, 0.0)]))
    assert math.isnan(anova_p([Group(5, 1.0, 0.0), Group(5, 2.0, 1.0)], equal_var=False))
    assert math.isnan(chi_square(np.array([[3.0, 4.0]])).p)


def test_the_groups_are_none_of_the_characteristics(frame: pd.DataFrame) -> None:
    for made in (_study(frame).table_one, _study(frame).smd):
        with pytest.raises(InputError, match="stage makes the groups"):
            made(["age", "stage"], by="stage")


def test_labels_and_tests_are_of_variables_of_the_table(frame: pd.DataFrame) -> None:
    for options in ({"labels": {"agee": "Age"}}, {"nonnormal": ["agee"]}, {"exact": "agee"}):
        with pytest.raises(InputError, match="agee is not one of the variables: age") as caught:
            _study(frame).table_one(["age"], by="arm", **options)
        assert caught.value.code == "not-found"
