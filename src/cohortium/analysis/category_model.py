"""What a model of a category asks for, bound to the study's variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import MAX_COLUMNS, Parsed, parse
from cohortium.analysis.grouped import levels_of
from cohortium.analysis.interface import FieldSpec, Scope
from cohortium.analysis.marks import n_marks
from cohortium.core.dictionary import VariableType
from cohortium.core.rounds import Layout
from cohortium.core.table import Table
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """A model of a category; p columns, K levels, q coefficients.

    Attributes:
        formula: As asked.
        parsed: Its columns; without an intercept where the levels have thresholds.
        levels: Of the outcome, in the model's order.
        places: int64, shape (K,); the place in that order of each code of the outcome.
        q: Coefficients.
    """

    formula: str
    parsed: Parsed
    levels: tuple[str, ...]
    places: Ints
    q: int

    @staticmethod
    def of(
        formula: str, scope: Scope, *, first: str | None, order: Sequence[str] | None, steps: bool
    ) -> Model:
        """Bind a request.

        Args:
            first: The level that comes first; None: as declared.
            order: All levels in order; None: as declared.
            steps: Whether the levels have thresholds, and one coefficient a column.

        Raises:
            InputError: ``bad-formula``, ``bad-input``, ``not-found``.
            PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
        """
        scope.disclosure.require_exact()
        parsed = parse(formula, scope.variables)
        declared = _levels(parsed, scope)
        levels = _in_order(declared, first, order, parsed.response.text)
        if not parsed.intercept:
            raise InputError("bad-formula", "A model of a category has its intercept.")
        p, k = len(parsed.columns), len(levels)
        if steps:
            if p < 2:
                raise InputError(
                    "bad-formula", "An ordinal model has a term at least: stage ~ age + sex."
                )
            parsed = replace(parsed, columns=parsed.columns[1:])
        q = p - 1 + k - 1 if steps else p * (k - 1)
        if p * (k - 1) > MAX_COLUMNS:
            raise InputError(
                "bad-formula", f"These are more than {MAX_COLUMNS} coefficients over all levels."
            )
        places = np.array([levels.index(level) for level in declared], dtype=np.int64)
        return Model(formula, parsed, levels, places, q)

    @property
    def p(self) -> int:
        """Columns."""
        return len(self.parsed.columns)

    @property
    def k(self) -> int:
        """Levels of the outcome."""
        return len(self.levels)

    @property
    def outcome(self) -> str:
        """The category."""
        return self.parsed.response.text

    def outcomes(self, table: Table) -> Ints:
        """Each person's level by its place in the model's order, shape (n_rows,).

        Args:
            table: Of persons with a value of every variable.
        """
        return np.asarray(self.places[table.columns[self.outcome].astype(np.int64)])

    def counts_layout(self, phase: str) -> Layout:
        """The fields of the phases that count and look at the columns."""
        of: dict[str, FieldSpec] = {}
        if phase in {"counts", "counts+moments"}:
            of["persons"] = FieldSpec((3,), "count")
        if phase in {"moments", "counts+moments"}:
            of["columns"] = FieldSpec((self.p,), "real")
            of["squares"] = FieldSpec((self.p,), "real")
            of["outcomes"] = FieldSpec((self.k,), "count")
            marks = n_marks(self.parsed)
            of["marks"] = FieldSpec((marks * (marks + 1) // 2,), "count")
            if self.parsed.levels:
                of["levels"] = FieldSpec((len(self.parsed.levels),), "count")
        return of


def _levels(parsed: Parsed, scope: Scope) -> tuple[str, ...]:
    response = parsed.response
    names = sorted(response.names)
    if response.text != names[0]:
        raise InputError(
            "bad-input", f"The outcome of this model is a variable, not {response.text}."
        )
    variable = scope.variable(names[0])
    if variable.type is not VariableType.CATEGORY:
        raise InputError(
            "bad-input",
            f"{variable.name} is {variable.type}; this model's outcome is a category of three "
            "levels or more. Use study.glm, or derive a category with CASE or cut.",
        )
    levels = levels_of(variable)
    if len(levels) < 3:
        raise InputError(
            "bad-input",
            f"{variable.name} has {len(levels)} levels; of two, use study.glm(formula).",
        )
    return levels


def _in_order(
    declared: tuple[str, ...], first: str | None, order: Sequence[str] | None, name: str
) -> tuple[str, ...]:
    has = f"{name} has the levels {', '.join(declared[:20])}"
    if first is not None:
        if first not in declared:
            raise InputError("bad-input", f"{has}, and none called {first[:80]!r}.")
        return (first, *(level for level in declared if level != first))
    if order is None:
        return declared
    if len(order) != len(declared) or set(order) != set(declared):
        raise InputError("bad-input", f"{has}: name each of them once, from low to high.")
    return tuple(order)
