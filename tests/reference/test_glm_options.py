"""Published models.

Clotting times of blood: McCullagh & Nelder 1989, Generalized Linear Models, ch. 8.4.2; the printed
digits are those of ``summary(glm(lot1 ~ log(u), data = clotting, family = Gamma))``, the example of
R's ``?glm``.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split, table_of
from tests.support.heart import hospitals

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.disclosure.limits import Disclosure

U = [5, 10, 15, 20, 30, 40, 60, 80, 100]
LOT1 = [118, 58, 42, 35, 27, 25, 21, 19, 18]


def test_clotting_times_are_those_that_r_prints() -> None:
    variables = [Variable(name=name, type=VariableType.REAL) for name in ("u", "lot1")]
    table = table_of(variables, {"u": list(map(float, U)), "lot1": list(map(float, LOT1))})
    limits = Disclosure(min_cell=1, persons_per_parameter=1, residual_df=1, floor="total")
    params = {"formula": "lot1 ~ log(u)", "family": "gamma"}
    fit = run_pooled_sum(find("glm"), params, split(table, [4, 5]), limits).result
    assert np.round(fit["params"], 8).tolist() == [-0.01655438, 0.01534311]
    # R takes the weights and residuals of the iteration before the last: 54, and 6059.
    assert np.round(fit["bse"], 8).tolist() == [0.00092755, 0.00041496]
    assert fit["scale"] == pytest.approx(0.002446059, rel=1e-5)
    assert (round(fit["null_deviance"], 5), round(fit["deviance"], 5)) == (3.51283, 0.01673)
    assert (round(fit["aic"], 2), fit["df_resid"]) == (37.99, 7)


RIGHT = "age + sex + trestbps + chol + thalach + exang + oldpeak"


def test_heart_disease_in_four_hospitals() -> None:
    """Expected: statsmodels' fit to the same complete cases in one table, to its printed digits."""
    tables = hospitals()
    assert [table.n_rows for table in tables] == [303, 261, 46, 130]
    params = {"formula": f"disease ~ {RIGHT}", "family": "binomial"}
    fit = run_pooled_sum(find("glm"), params, tables).result
    found = dict(zip(fit["terms"], fit["params"], strict=True))
    assert round(fit["deviance"], 6) == 686.616433
    assert {name: round(found[name], 6) for name in ("sex", "exang", "oldpeak")} == {
        "sex": 1.325804,
        "exang": 1.408591,
        "oldpeak": 0.690438,
    }


def test_hardin_and_hilbes_inverse_gaussian_model_is_rs() -> None:
    """Estimates of R's ``glm(family = inverse.gaussian)`` as in the tests of statsmodels, with the
    data that Hardin and Hilbe simulated.
    """
    results = pytest.importorskip("statsmodels.genmod.tests.results.results_glm")
    published = results.InvGauss()
    variables = [Variable(name=name, type=VariableType.REAL) for name in ("y", "x1", "x2")]
    columns = {
        "y": published.endog.tolist(),
        "x1": published.exog[:, 0].tolist(),
        "x2": published.exog[:, 1].tolist(),
    }
    tables = split(table_of(variables, columns), [1500, 2500, 1000])
    params = {"formula": "y ~ x1 + x2", "family": "inverse_gaussian"}
    fit = run_pooled_sum(find("glm"), params, tables).result
    slope, other, constant = published.params
    assert np.round(fit["params"], 6) == pytest.approx([constant, slope, other], abs=1.1e-6)
    slope, other, constant = published.bse
    assert fit["bse"] == pytest.approx([constant, slope, other], abs=1e-6)
    assert fit["deviance"] == pytest.approx(published.deviance, rel=1e-8)
    assert fit["null_deviance"] == pytest.approx(published.null_deviance, rel=1e-8)
    assert fit["aic"] == pytest.approx(published.aic_R, rel=1e-8)
    assert fit["df_resid"] == published.df_resid
