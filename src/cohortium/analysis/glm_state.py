"""What `glm` knows between rounds, and how it travels to the sites."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import Parsed
from cohortium.analysis.interface import FieldSpec
from cohortium.analysis.marks import n_marks
from cohortium.analysis.untrusted import floats, ints, phase_of
from cohortium.core.rounds import Layout, State
from cohortium.errors import ProtocolError

Phase = Literal["counts", "counts+moments", "moments", "start", "fit"]
PHASES: tuple[Phase, ...] = ("counts", "counts+moments", "moments", "start", "fit")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Progress:
    """The totals and coefficients so far; p columns.

    Attributes:
        counts: int64 (3,); complete persons, persons left out, sites that contribute.
        centre: (p,); what is subtracted from each column: the joint means, 0 for the intercept.
        spread: (p,); root mean square of the weighted centred columns at the start.
        beta: (p,); coefficients of the centred columns.
        previous: (p,); those of the step before.
        scalars: (5,); what is subtracted from the outcome, linear predictor of the null model,
            log-likelihood of the saturated model, null deviance, deviance at `previous`.
        step: Solved systems of equations.
        converged: The step at which the deviance had settled; 0 before.
        halvings: Half steps taken back from `beta`.
    """

    phase: Phase
    counts: npt.NDArray[np.int64]
    centre: Floats
    spread: Floats
    beta: Floats
    previous: Floats
    scalars: Floats
    step: int = 0
    converged: int = 0
    halvings: int = 0

    @staticmethod
    def nothing(parsed: Parsed, phase: Phase) -> Progress:
        """Before the first round."""
        zeros = np.zeros(len(parsed.names))
        return Progress(phase, np.zeros(3, dtype=np.int64), zeros, zeros, zeros, zeros, np.zeros(5))

    @property
    def offset(self) -> float:
        """What is subtracted from the outcome."""
        return float(self.scalars[0])

    @property
    def null_eta(self) -> float:
        """The linear predictor of the model without covariates."""
        return float(self.scalars[1])

    @property
    def saturated(self) -> float:
        """The saturated model's log-likelihood."""
        return float(self.scalars[2])

    @property
    def null_deviance(self) -> float:
        """The deviance of the model without covariates."""
        return float(self.scalars[3])

    @property
    def deviance(self) -> float:
        """The deviance at `previous`."""
        return float(self.scalars[4])

    def but(self, **changes: Any) -> Progress:
        """With some values replaced."""
        return replace(self, **changes)

    def to_state(self) -> State:
        """As the hub sends it."""
        names = ("centre", "spread", "beta", "previous", "scalars", "counts")
        return State(
            values={
                "phase": self.phase,
                "steps": [self.step, self.converged, self.halvings],
            },
            arrays={name: getattr(self, name) for name in names},
        )

    @staticmethod
    def from_state(state: State, parsed: Parsed) -> Progress:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        shape = (len(parsed.names),)
        names = ("centre", "spread", "beta", "previous")
        vectors = {name: floats(state, name, shape) for name in names}
        scalars = floats(state, "scalars", (5,))
        steps = state.values.get("steps")
        if (
            not isinstance(steps, list)
            or len(steps) != 3
            or not all(type(value) is int and 0 <= value < 1000 for value in steps)
            or not all(np.all(np.isfinite(vector)) for vector in (*vectors.values(), scalars))
        ):
            raise ProtocolError("malformed-message", "The state of the round is not a model's.")
        return Progress(
            phase=next(p for p in PHASES if p == phase_of(state, PHASES)),
            counts=ints(state, "counts", (3,)),
            scalars=scalars,
            step=steps[0],
            converged=steps[1],
            halvings=steps[2],
            **vectors,
        )

    def layout(self, parsed: Parsed) -> Layout:
        """The fields of this phase's contribution."""
        p = len(parsed.names)
        of: dict[str, FieldSpec] = {}
        if self.phase in {"counts", "counts+moments"}:
            of["persons"] = FieldSpec((3,), "count")
        if self.phase in {"moments", "counts+moments"}:
            of["columns"] = FieldSpec((p,), "real")
            of["squares"] = FieldSpec((p,), "real")
            of["outcome"] = FieldSpec((3,), "real")
            marks = n_marks(parsed)
            if marks > 1:
                of["marks"] = FieldSpec((marks * (marks + 1) // 2,), "count")
            if parsed.levels:
                of["levels"] = FieldSpec((len(parsed.levels),), "count")
        if self.phase in {"start", "fit"}:
            of["information"] = FieldSpec((p * (p + 1) // 2,), "real")
            of["gradient"] = FieldSpec((p,), "real")
            of["deviance"] = FieldSpec((1,), "real")
        return of
