"""Published numbers on CNSIM, the simulated cohorts that come with DataSHIELD.

Sources: DataSHIELD's tutorial for beginners (the logistic model) and the pooled file itself, whose
moments are those of ``scipy.stats`` with divisor n.
"""

from __future__ import annotations

import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import cnsim
from tests.support.shared_data import shared_data

from cohortium.analysis.builtin import find
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure


@pytest.fixture(scope="module")
def sites() -> list[Table]:
    return cnsim(shared_data("cnsim"))


@pytest.fixture(params=["site", "total"])
def disclosure(request: pytest.FixtureRequest) -> Disclosure:
    return Disclosure(floor=request.param)


def test_cholesterol(sites: list[Table], disclosure: Disclosure) -> None:
    params = {"variables": ["LAB_TSC", "LAB_HDL"], "quantiles": [0.5]}
    result = run_pooled_sum(find("stats.describe"), params, sites, disclosure).result
    tsc = result["groups"][0]["variables"]["LAB_TSC"]
    assert (tsc["n"], tsc["missing"]) == (7825, 1554)
    assert tsc["mean"] == pytest.approx(5.85192485623003, rel=1e-14)
    assert round(tsc["variance"], 6) == 1.158384
    assert round(tsc["skewness"], 6) == 0.246567
    assert round(tsc["kurtosis"], 6) == 0.515599
    hdl = result["groups"][0]["variables"]["LAB_HDL"]
    assert hdl["quantiles"] == [{"q": 0.5, "value": 1.58, "low": 1.58, "high": 1.58}]


def test_diabetes(sites: list[Table], disclosure: Disclosure) -> None:
    params = {"formula": "DIS_DIAB ~ GENDER*PM_BMI_CONTINUOUS + LAB_HDL", "family": "binomial"}
    result = run_pooled_sum(find("glm"), params, sites, disclosure).result
    assert result["n"] == 7485
    assert round(result["deviance"], 3) == 1036.031
    estimates = dict(zip(result["terms"], result["params"], strict=True))
    assert {term: round(value, 6) for term, value in estimates.items()} == {
        "Intercept": -6.742637,
        "GENDER": -0.357565,
        "PM_BMI_CONTINUOUS": 0.130636,
        "GENDER:PM_BMI_CONTINUOUS": -0.000948,
        "LAB_HDL": -0.773409,
    }


def test_triglycerides(sites: list[Table], disclosure: Disclosure) -> None:
    params = {"formula": "LAB_TSC ~ LAB_TRIG", "family": "gaussian"}
    result = run_pooled_sum(find("glm"), params, sites, disclosure).result
    assert result["n"] == 7800
    assert round(result["deviance"], 2) == 8936.32
