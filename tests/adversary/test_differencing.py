"""N against N - 1 persons through a real hub and real nodes, and a hub that would help."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.support.adversary import TIMEOUT_S, Federation, Sums, federation, refused
from tests.support.builders import FIVE, SITES, SumParams, World, no_scope
from tests.support.life import amended

from cohortium.analysis.screen import SCREENED, SCREENING
from cohortium.contract.model import Cohort, Contract, RunRequest
from cohortium.core.rounds import State
from cohortium.core.selection import Derived, Selection
from cohortium.disclosure.limits import Disclosure
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import get_state, put_state
from cohortium.node import outbox
from cohortium.node.datasets import MemoryDatasets
from cohortium.node.persons import Persons
from cohortium.node.policy import Policy
from cohortium.node.service import NodeService

EVERYBODY = None
BUT_ONE = Selection(exclude=("age = 10",))
HALF = Selection(include=("age < 18 OR age >= 25",))
"""Five persons fewer at Beta, four at Alpha."""


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation() as one:
        yield one


async def _agree(made: Federation, **changes: Any) -> Contract:
    limits = Disclosure(min_cell=5, floor="total")
    computations = made.world.contract().computations
    free = tuple(entry.model_copy(update={"max_runs": None}) for entry in computations)
    values = {"disclosure": limits, "computations": free, **changes}
    return await made.agree(cohort=Cohort(adjustable=("age",)), **values)


def _asks(
    made: Federation, contract: Contract, number: int, cohort: Selection | None
) -> RunRequest:
    return made.request(contract, number, cohort=cohort)


async def _run(
    made: Federation, contract: Contract, number: int, cohort: Selection | None
) -> tuple[str, RunRequest]:
    request = _asks(made, contract, number, cohort)
    return await made.run(request), request


def _rounds(made: Federation, request: RunRequest, site: str = "Alpha") -> int:
    return len(made.rounds(site, request.run_id))


async def test_all_but_one_person_is_refused_after_all_of_them(made: Federation) -> None:
    contract = await _agree(made)
    status, first = await _run(made, contract, 1, EVERYBODY)
    assert (status, _rounds(made, first)) == ("succeeded", 3)
    status, second = await _run(made, contract, 2, BUT_ONE)
    assert status == "failed"
    assert made.error(second)["code"] == "differencing"
    assert _rounds(made, second) == 1
    for word in ("age", "10", "Alpha", "Beta", "Gamma"):
        assert word not in made.error(second)["message"].replace("base 5", "")
    (end,) = made.node("Beta").decisions(what="end", run_id=second.run_id)
    assert (end["outcome"], end["error"]) == ("failed", "differencing")


async def test_the_order_of_the_two_does_not_matter(made: Federation) -> None:
    contract = await _agree(made)
    assert (await _run(made, contract, 1, BUT_ONE))[0] == "succeeded"
    status, second = await _run(made, contract, 2, EVERYBODY)
    assert (status, made.error(second)["code"]) == ("failed", "differencing")


async def test_a_wider_criterion_passes_and_then_costs_nothing(made: Federation) -> None:
    contract = await _agree(made)
    await _run(made, contract, 1, EVERYBODY)
    for number, rounds in ((2, 4), (3, 3)):
        status, request = await _run(made, contract, number, HALF)
        assert (status, _rounds(made, request)) == ("succeeded", rounds)
    assert made.result(request)["n"] == 36 - 9


async def test_what_was_refused_was_not_released(made: Federation) -> None:
    contract = await _agree(made)
    await _run(made, contract, 1, EVERYBODY)
    before = _remembered(made, "Alpha")
    await _run(made, contract, 2, BUT_ONE)
    assert _remembered(made, "Alpha") == before


async def test_a_site_with_a_larger_minimum_decides_for_all(made: Federation) -> None:
    contract = await _agree(made)
    made.node("Gamma").policy[0] = Policy(min_cell=12)
    await _run(made, contract, 1, EVERYBODY)
    status, request = await _run(made, contract, 2, HALF)  # nine persons fewer
    assert (status, made.error(request)["code"]) == ("failed", "differencing")


async def test_two_new_cohorts_at_once_are_compared_with_one_another(made: Federation) -> None:
    contract = await _agree(made)
    user = made.hub.user(made.world.researcher.public)
    requests = [_asks(made, contract, n, c) for n, c in ((1, EVERYBODY), (2, BUT_ONE))]
    for request in requests:
        made.hub.submit(request.sign(made.world.researcher), user)
    ends = sorted([await made.settled(request) for request in requests])
    assert ends == ["failed", "succeeded"]


async def test_another_study_is_another_memory(made: Federation) -> None:
    await _run(made, await _agree(made), 1, EVERYBODY)
    other = await _agree(made, study="other")
    status, request = await _run(made, other, 2, BUT_ONE)
    assert (status, _rounds(made, request)) == ("succeeded", 3)


async def test_a_restarted_node_remembers(made: Federation) -> None:
    contract = await _agree(made)
    await _run(made, contract, 1, EVERYBODY)
    for site in SITES:
        node = made.node(site)
        old = node.service
        node.service = NodeService(
            identity=old.identity,
            store=old.store,
            datasets=old.datasets,
            policy=old.policy,
            clock=old.clock,
            find=old._guard._find,
        )
        node.service.witness = old.witness
    status, second = await _run(made, contract, 2, BUT_ONE)
    assert (status, made.error(second)["code"]) == ("failed", "differencing")


def _remembered(made: Federation, site: str) -> list[tuple[object, ...]]:
    return made.node(site).store.execute("SELECT study, key, n_sets FROM released ORDER BY key")


# A hub that lies

Change = Callable[[int, State], State | None]


def _lying(made: Federation, change: Change, victim: str = "Alpha") -> None:
    """The hub sends one site another state; None leaves it."""

    def lie(site: str, message: pb.Message) -> pb.Message:
        if site == victim and message.WhichOneof("body") == "round_request":
            asked = message.round_request
            state = change(asked.round, get_state(asked))
            if state is not None:
                del asked.state_arrays[:]
                put_state(state, asked)
        return message

    made.hub_lies = lie


async def _lied(
    made: Federation, change: Change, cohort: Selection = BUT_ONE
) -> tuple[RunRequest, list[tuple[str, str]]]:
    contract = await _agree(made)
    await _run(made, contract, 1, EVERYBODY)
    _lying(made, change)
    status, request = await _run(made, contract, 2, cohort)
    assert status == "failed"
    return request, made.refusals("Alpha")


async def test_a_comparison_that_is_left_out_is_refused(made: Federation) -> None:
    first = Sums().start(SumParams(variable="age"), no_scope())
    request, refusals = await _lied(made, lambda number, _state: first)
    assert refusals == [("round", "differencing")]
    assert _rounds(made, request) == 0


async def test_a_comparison_that_leaves_out_an_earlier_result_is_refused(made: Federation) -> None:
    def without(number: int, state: State) -> State | None:
        if SCREENING not in state.values:
            return None
        body = dict(state.values[SCREENING])
        return State({SCREENING: {**body, "earlier": [["sha256:" + "0" * 64, 1, 0]]}})

    request, refusals = await _lied(made, without)
    assert refusals == [("round", "wrong-round")]
    assert _rounds(made, request) == 0


@pytest.mark.parametrize("min_cell", [1, 4, 1_000_000])
async def test_a_comparison_at_another_minimum_is_refused(made: Federation, min_cell: int) -> None:
    def other(number: int, state: State) -> State | None:
        if SCREENING not in state.values:
            return None
        return State({SCREENING: {**state.values[SCREENING], "min_cell": min_cell}})

    assert (await _lied(made, other))[1] == [("round", "wrong-round")]


async def test_a_site_refuses_what_the_total_forbids_though_the_hub_goes_on(
    made: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = await _agree(made)
    await _run(made, contract, 1, EVERYBODY)

    def forged(number: int, state: State) -> State | None:
        if SCREENED not in state.arrays:
            return None
        numbers = np.array([0, 1, 5, 5])  # one person fewer
        return State(state.values, {**state.arrays, SCREENED: numbers})

    _lying(made, forged)
    status, request = await _run(made, contract, 2, HALF)
    assert status == "failed"
    assert made.refusals("Alpha") == [("round", "differencing")]
    assert _rounds(made, request) == 1


async def test_the_first_state_after_a_comparison_is_not_the_hubs_to_choose(
    made: Federation,
) -> None:
    def forged(number: int, state: State) -> State | None:
        if SCREENED not in state.arrays:
            return None
        return State({"round": 7}, state.arrays)

    assert (await _lied(made, forged, HALF))[1] == [("round", "wrong-round")]


async def test_a_view_that_was_not_compared_is_refused(made: Federation) -> None:
    contract = await _agree(made)
    _lying(made, lambda number, state: State({**state.values, "screen_view": 1}))
    status, _ = await _run(made, contract, 1, EVERYBODY)
    assert status == "failed"
    assert made.refusals("Alpha") == [("round", "malformed-message")]


async def test_a_malformed_comparison_is_refused(made: Federation) -> None:
    contract = await _agree(made)
    hub = await made.by_hand(contract, share=False)
    for body in (
        {},
        {"min_cell": 5, "earlier": []},
        {"min_cell": 5, "earlier": [["key"]]},
        {"min_cell": 5, "earlier": [["key", 2, 2]]},
        {"min_cell": True, "earlier": [["key", 1, 0]]},
        {"min_cell": 5, "earlier": [["key", 1, 0], ["key", 1, 0]]},
        {"min_cell": 5, "earlier": [["key", 1, 0]], "more": 1},
        {"min_cell": 5, "earlier": [["key", 10**7, 0]]},
    ):
        question = hub.question("Alpha", values={SCREENING: body})
        await refused(made, "Alpha", question, "malformed-message")


def test_the_persons_of_the_attack_are_those_of_the_tests() -> None:
    ages = pd.concat(
        [pd.Series(range(10 * seed, 10 * seed + 12)) for seed in (1, 2, 3)], ignore_index=True
    )
    assert (ages == 10).sum() == 1
    assert (~((ages < 18) | (ages >= 25))).sum() == 9


# What may happen meanwhile


async def test_persons_are_known_again_in_a_newer_dataset(made: Federation) -> None:
    contract = await _agree(made)
    await _run(made, contract, 1, EVERYBODY)
    frame = pd.DataFrame({"age": np.arange(12) + 10, "weight": np.arange(12) * 1.5 + 1})
    turned = frame.iloc[:0:-1].reset_index(drop=True)  # without the person of 10
    newer = MemoryDatasets.from_frame("patients", turned)
    service = made.node("Alpha").service
    service.datasets = newer
    service.persons = Persons(newer)
    service._screening._persons = service.persons
    service._screening._released._datasets = newer
    outbox.owe_datasets(service.store, newer.published())
    await outbox.flush(
        service.store, lambda message: made.uplinks["Alpha"].request(message, TIMEOUT_S)
    )
    published = newer.published()[0]
    changed = {
        "dataset_digest": published.content_digest,
        "dictionary_digest": published.dictionary.digest,
    }
    mine, *others = contract.participants
    second = amended(contract, participants=(mine.model_copy(update=changed), *others))
    await made.propose(second)
    for site in SITES:
        await made.sign(site, second.digest)
    status, request = await _run(made, second, 2, EVERYBODY)
    assert (status, made.error(request)["code"]) == ("failed", "differencing")


async def test_a_restarted_hub_goes_on_after_the_comparison(made: Federation) -> None:
    contract = await _agree(made)
    await _run(made, contract, 1, EVERYBODY)
    made.away = lambda site, message: (
        site == "Beta"
        and message.WhichOneof("body") == "round_request"
        and message.round_request.round == 2
    )
    status, request = await _run(made, contract, 2, HALF)
    assert status == "failed"
    made.away = None
    await made.restart_hub()
    assert await made.resume(request) == "succeeded"
    assert made.result(request)["n"] == 36 - 9
    assert [_rounds(made, request, site) for site in SITES] == [4, 4, 4]


async def test_a_site_that_drops_out_of_the_comparison_is_not_in_the_result() -> None:
    async with federation(world=World(sites=FIVE, min_sites=4), straggler_s=0.2) as made:
        contract = await _agree(made)
        await _run(made, contract, 1, EVERYBODY)
        made.away = lambda site, message: (
            site == "Kappa"
            and message.WhichOneof("body") == "round_request"
            and message.round_request.run_id == f"{2:032x}"
        )
        status, request = await _run(made, contract, 2, HALF)
        assert (status, made.result(request)["n"]) == ("succeeded", 48 - 9)
        assert len(_remembered(made, "Kappa")) == 1
        assert len(_remembered(made, "Alpha")) == 2
        # Kappa is told of these persons for the first time in a run with other numbers of rounds.
        made.away = None
        params = {"variable": "age", "rounds": 2}
        again = made.request(contract, 3, cohort=HALF, params=params)
        assert await made.run(again) == "succeeded"
        assert made.result(again)["n"] == 60 - 9
        assert len(_remembered(made, "Kappa")) == 2


async def test_idle_criteria_do_not_make_another_computation_of_the_same_one() -> None:
    """With them a researcher could have one computation over two sets of sites."""
    async with federation(world=World(min_sites=2)) as made:
        contract = await _agree(made)
        await _run(made, contract, 1, EVERYBODY)
        made.away = lambda site, message: (
            site == "Gamma" and message.WhichOneof("body") == "run_prepare"
        )
        idle = Derived(name="idle", expression="age + 1")
        for number, cohort in enumerate((EVERYBODY, Selection(), Selection(derived=(idle,))), 2):
            status, request = await _run(made, contract, number, cohort)
            assert (status, made.error(request)["code"]) == ("failed", "differencing")
        assert (await _run(made, contract, 9, HALF))[0] == "succeeded"
