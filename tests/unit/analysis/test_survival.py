"""Survival: what is asked wrongly, what is withheld, what leaves a site."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import table_of

from cohortium.analysis.builtin import find, parse_params
from cohortium.analysis.interface import Scope
from cohortium.analysis.survival_curve import Curve, points_of
from cohortium.analysis.survival_times import Endpoint, Leaving
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

DAYS = Variable(name="days", type=VariableType.INTEGER, unit="days")
DIED = Variable(name="died", type=VariableType.INTEGER)
END = Variable(name="end", type=VariableType.CATEGORY, levels=("alive", "dead", "lost"))
SINCE = Variable(name="since", type=VariableType.DATE)
ARM = Variable(name="arm", type=VariableType.CATEGORY, levels=("a", "b", "c"))
STAGE = Variable(name="stage", type=VariableType.BOOLEAN)
VARIABLES = (DAYS, DIED, END, SINCE, ARM, STAGE)
SITE, TOTAL = Disclosure(), Disclosure(floor="total")
both = pytest.mark.parametrize("limits", [SITE, TOTAL], ids=["site", "total"])
names = pytest.mark.parametrize("name", ["km", "logrank"])


def arms(*counts: int, seed: int = 0, died: float = 0.6) -> Table:
    random = np.random.default_rng(seed)
    levels = [level for level, n in zip("abc", counts, strict=True) for _ in range(n)]
    n = len(levels)
    ends = (random.uniform(size=n) < died).astype(int)
    return table_of(
        VARIABLES,
        {
            "days": random.integers(1, 400, n).tolist(),
            "died": ends.tolist(),
            "end": [("alive", "dead")[end] for end in ends],
            "since": [15_000] * n,
            "arm": levels,
            "stage": [at % 2 for at in range(n)],
        },
    )


def persons(rows: list[tuple[int, int]], arm: str = "a") -> Table:
    """Times with 1 for an event and 0 for a censored person."""
    n = len(rows)
    return table_of(
        VARIABLES,
        {
            "days": [time for time, _ in rows],
            "died": [event for _, event in rows],
            "end": ["dead" if event else "alive" for _, event in rows],
            "since": [15_000] * n,
            "arm": [arm] * n,
            "stage": [0] * n,
        },
    )


GOOD = [arms(60, 60, 0), arms(50, 50, 0, seed=3), arms(70, 70, 0, seed=5)]


def run(name: str, tables: list[Table], limits: Disclosure = SITE, **params: Any) -> dict[str, Any]:
    asked = {"time": "days", "event": "died", "by": "arm"} | params
    return dict(run_pooled_sum(find(f"survival.{name}"), asked, tables, limits).result)


def code(name: str, tables: list[Table], limits: Disclosure = SITE, **params: Any) -> str:
    with pytest.raises(CohortiumError) as caught:
        run(name, tables, limits, **params)
    assert isinstance(caught.value, InputError | PolicyRefusal)
    return caught.value.code


@names
@pytest.mark.parametrize(
    "params",
    [
        {"time": "since"},
        {"time": "arm"},
        {"event": "since"},
        {"event": "end"},
        {"event": "end", "event_level": "nobody"},
        {"event_level": "dead"},
        {"event": "days"},
        {"by": "days"},
    ],
)
def test_what_is_no_time_no_event_or_no_group_is_refused(name: str, params: dict[str, Any]) -> None:
    assert code(name, GOOD, **params) == "bad-input"


@names
def test_times_below_zero_are_refused(name: str) -> None:
    assert code(name, [*GOOD, persons([(-1, 1)] * 9)]) == "bad-input"


@names
def test_an_event_is_a_number_or_a_level(name: str) -> None:
    one, other = (run(name, GOOD), run(name, GOOD, event="end", event_level="dead"))
    assert other["event"] == "end = dead"
    other["event"] = "died"
    assert {**one, "null": ""} == {**other, "null": ""}


def test_who_competes_is_every_level_but_the_one_that_is_censored() -> None:
    scope = Scope({v.name: v for v in VARIABLES}, SITE, 2)
    endpoint = Endpoint.competing(scope, "days", "end")
    assert (endpoint.causes, endpoint.code) == (("dead", "lost"), (0, 1, 2))
    assert Endpoint.competing(scope, "days", "end", "lost").code == (1, 2, 0)
    for wrong in ({"event": "died"}, {"event": "end", "censored": "nobody"}):
        with pytest.raises(InputError):
            Endpoint.competing(scope, "days", **wrong)


@both
@names
def test_a_small_group_is_refused(name: str, limits: Disclosure) -> None:
    tables = [arms(30, 30, 2), arms(30, 30, 0)]
    if limits is TOTAL:
        assert code(name, tables, limits) == "too-few-persons"
    else:
        assert "arm = c" in run(name, tables, limits)["suppressed"][0]
    assert code(name, [arms(30, 30, 0), arms(30, 30, 9)], limits) == "too-few-sites"


@both
def test_a_group_with_few_events_is_not_compared(limits: Disclosure) -> None:
    few = [persons([(day, int(day < 3)) for day in range(1, 20)], "b") for _ in range(2)]
    tables = [arms(40, 0, 0), arms(40, 0, 0, seed=2), *few]
    assert code("logrank", tables, limits) == "too-few-persons"
    assert code("logrank", tables, limits, within_sites=True) == "too-few-sites"


def test_within_sites_two_institutions_must_compare_something() -> None:
    tables = [arms(40, 0, 0), arms(0, 40, 0, seed=2), arms(40, 40, 0, seed=4)]
    assert code("logrank", tables, TOTAL, within_sites=True) == "too-few-sites"
    assert run("logrank", tables, TOTAL)["df"] == 1


def test_few_censored_persons_hide_what_they_follow_from() -> None:
    tables = [arms(40, 40, 0, died=1.0), arms(40, 40, 0, seed=2, died=1.0)]
    tables.append(persons([(200, 0), (201, 0), *[(at, 1) for at in range(20)]], "b"))
    result = run("logrank", tables)
    assert result["estimate"] is None
    assert all(set(group) == {"level", "n"} for group in result["groups"])
    assert "censored" in result["suppressed"][-1]
    first, second = run("km", tables)["curves"]
    assert (first["events"], first["censored"]) == (80, 0)
    assert (second["events"], second["censored"]) == (None, None)
    assert second["steps"]["time"][-1] < 200


def test_groups_that_are_never_at_risk_together_are_not_compared() -> None:
    early = [persons([(day, 1) for day in range(1, 20)]) for _ in range(2)]
    late = [persons([(0, 0)] * 19, "b") for _ in range(2)]
    assert code("logrank", [*early, *late]) == "no-convergence"


def test_strata_are_not_the_groups() -> None:
    assert code("logrank", GOOD, strata="arm") == "bad-input"
    result = run("logrank", GOOD, strata="stage", within_sites=True)
    assert result["adjusted_for"] == ["stage", "institution"]
    assert result["null"].startswith("In every stratum of stage and institution")


def test_a_curve_of_few_events_has_no_point_and_says_so() -> None:
    tables = [persons([(day, int(day == 5)) for day in range(1, 31)]) for _ in range(2)]
    (curve,) = run("km", tables, by=None, at=[0, 10])["curves"]
    assert (curve["events"], curve["censored"], curve["quantiles"][0]["time"]) == (None, None, None)
    assert curve["at"][1]["survival"] is None
    tables = [persons([(day % 3 + 5, int(day == 0)) for day in range(40)]) for _ in range(2)]
    result = run("km", tables, by=None)
    assert len(result["curves"][0]["steps"]["time"]) == 1
    assert [line.partition(": ")[0] for line in result["suppressed"]] == ["everybody"] * 2


def of(rows: list[tuple[int, int]]) -> Leaving:
    times, codes = (np.array(column) for column in zip(*rows, strict=True))
    return Leaving.of_persons(times.astype(float), codes, np.zeros(len(rows)), (1, 2))


def test_the_curve_ends_where_few_are_at_risk() -> None:
    leaving = of([(day, 1) for day in range(1, 101)])
    for limits, end in ((Disclosure(), 95), (Disclosure(min_at_risk=40), 60)):
        points = points_of(leaving, limits)
        assert points.time[-1] <= end + 5
        assert leaving.at_risk[points.last[-1], 0] >= limits.at_risk
        assert not points.whole


def test_the_few_who_are_left_at_the_end_are_not_told_of() -> None:
    leaving = of([(10 * (at // 10), 1) for at in range(10, 90)] + [(400, 0), (401, 0)])
    points = points_of(leaving, Disclosure())
    assert not points.totals
    assert len(points.time) > 1
    assert 82 - int(points.left.sum()) >= 5


def test_no_point_moves_with_what_is_asked() -> None:
    one, other = (run("km", GOOD, at=at, quantiles=q) for at, q in (([], [0.5]), ([33.0], [0.2])))
    assert [curve["steps"] for curve in one["curves"]] == [c["steps"] for c in other["curves"]]


def test_points_are_multiples_of_one_round_step() -> None:
    for table in run("km", GOOD)["curves"]:
        times = table["steps"]["time"]
        assert len(times) > 5
        assert all(time % 10 == 0 for time in times)


def test_between_points_there_are_bounds() -> None:
    leaving = of([(day, day % 2) for day in range(1, 201)])
    curve = Curve.of(leaving, points_of(leaving, Disclosure()), 1.96)
    a, b = curve.time[3:5]
    middle = curve.at(float(a + b) / 2)
    assert middle["std_error"] is None
    assert middle["least"] == curve.survival[4] < middle["survival"] < middle["most"]
    assert (middle["low"], middle["high"]) == (curve.low[4], curve.high[3])
    exact = curve.at(float(a))
    assert exact["least"] == exact["most"] == exact["survival"] == curve.survival[3]
    assert curve.at(1e9)["survival"] is None
    assert curve.at(0.0)["at_risk"] == 200


def test_survival_has_no_limits_where_nobody_is_left() -> None:
    leaving = of([(1, 1)] * 6 + [(2, 1)] * 6)
    curve = Curve.of(leaving, points_of(leaving, Disclosure()), 1.96).to_json()
    assert curve["survival"] == [1.0, 0.5, 0.0]
    assert (curve["low"][2], curve["high"][2], curve["std_error"][2]) == (None, None, None)


@pytest.mark.parametrize("name", ["km", "logrank", "cumulative_incidence", "gray"])
def test_where_numbers_of_persons_are_rounded_nothing_is_computed(name: str) -> None:
    limits = Disclosure(floor="total", rounding=10)
    params: dict[str, Any] = {"event": "end", "event_level": "dead"}
    if name == "cumulative_incidence":
        params = {"event": "end"}
    assert code(name, GOOD, limits, **params) == "not-permitted"


@pytest.mark.parametrize("limits", [SITE, TOTAL], ids=["site", "total"])
def test_within_sites_no_time_leaves(limits: Disclosure) -> None:
    seen: list[tuple[State, Total]] = []
    params = {"time": "days", "event": "died", "by": "arm", "within_sites": True}
    run_pooled_sum(find("survival.logrank"), params, GOOD, limits, seen=seen)
    assert len(seen) == (1 if limits is SITE else 2)
    fields = {name for _, total in seen for name in total}
    counts = {"persons", "sites", "left_out", "ways", "informative"}
    assert fields == counts | {"vectors", "covariance"}


def test_the_hub_sees_when_persons_of_all_sites_leave() -> None:
    seen: list[tuple[State, Total]] = []
    params = {"time": "days", "event": "died"}
    tables = [persons([(day % 9, int(day < 30)) for day in range(end)]) for end in (31, 40)]
    run_pooled_sum(find("survival.km"), params, tables, SITE, seen=seen)
    cells = next(total["core_0"] for _, total in seen if "core_0" in total)
    censored, died = cells[:, cells.any(axis=0)]
    assert died.tolist() == [8, 8, 8, 6, 6, 6, 6, 6, 6]
    assert censored.tolist() == [1, 1, 1, 3, 1, 1, 1, 1, 1]


def competing(n: int) -> list[Table]:
    random = np.random.default_rng(n)
    tables = []
    for _ in range(2):
        table = persons([(int(day), 0) for day in random.integers(1, 300, n)])
        end = random.choice(3, n, p=[0.3, 0.5, 0.2]).astype(np.int32)
        tables.append(Table(table.variables, {**table.columns, "end": end}))
    return tables


def test_with_one_cause_the_incidence_is_what_survival_leaves() -> None:
    tables = [persons([(day, day % 2) for day in range(1, 81)]) for _ in range(2)]
    curve = run("km", tables, by=None)["curves"][0]
    other = run("cumulative_incidence", tables, event="end", by=None)["curves"][0]
    dead, lost = other["causes"]
    assert other["time"] == curve["steps"]["time"]
    left = [1 - one for one in curve["steps"]["survival"]]
    assert dead["incidence"] == pytest.approx(left, rel=1e-12)
    assert dead["std_error"] == pytest.approx(curve["steps"]["std_error"], rel=1e-9)
    assert set(lost["incidence"]) == {0.0}
    assert set(lost["high"]) == {0.0}


def test_incidence_of_all_causes_and_of_those_left_is_one() -> None:
    result = run("cumulative_incidence", competing(300), event="end", by=None, at=[100, 1e6])
    (curve,) = result["curves"]
    assert result["causes"] == ["dead", "lost"]
    assert curve["censored"] + sum(cause["total"] for cause in curve["causes"]) == curve["n"] == 600
    for cause in curve["causes"]:
        assert cause["at"][1]["incidence"] is None
        assert all(
            low <= one <= high
            for low, one, high in zip(cause["low"], cause["incidence"], cause["high"], strict=True)
        )
    assert code("cumulative_incidence", GOOD) == "bad-input"
    assert code("cumulative_incidence", GOOD, event="end", event_level="dead") == "bad-input"
    assert code("cumulative_incidence", GOOD, event="end", censored="gone") == "bad-input"


def test_grays_test_is_of_one_of_the_events() -> None:
    tables = competing(200)
    for table, seed in zip(tables, (1, 2), strict=True):
        arm = np.random.default_rng(seed).integers(0, 2, table.n_rows).astype(np.int32)
        table.columns["arm"][:] = arm
    asked: dict[str, Any] = {"event": "end", "event_level": "dead"}
    result = run("gray", tables, **asked)
    assert (result["df"], result["cause"], result["n"]) == (1, "dead", 400)
    assert sum(group["observed"] for group in result["groups"]) > 0
    by_stage = run("gray", tables, **asked, strata="stage")
    assert by_stage["adjusted_for"] == ["stage"]
    assert code("gray", tables, event="end", event_level="alive") == "bad-input"
    assert code("gray", tables, **asked, strata="arm") == "bad-input"
    assert code("gray", tables, event="died", event_level="dead") == "bad-input"
    rare = [replace(table, columns=dict(table.columns)) for table in tables]
    for table in rare:
        end = table.columns["end"].copy()
        end[(end == 2) & (table.columns["arm"] == 1)] = 1
        end[(end == 2)] = np.where(np.arange((end == 2).sum()) < 1, 2, 1)
        table.columns["end"] = end  # type: ignore[index]
    assert code("gray", rare, event="end", event_level="lost") == "too-few-persons"
    hidden = run("gray", rare, event="end", event_level="dead")
    assert all(set(group) == {"level", "n"} for group in hidden["groups"])
    assert "events of each group" in hidden["suppressed"][-1]


def test_few_of_one_cause_hide_the_totals() -> None:
    tables = competing(60)
    for table in tables:
        table.columns["end"][table.columns["end"] == 2] = 1
    tables[0].columns["end"][0] = 2
    result = run("cumulative_incidence", tables, event="end", by=None)
    (curve,) = result["curves"]
    assert [cause["total"] for cause in curve["causes"]] == [None, None]
    assert curve["censored"] is None
    assert result["suppressed"]


def test_states_that_cannot_be_are_refused() -> None:
    analysis = find("survival.logrank")
    scope = Scope(GOOD[0].variables, SITE, 3)
    for within in (True, False):
        params = parse_params(
            analysis, {"time": "days", "event": "died", "by": "arm", "within_sites": within}
        )
        state = analysis.start(params, scope)
        wrong = [
            State({}, state.arrays),
            State({"phase": "cells?"}, state.arrays),
            replace(state, arrays={}),
            replace(state, arrays={**state.arrays, "status": np.zeros(7, dtype=np.int64)}),
        ]
        for one in wrong:
            with pytest.raises(ProtocolError):
                analysis.local(GOOD[0], one, params, scope)


def test_what_persons_are_told_apart_by_is_compared_with_earlier_results() -> None:
    scope = Scope(GOOD[0].variables, SITE, 3)
    asked = {"time": "days", "event": "end", "event_level": "dead", "by": "arm"}
    for name in ("survival.km", "survival.logrank"):
        analysis: Any = find(name)
        params = parse_params(analysis, asked)
        assert analysis.partition(params, scope) == ("arm", "end")
        params = parse_params(analysis, asked | {"event": "died", "event_level": None})
        assert analysis.partition(params, scope) == ("arm",)
