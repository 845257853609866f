"""Persons in groups: who belongs where, how many they are, and which groups may be spoken of.

A site with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its own persons;
with the floor ``total`` every site counts, and sums follow only for groups whose joint number is
known to be enough.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import FieldSpec, Scope
from cohortium.analysis.untrusted import ints
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import REASONS, Release, suppress
from cohortium.errors import InputError, PolicyRefusal

MAX_GROUPS = 10_000

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64] | slice


@dataclass(frozen=True)
class Groups:
    """The levels of one variable, the crossed levels of several, or everybody; axis G.

    Attributes:
        by: The grouping variables; none: everybody is one group.
        levels: The levels of each.
    """

    by: tuple[Variable, ...]
    levels: tuple[tuple[str, ...], ...]

    @staticmethod
    def of(scope: Scope, *by: str | None) -> Groups:
        """Check names and types; None among the names is left out.

        Raises:
            InputError: ``not-found``, or ``bad-input`` for a variable without declared levels or
                too many groups.
        """
        variables = tuple(scope.variable(name) for name in by if name is not None)
        groups = Groups(variables, tuple(levels_of(variable) for variable in variables))
        for variable, levels in zip(groups.by, groups.levels, strict=True):
            scope.disclosure.require_levels(variable.name, len(levels))
        if len(groups) > MAX_GROUPS:
            raise InputError("bad-input", f"These are {len(groups)} groups: too many at once.")
        return groups

    def __len__(self) -> int:
        return math.prod(map(len, self.levels))

    @cached_property
    def names(self) -> tuple[str | None, ...]:
        """What each group is called: its level, its levels with commas, or None for everybody."""
        if not self.by:
            return (None,)
        return tuple(", ".join(levels) for levels in itertools.product(*self.levels))

    def where(self, group: int) -> str:
        """The group in words: ``sex = f``."""
        if not self.by:
            return "everybody"
        levels = list(itertools.product(*self.levels))[group]
        return ", ".join(f"{v.name} = {one}" for v, one in zip(self.by, levels, strict=True))

    def codes(self, table: Table, complete: Sequence[str] = ()) -> Codes:
        """Each person's group, shape (n_rows,); -1 for those in none.

        Args:
            complete: Variables of which a person must have a value to be in a group.
        """
        code = np.zeros(table.n_rows, dtype=np.int32)
        inside = np.ones(table.n_rows, dtype=np.bool_)
        for variable, levels in zip(self.by, self.levels, strict=True):
            column = table.columns[table.variable(variable.name).name]
            here = np.where(table.present(variable.name), column, -1).astype(np.int32)
            inside &= (here >= 0) & (here < len(levels))
            code = code * np.int32(len(levels)) + here
        for name in complete:
            inside &= table.present(name)
        return np.where(inside, code, np.int32(-1))

    def rows(self, table: Table, complete: Sequence[str] = ()) -> list[Rows]:
        """Row indexes of each group at a site, in the table's order."""
        if not self.by and not complete:
            return [slice(None)]
        codes = self.codes(table, complete)
        if len(self) < 2**15:
            order = np.argsort(codes.astype(np.int16), kind="stable")  # a radix sort
        else:
            order = np.argsort(codes, kind="stable")
        edges = np.searchsorted(codes[order], np.arange(len(self) + 1))
        return [order[a:b] for a, b in itertools.pairwise(edges)]


def levels_of(variable: Variable) -> tuple[str, ...]:
    """The levels that a variable groups by, in the order of its codes; InputError where none."""
    if variable.type is VariableType.BOOLEAN:
        return ("false", "true")
    if variable.levels is None:
        raise InputError(
            "bad-input",
            f"{variable.name} is {variable.type}; group by a category or a boolean "
            "(declare its levels in the study to make it a category, with co.local name it in "
            "`categories`; or derive one with CASE or cut).",
        )
    return variable.levels


def own_floor(scope: Scope) -> int:
    """Of how many of its own persons in a group a site needs to speak of the group."""
    return scope.disclosure.min_cell if scope.disclosure.floor == "site" else 1


def decide(persons: Ints, sites: Ints, scope: Scope) -> Ints:
    """A `Release` for each group, shape (G,), from its joint persons and contributing sites."""
    status = suppress(persons, scope.disclosure.min_cell)
    status[(status == Release.OPEN) & (sites > 0) & (sites < scope.least_sites)] = Release.ONE_SITE
    if scope.disclosure.floor == "site":
        # Nobody, or only sites below their own floor: it cannot be told, so it is not said.
        status[persons == 0] = Release.TOO_FEW
    return status


@dataclass(frozen=True)
class Counted:
    """What is known of the groups; nothing before the first round. All of it may be released.

    Attributes:
        status: (G,); a `Release` each.
        persons: (G,); persons with every value that is needed; 0 where the group is closed.
        sites: (G,); sites that contribute; 0 where the group is closed.
        left_out: (1,); persons of contributing sites who are in no group, or lack a value.
    """

    status: Ints
    persons: Ints
    sites: Ints
    left_out: Ints

    @staticmethod
    def nothing(groups: Groups) -> Counted:
        """Before the first round."""
        zeros = np.zeros(len(groups), dtype=np.int64)
        return Counted(zeros, zeros, zeros, np.zeros(1, dtype=np.int64))

    @staticmethod
    def layout(groups: Groups) -> Layout:
        """The fields of the round that counts."""
        each = FieldSpec((len(groups),), "count")
        return {"persons": each, "sites": each, "left_out": FieldSpec((1,), "count")}

    @staticmethod
    def release(total: Total, scope: Scope) -> Counted:
        """Decide from the joint counts."""
        persons = np.asarray(total["persons"], dtype=np.int64)
        sites = np.asarray(total["sites"], dtype=np.int64)
        status = decide(persons, sites, scope)
        is_open = status == Release.OPEN
        return Counted(
            status,
            np.where(is_open, persons, 0),
            np.where(is_open, sites, 0),
            np.asarray(total["left_out"], dtype=np.int64),
        )

    def to_arrays(self) -> dict[str, Array]:
        """For a state."""
        names = ("status", "persons", "sites", "left_out")
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def from_state(state: State, groups: Groups) -> Counted:
        """Read an untrusted state, or ProtocolError ``malformed-message``."""
        shape = (len(groups),)
        return Counted(
            ints(state, "status", shape),
            ints(state, "persons", shape),
            ints(state, "sites", shape),
            ints(state, "left_out", (1,)),
        )

    @property
    def n(self) -> int:
        """Persons in open groups."""
        return int(self.persons.sum())

    def unheard(self, groups: Groups) -> list[str]:
        """The groups in which nobody counts, one line each, for what a result leaves out."""
        why = "nobody, or too few persons at each institution"
        return [f"{groups.where(at)}: {why}" for at in np.flatnonzero(self.persons == 0).tolist()]

    def together(
        self, groups: Groups, scope: Scope, *, among: Sequence[int] = (), least: int = 2
    ) -> tuple[int, ...]:
        """The groups that are compared, each of which must be open; those of nobody are left out.

        Args:
            among: The groups that are asked about, none of which may be empty; none given: all.
                The others count too: a small one beside them must not follow from a total.
            least: How many groups the comparison needs.

        Raises:
            PolicyRefusal: ``too-few-persons``, ``too-few-sites``.
        """
        limits = scope.disclosure
        for at in among or range(len(groups)):
            status = int(self.status[at])
            if status == Release.ONE_SITE:
                raise PolicyRefusal(
                    "too-few-sites",
                    f"{groups.where(at)}: {REASONS[Release.ONE_SITE]}"
                    + (". Leave the level out." if groups.by else "; a joint test needs two."),
                )
            # With the floor ``site`` a group that nobody contributes to is TOO_FEW.
            nobody = status == Release.TOO_FEW and limits.floor == "site" and not among
            if status != Release.OPEN and not nobody:
                raise PolicyRefusal(
                    "too-few-persons",
                    f"{groups.where(at)}: {REASONS[Release(status)]} ({limits.min_cell})"
                    + (". Merge the level with another." if groups.by else "."),
                )
        asked = np.array(among or range(len(groups)), dtype=np.int64)
        held = tuple(asked[self.persons[asked] >= limits.min_cell].tolist())
        if len(held) < max(least, len(among)):
            raise PolicyRefusal(
                "too-few-persons",
                f"Fewer than {max(least, len(among))} groups hold {limits.min_cell} persons or "
                "more with every value that is needed."
                if groups.by
                else f"Fewer than {limits.min_cell} persons have every value that is needed.",
            )
        if self.persons[list(held)].sum() < limits.cohort:
            raise PolicyRefusal(
                "too-few-persons",
                f"Fewer than {limits.cohort} persons have every value that is needed.",
            )
        return held


def parts(
    table: Table,
    groups: Groups,
    status: Ints,
    scope: Scope,
    *,
    out: Contribution,
    complete: Sequence[str] = (),
) -> Iterator[tuple[int, Rows]]:
    """Count the site's persons into `out`, apply its floor, and give what it may sum over.

    Args:
        status: (G,); a `Release` each; a closed group is passed over.
        out: The contribution; its fields `persons`, `sites`, `left_out` are filled where present.
        complete: Variables of which a person must have a value.

    Yields:
        A group and the rows of its persons; a group without persons too.
    """
    floor = own_floor(scope)
    inside = 0
    heard = False
    for group, rows in enumerate(groups.rows(table, complete)):
        persons = table.n_rows if isinstance(rows, slice) else len(rows)
        inside += persons
        if status[group] != Release.OPEN or persons < floor:
            continue
        heard = heard or persons > 0
        if "persons" in out:
            out["persons"][group] = persons
            out["sites"][group] = 1 if persons else 0
        yield group, rows
    if heard and "left_out" in out:
        out["left_out"][0] = table.n_rows - inside
