"""Means and sums of squares of a number in groups, from two passes over the sites.

The first pass gives the joint means. The second is centred at them: nothing large is subtracted
from anything large, and what rounding took from the means is put back (`Moments.low`).

Reference: Chan, Golub & LeVeque 1983 (two passes with correction).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.grouped import Counted, Groups
from cohortium.analysis.interface import FieldSpec, Scope
from cohortium.analysis.untrusted import floats, phase_of
from cohortium.core.dictionary import NUMERIC, Variable
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.disclosure.dominance import dominated
from cohortium.disclosure.suppression import REASONS, Release, follows_from_mean
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

Floats = npt.NDArray[np.float64]

PASSES = ("counts", "counts+sums", "sums", "squares")
DONE = "done"


def numeric(scope: Scope, name: str) -> Variable:
    """The variable of a test, which must be a number.

    Raises:
        InputError: ``not-found``, ``bad-input``.
        PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
    """
    scope.disclosure.require_exact()
    variable = scope.variable(name)
    if variable.type not in NUMERIC:
        raise InputError(
            "bad-input", f"{name} is {variable.type}; a mean is of an integer, real or boolean."
        )
    return variable


@dataclass(frozen=True)
class Moments:
    """What is known of a number in groups; axis G of `Groups`.

    Attributes:
        phase: The pass that comes next, or ``done`` (and then what the analysis makes of it).
        counted: Persons.
        mean: (G,); the joint means, as far as float64 holds them.
        low: (G,); what is missing to `mean`.
        squares: (G,); sums of squared distances from the mean.
    """

    phase: str
    counted: Counted
    mean: Floats
    low: Floats
    squares: Floats

    @staticmethod
    def nothing(groups: Groups, scope: Scope) -> Moments:
        """Before the first round: the sums come at once where each site guards its own floor."""
        zeros = np.zeros(len(groups))
        phase = "counts+sums" if scope.disclosure.floor == "site" else "counts"
        return Moments(phase, Counted.nothing(groups), zeros, zeros, zeros)

    def to_state(self, **more: Array) -> State:
        """As the hub sends it, with the arrays that the analysis adds."""
        arrays = {"mean": self.mean, "low": self.low, "squares": self.squares}
        return State(
            values={"phase": self.phase}, arrays={**self.counted.to_arrays(), **arrays, **more}
        )

    @staticmethod
    def from_state(state: State, groups: Groups, further: Collection[str] = ()) -> Moments:
        """Read an untrusted state; `further` are the phases after the passes.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        shape = (len(groups),)
        arrays = {name: floats(state, name, shape) for name in ("mean", "low", "squares")}
        if not all(np.all(np.isfinite(array)) for array in arrays.values()):
            raise ProtocolError("malformed-message", "A mean in the state is not a number.")
        phase = phase_of(state, (*PASSES, *further))
        return Moments(phase, Counted.from_state(state, groups), **arrays)

    def layout(self, groups: Groups, scope: Scope) -> Layout:
        """The fields of the passes; none in a phase of the analysis's own."""
        fields: dict[str, FieldSpec] = {}
        shape = self.mean.shape
        if self.phase in {"counts", "counts+sums"}:
            fields |= Counted.layout(groups)
        if self.phase in {"sums", "counts+sums"}:
            fields["sum"] = FieldSpec(shape, "real")
            if scope.disclosure.dominance is not None:
                fields["dominated"] = FieldSpec(shape, "count")
        if self.phase == "squares":
            fields["residual"] = fields["squares"] = FieldSpec(shape, "real")
        return fields

    def add(self, out: Contribution, group: int, values: Floats, scope: Scope) -> None:
        """Sum the values of a site's persons in a group."""
        rule = scope.disclosure.dominance
        if "sum" in out:
            out["sum"][group] = values.sum()
        if "dominated" in out and rule is not None:
            out["dominated"][group] = dominated(values, rule)
        if "squares" in out:
            away = values - self.mean[group]
            out["residual"][group] = away.sum()
            out["squares"][group] = np.square(away).sum()

    def advance(
        self,
        total: Total,
        groups: Groups,
        scope: Scope,
        *,
        among: Sequence[int] = (),
        least: int = 2,
    ) -> Moments:
        """The next pass, or ``done``.

        Raises:
            PolicyRefusal: See `Counted.together`; or where a few persons make up most of a sum.
        """
        known = self
        if "persons" in total:
            known = replace(known, counted=Counted.release(total, scope))
        held = known.counted.together(groups, scope, among=among, least=least)
        if known.phase == "counts":
            return replace(known, phase="sums")
        n = known.counted.persons
        some = np.maximum(n, 1)
        if "dominated" in total and np.any(np.asarray(total["dominated"])[list(held)]):
            raise PolicyRefusal("too-few-persons", f"Not released: {REASONS[Release.DOMINATED]}.")
        if "sum" in total:
            return replace(known, mean=np.where(n > 0, total["sum"], 0.0) / some, phase="squares")
        low = np.where(n > 0, total["residual"], 0.0) / some
        squares = np.where(n > 0, total["squares"] - some * low**2, 0.0)
        return replace(known, low=low, squares=np.maximum(squares, 0.0), phase=DONE)

    def grand(self, held: Sequence[int]) -> tuple[float, float]:
        """The mean of everybody in these groups, and what is missing to it."""
        at = list(held)
        n = self.counted.persons[at]
        first = float(self.mean[at[0]])
        return first, float(n @ ((self.mean[at] - first) + self.low[at]) / n.sum())

    def between(self, held: Sequence[int]) -> float:
        """The sum of squares between these groups."""
        at = list(held)
        high, low = self.grand(held)
        away = (self.mean[at] - high) + (self.low[at] - low)
        return float(self.counted.persons[at] @ np.square(away))

    def check(self, groups: Groups, held: Sequence[int], variable: Variable, scope: Scope) -> None:
        """That no mean gives away a person's value.

        Raises:
            PolicyRefusal: ``too-few-persons``: so few have one of two values.
            InputError: ``no-convergence``: all have one value, which its mean would be.
        """
        for at in held:
            n, mean = int(self.counted.persons[at]), float(self.mean[at] + self.low[at])
            place = f"{variable.name}, {groups.where(at)}" if groups.by else variable.name
            if is_constant(n, mean, float(self.squares[at])):
                raise InputError(
                    "no-convergence",
                    f"{place}: all values are equal. A test needs values that differ.",
                )
            mean_square = float(self.squares[at]) / n + mean * mean
            if follows_from_mean(n, mean, mean_square, scope.disclosure.min_cell):
                raise PolicyRefusal(
                    "too-few-persons",
                    f"{place}: the mean would give away a value that too few persons have.",
                )

    def described(self, groups: Groups, held: Sequence[int]) -> list[dict[str, Any]]:
        """The table of groups in a result."""
        return [
            {
                "level": groups.names[at],
                "n": int(self.counted.persons[at]),
                "mean": float(self.mean[at] + self.low[at]),
                "sd": math.sqrt(self.squares[at] / (self.counted.persons[at] - 1)),
            }
            for at in held
        ]


def is_constant(n: int, mean: float, squares: float) -> bool:
    """Whether the spread is no more than rounding."""
    deviation = math.sqrt(squares / n) if n else 0.0
    return bool(deviation <= 4 * np.finfo(np.float64).eps * abs(mean))


def empty(layout: Layout) -> dict[str, Array]:
    """A contribution of zeros."""
    return {
        name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
        for name, spec in layout.items()
    }
