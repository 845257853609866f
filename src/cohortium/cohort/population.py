"""Who a computation is about, and the variables that are made for it: contract and request as one.

A criterion of `include` keeps the persons for whom it is true, one of `exclude` removes those for
whom it is true; where a criterion is NULL of a person, it is neither.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cohortium.cohort.check import check, check_criterion
from cohortium.cohort.evaluate import Evaluation
from cohortium.cohort.filling import column_value, fill
from cohortium.cohort.syntax import Expr
from cohortium.core.canonical import digest
from cohortium.core.dictionary import Variable
from cohortium.core.selection import Derived, Selection
from cohortium.core.table import Table
from cohortium.errors import InputError

_COMMUTE = frozenset({"iff", "+", "*", "same"})


@dataclass(frozen=True)
class Population:
    """The persons and variables of a run.

    Attributes:
        include: Conditions that are true of each person.
        exclude: Conditions that are true of none.
        derivations: Expressions of the derived variables, each over earlier ones.
        variables: Those of the dataset and the derived ones.
        asked: The derived variables of the request.
        gaps: Booleans that say of whom a derived variable has no value; see `cohort.choice`.
        fills: What stands in a column where it has no value, by variable.
    """

    include: tuple[Expr, ...]
    exclude: tuple[Expr, ...]
    derivations: Mapping[str, Expr]
    variables: Mapping[str, Variable]
    asked: frozenset[str] = frozenset()
    gaps: frozenset[str] = frozenset()
    fills: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, base: Selection, asked: Selection | None, variables: Mapping[str, Variable]
    ) -> Population:
        """Read what a contract says (`base`) and what a request adds to it.

        Raises:
            InputError: ``bad-criterion``.
        """
        parts = [base] if asked is None else [base, asked]
        known, derivations = dict(variables), dict[str, Expr]()
        for one in (derived for part in parts for derived in part.derived):
            variable, expr = derive_variable(one, known)
            known[one.name], derivations[one.name] = variable, expr
        include = [c for part in parts for c in part.include]
        exclude = [c for part in parts for c in part.exclude]
        return cls(
            tuple(check_criterion(text, known) for text in include),
            tuple(check_criterion(text, known) for text in exclude),
            derivations,
            known,
            frozenset() if asked is None else frozenset(one.name for one in asked.derived),
            fills={
                one.variable: column_value(one, known)
                for one in (() if asked is None else asked.filled or ())
            },
        )

    @property
    def is_everybody(self) -> bool:
        """Whether there are no criteria."""
        return not self.include and not self.exclude

    @cached_property
    def reads(self) -> frozenset[str]:
        """The dataset's variables that the criteria read, through derived ones too."""
        return self.reads_for(v for expr in (*self.include, *self.exclude) for v in expr.reads)

    def reads_for(self, names: Iterable[str]) -> frozenset[str]:
        """The dataset's variables that these variables are, or are derived from."""
        return self._sources(names, ())

    def reads_beyond(self, name: str, permitted: Collection[str]) -> frozenset[str]:
        """`reads_for`, but nothing of what is permitted, or derived from it alone."""
        return self._sources((name,), permitted)

    def _sources(self, names: Iterable[str], known: Collection[str]) -> frozenset[str]:
        found, pending, seen = set(), list(names), set(known)
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self.derivations:
                pending += self.derivations[name].reads
            else:
                found.add(name)
        return frozenset(found)

    def derive(self, table: Table) -> Table:
        """The table with every derived variable whose sources it has."""
        variables, columns = dict(table.variables), dict(table.columns)
        for name, expr in self.derivations.items():
            if name not in columns and expr.reads <= set(columns):
                columns[name] = Evaluation(Table(variables, columns)).column(expr)
                variables[name] = self.variables[name]
        return Table(variables, columns)

    def rows(self, table: Table) -> npt.NDArray[np.bool_]:
        """Which persons of a derived table are in; shape (n_rows,)."""
        rows = np.ones(table.n_rows, dtype=np.bool_)
        evaluation = Evaluation(table)
        for expr in self.include:
            rows &= evaluation.true(expr)
        for expr in self.exclude:
            rows &= ~evaluation.true(expr)
        return rows

    def fill(self, table: Table, least: int) -> Table:
        """The persons with what stands for missing values; see `cohort.filling`.

        Args:
            table: Of the persons of the run.
            least: A site where fewer persons lack a variable leaves them without.

        Raises:
            PolicyRefusal: ``not-permitted`` for a value that is far from those of the site.
        """
        here = {name: value for name, value in self.fills.items() if name in table.columns}
        return fill(table, here, least) if here else table

    @cached_property
    def key(self) -> str:
        """``sha256:...``: the same for the same criteria and derivations however they are written:
        in another order, with other spaces, keywords in lower case.
        """
        derived = {name: self._form(expr) for name, expr in self.derivations.items()}
        filled = {
            name: [derived.get(name, ""), value] for name, value in sorted(self.fills.items())
        }
        more = {"filled": filled} if filled else {}
        return digest({"criteria": self._criteria, "derived": derived, **more})

    @cached_property
    def persons_key(self) -> str:
        """`key` without derived variables that no criterion reads, and whatever they are called."""
        return digest({"criteria": self._criteria})

    def meaning(self, name: str) -> str:
        """A digest of how a derived variable is computed, whatever it is called."""
        return self._form(self.derivations[name])

    @cached_property
    def _criteria(self) -> dict[str, list[str]]:
        include = {self._form(part) for expr in self.include for part in _parts(expr, "and")}
        exclude = {self._form(part) for expr in self.exclude for part in _parts(expr, "or")}
        return {"include": sorted(include), "exclude": sorted(exclude)}

    @cached_property
    def _derived_forms(self) -> dict[str, str]:
        return {}

    def _form(self, expr: Expr) -> str:
        """A digest of what an expression means; a derived variable means its expression."""
        value = expr.value
        if expr.op == "column" and value in self.derivations:
            name = str(value)
            if name not in self._derived_forms:
                self._derived_forms[name] = self._form(self.derivations[name])
            return self._derived_forms[name]
        if expr.op in {"and", "or"}:
            args = sorted({self._form(part) for part in _parts(expr, expr.op)})
        else:
            args = [self._form(arg) for arg in expr.args]
        if expr.op in _COMMUTE or (expr.op == "compare" and value in {"=", "<>"}):
            args.sort()
        return digest([expr.op, list(value) if isinstance(value, tuple) else value, *args])


def derive_variable(derived: Derived, variables: Mapping[str, Variable]) -> tuple[Variable, Expr]:
    """A derived variable's entry in the dictionary, and its expression.

    Raises:
        InputError: ``bad-criterion``; also where there is a variable of that name.
    """
    same = [name for name in variables if name.lower() == derived.name.lower()]
    if same:
        raise InputError(
            "bad-criterion", f"There is a variable {same[0]} already; choose another name."
        )
    expr = check(derived.expression, variables)
    if expr.type.kind is None:
        raise RuntimeError("an expression without a type")
    variable = Variable(
        name=derived.name,
        type=expr.type.kind,
        unit=expr.type.unit,
        levels=expr.type.levels,
        description=" ".join(derived.expression.split())[:1000],
    )
    return variable, expr


def _parts(expr: Expr, op: str) -> list[Expr]:
    """The operands of a chain of AND or of OR, bracketed or not."""
    if expr.op != op:
        return [expr]
    return [part for arg in expr.args for part in _parts(arg, op)]
