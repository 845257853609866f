"""What `glm` knows between rounds, and how it travels to the sites."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import Parsed
from cohortium.analysis.untrusted import floats, ints, phase_of
from cohortium.core.rounds import State
from cohortium.errors import ProtocolError

Phase = Literal["counts", "counts+moments", "moments", "start", "fit", "errors"]
PHASES: tuple[Phase, ...] = ("counts", "counts+moments", "moments", "start", "fit", "errors")

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
        scalars: (8,); what is subtracted from the outcome, linear predictor of the null model,
            log-likelihood of the saturated model, null deviance, deviance at `previous`; how often
            all persons count together; deviance and Pearson's chi-square of the fit.
        step: Solved systems of equations.
        converged: The step at which the deviance had settled; 0 before.
        halvings: Half steps taken back from `beta`.
        bread: (p (p + 1) / 2,); packed inverse information of the fit, in the phase ``errors``.
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
    bread: Floats = field(default_factory=lambda: np.zeros(0))

    @staticmethod
    def nothing(parsed: Parsed, phase: Phase) -> Progress:
        """Before the first round."""
        zeros = np.zeros(len(parsed.names))
        return Progress(phase, np.zeros(3, dtype=np.int64), zeros, zeros, zeros, zeros, np.zeros(8))

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

    @property
    def weight(self) -> float:
        """How often all persons count together."""
        return float(self.scalars[5])

    def but(self, **changes: Any) -> Progress:
        """With some values replaced."""
        return replace(self, **changes)

    def to_state(self) -> State:
        """As the hub sends it."""
        names: tuple[str, ...] = ("centre", "spread", "beta", "previous", "scalars", "counts")
        if self.phase == "errors":
            names = (*names, "bread")
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
        scalars = floats(state, "scalars", (8,))
        phase = next(p for p in PHASES if p == phase_of(state, PHASES))
        size = len(parsed.names) * (len(parsed.names) + 1) // 2
        bread = floats(state, "bread", (size,)) if phase == "errors" else np.zeros(0)
        steps = state.values.get("steps")
        real = (*vectors.values(), scalars, bread)
        if (
            not isinstance(steps, list)
            or len(steps) != 3
            or not all(type(value) is int and 0 <= value < 1000 for value in steps)
            or not all(np.all(np.isfinite(vector)) for vector in real)
        ):
            raise ProtocolError("malformed-message", "The state of the round is not a model's.")
        return Progress(
            phase=phase,
            counts=ints(state, "counts", (3,)),
            scalars=scalars,
            step=steps[0],
            converged=steps[1],
            halvings=steps[2],
            bread=bread,
            **vectors,
        )
