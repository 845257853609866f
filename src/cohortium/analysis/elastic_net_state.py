"""What `models.elastic_net` knows between rounds, and how it travels to the sites."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.elastic_net_model import MAX_LAMBDAS, PHASES, Net, Phase
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.untrusted import floats, ints, length, phase_of
from cohortium.core.rounds import State
from cohortium.errors import ProtocolError

Floats = npt.NDArray[np.float64]

_FIRST = ("counts", "counts+moments", "moments")


@dataclass(frozen=True)
class Fit:
    """Where the search stands; p columns with the intercept, L lambdas, K parts.

    Coefficients are of the columns centred and in units of `base.spread`, which is 1 for the
    intercept and for columns that are constant.

    Attributes:
        base: Counts, joint means and standard deviations, the null model.
        persons: int64 (K,); in each fold.
        lambdas: (L,); falling.
        units: (K + 1, p - 1); how much a coefficient weighs in the penalty of the model of
            everybody, and of those without a fold; 0 where its column is constant.
        path: (L, p); of everybody. `before`: where the last step began; `merit`: (L,) the
            objective there.
        deviances: (L + 1,); of everybody, the null model's last.
        folds: (K, L, p); without each fold; `folds_before` and `folds_merit` as above, the merit
            being the distance from the conditions of the minimum.
        left: int64 (K, L); 1 where such a model has not converged.
        scale: The largest slope at the null model.
        worst: Of everybody's models the largest distance from the conditions of the minimum.
        rounds: Steps in this phase.
    """

    phase: Phase
    base: Progress
    persons: npt.NDArray[np.int64]
    lambdas: Floats
    units: Floats
    path: Floats
    before: Floats
    merit: Floats
    deviances: Floats
    folds: Floats
    folds_before: Floats
    folds_merit: Floats
    left: npt.NDArray[np.int64]
    scale: float = 0.0
    worst: float = 0.0
    rounds: int = 0

    @staticmethod
    def nothing(net: Net, phase: Phase) -> Fit:
        """Before the first round."""
        none = np.zeros(0)
        return Fit(
            phase,
            Progress.nothing(net.model.parsed, "start"),
            np.zeros(net.parts, dtype=np.int64),
            *(none, none, none, none, none, none, none, none, none),
            left=np.zeros((0, 0), dtype=np.int64),
        )

    def but(self, **changes: Any) -> Fit:
        """With some values replaced."""
        return replace(self, **changes)

    def to_state(self) -> State:
        """As the hub sends it; only what the phase needs."""
        base = self.base.but(phase="start").to_state()
        values = {**base.values, "phase": self.phase, "rounds": self.rounds}
        arrays = {**base.arrays, "persons": self.persons}
        if self.phase in {"path", "split", "folds", "error"}:
            arrays["lambdas"] = self.lambdas
            arrays["units"] = self.units
            arrays["path"] = self.path
            arrays["deviances"] = self.deviances
            arrays["scale"] = np.array([self.scale, self.worst])
        if self.phase == "path":
            arrays |= {"path_before": self.before, "merit": self.merit}
        if self.phase in {"folds", "error"}:
            arrays["folds"] = self.folds
        if self.phase == "folds":
            arrays |= {"folds_before": self.folds_before, "folds_merit": self.folds_merit}
            arrays["left"] = self.left
        return State(values=values, arrays=arrays)

    @staticmethod
    def from_state(state: State, net: Net) -> Fit:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        phase: Phase = next(p for p in PHASES if p == phase_of(state, PHASES))
        base = Progress.from_state(
            State(values={**state.values, "phase": "start"}, arrays=state.arrays), net.model.parsed
        )
        rounds = state.values.get("rounds")
        if type(rounds) is not int or not 0 <= rounds < 1000:
            raise _malformed()
        fit = replace(
            Fit.nothing(net, phase),
            base=base,
            persons=ints(state, "persons", (net.parts,)),
            rounds=rounds,
        )
        if phase in _FIRST:
            return fit
        if np.any(base.spread <= 0) and phase != "gram":
            raise _malformed()
        return fit if phase == "gram" else _fitted(fit, state, net)


def _fitted(fit: Fit, state: State, net: Net) -> Fit:
    k, many, p = net.parts, length(state, "lambdas", MAX_LAMBDAS), net.columns
    if net.gaussian or many == 0 or (fit.phase != "path" and not net.params.folds):
        raise _malformed()
    real: dict[str, Floats] = {
        "lambdas": floats(state, "lambdas", (many,)),
        "units": floats(state, "units", (k + 1 if net.params.folds else 1, p - 1)),
        "path": floats(state, "path", (many, p)),
        "deviances": floats(state, "deviances", (many + 1,)),
    }
    scale = floats(state, "scale", (2,))
    if fit.phase == "path":
        real["before"] = floats(state, "path_before", (many, p))
        real["merit"] = floats(state, "merit", (many,))
    if fit.phase in {"folds", "error"}:
        real["folds"] = floats(state, "folds", (k, many, p))
    left = fit.left
    if fit.phase == "folds":
        real["folds_before"] = floats(state, "folds_before", (k, many, p))
        real["folds_merit"] = floats(state, "folds_merit", (k, many))
        left = ints(state, "left", (k, many))
        if not np.all((left == 0) | (left == 1)):
            raise _malformed()
    if not all(np.all(np.isfinite(array)) for array in (*real.values(), scale)):
        raise _malformed()
    return fit.but(left=left, scale=float(scale[0]), worst=float(scale[1]), **real)


def _malformed() -> ProtocolError:
    return ProtocolError("malformed-message", "The state of the round is not this model's.")
