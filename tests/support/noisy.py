"""An analysis whose sums can carry noise, and the terms of a contract that asks for it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from cohortium.analysis.interface import AnyAnalysis, Continue, Done, DropOuts, Params, Scope
from cohortium.contract.model import Computation
from cohortium.contract.noise import Noise
from cohortium.core.rounds import Contribution, FieldSpec, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import InputError

SIZE = 500


class UpdateParams(Params):
    """How many rounds, and how large a site's update is."""

    rounds: int = 3
    size: float = 0.1


class Updates:
    """A vector of equal components from each site, and its number of persons."""

    name: ClassVar[str] = "test.update"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 10
    params_type: type[UpdateParams] = UpdateParams

    def variables(self, params: UpdateParams) -> frozenset[str]:
        return frozenset({"age"})

    def start(self, params: UpdateParams, scope: Scope) -> State:
        return State({"round": 1})

    def layout(self, state: State, params: UpdateParams, scope: Scope) -> Layout:
        return {"n": FieldSpec((), "count"), "update": FieldSpec((SIZE,), "vector", 4.0)}

    def local(self, table: Table, state: State, params: UpdateParams, scope: Scope) -> Contribution:
        each = params.size / SIZE**0.5
        return {"n": np.array(0), "update": np.full(SIZE, each, dtype=np.float32)}

    def finish(
        self, total: Total, state: State, params: UpdateParams, scope: Scope
    ) -> Continue | Done:
        number = int(state.values["round"])
        if number == params.rounds:
            return Done({"n": int(total["n"]), "update": total["update"].tolist()})
        return Continue(State({"round": number + 1}), number / params.rounds)


def find(name: str) -> AnyAnalysis:
    if name == Updates.name:
        return Updates()
    raise InputError("not-found", f"There is no analysis {name!r} here.")


def terms(**changes: Any) -> Noise:
    """Noise that pays for three sums."""
    fields: dict[str, Any] = {
        "unit": "institution",
        "epsilon": 8.0,
        "delta": 1e-5,
        "sums": 3,
        "clip": 1.0,
    }
    return Noise(**(fields | changes)).resolved()


def permitted(**changes: Any) -> tuple[Computation, ...]:
    """The permission of `Updates` with that noise."""
    return (Computation(name="test.*", noise=terms(**changes)),)
