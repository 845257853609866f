"""R model formulas, read without ever evaluating them as Python.

formulaic reads the formula's grammar (`+ - * : / ** ~`); it is never asked to evaluate, since its
factors are Python expressions and a formula comes from elsewhere. Each factor is checked against an
allow-list of syntax nodes and computed here: variable names, numbers, ``+ - * / **`` inside
``I()`` or ``{}``, `FUNCTIONS`, and ``C(x)`` or ``C(x, Treatment("reference"))``. Transformations
that learn from the data (``center``, ``bs``) would differ from site to site and are refused.

Columns come from the declared levels, so they are the same at each site; they are named and coded
as patsy and statsmodels do, main effects before interactions as in R.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.coding import Coded, Column, code_term
from cohortium.analysis.expression import Expression, check, evaluate
from cohortium.cohort.singling import MAX_DEGREE
from cohortium.core.dictionary import NUMERIC, Variable, VariableType
from cohortium.core.table import Table
from cohortium.errors import InputError

MAX_CHARACTERS = 1000
MAX_BRACKETS = 20
MAX_TERMS = 500
MAX_COLUMNS = 1000
_MAX_DEPTH = 300

Floats = npt.NDArray[np.float64]
Terms = tuple[tuple[Expression, ...], ...]


@dataclass(frozen=True)
class Parsed:
    """A formula bound to declared variables.

    Attributes:
        text: As written.
        response: The left side; `Coded.levels` where it is a category.
        columns: The design matrix's columns.
        variables: Every variable read.
    """

    text: str
    response: Coded
    columns: tuple[Column, ...]
    variables: frozenset[str]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

    @property
    def intercept(self) -> bool:
        """Whether the first column is of ones."""
        return not self.columns[0].parts

    @cached_property
    def categories(self) -> tuple[Coded, ...]:
        """One factor for each category on the right side."""
        parts = [part for column in self.columns for part in column.parts]
        return tuple({f.variable: f for f, level in parts if level is not None}.values())

    @cached_property
    def levels(self) -> tuple[tuple[Coded, str], ...]:
        """Each of their levels."""
        return tuple((f, level) for f in self.categories for level in f.levels or ())


def variables_of(formula: str) -> frozenset[str]:
    """The names that a formula reads.

    Raises:
        InputError: ``bad-formula``.
    """
    left, terms, _ = _read(formula)
    return left.names.union(*(factor.names for term in terms for factor in term))


def parse(formula: str, variables: Mapping[str, Variable]) -> Parsed:
    """Read a formula and lay out its columns.

    Raises:
        InputError: ``bad-formula``; ``not-found`` for a variable that is not among `variables`.
    """
    left, terms, intercept = _read(formula)
    right = frozenset[str]().union(*(factor.names for term in terms for factor in term))
    names = left.names | right
    for name in sorted(left.names & right):
        raise InputError("bad-formula", f"{name} is on both sides of the formula.")
    for name in sorted(names - set(variables)):
        raise InputError("not-found", f"There is no variable {name!r} here.", variable=name)
    columns = [Column("Intercept", ())] if intercept else []
    used: dict[frozenset[str], set[frozenset[str]]] = {}
    if intercept:
        used[frozenset()] = {frozenset()}
    for term in terms:
        factors = [_code(factor, variables) for factor in term]
        numbers = [f.form.degree for f, c in zip(term, factors, strict=True) if c.levels is None]
        if sum(numbers) > MAX_DEGREE:
            raise InputError(
                "bad-formula", f"The powers in a term are together at most {MAX_DEGREE}."
            )
        columns += code_term(factors, used)
        if len(columns) > MAX_COLUMNS:
            raise InputError("bad-formula", f"The formula has more than {MAX_COLUMNS} columns.")
    if not columns:
        raise InputError("bad-formula", "The formula has no terms on its right side.")
    return Parsed(formula, _code(left, variables), tuple(columns), names)


def design(table: Table, parsed: Parsed) -> tuple[Floats, tuple[str, ...]]:
    """The design matrix.

    Args:
        table: Has the formula's variables with the levels it was parsed with.
        parsed: See `parse`.

    Returns:
        float64, shape (n_rows, n_columns), with NaN where a person lacks a value; and the names.

    Raises:
        InputError: ``bad-input`` where a transformation is not finite; names the term, no value.
    """
    out = np.ones((table.n_rows, len(parsed.columns)), order="F")
    cache: dict[tuple[str, int | None], Floats] = {}
    for at, column in enumerate(parsed.columns):
        for factor, level in column.parts:
            key = (factor.text, level)
            if key not in cache:
                values = cache.setdefault((factor.text, None), values_of(factor, table))
                cache[key] = values if level is None else _marks(values, level)
            out[:, at] *= cache[key]
    return out, parsed.names


def _marks(codes: Floats, level: int) -> Floats:
    """1 for the persons at a level, 0 for others, NaN where missing."""
    marks = np.asarray(codes == level, dtype=np.float64)
    missing = np.isnan(codes)
    if missing.any():
        marks[missing] = np.nan
    return marks


def values_of(factor: Coded, table: Table) -> Floats:
    """A factor's values, shape (n_rows,); level codes for a category; NaN where missing.

    Raises:
        InputError: ``bad-input`` where a transformation is not finite.
    """
    if factor.levels is not None:
        codes = table.columns[table.variable(factor.variable).name]
        return np.where(codes < 0, np.nan, codes) if codes.dtype.kind == "i" else codes
    columns = {name: table.columns[table.variable(name).name] for name in factor.names}
    if isinstance(factor.node, ast.Name):
        return np.asarray(columns[factor.node.id], dtype=np.float64)
    values = evaluate(factor.node, columns)
    present = ~np.isnan(np.sum([*columns.values()], axis=0))
    if not np.all(np.isfinite(values[present])):
        raise InputError(
            "bad-input",
            f"{factor.text} is not a finite number for some persons at a site; "
            "transform the variable differently.",
            term=factor.text,
        )
    return values


def complete(table: Table, parsed: Parsed) -> npt.NDArray[np.bool_]:
    """Which persons have a value of every variable of the formula; shape (n_rows,)."""
    rows = np.ones(table.n_rows, dtype=np.bool_)
    for name in sorted(parsed.variables):
        rows &= table.present(name)
    return rows


def _code(factor: Expression, variables: Mapping[str, Variable]) -> Coded:
    if factor.category is not None:
        variable = variables[factor.category]
        levels = _levels(variable)
        if factor.reference is not None and factor.reference not in levels:
            raise InputError(
                "bad-formula",
                f"{variable.name} has no level {factor.reference[:80]!r}; it has "
                f"{', '.join(levels[:20])}.",
            )
        reference = 0 if factor.reference is None else levels.index(factor.reference)
        return Coded(factor.text, factor.node, factor.names, levels, reference, variable.name)
    if isinstance(factor.node, ast.Name):
        variable = variables[factor.node.id]
        if variable.type is VariableType.CATEGORY:
            return Coded(factor.text, factor.node, factor.names, variable.levels, 0, variable.name)
    for name in sorted(factor.names):
        if variables[name].type not in NUMERIC:
            raise InputError(
                "bad-formula", f"{name} is {variables[name].type}: it cannot be a number here."
            )
    return Coded(factor.text, factor.node, factor.names, None, 0, "")


def _levels(variable: Variable) -> tuple[str, ...]:
    if variable.type is VariableType.BOOLEAN:
        return ("False", "True")
    if variable.levels is None:
        raise InputError(
            "bad-formula",
            f"C({variable.name}) needs declared levels: make {variable.name} a category in the "
            "study, since its values may differ from site to site.",
        )
    return variable.levels


@lru_cache(maxsize=128)
def _read(formula: str) -> tuple[Expression, Terms, bool]:
    """The response, the terms by degree without the intercept, and whether it has one."""
    _check_text(formula)
    # Imported here: formulaic brings pandas and scipy, which a node at rest does not need.
    from formulaic.errors import FormulaicError
    from formulaic.parser import DefaultFormulaParser

    try:
        tree = DefaultFormulaParser().get_ast(formula)
        _count_terms(tree)
        sides = tree.to_terms()
        left, right = list(sides.lhs), list(sides.rhs)
    except InputError:
        raise
    except (
        FormulaicError,
        SyntaxError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        RecursionError,
        MemoryError,
    ) as error:
        raise InputError(
            "bad-formula", "The formula is not understood; write it as outcome ~ a + b * c."
        ) from error
    if len(left) != 1 or len(left[0].factors) != 1:
        raise InputError("bad-formula", "The formula needs exactly one outcome left of ~.")
    factors: dict[str, Expression] = {}

    def read(factor: Any) -> Expression:
        if factor.expr not in factors:
            factors[factor.expr] = check(factor.expr, str(factor.eval_method.value))
        return factors[factor.expr]

    response = read(left[0].factors[0])
    terms: list[tuple[Expression, ...]] = []
    intercept = False
    for term in right:
        if [factor.expr for factor in term.factors] == ["1"]:
            intercept = True
        else:
            terms.append(tuple(read(factor) for factor in term.factors))
    return response, tuple(sorted(terms, key=len)), intercept


def _check_text(formula: str) -> None:
    if len(formula) > MAX_CHARACTERS:
        raise InputError("bad-formula", f"The formula is longer than {MAX_CHARACTERS} characters.")
    if not formula.rpartition("~")[2].strip():
        raise InputError(
            "bad-formula",
            "Nothing stands right of ~: name terms, as outcome ~ age + sex, or 1 for a mean alone.",
        )
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", formula)
    if not formula.isprintable() or re.search(r"[`;\\@\[\]]", bare):
        raise InputError("bad-formula", "The formula has a character that is not allowed in it.")
    depth = deepest = 0
    for character in formula:
        depth += (character in "({") - (character in ")}")
        deepest = max(deepest, depth)
    if deepest > MAX_BRACKETS:
        raise InputError("bad-formula", f"More than {MAX_BRACKETS} brackets are nested.")


def _count_terms(node: Any, depth: int = 0) -> int:
    """An upper bound of the terms that a formula stands for, before any is made."""
    if depth > _MAX_DEPTH:
        raise InputError("bad-formula", "The formula is nested too deeply.")
    if not hasattr(node, "operator"):
        return 1
    sign = str(node.operator)
    parts: list[int] = [_count_terms(argument, depth + 1) for argument in node.args]
    if sign in {"**", "^"}:
        power = str(node.args[1]) if len(node.args) == 2 else ""
        if not re.fullmatch(r"[1-9]", power):
            raise InputError("bad-formula", "A power of terms is a number from 1 to 9.")
        size = int(parts[0] ** int(power))
    elif sign in {"*", ":", "in"} and len(parts) == 2:
        size = parts[0] * parts[1] + parts[0] + parts[1]
    elif sign in {"+", "-", "/", "~"}:
        size = sum(parts)
    else:
        raise InputError("bad-formula", f"The operator {sign[:10]!r} is not used in formulas here.")
    if size > MAX_TERMS:
        raise InputError("bad-formula", f"The formula stands for more than {MAX_TERMS} terms.")
    return size
