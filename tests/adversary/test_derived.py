"""A researcher who asks for one person by way of derived variables instead of criteria.

One person in the data is 99 years old, and was never here before. Its weight is what the attacks
are after.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.inprocess.federation import LocalFederation


@pytest.fixture
def federation() -> Iterator[LocalFederation]:
    frames = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        frames[site] = pd.DataFrame(
            {
                "age": rng.integers(20, 90, 60),
                "weight": rng.normal(80, 10, 60).round(1),
                "visits": rng.integers(1, 9, 60),
                "packs": rng.integers(0, 3, 60),
            }
        )
    frames["North"].loc[7, ["age", "visits", "packs"]] = [99, 0, 1]
    with co.local(frames) as made:
        yield made


def refused(code: str) -> pytest.RaisesExc[co.PolicyRefusal]:
    return pytest.raises(co.PolicyRefusal, check=lambda error: error.code == code)


def test_a_number_that_leaves_a_person_out_is_refused(federation: LocalFederation) -> None:
    study = federation.study()
    study.derive("others = weight + 0 * LN(visits)")
    with refused("too-few-persons"):
        study.describe(["weight", "others"])
    study.derive("twice = others * 2")
    with refused("too-few-persons"):
        study.describe("twice")


@pytest.mark.parametrize(
    "definition",
    [
        "others = CASE WHEN age < 99 THEN weight ELSE 0 END",
        "others = weight * CASE WHEN age < 99 THEN 1 ELSE 0 END",
        "others = COALESCE(weight + 0 * LN(visits), 0)",
    ],
)
def test_a_number_that_picks_persons_is_refused(
    federation: LocalFederation, definition: str
) -> None:
    study = federation.study()
    study.derive(definition)
    study.derive("hidden = others + 1")
    for name in ("others", "hidden"):
        with refused("not-permitted"):
            study.describe(["weight", name])


@pytest.mark.parametrize(
    "definition", ["young = CASE WHEN age < 99 THEN 'y' END", "young = cut(age, [0, 99])"]
)
def test_a_category_that_leaves_a_person_out_is_refused(
    federation: LocalFederation, definition: str
) -> None:
    study = federation.study()
    study.derive(definition)
    with refused("too-few-persons"):
        study.describe("weight", by="young")
    with refused("too-few-persons"):
        study.describe(["weight", "young"])


def test_groups_that_differ_by_one_person_are_refused(federation: LocalFederation) -> None:
    study = federation.study()
    study.derive("old = age > 60")
    study.describe("weight", by="old")
    study.derive("older = age > 60 AND age < 99")
    with refused("differencing"):
        study.describe("weight", by="older")
    with refused("differencing"):
        study.describe(["weight", "older"])


def test_gaps_that_differ_by_one_person_are_refused(federation: LocalFederation) -> None:
    study = federation.study()
    study.derive("some = weight + 0 * LN(packs)")  # many persons have none, at each site
    assert study.describe("some").run.status == "succeeded"
    study.derive("others = some + 0 * LN(visits)")
    with refused("differencing"):
        study.describe("others")


def test_what_tells_nobody_apart_goes_on_working(federation: LocalFederation) -> None:
    study = federation.study()
    before = study.describe("weight").to_frame()["mean"][0]
    study.derive("double = weight * 2")
    study.derive("quotient = weight / age")
    after = study.describe(["double", "quotient"]).to_frame()["mean"]
    assert after[0] == pytest.approx(2 * before)
    study.derive("older = age > 55")
    assert study.describe("weight", by="older").run.status == "succeeded"
