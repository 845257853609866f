"""Checks of the hub in the secure sum that only a lie of its own shows; see tests/mutants."""

from __future__ import annotations

import pytest
from tests.support.adversary import federation
from tests.support.builders import FIVE, World, expected

from cohortium.link._generated import link_pb2 as pb

LIAR = "Beta"


@pytest.mark.parametrize(("field", "value"), [("round", 2), ("run_id", "f" * 32)])
async def test_keys_for_another_round_or_run_are_handed_to_nobody(
    field: str, value: object
) -> None:
    """Their recipients could not open them, and would be the ones who refuse."""

    def lie(site: str, asked: pb.Message, reply: pb.Message) -> pb.Message:
        if site == LIAR and asked.WhichOneof("body") == "share_request":
            setattr(reply.share_reply, field, value)
        return reply

    async with federation(world=World(sites=FIVE, min_sites=3)) as made:
        contract = await made.agree()
        request = made.request(contract)
        made.site_lies = lie
        assert await made.run(request) == "failed"
        error = made.error(request)
        assert (error["code"], error["details"]["site"]) == ("wrong-round", LIAR)
        assert made.masked(request) == []  # nobody was asked for anything


async def test_a_run_goes_on_with_its_own_parties_and_survivors_after_a_restart() -> None:
    """Of five in the list one was lost in the first round for good, and one in the second."""
    left = tuple(site for site in FIVE if site != "Sigma")
    rounds = {1: "Sigma", 2: "Beta"}

    def first(site: str, message: pb.Message) -> bool:
        return rounds.get(message.round_request.round) == site

    async with federation(world=World(sites=FIVE, min_sites=3)) as made:
        contract = await made.agree()
        request = made.request(contract)
        made.away = first
        assert await made.run(request) == "failed"
        await made.restart_hub()
        made.away = lambda site, message: site == "Sigma" and not message.HasField("run_end")
        assert await made.resume(request) == "succeeded", made.error(request)
        assert made.result(request) == expected(left, 3)
        assert made.hub.store.runs.get(request.run_id).info.participants == left
