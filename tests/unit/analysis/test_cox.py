"""Cox models: what is refused, what leaves, what a hub may not ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis.builtin import find, parse_params
from cohortium.analysis.concordance import concordance
from cohortium.analysis.cox_grid import choose
from cohortium.analysis.cox_risk import Blocks, Expected, RiskSums, Ties, residuals, second_order
from cohortium.analysis.distribution import Distribution
from cohortium.analysis.interface import Scope
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="days", type=VariableType.INTEGER, unit="days"),
        Variable(name="came", type=VariableType.INTEGER, unit="days"),
        Variable(name="died", type=VariableType.BOOLEAN),
        Variable(name="end", type=VariableType.CATEGORY, levels=("dead", "lost", "alive")),
        Variable(name="age", type=VariableType.REAL),
        Variable(name="twice", type=VariableType.REAL),
        Variable(name="few", type=VariableType.INTEGER),
        Variable(name="arm", type=VariableType.CATEGORY, levels=("a", "b", "c")),
        Variable(name="note", type=VariableType.TEXT),
    )
}
SITE, TOTAL = Disclosure(), Disclosure(floor="total")
ASKED = {"time": "days", "event": "died", "formula": "age + arm"}


def sites(seed: int = 4, n: int = 240, **changed: Any) -> list[Table]:
    random = np.random.default_rng(seed)
    age, arm = random.normal(60, 10, n), random.integers(0, 3, n)
    event = random.exponential(200 * np.exp(-0.03 * (age - 60) - 0.3 * arm))
    censored = random.uniform(50, 500, n)
    died = (event <= censored).astype(float)
    columns = {
        "days": np.ceil(np.minimum(event, censored)),
        "came": np.zeros(n),
        "died": died,
        "end": np.where(died == 1, 0, random.integers(1, 3, n)).astype(np.int32),
        "age": age,
        "twice": 2 * age + 1,
        "few": (np.arange(n) % 80 == 0).astype(float),
        "arm": arm.astype(np.int32),
        "note": np.array(["x"] * n, dtype=object),
    }
    columns |= {name: change(columns) for name, change in changed.items()}
    return split(Table(VARIABLES, columns), [n // 3, n // 3, n - 2 * (n // 3)])


def run(tables: list[Table], limits: Disclosure = SITE, **params: Any) -> dict[str, Any]:
    return dict(run_pooled_sum(find("survival.cox"), ASKED | params, tables, limits).result)


@pytest.mark.parametrize("baseline", ["site", "pooled"])
@pytest.mark.parametrize("limits", [SITE, TOTAL], ids=["site", "total"])
def test_a_model_is_fitted_with_its_tests(baseline: str, limits: Disclosure) -> None:
    result = run(sites(), limits, baseline=baseline)
    assert result["terms"] == ["age", "arm[T.b]", "arm[T.c]"]
    assert (result["time"], result["unit"], result["event"]) == ("days", "days", "died")
    assert (result["n"], result["n_sites"], result["n_sites_contributing"]) == (240, 3, 3)
    assert [one["name"] for one in result["tests"]] == ["likelihood-ratio", "wald", "score"]
    assert [one["df"] for one in result["proportionality"]["tests"]] == [1, 1, 1, 3]
    assert result["aic"] == pytest.approx(-2 * result["loglik"] + 6)
    assert 0.5 < result["concordance"]["value"] < 1
    assert (result["grid"] is None) == (baseline == "site") == (result["baseline_hazard"] == [])


def test_a_level_of_a_category_is_an_event() -> None:
    one = run(sites(), event="end", event_level="dead")
    other = run(sites())
    assert one["params"] == other["params"]
    assert one["event"] == "end = dead"


def test_each_stratum_has_its_own_baseline() -> None:
    result = run(sites(n=900), TOTAL, formula="age", strata=["arm"], baseline="pooled")
    assert [one["stratum"] for one in result["baseline_hazard"]] == ["a", "b", "c"]
    for curve in result["baseline_hazard"]:
        assert curve["time"] == sorted(curve["time"])
        assert curve["cumulative_hazard"] == sorted(curve["cumulative_hazard"])
        assert len(curve["time"]) > 1


def test_times_transformed_otherwise_say_the_same_of_proportionality_by_and_large() -> None:
    tests = {
        name: run(sites(), baseline="pooled", transform=name)["proportionality"]
        for name in ("km", "rank", "identity", "log")
    }
    assert {name: one["transform"] for name, one in tests.items()} == {name: name for name in tests}
    statistics = [one["tests"][-1]["statistic"] for one in tests.values()]
    assert len(set(statistics)) == 4
    assert statistics[0] == pytest.approx(statistics[1], rel=0.2)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"time": "arm"}, "bad-input"),
        ({"time": "nothing"}, "not-found"),
        ({"event": "end"}, "bad-input"),
        ({"event": "note"}, "bad-input"),
        ({"formula": "age + days"}, "bad-formula"),
        ({"formula": "age + died"}, "bad-formula"),
        ({"formula": "0 + age"}, "bad-formula"),
        ({"formula": "1"}, "bad-formula"),
        ({"formula": "age ~ arm"}, "bad-formula"),
        ({"strata": ["died"]}, "bad-formula"),
        ({"strata": ["age"]}, "bad-input"),
        ({"entry": "days"}, "bad-formula"),
        ({"entry": "came", "baseline": "pooled"}, "bad-input"),
        ({"transform": "km"}, "bad-input"),
        ({"robust": True, "baseline": "pooled"}, "bad-input"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(params: dict[str, Any], code: str) -> None:
    analysis = find("survival.cox")
    with pytest.raises(InputError) as caught:
        analysis.start(parse_params(analysis, ASKED | params), Scope(VARIABLES, SITE, 3))
    assert caught.value.code == code


@pytest.mark.parametrize("baseline", ["site", "pooled"])
@pytest.mark.parametrize(
    ("changed", "params", "family", "code"),
    [
        ({"days": lambda c: -c["days"]}, {}, InputError, "bad-input"),
        ({}, {"formula": "age + few"}, PolicyRefusal, "too-few-persons"),
        ({}, {"formula": "age + twice"}, InputError, "no-convergence"),
        ({"died": lambda c: np.arange(240) % 60 == 0}, {}, PolicyRefusal, "too-few-persons"),
        ({"died": lambda c: np.arange(240) < 20}, {}, PolicyRefusal, "too-few-sites"),
        ({"died": lambda c: np.arange(240) % 12 == 0}, {}, PolicyRefusal, "too-many-parameters"),
        ({"died": lambda c: np.zeros(240)}, {}, InputError, "no-convergence"),
        (
            {"arm": lambda c: np.where(np.arange(240) < 3, 2, 0).astype(np.int32)},
            {},
            PolicyRefusal,
            "too-few-persons",
        ),
        (
            {"arm": lambda c: (c["arm"] % 2).astype(np.int32)},
            {},
            InputError,
            "no-convergence",
        ),
        (
            {"died": lambda c: np.where(c["arm"] == 1, 0.0, c["died"])},
            {},
            InputError,
            "no-convergence",
        ),
    ],
)
def test_what_the_data_do_not_allow_is_refused(
    baseline: str, changed: dict[str, Any], params: dict[str, Any], family: Any, code: str
) -> None:
    changed = {
        name: (lambda c, change=change: np.asarray(change(c), dtype=c["days"].dtype))
        if name != "arm"
        else change
        for name, change in changed.items()
    }
    with pytest.raises(family) as caught:
        run(sites(**changed), TOTAL, baseline=baseline, **params)
    assert caught.value.code == code


def test_a_likelihood_that_grows_without_end_names_the_term() -> None:
    changed = sites(age=lambda c: -c["days"] + 0.1 * c["arm"])
    with pytest.raises(InputError, match=r"monotone.*: age "):
        run(changed, TOTAL, formula="age")
    spared = sites(died=lambda c: np.where(c["arm"] == 1, 0.0, c["died"]))
    with pytest.raises(InputError, match=r"Nobody has the event in: arm\[b\]"):
        run(spared, TOTAL)


def test_strata_that_few_are_in_are_refused() -> None:
    few = sites(arm=lambda c: np.where(np.arange(240) % 100 == 1, 2, 0).astype(np.int32))
    with pytest.raises(PolicyRefusal, match="arm = c"):
        run(few, TOTAL, formula="age", strata=["arm"])


def test_persons_come_before_they_leave() -> None:
    with pytest.raises(InputError, match="came is not below days"):
        run(sites(came=lambda c: c["days"]), entry="came")
    late = run(sites(came=lambda c: np.floor(c["days"] / 2)), entry="came")
    assert late["params"] != run(sites(came=lambda c: -np.ones(240)), entry="came")["params"]
    assert run(sites(came=lambda c: -np.ones(240)), entry="came")["params"] == pytest.approx(
        run(sites())["params"], rel=1e-9
    )


def test_a_site_below_its_floor_says_nothing() -> None:
    north, east, south = sites()
    some = south.take(np.arange(south.n_rows) < 4)
    result = run([north, east, some])
    assert result["n"] == 160
    assert result["params"] == run([north, east, some.take(np.zeros(4, dtype=bool))])["params"]
    assert run([north, east, some], TOTAL)["n"] == 164


@pytest.mark.parametrize("baseline", ["site", "pooled"])
def test_what_leaves_is_as_documented(baseline: str) -> None:
    seen: list[tuple[State, Total]] = []
    run_pooled_sum(find("survival.cox"), ASKED | {"baseline": baseline}, sites(), SITE, seen=seen)
    phases = [str(state.values["phase"]) for state, _ in seen]
    if baseline == "site":
        assert (phases[0], phases[-1]) == ("counts+moments", "final")
        assert set(phases[1:-1]) == {"fit"}
        assert all(total["information"].shape == (6,) for _, total in seen[1:-1])
        assert seen[-1][1]["information"].shape == (3, 6)
    else:
        assert set(phases) == {"counts+moments", "grid", "risk", "final"}
    for state, total in seen:
        for array in total.values():
            assert array.size < 2000, state.values["phase"]


@pytest.mark.parametrize("baseline", ["site", "pooled"])
def test_states_that_cannot_be_are_refused(baseline: str) -> None:
    analysis = find("survival.cox")
    seen: list[tuple[State, Total]] = []
    asked = ASKED | {"baseline": baseline, "robust": baseline == "site"}
    run_pooled_sum(analysis, asked, sites(), SITE, seen=seen)
    params, scope = parse_params(analysis, asked), Scope(VARIABLES, SITE, 3)
    other = "risk" if baseline == "site" else "fit"
    table = sites()[0]
    states = {str(state.values["phase"]): state for state, _ in seen}
    for state in states.values():
        wrong = [
            State({}, state.arrays),
            State({**state.values, "phase": "end"}, state.arrays),
            State({**state.values, "phase": other}, state.arrays),
            State({**state.values, "steps": [0, "1"]}, state.arrays),
            State({**state.values, "known": 1, "grid": 1}, state.arrays)
            if {"known", "grid"} & set(state.values)
            else State({}, {}),
        ]
        for name, array in state.arrays.items():
            rest = {key: one for key, one in state.arrays.items() if key != name}
            wrong.append(State(state.values, rest))
            wrong.append(State(state.values, rest | {name: np.append(array.ravel(), 0)}))
            if array.dtype == np.float64 and not name.startswith(("known_", "grid_")):
                bad = array.copy()
                bad.flat[0] = np.nan
                wrong.append(State(state.values, rest | {name: bad}))
        if "grid_edges" in state.arrays:
            edges = state.arrays["grid_edges"] * 2
            wrong.append(replace(state, arrays={**state.arrays, "grid_edges": edges}))
            starts = state.arrays["grid_starts"][::-1].copy()
            wrong.append(replace(state, arrays={**state.arrays, "grid_starts": starts}))
        for one in wrong:
            with pytest.raises(ProtocolError):
                analysis.local(table, one, params, scope)


@pytest.mark.parametrize("efron", [True, False])
def test_steps_of_time_are_left_by_enough_persons(efron: bool) -> None:
    random = np.random.default_rng(5)
    several = 0
    for _ in range(20):
        counts = random.poisson([0.8, 0.5], (80, 2)).astype(np.int64)
        counts[:, 1] *= random.uniform(size=80) < 0.5
        cells = np.arange(80, dtype=np.int64)
        some = counts.any(axis=1)
        found = Distribution(cells[some], counts[some], 1.0, exact=True)
        grid = choose(found, Disclosure(min_cell=4), efron=efron, transform="rank")
        step = np.searchsorted(grid.starts, cells, side="right") - 1
        censored, died = (
            np.bincount(step[step >= 0], weights=column[step >= 0]) for column in counts.T
        )
        assert np.all(censored + died >= 4)
        assert np.array_equal(grid.tied, died > 1)
        if efron:
            assert np.all((died == 1) | ((died >= 4) & ((censored == 0) | (censored >= 4))))
        several += len(grid)
    assert several > 60


def test_of_a_steps_only_event_no_sum_is_sent() -> None:
    few = sites(died=lambda c: (np.arange(240) % 5 == 0).astype(float))
    seen: list[tuple[State, Total]] = []
    asked = ASKED | {"formula": "age", "baseline": "pooled"}
    run_pooled_sum(find("survival.cox"), asked, few, TOTAL, seen=seen)
    for _, total in seen:
        if "dying" in total:
            single = np.asarray(total["events"])[0] == 1
            assert single.any()
            assert len(total["dying"]) == np.count_nonzero(~single)


def test_more_steps_than_persons_allow_are_refused_at_a_site() -> None:
    analysis: Any = find("survival.cox")
    seen: list[tuple[State, Total]] = []
    asked = ASKED | {"baseline": "pooled"}
    run_pooled_sum(analysis, asked, sites(), SITE, seen=seen)
    params, scope = parse_params(analysis, asked), Scope(VARIABLES, SITE, 3)
    state = next(s for s, _ in seen if s.values["phase"] == "risk")
    strict = replace(scope, disclosure=Disclosure(min_cell=100))
    with pytest.raises(ProtocolError, match="too few"):
        analysis.local(sites()[0], state, params, strict)


def test_sites_that_contradict_themselves_are_found() -> None:
    analysis: Any = find("survival.cox")
    seen: list[tuple[State, Total]] = []
    asked = ASKED | {"baseline": "pooled"}
    run_pooled_sum(analysis, asked, sites(), SITE, seen=seen)
    params, scope = parse_params(analysis, asked), Scope(VARIABLES, SITE, 3)
    state, total = next((s, t) for s, t in seen if s.values["phase"] == "risk")
    events = np.asarray(total["events"]).copy()
    events[0, 0] += 1
    with pytest.raises(ProtocolError, match="contradict"):
        analysis.finish({**total, "events": events}, state, params, scope)


def test_an_overflow_names_its_column() -> None:
    analysis: Any = find("survival.cox")
    params, scope = parse_params(analysis, ASKED), Scope(VARIABLES, SITE, 3)
    assert analysis.column("score", 0, params, scope) == "age"
    assert analysis.column("information", 6, params, scope) == "age"
    assert analysis.column("information", 1, params, scope) == "age and arm[T.b]"
    assert analysis.column("leaving", 11, params, scope) == "age"
    assert analysis.column("loglik", 0, params, scope) == "days"


def test_event_and_strata_are_compared_with_earlier_results() -> None:
    analysis: Any = find("survival.cox")
    scope = Scope(VARIABLES, SITE, 3)
    asked = {"formula": "age", "strata": ["arm"]}
    of = {
        baseline: analysis.partition(
            parse_params(analysis, ASKED | asked | {"baseline": baseline}), scope
        )
        for baseline in ("site", "pooled")
    }
    assert of == {"site": ("died",), "pooled": ("arm", "died")}


def test_where_counts_are_rounded_there_is_no_model() -> None:
    with pytest.raises(PolicyRefusal) as caught:
        run(sites(), Disclosure(floor="total", rounding=50))
    assert caught.value.code == "not-permitted"


def test_residuals_add_up_to_the_score_with_late_entries_and_ties() -> None:
    random = np.random.default_rng(2)
    n = 60
    time = random.integers(2, 12, n).astype(float)
    entry = time - random.integers(1, 8, n).astype(float)
    event, stratum = random.uniform(size=n) < 0.6, random.integers(0, 3, n)
    x, beta = random.normal(size=(n, 2)), np.array([0.4, -0.2])
    w = np.exp(x @ beta)
    for ties in ("efron", "breslow"):
        blocks = Blocks.of_times(time, event, stratum, 3, entry)
        sums = RiskSums.of(blocks, x, w)
        of = Ties.of(sums, ties)
        score = x[event].sum(axis=0) - of.means(sums).sum(axis=0)
        each = residuals(blocks, x, w, Expected.of(sums, of))
        assert each.sum(axis=0) == pytest.approx(score, abs=1e-10)
        information = second_order(blocks, x, w, of.a, of.c) - of.products(
            sums, np.ones(len(blocks))
        )
        step = 1e-6
        for j in range(2):
            moved = beta + step * np.eye(2)[j]
            there = RiskSums.of(blocks, x, np.exp(x @ moved))
            change = score - (x[event].sum(axis=0) - Ties.of(there, ties).means(there).sum(axis=0))
            assert change / step == pytest.approx(information[j], rel=1e-4, abs=1e-4)


def test_concordance_is_counted_pair_by_pair() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        n = int(random.integers(3, 40))
        time = random.integers(1, 9, n).astype(float)
        event, stratum = random.uniform(size=n) < 0.6, random.integers(0, 2, n)
        score, entry = random.integers(0, 4, n) / 3, time - random.integers(1, 5, n).astype(float)
        for since in (None, entry):
            pairs = [0, 0, 0]
            for i in np.flatnonzero(event):
                others = (stratum == stratum[i]) & ((time > time[i]) | ((time == time[i]) & ~event))
                if since is not None:
                    others &= since < time[i]
                pairs[0] += int((others & (score < score[i])).sum())
                pairs[1] += int((others & (score > score[i])).sum())
                pairs[2] += int((others & (score == score[i])).sum())
            assert concordance(time, event, score, stratum, 2, entry=since).tolist() == pairs
