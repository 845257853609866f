"""``bench.vector``: federated averaging of a made-up model, as a plug-in (PYTHONPATH is enough).

Benchmarks use it for large vectors, end-to-end tests for runs that last long enough to be killed.
"""

from __future__ import annotations

import time
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from cohortium.analysis.interface import (
    Continue,
    Contribution,
    Done,
    DropOuts,
    Params,
    Scope,
    State,
    Total,
)
from cohortium.core.rounds import FieldSpec, Layout
from cohortium.core.table import Table

MAX_ROWS = 1024
"""Of a site's table: what a round may add to a component."""


class VectorParams(Params):
    """Rounds of averaging `components` float32 numbers; `pause_ms` is slept at each site."""

    components: Annotated[int, Field(ge=1, le=100_000_000)] = 128
    rounds: Annotated[int, Field(ge=1, le=1000)] = 3
    pause_ms: Annotated[int, Field(ge=0, le=10_000)] = 0


class Vector:
    """Each site adds its number of rows to every component; the mean goes back to the sites."""

    name: ClassVar[str] = "bench.vector"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "continue"
    max_rounds: ClassVar[int] = 1000
    params_type = VectorParams

    def variables(self, params: VectorParams) -> frozenset[str]:
        return frozenset({"age"})

    def start(self, params: VectorParams, scope: Scope) -> State:
        return self._state(0, np.zeros(params.components, dtype=np.float32))

    def layout(self, state: State, params: VectorParams, scope: Scope) -> Layout:
        bound = float(MAX_ROWS * params.rounds)
        return {"model": FieldSpec((params.components,), "vector", bound)}

    def local(self, table: Table, state: State, params: VectorParams, scope: Scope) -> Contribution:
        time.sleep(params.pause_ms / 1000)
        return {"model": state.arrays["model"] + np.float32(table.n_rows)}

    def finish(
        self, total: Total, state: State, params: VectorParams, scope: Scope
    ) -> Continue | Done:
        done = int(state.values["done"]) + 1
        mean = total["model"] / scope.n_sites
        if done == params.rounds:
            return Done({"rounds": done, "first": float(mean[0]), "last": float(mean[-1])})
        return Continue(
            self._state(done, mean.astype(np.float32)), done / params.rounds, f"round {done}"
        )

    @staticmethod
    def _state(done: int, model: np.ndarray) -> State:
        return State({"done": done}, {"model": model})


VECTOR = Vector()
