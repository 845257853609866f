"""How the hub decides what a run is compared with, and that new cohorts take turns."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.support.builders import NOW, RoundSums, SumParams, World

from cohortium.analysis.interface import Scope
from cohortium.analysis.screen import MAX_EARLIER, Release, Screen, set_key
from cohortium.contract.check import Admitted
from cohortium.contract.noise import Noise
from cohortium.contract.population import contract_population
from cohortium.core.rest import RunInfo
from cohortium.disclosure.differencing import Split
from cohortium.errors import ConflictError, ProtocolError
from cohortium.hub.live import Live, Memory
from cohortium.hub.screening import Comparison, Turns
from cohortium.link._generated.link_pb2 import ReleasedSets, RunAdvert

OTHER = "sha256:" + "0" * 64
NOISE = Noise(unit="institution", epsilon=1, delta=1e-5, sums=10, clip=1, multiplier=5)


def _admitted(noise: Noise | None = None) -> Admitted:
    contract = World().contract()
    scope = Scope({}, contract.disclosure, 3)
    population = contract_population(contract)
    return Admitted(contract, RoundSums(), SumParams(variable="age"), scope, population, noise)


def _key(admitted: Admitted) -> str:
    return set_key(
        admitted.analysis,
        admitted.params,
        admitted.scope,
        contract=admitted.contract.digest,
        population=admitted.population,
        view=0,
    )


def _memory(min_cell: int, sets: dict[str, int]) -> Memory:
    return Memory(min_cell, {key: Release(key, n_sets) for key, n_sets in sets.items()})


def test_nothing_is_compared_where_nothing_was_released() -> None:
    comparison = Comparison.of(_admitted(), [Memory(5, {})] * 3)
    assert (comparison.screen, comparison.known) == (None, False)


def test_nothing_is_compared_where_all_sites_told_of_these_persons_before() -> None:
    admitted = _admitted()
    memories = [_memory(5, {_key(admitted): 1, OTHER: 1}), _memory(5, {_key(admitted): 1})]
    comparison = Comparison.of(admitted, memories)
    assert (comparison.screen, comparison.known) == (None, True)


def test_a_run_is_compared_with_all_that_any_site_remembers_at_the_strictest_minimum() -> None:
    admitted = _admitted()
    memories = [_memory(5, {_key(admitted): 1}), _memory(9, {OTHER: 3}), _memory(0, {})]
    comparison = Comparison.of(admitted, memories)
    expected = sorted([Release(_key(admitted), 1), Release(OTHER, 3)])
    assert comparison.screen == Screen(9, tuple(expected))
    assert not comparison.known
    assert Comparison.from_json(comparison.to_json()) == comparison


def test_noise_is_not_compared() -> None:
    comparison = Comparison.of(_admitted(NOISE), [_memory(5, {OTHER: 1})])
    assert (comparison.screen, comparison.known) == (None, True)
    assert Comparison.from_json(comparison.to_json()) == comparison


def test_sites_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ProtocolError):
        Comparison.of(_admitted(), [_memory(5, {OTHER: 1}), _memory(5, {OTHER: 2})])


@pytest.mark.parametrize(
    "released",
    [
        [("key", 1)],
        [(OTHER, 0)],
        [(OTHER, 2**31)],
        [(OTHER, 1), (OTHER, 1)],
        [(f"sha256:{number:064x}", 1) for number in range(MAX_EARLIER + 1)],
    ],
    ids=["no key", "no sets", "too many sets", "twice", "too many"],
)
def test_a_memory_that_cannot_be_is_refused(released: list[tuple[str, int]]) -> None:
    sets = [ReleasedSets(key=key, sets=n_sets) for key, n_sets in released]
    with pytest.raises(ProtocolError):
        Memory.of(RunAdvert(min_cell=5, released=sets))


def _live() -> Live:
    info = RunInfo(
        id="run",
        study="lung",
        contract_digest=OTHER,
        computation="test.sum",
        params={},
        status="running",
        researcher="",
        submitted_at=NOW,
    )
    return Live(info)


def test_one_run_of_a_study_goes_first() -> None:
    turns, order = Turns(), list[str]()
    first = turns.take("lung", _live())

    def second() -> None:
        turn = turns.take("lung", _live())
        order.append("second")
        turn.end()

    thread = threading.Thread(target=second)
    thread.start()
    turns.take("heart", _live()).end()
    order.append("first")
    first.end()
    first.end()
    thread.join(10)
    assert order == ["first", "second"]


def test_a_cancelled_run_does_not_wait_for_its_turn() -> None:
    turns, live = Turns(), _live()
    held = turns.take("lung", _live())
    live.cancelled.set()
    with pytest.raises(ConflictError):
        turns.take("lung", live)
    held.end()


def test_numbers_of_releases_with_different_sets_are_read_in_their_order() -> None:
    keys = [f"sha256:{number}" for number in range(3)]
    screen = Screen(5, tuple(map(Release, keys, (1, 2, 1))))
    split = Split.whole()
    fine, close = [5, 5, 5, 5], [1, 0, 5, 5]
    two = [5, 5, 5, 5, 5, 5, 5]
    assert screen.choose(np.array([*fine, *two, *fine]), split, 5) == 0
    assert screen.choose(np.array([*fine, *two, *close]), split, 5) is None
    assert screen.choose(np.array([*close, *two, *fine]), split, 5) is None
    assert screen.choose(np.array([*fine, 1, 5, 0, 5, 5, 5, 5, *fine]), split, 5) is None
