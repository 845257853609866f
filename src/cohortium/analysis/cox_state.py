"""What `survival.cox` knows between rounds, and how it travels to the sites."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.cox_grid import Grid
from cohortium.analysis.cox_model import Model
from cohortium.analysis.cox_steps import Units, n_blocks
from cohortium.analysis.distribution import Known
from cohortium.analysis.interface import FieldKind, FieldSpec
from cohortium.analysis.marks import n_marks
from cohortium.analysis.searching import Searching
from cohortium.analysis.untrusted import finite, ints, phase_of, steps
from cohortium.core.rounds import Array, Layout, State
from cohortium.errors import ProtocolError

Phase = Literal["counts", "counts+moments", "moments", "grid", "fit", "risk", "final"]
PHASES: tuple[Phase, ...] = (
    "counts",
    "counts+moments",
    "moments",
    "grid",
    "fit",
    "risk",
    "final",
)

_LARGEST = 2.0**300

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Progress(Searching):
    """The totals and coefficients so far; p columns, K steps of time.

    Attributes:
        counts: int64 (5,); complete persons, persons left out, sites with any, events, sites with
            any event.
        centre: (p,); joint means of the columns.
        spread: (p,); their standard deviations.
        beta: (p,); coefficients.
        previous: (p,); those of the step before.
        scalars: (6,); log-likelihood at `previous` and at 0, score test at 0, mean and spread of
            the transformed time over events, and the size of `Units`.
        step: Newton steps.
        halvings: Half steps taken back, in all.
        known: In the phase ``grid``.
        grid: Later, with a pooled baseline.
    """

    phase: Phase
    known: Known | None = None
    grid: Grid | None = None

    @staticmethod
    def nothing(model: Model, phase: Phase) -> Progress:
        """Before the first round."""
        zeros, ones = np.zeros(model.p), np.ones(model.p)
        counts = np.zeros(5, dtype=np.int64)
        return Progress(phase, counts, zeros, ones, zeros, zeros, np.zeros(6))

    @property
    def events(self) -> int:
        """Persons with the event."""
        return int(self.counts[3])

    @property
    def fine(self) -> bool:
        """Whether sums of second order come step by step: for what is released."""
        return self.step == 0 or self.phase == "final"

    def units(self, n_sites: int) -> Units:
        """Of the sums by step."""
        return Units.of(float(self.scalars[5]), self.spread, n_sites)

    def to_state(self) -> State:
        """As the hub sends it."""
        names = ("centre", "spread", "beta", "previous", "scalars", "counts")
        arrays: dict[str, Array] = {name: getattr(self, name) for name in names}
        values: dict[str, Any] = {"phase": self.phase, "steps": [self.step, self.halvings]}
        if self.known is not None:
            inner = self.known.to_state()
            values["known"] = dict(inner.values)
            arrays |= {f"known_{name}": array for name, array in inner.arrays.items()}
        if self.grid is not None:
            values["grid"] = self.grid.to_values()
            arrays |= self.grid.to_arrays()
        return State(values=values, arrays=arrays)

    @staticmethod
    def from_state(state: State, model: Model) -> Progress:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        phase = next(p for p in PHASES if p == phase_of(state, PHASES))
        if phase in ({"fit"} if model.pooled else {"grid", "risk"}):
            raise _malformed()
        vectors: dict[str, Any] = {
            name: finite(state, name, (model.p,))
            for name in ("centre", "spread", "beta", "previous")
        }
        step, halvings = steps(state, 2)
        scalars = finite(state, "scalars", (6,))
        if scalars[5] != 0 and not 1 <= scalars[5] <= _LARGEST:
            raise _malformed()
        known = grid = None
        if phase == "grid":
            known = Known.from_state(_inner(state), model.question)
        elif phase in {"risk", "final"} and model.pooled:
            grid = Grid.from_state(state, model.n_strata)
        return Progress(
            phase=phase,
            counts=ints(state, "counts", (5,)),
            scalars=scalars,
            step=step,
            halvings=halvings,
            known=known,
            grid=grid,
            **vectors,
        )

    def layout(self, model: Model) -> Layout:
        """The fields of this phase's contribution."""
        p, packed = model.p, model.p * (model.p + 1) // 2
        of: dict[str, FieldSpec] = {}
        if self.phase == "grid" and self.known is not None:
            return self.known.layout(model.question)
        if self.phase in {"counts", "counts+moments"}:
            of["persons"] = FieldSpec((5,), "count")
        if self.phase in {"moments", "counts+moments"}:
            of["columns"] = FieldSpec((p,), "real")
            of["squares"] = FieldSpec((p,), "real")
            marks = n_marks(model.parsed)
            if marks > 1:
                of["marks"] = FieldSpec((marks * (marks + 1) // 2,), "count")
            if not model.pooled:
                of["times"] = FieldSpec((2,), "real")
            if model.n_strata > 1:
                of["strata"] = FieldSpec((model.n_strata,), "count")
            if model.parsed.levels:
                of["levels"] = FieldSpec((2, len(model.parsed.levels)), "count")
        last = self.phase == "final"
        if last:
            of["drifts"] = FieldSpec((p,), "real")
            of["pairs"] = FieldSpec((3,), "count")
        if self.grid is not None:
            steps, moments = len(self.grid), 1 + p + (packed if self.fine else 0)
            kind: FieldKind = "count" if self.scalars[5] > 0 else "real"
            of["leaving"] = FieldSpec((steps, moments), kind)
            if model.efron:
                of["dying"] = FieldSpec((self.grid.n_tied, moments), kind)
            if not self.fine:
                blocks = n_blocks(self.grid.edges)
                of["blocks"] = FieldSpec((1 + model.efron, blocks, packed), kind)
            of["sizes"] = FieldSpec((1 + p,), "real")
            of["beyond"] = FieldSpec((1,), "count")
            of["events"] = FieldSpec((2, steps), "count")
            of["dead"] = FieldSpec((p,), "real")
        elif self.phase in {"fit", "final"}:
            of["loglik"] = FieldSpec((1,), "real")
            of["score"] = FieldSpec((p,), "real")
            of["information"] = FieldSpec((3, packed) if last else (packed,), "real")
            if last and model.params.robust:
                of["spread"] = FieldSpec((packed,), "real")
        if self.phase in {"fit", "risk"} and self.step == 0:
            of["squares"] = FieldSpec((p,), "real")
        return of


def _inner(state: State) -> State:
    """The state of the rounds that count who leaves when."""
    values = state.values.get("known")
    if not isinstance(values, dict):
        raise _malformed()
    first = "known_"
    arrays = {
        name.removeprefix(first): array
        for name, array in state.arrays.items()
        if name.startswith(first)
    }
    return State(values=values, arrays=arrays)


def _malformed() -> ProtocolError:
    return ProtocolError("malformed-message", "The state of the round is not a Cox model's.")


def spread_of(total: float, squares: float, n: int) -> tuple[float, float]:
    """Mean and standard deviation from sums; a spread of 0 is given as 1."""
    mean = total / n
    variance = max(squares / n - mean**2, 0.0)
    return mean, math.sqrt(variance) if variance > 0 else 1.0
