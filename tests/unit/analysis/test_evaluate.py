"""Evaluation of models: what is asked wrongly, what is withheld, what leaves a site."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum

from cohortium.analysis.builtin import find, parse_params
from cohortium.analysis.distribution import Distribution, Known
from cohortium.analysis.evaluate_measures import Scored, brier, hosmer_lemeshow, wilson
from cohortium.analysis.evaluate_model import Bound
from cohortium.analysis.evaluate_points import FEW_HIDDEN, MOST_POINTS, grouped, points_of
from cohortium.analysis.interface import NamesColumns, Scope
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

proportion = pytest.importorskip("statsmodels.stats.proportion")

VARIABLES = {
    one.name: one
    for one in (
        Variable(name="age", type=VariableType.INTEGER),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="risk", type=VariableType.REAL, decimals=3),
        Variable(name="few", type=VariableType.INTEGER),
        Variable(name="flag", type=VariableType.BOOLEAN),
        Variable(name="nearly", type=VariableType.BOOLEAN),
        Variable(name="grade", type=VariableType.INTEGER),
        Variable(name="stage", type=VariableType.CATEGORY, levels=("I", "II", "III")),
        Variable(name="arm", type=VariableType.CATEGORY, levels=("no", "yes")),
        Variable(name="note", type=VariableType.TEXT),
        Variable(name="y", type=VariableType.BOOLEAN),
    )
}
SITE, TOTAL = Disclosure(), Disclosure(floor="total")
both = pytest.mark.parametrize("limits", [SITE, TOTAL], ids=["site", "total"])
AGE = {"name": "age", "score": "age"}
MODEL = {
    "name": "m",
    "formula": "age + x",
    "coefficients": {"Intercept": -2.0, "age": 0.04, "x": 0.8},
    "probability": True,
}


def site(n: int = 100, seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    age, x = random.integers(20, 80, n).astype(float), random.normal(size=n)
    risk = 1 / (1 + np.exp(2 - 0.04 * age - 0.8 * x))
    flag = (np.arange(n) % 2).astype(float)
    columns: dict[str, Any] = {
        "age": age,
        "x": x,
        "risk": np.round(risk, 3),
        "few": np.zeros(n),
        "flag": flag,
        "nearly": flag.copy(),
        "grade": random.integers(1, 4, n).astype(float),
        "stage": (np.arange(n) % 3).astype(np.int32),
        "arm": (np.arange(n) % 2).astype(np.int32),
        "note": np.full(n, "?", dtype=object),
        "y": (random.uniform(size=n) < risk).astype(float),
    }
    return Table(VARIABLES, columns)


SITES = [site(), site(120, 1), site(80, 2)]


def changed(**columns: Any) -> list[Table]:
    """The sites; a function makes of the first one's column another."""
    made = {name: make(SITES[0].columns[name].copy()) for name, make in columns.items()}
    return [Table(VARIABLES, {**SITES[0].columns, **made}), *SITES[1:]]


def put(values: Any, **at: Any) -> Any:
    values[at["at"]] = at["to"]
    return values


def run(
    sites: list[Table] = SITES,
    limits: Disclosure = SITE,
    *,
    models: Any = (AGE,),
    outcome: str = "y",
    **params: Any,
) -> dict[str, Any]:
    asked = {"outcome": outcome, "models": list(models), **params}
    return dict(run_pooled_sum(find("evaluate.model"), asked, sites, limits).result)


def code(*args: Any, **params: Any) -> str:
    with pytest.raises(CohortiumError) as caught:
        run(*args, **params)
    assert isinstance(caught.value, InputError | PolicyRefusal)
    return caught.value.code


def formula(text: str, **coefficients: float) -> dict[str, Any]:
    return {"name": "f", "formula": text, "coefficients": coefficients}


@pytest.mark.parametrize(
    "model",
    [
        {"name": "m"},
        {"name": "m", "score": "age", "formula": "age"},
        {"name": "m", "formula": "age"},
        {"name": "m", "score": "age", "coefficients": {"age": 1.0}},
        {"name": "m", "score": "stage"},
        {"name": "m", "score": "y"},
        {"name": "m", "score": "age", "probability": True},
        formula("age + x", age=1.0),
        formula("age", age=1.0, x=1.0),
        {**MODEL, "coefficients": {"age": 0.04, "x": 0.8}},
        {**MODEL, "coefficients": {"Intercept": 0.0, "age": 1.0, "x": 0.8}},
    ],
)
def test_models_that_do_not_fit_are_refused(model: dict[str, Any]) -> None:
    assert code(models=[model]) == "bad-input"


def test_what_is_asked_wrongly_is_refused() -> None:
    assert code(models=[]) == "bad-input"
    assert code(models=[AGE, AGE]) == "bad-input"
    assert code(models=[{"name": "m", "score": "nobody"}]) == "not-found"
    assert code(models=[formula("age + nobody", age=1.0, nobody=1.0)]) == "not-found"
    assert code(models=[formula("exp(age)", age=1.0)]) == "bad-formula"
    assert code(models=[formula("y", y=1.0)]) == "bad-formula"
    assert code(outcome="age", models=[{"name": "x", "score": "x"}]) == "bad-input"
    assert code(outcome="note") == "bad-input"
    assert code(outcome="stage") == "bad-input"
    assert code(outcome="stage", event_level="IV") == "bad-input"
    assert code(event_level="1") == "bad-input"
    assert code(limits=Disclosure(floor="total", rounding=5)) == "not-permitted"


def test_an_outcome_is_a_level_of_a_category_too() -> None:
    late = run(outcome="stage", event_level="III")
    assert (late["event"], late["events"]) == ("III", 99)
    second = run(outcome="arm")
    assert (second["event"], second["events"]) == ("yes", 150)
    first = run(outcome="arm", event_level="no")
    areas = [one["models"][0]["auc"]["value"] for one in (first, second)]
    assert sum(areas) == pytest.approx(1)


def test_the_intercept_of_a_score_does_not_matter() -> None:
    with_one, without = formula("age", Intercept=7.0, age=0.5), formula("age - 1", age=0.5)
    areas = {
        run(models=[one])["models"][0]["auc"]["value"]
        for one in (AGE, with_one, without, formula("age", age=0.5))
    }
    assert len(areas) == 1


def test_persons_of_one_outcome_or_one_score_cannot_be_evaluated() -> None:
    nobody = [Table(VARIABLES, {**one.columns, "y": one.columns["few"]}) for one in SITES]
    assert code(nobody) == "no-convergence"
    assert code(models=[{"name": "few", "score": "few"}]) == "no-convergence"


@both
def test_few_events_are_not_told_of(limits: Disclosure) -> None:
    def with_events(n: int, last: int) -> list[Table]:
        sizes = (n - 1, last, 0)
        return [
            Table(VARIABLES, {**one.columns, "y": (np.arange(one.n_rows) < k).astype(float)})
            for one, k in zip(SITES, sizes, strict=True)
        ]

    assert code(with_events(4, 1), limits) == "too-few-persons"
    assert code(with_events(10, 0), limits) == "too-few-sites"
    assert run(with_events(10, 1), limits)["events"] == 10
    opposite = [
        Table(VARIABLES, {**one.columns, "y": 1 - one.columns["y"]}) for one in with_events(4, 1)
    ]
    assert code(opposite, limits) == "too-few-persons"


@both
def test_columns_that_tell_of_few_persons_are_refused(limits: Disclosure) -> None:
    one = changed(few=lambda values: put(values, at=3, to=1))
    asked = formula("age + few", age=0.04, few=3.0)
    assert code(one, limits, models=[asked]) == "too-few-persons"
    # What has other values than 0 and 1 too.
    far = changed(few=lambda values: put(values, at=[3, 4], to=[2, -3]))
    assert code(far, limits, models=[asked]) == "too-few-persons"
    near = changed(nearly=lambda values: put(values, at=[1, 3], to=0))
    pair = formula("age + flag + nearly", age=0.04, flag=1.0, nearly=-1.0)
    assert code(near, limits, models=[pair]) == "too-few-persons"
    rare = [
        Table(VARIABLES, {**one.columns, "stage": np.where(np.arange(one.n_rows) < 1, 2, 0)})
        for one in SITES
    ]
    rare = [
        Table(VARIABLES, {**t.columns, "stage": t.columns["stage"].astype(np.int32)}) for t in rare
    ]
    staged = formula("age + stage", age=0.04, **{"stage[T.II]": 1.0, "stage[T.III]": 2.0})
    assert code(rare, limits, models=[staged]) == "too-few-persons"
    assert run(SITES, limits, models=[staged])["n"] == 300


def test_a_column_of_enough_persons_passes() -> None:
    five = changed(few=lambda values: put(values, at=[1, 2, 3, 4, 5], to=2))
    assert run(five, models=[formula("age + few", age=0.04, few=3.0)])["n"] == 300


def test_probabilities_that_are_a_step_are_refused() -> None:
    # Next to nothing for everybody but two persons.
    random = np.random.default_rng(8)
    sure = [
        Table(VARIABLES, {**one.columns, "x": 1e-9 * random.uniform(size=one.n_rows)})
        for one in SITES
    ]
    score = {"name": "x", "score": "x", "probability": True}
    assert run(sure, models=[score])["n"] == 300
    sure[0].columns["x"][:2] = 0.5, 0.6
    assert code(sure, models=[score]) == "too-few-persons"
    # And one that a researcher's coefficients make.
    steep = formula("age", Intercept=-20.0, age=0.4) | {"probability": True}
    assert code(models=[steep]) == "bad-input"
    assert (
        run(models=[formula("age", Intercept=-20.0, age=0.3) | {"probability": True}])["n"] == 300
    )
    risk = {"name": "risk", "score": "risk", "probability": True}
    assert run(models=[risk])["models"][0]["auc"]["value"] > 0.6


@both
def test_scores_of_two_values_tell_of_no_small_cell(limits: Disclosure) -> None:
    having = np.flatnonzero(SITES[0].columns["y"] == 1)
    two = changed(few=lambda values: put(values, at=having[:3], to=1))
    score = {"name": "few", "score": "few"}
    assert code(two, limits, models=[score]) == "too-few-persons"
    six = changed(few=lambda values: put(values, at=[*having[:6]], to=1))
    assert run(six, limits, models=[score])["models"][0]["points"]["events"][1] == 6


def test_areas_of_few_scores_are_of_merged_ones() -> None:
    rare = changed(grade=lambda values: put(values, at=[0, 1], to=9))
    found = run(rare, models=[{"name": "grade", "score": "grade"}])
    (one,) = found["models"]
    assert one["merged"] is True
    assert "merged" in found["suppressed"][0]
    assert len(one["points"]["n"]) == 3
    merged = run(
        changed(grade=lambda values: put(values, at=[0, 1], to=3)),
        models=[{"name": "grade", "score": "grade"}],
    )
    assert one["auc"] == merged["models"][0]["auc"]
    assert one["resolution"]["low"] < one["auc"]["value"] < one["resolution"]["high"]
    assert merged["models"][0]["resolution"] is None


def test_a_model_that_parts_the_outcomes_has_no_slope() -> None:
    parted = [
        Table(VARIABLES, {**one.columns, "y": (one.columns["age"] > 50).astype(float)})
        for one in SITES
    ]
    found = run(parted, models=[formula("age", Intercept=-5.0, age=0.1) | {"probability": True}])
    (one,) = found["models"]
    assert one["auc"] == {"value": 1.0, "std_error": 0.0, "low": 1.0, "high": 1.0}
    assert one["calibration"]["slope"] is None
    assert one["brier"]["value"] < 0.2
    assert "no slope exists" in found["suppressed"][-1]


def test_a_sum_of_risks_that_few_make_up_is_withheld() -> None:
    rule = Disclosure(dominance=Dominance(largest=1, percent=5.0))
    (one,) = run(limits=rule, models=[MODEL])["models"]
    assert None in one["groups"]["expected"]
    assert one["hosmer_lemeshow"] is None
    (other,) = run(models=[MODEL])["models"]
    assert None not in other["groups"]["expected"]


# What leaves a site


def rounds(limits: Disclosure = SITE) -> tuple[list[tuple[State, Total]], Any]:
    seen: list[tuple[State, Total]] = []
    analysis = find("evaluate.model")
    params = {"outcome": "y", "models": [MODEL, AGE]}
    run_pooled_sum(analysis, params, SITES, limits, seen=seen)
    return seen, parse_params(analysis, params)


def scope(limits: Disclosure = SITE) -> Scope:
    return Scope(VARIABLES, limits, len(SITES))


@pytest.mark.parametrize(("limits", "n"), [(SITE, 3), (TOTAL, 4)])
def test_a_comparison_takes_one_more_round(limits: Disclosure, n: int) -> None:
    assert len(rounds(limits)[0]) == n


def test_a_site_below_its_floor_sends_zeros_in_every_round() -> None:
    seen, params = rounds()
    small = site(4, 9)
    for state, _ in seen:
        sent = find("evaluate.model").local(small, state, params, scope())
        assert not any(np.any(array) for array in sent.values())


def test_the_hub_sees_how_many_have_which_score_of_each_model() -> None:
    (_, (state, total), _), params = rounds()
    question = Bound.of(params, scope()).question
    found = Known.from_state(state, question).advance(total, question, scope())
    assert not isinstance(found, Known)
    for of, name in zip(found, ("m", "age"), strict=True):
        columns = {
            key: np.concatenate([t.columns[key] for t in SITES]) for key in ("age", "x", "y")
        }
        risk = np.round(-2 + 0.04 * columns["age"] + 0.8 * columns["x"], 3)
        values = columns["age"] if name == "age" else risk
        for event in (0, 1):
            seen = np.repeat(of.cells, of.counts[:, event]) / of.scale
            assert np.sort(values[columns["y"] == event]) == pytest.approx(seen, abs=1e-12)
    assert all(name.partition("_")[0] in {"core", "outside", "distances"} for name in total)


def test_sites_are_told_released_points_only() -> None:
    seen, _ = rounds()
    state = seen[-1][0]
    assert set(state.arrays) == {"scale", "edges_0", "counts_0", "edges_1", "counts_1"}
    released = run(models=[MODEL, AGE])["models"]
    for at, one in enumerate(released):
        counts = state.arrays[f"counts_{at}"]
        assert counts.sum(axis=1).tolist() == one["points"]["n"]
        assert not np.any((counts > 0) & (counts < 5))


def test_states_that_cannot_be_are_refused() -> None:
    analysis = find("evaluate.model")
    seen, params = rounds()
    first, cells, pairs = (state for state, _ in seen)
    counts, edges = pairs.arrays["counts_0"], pairs.arrays["edges_0"]
    moved = counts.copy()
    moved[0, 0] += 1
    bad = [
        replace(first, values={"phase": "guess"}),
        replace(cells, arrays={k: v for k, v in cells.arrays.items() if k != "centre_0"}),
        spoil(cells, "centre_0", np.zeros((2, 3))),
        spoil(cells, "centre_0", np.full((2, 3), np.nan)),
        spoil(cells, "centre_0", np.ones((2, 4))),
        spoil(pairs, "counts_0", moved),
        spoil(pairs, "counts_0", -counts),
        spoil(pairs, "counts_0", counts[:, :1]),
        spoil(pairs, "counts_0", counts.astype(np.float64)),
        spoil(pairs, "edges_0", edges[::-1].copy()),
        spoil(pairs, "edges_0", edges[1:]),
        spoil(pairs, "scale", np.array([0.0, 1.0])),
        spoil(pairs, "scale", np.array([1e9, 1.0])),
        spoil(spoil(pairs, "counts_1", np.zeros((1, 2), np.int64)), "edges_1", edges[:0]),
    ]
    for state in bad:
        with pytest.raises(ProtocolError):
            analysis.local(SITES[0], state, params, scope())
        if state.values["phase"] != "cells":  # the centres are read where they are needed
            with pytest.raises(ProtocolError):
                analysis.layout(state, params, scope())


def spoil(state: State, name: str, value: Any) -> State:
    return replace(state, arrays={**state.arrays, name: value})


def test_a_component_is_named_by_its_model_or_column() -> None:
    analysis, (_, params) = find("evaluate.model"), rounds()
    assert isinstance(analysis, NamesColumns)
    named = analysis.column
    assert named("sums", 2, params, scope()) == "age"
    assert named("columns_0", 1, params, scope()) == "age"
    assert named("columns_0", 3, params, scope()) == "y"
    assert named("persons", 0, params, scope()) == "y"


# Points and measures


def distribution(counts: Any) -> Distribution:
    return Distribution(np.arange(len(counts)), np.array(counts), 1.0, exact=True)


@pytest.mark.parametrize("n", [30, 3000, 100_000])
def test_points_are_many_and_none_is_of_few(n: int) -> None:
    random = np.random.default_rng(n)
    having = random.binomial(1, np.linspace(0.01, 0.4, n))
    points = points_of(distribution(np.stack([1 - having, having], axis=1)), 5)
    assert points.counts.sum(axis=0).tolist() == [n - having.sum(), having.sum()]
    assert not np.any((points.counts > 0) & (points.counts < 5))
    assert len(points.last) <= MOST_POINTS + 1
    if n == 100_000:
        assert len(points.last) > 0.9 * MOST_POINTS
    ends = grouped(points, 10)
    assert ends[-1] == len(points.last) - 1
    assert len(ends) <= 10


def test_points_of_few_are_merged_with_those_before() -> None:
    counts = [[9, 0], [8, 6], [6, 9], [1, 0], [0, 2]]
    points = points_of(distribution(counts), 5)
    assert points.counts.tolist() == [[9, 0], [8, 6], [7, 11]]
    assert points.edges.tolist() == [1, 2]
    assert points.n_hidden == 2 <= FEW_HIDDEN
    assert points_of(distribution(counts), 1).counts.tolist() == counts


def test_limits_of_shares_are_wilsons() -> None:
    low, high = wilson(np.array([0.0, 3, 10]), np.array([10.0, 10, 10]), 1.959963984540054)
    for at, k in enumerate((0, 3, 10)):
        expected = proportion.proportion_confint(k, 10, method="wilson")
        assert (low[at], high[at]) == pytest.approx(expected, abs=1e-12)


def test_the_brier_score_has_the_error_that_leaving_persons_out_gives() -> None:
    random = np.random.default_rng(4)
    eta = np.round(random.normal(-1, 1, 400), 3)
    y = random.uniform(size=400) < 1 / (1 + np.exp(-eta))
    p = 1 / (1 + np.exp(-eta))
    order = np.argsort(eta)
    of = Scored(1 - y[order].astype(np.int64), y[order].astype(np.int64), eta[order])
    found = brier(of, 1.96)
    left = np.array([np.arange(400) != at for at in range(400)])
    plain = np.array([np.mean((y[rows] - p[rows]) ** 2) for rows in left])
    scaled = 1 - plain / np.array([np.var(y[rows]) for rows in left])
    for measure, each in ((found, plain), (found["scaled"], scaled)):
        error = np.sqrt(399 / 400 * np.sum((each - each.mean()) ** 2))
        assert measure["std_error"] == pytest.approx(error, rel=0.01)


def test_hosmer_and_lemeshows_statistic_is_that_of_the_textbook() -> None:
    n, events = np.array([20, 20, 20]), np.array([2, 9, 15])
    expected = np.array([3.0, 8.0, 15.0])
    found = hosmer_lemeshow(n, events, expected)
    assert found is not None
    by_hand = 1 / (3 * 0.85) + 1 / (8 * 0.6)
    assert found["statistic"] == pytest.approx(by_hand)
    assert (found["df"], found["df_new"]) == (1, 3)
    assert hosmer_lemeshow(n[:2], events[:2], expected[:2]) is None
