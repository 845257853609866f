"""A hub that asks a node two things at the same time, each of which alone would be right."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from tests.support.adversary import Federation, Sums, federation, find
from tests.support.builders import SumParams, round_request

from cohortium.analysis.interface import AnyAnalysis, Scope
from cohortium.contract.model import Computation, RunRequest
from cohortium.core.rounds import Contribution, State
from cohortium.core.table import Table
from cohortium.errors import CohortiumError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import raise_if_error
from cohortium.node.policy import Policy

WAIT_S = 1.0


class _Together(Sums):
    """Every contribution waits until another one is being computed."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self._barrier = barrier

    def local(self, table: Table, state: State, params: SumParams, scope: Scope) -> Contribution:
        with suppress(threading.BrokenBarrierError):
            self._barrier.wait(WAIT_S)
        return super().local(table, state, params, scope)


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    barrier = threading.Barrier(2)

    def together(name: str) -> AnyAnalysis:
        find(name)
        return _Together(barrier)

    async with federation({"Alpha": together}) as one:
        yield one


def _ask_at_once(made: Federation, messages: Sequence[pb.Message]) -> list[str]:
    """The codes of a node's answers, "ok" among them, sorted."""

    def ask(message: pb.Message) -> str:
        try:
            raise_if_error(made.node("Alpha").service.answer(message))
        except CohortiumError as error:
            return error.code
        return "ok"

    with ThreadPoolExecutor(len(messages)) as pool:
        return sorted(pool.map(ask, messages))


async def _prepared(made: Federation, *requests: RunRequest) -> list[list[bytes]]:
    return [list((await made.adverts(request)).values()) for request in requests]


async def test_one_round_for_two_states(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)
    (roster,) = await _prepared(made, request)
    first = round_request(request, roster)
    assert _ask_at_once(made, [first, first]) == ["ok", "ok"]
    two = [round_request(request, roster, 2, {"round": value}) for value in (2, 77)]
    assert _ask_at_once(made, two) == ["ok", "wrong-round"]
    assert made.refusals("Alpha") == [("round", "wrong-round")]
    assert [entry["round"] for entry in made.rounds("Alpha", request.run_id)] == [1, 2]


async def test_one_run_for_two_lists_of_parties(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)
    (roster,) = await _prepared(made, request)
    two = [round_request(request, parties) for parties in (roster, roster[:2])]
    assert _ask_at_once(made, two) == ["ok", "roster-mismatch"]
    assert made.refusals("Alpha") == [("round", "roster-mismatch")]


async def test_two_runs_of_one_computation_over_two_lists(made: Federation) -> None:
    contract = await made.agree()
    one, other = made.request(contract, 1), made.request(contract, 2)
    of_one, of_other = await _prepared(made, one, other)
    two = [round_request(one, of_one), round_request(other, of_other[:2])]
    assert _ask_at_once(made, two) == ["differencing", "ok"]
    assert made.refusals("Alpha") == [("round", "differencing")]


@pytest.mark.parametrize("by", ["contract", "policy"])
async def test_the_last_run_twice(made: Federation, by: str) -> None:
    limit = 1 if by == "contract" else None
    contract = await made.agree(computations=(Computation(name="test.*", max_runs=limit),))
    if by == "policy":
        made.node("Alpha").policy[0] = Policy(max_runs_per_day=1)
    one, other = made.request(contract, 1), made.request(contract, 2)
    of_one, of_other = await _prepared(made, one, other)
    two = [round_request(one, of_one), round_request(other, of_other)]
    code = "run-limit" if by == "contract" else "site-policy"
    assert _ask_at_once(made, two) == sorted(["ok", code])
    assert made.refusals("Alpha") == [("round", code)]


async def test_one_request_many_times(made: Federation) -> None:
    """It is admitted once: one secret, one round key, one entry."""
    contract = await made.agree()
    request = made.request(contract)
    message = made.world.prepare(request)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(made.node("Alpha").service.answer, [message] * 8))
    assert len({reply.run_advert.envelope for reply in replies}) == 1
    assert len(made.node("Alpha").decisions(what="run", run_id=request.run_id)) == 1


async def test_two_requests_under_one_run_id(made: Federation) -> None:
    contract = await made.agree()
    one = made.request(contract, 1)
    other = made.request(contract, 1, params={"variable": "age", "rounds": 1})
    messages = [made.world.prepare(request) for request in (one, other)]
    assert _ask_at_once(made, messages) == ["ok", "replayed"]
    assert made.refusals("Alpha") == [("run", "replayed")]


async def test_an_end_in_the_middle_of_a_round(made: Federation) -> None:
    """Over is over: what was being computed is not answered any more."""
    contract = await made.agree()
    request = made.request(contract)
    (roster,) = await _prepared(made, request)
    node = made.node("Alpha")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(node.service.answer, round_request(request, roster))
        threading.Event().wait(0.1)  # the contribution is being computed
        end = pb.Message(run_end=pb.RunEnd(run_id=request.run_id, outcome="cancelled"))
        raise_if_error(node.service.answer(end))
        reply = answer.result()
    with pytest.raises(CohortiumError) as caught:
        raise_if_error(reply)
    assert caught.value.code == "wrong-round"
    assert made.refusals("Alpha") == [("round", "wrong-round")]
