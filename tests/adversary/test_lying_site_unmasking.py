"""A site that lies in the steps of the secure sum, among five of which four open a sum.

The run fails, with the site's name where it can be known, or goes on without the site; the others'
contributions stay as hidden as they are from a site that keeps to the protocol.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from tests.support.adversary import Federation, federation
from tests.support.builders import FIVE, World, expected

from cohortium.contract.model import Contract, RunRequest
from cohortium.crypto.keys import SigningKey
from cohortium.errors import PolicyRefusal
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import error_message
from cohortium.link.rounds import put_key_shares
from cohortium.secagg.keys import Channel, RoundSecrets, agree, public_key
from cohortium.secagg.messages import KeyShares
from cohortium.secagg.roster import Roster
from cohortium.secagg.shamir import PRIME, SHARE_BYTES

LIAR, GONE = "Beta", "Sigma"
HONEST = tuple(site for site in FIVE if site != LIAR)
SEPARATE = "test.separate"
Change = Callable[[Any], None]


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation(world=World(sites=FIVE, min_sites=3)) as one:
        yield one


def lies(made: Federation, step: str, change: Change, number: int = 1) -> None:
    """The liar's answer to a step of a round is changed, and is the first that the hub gets."""

    def lie(site: str, asked: pb.Message, reply: pb.Message) -> pb.Message:
        if asked.WhichOneof("body") != step or getattr(asked, step).round != number:
            return reply
        if site != LIAR:
            time.sleep(0.1)
            return reply
        change(reply)
        return reply

    made.site_lies = lie


def drop(made: Federation, site: str, number: int = 1) -> None:
    """A site does not get a round's request, so that a list of survivors is to be signed."""
    made.away = lambda one, message: one == site and message.round_request.round == number


async def hidden(made: Federation, contract: Contract, *requests: RunRequest) -> None:
    """Of the honest ones, not less than three are in anything that hub and liar can decode."""
    assert made.decoding(contract, [LIAR]).smallest(*requests) >= 3
    for site in HONEST:
        assert made.refusals(site) == []


async def begun(made: Federation, **changes: Any) -> tuple[Contract, RunRequest]:
    contract = await made.agree()
    return contract, made.request(contract, **changes)


async def fails(made: Federation, request: RunRequest, code: str) -> Mapping[str, Any]:
    assert await made.run(request) == "failed"
    error = made.error(request)
    assert error["code"] == code, error
    return error


async def works_again(made: Federation, contract: Contract) -> None:
    """Hub and sites are none the worse."""
    made.site_lies, made.away = None, None
    other = made.request(contract, 9, params={"variable": "age", "rounds": 1})
    assert await made.run(other) == "succeeded", made.error(other)
    assert made.result(other) == expected(FIVE)


# Step 4: what it opens


def _other_value(reply: Any) -> None:
    share = reply.unmasking.shares[0]
    share.data = share.data[:-1] + bytes([share.data[-1] ^ 1])


def _zeros(reply: Any) -> None:
    for share in reply.unmasking.shares:
        share.data = bytes(SHARE_BYTES)


def _swapped(reply: Any) -> None:
    first, second = reply.unmasking.shares[:2]
    first.data, second.data = second.data, first.data


def _one_missing(reply: Any) -> None:
    del reply.unmasking.shares[-1]


def _nothing(reply: Any) -> None:
    del reply.unmasking.shares[:]


def _one_twice(reply: Any) -> None:
    reply.unmasking.shares.append(reply.unmasking.shares[0])


def _of_nobody(reply: Any) -> None:
    reply.unmasking.shares[0].party = 5


def _short(reply: Any) -> None:
    reply.unmasking.shares[0].data = reply.unmasking.shares[0].data[:-1]


def _long(reply: Any) -> None:
    reply.unmasking.shares[0].data += b"\x00" * 50_000


def _out_of_the_field(reply: Any) -> None:
    reply.unmasking.shares[0].data = PRIME.to_bytes(SHARE_BYTES)


def _other_run(reply: Any) -> None:
    reply.unmasking.run_id = "f" * 32


def _other_round(reply: Any) -> None:
    reply.unmasking.round += 1


def _another_message(reply: Any) -> None:
    reply.CopyFrom(pb.Message(ack=pb.Ack()))


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize(
    ("change", "code", "names_it"),
    [
        (_other_value, "masks-do-not-cancel", False),
        (_zeros, "masks-do-not-cancel", False),
        (_swapped, "masks-do-not-cancel", False),
        (_one_missing, "malformed-message", True),
        (_nothing, "malformed-message", True),
        (_one_twice, "malformed-message", True),
        (_of_nobody, "malformed-message", True),
        (_short, "malformed-message", True),
        (_long, "malformed-message", True),
        (_out_of_the_field, "malformed-message", True),
        (_other_run, "wrong-round", True),
        (_other_round, "wrong-round", True),
        (_another_message, "unexpected-message", True),
    ],
)
async def test_what_a_site_opens(
    made: Federation, change: Change, code: str, names_it: bool, drops: bool
) -> None:
    contract, request = await begun(made)
    lies(made, "unmask_request", change)
    if drops:
        drop(made, GONE)
    error = await fails(made, request, code)
    assert (error["details"].get("site") == LIAR) is names_it
    assert (LIAR in error["message"]) is names_it
    await hidden(made, contract, request)
    await works_again(made, contract)


async def test_a_sum_of_wrong_shares_comes_out_when_the_site_is_honest_again(
    made: Federation,
) -> None:
    contract, request = await begun(made)
    lies(made, "unmask_request", _other_value)
    await fails(made, request, "masks-do-not-cancel")
    made.site_lies = None
    assert await made.resume(request) == "succeeded"
    assert made.result(request) == expected(FIVE, 3)
    await hidden(made, contract, request)


@pytest.mark.parametrize("change", [_zeros, _another_message])
async def test_who_lies_when_enough_have_opened_is_not_heard(
    made: Federation, change: Change
) -> None:
    """Four answers open a sum of five; the fifth changes nothing."""
    _, request = await begun(made)

    def lie(site: str, asked: pb.Message, reply: pb.Message) -> pb.Message:
        if site == LIAR and asked.HasField("unmask_request"):
            time.sleep(0.2)
            change(reply)
        return reply

    made.site_lies = lie
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == expected(FIVE, 3)


async def test_a_site_that_opens_nothing_is_not_needed(made: Federation) -> None:
    _, request = await begun(made)
    made.away = lambda site, message: site == LIAR and message.HasField("unmask_request")
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == expected(FIVE, 3)


# Step 3: what it signs


def _garbage(reply: Any) -> None:
    reply.survivor_signature.signature = b"\xa5" * 64


def _no_signature(reply: Any) -> None:
    reply.survivor_signature.signature = b""


def _long_signature(reply: Any) -> None:
    reply.survivor_signature.signature *= 1000


def _strangers_signature(reply: Any) -> None:
    stranger = SigningKey.from_seed(b"\x55" * 32)
    reply.survivor_signature.signature = stranger.sign(b"any list")


@pytest.mark.parametrize("change", [_garbage, _no_signature, _long_signature, _strangers_signature])
async def test_what_a_site_signs(made: Federation, change: Change) -> None:
    contract, request = await begun(made)
    lies(made, "consistency_request", change)
    drop(made, GONE)
    error = await fails(made, request, "bad-signature")
    assert error["details"]["site"] == LIAR
    assert made.decodable(request, contract) == []
    await hidden(made, contract, request)
    await works_again(made, contract)


async def test_a_site_that_signs_another_list_than_it_was_asked_to(made: Federation) -> None:
    contract, request = await begun(made)

    def lie(site: str, asked: pb.Message, reply: pb.Message) -> pb.Message:
        if site == LIAR and asked.HasField("consistency_request"):
            other = pb.SurvivorList(run_id=request.run_id, round=1, survivors=b"\x1e")
            # Its node signs one list only: the liar's own program would sign this one.
            again = made.node(LIAR).service.answer(pb.Message(consistency_request=other))
            assert again.HasField("error")
            reply.survivor_signature.signature = made.world.keys[LIAR].sign(b"another list")
        return reply

    made.site_lies = lie
    drop(made, GONE)
    error = await fails(made, request, "bad-signature")
    assert error["details"]["site"] == LIAR
    assert made.decodable(request, contract) == []
    await hidden(made, contract, request)


# Step 1: the keys that it shares


def _of_keys(change: Callable[[pb.ShareReply], None]) -> tuple[Change, Change]:
    """The same lie in the answer to step 1, and beside a masked input for the next round."""

    def asked(reply: Any) -> None:
        change(reply.share_reply)

    def beside(reply: Any) -> None:
        change(reply.round_reply.next)

    return asked, beside


def _to_one_neighbour(keys: pb.ShareReply) -> None:
    sealed = keys.sealed[0]
    sealed.data = bytes([sealed.data[0] ^ 1]) + sealed.data[1:]


def _to_two_swapped(keys: pb.ShareReply) -> None:
    first, second = keys.sealed[:2]
    first.data, second.data = second.data, first.data


def _another_mask_key(keys: pb.ShareReply) -> None:
    keys.mask_key = public_key(bytes(range(32)))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("change", [_to_one_neighbour, _to_two_swapped, _another_mask_key])
async def test_shares_that_a_neighbour_cannot_open(
    made: Federation, change: Callable[[pb.ShareReply], None], beside: bool
) -> None:
    """The neighbour says whose they are; whether it or the liar lies, the hub cannot know."""
    contract, request = await begun(made, computation=SEPARATE)
    lies(made, "round_request" if beside else "share_request", _of_keys(change)[beside])
    error = await fails(made, request, "bad-share")
    assert error["details"]["site"] in HONEST
    assert LIAR in error["message"]
    refused = [made.refusals(site) for site in HONEST]
    assert [("round", "bad-share")] in refused
    assert all(one in ([], [("round", "bad-share")]) for one in refused)
    assert made.refusals(LIAR) == []
    assert made.decoding(contract, [LIAR]).smallest(request) >= 3
    await works_again(made, contract)


def _one_neighbour_left_out(keys: pb.ShareReply) -> None:
    del keys.sealed[0]


def _to_itself(keys: pb.ShareReply) -> None:
    keys.sealed.add(party=1, data=keys.sealed[0].data)


def _no_mask_key(keys: pb.ShareReply) -> None:
    keys.mask_key = b""


def _short_shares(keys: pb.ShareReply) -> None:
    keys.sealed[0].data = keys.sealed[0].data[1:]


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    "change", [_one_neighbour_left_out, _to_itself, _no_mask_key, _short_shares]
)
async def test_keys_that_are_not_what_the_step_asks_for(
    made: Federation, change: Callable[[pb.ShareReply], None], beside: bool
) -> None:
    contract, request = await begun(made, computation=SEPARATE)
    lies(made, "round_request" if beside else "share_request", _of_keys(change)[beside])
    error = await fails(made, request, "malformed-message")
    assert error["details"]["site"] == LIAR
    await hidden(made, contract, request)
    await works_again(made, contract)


def _for_another_round(reply: Any) -> None:
    reply.share_reply.round += 1


def _for_another_run(reply: Any) -> None:
    reply.share_reply.run_id = "f" * 32


@pytest.mark.parametrize("change", [_for_another_round, _for_another_run])
async def test_keys_for_something_else_than_was_asked(made: Federation, change: Change) -> None:
    _, request = await begun(made)
    lies(made, "share_request", change)
    error = await fails(made, request, "wrong-round")
    assert error["details"]["site"] == LIAR
    assert made.masked(request) == []


def _no_next(reply: Any) -> None:
    reply.round_reply.ClearField("next")


def _next_of_another_round(reply: Any) -> None:
    reply.round_reply.next.round += 1


@pytest.mark.parametrize("change", [_no_next, _next_of_another_round])
async def test_keys_that_did_not_come_with_the_input_are_asked_for(
    made: Federation, change: Change
) -> None:
    _, request = await begun(made)
    lies(made, "round_request", change)
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == expected(FIVE, 3)


class Own:
    """What a lying program can seal with its own keys."""

    def __init__(self, made: Federation, contract: Contract, request: RunRequest) -> None:
        adverts = made.adverts_of(request)
        self.roster = Roster.verify(
            list(adverts.values()),
            contract_keys={p.name: p.key for p in contract.participants},
            run_id=request.run_id,
            contract_digest=contract.digest,
            request_digest=request.digest,
            min_sites=2,
        )
        self.secret = made.node(LIAR).drawn[-1]
        self.request = request

    def keys(self, number: int, mask_key: bytes, texts: Mapping[str, bytes]) -> KeyShares:
        sealed = {}
        for peer, text in texts.items():
            shared = agree(self.secret, self.roster.keys[peer], peer)
            channel = Channel(shared, self.roster.digest, LIAR, peer)
            sealed[peer] = channel.seal(number, mask_key, text)
        return KeyShares(LIAR, number, mask_key, sealed)

    @property
    def mask_key(self) -> bytes:
        return public_key(RoundSecrets(self.secret, self.roster.digest, 1).mask_secret)


class _Places:
    """The little of `Parties` that writing keys needs."""

    @staticmethod
    def point(site: str) -> int:
        return FIVE.index(site) + 1


def shares_instead(
    made: Federation, contract: Contract, request: RunRequest, make: Callable[[Own], KeyShares]
) -> None:
    def change(reply: Any) -> None:
        keys = make(Own(made, contract, request))
        places: Any = _Places()
        reply.share_reply.CopyFrom(put_key_shares(keys, request.run_id, places))

    lies(made, "share_request", change)


async def test_a_mask_key_of_small_order_is_refused_by_the_neighbours(made: Federation) -> None:
    """With it, everybody would know the masks between the liar and the others."""
    contract, request = await begun(made)
    texts = dict.fromkeys(HONEST, bytes(2 * SHARE_BYTES))
    shares_instead(made, contract, request, lambda own: own.keys(1, bytes(32), texts))
    error = await fails(made, request, "roster-mismatch")
    assert LIAR in error["message"]
    assert made.decoding(contract, [LIAR]).smallest(request) >= 3
    await works_again(made, contract)


async def test_shares_that_do_not_belong_together_cost_the_round(made: Federation) -> None:
    """Nobody can know before they are opened, and then not whose fault it is."""
    contract, request = await begun(made)
    texts = {site: bytes([FIVE.index(site)]) * 5 + bytes(61) for site in HONEST}
    shares_instead(made, contract, request, lambda own: own.keys(1, own.mask_key, texts))
    error = await fails(made, request, "masks-do-not-cancel")
    assert LIAR not in error["message"]
    await hidden(made, contract, request)


async def test_a_dropped_sites_shares_that_do_not_open_its_mask_key_name_it(
    made: Federation,
) -> None:
    """Whoever shared a secret that is not its own, and then dropped out."""
    contract, request = await begun(made)
    texts = dict.fromkeys(HONEST, (7).to_bytes(SHARE_BYTES) * 2)  # a constant polynomial
    shares_instead(made, contract, request, lambda own: own.keys(1, own.mask_key, texts))
    drop(made, LIAR)
    error = await fails(made, request, "masks-do-not-cancel")
    assert LIAR in error["message"]
    await hidden(made, contract, request)


# Step 2: its vector


def _other_check_word(reply: Any) -> None:
    words = reply.round_reply.masked
    reply.round_reply.masked = bytes([words[0] ^ 1]) + words[1:]


def _all_zeros(reply: Any) -> None:
    reply.round_reply.masked = bytes(len(reply.round_reply.masked))


@pytest.mark.parametrize("change", [_other_check_word, _all_zeros])
@pytest.mark.parametrize("drops", [False, True])
async def test_a_vector_that_is_not_masked_for_the_round(
    made: Federation, change: Change, drops: bool
) -> None:
    contract, request = await begun(made)
    lies(made, "round_request", change)
    if drops:
        drop(made, GONE)
    await fails(made, request, "masks-do-not-cancel")
    await hidden(made, contract, request)
    await works_again(made, contract)


def _too_short(reply: Any) -> None:
    reply.round_reply.masked = reply.round_reply.masked[:-8]


@pytest.mark.parametrize("number", [1, 2])
async def test_a_vector_of_the_wrong_length_names_its_site(made: Federation, number: int) -> None:
    contract, request = await begun(made, computation=SEPARATE)
    lies(made, "round_request", _too_short, number)
    error = await fails(made, request, "wrong-length")
    assert error["details"]["site"] == LIAR
    assert len(made.decodable(request, contract)) == number - 1


async def test_two_vectors_for_one_round(made: Federation) -> None:
    """The hub lost the first one; nobody can know that the second is another."""
    contract, request = await begun(made)
    made.away = lambda site, message: site in {"Alpha", GONE} and message.HasField("unmask_request")
    await fails(made, request, "round-burnt")
    made.away = None
    lies(made, "round_request", _all_zeros)
    assert await made.resume(request) == "failed"
    assert made.error(request)["code"] == "masks-do-not-cancel"
    made.site_lies = None
    assert await made.resume(request) == "succeeded"
    assert made.result(request) == expected(FIVE, 3)
    await hidden(made, contract, request)


# Anything else


@pytest.mark.parametrize(
    "step", ["share_request", "round_request", "consistency_request", "unmask_request"]
)
async def test_an_error_that_a_site_makes_up_fails_the_run_in_its_name(
    made: Federation, step: str
) -> None:
    contract, request = await begun(made, computation=SEPARATE)
    drop(made, GONE)

    def change(reply: Any) -> None:
        reply.CopyFrom(error_message(PolicyRefusal("too-few-persons", "Only 3.", site="Alpha")))

    lies(made, step, change)
    error = await fails(made, request, "too-few-persons")
    assert error["details"]["site"] == LIAR
    await hidden(made, contract, request)
    await works_again(made, contract)
