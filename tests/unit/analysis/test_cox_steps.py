"""Sums by step of time: in whole numbers, by blocks, kept from round to round; always the same."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis import cox_pooled, cox_site, cox_steps
from cohortium.analysis.builtin import find, parse_params
from cohortium.analysis.cox_risk import Blocks
from cohortium.analysis.cox_steps import Sorted, Units, blocks_of, encoded
from cohortium.analysis.interface import Scope
from cohortium.analysis.kept import Kept
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import ProtocolError

VARIABLES = {
    name: Variable(name=name, type=VariableType.REAL, decimals=2) for name in ("t", "x", "z")
} | {"died": Variable(name="died", type=VariableType.BOOLEAN)}
LIMITS = Disclosure(floor="total", min_cell=5)


def sites(effect: float = 0.7, n: int = 900, days: float = 100) -> list[Table]:
    random = np.random.default_rng(9)
    x, z = random.normal(2, 3, n).round(2), (random.uniform(size=n) < 0.4).astype(float)
    event = random.exponential(1 / np.exp(effect * (x - 2) / 3 - 0.5 * z)) * days
    end = random.uniform(0.1, 3, n) * days
    t = np.ceil(np.minimum(event, end))
    columns = {"t": t, "x": x, "z": z, "died": (event <= end).astype(float)}
    return split(Table(VARIABLES, columns), [n // 3, n // 3, n - 2 * (n // 3)])


def run(
    tables: list[Table], seen: list[tuple[State, Total]] | None = None, **params: Any
) -> dict[str, Any]:
    asked = {"time": "t", "event": "died", "formula": "x + z", "baseline": "pooled", **params}
    return dict(run_pooled_sum(find("survival.cox"), asked, tables, LIMITS, seen=seen).result)


def numbers(result: dict[str, Any]) -> list[float]:
    tests = [one["statistic"] for one in result["tests"]]
    tests += [one["statistic"] for one in result["proportionality"]["tests"]]
    hazard = result["baseline_hazard"][0]["cumulative_hazard"]
    return [*result["params"], *result["bse"], result["loglik"], *tests, *hazard]


def is_whole(total: Total) -> bool:
    return np.asarray(total["leaving"]).dtype == np.int64


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_whole_numbers_say_what_reals_say(ties: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[State, Total]] = []
    tables = sites()
    whole = run(tables, seen, ties=ties)
    assert all(is_whole(total) for _, total in seen if "leaving" in total)
    monkeypatch.setattr(cox_pooled, "_ERROR", -1.0)
    seen.clear()
    reals = run(tables, seen, ties=ties)
    risk = [total for _, total in seen if "leaving" in total]
    assert [is_whole(total) for total in risk] == [True] + [False] * (len(risk) - 1)
    assert numbers(whole) == pytest.approx(numbers(reals), rel=1e-9)


def test_a_site_beyond_the_bound_says_so_and_is_asked_in_larger_units(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = sites()
    expected = run(tables)
    monkeypatch.setattr(cox_pooled, "_ROOM", 1e-3)
    seen: list[tuple[State, Total]] = []
    assert numbers(run(tables, seen)) == pytest.approx(numbers(expected), rel=1e-9)
    beyond = [total for _, total in seen if "beyond" in total and total["beyond"][0]]
    assert len(beyond) >= 3
    for total in beyond:
        assert not np.asarray(total["leaving"]).any()
        assert not np.asarray(total["dying"]).any()


@pytest.mark.parametrize("most", [1, 3, 10_000])
def test_the_information_on_the_way_does_not_change_the_estimate(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = sites()
    expected = run(tables)
    monkeypatch.setattr(cox_steps, "MAX_BLOCKS", most)
    seen: list[tuple[State, Total]] = []
    result = run(tables, seen)
    assert numbers(result) == pytest.approx(numbers(expected), rel=1e-6)
    assert result["params"] == pytest.approx(expected["params"], rel=1e-12)
    assert result["iterations"] <= 10
    steps = result["grid"]["steps"]
    widths = {np.asarray(total["blocks"]).shape[1] for _, total in seen if "blocks" in total}
    assert widths == {min(most, steps)}


def test_sums_of_second_order_come_step_by_step_where_they_are_released() -> None:
    seen: list[tuple[State, Total]] = []
    run(sites(), seen)
    columns = [np.asarray(total["leaving"]).shape[1] for _, total in seen if "leaving" in total]
    assert columns == [6, *[3] * (len(columns) - 2), 6]


def test_blocks_are_of_neighbours_within_a_stratum() -> None:
    block = blocks_of(np.array([0, 5, 5, 12]), 4)
    assert block.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    assert blocks_of(np.array([0, 3]), 64).tolist() == [0, 1, 2]


@pytest.mark.parametrize("steps", [7, 40_000])
def test_sums_by_step_are_those_of_the_persons(steps: int) -> None:
    random = np.random.default_rng(3)
    n = 200
    x, w = random.normal(size=(n, 2)), random.uniform(0.1, 3, n)
    last = random.integers(-1, 7, n) * (steps // 7)
    last[last < 0] = -1
    event = random.uniform(size=n) < 0.5
    there = Sorted.of(x, last, event, steps)
    wx = there.x * w[there.order, None]
    first, second = there.first(wx), there.second(wx)
    block = np.minimum(np.arange(steps) // (steps // 7), 3)
    coarse = there.coarse(wx, block)
    pairs = np.stack([x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2], axis=1)
    for died in (0, 1):
        for step in set(last[last >= 0].tolist()):
            rows = (last == step) & (event == bool(died))
            expected = w[rows] @ np.column_stack([np.ones(n), x])[rows]
            assert first[died, step] == pytest.approx(expected)
            assert second[died, step] == pytest.approx(w[rows] @ pairs[rows])
    assert coarse.sum(axis=0) == pytest.approx(second.sum(axis=(0, 1)))
    assert coarse[0] == pytest.approx(second[:, block == 0].sum(axis=(0, 1)))


@pytest.mark.parametrize("baseline", ["site", "pooled"])
def test_a_site_where_nobody_has_the_event_adds_nothing(baseline: str) -> None:
    tables = sites()
    columns = {**tables[0].columns, "died": np.zeros(tables[0].n_rows)}
    for nobody in (Table(VARIABLES, columns), Table(VARIABLES, columns).take(np.arange(300) == 7)):
        found = run([nobody, *tables[1:]], baseline=baseline)
        assert found["n_events"] == sum(int(one.columns["died"].sum()) for one in tables[1:])
        if baseline == "site":
            assert found["params"] == pytest.approx(run(tables[1:], baseline=baseline)["params"])


def test_a_unit_holds_the_sums_of_all_sites() -> None:
    for n_sites in (2, 3, 64, 1000):
        for size in (1.0, 3.7, 1e6, 2.0**90):
            units = Units.of(size, np.array([3.0, 0.2]), n_sites)
            largest = encoded(np.array([size]), np.array([units.unit]))
            assert 2**50 < int(largest[0]) * n_sites < 2**63
    assert Units.of(4.0, np.array([0.0, 3.0, 0.2]), 2).of_columns.tolist() == [1, 1, 4, 0.25]


@pytest.mark.parametrize("size", [-1.0, 0.5, 1e300])
def test_a_bound_that_cannot_be_is_refused(size: float) -> None:
    analysis: Any = find("survival.cox")
    seen: list[tuple[State, Total]] = []
    asked = {"time": "t", "event": "died", "formula": "x", "baseline": "pooled"}
    tables = sites()
    run_pooled_sum(analysis, asked, tables, LIMITS, seen=seen)
    state = next(s for s, _ in seen if s.values["phase"] == "risk")
    scalars = np.append(state.arrays["scalars"][:5], size)
    forged = State(state.values, {**state.arrays, "scalars": scalars})
    with pytest.raises(ProtocolError):
        analysis.local(
            tables[0], forged, parse_params(analysis, asked), Scope(VARIABLES, LIMITS, 3)
        )


@pytest.mark.parametrize("baseline", ["site", "pooled"])
def test_what_is_kept_between_rounds_changes_no_byte(
    baseline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = sites()
    first = run(tables, baseline=baseline)
    again = run(tables, baseline=baseline)
    monkeypatch.setattr(cox_site, "_KEPT", Kept(0))
    assert run(tables, baseline=baseline) == first == again


def test_what_is_kept_goes_with_its_table_and_with_what_is_newer() -> None:
    kept: Kept[str] = Kept(100)
    tables = sites()
    kept.put(tables[0], "a", "first", 60)
    kept.put(tables[1], "a", "second", 30)
    assert kept.get(tables[0], "a") == "first"
    assert kept.get(Table(VARIABLES, dict(tables[0].columns)), "a") == "first"
    assert kept.get(tables[0], "b") is None
    assert kept.get(tables[2], "a") is None
    kept.put(tables[2], "a", "third", 60)
    assert kept.get(tables[0], "a") is None
    assert (kept.get(tables[1], "a"), kept.get(tables[2], "a")) == ("second", "third")
    kept.put(tables[0], "a", "too large", 101)
    assert kept.get(tables[0], "a") is None
    del tables[1:]
    gc.collect()
    assert not kept._values


def test_a_table_is_not_kept_by_what_is_prepared_of_it() -> None:
    tables = sites()
    run(tables)
    run(tables, baseline="site")
    before = len(cox_site._KEPT._values)
    tables.clear()
    gc.collect()
    assert len(cox_site._KEPT._values) <= before - 6


def test_risk_sets_from_steps_are_those_of_the_persons() -> None:
    edges = np.array([0, 2, 4])
    blocks = Blocks(np.zeros(0, dtype=np.int64), None, edges, np.zeros(0, dtype=np.bool_))
    assert blocks.from_leaving(np.array([1.0, 2.0, 4.0, 8.0])).tolist() == [3, 2, 12, 8]
