"""Published numbers for tests of means.

Sources: NIST Statistical Reference Datasets, analysis of variance (certified values, public domain:
SiRstv, AtmWtAg, SmLs01, SmLs04, SmLs07, SmLs09); NIST/SEMATECH e-Handbook, 1.3.5.10 (GEAR.DAT); R's
own data sets, with the output of t.test (``sleep``, ``mtcars``), aov and oneway.test
(``PlantGrowth``, ``InsectSprays``, ``warpbreaks``), and leveneTest of the package car; D'Agostino,
Belanger & D'Agostino 1990, The American Statistician 44, 316-321; the examples in scipy's
documentation; the pooled CNSIM cohorts of DataSHIELD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import cnsim, table_of
from tests.support.shared_data import shared_data

from cohortium.analysis.builtin import find
from cohortium.analysis.normality import shape_tests
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)
MPG = {  # mtcars by transmission
    "automatic": [
        *(21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3),
        *(15.2, 10.4, 10.4, 14.7, 21.5, 15.5, 15.2, 13.3, 19.2),
    ],
    "manual": [21.0, 21.0, 22.8, 32.4, 30.4, 33.9, 27.3, 26.0, 30.4, 15.8, 19.7, 15.0, 21.4],
}
PLANT_GROWTH = {
    "ctrl": [4.17, 5.58, 5.18, 6.11, 4.50, 4.61, 5.17, 4.53, 5.33, 5.14],
    "trt1": [4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69],
    "trt2": [6.31, 5.12, 5.54, 5.50, 5.37, 5.29, 4.92, 6.15, 5.80, 5.26],
}
INSECT_SPRAYS = {
    "A": [10, 7, 20, 14, 14, 12, 10, 23, 17, 20, 14, 13],
    "B": [11, 17, 21, 11, 16, 14, 17, 17, 19, 21, 7, 13],
    "C": [0, 1, 7, 2, 3, 1, 2, 1, 3, 0, 1, 4],
    "D": [3, 5, 12, 6, 4, 3, 5, 5, 5, 5, 2, 4],
    "E": [3, 5, 3, 5, 3, 6, 1, 1, 3, 2, 6, 4],
    "F": [11, 9, 15, 22, 15, 16, 13, 10, 26, 26, 24, 13],
}
WARP_BREAKS = {
    "L": [26, 30, 54, 25, 70, 52, 51, 26, 67, 27, 14, 29, 19, 29, 31, 41, 20, 44],
    "M": [18, 21, 29, 17, 12, 18, 35, 30, 36, 42, 26, 19, 16, 39, 28, 21, 39, 29],
    "H": [36, 21, 24, 18, 10, 43, 28, 15, 26, 20, 21, 24, 17, 13, 15, 15, 16, 28],
}
GEAR = {  # in thousandths
    "1": [1006, 996, 998, 1000, 992, 993, 1002, 999, 994, 1000],
    "2": [998, 1006, 1000, 1002, 997, 998, 996, 1000, 1006, 988],
    "3": [991, 987, 997, 999, 995, 994, 1000, 999, 996, 996],
    "4": [1005, 1002, 994, 1000, 995, 994, 998, 996, 1002, 996],
    "5": [998, 998, 982, 990, 1002, 984, 996, 993, 980, 996],
    "6": [1009, 1013, 1009, 997, 988, 1002, 995, 998, 981, 996],
    "7": [990, 1004, 996, 1001, 998, 1000, 1018, 1010, 996, 1002],
    "8": [998, 1000, 1006, 1000, 1002, 996, 998, 996, 1002, 1006],
    "9": [1002, 998, 996, 995, 996, 1004, 1004, 998, 999, 991],
    "10": [991, 995, 984, 994, 997, 997, 991, 998, 1004, 997],
}
SI_RSTV = {
    "1": [196.3052, 196.1240, 196.1890, 196.2569, 196.3403],
    "2": [196.3042, 196.3825, 196.1669, 196.3257, 196.0422],
    "3": [196.1303, 196.2005, 196.2889, 196.0343, 196.1811],
    "4": [196.2795, 196.1748, 196.1494, 196.1485, 195.9885],
    "5": [196.2119, 196.1051, 196.1850, 196.0052, 196.2090],
}
AT_WT_AG = {  # 107.868 and these, in units of the seventh decimal
    "1": [
        *(1568, 1465, 1572, 1785, 1446, 1903, 1526, 1494, 1616, 1587, 1519, 1486),
        *(1419, 1569, 1508, 1672, 1385, 1518, 1662, 1424, 1360, 1333, 1610, 1477),
    ],
    "2": [
        *(1079, 1344, 1513, 1197, 1604, 1385, 1642, 1365, 1151, 1082, 1517, 1448),
        *(1198, 1482, 1334, 1609, 1101, 1512, 1469, 1360, 1254, 1261, 1450, 1368),
    ],
}


def sm_ls(large: int, replicates: int) -> dict[str, list[float]]:
    """Simon & Lesage 1989: nine treatments, each a middle value and pairs of 0.1 around it."""
    tenths = [4, 3, 5, 3, 5, 3, 5, 3, 5]
    return {
        str(at + 1): [
            float(f"{large}.{middle + step}") for step in [0, *[-1, 1] * (replicates // 2)]
        ]
        for at, middle in enumerate(tenths)
    }


def sites_of(
    groups: Mapping[str, Sequence[float]], n_sites: int, decimals: int | None = None
) -> list[Table]:
    """Everybody of a group to one site after the other."""
    y = Variable(name="y", type=VariableType.REAL, decimals=decimals)
    g = Variable(name="g", type=VariableType.CATEGORY, levels=tuple(groups))
    rows = [(value, level) for level, values in groups.items() for value in values]
    values, levels = zip(*rows, strict=True)
    table = table_of([y, g], {"y": values, "g": levels})
    site = np.concatenate([np.arange(len(values)) % n_sites for values in groups.values()])
    return [table.take(site == at) for at in range(n_sites)]


def run(
    name: str, sites: list[Table], floor: str = "total", min_cell: int = 5, **params: Any
) -> dict[str, Any]:
    limits = Disclosure(min_cell=min_cell, floor=floor)
    return dict(run_pooled_sum(find(name), params, sites, limits).result)


def exact_f(groups: dict[str, list[float]]) -> float:
    """F of the float64 values themselves, in rational arithmetic."""
    values = {level: [Fraction(value) for value in one] for level, one in groups.items()}
    n = sum(map(len, values.values()))
    grand = sum((value for one in values.values() for value in one), Fraction()) / n
    means = {level: sum(one, Fraction()) / len(one) for level, one in values.items()}
    between = sum(len(one) * (means[level] - grand) ** 2 for level, one in values.items())
    within = sum((value - means[level]) ** 2 for level, one in values.items() for value in one)
    return float(Fraction(between, len(values) - 1) / (Fraction(within) / (n - len(values))))


def test_sleep() -> None:
    sites = sites_of({"1": SLEEP[0], "2": SLEEP[1]}, 2)
    welch = run("stats.t_test", sites, "site", variable="y", by="g")
    assert round(welch["statistic"], 4) == -1.8608
    assert round(welch["df"], 3) == 17.776
    assert round(welch["p_value"], 5) == 0.07939
    assert round(welch["estimate"]["low"], 7) == -3.3654832
    assert round(welch["estimate"]["high"], 7) == 0.2054832
    assert [group["mean"] for group in welch["groups"]] == pytest.approx([0.75, 2.33], abs=1e-14)
    a, b = (Variable(name=name, type=VariableType.REAL) for name in "ab")
    table = table_of([a, b], {"a": SLEEP[0], "b": SLEEP[1]})
    halves = [table.take(np.arange(10) % 2 == at) for at in range(2)]
    paired = run("stats.t_test", halves, "site", variable="a", second="b", kind="paired")
    assert round(paired["statistic"], 4) == -4.0621
    assert paired["df"] == 9
    assert round(paired["p_value"], 6) == 0.002833
    assert round(paired["estimate"]["low"], 7) == -2.4598858
    assert round(paired["estimate"]["high"], 7) == -0.7001142


def test_cars() -> None:
    """The interval of d is that of the package effectsize, cohens_d(mpg ~ am, data = mtcars)."""
    cars = run("stats.t_test", sites_of(MPG, 2), variable="y", by="g")
    assert round(cars["statistic"], 4) == -3.7671
    assert round(cars["df"], 3) == 18.332
    assert round(cars["p_value"], 6) == 0.001374
    d, g = cars["effects"]
    assert [round(d[name], 2) for name in ("value", "low", "high")] == [-1.48, -2.27, -0.67]
    assert [round(g[name], 2) for name in ("value", "low", "high")] == [-1.44, -2.21, -0.65]


def test_plants() -> None:
    sites = sites_of(PLANT_GROWTH, 2)
    anova = run("stats.anova", sites, "site", variable="y", by="g")
    assert anova["df"] == [2, 27]
    assert round(anova["statistic"], 4) == 4.8461
    assert round(anova["p_value"], 5) == 0.01591
    assert [round(row["sum_of_squares"], 4) for row in anova["table"]] == [3.7663, 10.4921]
    welch = run("stats.anova", sites, "site", variable="y", by="g", kind="welch")
    assert round(welch["statistic"], 4) == 5.1810
    assert round(welch["df"][1], 3) == 17.128
    assert round(welch["p_value"], 5) == 0.01739


def test_insects() -> None:
    anova = run("stats.anova", sites_of(INSECT_SPRAYS, 2), "site", variable="y", by="g")
    assert anova["df"] == [5, 66]
    assert round(anova["statistic"], 3) == 34.702
    assert anova["p_value"] < 2e-16
    assert [round(row["sum_of_squares"], 1) for row in anova["table"]] == [2668.8, 1015.2]
    assert round(anova["table"][1]["mean_square"], 1) == 15.4


def test_warps() -> None:
    anova = run("stats.anova", sites_of(WARP_BREAKS, 3), variable="y", by="g")
    assert anova["df"] == [2, 51]
    assert round(anova["statistic"], 3) == 7.206
    assert round(anova["p_value"], 5) == 0.00175
    assert [round(row["sum_of_squares"]) for row in anova["table"]] == [2034, 7199]


@pytest.mark.parametrize(
    ("groups", "f", "df", "p"),
    [
        (GEAR, 1.705910, [9, 90], 0.09908),
        (PLANT_GROWTH, 1.1192, [2, 27], 0.3412),
        (INSECT_SPRAYS, 3.8214, [5, 66], 0.004223),
    ],
    ids=["GEAR", "PlantGrowth", "InsectSprays"],
)
def test_equal_variances(groups: dict[str, list[float]], f: float, df: list[int], p: float) -> None:
    """Around the medians, which are exact where a single person may be looked at."""
    levene = run("stats.levene", sites_of(groups, 2, 2), min_cell=1, variable="y", by="g")
    assert levene["df"] == df
    assert levene["statistic"] == pytest.approx(f, rel=5e-5)
    assert levene["p_value"] == pytest.approx(p, rel=5e-4)
    assert levene["resolution"] is None


def test_cholesterol_in_framingham() -> None:
    """The sample of 62 men has the skewness 1.02 and the kurtosis 4.58."""
    tests = {test["test"]: test for test in shape_tests(62, 1.02, 4.58)}
    assert tests["skewness"]["statistic"] == pytest.approx(3.14, abs=0.01)
    assert tests["kurtosis"]["statistic"] == pytest.approx(2.21, abs=0.005)
    assert tests["dagostino"]["statistic"] == pytest.approx(14.75, abs=0.05)


def test_shape_of_a_few_numbers() -> None:
    sites = sites_of({"all": [2, 8, 0, 4, 1, 9, 9, 0]}, 2)
    shape = run("stats.normality", sites, min_cell=2, variable="y", kind="skewness")
    assert shape["statistic"] == pytest.approx(0.44626385374196975, rel=1e-12)
    assert shape["p_value"] == pytest.approx(0.6554066631275459, rel=1e-12)
    sites = sites_of({"all": [float(at) for at in range(20)]}, 2)
    shape = run("stats.normality", sites, variable="y", kind="kurtosis")
    assert shape["statistic"] == pytest.approx(-1.7058104152122062, rel=1e-12)
    assert shape["p_value"] == pytest.approx(0.08804338332528348, rel=1e-12)


@pytest.mark.parametrize(
    ("groups", "df", "between", "within", "f", "digits"),
    [
        (SI_RSTV, [4, 20], 5.11462616e-02, 2.1663656e-01, 1.18046237440255, 12),
        (
            {g: [float(f"107.868{one}") for one in ones] for g, ones in AT_WT_AG.items()},
            *([1, 46], 3.638341875e-09, 1.04951729166667e-08, 15.9467335677930, 9),
        ),
        (sm_ls(1, 21), [8, 180], 1.68, 1.80, 21.0, 13),
        (sm_ls(1_000_000, 21), [8, 180], 1.68, 1.80, 21.0, 8),
        (sm_ls(1_000_000_000_000, 21), [8, 180], 1.68, 1.80, 21.0, 2),
    ],
    ids=["SiRstv", "AtmWtAg", "SmLs01", "SmLs04", "SmLs07"],
)
def test_nist(
    groups: dict[str, list[float]],
    df: list[int],
    between: float,
    within: float,
    f: float,
    digits: int,
) -> None:
    """As many certified digits as the decimals' nearest float64 numbers allow; of these, all."""
    anova = run("stats.anova", sites_of(groups, 2), min_cell=2, variable="y", by="g")
    rows = anova["table"]
    assert anova["df"] == df
    close = 10.0**-digits
    assert anova["statistic"] == pytest.approx(f, rel=close)
    assert rows[0]["sum_of_squares"] == pytest.approx(between, rel=close)
    assert rows[1]["sum_of_squares"] == pytest.approx(within, rel=close)
    assert anova["statistic"] == pytest.approx(exact_f(groups), rel=1e-13)


def test_nist_large() -> None:
    groups = sm_ls(1_000_000_000_000, 2001)
    anova = run("stats.anova", sites_of(groups, 3), variable="y", by="g")
    assert anova["statistic"] == pytest.approx(2001.0, rel=2e-2)
    assert anova["statistic"] == pytest.approx(exact_f(groups), rel=1e-12)


@pytest.fixture(scope="module")
def studies() -> list[Table]:
    """CNSIM with the gender as a category."""
    tables = []
    gender = Variable(name="GENDER", type=VariableType.CATEGORY, levels=("0", "1"))
    for table in cnsim(shared_data("cnsim")):
        column = table.columns["GENDER"]
        codes = np.where(np.isnan(column), -1, column).astype(np.int32)
        tables.append(
            Table({**table.variables, "GENDER": gender}, {**table.columns, "GENDER": codes})
        )
    return tables


@pytest.mark.parametrize("floor", ["site", "total"])
def test_cholesterol(studies: list[Table], floor: str) -> None:
    params: dict[str, Any] = {"variable": "LAB_TSC", "by": "GENDER"}
    student = run("stats.t_test", studies, floor, kind="student", **params)
    assert round(student["statistic"], 6) == 5.717062
    welch = run("stats.t_test", studies, floor, **params)
    assert round(welch["statistic"], 6) == 5.727566
    by_study = run("stats.anova", studies, floor, variable="LAB_TSC")
    assert round(by_study["statistic"], 6) == 0.413970
    assert by_study["groups"] == []
