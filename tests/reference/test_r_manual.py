"""Numbers printed in R's own documentation."""

from __future__ import annotations

import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split, table_of

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.disclosure.limits import Disclosure

ONE = Disclosure(min_cell=1)


def repeated(values: list[float], times: int) -> list[float]:
    return values * times


def test_dobson_1990_randomised_trial() -> None:
    """``example(glm)``: Dobson 1990, p. 93; the table's nine rows ten times, as n/10 asks for.

    Coefficients are the printed ones; standard errors and deviance scale with the copies.
    """
    variables = (
        Variable(name="counts", type=VariableType.INTEGER),
        Variable(name="outcome", type=VariableType.CATEGORY, levels=("1", "2", "3")),
        Variable(name="treatment", type=VariableType.CATEGORY, levels=("1", "2", "3")),
    )
    counts = [18, 17, 15, 20, 10, 20, 25, 13, 12]
    table = table_of(
        variables,
        {
            "counts": counts * 10,
            "outcome": ["1", "2", "3"] * 30,
            "treatment": ["1", "1", "1", "2", "2", "2", "3", "3", "3"] * 10,
        },
    )
    params = {"formula": "counts ~ outcome + treatment", "family": "poisson"}
    result = run_pooled_sum(find("glm"), params, split(table, [40, 50]), ONE).result
    estimates = [round(value, 3) for value in result["params"][:3]]
    assert estimates == [3.045, -0.454, -0.293]
    assert result["params"][3:] == pytest.approx([0.0, 0.0], abs=1e-12)
    errors = [value * 10**0.5 for value in result["bse"]]
    assert [round(value, 4) for value in errors] == [0.1709, 0.2022, 0.1927, 0.2, 0.2]
    assert round(result["deviance"] / 10, 4) == 5.1291
    assert round(result["null_deviance"] / 10, 4) == 10.5814
    assert round((result["aic"] - 10) / 10 + 10, 2) == 56.76
    assert result["iterations"] == 4


def test_annette_dobson_plant_weights() -> None:
    """``example(lm)``: Dobson 1990, p. 9; coefficients, standard errors, residual error."""
    control = [4.17, 5.58, 5.18, 6.11, 4.50, 4.61, 5.17, 4.53, 5.33, 5.14]
    treated = [4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69]
    variables = (
        Variable(name="weight", type=VariableType.REAL, decimals=2),
        Variable(name="group", type=VariableType.CATEGORY, levels=("Ctl", "Trt")),
    )
    table = table_of(variables, {"weight": control + treated, "group": ["Ctl"] * 10 + ["Trt"] * 10})
    params = {"formula": "weight ~ group", "family": "gaussian"}
    result = run_pooled_sum(find("glm"), params, split(table, [7, 13]), ONE).result
    assert result["terms"] == ["Intercept", "group[T.Trt]"]
    assert [round(value, 4) for value in result["params"]] == [5.0320, -0.3710]
    assert [round(value, 4) for value in result["bse"]] == [0.2202, 0.3114]
    assert [round(value, 3) for value in result["statistic"]] == [22.850, -1.191]
    assert round(result["pvalues"][1], 3) == 0.249
    assert round(result["scale"] ** 0.5, 4) == 0.6964
    assert result["df_resid"] == 18
