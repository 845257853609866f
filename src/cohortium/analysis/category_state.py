"""What a model of a category knows between rounds, and how it travels to the sites."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cohortium.analysis.category_model import Model
from cohortium.analysis.newton import Point
from cohortium.analysis.searching import Searching
from cohortium.analysis.untrusted import finite, ints, phase_of, steps
from cohortium.core.rounds import State
from cohortium.errors import ProtocolError

CUTS = "cuts"
"""The phase in which the model is fitted once more, each cut of the levels for itself."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Progress(Searching):
    """The totals and coefficients so far; p columns, K levels, q coefficients.

    Attributes:
        phase: counts, counts+moments, moments, fit or cuts.
        counts: int64 (3,); complete persons, persons left out, sites that contribute.
        outcomes: int64 (K,); persons at each level, in the model's order.
        centre: (p,); what is subtracted from each column: the joint means, 0 for the intercept.
        spread: (p,); the columns' standard deviations, 1 for the intercept.
        beta: Coefficients of the centred columns: (q,), or ((K - 1) (p + 1),) of the cuts.
        previous: Those of the step before.
        scalars: (3,); log-likelihood at `previous`, and of the fit; its iterations.
        step: Newton steps.
        halvings: Half steps taken back.
        fitted: (q,); the fit, in the phase ``cuts``.
        information: (q (q + 1) / 2,); its packed information, in the phase ``cuts``.
    """

    outcomes: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    fitted: Floats = field(default_factory=lambda: np.zeros(0))
    information: Floats = field(default_factory=lambda: np.zeros(0))

    @staticmethod
    def nothing(model: Model, phase: str) -> Progress:
        """Before the first round."""
        zeros, ones, none = np.zeros(model.p), np.ones(model.p), np.zeros(model.q)
        counts, outcomes = np.zeros(3, dtype=np.int64), np.zeros(model.k, dtype=np.int64)
        scalars = np.zeros(3)
        return Progress(phase, counts, zeros, ones, none, none, scalars, outcomes=outcomes)

    def point(self, spread: Floats) -> Point:
        """Where the search stands; `spread` as in `Point`."""
        before = float(self.scalars[0])
        return Point(self.beta, self.previous, spread, before, self.step, self.halvings)

    def to_state(self) -> State:
        """As the hub sends it."""
        names = ["counts", "outcomes", "centre", "spread", "beta", "previous", "scalars"]
        names += ["fitted", "information"] if self.phase == CUTS else []
        return State(
            values={"phase": self.phase, "steps": [self.step, self.halvings]},
            arrays={name: getattr(self, name) for name in names},
        )

    @staticmethod
    def from_state(state: State, model: Model, phases: Collection[str]) -> Progress:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        phase, q = phase_of(state, phases), model.q
        cuts = phase == CUTS
        size = (model.k - 1) * (model.p + 1) if cuts else q
        shapes = {
            "centre": (model.p,),
            "spread": (model.p,),
            "beta": (size,),
            "previous": (size,),
            "scalars": (3,),
        }
        if cuts:
            shapes |= {"fitted": (q,), "information": (q * (q + 1) // 2,)}
        step, halvings = steps(state, 2)
        return Progress(
            phase=phase,
            counts=ints(state, "counts", (3,)),
            outcomes=ints(state, "outcomes", (model.k,)),
            step=step,
            halvings=halvings,
            **{name: finite(state, name, shape) for name, shape in shapes.items()},
        )


def malformed() -> ProtocolError:
    """The error for a state that cannot be."""
    return ProtocolError("malformed-message", "The state of the round is not this model's.")
