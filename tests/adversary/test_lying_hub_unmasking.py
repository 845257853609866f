"""A hub that lies in the steps of the secure sum, to five sites of which four open a sum.

What it can make of everything that it heard is tried by brute force (`tests.support.decoding`): it
never has a combination of fewer contributions than four sites made.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from tests.support.adversary import Federation, Separate, federation, find, refused
from tests.support.builders import FIVE, SITES, SumParams, World, expected, round_request
from tests.support.by_hand import HubByHand

from cohortium.analysis.interface import AnyAnalysis, Scope
from cohortium.contract.model import Contract
from cohortium.core.rounds import Contribution, State, Total
from cohortium.core.table import Table
from cohortium.crypto.keys import SigningKey
from cohortium.errors import CohortiumError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import put_state, raise_if_error
from cohortium.link.rounds import put_round
from cohortium.secagg.keys import public_key
from cohortium.secagg.messages import KeyShare
from cohortium.secagg.party import Party
from cohortium.secagg.survivors import statement

FOUR = FIVE[:4]
GONE = FIVE[4]
OTHER_FOUR = (*SITES, GONE)
SEPARATE = "test.separate"
HUB = SigningKey.from_seed(b"\x68" * 32)
"""A key that the hub made up."""


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation(world=World(sites=FIVE, min_sites=3)) as one:
        yield one


@pytest.fixture
async def contract(made: Federation) -> Contract:
    return await made.agree()


def values(total: Total) -> dict[str, Any]:
    return {name: array.tolist() for name, array in total.items()}


def tries(call: Callable[..., Any], *given: Any, **named: Any) -> str:
    """The code of the refusal, or "ok"."""
    try:
        call(*given, **named)
    except CohortiumError as error:
        return error.code
    return "ok"


def smallest(made: Federation, *hubs: HubByHand, colluding: Collection[str] = ()) -> float:
    """Of how many honest contributions is the smallest combination that the hub has?"""
    decoding = made.decoding(hubs[0].contract, colluding)
    return decoding.smallest(*(hub.request for hub in hubs))


# That the attempts are worth something


async def test_the_attempts_find_every_sum_that_is_there(
    made: Federation, contract: Contract
) -> None:
    hub = await made.by_hand(contract, computation=SEPARATE)
    hub.inputs()
    assert smallest(made, hub) == math.inf
    for site in FOUR:
        hub.unmask(site, FIVE)
    (found,) = made.decodable(hub.request, contract)
    assert found.total is not None
    assert values(found.total) == expected(FIVE)
    hub.input(GONE, 2)
    hub.round(2, survivors=FOUR)
    of_four = next(s for s in made.decodable(hub.request, contract) if s.sites == set(FOUR))
    assert of_four.total is not None
    assert values(of_four.total) == expected(FOUR, 2)
    # Also the difference of two sums, if it were over one contribution.
    both = made.decoding(contract).sums(hub.request)
    assert sorted(len(one.signs) for one in both) == [4, 5, 9, 9]
    assert smallest(made, hub) == 4


async def test_open_three_of_five_that_collude_with_the_hub_read_another(
    made: Federation, contract: Contract
) -> None:
    """More than a third: they hold three shares of each secret and sign what the hub likes."""
    hub = await made.by_hand(contract)
    hub.inputs()
    victim, other, colluding = "Alpha", "Beta", FIVE[2:]
    left = frozenset(FIVE) - {victim}
    assert smallest(made, hub, colluding=colluding) == math.inf
    hub.unmask(victim, FIVE)  # a share of its own seed
    assert smallest(made, hub, colluding=colluding) == 2
    signatures = {site: forged(made, hub, site, left) for site in colluding}
    hub.unmask(other, left, signatures={**signatures, other: hub.sign(other, left)})
    assert smallest(made, hub, colluding=colluding) == 1


def forged(
    made: Federation,
    hub: HubByHand,
    site: str,
    survivors: Collection[str],
    number: int = 1,
    **told: Any,
) -> bytes:
    """The signature of a colluding site on whatever the hub likes."""
    text = statement(hub.digest(number, **told), survivors, hub.parties)
    return made.world.keys[site].sign(text)


# Anything, in any order

LISTS = [frozenset(FIVE), *(frozenset(FIVE) - {site} for site in FIVE)]


class Attack:
    """Asks whatever a site might answer, with all that was answered before."""

    def __init__(self, made: Federation, hub: HubByHand, colluding: Collection[str]) -> None:
        self.made, self.hub, self.colluding = made, hub, colluding
        self.answered = 0
        self.told: dict[tuple[str, int], dict[str, Any]] = {}
        self.signed: dict[tuple[int, frozenset[str]], dict[str, bytes]] = {}

    def any(self, draw: random.Random) -> None:
        """One message, of any step."""
        site, number = draw.choice(FIVE), draw.choice((1, 2))
        step = draw.choice((self.input, self.sign, self.unmask))
        with suppress(CohortiumError):
            step(site, number, draw.choice(LISTS), draw)
            self.answered += 1

    def input(self, site: str, number: int, parties: frozenset[str], draw: random.Random) -> None:
        told = {"active": parties, "values": {"round": draw.choice((number, 1))}}
        self.hub.input(site, number, **told)
        self.told.setdefault((site, number), told)

    def sign(self, site: str, number: int, parties: frozenset[str], _: random.Random) -> None:
        signature = self.hub.sign(site, parties, number)
        self.signed.setdefault((number, parties), {})[site] = signature

    def unmask(self, site: str, number: int, parties: frozenset[str], _: random.Random) -> None:
        signatures = dict(self.signed.get((number, parties), {}))
        told = self.told.get((site, number), {})
        for liar in set(self.colluding) & parties:
            signatures[liar] = forged(self.made, self.hub, liar, parties, number, **told)
        self.hub.unmask(site, parties, number, signatures)


@pytest.mark.parametrize("computation", ["test.sum", SEPARATE])
@pytest.mark.parametrize("colluding", [(), ("Sigma",), ("Beta", "Sigma")], ids=len)
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_a_hub_asks_in_whatever_order(
    made: Federation,
    contract: Contract,
    computation: str,
    colluding: tuple[str, ...],
    seed: int,
) -> None:
    hub = await made.by_hand(contract, computation=computation)
    hub.share(2 if computation == SEPARATE else 1)
    attack, draw = Attack(made, hub, colluding), random.Random(seed)
    for _ in range(100):
        attack.any(draw)
    for _ in range(2):  # and all that may come of it, systematically
        for number in (1, 2):
            for step in (attack.sign, attack.unmask):
                for site in FIVE:
                    for parties in LISTS:
                        with suppress(CohortiumError):
                            step(site, number, parties, draw)
    assert attack.answered > 5
    assert smallest(made, hub, colluding=colluding) >= 4 - len(colluding)


# Different parties, survivors and keys to different sites


async def test_different_parties_of_a_round_to_different_sites(
    made: Federation, contract: Contract
) -> None:
    """Alpha, Beta and Gamma are in two rounds at once, it seems."""
    hub = await made.by_hand(contract)
    told = {"Alpha": FOUR, "Beta": FOUR, "Gamma": OTHER_FOUR, "Kappa": FOUR, GONE: OTHER_FOUR}
    for site, active in told.items():
        hub.input(site, active=active)
    for site, active in told.items():
        assert tries(hub.unmask, site, active) == "ok"
    assert smallest(made, hub) == math.inf
    for site, active in told.items():
        other = OTHER_FOUR if active == FOUR else FOUR
        if site in other:
            message = hub.question(site, active=other)
            await refused(made, site, message, "wrong-round")
            await refused(made, site, hub.unmask_request(other), "roster-mismatch")


async def test_different_survivors_to_different_sites(made: Federation, contract: Contract) -> None:
    """No list gets a quorum; what is opened for all five is not enough."""
    hub = await made.by_hand(contract)
    hub.inputs()
    without_alpha = frozenset(FIVE) - {"Alpha"}
    signatures = hub.signed(FOUR, by=("Alpha", "Beta"))
    others = hub.signed(without_alpha, by=("Gamma", "Kappa"))
    for site, survivors, signed in (
        ("Alpha", FOUR, signatures),
        ("Beta", FOUR, signatures),
        ("Gamma", without_alpha, others),
        ("Kappa", without_alpha, others),
    ):
        message = hub.unmask_request(survivors, signatures=signed)
        await refused(made, site, message, "too-few-sites")
        await refused(made, site, hub.unmask_request(FIVE), "other-survivors")
    hub.unmask(GONE, FIVE)
    assert smallest(made, hub) == math.inf


async def test_survivors_whose_masks_are_opened_are_not_said_to_have_dropped_to_the_rest(
    made: Federation, contract: Contract
) -> None:
    """Three open the seeds of all. The other two are told that Alpha dropped."""
    hub = await made.by_hand(contract)
    hub.inputs()
    for site in SITES:
        hub.unmask(site, FIVE)
    left = frozenset(FIVE) - {"Alpha"}
    signatures = hub.signed(left, by=("Kappa", GONE))
    for site in ("Beta", "Gamma"):
        await refused(made, site, hub.consistency_request(left), "other-survivors")
    made_up = HUB.sign(statement(hub.digest(), left, hub.parties))
    for forger, code in (
        ((), "too-few-sites"),
        (("Beta",), "too-few-sites"),
        (("Beta", "Gamma"), "bad-signature"),
    ):
        message = hub.unmask_request(
            left, signatures={**signatures, **dict.fromkeys(forger, made_up)}
        )
        for site in ("Kappa", GONE):
            await refused(made, site, message, code)
    assert smallest(made, hub) == math.inf


async def test_signatures_of_another_run_round_list_or_key(
    made: Federation, contract: Contract
) -> None:
    one = await made.by_hand(contract, 1, computation=SEPARATE)
    other = await made.by_hand(contract, 2)
    one.inputs()
    other.inputs()
    hub_made = {site: HUB.sign(statement(other.digest(), FOUR, other.parties)) for site in FOUR}
    # Signed for a list of the first run: the same round, state and parties.
    of_one = one.signed(FOUR)
    for signatures in (hub_made, of_one, dict.fromkeys(FOUR, bytes(64))):
        message = other.unmask_request(FOUR, signatures=signatures)
        await refused(made, "Alpha", message, "bad-signature")
    # Of the next round of the same run.
    one.inputs(number=2)
    message = one.unmask_request(FOUR, 2, of_one)
    await refused(made, "Alpha", message, "bad-signature")
    assert smallest(made, one, other) == math.inf


def _swap(shares: dict[str, KeyShare], _old: Mapping[str, KeyShare]) -> None:
    shares["Beta"], shares["Gamma"] = shares["Gamma"], shares["Beta"]


def _replay(shares: dict[str, KeyShare], old: Mapping[str, KeyShare]) -> None:
    shares["Beta"] = old["Beta"]


def _own_key(shares: dict[str, KeyShare], _old: Mapping[str, KeyShare]) -> None:
    shares["Beta"] = KeyShare(public_key(bytes(range(32))), shares["Beta"].sealed)


def _own_key_and_shares(shares: dict[str, KeyShare], _old: Mapping[str, KeyShare]) -> None:
    shares["Beta"] = KeyShare(public_key(bytes(range(32))), bytes(82))


def _nothing(shares: dict[str, KeyShare], _old: Mapping[str, KeyShare]) -> None:
    del shares["Beta"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_swap, "bad-share"),
        (_replay, "bad-share"),
        (_own_key, "bad-share"),
        (_own_key_and_shares, "bad-share"),
        (_nothing, "roster-mismatch"),
    ],
)
async def test_a_run_in_which_the_hub_meddles_with_what_a_site_sealed(
    made: Federation, contract: Contract, change: Callable[..., None], code: str
) -> None:
    """To one site; the real hub does not know of it."""
    request = made.request(contract, computation=SEPARATE)
    first: dict[str, KeyShare] = {}

    def lie(site: str, message: pb.Message) -> pb.Message:
        if site != "Alpha" or not message.HasField("round_request"):
            return message
        order = message.round_request
        shares = {FIVE[item.party]: KeyShare(item.mask_key, item.sealed) for item in order.shares}
        if order.round == 1:
            first.update(shares)
            return message
        change(shares, first)
        del order.shares[:]
        for peer, share in shares.items():
            order.shares.add(party=FIVE.index(peer), mask_key=share.mask_key, sealed=share.sealed)
        return message

    made.hub_lies = lie
    assert await made.run(request) == "failed"
    error = made.error(request)
    assert (error["code"], error["details"]["site"]) == (code, "Alpha")
    assert made.refusals("Alpha") == [("round", code)]
    assert made.decoding(contract).smallest(request) == 5  # of the first, honest round


# Late, old and again


async def test_a_vector_that_arrives_after_its_sites_mask_key_was_opened(
    made: Federation, contract: Contract
) -> None:
    """Its own mask is left, whose shares nobody opens any more."""
    hub = await made.by_hand(contract)
    hub.round(survivors=FOUR)
    hub.input(GONE)
    assert smallest(made, hub) == 4
    for survivors in LISTS:
        for site in FOUR:
            if survivors != frozenset(FOUR):
                assert tries(hub.unmask, site, survivors) in {
                    "other-survivors",
                    "roster-mismatch",
                }
    hub.unmask(GONE, FIVE)  # as it was told; of each seed its one share
    assert smallest(made, hub) == 4


async def test_masks_of_an_older_round_are_opened_again_for_the_same_list_only(
    made: Federation, contract: Contract
) -> None:
    hub = await made.by_hand(contract, computation=SEPARATE)
    hub.inputs()
    opened = {site: await made.ask(site, hub.unmask_request(FIVE)) for site in SITES}
    hub.inputs(number=2)
    signatures = hub.signed(FOUR, 2)
    for site in FIVE:
        if site in opened:
            assert await made.ask(site, hub.unmask_request(FIVE)) == opened[site]
        else:
            await refused(made, site, hub.unmask_request(FIVE), "wrong-round")
        for message in (hub.consistency_request(FOUR), hub.unmask_request(FOUR, 1, signatures)):
            await refused(made, site, message, "wrong-round")
    assert smallest(made, hub) == math.inf
    hub.round(2, survivors=FOUR)
    assert smallest(made, hub) == 4


async def test_a_mask_key_that_was_opened_says_nothing_of_other_rounds(
    made: Federation, contract: Contract
) -> None:
    """Each site drops once; its vectors of the other rounds stay what they were."""
    hub = await made.by_hand(contract, computation=SEPARATE)
    for number in (1, 2, 3):
        gone = FIVE[number]
        hub.share(number, FIVE)
        hub.round(number, survivors=frozenset(FIVE) - {gone})
        hub.input(gone, number)  # too late
    assert smallest(made, hub) == 4


async def test_one_state_is_not_summed_twice(made: Federation, contract: Contract) -> None:
    """Not over other parties, not over other survivors, not in another round, not over the same."""
    hub = await made.by_hand(contract, computation=SEPARATE)
    hub.round()
    state = {"round": 1}
    for active in (FIVE, FOUR):
        for site in FOUR:
            message = hub.question(site, 2, active=active, values=state)
            await refused(made, site, message, "differencing")
            message = hub.question(site, 1, active=active, values=state)
            if active == FOUR:
                await refused(made, site, message, "wrong-round")
    assert smallest(made, hub) == 5


async def test_parties_get_fewer_down_to_four(made: Federation, contract: Contract) -> None:
    hub = await made.by_hand(contract, computation=SEPARATE)
    hub.round(1)
    hub.round(2, survivors=FOUR)
    hub.share(3, FOUR)
    three, two = FOUR[:3], FOUR[:2]
    for active in (three, two, ("Alpha",)):
        await refused(made, "Alpha", hub.question("Alpha", 3, active=active), "too-few-sites")
    hub.inputs(FOUR, 3, active=FOUR)
    for survivors in (three, two, ("Alpha",)):
        await refused(made, "Alpha", hub.consistency_request(survivors, 3), "too-few-sites")
        await refused(made, "Alpha", hub.unmask_request(survivors, 3), "too-few-sites")
    assert smallest(made, hub) == 4


async def test_a_site_is_not_left_out_of_an_exact_statistics_first_round_only(
    made: Federation, contract: Contract
) -> None:
    hub = await made.by_hand(contract)
    hub.round(survivors=FOUR)
    hub.input(GONE)
    hub.share(2, [GONE])
    for site in FOUR:
        for active in (FIVE, OTHER_FOUR):
            if site in active:
                await refused(made, site, hub.question(site, 2, active=active), "differencing")
    # The one that was left out answers: it has heard nothing else. Alone that is worth nothing.
    hub.input(GONE, 2)
    hub.inputs(FOUR, 2, active=FOUR)
    hub.round(2, active=FOUR)
    assert tries(hub.unmask, GONE, FIVE, 2) == "ok"
    assert smallest(made, hub) == 4


@pytest.mark.parametrize("computation", ["test.sum", SEPARATE])
async def test_the_same_request_again_over_other_survivors(
    made: Federation, contract: Contract, computation: str
) -> None:
    one = await made.by_hand(contract, 1, computation=computation)
    one.round()
    again = await made.by_hand(contract, 2, computation=computation)
    # Without one of the parties from the start;
    roster = again.roster[:4]
    for site in FOUR:
        message = round_request(again.request, roster)
        put_round(message.round_request, (), {}, again.parties)
        message.round_request.ClearField("active")
        code = tries(made.ask_now, site, message)
        assert code in {"differencing", "roster-mismatch"}
    # of the round;
    for site in FOUR:
        message = again.question(site, active=FOUR)
        assert tries(made.ask_now, site, message) in {"differencing", "roster-mismatch"}
    # or of the survivors.
    again.inputs()
    for site in FOUR:
        await refused(made, site, again.consistency_request(FOUR), "differencing")
        await refused(made, site, again.unmask_request(FOUR), "differencing")
    assert smallest(made, one, again) == 5


async def test_a_later_state_of_an_earlier_run_over_other_survivors(
    made: Federation, contract: Contract
) -> None:
    """The hub chooses later states: it takes one of a run before."""
    one = await made.by_hand(contract, 1, computation=SEPARATE)
    one.round()
    one.round(2)
    again = await made.by_hand(contract, 2, computation=SEPARATE)
    again.round()
    again.inputs(number=2)
    for site in FOUR:
        await refused(made, site, again.consistency_request(FOUR, 2), "differencing")
    third = await made.by_hand(contract, 3, computation=SEPARATE)
    for number in (2, 3):
        third.share(number)
        for site in FOUR:
            message = third.question(site, number, active=FOUR, values={"round": 2})
            await refused(made, site, message, "differencing")
    assert smallest(made, one, again, third) == 5


async def test_open_a_state_that_is_nearly_the_same_and_a_site_that_is_left_out(
    made: Federation, contract: Contract
) -> None:
    """Where a contract lets sites drop out of a training, the difference of two rounds tells."""
    hub = await made.by_hand(contract, computation=SEPARATE)
    hub.round()
    of_all = hub.round(2)
    of_four = hub.round(3, values={"round": 2 + 1e-9}, survivors=FOUR)
    difference = of_all["sum"] - of_four["sum"]
    assert difference.tolist() == pytest.approx(expected([GONE], 2)["sum"])


async def test_an_exact_statistic_is_safe_from_that(made: Federation, contract: Contract) -> None:
    hub = await made.by_hand(contract)
    hub.round()
    for values in ({"round": 2 + 1e-9}, {"round": 2}, {"round": 1}):
        message = hub.question("Alpha", 2, active=FOUR, values=values)
        await refused(made, "Alpha", message, "differencing")
    hub.inputs(number=2, values={"round": 2 + 1e-9})
    await refused(made, "Alpha", hub.consistency_request(FOUR, 2), "differencing")


# Two things at the same moment


class Together(Separate):
    """From the second round on, contributions wait for another that is computed meanwhile."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self._barrier = barrier

    def local(self, table: Table, state: State, params: SumParams, scope: Scope) -> Contribution:
        if state.values["round"] != 1:
            with suppress(threading.BrokenBarrierError):
                self._barrier.wait(1.0)
        return super().local(table, state, params, scope)


@pytest.fixture
async def together() -> AsyncIterator[Federation]:
    """Alpha computes two contributions at the same time."""
    barrier = threading.Barrier(2)

    def met(name: str) -> AnyAnalysis:
        find(name)
        return Together(barrier)

    world = World(sites=FIVE, min_sites=3)
    async with federation({"Alpha": met}, world=world) as one:
        yield one


def at_once(made: Federation, messages: list[pb.Message]) -> list[str]:
    """The codes of Alpha's answers, "ok" among them, sorted."""
    go = threading.Barrier(len(messages))

    def ask(message: pb.Message) -> str:
        go.wait(5.0)
        try:
            raise_if_error(made.answer("Alpha", message))
        except CohortiumError as error:
            return error.code
        return "ok"

    with ThreadPoolExecutor(len(messages)) as pool:
        return sorted(pool.map(ask, messages))


@pytest.mark.parametrize("turn", range(3))
async def test_two_lists_of_survivors_at_the_same_moment(
    made: Federation, contract: Contract, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for another that was let in meanwhile: there is none."""
    meet = threading.Barrier(2)

    def late(step: Callable[..., Any]) -> Callable[..., Any]:
        def met(*given: Any) -> Any:
            with suppress(threading.BrokenBarrierError):
                meet.wait(0.2)
            return step(*given)

        return met

    monkeypatch.setattr(Party, "unmask", late(Party.unmask))
    monkeypatch.setattr(Party, "consistency_check", late(Party.consistency_check))
    hub = await made.by_hand(contract)
    hub.inputs()
    signatures = {site: forged(made, hub, site, FOUR) for site in FOUR}
    others = {site: forged(made, hub, site, OTHER_FOUR) for site in OTHER_FOUR}
    messages = [
        hub.unmask_request(FIVE),
        hub.unmask_request(FOUR, signatures=signatures),
        hub.unmask_request(OTHER_FOUR, signatures=others),
        hub.consistency_request(FOUR),
        hub.consistency_request(OTHER_FOUR),
    ]
    messages = messages[turn:] + messages[:turn]
    codes = at_once(made, messages)
    assert set(codes) == {"ok", "other-survivors"}
    assert 1 <= codes.count("ok") <= 2
    entries = made.node("Alpha").decisions(run_id=hub.request.run_id, allowed=True)
    lists = {tuple(e["survivors"]) for e in entries if "survivors" in e}
    assert len(lists) == 1
    given = {
        heard.reply.unmasking.SerializeToString()
        for heard in made.heard
        if heard.site == "Alpha" and heard.reply.HasField("unmasking")
    }
    assert len(given) <= 1


async def test_one_round_for_two_sets_of_parties_at_the_same_moment(
    together: Federation,
) -> None:
    hub = await together.by_hand(await together.agree(), computation=SEPARATE)
    hub.inputs()
    two = [hub.question("Alpha", 2, active=active) for active in (FOUR, OTHER_FOUR)]
    assert at_once(together, two) == ["ok", "wrong-round"]
    assert len(together.rounds("Alpha", hub.request.run_id)) == 2


async def test_one_state_in_two_rounds_at_the_same_moment(together: Federation) -> None:
    hub = await together.by_hand(await together.agree(), computation=SEPARATE)
    hub.inputs()
    hub.share(3)
    two = [
        hub.question("Alpha", number, active=active, values={"round": 9})
        for number, active in ((2, FIVE), (3, FOUR))
    ]
    # Where the later round is first, the earlier one is past.
    assert at_once(together, two) in (["differencing", "ok"], ["ok", "wrong-round"])


async def test_two_runs_in_one_state_over_two_sets_at_the_same_moment(
    together: Federation,
) -> None:
    contract = await together.agree()
    hubs = [await together.by_hand(contract, n, computation=SEPARATE) for n in (1, 2)]
    for hub in hubs:
        hub.inputs()
    two = [
        hub.question("Alpha", 2, active=active, values={"round": 9})
        for hub, active in zip(hubs, (FIVE, FOUR), strict=True)
    ]
    assert at_once(together, two) == ["differencing", "ok"]


async def test_one_round_twice_at_the_same_moment_is_one_answer(together: Federation) -> None:
    hub = await together.by_hand(await together.agree(), computation=SEPARATE)
    hub.inputs()
    message = hub.question("Alpha", 2)
    assert at_once(together, [message, message]) == ["ok", "ok"]
    vectors = {
        heard.reply.round_reply.masked
        for heard in together.heard
        if heard.site == "Alpha" and heard.reply.round_reply.round == 2
    }
    assert len(vectors) == 1
    assert len(together.rounds("Alpha", hub.request.run_id)) == 2


# Lies of the real hub's messages on their way


async def test_survivors_that_are_others_on_the_way_to_one_site(
    made: Federation, contract: Contract
) -> None:
    """The real hub lost one site and has the others' signatures; one of them hears another list."""
    request = made.request(contract)
    made.away = lambda site, message: site == GONE and message.round_request.round == 1

    def lie(site: str, message: pb.Message) -> pb.Message:
        if site == "Alpha" and message.HasField("unmask_request"):
            message.unmask_request.survivors = b"\x1f"
        return message

    made.hub_lies = lie
    assert await made.run(request) == "failed"
    assert set(made.refusals("Alpha")) == {("unmask", "other-survivors")}
    assert made.error(request)["code"] == "round-burnt"
    assert made.decodable(request, contract) == []


async def test_a_state_that_is_another_on_the_way_to_one_site(
    made: Federation, contract: Contract
) -> None:
    request = made.request(contract)

    def lie(site: str, message: pb.Message) -> pb.Message:
        if site == "Beta" and message.round_request.round == 2:
            put_state(State({"round": 77}), message.round_request)
        return message

    made.hub_lies = lie
    assert await made.run(request) == "failed"
    assert made.error(request)["code"] == "masks-do-not-cancel"
    assert made.decoding(contract).smallest(request) == 5  # of the first, honest round
    assert len(made.decodable(request, contract)) == 1
