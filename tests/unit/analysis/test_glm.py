"""Models: refusals, explanations, odd data, what leaves a site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split, table_of

from cohortium.analysis.builtin import find
from cohortium.analysis.glm import Glm, GlmParams
from cohortium.analysis.interface import Scope
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

Y = Variable(name="y", type=VariableType.INTEGER)
B = Variable(name="b", type=VariableType.BOOLEAN)
W = Variable(name="w", type=VariableType.REAL)
X = Variable(name="x", type=VariableType.REAL)
Z = Variable(name="z", type=VariableType.REAL)
S = Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c"))
E = Variable(name="e", type=VariableType.CATEGORY, levels=("no", "yes"))
VARIABLES = (Y, B, W, X, Z, S, E)

SITE, TOTAL = Disclosure(), Disclosure(floor="total")


def sample(n: int = 240, **columns: Any) -> Table:
    random = np.random.default_rng(3)
    x = random.normal(size=n)
    y = (random.uniform(size=n) < 1 / (1 + np.exp(-x))).astype(int)
    made: dict[str, Any] = {
        "y": y,
        "b": y,
        "w": 1 + 2 * x + random.normal(size=n),
        "x": x,
        "z": random.normal(size=n),
        "s": random.choice(["a", "b", "c"], n),
        "e": np.where(y > 0, "yes", "no"),
    }
    return table_of(VARIABLES, {**made, **columns})


def fit(
    tables: list[Table], formula: str, family: str = "binomial", disclosure: Disclosure = SITE
) -> dict[str, Any]:
    params = {"formula": formula, "family": family}
    return dict(run_pooled_sum(find("glm"), params, tables, disclosure).result)


def fails(
    tables: list[Table], formula: str, family: str = "binomial", disclosure: Disclosure = SITE
) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        fit(tables, formula, family, disclosure)
    return caught.value


THREE = split(sample(), [80, 60, 100])


def test_boolean_integer_and_category_outcomes_are_the_same() -> None:
    fits = [fit(THREE, f"{outcome} ~ x + s") for outcome in ("y", "b", "e")]
    assert fits[0]["params"] == fits[1]["params"] == fits[2]["params"]
    assert [f["event"] for f in fits] == [None, None, "yes"]
    assert fits[0]["levels"] == {"s": ["a", "b", "c"]}
    assert fits[2]["levels"] == {"e": ["no", "yes"], "s": ["a", "b", "c"]}


def test_both_floors_and_any_order_give_the_same_numbers() -> None:
    fits = [
        fit(THREE, "y ~ x * s"),
        fit(THREE, "y ~ x * s", disclosure=TOTAL),
        fit(THREE[::-1], "y ~ x * s"),
    ]
    assert fits[0] == fits[1] == fits[2]


def test_incomplete_persons_are_left_out_and_counted() -> None:
    holed = sample(x=[None] * 7 + [0.1 * at for at in range(233)])
    result = fit(split(holed, [120, 120]), "w ~ x", "gaussian")
    assert (result["n"], result["n_missing"], result["df_resid"]) == (233, 7, 231)


def test_a_site_with_few_complete_persons_adds_nothing() -> None:
    small = sample(4)
    result = fit([*THREE, small], "y ~ x")
    assert result == {**fit(THREE, "y ~ x"), "n_sites": 4}
    assert fit([*THREE, small], "y ~ x", disclosure=TOTAL)["n"] == 244


def test_a_site_without_rows_changes_nothing() -> None:
    empty = sample().take(np.zeros(240, dtype=bool))
    for disclosure in (SITE, TOTAL):
        assert fit([*THREE, empty], "y ~ x + s", disclosure=disclosure)["n_sites"] == 4


def test_a_level_may_be_absent_at_a_site() -> None:
    table = sample()
    rows = table.columns["s"] == 0
    apart = fit([table.take(rows), table.take(~rows)], "y ~ x + s")
    half = np.arange(table.n_rows) < table.n_rows // 2
    together = fit([table.take(half), table.take(~half)], "y ~ x + s")
    assert apart["params"] == pytest.approx(together["params"], rel=1e-10)


def test_a_model_of_one_institution_is_refused() -> None:
    with pytest.raises(PolicyRefusal) as caught:
        fit([sample(), sample().take(np.zeros(240, dtype=bool))], "y ~ x + s")
    assert caught.value.code == "too-few-sites"


def test_a_model_without_intercept() -> None:
    result = fit(THREE, "w ~ 0 + s + x", "gaussian")
    assert result["terms"] == ["s[a]", "s[b]", "s[c]", "x"]
    assert (result["df_model"], result["df_resid"]) == (4, 236)


@pytest.mark.parametrize(
    ("formula", "family", "code"),
    [
        ("x ~ z", "binomial", "bad-input"),
        ("s ~ z", "binomial", "bad-input"),
        ("s ~ z", "gaussian", "bad-input"),
        ("w ~ z", "poisson", "bad-input"),
        ("I(y * 1) ~ z", "binomial", "bad-input"),
        ("log(y) ~ z", "poisson", "bad-input"),
        ("y ~ nothing", "binomial", "not-found"),
        ("y ~ __import__('os')", "binomial", "bad-formula"),
    ],
)
def test_what_does_not_fit_is_said_before_any_site_is_asked(
    formula: str, family: str, code: str
) -> None:
    scope = Scope({v.name: v for v in VARIABLES}, SITE, 3)
    params = GlmParams.model_validate({"formula": formula, "family": family})
    with pytest.raises(InputError) as caught:
        Glm().start(params, scope)
    assert caught.value.code == code


@pytest.mark.parametrize(("value", "family"), [(2, "binomial"), (-1, "poisson")])
def test_a_site_names_the_variable_and_no_value(value: int, family: str) -> None:
    odd = sample(y=[value] + [0, 1] * 119 + [0])
    error = fails([*THREE, odd], "y ~ x", family)
    assert (error.code, error.details) == ("bad-input", {"variable": "y"})
    assert str(value) not in error.message.replace("0 and 1", "")


def test_too_few_complete_persons_are_refused() -> None:
    tables = [sample(4), sample(4)]
    assert fails(tables, "y ~ 1").code == "too-few-persons"
    assert fails([sample(2), sample(2)], "y ~ 1", disclosure=TOTAL).code == "too-few-persons"


def test_a_mean_that_few_persons_make_up_is_no_coefficient() -> None:
    limits = Disclosure(floor="total", dominance=Dominance(largest=1, percent=50))
    wealth = np.full(240, 5.0)
    wealth[0] = 1e5
    rich = [sample(80), sample(60), sample(100, w=wealth[:100])]
    for formula in ("w ~ 1", "w ~ s", "w ~ x"):
        assert fails(rich, formula, "gaussian", limits).code == "too-few-persons"
    even = [sample(100, w=np.full(100, 5.0) + sample(100).columns["x"] / 10) for _ in range(2)]
    assert fit(even, "w ~ s", "gaussian", limits)["n"] == 200
    # In the reference level alone the sum is one person's.
    levels = ["a"] * 30 + ["b"] * 35 + ["c"] * 35
    some = np.concatenate([[1000.0], np.full(29, 1.0), np.full(70, 100.0)])
    assert fails([sample(100, w=some, s=levels)] * 2, "w ~ s", "gaussian", limits).code == (
        "too-few-persons"
    )
    assert fit(rich, "y ~ x", "binomial", limits)["n"] == 240


def test_a_model_is_refused_where_counts_are_rounded() -> None:
    assert fails(THREE, "y ~ x", disclosure=Disclosure(rounding=5)).code == "not-permitted"


def test_a_model_with_more_parameters_than_a_tenth_of_the_persons_is_refused() -> None:
    tables = split(sample(39), [20, 19])
    error = fails(tables, "y ~ x + z + s", disclosure=TOTAL)
    assert isinstance(error, PolicyRefusal)
    assert (error.code, error.details) == ("too-many-parameters", {"parameters": 5, "persons": 39})
    many = "x:z + " + " + ".join(f"I({name} ** {k})" for name in "xz" for k in range(1, 5))
    saturated = fails(split(sample(10), [5, 5]), f"w ~ {many}", "gaussian")
    assert saturated.code == "too-many-parameters"
    assert "saturated" in saturated.message


def test_a_level_of_few_persons_is_refused_by_name() -> None:
    levels = ["a"] * 150 + ["b"] * 86 + ["c"] * 4
    error = fails(split(sample(s=levels[::-1]), [120, 120]), "y ~ s")
    assert (error.code, error.details) == ("too-few-persons", {"cells": ["s[c]"]})
    reference = fails(split(sample(s=["a"] * 4 + ["b"] * 120 + ["c"] * 116), [120, 120]), "y ~ s")
    assert reference.details == {"cells": ["s[a]"]}


def test_few_events_are_refused() -> None:
    error = fails(split(sample(y=[1] * 3 + [0] * 237), [120, 120]), "y ~ x")
    assert (error.code, error.details) == ("too-few-persons", {"cells": ["y = 1"]})


def test_a_level_of_nobody_is_named() -> None:
    error = fails(split(sample(s=["a", "b"] * 120), [120, 120]), "y ~ x + s")
    assert (error.code, error.details) == ("no-convergence", {"cells": ["s[c]"]})


@pytest.mark.parametrize("family", ["binomial", "gaussian", "poisson"])
@pytest.mark.parametrize(
    ("formula", "term"),
    [
        ("x + I(2 * x - 1)", "I(2 * x - 1)"),
        ("x + z + I(x - z)", "I(x - z)"),
        ("x + I(0 * x + 7)", "I(0 * x + 7)"),
        ("x + I(0 * x)", "I(0 * x)"),
        ("s + C(s)", "C(s)[T.b]"),
        ("0 + x + I(3 * x)", "I(3 * x)"),
        ("I(x * 1e6) + I(x * 1e-6)", "I(x * 1e-06)"),
    ],
)
def test_a_column_that_follows_from_others_is_named(family: str, formula: str, term: str) -> None:
    outcome = "w" if family == "gaussian" else "y"
    error = fails(THREE, f"{outcome} ~ {formula}", family)
    assert error.code == "no-convergence"
    assert term in error.details["terms"]
    assert "collinear" in error.message


def test_complete_separation_is_explained() -> None:
    table = sample()
    y = (table.columns["x"] > 0.2).astype(int)
    error = fails(split(sample(y=y), [120, 120]), "y ~ x + z")
    assert error.code == "no-convergence"
    assert "separated" in error.message
    assert "x" in error.details["terms"]


@pytest.mark.parametrize("family", ["binomial", "poisson"])
def test_quasi_separation_names_the_level(family: str) -> None:
    table = sample()
    y = np.where(table.columns["s"] == 1, 0, table.columns["y"])
    error = fails(split(sample(y=y), [120, 120]), "y ~ x + s", family)
    assert (error.code, error.details) == ("no-convergence", {"terms": ["s[T.b]"]})
    assert "separated" in error.message


def test_an_exact_fit_has_no_finite_likelihood() -> None:
    table = sample()
    result = fit(split(sample(w=1 + 2 * table.columns["x"]), [120, 120]), "w ~ x", "gaussian")
    assert result["params"] == pytest.approx([1, 2], rel=1e-12)
    assert result["deviance"] == pytest.approx(0.0, abs=1e-24)


def test_counts_that_grow_fast_converge() -> None:
    random = np.random.default_rng(5)
    x = random.uniform(0, 10, 240)
    counts = random.poisson(np.exp(1.2 * x - 3))
    result = fit(split(sample(x=x, y=counts), [120, 120]), "y ~ x", "poisson")
    assert result["params"][1] == pytest.approx(1.2, abs=0.01)


def test_with_the_total_floor_only_counts_are_asked_for_first() -> None:
    seen: list[tuple[State, Total]] = []
    params = {"formula": "y ~ x + s", "family": "binomial"}
    run_pooled_sum(find("glm"), params, THREE, TOTAL, seen=seen)
    assert [sorted(total) for _, total in seen[:3]] == [
        ["persons"],
        ["columns", "levels", "marks", "outcome", "squares"],
        ["deviance", "gradient", "information"],
    ]


PARAMS = GlmParams(formula="y ~ x", family="binomial")
SCOPE = Scope(variables={"y": Y, "x": X}, disclosure=SITE, n_sites=2)


@pytest.mark.parametrize(
    "change",
    [
        {"beta": np.zeros(3)},
        {"beta": np.array([0.0, np.nan])},
        {"centre": np.array([0.0, np.inf])},
        {"scalars": np.zeros(4)},
        {"counts": np.zeros(3)},
    ],
)
def test_a_state_that_cannot_be_is_a_protocol_error(change: dict[str, Any]) -> None:
    good = Glm().start(PARAMS, SCOPE)
    with pytest.raises(ProtocolError):
        Glm().local(sample(), State(good.values, {**good.arrays, **change}), PARAMS, SCOPE)


@pytest.mark.parametrize(
    "values",
    [
        {"phase": "other", "steps": [0, 0, 0]},
        {"phase": "fit", "steps": [0, 0]},
        {"phase": "fit", "steps": [0, 0, -1]},
        {"phase": "fit", "steps": [0, 0, True]},
        {"phase": "fit", "steps": "abc"},
        {"phase": ["fit"], "steps": [0, 0, 0]},
        {},
    ],
)
def test_values_that_cannot_be_are_a_protocol_error(values: dict[str, Any]) -> None:
    good = Glm().start(PARAMS, SCOPE)
    with pytest.raises(ProtocolError):
        Glm().layout(State(values, good.arrays), PARAMS, SCOPE)
