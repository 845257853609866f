"""Times to an event over sites: how they are read, and who leaves the risk set when.

Time is a number from 0 on, of the unit in the dictionary, recorded on a grid (whole numbers, or the
declared decimals). The event is a boolean, 0 and 1, or a level of a category. A person without one
of both is left out. Who is censored at a time at which somebody has the event is at risk there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution import (
    MAX_ROUNDS,
    Distribution,
    Known,
    Question,
    progress_of,
)
from cohortium.analysis.events import event_codes
from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import Continue, Done, DropOuts, Params, Scope
from cohortium.core.dictionary import Label, Name, Variable, VariableType
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import InputError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_EVENTS = frozenset({VariableType.BOOLEAN, VariableType.INTEGER, VariableType.REAL})
_TIMES = frozenset({VariableType.INTEGER, VariableType.REAL})


@dataclass(frozen=True)
class Endpoint:
    """What happens to a person, and when: 0 censored, then the causes.

    Attributes:
        causes: What the events are called; one, unless they compete.
        code: Of a category: the mark of each of its levels.
    """

    time: Variable
    event: Variable
    causes: tuple[str, ...]
    code: tuple[int, ...] = ()

    @staticmethod
    def of(scope: Scope, time: str, event: str, level: str | None = None) -> Endpoint:
        """One event.

        Args:
            level: Of a category: the level that is the event; all others are censored.

        Raises:
            InputError: ``not-found``, ``bad-input``.
            PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
        """
        when, what = time_of(scope, time), scope.variable(event)
        if what.levels is not None:
            if level not in what.levels:
                raise InputError(
                    "bad-input",
                    f"{event} is a category: say which level is the event "
                    f"(event_level): {', '.join(what.levels)}.",
                )
            return Endpoint(when, what, (level,), tuple(int(one == level) for one in what.levels))
        if what.type not in _EVENTS:
            raise InputError(
                "bad-input",
                f"{event} is {what.type}; an event is a boolean, a number of 0 and 1, or a level "
                "of a category.",
            )
        if level is not None:
            raise InputError("bad-input", f"{event} has no levels; leave event_level out.")
        return Endpoint(when, what, (event,))

    @staticmethod
    def competing(scope: Scope, time: str, event: str, censored: str | None = None) -> Endpoint:
        """Events of which the first that comes ends the others.

        Args:
            event: A category; each level but `censored` (by default its first) is a cause.

        Raises:
            InputError: ``not-found``, ``bad-input``.
            PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
        """
        when, what = time_of(scope, time), scope.variable(event)
        if what.levels is None:
            raise InputError(
                "bad-input",
                f"{event} is {what.type}; causes that compete are levels of a category.",
            )
        none = what.levels[0] if censored is None else censored
        if none not in what.levels:
            raise InputError("bad-input", f"{event} has no level {none!r}.")
        causes = tuple(level for level in what.levels if level != none)
        if not causes:
            raise InputError("bad-input", f"{event} has no level but {none!r}.")
        code = tuple(0 if level == none else 1 + causes.index(level) for level in what.levels)
        return Endpoint(when, what, causes, code)

    @property
    def names(self) -> tuple[str, ...]:
        """Time and event: a person needs a value of both."""
        return (self.time.name, self.event.name)

    def __len__(self) -> int:
        """Ways to leave: censored, and each cause."""
        return 1 + len(self.causes)

    def present(self, table: Table) -> npt.NDArray[np.bool_]:
        """Who has a time and an event, shape (n_rows,)."""
        return table.present(self.time.name) & table.present(self.event.name)

    def times(self, table: Table) -> Floats:
        """Each person's time; NaN where it is missing.

        Raises:
            InputError: ``bad-input`` where one is below 0.
        """
        column = np.asarray(table.columns[table.variable(self.time.name).name], dtype=np.float64)
        if np.any(column < 0):
            raise InputError(
                "bad-input",
                f"{self.time.name} has values below 0 at a site.",
                variable=self.time.name,
            )
        return column

    def codes(self, table: Table) -> Ints:
        """How each person leaves: 0 censored, then the causes; 0 also where it is missing.

        Raises:
            InputError: ``bad-input`` for a number other than 0 and 1, or a time below 0.
        """
        self.times(table)
        return event_codes(table, self.event.name, self.code)

    def to_json(self) -> dict[str, Any]:
        """For a result: time, its unit, event."""
        shown = self.event.name
        if self.code and len(self.causes) == 1:
            shown = f"{shown} = {self.causes[0]}"
        return {"time": self.time.name, "unit": self.time.unit, "event": shown}


def time_of(scope: Scope, name: str) -> Variable:
    """A variable that is a time.

    Raises:
        InputError: ``not-found``, ``bad-input``.
        PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
    """
    scope.disclosure.require_exact()  # a curve and a test say how many persons there are
    variable = scope.variable(name)
    if variable.type not in _TIMES:
        raise InputError(
            "bad-input",
            f"{name} is {variable.type}; a time is a number from 0 on. Derive it from two dates.",
        )
    return variable


@dataclass(frozen=True)
class Strata:
    """Marks of persons by endpoint in each of some strata."""

    endpoint: Endpoint
    groups: Groups

    @property
    def names(self) -> tuple[str, ...]:
        """Time, event and what makes the strata."""
        return (*self.endpoint.names, *(variable.name for variable in self.groups.by))

    def __len__(self) -> int:
        return len(self.groups) * len(self.endpoint)

    def codes(self, table: Table) -> Ints:
        """Stratum by stratum; anything where one is missing."""
        stratum = np.maximum(self.groups.codes(table), 0).astype(np.int64)
        return np.asarray(stratum * len(self.endpoint) + self.endpoint.codes(table))


@dataclass(frozen=True)
class Leaving:
    """How many persons leave the risk set when; ascending times.

    Attributes:
        times: (T,); those at which somebody leaves.
        counts: (T, G, 1 + causes); censored, then each cause.
        entered: (T, G); persons who came under observation before the time; None: all were there
            from the beginning.
    """

    times: Floats
    counts: Ints
    exact: bool = field(default=True)
    entered: Ints | None = None

    @staticmethod
    def of(found: Distribution, ways: int, entries: Distribution | None = None) -> Leaving:
        """From a joint distribution whose columns are groups by ways to leave.

        Args:
            entries: That of the times at which persons came under observation.
        """
        cells, columns = found.counts.shape
        counts = found.counts.reshape(cells, columns // ways, ways)
        times = found.cells / found.scale
        if entries is None:
            return Leaving(times, counts, found.exact)
        by_group = entries.counts.reshape(len(entries.cells), columns // ways, ways).sum(axis=2)
        running = np.concatenate(
            [np.zeros((1, columns // ways), np.int64), by_group.cumsum(axis=0)]
        )
        before = np.searchsorted(entries.cells / entries.scale, times, side="left")
        exact = found.exact and (entries.exact or not entries.cells.any())
        return Leaving(times, counts, exact, running[before])

    @staticmethod
    def of_persons(
        times: Floats, codes: Ints, group: npt.NDArray[Any], shape: Sequence[int]
    ) -> Leaving:
        """From one site's persons, each in a group; shape is (groups, ways to leave)."""
        grid, at = np.unique(times, return_inverse=True)
        groups, ways = shape
        flat = (at * groups + group.astype(np.int64)) * ways + codes
        counts = np.bincount(flat, minlength=len(grid) * groups * ways)
        return Leaving(grid, counts.reshape(len(grid), groups, ways).astype(np.int64))

    @cached_property
    def events(self) -> Ints:
        """(T, G); of any cause."""
        return np.asarray(self.counts[:, :, 1:].sum(axis=2))

    @cached_property
    def at_risk(self) -> Ints:
        """(T, G); persons who are there and have not left before the time."""
        leaving = self.counts.sum(axis=2)
        later = np.asarray(leaving[::-1].cumsum(axis=0)[::-1])
        if self.entered is None:
            return later
        # Where times are told apart less finely than recorded, one may come and leave at once.
        return np.asarray(np.maximum(self.entered - (leaving.sum(axis=0) - later), leaving))

    def group(self, at: int) -> Leaving:
        """One group, at the times at which somebody of it leaves."""
        counts = self.counts[:, at : at + 1]
        some = counts.sum(axis=(1, 2)) > 0
        entered = None if self.entered is None else self.entered[some, at : at + 1]
        return Leaving(self.times[some], counts[some], self.exact, entered)


def partition_of(question: Question, event: str, scope: Scope) -> tuple[str, ...]:
    """What persons are told apart by: the groups, and the event where it is of levels."""
    names = [variable.name for variable in question.groups.by]
    variable = scope.variable(event)
    if variable.levels is not None or variable.type is VariableType.BOOLEAN:
        names.append(variable.name)
    return tuple(dict.fromkeys(names))


class SurvivalParams(Params):
    """What a computation on times to an event asks.

    Attributes:
        time: A number from 0 on.
        event: A boolean, 0 and 1, or a category.
        event_level: Of a category, the level that is the event.
    """

    time: Name
    event: Name
    event_level: Label | None = None

    def question(self, scope: Scope) -> Question:
        """Whose times are counted."""
        raise NotImplementedError


class SurvivalRounds:
    """The rounds in which the joint counts of persons by time, group and way to leave come."""

    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = MAX_ROUNDS

    def partition(self, params: Any, scope: Scope) -> tuple[str, ...]:
        """The groups, and who had which event in each."""
        return partition_of(params.question(scope), params.event, scope)

    def start(self, params: Any, scope: Scope) -> State:
        """Begin with counts, and with sums where each site guards its own floor."""
        return Known.start(params.question(scope), scope).to_state()

    def layout(self, state: State, params: Any, scope: Scope) -> Layout:
        """See `cohortium.analysis.distribution`."""
        question = params.question(scope)
        return Known.from_state(state, question).layout(question)

    def local(self, table: Table, state: State, params: Any, scope: Scope) -> Contribution:
        """See `cohortium.analysis.distribution`."""
        question = params.question(scope)
        return Known.from_state(state, question).local(table, question, scope)

    def column(
        self,
        field: str,  # noqa: ARG002 - the protocol's signature
        index: int,  # noqa: ARG002
        params: Any,
        scope: Scope,  # noqa: ARG002
    ) -> str:
        """The variable of a component of the sums; counts do not overflow."""
        name: str = params.time
        return name

    def finish(self, total: Total, state: State, params: Any, scope: Scope) -> Continue | Done:
        """Go on until it is known who leaves when, then compute."""
        question = params.question(scope)
        known = Known.from_state(state, question)
        next_one = known.advance(total, question, scope)
        if isinstance(next_one, Known):
            return Continue(next_one.to_state(), **progress_of(next_one))
        return Done(self.assess_all(next_one, known, params, scope))

    def assess_all(
        self, found: Sequence[Distribution], known: Known, params: Any, scope: Scope
    ) -> dict[str, Any]:
        """The result, where more than the times is counted."""
        return self.assess(found[0], known, params, scope)

    def assess(
        self, found: Distribution, known: Known, params: Any, scope: Scope
    ) -> dict[str, Any]:
        """The result, from persons of the groups that are held."""
        raise NotImplementedError
