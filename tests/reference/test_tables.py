"""Published contingency tables, to the printed digit.

Sources: the examples of R's own documentation (``chisq.test``, ``fisher.test``, ``mcnemar.test``,
``mantelhaen.test``; the data sets ``HairEyeColor``, ``Titanic``, ``UCBAdmissions``), most of them
from Agresti, and CNSIM, the simulated cohorts that come with DataSHIELD.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.shared_data import shared_data
from tests.support.tables import category, halves, persons

from cohortium.analysis.builtin import find
from cohortium.analysis.contingency import chi_square, fisher
from cohortium.analysis.stratified import cmh_result, terms
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import PolicyRefusal

SITE, TOTAL = Disclosure(), Disclosure(floor="total")


@pytest.fixture(params=["site", "total"])
def disclosure(request: pytest.FixtureRequest) -> Disclosure:
    return Disclosure(floor=request.param)


def run(name: str, tables: list[Table], limits: Disclosure, **params: Any) -> dict[str, Any]:
    return dict(run_pooled_sum(find(name), params, tables, limits).result)


def table(counts: Any, rows: str, columns: str) -> tuple[list[Table], dict[str, str]]:
    """A published table as two sites hold it together."""
    variables = [category("row", *rows.split()), category("column", *columns.split())]
    return halves(counts, variables), {"row": "row", "column": "column"}


def test_party_by_gender(disclosure: Disclosure) -> None:
    """``?chisq.test``: Agresti 2007, p. 39."""
    counts = [[762, 327, 468], [484, 239, 477]]
    tables, names = table(counts, "F M", "Democrat Independent Republican")
    result = run("stats.crosstab", tables, disclosure, **names)
    assert (round(result["statistic"], 2), result["df"]) == (30.07, 2)
    assert f"{result['p_value']:.4g}" == "2.954e-07"
    assert [round(r, 7) for r in result["residuals"][0]] == [4.5020535, 0.6994517, -5.3159455]
    assert [round(e, 4) for e in result["expected"][0]] == [703.6714, 319.6453, 533.6834]


def test_hair_and_eyes(disclosure: Disclosure) -> None:
    """``summary(apply(HairEyeColor, 1:2, sum))``."""
    counts = [[68, 20, 15, 5], [119, 84, 54, 29], [26, 17, 14, 14], [7, 94, 10, 16]]
    tables, names = table(counts, "Black Brown Red Blond", "Brown Blue Hazel Green")
    result = run("stats.crosstab", tables, disclosure, **names)
    assert (result["n"], round(result["statistic"], 2), result["df"]) == (592, 138.29, 9)


def test_titanic(disclosure: Disclosure) -> None:
    """``Titanic``: class and sex by survival."""
    counts = [[122, 203], [167, 118], [528, 178], [673, 212]]
    tables, names = table(counts, "1st 2nd 3rd Crew", "No Yes")
    result = run("stats.crosstab", tables, disclosure, **names)
    assert (result["n"], round(result["statistic"], 2), result["df"]) == (2201, 190.40, 3)
    tables, names = table([[1364, 367], [126, 344]], "Male Female", "No Yes")
    result = run("stats.crosstab", tables, disclosure, **names)
    assert round(result["statistic"], 2) == 456.87
    assert round(result["tests"][1]["statistic"], 1) == 454.5


def test_the_lady_tasting_tea() -> None:
    """``?fisher.test``: Agresti 1990, p. 61. Its cells are too small to be released over sites."""
    line = fisher(np.array([[3, 1], [1, 3]]), 0.9)
    assert f"{line['p_value']:.4f}" == "0.4857"
    # R ends its search for roots at 1.2e-4; the property tests compare with scipy to 1e-6.
    assert line["odds_ratio"] == pytest.approx(6.408309, abs=2e-5)
    assert line["low"] == pytest.approx(0.3135693, abs=2e-5)  # R's one-sided 95 % limit


def test_convictions_of_twins() -> None:
    """``?fisher.test``: Fisher 1970."""
    counts = np.array([[2, 15], [10, 3]])
    line = fisher(counts, 0.95)
    assert f"{line['p_value']:.7f}" == "0.0005367"
    found = (line["odds_ratio"], line["low"], line["high"])
    assert found == pytest.approx((0.04693661, 0.003325764, 0.363182271), abs=2e-5)
    line = fisher(counts, 0.99)
    assert (line["low"], line["high"]) == pytest.approx((0.001386333, 0.578851645), abs=2e-5)


def test_job_satisfaction() -> None:
    """``?fisher.test``: Agresti 2002, p. 57; the chi-square of the same table."""
    counts = np.array([[1, 3, 10, 6], [2, 3, 10, 7], [1, 6, 14, 12], [0, 1, 9, 11]])
    line = chi_square(counts)
    assert (round(line["statistic"], 4), line["df"]) == (5.9655, 9)
    assert round(line["p_value"], 4) == 0.7434


def test_approval_of_the_prime_minister(disclosure: Disclosure) -> None:
    """``?mcnemar.test``: Agresti 1990, p. 350."""
    variables = [category("first", "no", "yes"), category("second", "no", "yes")]
    tables = halves([[570, 86], [150, 794]], variables)
    result = run("stats.mcnemar", tables, disclosure, before="first", after="second")
    corrected, plain, _ = result["tests"]
    assert f"{corrected['statistic']:.3f} {corrected['p_value']:.4g}" == "16.818 4.115e-05"
    assert f"{plain['statistic']:.3f} {plain['p_value']:.4g}" == "17.356 3.099e-05"
    assert (result["statistic"], result["df"]) == (corrected["statistic"], 1)


ADMISSIONS = [
    [[512, 313], [89, 19]],
    [[353, 207], [17, 8]],
    [[120, 205], [202, 391]],
    [[138, 279], [131, 244]],
    [[53, 138], [94, 299]],
    [[22, 351], [24, 317]],
]
"""``UCBAdmissions`` by department: gender by admitted, rejected."""


def check_admissions(result: dict[str, Any]) -> None:
    corrected, plain = result["tests"]
    assert (round(corrected["statistic"], 4), round(corrected["p_value"], 4)) == (1.4269, 0.2323)
    assert (round(plain["statistic"], 4), round(plain["p_value"], 4)) == (1.5246, 0.2169)
    estimate = result["estimate"]
    assert f"{estimate['value']:.7f}" == "0.9046968"
    assert (f"{estimate['low']:.7f}", f"{estimate['high']:.7f}") == ("0.7719074", "1.0603298")
    assert (result["n"], result["n_strata"], result["df"]) == (4526, 6, 1)


def test_admissions_at_berkeley(disclosure: Disclosure) -> None:
    """``?mantelhaen.test``: the departments as sites, and as levels of a variable."""
    variables = [category("gender", "Male", "Female"), category("admit", "yes", "no")]
    names = {"row": "gender", "column": "admit"}
    tables = [persons(counts, variables) for counts in ADMISSIONS]
    check_admissions(run("stats.cmh", tables, disclosure, **names))
    everywhere = halves(ADMISSIONS, [category("department", *"ABCDEF"), *variables])
    check_admissions(run("stats.cmh", everywhere, disclosure, **names, strata="department"))


def test_penicillin_and_rabbits() -> None:
    """``?mantelhaen.test``: Agresti 1990, p. 231. Its cells are too small to be released."""
    flat = [0, 0, 6, 5, 3, 0, 3, 6, 6, 2, 0, 4, 5, 6, 1, 0, 2, 5, 0, 0]
    rabbits = np.array(flat).reshape(5, 2, 2).transpose(0, 2, 1)
    result = cmh_result(terms(rabbits), correction=True, confidence=0.95)
    assert (round(result["statistic"], 4), round(result["p_value"], 5)) == (3.9286, 0.04747)
    assert result["estimate"]["value"] == pytest.approx(7.0)
    assert round(result["estimate"]["low"], 6) == 1.026713
    assert round(result["estimate"]["high"], 5) == 47.72513


@pytest.fixture(scope="module")
def cnsim() -> list[Table]:
    names = ("DIS_DIAB", "DIS_AMI", "DIS_CVA", "GENDER")
    variables = {name: category(name, "0", "1") for name in names}
    tables = []
    for path in sorted(shared_data("cnsim").glob("CNSIM*.csv")):
        frame = pd.read_csv(path).rename(columns=str.strip)
        columns = {n: frame[n].fillna(-1).to_numpy().astype(np.int32) for n in names}
        tables.append(Table(variables, columns))
    return tables


def test_diabetes_by_gender(cnsim: list[Table], disclosure: Disclosure) -> None:
    result = run("stats.crosstab", cnsim, disclosure, row="DIS_DIAB", column="GENDER")
    assert round(result["statistic"], 6) == 14.443561
    yates = result["tests"][1]
    assert (yates["test"], f"{yates['statistic']:.6f}") == ("chi-square-yates", "13.816420")


def test_a_disease_of_five_persons_shows_no_site_and_no_cell(cnsim: list[Table]) -> None:
    """DIS_AMI has 2, 2 and 1 positives."""
    result = run("stats.crosstab", cnsim, TOTAL, row="DIS_AMI")
    assert result["counts"][1] == [5]
    result = run("stats.crosstab", cnsim, Disclosure(min_cell=6, floor="total"), row="DIS_AMI")
    assert result["counts"] == [[None], [None]]
    by_gender = run("stats.crosstab", cnsim, TOTAL, row="DIS_AMI", column="GENDER")
    assert by_gender["counts"] == [[None, None], [None, None]]
    assert by_gender["row_totals"][1] == 5
    assert by_gender["p_value"] is None


def test_nobody_has_both_diseases(cnsim: list[Table]) -> None:
    """DIS_CVA by DIS_AMI has an empty cell in a row of few persons."""
    pooled = [np.concatenate([t.columns[n] for t in cnsim]) for n in ("DIS_CVA", "DIS_AMI")]
    both = int(((pooled[0] == 1) & (pooled[1] == 1)).sum())
    assert both == 0
    names = {"row": "DIS_CVA", "column": "DIS_AMI"}
    result = run("stats.crosstab", cnsim, TOTAL, **names)
    assert result["counts"][1] == [int((pooled[0] == 1).sum()), 0]
    result = run("stats.crosstab", cnsim, Disclosure(min_cell=6, floor="total"), **names)
    assert result["counts"][0][1] is None
    with pytest.raises(PolicyRefusal):
        run("stats.cmh", cnsim, Disclosure(min_cell=6, floor="total"), **names)
