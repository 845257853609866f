"""What a model of a category knows between rounds, and how it travels to the sites."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.category_model import Model
from cohortium.analysis.newton import Point
from cohortium.analysis.untrusted import floats, ints, phase_of
from cohortium.core.rounds import State
from cohortium.errors import ProtocolError

CUTS = "cuts"
"""The phase in which the model is fitted once more, each cut of the levels for itself."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Progress:
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

    phase: str
    counts: Ints
    outcomes: Ints
    centre: Floats
    spread: Floats
    beta: Floats
    previous: Floats
    scalars: Floats
    step: int = 0
    halvings: int = 0
    fitted: Floats = field(default_factory=lambda: np.zeros(0))
    information: Floats = field(default_factory=lambda: np.zeros(0))

    @staticmethod
    def nothing(model: Model, phase: str) -> Progress:
        """Before the first round."""
        zeros, ones, none = np.zeros(model.p), np.ones(model.p), np.zeros(model.q)
        counts, outcomes = np.zeros(3, dtype=np.int64), np.zeros(model.k, dtype=np.int64)
        return Progress(phase, counts, outcomes, zeros, ones, none, none, np.zeros(3))

    @property
    def n(self) -> int:
        """Persons in the model."""
        return int(self.counts[0])

    def point(self, spread: Floats) -> Point:
        """Where the search stands; `spread` as in `Point`."""
        before = float(self.scalars[0])
        return Point(self.beta, self.previous, spread, before, self.step, self.halvings)

    def but(self, **changes: Any) -> Progress:
        """With some values replaced."""
        return replace(self, **changes)

    def scalar(self, at: int, value: float) -> Progress:
        """With one of the scalars replaced."""
        scalars = self.scalars.copy()
        scalars[at] = value
        return replace(self, scalars=scalars)

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
        real = {name: floats(state, name, shape) for name, shape in shapes.items()}
        steps = state.values.get("steps")
        if (
            not isinstance(steps, list)
            or len(steps) != 2
            or not all(type(value) is int and 0 <= value < 1000 for value in steps)
            or not all(np.all(np.isfinite(array)) for array in real.values())
        ):
            raise malformed()
        return Progress(
            phase=phase,
            counts=ints(state, "counts", (3,)),
            outcomes=ints(state, "outcomes", (model.k,)),
            step=steps[0],
            halvings=steps[1],
            **real,
        )


def malformed() -> ProtocolError:
    """The error for a state that cannot be."""
    return ProtocolError("malformed-message", "The state of the round is not this model's.")
