"""A hub that wants to see through the noise of a contract, or past its budget."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest
from tests.support.adversary import Federation, federation, refused
from tests.support.builders import FIVE, SITES, World, round_request, run_end
from tests.support.noisy import SIZE, Updates, find, permitted, terms

from cohortium.contract.model import Contract, RunRequest
from cohortium.core.rounds import Contribution, State
from cohortium.core.table import Table
from cohortium.errors import CohortiumError, InputError


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation(find_analysis=find) as one:
        yield one


def update(made: Federation, contract: Contract, number: int = 1, **params: float) -> RunRequest:
    return made.request(contract, number, computation="test.update", params=params)


def vectors(made: Federation, asked: RunRequest, site: str) -> set[bytes]:
    """The different masked vectors that the hub has of a site."""
    return {h.reply.round_reply.masked for h in made.masked(asked) if h.site == site}


def sums(made: Federation, contract: Contract) -> list[int]:
    """How many sums each site says it has given."""
    stores = [made.node(site).store for site in SITES]
    return [store.noisy_sums(contract.digest, lambda _name: True) for store in stores]


async def test_an_honest_run_gives_the_sum_with_noise(made: Federation) -> None:
    contract = await made.agree(computations=permitted())
    asked = update(made, contract, rounds=2)
    assert await made.run(asked) == "succeeded", made.error(asked)
    found = np.array(made.result(asked)["update"])
    deviation = (terms().multiplier or 0.0) * (3 / 2) ** 0.5
    assert deviation * 0.8 < (found - 3 * 0.1 / SIZE**0.5).std() < deviation * 1.25
    assert sums(made, contract) == [2, 2, 2]


@pytest.mark.parametrize("leaves_before", ["round_request", "unmask_request"])
async def test_the_sum_over_survivors_carries_enough_noise(leaves_before: str) -> None:
    """Five sites, of which one may collude: the shares of three make up the noise."""
    async with federation(find_analysis=find, world=World(sites=FIVE)) as made:
        made.away = lambda site, asked: (
            site == "Sigma" and asked.WhichOneof("body") == leaves_before
        )
        contract = await made.agree(computations=permitted(), min_sites=3)
        asked = update(made, contract, rounds=1)
        assert await made.run(asked) == "succeeded", made.error(asked)
        summed = 4 if leaves_before == "round_request" else 5
        deviation = (terms().multiplier or 0.0) * (summed / 3) ** 0.5
        found = np.array(made.result(asked)["update"]) - summed * 0.1 / SIZE**0.5
        assert deviation * 0.8 < found.std() < deviation * 1.25
        assert abs(found.mean()) < 8 * deviation / SIZE**0.5


async def test_one_round_asked_many_times_gives_one_noise(made: Federation) -> None:
    contract = await made.agree(computations=permitted())
    asked = update(made, contract)
    roster = list((await made.adverts(asked)).values())
    for _ in range(20):
        await made.ask("Alpha", round_request(asked, roster))
    assert len(vectors(made, asked, "Alpha")) == 1
    assert sums(made, contract)[0] == 1


async def test_another_state_or_an_earlier_round_gives_no_second_noise(made: Federation) -> None:
    contract = await made.agree(computations=permitted())
    asked = update(made, contract)
    roster = list((await made.adverts(asked)).values())
    await made.ask("Alpha", round_request(asked, roster))
    other = round_request(asked, roster, 1, {"round": 7})
    await refused(made, "Alpha", other, "wrong-round")
    await made.ask("Alpha", round_request(asked, roster, 2))
    await refused(made, "Alpha", round_request(asked, roster, 1), "round-burnt")
    assert len(vectors(made, asked, "Alpha")) == 2
    assert sums(made, contract)[0] == 2


async def test_new_runs_end_with_the_budget(made: Federation) -> None:
    """The same contribution with fresh noise is what the budget counts: three times, here."""
    contract = await made.agree(computations=permitted())
    for number in (1, 2, 3):
        assert await made.run(update(made, contract, number, rounds=1)) == "succeeded"
    # Other parameters, or another computation of the family, draw on the same budget.
    for number, params in ((4, {"rounds": 1}), (5, {"rounds": 1, "size": 0.05})):
        asked = update(made, contract, number, **params)
        assert await made.run(asked) == "failed"
        assert made.error(asked)["code"] == "privacy-budget"
        await refused(made, "Beta", made.world.prepare(asked), "privacy-budget")
    assert sums(made, contract) == [3, 3, 3]


async def test_ending_and_resuming_runs_gives_no_budget_back(made: Federation) -> None:
    contract = await made.agree(computations=permitted(sums=1))
    asked = update(made, contract)
    roster = list((await made.adverts(asked)).values())
    await made.ask("Alpha", round_request(asked, roster))
    for outcome in ("failed", "cancelled"):
        await made.ask("Alpha", run_end(asked, outcome))
    again = update(made, contract, 2)
    await refused(made, "Alpha", made.world.prepare(again), "privacy-budget")


async def test_a_run_that_was_admitted_before_the_budget_ended_gets_no_more(
    made: Federation,
) -> None:
    contract = await made.agree(computations=permitted(sums=1))
    one, other = update(made, contract, 1), update(made, contract, 2)
    first, second = [list((await made.adverts(run)).values()) for run in (one, other)]
    await made.ask("Alpha", round_request(one, first))
    await refused(made, "Alpha", round_request(other, second), "privacy-budget")
    assert vectors(made, other, "Alpha") == set()


async def test_a_site_whose_data_break_the_rule_is_clipped_not_trusted() -> None:
    """A site's own program contributes a thousand times the clip; the sum moves by the clip."""

    class Huge(Updates):
        def local(self, table: Table, state: State, params: object, scope: object) -> Contribution:
            return {"n": np.array(10**9), "update": np.full(SIZE, 1e3, dtype=np.float32)}

    def huge(name: str) -> Huge:
        if name != Huge.name:
            raise InputError("not-found", name)
        return Huge()

    async with federation({"Alpha": huge}, find_analysis=find) as made:
        contract = await made.agree(computations=permitted())
        asked = update(made, contract, rounds=1, size=0.0)
        assert await made.run(asked) == "succeeded", made.error(asked)
        assert abs(made.result(asked)["n"]) < 20
        assert abs(float(np.sum(made.result(asked)["update"]))) < 10 * 1.6 * SIZE**0.5


async def test_another_contract_has_a_budget_of_its_own(made: Federation) -> None:
    first = await made.agree(computations=permitted(sums=1))
    assert await made.run(update(made, first, 1, rounds=1)) == "succeeded"
    second = await made.agree(computations=permitted(sums=1), study="lung-2")
    asked = update(made, second, 2, rounds=1)
    assert await made.run(asked) == "succeeded"
    assert sums(made, first) == sums(made, second) == [1, 1, 1]
    with pytest.raises(CohortiumError, match="budget"):
        made.node("Alpha").ask(made.world.prepare(update(made, second, 3)))
