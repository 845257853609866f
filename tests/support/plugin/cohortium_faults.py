"""``faults.sums``: rounds whose sums say which sites are in them, as a plug-in (PYTHONPATH)."""

from __future__ import annotations

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

BOUND = 4096.0
"""Of a component of the vector."""


class SumsParams(Params):
    """So many rounds; the label makes a request differ from others, as repeats are refused."""

    label: str
    rounds: Annotated[int, Field(ge=1, le=50)] = 5


class Sums:
    """A site adds its number of persons, in round r also r times it, and the mean of their age.

    Each round stands alone; the result lists all of them.
    """

    name: ClassVar[str] = "faults.sums"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "continue"
    max_rounds: ClassVar[int] = 50
    params_type = SumsParams

    def variables(self, params: SumsParams) -> frozenset[str]:
        return frozenset({"age"})

    def start(self, params: SumsParams, scope: Scope) -> State:
        return State({"rounds": []})

    def layout(self, state: State, params: SumsParams, scope: Scope) -> Layout:
        return {
            "persons": FieldSpec((2,), "count"),
            "age": FieldSpec((1,), "real"),
            "model": FieldSpec((3,), "vector", BOUND),
        }

    def local(self, table: Table, state: State, params: SumsParams, scope: Scope) -> Contribution:
        number, age = len(state.values["rounds"]) + 1, table.columns["age"].mean()
        return {
            "persons": np.array([table.n_rows, number * table.n_rows], dtype=np.int64),
            "age": np.array([number * age]),
            "model": np.array([table.n_rows, number, age], dtype=np.float32),
        }

    def finish(
        self, total: Total, state: State, params: SumsParams, scope: Scope
    ) -> Continue | Done:
        summed = {name: array.tolist() for name, array in total.items()}
        rounds = [*state.values["rounds"], {"sites": scope.n_sites, **summed}]
        if len(rounds) == params.rounds:
            return Done({"rounds": rounds})
        share = len(rounds) / params.rounds
        return Continue(State({"rounds": rounds}), share, f"round {len(rounds)}")


SUMS = Sums()
