"""The joint distribution of variables by group, for statistics of ranks: its rounds.

    counts   persons of each group with every value that is needed
    sums     of values and of squares, which say where the values can lie; with the floor ``site``
             in the round of the counts
    cells    how many persons of each group are at each point of the grid

What the hub sees: the sums, and then how many persons of all sites together have which value, in
which group; a cell may hold a single person. It does not see at which site, nor which values of
several variables belong together. The finest cell is ``2**-20`` standard deviations wide, also of
a variable that is recorded more finely. What a node sees: how many persons there are in each
group, their mean and the mean of their squares, and where cells begin and end that follow from
these; of no cell whether anybody is in it. The researcher sees the result only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution_plan import MAX_ATTEMPTS, Cells, choose
from cohortium.analysis.grouped import Counted, Groups, parts
from cohortium.analysis.interface import FieldSpec, Scope
from cohortium.analysis.quantiles import recorded_scale
from cohortium.analysis.untrusted import floats, ints, length, phase_of
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import InputError, ProtocolError

Phase = Literal["counts", "counts+sums", "sums", "cells"]
PHASES: tuple[Phase, ...] = ("counts", "counts+sums", "sums", "cells")
MAX_ROUNDS = 2 + MAX_ATTEMPTS
MAX_PERSONS = 2**32

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distribution:
    """Persons by cell and group, of all sites together; shapes (C,) and (C, G).

    Attributes:
        cells: Those that hold somebody, ascending; cell ``c`` is the value ``c / scale``.
        counts: Persons of each group.
        scale: Cells per unit.
        exact: Whether two persons in a cell have the same recorded value.
    """

    cells: Ints
    counts: Ints
    scale: float
    exact: bool


class Marks(Protocol):
    """What tells persons of a group apart without making groups of them: an event, a stratum."""

    @property
    def names(self) -> tuple[str, ...]:
        """The variables of which a person needs a value."""
        ...

    def __len__(self) -> int: ...

    def codes(self, table: Table) -> Ints:
        """Each person's mark, shape (n_rows,), from 0; anything where a value is missing."""
        ...


@dataclass(frozen=True)
class Question:
    """Whose values of what are counted.

    Attributes:
        variables: A person has a value of each of them.
        groups: Axis G of the counts.
        among: Groups that are compared; empty: all.
        least: How many groups must be left.
        marks: Within the groups; each group then has as many columns in a distribution.
    """

    variables: tuple[Variable, ...]
    groups: Groups
    among: tuple[int, ...] = ()
    least: int = 2
    marks: Marks | None = None

    @staticmethod
    def of(
        scope: Scope,
        names: Sequence[str],
        by: str | None,
        levels: Sequence[str] | None = None,
        least: int = 2,
    ) -> Question:
        """Check names and types.

        Raises:
            InputError: ``not-found``, or ``bad-input`` for a variable without an order.
            PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
        """
        scope.disclosure.require_exact()
        variables = tuple(scope.variable(name) for name in names)
        for variable in variables:
            if variable.type in {VariableType.TEXT, VariableType.CATEGORY}:
                raise InputError(
                    "bad-input", f"{variable.name} is {variable.type}; ranks need an order."
                )
        groups = Groups.of(scope, by)
        known = {str(name): at for at, name in enumerate(groups.names)}
        unknown = [level for level in levels or () if level not in known]
        if unknown:
            raise InputError("bad-input", f"{by} has no level {unknown[0]!r}.")
        among = tuple(known[level] for level in levels or ())
        if len(set(among)) != len(among):
            raise InputError("bad-input", "A level is named twice.")
        return Question(variables, groups, among, least)

    @property
    def names(self) -> tuple[str, ...]:
        """The variables' names."""
        return tuple(variable.name for variable in self.variables)

    @property
    def complete(self) -> tuple[str, ...]:
        """The variables of which a person needs a value, beside those of the groups."""
        return (*self.names, *(() if self.marks is None else self.marks.names))

    @property
    def n_marks(self) -> int:
        """Columns of a group."""
        return 1 if self.marks is None else len(self.marks)


@dataclass(frozen=True)
class Known:
    """The totals so far.

    Attributes:
        held: Groups whose cells are counted, in the order of the result.
        plans: For each variable, in the phase ``cells``.
    """

    phase: Phase
    counted: Counted
    held: tuple[int, ...] = ()
    plans: tuple[Cells, ...] = field(default=())

    @staticmethod
    def start(question: Question, scope: Scope) -> Known:
        """Before the first round."""
        at_once = scope.disclosure.floor == "site"
        return Known("counts+sums" if at_once else "counts", Counted.nothing(question.groups))

    @property
    def n(self) -> int:
        """Persons in the groups that are held."""
        return int(self.counted.persons[list(self.held)].sum())

    def to_state(self) -> State:
        """As the hub sends it."""
        arrays = self.counted.to_arrays()
        arrays["held"] = np.array(self.held, dtype=np.int64)
        arrays["scale"] = np.array([plan.scale for plan in self.plans], dtype=np.float64)
        arrays["cells"] = np.array(
            [(p.lower, p.width, p.core, p.core_width, p.outside, p.attempt) for p in self.plans],
            dtype=np.int64,
        ).reshape(-1, 6)
        return State(values={"phase": self.phase}, arrays=arrays)

    @staticmethod
    def from_state(state: State, question: Question) -> Known:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        phase = next(p for p in PHASES if p == phase_of(state, PHASES))
        counted = Counted.from_state(state, question.groups)
        groups = len(question.groups)
        held = ints(state, "held", (length(state, "held", groups),)).tolist()
        if len(set(held)) != len(held) or not all(0 <= group < groups for group in held):
            raise ProtocolError("malformed-message", "The state names groups that cannot be.")
        if np.any(counted.persons < 0) or not 0 <= counted.n <= MAX_PERSONS:
            raise ProtocolError("malformed-message", "The state counts persons that cannot be.")
        known = Known(phase, counted, tuple(held))
        size = len(question.variables) if phase == "cells" else 0
        scale = floats(state, "scale", (size,)).tolist()
        rows = ints(state, "cells", (size, 6)).tolist()
        plans = tuple(Cells(one, *row) for one, row in zip(scale, rows, strict=True))
        for variable, plan in zip(question.variables, plans, strict=False):
            plan.check(variable, len(held) * question.n_marks, known.n)
        if phase == "cells" and not held:
            raise ProtocolError("malformed-message", "The state names no group.")
        return replace(known, plans=plans)

    def layout(self, question: Question) -> Layout:
        """The fields of this phase's contribution."""
        of: dict[str, FieldSpec] = {}
        if self.phase in {"counts", "counts+sums"}:
            of |= Counted.layout(question.groups)
        if self.phase in {"sums", "counts+sums"}:
            shape = (len(question.groups), len(question.variables), 2)
            of["sums"] = FieldSpec(shape, "real")
        columns = len(self.held) * question.n_marks
        for v, plan in enumerate(self.plans):
            sketch = plan.sketch(columns)
            if plan.core_width:
                of[f"core_{v}"] = FieldSpec((columns, plan.core_width), "count")
            if sketch is not None:
                of[f"outside_{v}"] = FieldSpec(sketch.shape, "count")
        return of

    def local(self, table: Table, question: Question, scope: Scope) -> dict[str, Array]:
        """One site's contribution."""
        out: dict[str, Array] = {
            name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
            for name, spec in self.layout(question).items()
        }
        columns = [table.columns[table.variable(name).name] for name in question.names]
        n_marks = question.n_marks
        outside: list[list[Ints]] = [[] for _ in columns]
        marks = None if question.marks is None else question.marks.codes(table)
        for group, rows in parts(
            table, question.groups, self.counted.status, scope, out=out, complete=question.complete
        ):
            if "sums" in out:
                for v, column in enumerate(columns):
                    values = column[rows]
                    out["sums"][group, v] = (values.sum(), np.square(values).sum())
            if self.plans and group in self.held:
                first = self.held.index(group) * n_marks
                here = slice(first, first + n_marks)
                among = None if marks is None else marks[rows]
                for v, column in enumerate(columns):
                    outside[v].append(self._count(out, here, v, column[rows], among))
        for v, plan in enumerate(self.plans):
            sketch = plan.sketch(len(self.held) * n_marks)
            keys = np.concatenate([*outside[v], np.empty(0, dtype=np.int64)])
            if sketch is not None and len(keys):
                out[f"outside_{v}"] = sketch.encode(keys)
        return out

    def _count(
        self, out: Contribution, here: slice, v: int, values: Floats, marks: Ints | None
    ) -> Ints:
        """Count what is in the core into the columns `here`; the keys of the others."""
        plan = self.plans[v]
        n_marks = here.stop - here.start
        columns = len(self.held) * n_marks
        places = plan.places(values)
        first = plan.core - plan.lower
        inside = (places >= first) & (places < first + plan.core_width)
        if plan.core_width:
            at = places[inside] - first
            if marks is not None:
                at += marks[inside] * plan.core_width
            counts = np.bincount(at, minlength=n_marks * plan.core_width)
            out[f"core_{v}"][here] = counts.reshape(n_marks, plan.core_width)
        column = here.start if marks is None else here.start + marks[~inside]
        return np.asarray(places[~inside] * columns + column)

    def advance(self, total: Total, question: Question, scope: Scope) -> Known | list[Distribution]:
        """What the totals say: the next round, or the distribution of each variable.

        Raises:
            PolicyRefusal: ``too-few-persons``, ``too-few-sites``.
            ProtocolError: ``malformed-message`` where the sites contradict themselves.
        """
        known = self
        if "persons" in total:
            counted = Counted.release(total, scope)
            held = counted.together(
                question.groups, scope, among=question.among, least=question.least
            )
            known = replace(self, counted=counted, held=held)
            if self.phase == "counts":
                return replace(known, phase="sums")
        if "sums" in total:
            sums = np.asarray(total["sums"])[list(known.held)].sum(axis=0).tolist()
            columns = len(known.held) * question.n_marks
            plans = tuple(
                choose(variable, known.n, one, squares, columns)
                for variable, (one, squares) in zip(question.variables, sums, strict=True)
            )
            return replace(known, phase="cells", plans=plans)
        found = [self._read(total, v, question) for v in range(len(self.plans))]
        missing = [v for v, one in enumerate(found) if one is None]
        if missing:
            if any(self.plans[v].attempt + 1 >= MAX_ATTEMPTS for v in missing):
                raise _contradiction()
            return replace(self, plans=tuple(plan.again() for plan in self.plans))
        return [one for one in found if one is not None]

    def _read(self, total: Total, v: int, question: Question) -> Distribution | None:
        """The distribution of a variable; None where the sketch does not say."""
        plan, columns = self.plans[v], len(self.held) * question.n_marks
        sketch = plan.sketch(columns)
        cells, counts = np.empty(0, dtype=np.int64), np.empty((0, columns), dtype=np.int64)
        if plan.core_width:
            core = np.asarray(total[f"core_{v}"], dtype=np.int64)
            at = np.flatnonzero(core.any(axis=0))
            cells, counts = at + plan.core, core.T[at]
        if sketch is not None:
            decoded = sketch.decode(np.asarray(total[f"outside_{v}"], dtype=np.int64))
            if decoded is None:
                return None
            keys, persons = decoded
            place, column = np.divmod(keys, columns)  # ascending, as the keys are
            first = np.diff(place, prepend=-1) > 0
            at = place[first]
            more = np.zeros((len(at), columns), dtype=np.int64)
            more[np.cumsum(first) - 1, column] = persons
            cells = np.concatenate([cells, at + plan.lower])
            counts = np.concatenate([counts, more])
            order = np.argsort(cells, kind="stable")
            cells, counts = cells[order], counts[order]
        expected = self.counted.persons[list(self.held)]
        found = counts.sum(axis=0).reshape(len(self.held), -1).sum(axis=1)
        if np.any(counts < 0) or not np.array_equal(found, expected):
            raise _contradiction()
        exact = plan.scale == recorded_scale(question.variables[v])
        return Distribution(cells, counts, plan.scale, exact)


def _contradiction() -> ProtocolError:
    return ProtocolError(
        "malformed-message",
        "The sites' counts contradict each other: data changed during the run, or a site sends "
        "what is not so. Run again.",
    )


def progress_of(known: Known) -> dict[str, Any]:
    """How far the rounds are, for `Continue`."""
    share = {"counts": 0.0, "counts+sums": 0.0, "sums": 0.3, "cells": 0.6}[known.phase]
    return {"progress": share, "message": {"sums": "sums"}.get(known.phase, "ranks")}
