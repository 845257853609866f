"""Propensity scores: what a site gives, what a forged state gets, and what is never told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.property.test_propensity import VARIABLES, population
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis.interface import Scope
from cohortium.analysis.propensity import Propensity, PropensityParams
from cohortium.analysis.propensity_model import CELLS, EDGES
from cohortium.analysis.propensity_release import grouped
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.errors import CohortiumError, PolicyRefusal, ProtocolError

PARAMS = PropensityParams(treatment="drug", covariates="age + stage", outcome="cost")
SCOPE = Scope(VARIABLES, Disclosure(floor="total"), 2)


def rounds(params: PropensityParams = PARAMS) -> list[tuple[State, Total]]:
    seen: list[tuple[State, Total]] = []
    sites = split(population(4, 500), [250, 250])
    asked = params.model_dump(mode="json")
    run_pooled_sum(Propensity(), asked, sites, SCOPE.disclosure, seen=seen)
    return seen


def refused(sites: list[Table], limits: Disclosure, **params: Any) -> CohortiumError:
    asked = {"treatment": "drug", "covariates": "age + stage", "outcome": "cost", **params}
    with pytest.raises(CohortiumError) as caught:
        run_pooled_sum(Propensity(), asked, sites, limits)
    return caught.value


def changed(table: Table, **columns: Any) -> Table:
    return Table(table.variables, {**table.columns, **columns})


def test_no_weight_and_no_score_leaves_a_site() -> None:
    for state, total in rounds():
        assert all(array.size < 60 for array in total.values()), state.values["stage"]
    assert [state.values["stage"] for state, _ in rounds()][-3:] == ["overlap", "balance", "effect"]


def test_without_an_outcome_there_is_no_round_of_effects() -> None:
    stages = [
        state.values["stage"] for state, _ in rounds(PARAMS.model_copy(update={"outcome": None}))
    ]
    assert stages[-1] == "balance"


@pytest.mark.parametrize("doubly", [False, True])
def test_a_forged_state_is_a_protocol_error(*, doubly: bool) -> None:
    analysis = Propensity()
    table = population(4, 100)
    params = PARAMS.model_copy(update={"doubly_robust": doubly})
    for state, _ in rounds(params):
        forged = [State({**state.values, "stage": "else"}, state.arrays)]
        forged.append(State({**state.values, "stage": ["model"]}, state.arrays))
        forged.append(State({**state.values, "phase": "counts"}, state.arrays))
        forged.append(State({**state.values, "stage": "effect" if doubly else "augment"}))
        for name, array in state.arrays.items():
            arrays = dict(state.arrays)
            del arrays[name]
            forged.append(State(state.values, arrays))
            forged.append(State(state.values, {**state.arrays, name: array[:-1]}))
            if array.dtype == np.float64 and array.size:
                endless = array.copy()
                endless.flat[0] = np.nan
                forged.append(State(state.values, {**state.arrays, name: endless}))
        for one in forged:
            if one.values == state.values and one.digest == state.digest:
                continue
            if one.values.get("phase") == "counts" and state.values["stage"] == "model":
                continue
            with pytest.raises(ProtocolError):
                analysis.local(table, one, params, SCOPE)


def test_a_site_with_few_persons_of_an_arm_says_nothing() -> None:
    analysis = Propensity()
    table = population(4, 120, missing=0)
    columns = table.columns["drug"].copy()
    columns[:] = 0
    columns[:4] = 1
    few = changed(table, drug=columns)
    strict = replace(SCOPE, disclosure=Disclosure(floor="site"))
    states = [analysis.start(PARAMS, strict), *(state for state, _ in rounds()[1:])]
    for state in states:
        mute = analysis.local(few, state, PARAMS, strict)
        assert not any(np.any(array) for array in mute.values())
        assert any(np.any(array) for array in analysis.local(few, state, PARAMS, SCOPE).values())


def test_groups_of_scores_hold_nobody_of_an_arm_or_enough() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        scores = rng.poisson(rng.choice([0.1, 2, 8], CELLS), (2, CELLS)).astype(np.int64)
        sites = np.minimum(scores, rng.integers(1, 4, (2, CELLS)))
        groups, counts = grouped(scores, sites, 5, 2)
        assert counts.sum(axis=1).tolist() == scores.sum(axis=1).tolist()
        starts = sorted(set(groups.tolist()))
        assert starts[0] == 0
        assert not np.any(np.delete(counts, starts, axis=1))
        if len(starts) > 1:
            assert not np.any((counts > 0) & (counts < 5))
            for begin, end in zip(starts, [*starts[1:], CELLS], strict=True):
                of = scores[:, begin:end].sum(axis=1)
                assert counts[:, begin].tolist() == of.tolist()
                held = sites[:, begin:end].max(axis=1)
                assert np.all((of == 0) | (held >= 2))


def test_edges_of_scores_are_exact_and_ascending() -> None:
    assert list(EDGES) == sorted(set(EDGES))
    assert EDGES[EDGES.index(0.15)] == 0.15
    assert 0.9 in EDGES


def test_an_arm_of_one_institution_is_refused() -> None:
    table = population(4, 400, missing=0)
    drug = table.columns["drug"].copy()
    drug[200:] = 0
    found = refused(split(changed(table, drug=drug), [200, 200]), Disclosure())
    assert found.code == "too-few-sites"


@pytest.mark.parametrize("outcome", ["died", "cost"])
def test_few_events_in_an_arm_are_refused(outcome: str) -> None:
    table = population(4, 400, missing=0)
    events = np.zeros(400)
    events[table.columns["drug"] == 0] = np.resize([0, 1], int((table.columns["drug"] == 0).sum()))
    events[np.flatnonzero(table.columns["drug"] == 1)[:3]] = 1
    sites = split(changed(table, **{outcome: events}), [200, 200])
    found = refused(sites, Disclosure(), outcome=outcome)
    assert found.code == "too-few-persons"
    assert found.details["cells"] == [outcome]


@pytest.mark.parametrize(("level", "name"), [(0, "stage[I]"), (2, "stage[III]")])
def test_a_level_that_few_of_an_arm_have_is_refused(level: int, name: str) -> None:
    table = population(4, 400, missing=0)
    stage = np.where(table.columns["stage"] == level, 1, table.columns["stage"])
    for arm, many in ((0, 30), (1, 3)):
        stage[np.flatnonzero(table.columns["drug"] == arm)[:many]] = level
    sites = split(changed(table, stage=stage.astype(np.int32)), [200, 200])
    found = refused(sites, Disclosure())
    assert found.code == "too-few-persons"
    assert found.details["cells"][0] == name
    assert "drug = true" in found.message


def test_what_few_of_an_arm_differ_in_is_refused() -> None:
    table = population(4, 400, missing=0)
    first = (np.arange(400) % 2).astype(float)
    second = first.copy()
    for arm, many in ((0, 40), (1, 2)):
        rows = np.flatnonzero(table.columns["drug"] == arm)[:many]
        second[rows] = 1 - second[rows]
    sites = split(changed(table, died=first, cost=second), [200, 200])
    found = refused(sites, Disclosure(), covariates="age + died + cost", outcome=None)
    assert found.code == "too-few-persons"
    assert "what died and cost differ in" in found.message


def test_the_dominance_rule_holds_for_weighted_values() -> None:
    table = population(4, 400, missing=0)
    cost = np.ones(400) * table.columns["cost"]
    cost[np.flatnonzero(table.columns["drug"] == 1)[0]] = 1e10
    sites = split(changed(table, cost=cost), [200, 200])
    rule = Disclosure(dominance=Dominance(largest=1, percent=60))
    found = refused(sites, rule)
    assert isinstance(found, PolicyRefusal)
    assert "make up most of a sum of values" in found.message


def test_a_hub_that_gives_one_person_all_the_weight_gets_no_weights() -> None:
    state = next(state for state, _ in rounds() if state.values["stage"] == "overlap")
    table = population(4, 500)
    complete = np.all([table.present(name) for name in ("drug", "age", "stage", "cost")], axis=0)
    ages = np.sort(table.columns["age"][complete & (table.columns["drug"] == 1)])
    between = float(ages[:2].mean() - state.arrays["centre"][1])
    steep = np.array([-1e4 * between, 1e4, 0.0, 0.0])
    chosen = State(state.values, {**state.arrays, "beta": steep})
    with pytest.raises(PolicyRefusal) as caught:
        Propensity().local(table, chosen, PARAMS, SCOPE)
    assert "nearly all of its weights" in caught.value.message


def test_a_model_of_the_outcome_needs_persons_in_each_arm() -> None:
    table = population(4, 400, missing=0)
    drug = table.columns["drug"] * (np.arange(400) % 12 < 3)
    sites = split(changed(table, drug=drug), [200, 200])
    run_pooled_sum(Propensity(), PARAMS.model_dump(mode="json"), sites, Disclosure())
    strict = Disclosure(persons_per_parameter=15)
    found = refused(sites, strict, doubly_robust=True)
    assert found.code == "too-many-parameters"
    assert "drug = true" in found.message


def test_a_column_that_is_constant_in_an_arm_has_no_model_of_the_outcome() -> None:
    table = population(4, 400, missing=0)
    age = np.where(table.columns["drug"] == 1, 1000.0, table.columns["age"])
    sites = split(changed(table, age=age), [200, 200])
    found = refused(sites, Disclosure(), doubly_robust=True)
    assert found.code == "no-convergence"
    assert found.details["terms"] == ["age"]


@pytest.mark.parametrize(("outcome", "value"), [("died", 0.0), ("died", 1.0), ("cost", 7.5)])
def test_an_outcome_that_does_not_vary_is_refused(outcome: str, value: float) -> None:
    table = population(4, 400, missing=0)
    sites = split(changed(table, **{outcome: np.full(400, value)}), [200, 200])
    assert refused(sites, Disclosure(), outcome=outcome).code == "no-convergence"


def test_an_outcome_of_one_arm_has_a_difference_and_no_ratio() -> None:
    table = population(4, 400, missing=0)
    died = np.where(table.columns["drug"] == 1, 0.0, np.arange(400) % 2)
    sites = split(changed(table, died=died), [200, 200])
    asked = {"treatment": "drug", "covariates": "age + stage", "outcome": "died"}
    of = run_pooled_sum(Propensity(), asked, sites, Disclosure()).result["outcome"]
    assert [one["name"] for one in of["effects"]] == ["risk difference"]
    assert of["means"][1]["value"] == 0
    assert of["effects"][0]["value"] == pytest.approx(-0.5, abs=0.1)


def test_rounded_counts_are_refused() -> None:
    found = refused(split(population(4, 400), [200, 200]), Disclosure(rounding=5))
    assert found.code == "not-permitted"


def test_the_arms_are_parts_of_the_cohort() -> None:
    analysis = Propensity()
    assert analysis.partition(PARAMS, SCOPE) == ("drug",)
    assert analysis.variables(PARAMS) == {"drug", "age", "stage", "cost"}


def test_a_component_that_overflows_has_a_name() -> None:
    analysis = Propensity()
    assert analysis.column("columns", 5, PARAMS, SCOPE) == "age"
    assert analysis.column("slope", 7, PARAMS, SCOPE) == "stage[T.III]"
    assert analysis.column("meat", 1, PARAMS, SCOPE) == "Intercept and age"
    assert analysis.column("products", 11, PARAMS, SCOPE) == "Intercept and age"
    assert analysis.column("pull", 3, PARAMS, SCOPE) == "stage[T.III]"
    assert analysis.column("variation", 0, PARAMS, SCOPE) == "cost"
