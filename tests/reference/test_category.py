"""Multinomial and ordinal models against published estimates, to the printed digit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.support.federation import run_pooled_sum
from tests.support.frames import split, table_of

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

statsmodels = pytest.importorskip("statsmodels.api")


def category(name: str, *levels: str) -> Variable:
    return Variable(name=name, type=VariableType.CATEGORY, levels=levels)


def number(name: str) -> Variable:
    return Variable(name=name, type=VariableType.REAL)


def at_three_sites(variables: Sequence[Variable], columns: Mapping[str, Sequence[Any]]) -> Any:
    whole = table_of(variables, columns)
    mixed = np.random.default_rng(0).permutation(whole.n_rows)
    table = Table(whole.variables, {name: c[mixed] for name, c in whole.columns.items()})
    third = table.n_rows // 3
    return split(table, [third, third, table.n_rows - 2 * third])


def fitted(name: str, formula: str, tables: Any, **params: Any) -> dict[str, Any]:
    limits = Disclosure(persons_per_parameter=1)
    return dict(run_pooled_sum(find(name), {"formula": formula, **params}, tables, limits).result)


# Cells of R's MASS::housing (Madsen 1976): satisfaction low, medium, high for each influence (low,
# medium, high), type (tower, apartment, atrium, terrace) and contact (low, high).
HOUSING = """
21 21 28 34 22 36 10 11 36 61 23 17 43 35 40 26 18 54 13 9 10 8 8 12 6 7 9 18 6 7 15 13 13 7 5 11
14 19 37 17 23 40 3 5 23 78 46 43 48 45 86 15 25 62 20 23 20 10 22 24 7 10 21 57 23 13 31 21 13 5
6 13
"""


def housing() -> Any:
    three = ("Low", "Medium", "High")
    types = ("Tower", "Apartment", "Atrium", "Terrace")
    names = [
        (sat, infl, kind, cont)
        for cont in ("Low", "High")
        for kind in types
        for infl in three
        for sat in three
    ]
    counts = [int(text) for text in HOUSING.split()]
    persons = [one for one, count in zip(names, counts, strict=True) for _ in range(count)]
    variables = (
        category("Sat", *three),
        category("Infl", *three),
        category("Type", *types),
        category("Cont", "Low", "High"),
    )
    columns = zip(*persons, strict=True)
    return at_three_sites(
        variables, {v.name: list(c) for v, c in zip(variables, columns, strict=True)}
    )


def test_housing_is_rs_polr() -> None:
    """summary(polr(Sat ~ Infl + Type + Cont, weights = Freq, data = housing)): Venables & Ripley
    2002, ch. 7.3, and example(polr) of MASS.
    """
    ours = fitted("models.ordinal", "Sat ~ Infl + Type + Cont", housing())
    assert ours["terms"] == [
        "Infl[T.Medium]",
        "Infl[T.High]",
        "Type[T.Apartment]",
        "Type[T.Atrium]",
        "Type[T.Terrace]",
        "Cont[T.High]",
    ]
    published = [0.5664, 1.2888, -0.5724, -0.3662, -1.0910, 0.3603]
    assert np.round(ours["params"], 4) == pytest.approx(published, abs=1.01e-4)
    assert np.round(ours["bse"], 4).tolist() == [0.1047, 0.1272, 0.1192, 0.1552, 0.1515, 0.0955]
    assert np.round(ours["thresholds"]["params"], 4).tolist() == [-0.4961, 0.6907]
    assert np.round(ours["thresholds"]["bse"], 4).tolist() == [0.1248, 0.1255]
    assert round(ours["deviance"], 3) == 3479.149
    assert round(ours["aic"], 3) == 3495.149


def test_applications_to_graduate_school_are_statas_ologit_and_brant() -> None:
    """UCLA's "Ordered logistic regression, Stata data analysis examples" (ologit, brant); the data
    are in the tests of statsmodels.
    """
    path = Path(statsmodels.__file__).parents[0] / "miscmodels/tests/results/ologit_ucla.csv"
    if not path.exists():
        pytest.skip("this statsmodels comes without its tests' data")
    data = pd.read_csv(path)
    variables = (
        category("apply", "unlikely", "somewhat likely", "very likely"),
        number("pared"),
        number("public"),
        number("gpa"),
    )
    tables = at_three_sites(variables, {v.name: data[v.name].tolist() for v in variables})
    ours = fitted("models.ordinal", "apply ~ pared + public + gpa", tables)
    assert np.round(ours["params"], 7) == pytest.approx([1.047664, -0.0586828, 0.6157458], abs=5e-7)
    assert np.round(ours["bse"], 7).tolist() == [0.2657891, 0.2978588, 0.2606311]
    cuts = ours["thresholds"]
    assert np.round(cuts["params"], 6).tolist() == [2.203323, 4.298767]
    assert np.round(cuts["bse"], 7).tolist() == [0.7795353, 0.8043147]
    assert round(ours["loglik"], 5) == -358.51244
    assert (round(ours["lr_test"]["statistic"], 2), ours["lr_test"]["df"]) == (24.18, 3)
    assert round(ours["pseudo_r2"], 4) == 0.0326
    brant = ours["proportional_odds"]
    assert [one["name"] for one in brant] == ["all", "pared", "public", "gpa"]
    assert [round(one["statistic"], 2) for one in brant] == [4.34, 0.13, 3.44, 0.18]
    assert [round(one["p_value"], 3) for one in brant] == [0.227, 0.716, 0.064, 0.672]
    assert [one["df"] for one in brant] == [3, 1, 1, 1]


def test_party_identification_is_statas_mlogit() -> None:
    """Stata's mlogit as in the tests of statsmodels (Anes, base 0)."""
    results = pytest.importorskip("statsmodels.discrete.tests.results.results_discrete")
    published = results.Anes.mnlogit_basezero
    data = statsmodels.datasets.anes96.load_pandas()
    names = ["logpopul", "selfLR", "age", "educ", "income"]
    variables = (category("PID", *"0123456"), *map(number, names))
    columns = {name: data.exog[name].tolist() for name in names}
    columns["PID"] = [str(int(value)) for value in data.endog]
    formula = "PID ~ " + " + ".join(names)
    ours = fitted("models.multinomial", formula, at_three_sites(variables, columns))
    order = [*names, "Intercept"]
    at = [ours["columns"].index(name) for name in order]
    for key in ("params", "bse"):
        found = np.reshape(ours[key], (6, 6))[:, at].T
        want = np.asarray(getattr(published, key))
        assert found == pytest.approx(want.reshape(6, 6, order="F"), abs=1e-6)
    assert ours["loglik"] == pytest.approx(published.llf, abs=1e-6)
    assert ours["null_loglik"] == pytest.approx(published.llnull, abs=1e-5)
    assert ours["lr_test"]["statistic"] == pytest.approx(published.llr, abs=1e-4)
    assert ours["lr_test"]["df"] == published.df_model
    assert ours["pseudo_r2"] == pytest.approx(published.prsquared, abs=1e-7)


# Agresti 2007, An Introduction to Categorical Data Analysis, table 6.1: length of 59 alligators in
# metres and their primary food (fish, invertebrates, other).
ALLIGATORS = """
1.24I 1.30I 1.30I 1.32F 1.32F 1.40F 1.42I 1.42F 1.45I 1.45O 1.47I 1.47F 1.50I 1.52I 1.55I 1.60I
1.63I 1.65O 1.65I 1.65F 1.65F 1.68F 1.70I 1.73O 1.78I 1.78I 1.78O 1.80I 1.80F 1.85F 1.88I 1.93I
1.98I 2.03F 2.03F 2.16F 2.26F 2.31F 2.31F 2.36F 2.36F 2.39F 2.41F 2.44F 2.46F 2.56O 2.67F 2.72I
2.79F 2.84F 3.25O 3.28O 3.33F 3.56F 3.58F 3.66F 3.68O 3.71F 3.89F
"""


def test_the_food_of_alligators_is_agrestis() -> None:
    """Agresti 2007, ch. 6.1.2: log(pi_F / pi_O) = 1.618 - 0.110 x, log(pi_I / pi_O) = 5.697 -
    2.465 x; standard errors in table 6.2.
    """
    caught = ALLIGATORS.split()
    columns: dict[str, list[Any]] = {
        "food": [one[-1] for one in caught],
        "length": [float(one[:-1]) for one in caught],
    }
    tables = at_three_sites((category("food", "F", "I", "O"), number("length")), columns)
    ours = fitted("models.multinomial", "food ~ length", tables, reference="O")
    assert ours["terms"] == ["F: Intercept", "F: length", "I: Intercept", "I: length"]
    assert np.round(ours["params"], 3).tolist() == [1.618, -0.110, 5.697, -2.465]
    assert np.round(ours["bse"], 3).tolist() == [1.307, 0.517, 1.794, 0.900]


def test_political_ideology_is_agrestis() -> None:
    """Agresti 2007, table 6.7 and ch. 6.2.2: ideology (very liberal to very conservative) by party;
    his beta of Democrats is 0.975 (SE 0.129), of the other sign, alpha -2.469, -1.475, 0.237,
    1.070; likelihood-ratio 58.6 with one degree of freedom.
    """
    levels = ("very liberal", "liberal", "moderate", "conservative", "very conservative")
    counts = {"republican": [30, 46, 148, 84, 99], "democrat": [80, 81, 171, 41, 55]}
    persons = [
        (level, party)
        for party, row in counts.items()
        for level, count in zip(levels, row, strict=True)
        for _ in range(count)
    ]
    variables = (category("ideology", *levels), category("party", "republican", "democrat"))
    ideology, party = zip(*persons, strict=True)
    tables = at_three_sites(variables, {"ideology": ideology, "party": party})
    ours = fitted("models.ordinal", "ideology ~ party", tables)
    assert round(ours["params"][0], 3) == -0.975
    assert round(ours["bse"][0], 3) == 0.129
    assert np.round(ours["thresholds"]["params"], 3).tolist() == [-2.469, -1.475, 0.237, 1.070]
    assert round(ours["lr_test"]["statistic"], 1) == 58.6
