"""Published numbers of tests of ranks and of correlations.

Sources: R 4's own examples (``?kruskal.test``, ``?wilcox.test``, ``?cor.test``) and data sets
(``airquality``, ``mtcars``); Hollander & Wolfe 1973; Wikipedia's example of Spearman's correlation;
CNSIM, the simulated cohorts that come with DataSHIELD, pooled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import cnsim, pooled, split, table_of
from tests.support.shared_data import shared_data

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

stats = pytest.importorskip("scipy.stats")

OZONE = {
    "5": "41 36 12 18 NA 28 23 19 8 NA 7 16 11 14 18 14 34 6 30 11 1 11 4 32 NA NA NA 23 45 115 37",
    "6": "NA NA NA NA NA NA 29 NA 71 39 NA NA 23 NA NA 21 37 20 12 13 NA NA NA NA NA NA NA NA NA "
    "NA",
    "7": "135 49 32 NA 64 40 77 97 97 85 NA 10 27 NA 7 48 35 61 79 63 16 NA NA 80 108 20 52 82 "
    "50 64 59",
    "8": "39 9 16 78 35 66 122 89 110 NA NA 44 28 65 NA 22 59 23 31 44 21 9 NA 45 168 73 NA 76 "
    "118 84 85",
    "9": "96 78 73 91 47 32 20 23 21 24 44 21 28 9 13 46 18 13 24 16 13 23 36 7 14 30 NA 14 18 20",
}
"""By month; NA is missing."""
MPG = [21, 21, 22.8, 21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3, 15.2, 10.4, 10.4]
MPG += [14.7, 32.4, 30.4, 33.9, 21.5, 15.5, 15.2, 13.3, 19.2, 27.3, 26, 30.4, 15.8, 19.7, 15, 21.4]
WT = [2.62, 2.875, 2.32, 3.215, 3.44, 3.46, 3.57, 3.19, 3.15, 3.44, 3.44, 4.07, 3.73, 3.78, 5.25]
WT += [5.424, 5.345, 2.2, 1.615, 1.835, 2.465, 3.52, 3.435, 3.84, 3.845, 1.935, 2.14, 1.513, 3.17]
WT += [2.77, 3.57, 2.78]
HP = [110, 110, 93, 110, 175, 105, 245, 62, 95, 123, 123, 180, 180, 180, 205, 215, 230, 66, 52, 65]
HP += [97, 150, 150, 245, 175, 66, 91, 113, 264, 175, 335, 109]

TOTAL = Disclosure(floor="total")
SMALL = Disclosure(floor="total", min_cell=1, persons_per_parameter=1, residual_df=1)
"""For textbook tables of ten persons."""


def sites_of(groups: Mapping[str, Sequence[float | None]], decimals: int | None) -> list[Table]:
    """The groups' persons dealt to three sites."""
    kind = VariableType.INTEGER if decimals == 0 else VariableType.REAL
    variables = (
        Variable(name="y", type=kind, decimals=decimals or None),
        Variable(name="g", type=VariableType.CATEGORY, levels=tuple(groups)),
    )
    rows = [(value, level) for level, values in groups.items() for value in values]
    parts = [rows[at::3] for at in range(3)]
    return [
        table_of(variables, {"y": [y for y, _ in part], "g": [g for _, g in part]})
        for part in parts
    ]


def numbers(columns: Mapping[str, Sequence[float]], decimals: int) -> list[Table]:
    variables = [Variable(name=n, type=VariableType.REAL, decimals=decimals) for n in columns]
    table = table_of(variables, columns)
    return split(table, [table.n_rows // 2, table.n_rows - table.n_rows // 2])


def ozone() -> dict[str, list[float | None]]:
    return {
        month: [None if day == "NA" else float(day) for day in days.split()]
        for month, days in OZONE.items()
    }


def run(name: str, params: dict[str, Any], sites: list[Table], limits: Disclosure = TOTAL) -> Any:
    return run_pooled_sum(find(f"stats.{name}"), params, sites, limits).result


def test_ozone_by_month() -> None:
    result = run("kruskal", {"variable": "y", "by": "g"}, sites_of(ozone(), 0))
    assert round(result["statistic"], 3) == 29.267
    assert result["df"] == 4
    assert float(f"{result['p_value']:.4g}") == 6.901e-06
    assert (result["n"], result["n_missing"]) == (116, 37)


def test_ozone_in_may_and_august() -> None:
    params = {"variable": "y", "by": "g", "levels": ["5", "8"]}
    result = run("mann_whitney", params, sites_of(ozone(), 0))
    assert result["statistic"] == 127.5
    assert float(f"{result['p_value']:.4g}") == 0.0001208


def test_permeability_of_the_placenta() -> None:
    groups = {
        "term": [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46],
        "early": [1.15, 0.88, 0.90, 0.74, 1.21],
    }
    params = {"variable": "y", "by": "g", "alternative": "greater"}
    result = run("mann_whitney", params, sites_of(groups, 2))
    assert (result["statistic"], result["method"]) == (35.0, "exact")
    assert round(result["p_value"], 4) == 0.1272


def test_miles_per_gallon_and_weight() -> None:
    sites = numbers({"mpg": MPG, "wt": WT, "hp": HP}, 3)
    result = run("correlation", {"variables": ["mpg", "wt"]}, sites)
    assert round(result["correlation"][0][1], 7) == -0.8676594
    assert float(f"{result['p_value'][0][1]:.4g}") == 1.294e-10
    assert round(result["low"][0][1], 7) == -0.9338264
    assert round(result["high"][0][1], 7) == -0.7440872
    result = run("correlation", {"variables": ["mpg", "wt", "hp"]}, sites)
    assert round(result["correlation"][1][2], 7) == 0.6587479
    partial = run("correlation", {"variables": ["mpg", "wt"], "given": ["hp"]}, sites)
    z = np.column_stack([np.ones(32), HP])
    rest = [y - z @ np.linalg.lstsq(z, np.array(y), rcond=None)[0] for y in (MPG, WT)]
    assert partial["correlation"][0][1] == pytest.approx(np.corrcoef(rest)[0, 1], rel=1e-12)


def test_lightness_of_tuna() -> None:
    sites = numbers(
        {
            "x": [44.4, 45.9, 41.9, 53.3, 44.7, 44.1, 50.7, 45.2, 60.1],
            "y": [2.6, 3.1, 2.5, 5.0, 3.6, 4.0, 5.2, 2.8, 3.8],
        },
        1,
    )
    result = run("correlation", {"variables": ["x", "y"]}, sites, SMALL)
    assert round(result["correlation"][0][1], 7) == 0.5711816
    assert round(result["p_value"][0][1], 4) == 0.1082
    assert (round(result["low"][0][1], 7), round(result["high"][0][1], 7)) == (
        -0.1497426,
        0.8955795,
    )


def test_hours_of_television() -> None:
    sites = numbers(
        {
            "iq": [106, 100, 86, 101, 99, 103, 97, 113, 112, 110],
            "hours": [7, 27, 2, 50, 28, 29, 20, 12, 6, 17],
        },
        1,
    )
    result = run("spearman", {"variables": ["iq", "hours"]}, sites, SMALL)
    assert result["resolution"] is None
    assert round(result["correlation"][0][1], 9) == -0.175757576
    assert round(result["p_value"][0][1], 6) == 0.627188


@pytest.fixture(scope="module")
def studies() -> list[Table]:
    """CNSIM with the sexes as a category."""
    gender = Variable(name="GENDER", type=VariableType.CATEGORY, levels=("0", "1"))
    tables = []
    for table in cnsim(shared_data("cnsim")):
        column = table.columns["GENDER"]
        codes = np.where(np.isnan(column), -1, column).astype(np.int32)
        tables.append(
            Table({**table.variables, "GENDER": gender}, {**table.columns, "GENDER": codes})
        )
    return tables


@pytest.mark.parametrize("floor", ["site", "total"])
def test_cholesterol_by_sex(studies: list[Table], floor: Any) -> None:
    params = {"variable": "LAB_TSC", "by": "GENDER"}
    limits = Disclosure(floor=floor)
    result = run("mann_whitney", params, studies, limits)
    assert result["statistic"] == 8181400
    assert result["resolution"] is None
    everybody = pooled(studies)
    x, y = (
        everybody.columns["LAB_TSC"][
            everybody.present("LAB_TSC") & (everybody.columns["GENDER"] == level)
        ]
        for level in (0, 1)
    )
    assert result["p_value"] == pytest.approx(stats.mannwhitneyu(x, y).pvalue, rel=1e-10)


def test_cholesterol_by_body_mass(studies: list[Table]) -> None:
    result = run("kruskal", {"variable": "LAB_TSC", "by": "PM_BMI_CATEGORICAL"}, studies)
    everybody = pooled(studies)
    groups = [
        everybody.columns["LAB_TSC"][
            everybody.present("LAB_TSC") & (everybody.columns["PM_BMI_CATEGORICAL"] == level)
        ]
        for level in range(3)
    ]
    assert result["statistic"] == pytest.approx(stats.kruskal(*groups).statistic, rel=1e-12)


def test_cholesterol_and_triglycerides(studies: list[Table]) -> None:
    params = {"variables": ["LAB_TSC", "LAB_TRIG"]}
    result = run("correlation", params, studies)
    assert round(result["correlation"][0][1], 6) == 0.109309
    everybody = pooled(studies)
    rows = everybody.present("LAB_TSC") & everybody.present("LAB_TRIG")
    x, y = (everybody.columns[name][rows] for name in params["variables"])
    ranks = run("spearman", params, studies)
    expected = stats.spearmanr(x, y).statistic
    assert ranks["correlation"][0][1] == pytest.approx(expected, abs=2e-5)
    low, high = (ranks["resolution"][end][0][1] for end in ("low", "high"))
    assert low < expected < high < low + 0.005
