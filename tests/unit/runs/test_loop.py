"""The loop over rounds: order, progress, resumption, limits."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from cohortium.analysis.interface import Continue, Done, DropOuts, Params, Scope
from cohortium.core.rounds import Contribution, FieldSpec, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import IntegrityFailure, PeerError
from cohortium.runs.journal import MemoryJournal
from cohortium.runs.loop import drive

SCOPE = Scope(variables={}, disclosure=Disclosure(), n_sites=3)


class Doubling:
    """Doubles a number a round until it reaches 16."""

    name: ClassVar[str] = "test.doubling"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 6
    params_type = Params

    def variables(self, params: Params) -> frozenset[str]:
        return frozenset()

    def start(self, params: Params, scope: Scope) -> State:
        return State(values={"x": 1})

    def layout(self, state: State, params: Params, scope: Scope) -> Layout:
        return {"x": FieldSpec((1,), "count")}

    def local(self, table: Table, state: State, params: Params, scope: Scope) -> Contribution:
        raise NotImplementedError

    def finish(self, total: Total, state: State, params: Params, scope: Scope) -> Continue | Done:
        x = int(total["x"][0])
        if x >= 16:
            return Done({"x": x})
        return Continue(State(values={"x": x}), x / 16, f"at {x}")


class Endless(Doubling):
    """Is never done."""

    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 3


def double(_number: int, state: State) -> Total:
    return {"x": np.array([2 * state.values["x"]], dtype=np.int64)}


def test_rounds_follow_each_other_and_tell_how_far_they_are() -> None:
    seen: list[tuple[int, float, str]] = []
    done = drive(
        Doubling(),
        Params(),
        SCOPE,
        journal=MemoryJournal(),
        sum_round=double,
        on_progress=lambda *told: seen.append(told),
    )
    assert done.result == {"x": 16}
    assert seen == [(1, 0.125, "at 2"), (2, 0.25, "at 4"), (3, 0.5, "at 8"), (4, 1.0, "done")]


def test_a_killed_run_continues_with_the_round_it_was_in() -> None:
    journal, asked = MemoryJournal(), []

    def dies_in_round_3(number: int, state: State) -> Total:
        asked.append(number)
        if number == 3 and asked.count(3) == 1:
            raise PeerError("link-lost", "killed")
        return double(number, state)

    def go() -> dict[str, Any]:
        done = drive(Doubling(), Params(), SCOPE, journal=journal, sum_round=dies_in_round_3)
        return dict(done.result)

    with pytest.raises(PeerError):
        go()
    assert go() == {"x": 16}
    assert asked == [1, 2, 3, 3, 4]
    assert go() == {"x": 16}
    assert asked == [1, 2, 3, 3, 4]


def test_an_analysis_that_is_never_done_is_stopped() -> None:
    with pytest.raises(IntegrityFailure) as caught:
        drive(Endless(), Params(), SCOPE, journal=MemoryJournal(), sum_round=double)
    assert caught.value.code == "internal"
