"""Penalised models: the minimum, the folds, refusals, forged states, what leaves a site."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split, table_of

from cohortium.analysis.elastic_net import ElasticNet, ElasticNetParams
from cohortium.analysis.elastic_net_fit import end_of_path
from cohortium.analysis.elastic_net_model import Net
from cohortium.analysis.elastic_net_result import Found, assemble
from cohortium.analysis.elastic_net_state import Fit
from cohortium.analysis.folds import folds_of
from cohortium.analysis.interface import Continue, Scope
from cohortium.analysis.penalised import minimise
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

Y = Variable(name="y", type=VariableType.INTEGER)
W = Variable(name="w", type=VariableType.REAL)
X = Variable(name="x", type=VariableType.REAL)
Z = Variable(name="z", type=VariableType.REAL)
K = Variable(name="k", type=VariableType.REAL)
S = Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c"))
VARIABLES = (Y, W, X, Z, K, S)
SCOPE = Scope({v.name: v for v in VARIABLES}, Disclosure(), 3)


def sample(n: int = 240, **columns: Any) -> Table:
    random = np.random.default_rng(3)
    x = random.normal(size=n)
    made: dict[str, Any] = {
        "y": (random.uniform(size=n) < 1 / (1 + np.exp(-x))).astype(int),
        "w": 1 + 2 * x + random.normal(size=n),
        "x": x,
        "z": random.normal(size=n),
        "k": np.full(n, 7.0),
        "s": random.choice(["a", "b", "c"], n),
    }
    return table_of(VARIABLES, {**made, **columns})


THREE = split(sample(), [80, 60, 100])


def fit(
    formula: str = "w ~ x + z",
    tables: list[Table] | None = None,
    limits: Disclosure | None = None,
    seen: list[tuple[State, Total]] | None = None,
    **params: Any,
) -> dict[str, Any]:
    params = {"formula": formula, "folds": 4, "n_lambdas": 8, **params}
    return dict(run_pooled_sum(ElasticNet(), params, tables or THREE, limits, seen=seen).result)


def fails(formula: str, **more: Any) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        fit(formula, **more)
    return caught.value


def test_the_minimum_keeps_its_conditions_from_any_start() -> None:
    random = np.random.default_rng(1)
    for trial in range(20):
        x = random.normal(size=(60, 12)) @ random.normal(size=(12, 12))
        d, c = x.T @ x / 60, random.normal(size=12) * 5
        w, free = np.full(12, 0.5 * trial), np.ones(12, dtype=bool)
        found = minimise(d, c, w, np.zeros(12), free)
        slope = c - d @ found
        assert np.abs(slope[found == 0]) == pytest.approx(
            np.minimum(np.abs(slope[found == 0]), w[0])
        )
        assert slope[found != 0] == pytest.approx(w[0] * np.sign(found[found != 0]), abs=1e-9)
        other = minimise(d, c, w, random.normal(size=12), free)
        assert other == pytest.approx(found, abs=1e-8)


def test_columns_that_follow_from_others_have_a_minimum_too() -> None:
    random = np.random.default_rng(2)
    x = random.normal(size=(50, 3))
    x = np.column_stack([x, x[:, 0], x[:, 1] + x[:, 2]])
    d, c, w = x.T @ x / 50, x.T @ random.normal(size=50), np.full(5, 0.2)
    found = minimise(d, c, w, np.zeros(5), np.ones(5, dtype=bool))
    slope = c - d @ found
    assert np.abs(slope).max() <= 0.2 + 1e-9
    assert slope[found != 0] == pytest.approx(0.2 * np.sign(found[found != 0]), abs=1e-9)


def test_a_coefficient_that_is_not_free_stays_zero() -> None:
    found = minimise(
        np.eye(2), np.array([3.0, 5.0]), np.ones(2), np.zeros(2), np.array([True, False])
    )
    assert found.tolist() == [2.0, 0.0]


def test_folds_come_from_row_numbers_and_seed_alone() -> None:
    rows = np.ones(1000, dtype=bool)
    first = folds_of(rows, 10, 1, 5, "North")
    assert np.array_equal(first, folds_of(rows, 10, 1, 5, "North"))
    assert not np.array_equal(first, folds_of(rows, 10, 2, 5, "North"))
    assert np.bincount(first).tolist() == [100] * 10
    assert np.abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1
    assert set(folds_of(rows[:3], 10, 1, 5, "East").tolist()) <= set(range(10))


def test_no_seed_parts_the_persons_of_a_group() -> None:
    rows = np.random.default_rng(4).uniform(size=203) < 0.9
    dealt = np.array([folds_of(rows, 7, seed, 5, "North") for seed in range(100)])
    together = (dealt[:, :, None] == dealt[:, None, :]).all(axis=0)
    assert together.sum(axis=1).min() >= 5
    sizes = np.array([np.bincount(one, minlength=7) for one in dealt])
    assert sizes.min() >= 5


def test_more_columns_than_a_tenth_of_the_persons_are_released_while_few_are_kept() -> None:
    random = np.random.default_rng(6)
    table = sample(120, x=random.normal(size=120))
    terms = "x + z + s + I(x**2) + I(z**2) + x:z + x:s + z:s + I(x**3) + I(z**3)"
    found = fit(f"w ~ {terms}", split(table, [60, 60]), folds=3, n_lambdas=40)
    assert len(found["terms"]) > 12
    assert max(found["nonzero"]) + 1 <= 12
    assert len(found["suppressed"]) == 1
    assert found["suppressed"][0].startswith("lambda <= ")
    assert len(found["cv"]["mean"]) == len(found["lambdas"]) < 40
    error = fails(f"w ~ {terms}", tables=split(table, [60, 60]), folds=3, alpha=0.0)
    assert error.code == "too-many-parameters"


def test_fewer_persons_than_columns_are_refused() -> None:
    small = split(sample(24), [12, 12])
    error = fails("w ~ (x + z + I(x**2) + I(z**2) + I(x**3)) * s", tables=small, folds=0)
    assert isinstance(error, PolicyRefusal)
    assert error.code == "too-many-parameters"


def test_a_fold_of_one_institution_or_of_few_is_refused() -> None:
    uneven = split(sample(220), [200, 20])
    error = fails("w ~ x", tables=uneven, folds=10)
    assert error.code == "too-few-sites"
    assert "fewer folds" in error.message
    assert fit("w ~ x", uneven, folds=4)["n"] == 220
    error = fails("w ~ x + z", limits=Disclosure(min_cohort=70))
    assert error.code == "too-few-persons"
    error = fails("w ~ x + z", tables=[sample(), sample(3)])
    assert error.code == "too-few-sites"


@pytest.mark.parametrize(
    ("formula", "params", "code"),
    [
        ("w ~ x - 1", {}, "bad-formula"),
        ("w ~ 1", {}, "bad-formula"),
        ("w ~ nobody", {}, "not-found"),
        ("w ~ x", {"family": "binomial"}, "bad-input"),
        ("s ~ x", {}, "bad-input"),
        ("w ~ x", {"folds": 2}, "bad-input"),
        ("w ~ x", {"folds": 21}, "bad-input"),
        ("w ~ x", {"alpha": 1.1}, "bad-input"),
        ("w ~ x", {"lambdas": []}, "bad-input"),
        ("w ~ x", {"lambdas": [0.0]}, "bad-input"),
        ("w ~ x", {"lambdas": [0.1] * 201}, "bad-input"),
        ("w ~ x", {"seed": 100}, "bad-input"),
        ("w ~ k", {}, "no-convergence"),
    ],
)
def test_what_does_not_fit_is_refused(formula: str, params: dict[str, Any], code: str) -> None:
    assert fails(formula, **params).code == code


def test_rounded_contracts_and_small_groups_are_refused() -> None:
    assert fails("w ~ x", limits=Disclosure(rounding=5)).code == "not-permitted"
    few = split(sample(s=["a"] * 3 + ["b", "c"] * 118 + ["b"]), [80, 60, 100])
    assert fails("w ~ x + s", tables=few).code == "too-few-persons"


def test_an_outcome_that_does_not_vary_has_no_model() -> None:
    one = split(sample(w=np.full(240, 0.1), y=np.ones(240, dtype=int)), [120, 120])
    for params in ({}, {"lambdas": [0.1]}):
        assert fails("w ~ x", tables=one, **params).code == "no-convergence"
        assert fails("y ~ x", tables=one, family="poisson", **params).code in {
            "no-convergence",
            "too-few-persons",
        }
    assert fails("w ~ k", lambdas=[0.1]).code == "no-convergence"


def test_a_constant_column_has_no_coefficient() -> None:
    with_it, without = fit("w ~ x + z + k"), fit("w ~ x + z")
    at = with_it["terms"].index("k")
    assert [row.pop(at) for row in with_it["coefficients"]] == [0.0] * len(with_it["lambdas"])
    assert np.array(with_it["coefficients"]) == pytest.approx(np.array(without["coefficients"]))
    assert with_it["sd"][at - 1] == 0
    logistic = fit("y ~ x + k", family="binomial")
    assert all(row[logistic["terms"].index("k")] == 0 for row in logistic["coefficients"])


def test_a_column_that_is_constant_without_a_fold_is_left_out_of_that_model() -> None:
    codes = np.concatenate([folds_of(np.ones(100, dtype=bool), 4, 1, 5, "") for _ in range(2)])
    mark = np.where(codes == 2, np.random.default_rng(1).integers(0, 2, 200), 0) * 1.0
    tables = split(sample(200, k=mark), [100, 100])
    for family in ("gaussian", "binomial", "poisson"):
        outcome = "w" if family == "gaussian" else "y"
        found = fit(f"{outcome} ~ x + k", tables, family=family)
        assert np.isfinite(found["cv"]["mean"]).all()


def test_outcomes_that_are_all_in_one_fold_are_refused() -> None:
    codes = np.concatenate([folds_of(np.ones(100, dtype=bool), 4, 1, 5, "") for _ in range(2)])
    tables = split(sample(200, y=(codes == 1).astype(int)), [100, 100])
    assert fails("y ~ x", tables=tables, family="binomial").code == "no-convergence"
    assert fails("y ~ x", tables=tables, family="poisson").code == "no-convergence"
    assert fit("y ~ x", tables, family="binomial", folds=0)["n"] == 200


def test_separated_outcomes_have_a_penalised_minimum() -> None:
    x = np.linspace(-1, 1, 240)
    shuffled = np.random.default_rng(1).permutation(x)
    tables = split(sample(x=shuffled, y=(shuffled > 0).astype(int)), [120, 120])
    found = fit("y ~ x + z", tables, family="binomial", n_lambdas=30)
    assert found["deviance_ratio"][-1] > 0.9
    assert found["violation"] < 1e-9


def test_strong_effects_on_counts_converge() -> None:
    random = np.random.default_rng(8)
    x = random.normal(size=240)
    count = random.poisson(np.exp(1 + 1.6 * x))
    found = fit("y ~ x + z", split(sample(x=x, y=count), [120, 120]), family="poisson")
    assert found["coefficients"][-1][1] == pytest.approx(1.6, abs=0.1)


def test_only_whole_folds_leave_a_site_and_not_its_own_few() -> None:
    seen: list[tuple[State, Total]] = []
    fit("y ~ x", [*THREE, sample(4)], family="binomial", seen=seen)
    phases = [state.values["phase"] for state, _ in seen]
    assert phases[:3] == ["counts+moments", "gram", "path"]
    assert phases[-1] == "error"
    assert {"split", "folds"} <= set(phases)
    assert seen[0][1]["persons"].tolist() == [240, 0, 3]
    for state, total in seen:
        if state.values["phase"] in {"folds", "error"}:
            assert "gram" not in total


def test_each_component_has_a_name() -> None:
    analysis, params = ElasticNet(), ElasticNetParams(formula="w ~ x + z")
    assert analysis.column("gram", 1, params, SCOPE) == "Intercept and x"
    assert analysis.column("hessian", 6 + 3, params, SCOPE) == "x"
    assert analysis.column("gradient", 5, params, SCOPE) == "z"
    assert analysis.column("outcome_squares", 0, params, SCOPE) == "w"
    assert analysis.variables(params) == {"w", "x", "z"}
    assert analysis.numbers_made(THREE[0], params, SCOPE) == []


def test_the_path_ends_where_glmnet_ends_it() -> None:
    def net(family: Any, **more: Any) -> Net:
        outcome = "w" if family == "gaussian" else "y"
        params = ElasticNetParams(formula=f"{outcome} ~ x", family=family, **more)
        return Net.of(params, SCOPE)

    flat = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.500001, 0.6])
    assert end_of_path(flat, net("gaussian")) == 7
    assert end_of_path(flat, net("binomial")) == 7
    assert end_of_path(flat, net("gaussian", lambdas=(1.0,))) == 8
    small = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.400006, 0.400008])
    assert end_of_path(small, net("gaussian")) == 7
    assert end_of_path(small, net("binomial")) == 6
    assert end_of_path(np.full(9, 0.9995), net("binomial")) == 5
    slow = np.asarray(0.5 + 1e-6 * np.arange(9))
    assert end_of_path(slow, net("poisson")) == 5


def states() -> dict[str, State]:
    """One of each phase."""
    found: dict[str, State] = {}
    for family, floor in (("gaussian", "total"), ("binomial", "site")):
        seen: list[tuple[State, Total]] = []
        outcome = "w" if family == "gaussian" else "y"
        fit(f"{outcome} ~ x + z", family=family, seen=seen, limits=Disclosure(floor=floor))
        found |= {f"{family} {state.values['phase']}": state for state, _ in seen}
    return found


@pytest.mark.parametrize("name", sorted(states()))
def test_forged_states_are_refused(name: str) -> None:
    state = states()[name]
    family = name.partition(" ")[0]
    params = ElasticNetParams(
        formula=f"{'w' if family == 'gaussian' else 'y'} ~ x + z",
        family="gaussian" if family == "gaussian" else "binomial",
        folds=4,
        n_lambdas=8,
    )
    analysis = ElasticNet()
    forged = [
        State({**state.values, "phase": "everything"}, state.arrays),
        State({**state.values, "rounds": -1}, state.arrays),
        State({**state.values, "rounds": True}, state.arrays),
        State({}, {}),
    ]
    for key, array in state.arrays.items():
        rest = {name: one for name, one in state.arrays.items() if name != key}
        forged += [
            State(state.values, rest),
            State(state.values, {**rest, key: array[..., :0]}),
            State(state.values, {**rest, key: np.zeros_like(array, dtype=np.float32)}),
        ]
        if array.dtype.kind == "f" and array.size:
            forged.append(State(state.values, {**rest, key: np.full_like(array, np.nan)}))
    if "left" in state.arrays:
        forged.append(State(state.values, {**state.arrays, "left": state.arrays["left"] + 2}))
    for one in forged:
        with pytest.raises(ProtocolError):
            analysis.local(THREE[0], one, params, SCOPE)


def test_a_state_of_another_phase_is_not_a_gaussian_models() -> None:
    path = next(state for name, state in states().items() if name == "binomial path")
    params = ElasticNetParams(formula="w ~ x + z", folds=4)
    with pytest.raises(ProtocolError):
        ElasticNet().local(THREE[0], path, params, SCOPE)
    binomial = ElasticNetParams(formula="y ~ x + z", family="binomial", folds=0)
    split_ = next(state for name, state in states().items() if name == "binomial split")
    with pytest.raises(ProtocolError):
        ElasticNet().local(THREE[0], split_, binomial, SCOPE)


def test_the_error_is_released_with_six_digits() -> None:
    found = fit("w ~ x + z")
    for value in (*found["cv"]["mean"], *found["cv"]["se"]):
        assert value == float(f"{value:.6g}")
    net = Net.of(ElasticNetParams(formula="w ~ x", folds=3), SCOPE)
    at = replace(
        Fit.nothing(net, "gram"),
        persons=np.array([10, 20, 70]),
        lambdas=np.array([2.0, 1.0, 0.5]),
        units=np.ones((4, 1)),
        scale=1.0,
    )
    at = at.but(base=at.base.but(counts=np.array([100, 0, 2]), spread=np.ones(2)))
    errors = np.array([[4.0, 2.0, 1.0], [4.0, 1.0, 2.0], [4.0, 1.0, 1.0]])
    found = assemble(at, Found(np.zeros((3, 2)), np.zeros(3), 1.0, errors, 0.0, 1), net, SCOPE)
    assert found["cv"]["mean"] == [4.0, 1.1, 1.2]
    assert found["cv"]["se"] == pytest.approx([0, np.sqrt(0.09 / 2), np.sqrt(0.16 / 2)], rel=1e-5)
    assert (found["cv"]["lambda_min"], found["cv"]["lambda_1se"]) == (1.0, 1.0)


def test_a_lambda_without_a_finite_minimum_is_said() -> None:
    x = np.linspace(-1, 1, 240)
    shuffled = np.random.default_rng(1).permutation(x)
    tables = split(sample(x=shuffled, y=(shuffled > 0).astype(int)), [120, 120])
    error = fails("y ~ x", tables=tables, family="binomial", lambdas=[0.1, 1e-60], folds=0)
    assert isinstance(error, InputError)
    assert error.code == "no-convergence"


def test_a_run_goes_on_from_any_state_alike() -> None:
    params = ElasticNetParams(formula="w ~ x + z", folds=4, n_lambdas=8)
    state = ElasticNet().start(params, SCOPE)
    totals = [ElasticNet().local(table, state, params, SCOPE) for table in THREE]
    total = {name: np.sum([one[name] for one in totals], axis=0) for name in totals[0]}
    steps = [ElasticNet().finish(total, state, params, SCOPE) for _ in range(2)]
    assert all(isinstance(step, Continue) for step in steps)
    assert steps[0].state.digest == steps[1].state.digest  # type: ignore[union-attr]
