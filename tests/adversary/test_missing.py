"""A researcher who asks who lacks a value, fills in what marks them, or works with known noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.analysis.interface import Scope
from cohortium.analysis.mice import MiceParams
from cohortium.analysis.mice_model import Plan
from cohortium.analysis.mice_site import own_key
from cohortium.analysis.missing_pattern import Pattern, PatternParams
from cohortium.analysis.screen import set_key
from cohortium.cohort.population import Population
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.selection import Derived, Filled, Selection
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.inprocess.federation import LocalFederation


def frames() -> dict[str, pd.DataFrame]:
    out = {}
    for seed, site in enumerate(("North", "South")):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame(
            {
                "age": rng.integers(20, 90, 150).astype(float),
                "chol": rng.normal(200, 30, 150).round(1),
                "rare": rng.normal(5, 1, 150).round(1),
                "sex": rng.choice(["f", "m"], 150),
                "ill": rng.random(150) < 0.4,
            }
        )
        frame.loc[rng.choice(150, 30, replace=False), "chol"] = np.nan
        out[site] = frame
    out["North"].loc[[4, 7], "rare"] = np.nan
    out["South"].loc[[9], "rare"] = np.nan
    return out


@pytest.fixture
def fed() -> Iterator[LocalFederation]:
    with co.local(frames()) as one:
        yield one


def code(call: object) -> str:
    with pytest.raises(co.CohortiumError) as caught:
        call()  # type: ignore[operator]
    return caught.value.code


def test_three_persons_who_lack_a_value_are_neither_counted_nor_filled(
    fed: LocalFederation,
) -> None:
    study = fed.study()
    found = study.missing(["rare", "chol"])
    assert found.to_frame()["missing"].isna().loc["rare"]
    assert found.together == ("chol",)
    # With them the sums of a model would differ by those three from the sums without.
    without = study.glm("ill ~ rare")
    filled = study.impute({"rare": "mean"}).glm("ill ~ rare")
    assert filled.nobs == without.nobs == 297
    assert filled.params.equals(without.params)
    assert code(lambda: study.mice("ill ~ rare + chol", "binomial", impute="rare")) == (
        "too-few-persons"
    )
    fit = study.mice("ill ~ rare + chol", "binomial", m=2, iterations=2)
    assert fit.n == 297
    assert [*fit.imputed] == ["chol"]


def test_a_value_that_would_mark_who_lacks_one_is_refused_by_the_node(fed: LocalFederation) -> None:
    study = fed.study()
    for value in (1e9, -500.0, 330.1):
        selection = Selection(filled=(Filled(variable="chol", value=value),))
        run = study.submit("glm", {"formula": "chol ~ sex"}, selection)
        with pytest.raises(co.PolicyRefusal, match="would mark who lacks one"):
            run.result()


def test_patterns_that_differ_by_few_persons_are_not_both_told_of(fed: LocalFederation) -> None:
    """Patterns of one variable and of two would give the three who lack the other one."""
    study = fed.study()
    assert study.missing(["chol", "rare"], patterns=True).together == ("chol",)
    second = study.missing(["chol"], patterns=True)
    assert second.n_complete is None
    with pytest.raises(co.InputError, match="not released"):
        _ = second.patterns
    assert second.to_frame().loc["chol", "missing"] == 60


def test_counting_filling_and_fitting_do_not_stand_in_each_others_way(fed: LocalFederation) -> None:
    study = fed.study()
    assert study.missing().to_frame().loc["chol", "missing"] == 60
    assert study.glm("ill ~ chol").nobs == 240
    assert study.impute({"chol": "mean"}).glm("ill ~ chol").nobs == 300
    assert study.impute({"chol": "median", "sex": "mode"}).describe("chol", by="sex").n["f"]
    assert study.mice("ill ~ chol + age", "binomial", m=2, iterations=2).n == 300


def test_the_noise_of_an_imputation_follows_from_data_that_nobody_else_has() -> None:
    """Else runs with many seeds would be as many known weightings of the few who lack a value."""
    variables = {name: Variable(name=name, type=VariableType.REAL) for name in ("x", "y")}
    rng = np.random.default_rng(0)
    columns = {"x": rng.normal(size=20), "y": rng.normal(size=20)}
    scope = Scope(variables, Disclosure(), 2)

    def key(seed: int, site: str, at: float) -> tuple[int, int]:
        plan = Plan.of(MiceParams(formula="y ~ x", seed=seed), scope)
        changed = {**columns, "x": np.where(np.arange(20) == 3, at, columns["x"])}
        return own_key(Table(variables, changed), plan, site)[0]

    assert key(1, "North", 0.5) == key(1, "North", 0.5)
    assert len({key(1, "North", 0.5), key(2, "North", 0.5), key(1, "South", 0.5)}) == 3
    assert key(1, "North", 0.5) != key(1, "North", np.nextafter(0.5, 1))


def test_helpers_of_an_imputation_are_as_gentle_as_terms_of_a_model(fed: LocalFederation) -> None:
    study = fed.study()
    study.derive("sharp = chol / ((age - 99) * (age - 99) + 0.001)")
    assert code(lambda: study.mice("ill ~ chol", "binomial", auxiliary="sharp")) == "bad-criterion"


def test_a_derived_variable_is_known_by_how_it_is_computed_and_not_by_its_name() -> None:
    """Else the patterns of another variable of the same name would not be compared at all."""
    variables = {name: Variable(name=name, type=VariableType.REAL) for name in ("x", "y")}
    params = PatternParams(variables=("d",))

    def key(expression: str) -> str:
        asked = Selection(derived=(Derived(name="d", expression=expression),))
        people = Population.of(Selection(), asked, variables)
        scope = Scope(people.variables, Disclosure(), 2)
        return set_key(Pattern(), params, scope, contract="c", population=people, view=0)

    assert key("x + y") == key("x  +  y")
    assert key("x + y") != key("x * y")
