"""What is refused of gamma models, offsets, weights and robust standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split, table_of

from cohortium.analysis.builtin import find
from cohortium.analysis.glm import Glm, GlmParams
from cohortium.analysis.interface import Scope
from cohortium.cohort.singling import dominated
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

VARIABLES = (
    Variable(name="y", type=VariableType.INTEGER),
    Variable(name="cost", type=VariableType.REAL),
    Variable(name="x", type=VariableType.REAL),
    Variable(name="o", type=VariableType.REAL),
    Variable(name="w", type=VariableType.INTEGER),
    Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b")),
)
SIZES = [50, 60, 40, 50, 40]


def sample(n: int = 240, **columns: Any) -> Table:
    random = np.random.default_rng(4)
    x = random.uniform(-1, 1, n)
    made: dict[str, Any] = {
        "y": random.poisson(np.exp(0.3 * x)),
        "cost": random.gamma(3.0, np.exp(0.3 * x)),
        "x": x,
        "o": random.uniform(0, 1, n),
        "w": random.integers(1, 4, n),
        "s": random.choice(["a", "b"], n),
    }
    return table_of(VARIABLES, {**made, **columns})


def fit(tables: list[Table], disclosure: Disclosure | None = None, **params: Any) -> dict[str, Any]:
    asked = {"formula": "y ~ x", "family": "poisson", **params}
    return dict(run_pooled_sum(find("glm"), asked, tables, disclosure).result)


def refused(tables: list[Table], **params: Any) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        fit(tables, Disclosure(floor="total"), **params)
    return caught.value


FIVE = split(sample(), SIZES)
PARAMS = GlmParams(formula="y ~ x", family="poisson")
SCOPE = Scope(variables={v.name: v for v in VARIABLES}, disclosure=Disclosure(), n_sites=3)


def _but(**params: str) -> GlmParams:
    return GlmParams.model_validate({"formula": "y ~ x", "family": "poisson", **params})


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"link": "inverse"}, "bad-input"),
        ({"offset": "nothing"}, "not-found"),
        ({"weights": "nothing"}, "not-found"),
        ({"offset": "s"}, "bad-input"),
        ({"weights": "o"}, "bad-input"),
        ({"weights": "y"}, "bad-input"),
        ({"formula": "s ~ x", "family": "gamma"}, "bad-input"),
    ],
)
def test_what_does_not_fit_is_said_before_any_site_is_asked(
    params: dict[str, str], code: str
) -> None:
    asked = GlmParams.model_validate({"formula": "y ~ x", "family": "poisson", **params})
    with pytest.raises(InputError) as caught:
        Glm().start(asked, Scope({v.name: v for v in VARIABLES}, Disclosure(), 3))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("columns", "params", "variable"),
    [
        ({"w": [0] + [1, 2] * 119 + [1]}, {"weights": "w"}, "w"),
        ({"w": [2_000_000] + [1, 2] * 119 + [1]}, {"weights": "w"}, "w"),
        ({"o": [80.0] + [0.1, 0.2] * 119 + [0.3]}, {"offset": "o"}, "o"),
        ({"cost": [0.0] + [1.0, 2.0] * 119 + [3.0]}, {"formula": "cost ~ x"}, "cost"),
    ],
)
def test_a_site_names_the_variable_and_no_value(
    columns: dict[str, Any], params: dict[str, str], variable: str
) -> None:
    family = "gamma" if variable == "cost" else "poisson"
    error = refused(split(sample(**columns), SIZES), family=family, **params)
    assert (error.code, error.details) == ("bad-input", {"variable": variable})


def test_weights_that_few_persons_have_are_refused() -> None:
    """Otherwise the weighted model less the plain one would be about those few."""
    error = refused(split(sample(w=[2] * 3 + [1] * 237), SIZES), weights="w")
    assert (error.code, error.details) == ("too-few-persons", {"cells": ["w > 1"]})
    error = refused(split(sample(w=[1] * 4 + [2, 3] * 118), SIZES), weights="w")
    assert error.details == {"cells": ["w = 1"]}
    assert fit(split(sample(w=[1] * 240), SIZES), weights="w")["n_weighted"] == 240


def test_weights_of_which_few_persons_have_nearly_all_are_refused() -> None:
    heavy = sample(w=[100_000] * 4 + [1, 2] * 118)
    error = refused(split(heavy, SIZES), weights="w")
    assert isinstance(error, PolicyRefusal)
    assert error.code == "too-few-persons"
    made = Glm().numbers_made(heavy, _but(weights="w"), SCOPE)
    assert dominated(made[0], 5)


def test_an_offset_that_leaves_few_persons_any_weight_is_refused() -> None:
    alone = sample(o=[0.0] * 4 + [-30.0] * 236, y=[2, 1, 3, 1] + [0] * 236)
    error = refused(split(alone, SIZES), offset="o", formula="y ~ 1")
    assert isinstance(error, PolicyRefusal)
    assert error.code == "too-few-persons"
    assert dominated(Glm().numbers_made(alone, _but(offset="o"), SCOPE)[0], 5)


def test_errors_by_site_need_five_sites_with_persons() -> None:
    for tables in (split(sample(), [80, 80, 80]), [*FIVE[:4], sample(2)]):
        with pytest.raises(PolicyRefusal) as caught:
            fit(tables, errors="site")
        assert caught.value.code == "too-few-sites"
    assert fit([*FIVE, sample(2)], errors="site")["df_test"] == 4


@pytest.mark.parametrize("errors", ["HC2", "HC3"])
def test_a_person_whom_the_model_follows_has_no_leverage_corrected_error(errors: str) -> None:
    far = split(sample(x=[1e9] + [0.001 * at for at in range(239)]), SIZES)
    error = refused(far, formula="cost ~ x", family="gaussian", errors=errors)
    assert isinstance(error, PolicyRefusal)
    assert "HC1" in error.message


def test_a_hub_that_makes_up_leverages_blows_up_nobodys_score() -> None:
    """With the information made up, 1 - h of one person could be next to 0, or of others huge."""
    params = _but(errors="HC3")
    good, plain = Glm().start(params, SCOPE), _but(errors="HC0")
    table = sample()
    for bread in (np.array([0.0, 0.0, 1.0]), np.array([-1e6, 0.0, 0.0]), np.ones(3) * 0.1):
        state = State({**good.values, "phase": "errors"}, {**good.arrays, "bread": bread})
        found = Glm().local(table, state, params, SCOPE)["meat"][0]
        base = Glm().local(table, state, plain, SCOPE)["meat"][0]
        assert base <= found <= 4 * base


def test_a_gamma_mean_that_is_not_positive_is_stepped_back_from() -> None:
    """R's ``glm`` says that it cannot correct the step size without start values here."""
    random = np.random.default_rng(1)
    x = random.uniform(0, 1, 240)
    cost = random.gamma(2.0, 1 / (2.0 * (0.02 + 3 * x)))
    seen: list[tuple[State, Total]] = []
    params = {"formula": "cost ~ x", "family": "gamma"}
    tables = split(sample(x=x, cost=cost), SIZES)
    result = run_pooled_sum(find("glm"), params, tables, seen=seen).result
    assert result["params"][1] == pytest.approx(3.0, rel=0.25)
    assert all(total["outside"][0] >= 0 for _, total in seen if "outside" in total)


def test_what_is_asked_beyond_the_plain_model_leaves_the_site_only_then() -> None:
    names = {"plain": {}, "more": {"offset": "o", "weights": "w", "errors": "HC3"}}
    fields: dict[str, set[str]] = {}
    for name, params in names.items():
        seen: list[tuple[State, Total]] = []
        asked = {"formula": "y ~ x", "family": "poisson", **params}
        run_pooled_sum(find("glm"), asked, FIVE, seen=seen)
        fields[name] = {field for _, total in seen for field in total}
    assert fields["more"] - fields["plain"] == {"once", "weighed", "working", "meat", "odd"}


@pytest.mark.parametrize("errors", ["model", "HC0"])
def test_a_round_for_errors_that_nobody_asked_for_is_a_protocol_error(errors: str) -> None:
    params = _but(errors=errors)
    good = Glm().start(params, SCOPE)
    state = State({**good.values, "phase": "errors"}, good.arrays)
    with pytest.raises(ProtocolError):
        Glm().local(sample(), state, params, SCOPE)
    whole = State(state.values, {**good.arrays, "bread": np.eye(3)[0]})
    if errors == "model":
        with pytest.raises(ProtocolError):
            Glm().local(sample(), whole, params, SCOPE)
    else:
        assert set(Glm().local(sample(), whole, params, SCOPE)) == {"meat", "odd"}


def test_a_site_refuses_errors_by_site_of_few_sites_whatever_the_hub_asks() -> None:
    params = _but(errors="site")
    good = Glm().start(PARAMS, SCOPE)
    arrays = {**good.arrays, "bread": np.ones(3)}
    with pytest.raises(PolicyRefusal):
        Glm().local(sample(), State({**good.values, "phase": "errors"}, arrays), params, SCOPE)
