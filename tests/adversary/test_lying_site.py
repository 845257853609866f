"""A site that does not keep to the protocol: its run fails, and nothing comes out of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.support.adversary import Federation, Sums, federation, find
from tests.support.builders import SITES, SumParams

import cohortium as co
from cohortium.analysis.interface import AnyAnalysis, Scope
from cohortium.core.rounds import Contribution, State
from cohortium.core.table import Table
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ConflictError, PeerError, PolicyRefusal
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import error_message
from cohortium.secagg.party import Party

LIAR = "Beta"
Lie = Callable[[Federation, pb.Message, pb.Message], pb.Message]


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation() as one:
        yield one


def _masked(change: Callable[[bytes], bytes]) -> Lie:
    def lie(_made: Federation, _asked: pb.Message, reply: pb.Message) -> pb.Message:
        reply.round_reply.masked = change(reply.round_reply.masked)
        return reply

    return lie


def _other_run(_made: Federation, _asked: pb.Message, reply: pb.Message) -> pb.Message:
    reply.round_reply.run_id = "f" * 32
    return reply


def _other_round(_made: Federation, _asked: pb.Message, reply: pb.Message) -> pb.Message:
    reply.round_reply.round += 1
    return reply


def _the_first_rounds_vector(made: Federation, asked: pb.Message, reply: pb.Message) -> pb.Message:
    if asked.round_request.round == 2:
        first = next(h for h in made.heard if h.site == LIAR and h.reply.HasField("round_reply"))
        reply.round_reply.masked = first.reply.round_reply.masked
    return reply


def _anothers_vector(made: Federation, asked: pb.Message, reply: pb.Message) -> pb.Message:
    honest = made.node("Alpha").service.answer(asked)
    reply.round_reply.masked = honest.round_reply.masked
    return reply


def _an_advert(_made: Federation, _asked: pb.Message, _reply: pb.Message) -> pb.Message:
    return pb.Message(run_advert=pb.RunAdvert(envelope=b"x"))


def _nothing(_made: Federation, _asked: pb.Message, _reply: pb.Message) -> pb.Message:
    return pb.Message()


def _unreadable_error(_made: Federation, _asked: pb.Message, _reply: pb.Message) -> pb.Message:
    return pb.Message(error=pb.Error(json=b"\xff{"))


def _unknown_error(_made: Federation, _asked: pb.Message, _reply: pb.Message) -> pb.Message:
    return pb.Message(error=pb.Error(json=b'{"code":"all-is-well","message":"","details":{}}'))


def _blames_another(_made: Federation, _asked: pb.Message, _reply: pb.Message) -> pb.Message:
    return error_message(PolicyRefusal("too-few-persons", "Only 3.", site="Alpha"))


def _names_arguments(_made: Federation, _asked: pb.Message, _reply: pb.Message) -> pb.Message:
    """Keys that are parameters of the error's own constructor."""
    wire = (
        b'{"code":"too-few-persons","message":"Only 3.","details":{"code":1,"message":2,"self":3}}'
    )
    return pb.Message(error=pb.Error(json=wire))


def _says_its_store_is_broken(
    _made: Federation, _asked: pb.Message, _reply: pb.Message
) -> pb.Message:
    wire = b'{"code":"internal","message":"Stop.","details":{}}'
    return pb.Message(error=pb.Error(json=wire))


@pytest.mark.parametrize(
    ("lie", "code", "names_it"),
    [
        (_masked(lambda v: v[:-8]), "wrong-length", True),
        (_masked(lambda v: v + bytes(8)), "wrong-length", True),
        (_masked(lambda v: v[:-1]), "wrong-length", True),
        (_masked(lambda _v: b""), "wrong-length", True),
        (_masked(lambda v: v * 50_000), "wrong-length", True),
        (_masked(lambda v: bytes(len(v))), "masks-do-not-cancel", False),
        (_masked(lambda v: b"\xa5" * len(v)), "masks-do-not-cancel", False),
        (_masked(lambda v: bytes([v[0] ^ 1]) + v[1:]), "masks-do-not-cancel", False),
        (_masked(lambda v: np.full(len(v) // 8, np.nan).tobytes()), "masks-do-not-cancel", False),
        (_the_first_rounds_vector, "masks-do-not-cancel", False),
        (_anothers_vector, "masks-do-not-cancel", False),
        (_other_run, "wrong-round", True),
        (_other_round, "wrong-round", True),
        (_an_advert, "unexpected-message", True),
        (_nothing, "unexpected-message", True),
        (_unreadable_error, "malformed-message", True),
        (_unknown_error, "malformed-message", True),
        (_blames_another, "too-few-persons", True),
        (_names_arguments, "too-few-persons", True),
        (_says_its_store_is_broken, "peer-failed", True),
    ],
)
async def test_what_a_site_answers_to_a_round(
    made: Federation, lie: Lie, code: str, names_it: bool
) -> None:
    contract = await made.agree()
    request = made.request(contract, params={"variable": "age", "rounds": 2})

    def lies(site: str, asked: pb.Message, reply: pb.Message) -> pb.Message:
        of_round = asked.WhichOneof("body") == "round_request"
        return lie(made, asked, reply) if site == LIAR and of_round else reply

    made.site_lies = lies
    assert await made.run(request) == "failed"
    error = made.error(request)
    assert error["code"] == code, error
    assert (error["details"].get("site") == LIAR) is names_it
    with pytest.raises(ConflictError):
        made.result(request)
    for site in ("Alpha", "Gamma"):
        assert made.refusals(site) == []
    # A run that can only fail again is over at the honest sites, and their journals say how.
    if code not in {"masks-do-not-cancel", "peer-failed"}:
        for site in ("Alpha", "Gamma"):
            ends = made.node(site).decisions(what="end", run_id=request.run_id)
            assert [entry["outcome"] for entry in ends] == ["failed"]
    # The hub and the others are none the worse.
    made.site_lies = None
    assert await made.run(made.request(contract, 2)) == "succeeded"


def _garbage_key(_made: Federation, _asked: pb.Message, _reply: pb.Message) -> pb.Message:
    return pb.Message(run_advert=pb.RunAdvert(envelope=b"\x00" * 300))


def _anothers_key(made: Federation, asked: pb.Message, _reply: pb.Message) -> pb.Message:
    return made.node("Alpha").service.answer(asked)


def _key_signed_by_a_stranger(
    made: Federation, _asked: pb.Message, _reply: pb.Message
) -> pb.Message:
    run_id = f"{1:032x}"
    stored = made.node(LIAR).store.run(run_id)
    assert stored is not None
    _, envelope = Party.prepare(
        site=LIAR,
        run_id=run_id,
        contract_digest=stored.contract_digest,
        request_digest=stored.request_digest,
        signing_key=SigningKey.from_seed(b"\x55" * 32),
    )
    return pb.Message(run_advert=pb.RunAdvert(envelope=envelope))


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (_garbage_key, "malformed-message"),
        (_anothers_key, "unknown-signer"),
        (_key_signed_by_a_stranger, "unknown-signer"),
        (_nothing, "unexpected-message"),
        (_names_arguments, "too-few-persons"),
    ],
)
async def test_what_a_site_answers_to_the_key_agreement(
    made: Federation, lie: Lie, code: str
) -> None:
    contract = await made.agree()
    request = made.request(contract)

    def lies(site: str, asked: pb.Message, reply: pb.Message) -> pb.Message:
        if site != LIAR or asked.WhichOneof("body") != "run_prepare":
            return reply
        return lie(made, asked, reply)

    made.site_lies = lies
    assert await made.run(request) == "failed"
    assert made.error(request)["code"] == code
    assert made.masked(request) == []  # no site was asked for anything
    made.site_lies = None
    if lie is _names_arguments:  # here its node said yes
        await made.accept_alarm(LIAR)
    assert await made.run(made.request(contract, 2)) == "succeeded"


# Values that cannot be masked


class _Broken(Sums):
    """Another program, or data that the honest one cannot add up."""

    def __init__(self, value: float) -> None:
        self._value = value

    def local(self, table: Table, state: State, params: SumParams, scope: Scope) -> Contribution:
        honest = super().local(table, state, params, scope)
        return {**honest, "sum": np.array([1.0, self._value])}


def _finder(value: float) -> Callable[[str], AnyAnalysis]:
    def found(name: str) -> AnyAnalysis:
        find(name)
        return _Broken(value)

    return found


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -(2.0**126)])
async def test_what_is_not_a_number_never_leaves_the_site(value: float) -> None:
    async with federation({LIAR: _finder(value)}) as made:
        contract = await made.agree()
        request = made.request(contract)
        assert await made.run(request) == "failed"
        error = made.error(request)
        assert error["code"] == "overflow", error
        assert error["details"] == {"site": LIAR, "field": "sum", "index": 1}
        assert "sum[1]" in error["message"]
        assert made.refusals(LIAR) == [("round", "overflow")]
        assert made.rounds(LIAR, request.run_id) == []
        assert not [heard for heard in made.masked(request) if heard.site == LIAR]
        assert made.decodable(request, contract) == []


async def test_numbers_that_fit_do_not_wrap(made: Federation) -> None:
    """The largest that three sites may send, all at once."""
    largest = float(np.nextafter(2.0**127 / 3, 0))
    async with federation(dict.fromkeys(SITES, _finder(largest))) as big:
        contract = await big.agree()
        request = big.request(contract)
        assert await big.run(request) == "succeeded"
        assert big.result(request)["sum"] == [3.0, pytest.approx(3 * largest, rel=1e-15)]


# Sites that are there and then are not


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_site_that_drops_out_stops_the_run_which_goes_on_with_it(
    leaves: bool,
) -> None:
    async with federation(timeout_s=1.0) as made:
        await _drops_out(made, leaves)


async def _drops_out(made: Federation, leaves: bool) -> None:
    contract = await made.agree()
    request = made.request(contract)
    handler = made.link._nodes[LIAR][0]

    def drop(site: str, asked: pb.Message, reply: pb.Message) -> pb.Message:
        if site == "Alpha" and asked.round_request.round == 1:
            if leaves:
                made.link.leave(LIAR)
            made.silent.add(LIAR)
        return reply

    made.site_lies = drop
    assert await made.run(request) == "failed"
    error: Any = made.error(request)
    assert error["code"] in {"peer-timeout", "peer-unreachable"}
    assert error["family"] == PeerError.__name__
    assert error["details"]["site"] == LIAR
    assert LIAR in error["message"]
    # Not without it: its parties are fixed.
    user = made.hub.user(made.world.researcher.public)
    await made.hub.resume(request.run_id, user)
    assert await made.settled(request) == "failed"
    made.site_lies = None
    made.silent.clear()
    if leaves:
        made.uplinks[LIAR] = made.link.join(LIAR, handler)
    await made.hub.resume(request.run_id, user)
    assert await made.settled(request) == "succeeded"
    assert made.result(request)["n"] == 36
    for site in SITES:
        numbers = [entry["round"] for entry in made.rounds(site, request.run_id)]
        assert numbers == [1, 2, 3]
        assert made.refusals(site) == []


def _frame(seed: int, outlier: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.normal(50, 5, 40),
            "bmi": rng.normal(25, 3, 40),
            "sex": rng.choice(["f", "m"], 40),
            "event": rng.integers(0, 2, 40),
        }
    )
    frame.loc[3, "bmi"] = outlier
    return frame


@pytest.mark.parametrize("outlier", [1e20, 1e25, 1e39])
def test_an_overflow_names_the_column(outlier: float) -> None:
    frames = {"a": _frame(1, 30), "b": _frame(2, outlier), "c": _frame(3, 30)}
    analyses: tuple[Callable[[co.Study], object], ...] = (
        lambda study: study.describe(["age", "bmi"]),
        lambda study: study.describe(["age", "bmi"], by="sex"),
        lambda study: study.glm("event ~ age + bmi + sex", family="binomial"),
        lambda study: study.glm("bmi ~ age", family="gaussian"),
    )
    with co.local(frames) as local:
        for analyse in analyses:
            with pytest.raises(co.InputError) as caught:
                analyse(local.study())
            assert caught.value.code == "overflow"
            assert caught.value.details["column"] == "bmi"
            assert ": bmi:" in caught.value.message
            assert "e+" not in caught.value.message  # the value stays at home
