"""What `glm` knows between rounds, and how it travels to the sites."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import Parsed
from cohortium.analysis.searching import Searching
from cohortium.analysis.untrusted import finite, ints, phase_of, steps
from cohortium.core.rounds import State

Phase = Literal["counts", "counts+moments", "moments", "start", "fit", "errors"]
PHASES: tuple[Phase, ...] = ("counts", "counts+moments", "moments", "start", "fit", "errors")

VECTORS = ("centre", "spread", "beta", "previous")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Progress(Searching):
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
    converged: int = 0
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

    def to_state(self) -> State:
        """As the hub sends it."""
        names = (*VECTORS, "scalars", "counts", *(["bread"] if self.phase == "errors" else []))
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
        p = len(parsed.names)
        phase = next(p for p in PHASES if p == phase_of(state, PHASES))
        vectors = {name: finite(state, name, (p,)) for name in VECTORS}
        packed = (p * (p + 1) // 2,)
        step, converged, halvings = steps(state, 3)
        return Progress(
            phase=phase,
            counts=ints(state, "counts", (3,)),
            scalars=finite(state, "scalars", (8,)),
            step=step,
            converged=converged,
            halvings=halvings,
            bread=finite(state, "bread", packed) if phase == "errors" else np.zeros(0),
            **vectors,
        )
