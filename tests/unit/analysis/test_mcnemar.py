"""McNemar's test: estimates by hand, and what is withheld."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.support.federation import run_pooled_sum
from tests.support.tables import category, halves

from cohortium.analysis.builtin import find
from cohortium.analysis.interface import Scope
from cohortium.analysis.mcnemar import McNemar, McNemarParams
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, ProtocolError

BEFORE, AFTER = (Variable(name=name, type=VariableType.BOOLEAN) for name in ("before", "after"))
PARAMS = {"before": "before", "after": "after"}


def mcnemar(counts: Any, limits: Disclosure | None = None, **params: Any) -> dict[str, Any]:
    tables = halves(counts, [BEFORE, AFTER])
    return dict(run_pooled_sum(find("stats.mcnemar"), PARAMS | params, tables, limits).result)


def test_a_small_example_by_hand() -> None:
    result = mcnemar([[40, 20], [10, 30]])
    assert result["statistic"] == pytest.approx(81 / 30)
    assert result["tests"][1]["statistic"] == pytest.approx(100 / 30)
    assert result["estimate"]["value"] == pytest.approx(2.0)
    half = 1.959963984540054 * math.sqrt(1 / 20 + 1 / 10)
    assert result["estimate"]["high"] == pytest.approx(2.0 * math.exp(half))
    assert result["effects"][0]["value"] == pytest.approx(0.1)
    assert (result["n"], result["row_totals"], result["column_totals"]) == (100, [60, 40], [50, 50])


def test_without_correction_the_other_test_is_the_result() -> None:
    assert mcnemar([[40, 20], [10, 30]], correction=False)["statistic"] == pytest.approx(100 / 30)


@pytest.mark.parametrize("counts", [[[40, 20], [3, 30]], [[2, 20], [30, 30]]])
def test_with_a_small_cell_nothing_is_tested(counts: Any) -> None:
    result = mcnemar(counts, Disclosure(floor="total"))
    assert result["p_value"] is None
    assert "estimate" not in result
    assert result["counts"] == [[None, None], [None, None]]


def test_where_nobody_changes_there_is_nothing_to_test() -> None:
    result = mcnemar([[40, 0], [0, 30]])
    assert (result["p_value"], "nothing to test" in result["notes"][0]) == (None, True)


def test_where_all_change_one_way_the_odds_ratio_has_no_limits() -> None:
    result = mcnemar([[40, 20], [0, 30]])
    assert (result["estimate"]["value"], result["estimate"]["low"]) == (None, None)
    assert result["tests"][2]["p_value"] == pytest.approx(2 * 0.5**20)


def test_pairs_need_the_same_two_levels() -> None:
    variables = {v.name: v for v in (BEFORE, category("after", "no", "yes"))}
    params = McNemarParams(**PARAMS)
    with pytest.raises(InputError):
        McNemar().start(params, Scope(variables, Disclosure(), 2))


def test_a_state_of_another_phase_is_refused() -> None:
    (table, _) = halves([[40, 20], [10, 30]], [BEFORE, AFTER])
    scope = Scope(table.variables, Disclosure(), 2)
    with pytest.raises(ProtocolError):
        McNemar().local(table, State(values={"phase": "x"}), McNemarParams(**PARAMS), scope)
    assert McNemar().partition(McNemarParams(**PARAMS), scope) == ("before", "after")
