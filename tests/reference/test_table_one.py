"""Table 1 against printed ones, and on CNSIM.

Sources: the table by treatment of the trial in primary biliary cholangitis (``pbc`` of R's
survival) as the demonstration of R's tableone (Yoshida & Bartel) prints it; CNSIM, the simulated
cohorts that come with DataSHIELD, with the pooled values of ``scipy.stats``.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from tests.support.frames import cnsim, table_of
from tests.support.pooled_study import PooledStudy
from tests.support.shared_data import shared_data

from cohortium.core.dictionary import Variable, VariableType
from cohortium.sdk.balance import Group, anova_p, chi_square


@pytest.mark.parametrize(
    ("groups", "p"),
    [
        # pbc of R's survival by trt, as tableone's CreateTableOne prints it
        ([Group(158, 2015.62, 1094.12), Group(154, 1996.86, 1155.93)], 0.883),
        ([Group(158, 51.42, 11.01), Group(154, 48.58, 9.96)], 0.018),
    ],
)
def test_p_of_means_as_tableone_prints_them(groups: list[Group], p: float) -> None:
    assert round(anova_p(groups), 3) == pytest.approx(p, abs=0.0011)  # the inputs are rounded


@pytest.mark.parametrize(
    ("counts", "p"),
    [
        ([[21, 15], [137, 139]], 0.421),
        ([[144, 144], [14, 10]], 0.567),
        ([[85, 67], [73, 87]], 0.088),
        ([[113, 109], [45, 45]], 0.985),
        ([[132, 131], [16, 13], [10, 10]], 0.877),
        ([[83, 85], [10, 9], [65, 60]], 0.894),
    ],
)
def test_p_of_counts_as_tableone_prints_them(counts: list[list[int]], p: float) -> None:
    assert round(chi_square(np.array(counts, dtype=float)).p, 3) == p


@pytest.fixture(scope="module")
def study() -> PooledStudy:
    variables = (
        Variable(name="LAB_TSC", type=VariableType.REAL, decimals=4),
        Variable(name="DIS_DIAB", type=VariableType.INTEGER),
        Variable(name="GENDER", type=VariableType.CATEGORY, levels=("0", "1")),
    )
    tables = []
    for site in cnsim(shared_data("cnsim")):
        columns = {
            name: [None if math.isnan(value) else value for value in site.columns[name].tolist()]
            for name in ("LAB_TSC", "DIS_DIAB", "GENDER")
        }
        gender = [None if value is None else f"{value:.0f}" for value in columns["GENDER"]]
        tables.append(table_of(variables, {**columns, "GENDER": gender}))
    return PooledStudy(tables)


def test_cholesterol_and_diabetes_by_gender(study: PooledStudy) -> None:
    table = study.table_one(["LAB_TSC", "DIS_DIAB"], by="GENDER")
    row = {one.name: one for one in table.rows}["LAB_TSC"]
    n = sum(group.n for group in row.groups if isinstance(group, Group))
    assert table.p["LAB_TSC"] == pytest.approx(2 * stats.t.sf(5.717062, n - 2), rel=1e-5)
    # With Yates' correction, as R's chisq.test and tableone have it for two by two.
    assert table.p["DIS_DIAB"] == pytest.approx(stats.chi2.sf(13.816420, 1), rel=1e-6)
    welch = study.table_one(["LAB_TSC"], by="GENDER", equal_var=False).p["LAB_TSC"]
    assert welch is not None
    assert abs(stats.t.isf(welch / 2, n - 2)) == pytest.approx(5.727566, rel=1e-4)
