"""Attacks that work in this release, shown so that docs/threat-model.md stays true.

Whoever closes one changes its test here and its line there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pandas as pd
import pytest
from tests.support.adversary import Federation, federation
from tests.support.builders import World

import cohortium as co
from cohortium.link._generated import link_pb2 as pb


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation() as one:
        yield one


async def test_a_wrong_sum_is_not_noticed(made: Federation) -> None:
    """By a site, or by the hub: whoever adds to a masked vector adds to the total."""

    def lie(site: str, _asked: pb.Message, reply: pb.Message) -> pb.Message:
        if site == "Beta" and reply.WhichOneof("body") == "round_reply":
            words = np.frombuffer(reply.round_reply.masked, dtype="<u8").copy()
            words[1] += np.uint64(1000)  # behind the check word: the number of persons
            reply.round_reply.masked = words.tobytes()
        return reply

    contract = await made.agree()
    request = made.request(contract)
    made.site_lies = lie
    assert await made.run(request) == "succeeded"
    assert made.result(request)["n"] == 1036


def test_one_of_two_sites_knows_the_others_sum() -> None:
    world = World()
    contract = world.contract()
    contract = contract.model_copy(update={"participants": contract.participants[:2]})
    world.ready(contract)
    request = world.request(contract)
    total = world.total(request, contract, world.adverts(request, ("Alpha", "Beta")))
    alphas_own = sum(10 + person for person in range(12))
    assert total["sum"][0] - 1 * alphas_own == sum(20 + person for person in range(12))


def test_two_computations_with_a_sum_in_common_over_two_sets_of_sites() -> None:
    world = World()
    contract = world.ready()
    first = world.request(contract)
    of_all = world.total(first, contract, world.adverts(first))
    second = world.request(contract, run_id="f" * 32, params={"variable": "age", "rounds": 2})
    of_two = world.total(second, contract, world.adverts(second, ("Alpha", "Beta")))
    gammas_own = sum(30 + person for person in range(12))
    assert of_all["sum"][0] - of_two["sum"][0] == gammas_own


@pytest.mark.parametrize("floor", ["site", "total"])
def test_a_level_that_one_institution_has_is_counted(floor: str) -> None:
    rng = np.random.default_rng(0)
    frames = {}
    for site in ("a", "b", "c"):
        frame = pd.DataFrame({"age": rng.normal(50, 5, 40).round(1), "type": ["common"] * 40})
        if site == "b":
            frame.loc[:9, "type"] = "rare"
        frames[site] = frame
    with co.local(frames, min_sites=3, floor="site" if floor == "site" else "total") as local:
        result = local.study().describe(["type"]).to_json()["result"]
    levels = result["groups"][0]["variables"]["type"]["levels"]
    assert [(level["level"], level["count"]) for level in levels] == [("common", 110), ("rare", 10)]
