"""A researcher whose numbers and models single out one person, though every cohort is large.

One of 240 persons is 99 years old, has the only open wound, and was never here before: 333.3 is
this person's cholesterol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pandas as pd
import pytest
from tests.support.adversary import Federation, federation

import cohortium as co
from cohortium.contract.model import Cohort
from cohortium.core.selection import Derived, Selection
from cohortium.inprocess.federation import LocalFederation

VICTIM = 333.3
SQUARES = 2 * 3 * sum((20 + value) ** 2 for value in range(40)) - 27**2 + 900**2
"""The sum of lipase squared."""


@pytest.fixture(scope="module")
def made_frames() -> dict[str, pd.DataFrame]:
    frames = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        age = rng.integers(20, 90, 120)
        frames[site] = pd.DataFrame(
            {
                "age": np.where(age > 80, 97, age),
                "chol": rng.normal(200, 30, 120).round(1),
                "weight": rng.normal(80, 10, 120).round(1),
                "height": rng.normal(1.7, 0.1, 120).round(2),
                "wound": np.zeros(120, dtype=bool),
                "wounds": np.zeros(120, dtype=int),
                "whole": np.ones(120, dtype=int),
                "lipase": 20 + np.arange(120) % 40,
            }
        )
    victim = {"age": 99, "chol": VICTIM, "wound": True, "wounds": 1, "whole": 0, "lipase": 900}
    frames["North"].loc[7, [*victim]] = [*victim.values()]
    return frames


@pytest.fixture(scope="module")
def made(made_frames: dict[str, pd.DataFrame]) -> Iterator[LocalFederation]:
    with co.local(made_frames) as one:
        yield one


@pytest.fixture(scope="module")
def apart(made_frames: dict[str, pd.DataFrame]) -> Iterator[LocalFederation]:
    """Where the contract lets institutions be told apart, with a third one."""
    random = np.random.default_rng(7)
    frames = {**made_frames, "West": made_frames["South"].copy()}
    frames["West"]["age"] = random.integers(20, 70, 120)
    arms = np.tile(["a", "b"], 60).tolist()
    frames = {name: frame.assign(arm=arms) for name, frame in frames.items()}
    with co.local(frames, by_site=True) as one:
        yield one


def _refused(code: str) -> pytest.RaisesExc[co.CohortiumError]:
    return pytest.raises(co.CohortiumError, check=lambda error: error.code == code)


@pytest.mark.parametrize(
    "definition",
    [
        "chol + 0 / (age - 99)",
        "chol * 0.000000000001 / ((age - 99) * (age - 99) + 0.000000000001)",
        "chol * POWER((age - 99) * (age - 99) + 0.001, -4)",
        "chol * EXP(-1000 * (age - 99) * (age - 99))",
        "chol * EXP(7 * age)",
        "chol + LN(99 - age)",
        "chol + SQRT(98 - age)",
        "GREATEST(age - 98, 0) * chol",
        "(ABS(age - 98) + age - 98) * chol",
        "FLOOR(age / 99) * chol",
        "chol * (age - 20) * (age - 21) * (age - 22) * (age - 23)",
    ],
)
def test_a_number_that_is_sharp_around_one_value_is_refused(
    made: LocalFederation, definition: str
) -> None:
    study = made.study()
    study.derive(f"y = {definition}")
    with _refused("bad-criterion"):
        study.describe(["y"])
    study.derive("hidden = y + 1")
    with _refused("bad-criterion") as caught:
        study.t_test("hidden", by="wound")
    assert "let the contract derive it" in caught.value.message.lower()


@pytest.mark.parametrize(
    "factor",
    [
        "I(chol * exp(-1000 * (age - 99) ** 2))",
        "I(chol / ((age - 99) ** 2 + 1e-12))",
        "I(age ** 9)",
        "log(98 - age)",
        "I((age - 99) ** 0.5)",
    ],
)
def test_such_a_factor_of_a_formula_is_refused(made: LocalFederation, factor: str) -> None:
    for formula in (f"{factor} ~ 1", f"weight ~ {factor}"):
        with _refused("bad-formula"):
            made.study().glm(formula, "gaussian")


def test_a_number_that_one_person_dominates_is_refused(made: LocalFederation) -> None:
    study = made.study()
    study.derive("y = chol * wounds * wounds")
    for run in (lambda: study.describe(["y"]), lambda: study.t_test("y", by="wound")):
        with _refused("too-few-persons"):
            run()
    with _refused("too-few-persons"):
        study.glm("I(chol * wounds) ~ age", "gaussian")
    with _refused("too-few-persons"):
        study.glm("chol ~ age:wounds", "gaussian")


@pytest.mark.parametrize("column", ["wound", "wounds", "whole"])
def test_a_column_that_marks_one_person_is_refused(made: LocalFederation, column: str) -> None:
    for family in ("gaussian", "poisson"):
        formula = f"chol ~ {column}" if family == "gaussian" else f"age ~ {column}"
        with _refused("too-few-persons") as caught:
            made.study().glm(formula, family)
        assert caught.value.details["cells"] == [column]
    with _refused("too-few-persons"):  # alone, as an outcome that is made marks nobody
        made.study().glm(f"log(chol) ~ {column}", "gaussian")


@pytest.mark.parametrize("outcome", ["wounds", "whole"])
def test_an_outcome_that_one_person_has_or_has_not_is_refused(
    made: LocalFederation, outcome: str
) -> None:
    """`whole` is 1 for all but one, so that its mean tells of that one."""
    study = made.study()
    for ask in (
        lambda: study.glm(f"{outcome} ~ weight", "gaussian"),
        lambda: study.glm(f"{outcome} ~ weight", "poisson"),
        lambda: study.elastic_net(f"{outcome} ~ weight", folds=0),
        lambda: study.elastic_net(f"{outcome} ~ weight", "poisson", folds=0),
        lambda: study.propensity("old", "weight", outcome),
    ):
        study.derive("old = age > 60")
        with _refused("too-few-persons"):
            ask()


def test_a_slope_of_one_person_is_refused(made: LocalFederation) -> None:
    study = made.study()
    study.derive("elder = age > 75")
    study.derive("eldest = age > 97 OR age < 30")
    with _refused("too-few-persons") as caught:
        study.glm("chol ~ C(elder):C(eldest):age", "gaussian")
    assert caught.value.details["cells"] == ["C(elder)[True]:C(eldest)[True]:age"]


@pytest.mark.parametrize(
    "formula",
    [
        "chol ~ old + older",
        "chol ~ C(old) + C(older) - 1",
        "chol ~ C(old):age + C(older):age",
        "chol ~ old:age + older:age",
        "chol ~ I(2 * old) + older",
        "old ~ older + chol",
        "I(1 * old) ~ older + chol",
    ],
)
def test_two_groups_that_differ_by_one_person_in_a_model_are_refused(
    made: LocalFederation, formula: str
) -> None:
    study = made.study()
    study.derive("old = age > 80")
    study.derive("older = age > 80 AND age < 99")
    with _refused("too-few-persons"):
        study.glm(formula, "gaussian")


def test_two_groups_that_differ_by_one_person_are_not_both_correlated(
    made: LocalFederation,
) -> None:
    study = made.study()
    study.derive("old = age > 80")
    study.derive("older = age > 80 AND age < 99")
    for method in (study.correlation, study.spearman):
        found = method(["chol", "old", "older"]).to_frame().loc["chol"]
        assert found.isna().to_dict() == {"chol": False, "old": False, "older": True}


@pytest.mark.parametrize(
    "definition",
    [
        "1000000 * age + chol * wounds",
        "age - (chol * wounds + age)",
        "chol * whole",
        "chol * whole + weight",
        "chol * (2 - whole * whole)",
        "LN(chol) / whole + 0 * wounds",
    ],
)
def test_a_factor_that_one_person_differs_in_is_refused(
    made: LocalFederation, definition: str
) -> None:
    study = made.study()
    study.derive(f"y = {definition}")
    study.derive("hidden = y + 1")
    for name in ("y", "hidden"):
        with _refused("too-few-persons"):
            study.describe([name])


@pytest.mark.parametrize(
    "formula",
    [
        "I(chol * whole) ~ 1",
        "weight ~ chol:whole",
        "weight ~ I(chol * (3 - 2 * whole))",
        "I(1000000 * age + chol * wounds) ~ 1",
        "I(chol + wounds) ~ age",
    ],
)
def test_such_a_factor_of_a_model_is_refused(made: LocalFederation, formula: str) -> None:
    with _refused("too-few-persons"):
        made.study().glm(formula, "gaussian")


def test_a_dominated_number_between_two_others_is_not_found(made: LocalFederation) -> None:
    """Open: see the threat model."""
    study = made.study()
    study.derive("square = lipase * lipase")
    with _refused("too-few-persons"):
        study.describe(["square"])
    study.derive("more = (100 * age + lipase) * lipase")
    study.derive("less = 100 * age * lipase")
    found = study.describe(["more", "less"]).to_frame().set_index("variable")
    sums = found["mean"] * found["n"]
    assert sums["more"] - sums["less"] == pytest.approx(SQUARES, rel=1e-9)


@pytest.mark.parametrize("kind", ["mixed", "meta", "meta of groups"])
def test_a_derived_number_of_one_person_is_refused_where_institutions_speak(
    apart: LocalFederation, kind: str
) -> None:
    study = apart.study()
    study.derive("y = chol * wounds * wounds")
    with _refused("too-few-persons"):
        if kind == "mixed":
            study.mixed("y ~ age")
        elif kind == "meta":
            study.meta("y ~ age", "gaussian")
        else:
            study.meta_effect("y", "arm", "mean-difference")
    with _refused("too-few-persons"):
        study.meta("chol ~ age:wounds", "gaussian")


def test_an_institution_of_which_a_model_singles_out_a_person_keeps_silent(
    apart: LocalFederation,
) -> None:
    study = apart.study()
    study.derive("old = age > 80")
    study.derive("older = age > 80 AND age < 99")
    for formula in ("chol ~ wound", "chol ~ wounds", "chol ~ old + older"):
        with _refused("too-few-sites"):  # the others have nobody, or nobody else, in the column
            study.meta(formula, "gaussian")
    with _refused("too-few-sites"):
        study.meta_effect("chol", "wound", "mean-difference")
    assert study.meta("chol ~ old", "gaussian").withheld == ("West",)
    assert study.meta("chol ~ age", "gaussian").withheld == ()


def test_ordinary_numbers_pass(made: LocalFederation) -> None:
    study = made.study()
    study.derive("bmi = weight / (height * height)")
    study.derive("z = (bmi - 25) / 4")
    study.derive("log_chol = LN(chol + 1)")
    study.derive("ratio = 175 * POWER(chol / 100, -1.154) * POWER(age, -0.203)")
    names = ["bmi", "z", "log_chol", "ratio"]
    assert study.describe(names).to_frame()["n"].tolist() == [240] * 4
    assert study.glm("bmi ~ log(chol) + I(age ** 2) + age", "gaussian").nobs == 240


# A hub that lets it through


@pytest.fixture
async def nodes() -> AsyncIterator[Federation]:
    async with federation() as one:
        yield one


@pytest.mark.parametrize(
    ("expression", "code"),
    [("age / (age - 10)", "bad-criterion"), ("CASE WHEN age > 10 THEN age END", "not-permitted")],
)
async def test_a_node_refuses_what_its_hub_lets_through(
    nodes: Federation, expression: str, code: str
) -> None:
    contract = await nodes.agree(cohort=Cohort(adjustable=("age",)))
    asked = Selection(derived=(Derived(name="y", expression=expression),))
    params = {"variable": "y", "rounds": 3}
    with _refused(code):
        await nodes.by_hand(contract, cohort=asked, params=params)
    assert nodes.refusals("Alpha") == [("run", code)]
