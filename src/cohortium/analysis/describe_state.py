"""What `stats.describe` knows between rounds, and how it travels to the sites.

Everything in it is a total that may be released: what disclosure control withholds is zeroed (or
NaN) before the state is made, since every site reads the state.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis import search_state
from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import FieldSpec, Scope
from cohortium.analysis.quantiles import BINS, Found, Search
from cohortium.analysis.untrusted import floats, ints, phase_of
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import Layout, State
from cohortium.errors import InputError

Phase = Literal["counts", "counts+sums", "sums", "squares", "shape", "search"]
PHASES: tuple[Phase, ...] = ("counts", "counts+sums", "sums", "squares", "shape", "search")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """Which cells a description has, from parameters and dictionary alone.

    Attributes:
        names: Every described variable; shape axis V.
        measured: Indexes into `names` of those with an order (not categories); shape axis M.
        categories: Indexes into `names` of the categories.
        groups: Of the grouping variable, or everybody; shape axis G.
        level_at: Where each category's counts begin on the axis L, and at last its length.
    """

    variables: tuple[Variable, ...]
    measured: tuple[int, ...]
    categories: tuple[int, ...]
    groups: Groups
    level_at: tuple[int, ...]

    @staticmethod
    def of(names: tuple[str, ...], by: str | None, scope: Scope) -> Plan:
        """Check names and types.

        Raises:
            InputError: ``not-found``, or ``bad-input`` for free text or an unsuitable `by`.
        """
        variables = tuple(scope.variable(name) for name in names)
        for variable in variables:
            if variable.type is VariableType.TEXT:
                raise InputError(
                    "bad-input", f"{variable.name} is free text and cannot be described."
                )
        categories = tuple(i for i, v in enumerate(variables) if v.type is VariableType.CATEGORY)
        sizes = [len(variables[i].levels or ()) for i in categories]
        for i, size in zip(categories, sizes, strict=True):
            scope.disclosure.require_levels(variables[i].name, size)
        return Plan(
            variables=variables,
            measured=tuple(i for i in range(len(variables)) if i not in categories),
            categories=categories,
            groups=Groups.of(scope, by),
            level_at=tuple(int(at) for at in np.cumsum([0, *sizes])),
        )


@dataclass(frozen=True)
class Knowledge:
    """The totals so far; axes G, V, M, L as in `Plan`.

    Attributes:
        group_status: (G,); a `Release` each.
        status: (G, V); a `Release` each.
        persons: (G,); persons in groups that are open.
        sites: (G,); sites that contribute to the group.
        present: (G, V); persons with a value.
        missing: (G, V); persons without.
        levels: (G, L); persons at each level, -1 where withheld.
        mean: (G, M); NaN where withheld.
        squares: (G, M); sum of squared distances from the mean.
        powers: (G, M, 2); sums of third and fourth powers of standardised distances.
        scale: (G, M); grid cells per unit.
    """

    phase: Phase
    group_status: Ints
    status: Ints
    persons: Ints
    sites: Ints
    present: Ints
    missing: Ints
    levels: Ints
    mean: Floats
    squares: Floats
    powers: Floats
    scale: Floats
    searches: tuple[Search, ...] = field(default=())
    found: tuple[Found, ...] = field(default=())

    @staticmethod
    def nothing(plan: Plan, phase: Phase) -> Knowledge:
        """Before the first round."""
        arrays: dict[str, Any] = {
            name: np.zeros(shape, dtype=dtype) for name, (shape, dtype) in _shapes(plan).items()
        }
        return Knowledge(phase=phase, **arrays)

    def sd(self, plan: Plan) -> Floats:
        """Standard deviations with divisor n, shape (G, M); 0 where unknown or without spread."""
        n = self.present[:, plan.measured]
        rounding = n * (4 * np.finfo(np.float64).eps * np.abs(self.mean)) ** 2
        spread = (n > 0) & (self.squares > rounding)
        return np.sqrt(np.where(spread, self.squares, 0.0) / np.maximum(n, 1))

    def to_state(self) -> State:
        """As the hub sends it."""
        arrays = {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            if entry.name not in {"phase", "searches", "found"}
        }
        arrays |= search_state.to_arrays(self.searches, self.found)
        return State(values={"phase": self.phase}, arrays=arrays)

    @staticmethod
    def from_state(state: State, plan: Plan) -> Knowledge:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        phase = next(p for p in PHASES if p == phase_of(state, PHASES))
        arrays: dict[str, Any] = {
            name: (ints if dtype is np.int64 else floats)(state, name, shape)
            for name, (shape, dtype) in _shapes(plan).items()
        }
        searches, found = search_state.from_state(state, len(plan.groups), len(plan.measured))
        return Knowledge(
            phase=phase,
            searches=searches,
            found=found,
            **arrays,
        )

    def layout(self) -> Layout:
        """The fields of this phase's contribution."""
        of: dict[str, FieldSpec] = {}
        if self.phase in {"counts", "counts+sums"}:
            of["persons"] = of["sites"] = FieldSpec(self.persons.shape, "count")
            of["present"] = of["missing"] = FieldSpec(self.present.shape, "count")
        if self.phase in {"sums", "counts+sums"}:
            of["sum"] = FieldSpec(self.mean.shape, "real")
            of["levels"] = FieldSpec(self.levels.shape, "count")
        if self.phase == "squares":
            of["residual"] = of["squares"] = FieldSpec(self.mean.shape, "real")
        if self.phase == "shape":
            of["powers"] = FieldSpec(self.powers.shape, "real")
        if self.phase in {"shape", "search"}:
            of["histogram"] = FieldSpec((len(self.searches), BINS + 1), "count")
        return {name: spec for name, spec in of.items() if spec.size}

    def but(self, **changes: object) -> Knowledge:
        """With some totals replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]


def _shapes(plan: Plan) -> dict[str, tuple[tuple[int, ...], type]]:
    g, v, m = len(plan.groups), len(plan.variables), len(plan.measured)
    return {
        "group_status": ((g,), np.int64),
        "status": ((g, v), np.int64),
        "persons": ((g,), np.int64),
        "sites": ((g,), np.int64),
        "present": ((g, v), np.int64),
        "missing": ((g, v), np.int64),
        "levels": ((g, plan.level_at[-1]), np.int64),
        "mean": ((g, m), np.float64),
        "squares": ((g, m), np.float64),
        "powers": ((g, m, 2), np.float64),
        "scale": ((g, m), np.float64),
    }
