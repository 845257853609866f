"""Cohorts and derived variables as a researcher uses them, against the pooled data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.inprocess.federation import LocalFederation

YAML = """\
study: {study}
title: A title
purpose: To test.
participants: [{{name: North, dataset: local}}, {{name: South, dataset: local}}]
variables: [age, weight, height, sex, dead]
cohort: {cohort}
derived: {derived}
computations: [{{name: stats.*}}, {{name: glm, variables: [age, dead]}}]
min_sites: 2
disclosure: {{floor: total}}
recipients: [You]
expires_at: "2099-01-01T00:00:00Z"
"""


def yaml(study: str, cohort: str = "{}", derived: str = "[]") -> str:
    return YAML.format(study=study, cohort=cohort, derived=derived)


def _frames() -> dict[str, pd.DataFrame]:
    out = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        frame = pd.DataFrame(
            {
                "age": rng.integers(10, 90, 200).astype(float),
                "weight": np.round(rng.normal(80, 10, 200), 1),
                "height": np.round(rng.normal(1.7, 0.1, 200), 2),
                "sex": rng.choice(["f", "m"], 200),
                "dead": rng.random(200) < 0.4,
            }
        )
        frame.loc[rng.random(200) < 0.1, "weight"] = np.nan
        out[site] = frame
    return out


@pytest.fixture(scope="module")
def federation() -> Iterator[LocalFederation]:
    with co.local(_frames()) as made:
        yield made


@pytest.fixture
def study(federation: LocalFederation) -> co.Study:
    return federation.study("local")


@pytest.fixture(scope="module")
def pooled() -> pd.DataFrame:
    frame = pd.concat(_frames().values(), ignore_index=True)
    frame["bmi"] = frame["weight"] / (frame["height"] * frame["height"])
    return frame


def test_a_cohort_is_computed_over_its_persons_only(study: co.Study, pooled: pd.DataFrame) -> None:
    study.derive("bmi = weight / (height * height)")
    study.derive("age_group = cut(age, [18, 45, 65, 120])")
    cohort = study.cohort(include=["age >= 18", "weight IS NOT NULL"], exclude="bmi > 35")
    found = cohort.describe(["age", "bmi"], by="age_group", quantiles=[0.5]).to_frame()
    there = pooled[(pooled["age"] >= 18) & pooled["weight"].notna() & ~(pooled["bmi"] > 35)]
    groups = pd.cut(there["age"], [18, 45, 65, 120], right=False).astype(str)
    expected = there.groupby(groups)[["age", "bmi"]].agg(["count", "mean"])
    rows = found[found["variable"] == "bmi"]
    assert rows["n"].tolist() == expected["bmi"]["count"].tolist()
    assert rows["mean"].tolist() == pytest.approx(expected["bmi"]["mean"].tolist())


def test_a_cohort_is_narrowed_and_keeps_its_criteria(study: co.Study, pooled: pd.DataFrame) -> None:
    women = study.cohort("age >= 18").cohort(include="sex = 'f'")
    assert women.include == ("age >= 18", "sex = 'f'")
    result = women.describe("age")
    assert result.run.cohort is not None
    assert result.run.cohort.include == women.include
    assert result.run.line().endswith("persons with (age >= 18) and (sex = 'f')")
    assert result.to_frame()["n"].tolist() == [
        int(((pooled["age"] >= 18) & (pooled["sex"] == "f")).sum())
    ]
    assert repr(women) == "<Cohort of local: persons with (age >= 18) and (sex = 'f')>"
    assert "sex = &#x27;f&#x27;" in women._repr_html_()
    assert women.key == study.cohort(["sex = 'f'", "age>=18"]).key != study.cohort("sex='f'").key


def test_a_model_reads_derived_variables(study: co.Study, pooled: pd.DataFrame) -> None:
    study.derive("old = age > 70")
    fit = study.cohort(exclude="age < 18").glm("dead ~ old")
    adults = pooled[pooled["age"] >= 18]
    odds = [p / (1 - p) for _, p in adults.groupby(adults["age"] > 70)["dead"].mean().items()]
    assert fit.to_frame()["estimate"].tolist() == pytest.approx(
        [np.log(odds[0]), np.log(odds[1] / odds[0])], abs=1e-6
    )


def test_only_needed_derived_variables_are_sent(study: co.Study) -> None:
    study.derive("bmi = weight / (height * height)")
    study.derive("fat = bmi > 30")
    study.derive("unused = age * 2")
    cohort = study.describe("fat").run.cohort
    assert cohort is not None
    assert [one.name for one in cohort.derived] == ["bmi", "fat"]
    assert study.describe("age").run.cohort is None
    assert study.cohort("fat").selection().derived == cohort.derived


def test_derived_variables_are_the_studys(study: co.Study) -> None:
    variable = study.derive("stage = CASE WHEN age > 65 THEN 'late' ELSE 'early' END")
    assert (variable.type, variable.levels) == ("category", ("late", "early"))
    assert study.variables["stage"] == variable
    assert study.derive("stage  =  CASE WHEN age > 65 THEN 'late' ELSE 'early' END") == variable
    with pytest.raises(co.InputError, match="replace=True"):
        study.derive("stage = age > 65")
    assert study.derive("stage = age > 65", replace=True).type == "boolean"
    for wrong in ("age > 1", "stage", "1x = age", "a = ", "sex = age", "y = nothing + 1", "z == 1"):
        with pytest.raises(co.InputError) as caught:
            study.derive(wrong)
        assert caught.value.code == "bad-criterion"
    assert "y" not in study.variables


@pytest.mark.parametrize(
    ("criterion", "position"),
    [("agee >= 18", 0), ("age >= 'x'", 7), ("sex = 'x'", 6), ("age >", 5), ("age > 1; DROP", 7)],
)
def test_a_criterion_is_checked_before_anything_is_asked(
    study: co.Study, criterion: str, position: int
) -> None:
    with pytest.raises(co.InputError) as caught:
        study.cohort(include=[criterion])
    assert (caught.value.code, caught.value.details["position"]) == ("bad-criterion", position)
    with pytest.raises(co.InputError, match="Not a list"):
        study.cohort(include=[""])


def test_the_contracts_criteria_apply_and_only_adjustable_variables_are_the_researchers(
    federation: LocalFederation, pooled: pd.DataFrame
) -> None:
    study = federation.propose(
        yaml(
            "adults",
            '{include: ["age >= 18"], exclude: ["sex = \'m\'"], adjustable: [weight, old]}',
            '[{name: old, expression: "age > 70"}]',
        )
    )
    there = pooled[(pooled["age"] >= 18) & (pooled["sex"] != "m")]
    assert study.describe("age").to_frame()["n"].tolist() == [len(there)]
    old = study.cohort("old AND weight > 1").describe("age").to_frame()["n"].tolist()
    assert old == [int(((there["age"] > 70) & (there["weight"] > 1)).sum())]
    with pytest.raises(co.PolicyRefusal, match="read age; it lets them read old, weight") as no:
        study.cohort("age > 20")
    assert no.value.code == "not-permitted"
    with pytest.raises(co.PolicyRefusal):
        study.derive("twice = age * 2")
    assert study.variables["old"].type == "boolean"
    assert study.describe("old").to_frame()["n"].tolist() == [len(there)]


def test_a_derived_variable_is_refused_where_its_sources_are(federation: LocalFederation) -> None:
    study = federation.propose(yaml("some", "{adjustable: [age, weight, height]}"))
    study.derive("old = age > 70")
    study.derive("bmi = weight / (height * height)")
    assert study.glm("dead ~ old").run.status == "succeeded"
    with pytest.raises(co.PolicyRefusal, match="does not let glm touch bmi"):
        study.glm("dead ~ bmi")


@pytest.mark.parametrize(
    ("cohort", "derived"),
    [
        ('{include: ["zip = 3"]}', "[]"),
        ('{include: ["age > 1; --"]}', "[]"),
        ("{}", "[{name: old, expression: \"age > 'x'\"}]"),
        ("{}", '[{name: dead, expression: "age > 1"}]'),
    ],
)
def test_a_contract_whose_criteria_are_not_understood_is_not_proposed(
    federation: LocalFederation, cohort: str, derived: str
) -> None:
    with pytest.raises(co.InputError) as caught:
        federation.propose(yaml("faulty", cohort, derived))
    assert caught.value.code == "bad-proposal"
