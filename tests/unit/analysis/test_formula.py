"""Formulas: columns as statsmodels makes them, and nothing that Python could run."""

from __future__ import annotations

import builtins
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.support.frames import table_of

from cohortium.analysis.formula import complete, design, parse, variables_of
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.errors import InputError

patsy = pytest.importorskip("patsy")

VARIABLES = (
    Variable(name="y", type=VariableType.REAL),
    Variable(name="a", type=VariableType.REAL),
    Variable(name="b", type=VariableType.INTEGER),
    Variable(name="s", type=VariableType.CATEGORY, levels=("1", "2", "3")),
    Variable(name="t", type=VariableType.CATEGORY, levels=("u", "v")),
    Variable(name="flag", type=VariableType.BOOLEAN),
    Variable(name="when", type=VariableType.DATE),
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    random = np.random.default_rng(7)
    n = 150
    return pd.DataFrame(
        {
            "y": random.normal(size=n),
            "a": random.uniform(1, 2, n),
            "b": random.integers(1, 9, n),
            "s": random.choice(["1", "2", "3"], n),
            "t": random.choice(["u", "v"], n),
            "flag": random.integers(0, 2, n),
            "when": random.integers(0, 9000, n),
        }
    )


@pytest.fixture(scope="module")
def table(frame: pd.DataFrame) -> Table:
    return table_of(VARIABLES, {v.name: frame[v.name].tolist() for v in VARIABLES})


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ a",
        "y ~ 1",
        "y ~ a - 1",
        "y ~ 0 + s",
        "y ~ s * t",
        "y ~ s:t",
        "y ~ s:t - 1",
        "y ~ a * s",
        "y ~ a:s",
        "y ~ a:s + b",
        "y ~ s / t",
        "y ~ (a + s + t) ** 2",
        "y ~ (a + s + t) ^ 2",
        "y ~ 0 + s * t * a",
        "y ~ s:t:a + t:a",
        "y ~ s:a + s:t",
        "y ~ a + b + a:b + flag",
        "y ~ I(a ** 2) + I(a * b - 1)",
        "y ~ C(s)",
        "y ~ C(s, Treatment('2')) * a",
    ],
)
def test_columns_are_those_of_patsy(formula: str, frame: pd.DataFrame, table: Table) -> None:
    matrix, names = design(table, parse(formula, table.variables))
    expected = patsy.dmatrix(formula.split("~")[1].replace("^", "**"), frame)
    order = {name: at for at, name in enumerate(expected.design_info.column_names)}
    assert set(order) == set(names)
    assert np.array_equal(matrix, np.asarray(expected)[:, [order[name] for name in names]])


@pytest.mark.parametrize("function", ["log", "log2", "log10", "log1p", "sqrt"])
def test_transformations_are_numpys(function: str, frame: pd.DataFrame, table: Table) -> None:
    matrix, names = design(table, parse(f"y ~ {function}(a * 2)", table.variables))
    assert names == ("Intercept", f"{function}(a * 2)")
    assert np.array_equal(matrix[:, 1], getattr(np, function)(frame["a"].to_numpy() * 2))


def test_braces_are_arithmetic(frame: pd.DataFrame, table: Table) -> None:
    matrix, _ = design(table, parse("y ~ {-a / b + 2}", table.variables))
    assert np.allclose(matrix[:, 1], -frame["a"] / frame["b"] + 2)


def test_a_boolean_may_be_a_number_or_a_category(table: Table) -> None:
    assert parse("y ~ flag", table.variables).names == ("Intercept", "flag")
    assert parse("y ~ C(flag)", table.variables).names == ("Intercept", "C(flag)[T.True]")


def test_main_effects_come_before_interactions(table: Table) -> None:
    assert parse("y ~ a * flag + b", table.variables).names == (
        "Intercept",
        "a",
        "flag",
        "b",
        "a:flag",
    )


def test_columns_come_from_declared_levels_even_where_a_level_is_absent(table: Table) -> None:
    rows = table.columns["s"] == 0
    matrix, names = design(table.take(rows), parse("y ~ s", table.variables))
    assert names == ("Intercept", "s[T.2]", "s[T.3]")
    assert np.array_equal(matrix.sum(axis=0), [rows.sum(), 0, 0])
    empty, _ = design(
        table.take(np.zeros(table.n_rows, dtype=bool)), parse("y ~ s", table.variables)
    )
    assert empty.shape == (0, 3)


def test_who_lacks_a_value_has_nan(table: Table) -> None:
    columns = {**table.columns, "s": table.columns["s"].copy(), "a": table.columns["a"].copy()}
    columns["s"][0], columns["a"][1] = -1, np.nan
    holed = Table(table.variables, columns)
    parsed = parse("y ~ a * s", table.variables)
    matrix, _ = design(holed, parsed)
    assert np.isnan(matrix).any(axis=1).tolist() == [True, True] + [False] * (table.n_rows - 2)
    assert complete(holed, parsed).tolist() == [False, False] + [True] * (table.n_rows - 2)


def test_variables_are_those_it_reads() -> None:
    assert variables_of("log(y) ~ a * C(s, Treatment('2')) + I(b ** 2)") == {"y", "a", "s", "b"}


INJECTIONS = [
    "y ~ __import__('os').system('x')",
    "y ~ I(__import__('os').system('x'))",
    "__import__('os').system('x') ~ a",
    "y ~ {__import__('os').system('x')}",
    "y ~ eval('1')",
    "y ~ exec('1')",
    "y ~ open('x')",
    "y ~ a.__class__",
    "y ~ I(a.__class__)",
    "y ~ I(().__class__.__bases__)",
    "y ~ (lambda: 1)()",
    "y ~ I((lambda x: x)(a))",
    "y ~ lambda x: x",
    "y ~ I((z := a))",
    "y ~ (z := a)",
    "y ~ [x for x in a]",
    "y ~ I([x for x in a])",
    "y ~ I((x for x in a))",
    "y ~ I({x: 1 for x in a})",
    "y ~ I(a[0])",
    "y ~ I(a if b else a)",
    "y ~ I(a and b)",
    "y ~ I(a == b)",
    "y ~ I(a & b)",
    "y ~ I(a @ b)",
    "y ~ I(not a)",
    "y ~ I(~a)",
    "y ~ I(a // b)",
    "y ~ I(a % b)",
    "y ~ I(a << 9)",
    "y ~ I(True)",
    "y ~ I('a')",
    "y ~ I(b'a')",
    "y ~ I(f'{a}')",
    "y ~ f'{a}'",
    "y ~ I(...)",
    "y ~ I(1j * a)",
    "y ~ I(await a)",
    "y ~ I(*a)",
    "y ~ I(a, b)",
    "y ~ log(a, out=b)",
    "y ~ log(*a)",
    "y ~ log(**a)",
    "y ~ np.log(a)",
    "y ~ center(a)",
    "y ~ scale(a)",
    "y ~ bs(a, df=3)",
    "y ~ poly(a, 2)",
    "y ~ hashed(a)",
    "y ~ C(a + b)",
    "y ~ C(s, levels=a)",
    "y ~ C(s, contr.sum)",
    "y ~ C(s, Treatment(open('x')))",
    "y ~ C(s)(a)",
    "y ~ `a`",
    "y ~ a; b",
    "y ~ a\nb",
    "y ~ a | b",
    "y ~ .",
    "y ~ a ~ b",
    "~ a",
    "y",
    "",
    "~",
    "y + a ~ b",
    "y ~ 0",
    "y ~ 5",
    "y ~ 2:a",
    "y ~ 'a'",
    "y ~ {a",
    "y ~ a)",
    "y ~ I()",
    "y ~ y",
    "y ~ log(y)",
]

EXPENSIVE = [
    "y ~ I(a ** 99999999)",
    "y ~ I(a ** -1)",
    "y ~ I(9 ** 9 ** 9 * a)",
    "y ~ I(a ** b)",
    "y ~ I(1e400 * a)",
    "y ~ I(9999999999999999999999 * a)",
    "y ~ (a + b) ** 99999999",
    "y ~ (((a + b + s + t) ** 9) ** 9) ** 9",
    "y ~ (a + b) ** a",
    "y ~ " + "(" * 400 + "a" + ")" * 400,
    "y ~ " + "I(" * 400 + "a" + ")" * 400,
    "y ~ I(" + "-" * 900 + "a)",
    "y ~ I(a" + "+a" * 480 + ")",
    "y ~ " + "a:" * 490 + "a",
    "y ~ " + "+".join(f"v{at}" for at in range(400)),
    "y ~ " + "*".join(f"v{at}" for at in range(40)),
    "y ~ a" + " + a" * 1_000_000,
]


@pytest.mark.parametrize("formula", INJECTIONS + EXPENSIVE, ids=lambda text: text[:40])
def test_anything_else_is_refused_before_anything_is_evaluated(
    formula: str, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def trap(name: str) -> Callable[..., Any]:
        return lambda *_args, **_kwargs: called.append(name)

    monkeypatch.setattr(os, "system", trap("system"))
    parse("y ~ a", table.variables)  # formulaic is imported before the traps are set
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "eval", trap("eval"))
        patch.setattr(builtins, "exec", trap("exec"))
        patch.setattr(builtins, "open", trap("open"))
        begun = time.perf_counter()
        with pytest.raises(InputError) as caught:
            parse(formula, table.variables)
        took = time.perf_counter() - begun
    assert caught.value.code == "bad-formula"
    assert called == []
    assert took < 1.0
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("formula", "code"),
    [
        ("y ~ zzz", "not-found"),
        ("y ~ log", "not-found"),
        ("y ~ ", "bad-formula"),
        ("y ~ C(b)", "bad-formula"),
        ("y ~ C(a)", "bad-formula"),
        ("y ~ C(s, Treatment('9'))", "bad-formula"),
        ("y ~ I(s)", "bad-formula"),
        ("y ~ log(s)", "bad-formula"),
        ("y ~ when", "bad-formula"),
    ],
)
def test_types_must_fit(formula: str, code: str, table: Table) -> None:
    with pytest.raises(InputError) as caught:
        parse(formula, table.variables)
    assert caught.value.code == code


def test_a_transformation_that_is_not_finite_names_the_term_and_no_value(table: Table) -> None:
    parsed = parse("y ~ log(a)", table.variables)
    table = Table(table.variables, {**table.columns, "a": table.columns["a"] - 1.5})
    with pytest.raises(InputError) as caught:
        design(table, parsed)
    assert caught.value.code == "bad-input"
    assert caught.value.details == {"term": "log(a)"}


def test_odd_characters_are_allowed_in_a_reference_level_only() -> None:
    levels = ("[0,10)", "a;b", "c@d")
    variables = {
        "y": Variable(name="y", type=VariableType.REAL),
        "age": Variable(name="age", type=VariableType.CATEGORY, levels=levels),
    }
    names = parse("y ~ C(age, Treatment('a;b'))", variables).names
    assert [name.partition("[")[2] for name in names[1:]] == ["T.[0,10)]", "T.c@d]"]
