"""Checks of the hub in the secure sum that only a lie of its own shows; see tests/mutants."""

from __future__ import annotations

import pytest
from tests.support.adversary import federation
from tests.support.builders import FIVE, World

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
