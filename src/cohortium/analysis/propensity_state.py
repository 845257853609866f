"""What `causal.propensity` knows between rounds, and how it travels to the sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cohortium.analysis.glm_state import Progress
from cohortium.analysis.propensity_model import CELLS, Design
from cohortium.analysis.untrusted import floats, ints
from cohortium.core.rounds import Array, State
from cohortium.errors import ProtocolError

Stage = Literal["model", "overlap", "balance", "effect", "outcome", "augment", "influence"]
WEIGHTED: tuple[Stage, ...] = ("model", "overlap", "balance", "effect")
AUGMENTED: tuple[Stage, ...] = (*WEIGHTED[:-1], "outcome", "augment", "influence")


@dataclass(frozen=True)
class Weighing:
    """Where the analysis is.

    Attributes:
        stage: The model's own rounds come first.
        model: The model of the treatment; after its rounds in the phase ``errors``.
        known: Totals by name, for the result: `fields`.
    """

    stage: Stage
    model: Progress
    known: Mapping[str, Array] = field(default_factory=dict)

    def to_state(self) -> State:
        """As the hub sends it."""
        inner = self.model.to_state()
        return State({**inner.values, "stage": self.stage}, {**inner.arrays, **self.known})

    @staticmethod
    def from_state(state: State, design: Design) -> Weighing:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        stages = AUGMENTED if design.params.doubly_robust else WEIGHTED
        stage = next((one for one in stages if one == state.values.get("stage")), None)
        model = Progress.from_state(state, design.parsed)
        if stage is None or (model.phase == "errors") != (stage != "model"):
            raise ProtocolError("malformed-message", "The state of the round has no known stage.")
        known = {}
        for name, (shape, kind) in fields(design, stage).items():
            known[name] = (ints if kind == "count" else floats)(state, name, shape)
            if not np.all(np.isfinite(known[name])):
                raise ProtocolError("malformed-message", "The state has numbers without end.")
        return Weighing(stage, model, known)


def fields(design: Design, stage: Stage) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes and kinds of what is known at the start of a stage.

    ``groups``: of each cell of the score the first one of its group, in which ``scores`` has the
    group's persons; ``means``: of the weighted outcome; the rest: see `propensity_augmented`.
    """
    p, n_levels = len(design.parsed.names), len(design.parsed.levels)
    of: dict[str, tuple[tuple[int, ...], str]] = {}
    if stage not in {"model", "overlap"}:
        of |= {"persons": ((2,), "count"), "kept": ((2,), "count"), "groups": ((CELLS,), "count")}
        of |= {"scores": ((2, CELLS), "count"), "levels": ((2, n_levels), "count")}
        of |= {"columns": ((2, p), "real"), "squares": ((2, p), "real")}
        of |= {"weights": ((2, 2), "real"), "outcome": ((2, 2), "real")}
    if stage not in {"model", "overlap", "balance"}:
        of |= {"weighted_columns": ((2, p), "real"), "weighted_squares": ((2, p), "real")}
        of |= {"weighted_levels": ((2, n_levels), "real"), "means": ((2,), "real")}
    if stage in {"augment", "influence"}:
        of |= {"gamma": ((2, p), "real"), "bread_outcome": ((2, p * (p + 1) // 2), "real")}
    if stage == "influence":
        of |= {"along": ((2, 2, p), "real"), "estimates": ((2,), "real")}
    return of
