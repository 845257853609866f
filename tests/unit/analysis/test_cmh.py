"""Cochran-Mantel-Haenszel: what is refused, and what the rounds carry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.tables import category, halves, persons

from cohortium.analysis.builtin import find
from cohortium.analysis.cmh import Cmh, CmhParams
from cohortium.analysis.interface import Scope
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

SEX, ILL = category("sex", "f", "m"), category("ill", "no", "yes")
CLINIC = category("clinic", "1", "2", "3")
SITE, TOTAL = Disclosure(), Disclosure(floor="total")
A, B, C = [[20, 30], [10, 40]], [[30, 10], [20, 25]], [[15, 15], [10, 20]]


def sites(*tables: Any) -> list[Table]:
    return [persons(table, [SEX, ILL]) for table in tables]


def cmh(tables: list[Table], disclosure: Disclosure = SITE, **params: Any) -> dict[str, Any]:
    asked = {"row": "sex", "column": "ill", **params}
    return dict(run_pooled_sum(find("stats.cmh"), asked, tables, disclosure).result)


def test_both_floors_and_both_kinds_of_strata_agree() -> None:
    at_sites = [cmh(sites(A, B, C), limits) for limits in (SITE, TOTAL)]
    assert at_sites[0] == at_sites[1]
    levels = halves([A, B, C], [CLINIC, SEX, ILL])
    over = cmh(levels, strata="clinic")
    for name in ("statistic", "p_value", "tests", "homogeneity", "n", "n_strata"):
        assert str(over[name])[:60] == str(at_sites[0][name])[:60]
    assert over["estimate"]["value"] == pytest.approx(at_sites[0]["estimate"]["value"], rel=1e-12)
    assert (over["adjusted_for"], at_sites[0]["adjusted_for"]) == (["clinic"], ["institution"])


def test_without_correction_the_other_test_is_the_result() -> None:
    corrected, plain = cmh(sites(A, B)), cmh(sites(A, B), correction=False)
    assert corrected["tests"] == plain["tests"]
    assert plain["statistic"] == plain["tests"][1]["statistic"] > corrected["statistic"]


def test_no_sites_table_is_in_what_the_hub_sees() -> None:
    seen: list[tuple[State, Total]] = []
    run_pooled_sum(find("stats.cmh"), {"row": "sex", "column": "ill"}, sites(A, B), seen=seen)
    assert [state.values["phase"] for state, _ in seen] == ["counts+terms", "even"]
    first, second = (total for _, total in seen)
    assert set(first) == {"cells", "sites", "informative", "missing", "terms"}
    assert first["cells"].tolist() == [(np.array(A) + np.array(B)).tolist()]
    assert set(second) == {"even"}


def test_with_the_floor_total_terms_follow_only_when_the_counts_are_enough() -> None:
    seen: list[tuple[State, Total]] = []
    params = {"row": "sex", "column": "ill"}
    run_pooled_sum(find("stats.cmh"), params, sites(A, B), TOTAL, seen=seen)
    assert [state.values["phase"] for state, _ in seen] == ["counts", "terms", "even"]
    seen.clear()
    with pytest.raises(PolicyRefusal):
        run_pooled_sum(
            find("stats.cmh"), params, sites([[1, 9], [9, 9]], [[1, 9], [9, 9]]), TOTAL, seen=seen
        )
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("tables", "params", "code"),
    [
        (sites([[1, 30], [20, 20]], [[2, 20], [20, 20]]), {}, "too-few-persons"),
        (sites([[1, 1], [1, 1]], [[1, 0], [0, 1]]), {}, "too-few-persons"),
        (sites([[9, 30], [20, 20]], [[0, 20], [20, 20]]), {}, "too-few-sites"),
        (sites([[9, 30], [0, 0]], [[0, 0], [20, 20]]), {}, "too-few-sites"),
        (sites(A, [[0, 0], [0, 0]]), {}, "too-few-sites"),
        (
            halves([A, B, [[4, 9], [9, 9]]], [CLINIC, SEX, ILL]),
            {"strata": "clinic"},
            "too-few-persons",
        ),
    ],
    ids=["small cell", "few", "cell of one site", "no stratum", "one site", "one small stratum"],
)
def test_what_would_tell_of_few_persons_is_refused(
    tables: list[Table], params: dict[str, Any], code: str
) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        cmh(tables, TOTAL, **params)
    assert caught.value.code == code


def test_an_exact_test_is_refused_where_counts_are_rounded() -> None:
    with pytest.raises(PolicyRefusal) as caught:
        cmh(sites(A, B, C), Disclosure(rounding=5))
    assert caught.value.code == "not-permitted"


def test_two_small_strata_hide_in_each_other() -> None:
    levels = halves([A, [[4, 9], [9, 9]], [[9, 9], [9, 2]]], [CLINIC, SEX, ILL])
    assert cmh(levels, strata="clinic")["n_strata"] == 3


def test_a_stratum_in_which_nothing_varies_adds_nothing() -> None:
    levels = halves([A, B, [[20, 30], [0, 0]]], [CLINIC, SEX, ILL])
    with_it, without = cmh(levels, strata="clinic"), cmh(sites(A, B))
    assert (with_it["n_strata"], with_it["n"], without["n"]) == (2, 235, 185)
    assert with_it["statistic"] == pytest.approx(without["statistic"])


def test_an_odds_ratio_of_zero_has_no_limits() -> None:
    result = cmh(sites([[0, 30], [20, 20]], [[0, 20], [20, 20]]))
    assert (result["estimate"]["value"], result["estimate"]["low"]) == (0.0, None)
    assert result["homogeneity"] == []


@pytest.mark.parametrize(
    "params",
    [{"row": "sex", "column": "sex"}, {"row": "sex", "column": "clinic"}, {"strata": "sex"}],
)
def test_tables_that_are_not_2x2_are_an_input_error(params: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        cmh(halves([A, B, C], [CLINIC, SEX, ILL]), **params)


@pytest.mark.parametrize(
    "state",
    [
        State(values={"phase": "guess"}),
        State(values={"phase": "even"}),
        State(values={"phase": "even"}, arrays={"odds": np.array([np.nan])}),
        State(values={"phase": "even"}, arrays={"odds": np.array([-1.0])}),
        State(values={"phase": "even"}, arrays={"odds": np.array([1e300])}),
        State(values={"phase": "even"}, arrays={"odds": np.array([1.0, 2.0])}),
    ],
)
def test_a_state_that_cannot_be_is_refused_at_the_site(state: State) -> None:
    (table,) = sites(A)
    with pytest.raises(ProtocolError):
        Cmh().local(
            table, state, CmhParams(row="sex", column="ill"), Scope(table.variables, SITE, 2)
        )


@pytest.mark.parametrize("odds", [1e-14, 1e-3, 1.0, 1.0 + 1e-12, 50.0, 1e14])
def test_whatever_odds_the_hub_sends_the_terms_are_finite(odds: float) -> None:
    (table,) = sites([[90, 3], [80, 2]])
    state = State(values={"phase": "even"}, arrays={"odds": np.array([odds])})
    params, scope = CmhParams(row="sex", column="ill"), Scope(table.variables, SITE, 2)
    sent = Cmh().local(table, state, params, scope)
    assert np.all(np.isfinite(sent["even"]))
