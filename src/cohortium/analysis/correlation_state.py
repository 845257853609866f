"""What `stats.correlation` knows between rounds, and how it travels to the sites."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import FieldSpec
from cohortium.analysis.untrusted import floats, ints, phase_of
from cohortium.core.rounds import Layout, State
from cohortium.errors import ProtocolError

Phase = Literal["counts", "counts+sums", "sums", "products"]
PHASES: tuple[Phase, ...] = ("counts", "counts+sums", "sums", "products")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """The totals so far, of V variables.

    Attributes:
        status: (V, V); a `Release` for each pair; on the diagonal, for each variable.
        persons: (V, V); with a value of both; 0 where the pair is closed.
        left_out: (1,); persons of contributing sites who lack a value.
        centre: (V,); joint means.
        spread: (V,); about the joint standard deviations, more than 0.
    """

    phase: Phase
    status: Ints
    persons: Ints
    left_out: Ints
    centre: Floats
    spread: Floats

    @staticmethod
    def nothing(v: int, phase: Phase) -> Sums:
        """Before the first round."""
        zeros = np.zeros((v, v), dtype=np.int64)
        return Sums(phase, zeros, zeros, np.zeros(1, dtype=np.int64), np.zeros(v), np.ones(v))

    def but(self, **changes: Any) -> Sums:
        """With some totals replaced."""
        return replace(self, **changes)

    def to_state(self) -> State:
        """As the hub sends it."""
        names = ("status", "persons", "left_out", "centre", "spread")
        return State(
            values={"phase": self.phase}, arrays={name: getattr(self, name) for name in names}
        )

    @staticmethod
    def from_state(state: State, v: int) -> Sums:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        centre, spread = floats(state, "centre", (v,)), floats(state, "spread", (v,))
        if not np.all(np.isfinite(centre) & np.isfinite(spread) & (spread > 0)):
            raise ProtocolError("malformed-message", "The state's means cannot be.")
        return Sums(
            phase=next(p for p in PHASES if p == phase_of(state, PHASES)),
            status=ints(state, "status", (v, v)),
            persons=ints(state, "persons", (v, v)),
            left_out=ints(state, "left_out", (1,)),
            centre=centre,
            spread=spread,
        )

    def layout(self) -> Layout:
        """The fields of this phase's contribution."""
        v = len(self.centre)
        of: dict[str, FieldSpec] = {}
        if self.phase in {"counts", "counts+sums"}:
            of["persons"] = of["sites"] = FieldSpec((v, v), "count")
            of["left_out"] = FieldSpec((1,), "count")
        if self.phase in {"sums", "counts+sums"}:
            of["sums"] = FieldSpec((v, v), "real")
            of["scale"] = FieldSpec((v,), "real")
        if self.phase == "products":
            of["residual"] = of["squares"] = of["products"] = FieldSpec((v, v), "real")
            of["powers"] = FieldSpec((v, 2), "real")
        return of
