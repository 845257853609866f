"""Runs in which sites come and go: a real hub and five real nodes, of which four open a sum."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Any

import pytest
from tests.support.adversary import Federation, federation, find
from tests.support.builders import FIVE, SEVEN, SITES, World, expected
from tests.support.wire import until

from cohortium.contract.model import Contract, RunRequest
from cohortium.errors import ConflictError
from cohortium.hub.exchange import Exchange
from cohortium.hub.runner import Execute
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import error_message
from cohortium.node.policy import Policy

FOUR = FIVE[:4]
GONE = FIVE[4]
OTHER_FOUR = (*SITES, GONE)
SEPARATE = "test.separate"
STEPS = ("share_request", "round_request", "consistency_request", "unmask_request")
Away = Callable[[str, pb.Message], bool]
Dies = Callable[[str, int], threading.Event]


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation(world=World(sites=FIVE, min_sites=3)) as one:
        yield one


@pytest.fixture
async def hurried() -> AsyncIterator[Federation]:
    """A hub that waits five seconds for a site, and a fraction of one for stragglers."""
    world = World(sites=FIVE, min_sites=3)
    async with federation(world=world, timeout_s=5.0, straggler_s=0.3) as one:
        yield one


def at(step: str, number: int | None = None, sites: Collection[str] = (GONE,)) -> Away:
    """These sites are away when they are asked this, in one round or in all."""

    def away(site: str, message: pb.Message) -> bool:
        if site not in sites or message.WhichOneof("body") != step:
            return False
        body = getattr(message, step)
        return number is None or getattr(body, "round", None) == number

    return away


def either(*cases: Away) -> Away:
    return lambda site, message: any(case(site, message) for case in cases)


def asked(made: Federation, site: str) -> list[str]:
    """What a site answered, in order: the message's kind, and the round where there is one."""
    out = []
    for heard in made.heard:
        kind = str(heard.asked.WhichOneof("body"))
        number = getattr(getattr(heard.asked, kind), "round", None)
        if heard.site == site and ("run" in kind or number is not None):
            out.append(kind if number is None else f"{kind}-{number}")
    return out


def participants(made: Federation, request: RunRequest) -> tuple[str, ...]:
    return made.hub.store.runs.get(request.run_id).info.participants


def opened(made: Federation) -> list[str]:
    """The sites that opened masks."""
    return [heard.site for heard in made.heard if heard.reply.HasField("unmasking")]


def sums(*rounds: Collection[str]) -> dict[str, Any]:
    """The result of separate rounds over these sites."""
    return {"rounds": [expected(among, number) for number, among in enumerate(rounds, 1)]}


async def begun(made: Federation, computation: str = "test.sum") -> tuple[Contract, RunRequest]:
    contract = await made.agree()
    return contract, made.request(contract, computation=computation)


async def fails(made: Federation, request: RunRequest, code: str) -> dict[str, Any]:
    assert await made.run(request) == "failed"
    return failed(made, request, code)


def failed(made: Federation, request: RunRequest, code: str) -> dict[str, Any]:
    error = dict(made.error(request))
    assert error["code"] == code, error
    return error


# Nobody drops


async def test_without_drop_outs_a_round_costs_a_site_two_messages(made: Federation) -> None:
    contract, request = await begun(made)
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == expected(FIVE, 3)
    assert participants(made, request) == FIVE
    masked = [f"round_request-{number}" for number in (1, 2, 3)]
    others = [f"unmask_request-{number}" for number in (1, 2, 3)]
    once = ["run_prepare", "share_request-1", "run_end"]
    for site in FIVE:
        assert set(asked(made, site)) - set(others) == {*once, *masked}
        assert Counter(asked(made, site)) <= Counter([*once, *masked, *others])
        assert made.refusals(site) == []
    for step in others:  # the fifth answer is not waited for
        assert sum(step in asked(made, site) for site in FIVE) >= 4
    assert len(made.decodable(request, contract)) == 3
    assert made.decoding(contract).smallest(request) == 5


async def test_where_all_must_be_there_a_round_costs_one_message() -> None:
    async with federation(world=World(sites=FIVE, min_sites=5)) as made:
        _, request = await begun(made)
        assert await made.run(request) == "succeeded"
        assert made.result(request) == expected(FIVE, 3)
        rounds = [f"round_request-{number}" for number in (1, 2, 3)]
        assert asked(made, "Alpha") == ["run_prepare", *rounds, "run_end"]


async def test_a_site_that_is_not_there_from_the_start_is_no_party(made: Federation) -> None:
    contract, request = await begun(made)
    made.away = at("run_prepare")
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == expected(FOUR, 3)
    assert participants(made, request) == FOUR
    assert asked(made, GONE) == []
    assert made.decoding(contract).smallest(request) == 4


# One drops


@pytest.mark.parametrize("step", STEPS[:2])
async def test_an_exact_statistic_loses_a_site_in_its_first_round_for_good(
    made: Federation, step: str
) -> None:
    contract, request = await begun(made)
    made.away = at(step, 1)
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == expected(FOUR, 3)
    assert participants(made, request) == FOUR
    # It was back at once, and was asked for nothing of the run any more.
    assert set(asked(made, GONE)) <= {"run_prepare", "share_request-1", "run_end"}
    info = made.hub.run(request.run_id, made.hub.user(made.world.researcher.public))
    assert info.absent == (GONE,)
    # A check word, a count and two reals of four words each, in each of three rounds.
    assert info.bytes == dict.fromkeys(FOUR, 3 * 8 * (1 + 1 + 2 * 4))
    for site in FOUR:
        assert made.refusals(site) == []
        lists = made.node(site).decisions(what="unmask", run_id=request.run_id)
        assert [entry["survivors"] for entry in lists] == [list(FOUR)] * 3
    assert made.decoding(contract).smallest(request) == 4


@pytest.mark.parametrize("step", STEPS[:2])
@pytest.mark.parametrize("number", [1, 2])
async def test_separate_rounds_go_on_without_a_site_and_it_joins_the_next(
    made: Federation, step: str, number: int
) -> None:
    contract, request = await begun(made, SEPARATE)
    if step == "share_request" and number == 2:
        # Keys for the second round are asked for only where they did not come with the first.
        made.away = either(at("round_request", 1), at(step, 2))
        there = [FOUR, FOUR, FIVE]
    else:
        made.away = at(step, number)
        there = [FOUR if n == number else FIVE for n in (1, 2, 3)]
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == sums(*there)
    assert participants(made, request) == FIVE
    sent = {site: 80 * sum(site in among for among in there) for site in FIVE}
    assert made.hub.store.runs.get(request.run_id).info.bytes == sent
    assert [made.refusals(site) for site in FIVE] == [[]] * 5
    assert made.decoding(contract).smallest(request) == 4


@pytest.mark.parametrize("computation", ["test.sum", SEPARATE])
async def test_a_site_that_drops_after_its_masked_input_is_in_the_sum(
    made: Federation, computation: str
) -> None:
    _, request = await begun(made, computation)
    made.away = at("unmask_request")
    assert await made.run(request) == "succeeded", made.error(request)
    result = made.result(request)
    assert result == (sums(FIVE, FIVE, FIVE) if computation == SEPARATE else expected(FIVE, 3))
    assert participants(made, request) == FIVE
    assert GONE not in opened(made)


async def test_after_the_first_round_an_exact_statistic_waits_for_a_site(
    made: Federation,
) -> None:
    contract, request = await begun(made)
    made.away = at("round_request", 2)
    error = await fails(made, request, "peer-unreachable")
    assert error["details"]["site"] == GONE
    assert len(made.decodable(request, contract)) == 1
    made.away = None
    assert await made.resume(request) == "succeeded"
    assert made.result(request) == expected(FIVE, 3)
    assert asked(made, "Alpha").count("round_request-1") == 1


async def test_of_seven_one_drops_before_its_input_and_one_before_its_signature() -> None:
    async with federation(world=World(sites=SEVEN, min_sites=3)) as made:
        contract, request = await begun(made)
        made.away = either(
            at("round_request", 1, ["Theta"]), at("consistency_request", 1, ["Beta"])
        )
        assert await made.run(request) == "succeeded"
        left = tuple(site for site in SEVEN if site != "Theta")
        assert made.result(request) == expected(left, 3, SEVEN)
        assert participants(made, request) == left
        assert "Beta" in opened(made)
        assert made.decoding(contract).smallest(request) == 6


async def test_in_each_round_another_site_drops(made: Federation) -> None:
    contract, request = await begun(made, SEPARATE)
    made.away = either(*(at("round_request", n, [FIVE[n]]) for n in (1, 2, 3)))
    assert await made.run(request) == "succeeded", made.error(request)
    rounds = [[site for site in FIVE if site != FIVE[n]] for n in (1, 2, 3)]
    assert made.result(request) == sums(*rounds)
    assert participants(made, request) == FIVE
    assert made.decoding(contract).smallest(request) == 4


async def test_a_site_that_stays_away_is_not_asked_again_until_it_is_connected(
    made: Federation,
) -> None:
    _, request = await begun(made, SEPARATE)
    handler = made.link._nodes[GONE][0]

    def leave(site: str, message: pb.Message) -> pb.Message:
        if GONE in made.link.connected() and message.round_request.round == 1:
            made.link.leave(GONE)
        if message.unmask_request.round == 2 and GONE not in made.link.connected():
            made.link.join(GONE, handler)
        return message

    made.hub_lies = leave
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == sums(FOUR, FOUR, FIVE)


async def test_a_site_that_is_back_and_refuses_does_not_stop_the_others(
    made: Federation,
) -> None:
    _, request = await begun(made, SEPARATE)
    made.away = at("round_request", 1)
    made.node(GONE).policy[0] = Policy()

    def pause(site: str, message: pb.Message) -> pb.Message:
        if message.HasField("consistency_request"):
            made.node(GONE).policy[0] = Policy(paused=True)
        return message

    made.hub_lies = pause
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == sums(FOUR, FOUR, FOUR)
    assert participants(made, request) == FOUR
    assert ("share-keys", "site-policy") in made.refusals(GONE)


async def test_a_site_that_is_back_after_the_last_round_of_the_analysis(made: Federation) -> None:
    """There is no next round whose keys it could share."""
    _, request = await begun(made, SEPARATE)
    made.away = at("round_request", 3)
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == sums(FIVE, FIVE, FOUR)
    assert [made.refusals(site) for site in FIVE] == [[]] * 5


# Too few are left


TOO_FEW = [
    ("share_request", "too-few-sites"),
    ("round_request", "too-few-sites"),
    ("consistency_request", "round-burnt"),
    ("unmask_request", "round-burnt"),
]


@pytest.mark.parametrize("computation", ["test.sum", SEPARATE])
@pytest.mark.parametrize(("step", "code"), TOO_FEW)
async def test_with_too_few_sites_the_run_fails_and_goes_on_when_they_are_back(
    made: Federation, computation: str, step: str, code: str
) -> None:
    contract, request = await begun(made, computation)
    two = ("Beta", GONE)
    made.away = at(step, 1, two)
    there: tuple[str, ...] = FIVE
    still_away: Away | None = None
    if step == "consistency_request":
        still_away, there = at("round_request", 1), FOUR
        made.away = either(still_away, at(step, 1, ["Beta"]))
    error = await fails(made, request, code)
    missing = {"Beta"} if step == "consistency_request" else set(two)
    assert set(error["details"]["absent"]) == missing
    assert all(site in error["message"] for site in missing)
    # Not even what three sites opened tells anything.
    assert made.decodable(request, contract) == []
    if step != "unmask_request":
        assert opened(made) == []
    with pytest.raises(ConflictError):
        made.result(request)
    made.away = still_away
    assert await made.resume(request) == "succeeded", made.error(request)
    rounds = [there, FIVE, FIVE]
    assert made.result(request) == (
        sums(*rounds) if computation == SEPARATE else expected(there, 3)
    )
    assert made.decoding(contract).smallest(request) == len(there)


async def test_a_round_that_was_begun_to_be_opened_for_all_waits_for_all(made: Federation) -> None:
    """Three have opened it for all five; then another one is missing: no other list is signed."""
    contract, request = await begun(made)
    made.away = at("unmask_request", 1, ("Beta", GONE))
    await fails(made, request, "round-burnt")
    made.away = at("round_request", 1)
    assert await made.resume(request) == "failed"
    error = failed(made, request, "too-few-sites")
    assert error["details"]["absent"] == [GONE]
    assert "begun to be opened" in error["message"]
    assert not any("consistency_request" in asked(made, site) for site in FIVE)
    made.away = None
    assert await made.resume(request) == "succeeded", made.error(request)
    assert made.result(request) == expected(FIVE, 3)
    assert made.decoding(contract).smallest(request) == 5


async def test_a_run_with_enough_sites_is_resumed_without_those_that_stay_away(
    made: Federation,
) -> None:
    _, request = await begun(made, SEPARATE)
    made.away = at("round_request", 1, ("Beta", GONE))
    await fails(made, request, "too-few-sites")
    made.away = either(at("share_request", 1), at("round_request", 1))
    assert await made.resume(request) == "succeeded", made.error(request)
    assert made.result(request) == sums(FOUR, FIVE, FIVE)


# Slow sites, late answers, answers twice and in another order


def delayed(made: Federation, step: str, number: int, seconds: float) -> None:
    """The answer of `GONE` to a step takes so long."""

    def lie(site: str, message: pb.Message, reply: pb.Message) -> pb.Message:
        if site == GONE and at(step, number)(site, message):
            time.sleep(seconds)
        return reply

    made.site_lies = lie


@pytest.mark.parametrize("number", [1, 2])
async def test_a_straggler_is_left_out_and_its_late_answer_changes_nothing(
    hurried: Federation, number: int
) -> None:
    """It comes when the next step has begun."""
    _, request = await begun(hurried, SEPARATE)
    over = threading.Event()

    def lie(site: str, message: pb.Message, reply: pb.Message) -> pb.Message:
        if message.HasField("consistency_request"):
            over.set()
        if at("round_request", number)(site, message):
            over.wait(5.0)
        return reply

    hurried.site_lies = lie
    assert await hurried.run(request) == "succeeded"
    there = [FOUR if n == number else FIVE for n in (1, 2, 3)]
    assert hurried.result(request) == sums(*there)
    assert f"round_request-{number}" in asked(hurried, GONE)


async def test_a_slow_site_that_is_in_time_is_summed(hurried: Federation) -> None:
    _, request = await begun(hurried, SEPARATE)
    delayed(hurried, "round_request", 2, 0.05)
    assert await hurried.run(request) == "succeeded"
    assert hurried.result(request) == sums(FIVE, FIVE, FIVE)


async def test_stragglers_that_are_needed_are_waited_for(hurried: Federation) -> None:
    """With three answers there are not enough: the whole time of the round is theirs."""
    _, request = await begun(hurried, SEPARATE)
    hurried.away = at("round_request", 1, ["Beta"])
    delayed(hurried, "round_request", 1, 0.6)
    assert await hurried.run(request) == "succeeded"
    without = [site for site in FIVE if site != "Beta"]
    assert hurried.result(request) == sums(without, FIVE, FIVE)


async def test_a_site_that_never_answers_is_left_out(hurried: Federation) -> None:
    _, request = await begun(hurried, SEPARATE)

    def stall(site: str, message: pb.Message) -> pb.Message:
        if at("round_request", 2)(site, message):
            hurried.silent.add(GONE)
        if message.HasField("consistency_request"):
            hurried.silent.discard(GONE)
        return message

    hurried.hub_lies = stall
    assert await hurried.run(request) == "succeeded"
    assert hurried.result(request) == sums(FIVE, FOUR, FIVE)


async def test_an_exact_statistic_waits_for_a_slow_site_as_long_as_a_round_may_take(
    hurried: Federation,
) -> None:
    _, request = await begun(hurried)
    delayed(hurried, "round_request", 2, 0.6)
    assert await hurried.run(request) == "succeeded"
    assert hurried.result(request) == expected(FIVE, 3)


async def test_messages_that_come_twice_count_once(made: Federation) -> None:
    contract, request = await begun(made, SEPARATE)
    different = []

    def twice(site: str, message: pb.Message, reply: pb.Message) -> pb.Message:
        again = made.node(site).service.answer(message)
        if again != reply and message.WhichOneof("body") != "run_end":
            different.append((site, message.WhichOneof("body")))
        return again

    made.site_lies = twice
    made.away = at("round_request", 2)
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == sums(FIVE, FOUR, FIVE)
    assert different == []
    for site in FOUR:
        noted = Counter(
            (e["what"], e.get("round")) for e in made.node(site).decisions(run_id=request.run_id)
        )
        assert set(noted.values()) == {1}
    assert made.decoding(contract).smallest(request) == 4


@pytest.mark.parametrize("order", [1, -1])
async def test_the_order_of_answers_does_not_matter(made: Federation, order: int) -> None:
    _, request = await begun(made, SEPARATE)

    def wait(site: str, message: pb.Message, reply: pb.Message) -> pb.Message:
        if message.WhichOneof("body") in STEPS:
            time.sleep(0.01 * FIVE[::order].index(site))
        return reply

    made.site_lies = wait
    made.away = at("round_request", 2)
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == sums(FIVE, FOUR, FIVE)


async def test_an_answer_to_a_step_that_is_over_is_not_counted(
    made: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer comes out of the exchange a second time, when the next step has begun."""
    _, request = await begun(made, SEPARATE)
    following = Exchange.next
    came: dict[Exchange, list[Any]] = {}

    def again(self: Exchange, until: float) -> Any:
        kept = came.setdefault(self, [])
        answer = following(self, until)
        if answer is not None and answer not in kept:
            for late in [one for one in kept if one[0] != answer[0]]:
                self._answers.put(late)
            kept.append(answer)
        return answer

    monkeypatch.setattr(Exchange, "next", again)
    made.away = at("round_request", 2)
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == sums(FIVE, FOUR, FIVE)


# Cancelling


@pytest.mark.parametrize("step", ["run_prepare", *STEPS])
async def test_a_run_is_cancelled_at_once_in_each_step(made: Federation, step: str) -> None:
    contract, request = await begun(made)
    reached, go = threading.Event(), threading.Event()

    def hold(site: str, message: pb.Message, reply: pb.Message) -> pb.Message:
        if site == "Alpha" and message.WhichOneof("body") == step:
            reached.set()
            go.wait(5)
        return reply

    made.site_lies = hold
    if step == "consistency_request":
        made.away = at("round_request", 1)
    user = made.hub.user(made.world.researcher.public)
    made.hub.submit(request.sign(made.world.researcher), user)
    await until(reached.is_set)
    began = time.monotonic()
    assert made.hub.cancel(request.run_id, user).status == "cancelled"
    (thread,) = made.runner._threads.values()
    await until(lambda: not thread.is_alive(), 2.0)
    assert time.monotonic() - began < 1.0
    go.set()
    assert await made.settled(request) == "cancelled"
    await until(
        lambda: all(
            run is None or run.secret is None
            for run in (made.node(site).store.run(request.run_id) for site in FIVE)
        )
    )
    # Only where masks were opened by four, there is the one sum that they were opened for.
    assert made.decoding(contract).smallest(request) == (
        5 if step == "unmask_request" else math.inf
    )
    # Late questions get no answer.
    for heard in list(made.heard):
        if heard.asked.WhichOneof("body") in STEPS:
            reply = made.node(heard.site).service.answer(heard.asked)
            assert reply.WhichOneof("body") == "error"


# Restarts


class Killed(BaseException):
    """The hub's process ends here."""


class MortalRunner(ThreadRunner):
    """A run's thread may end without a word."""

    def launch(self, execute: Execute) -> None:
        def run(run_id: str, journal: Any) -> None:
            with suppress(Killed):
                execute(run_id, journal)

        super().launch(run)


@pytest.fixture
async def mortal() -> AsyncIterator[Federation]:
    async with federation(world=World(sites=FIVE, min_sites=3), runner=MortalRunner()) as one:
        yield one


@pytest.fixture
def dies(monkeypatch: pytest.MonkeyPatch) -> Dies:
    """`dies(step, which)`: the hub dies before it sends a step's messages the n-th time."""
    send = Exchange.send

    def arm(step: str, which: int) -> threading.Event:
        dead, seen = threading.Event(), Counter[str]()

        def killed(self: Exchange, name: str, messages: Any) -> None:
            seen[name] += 1
            if name == step and seen[name] == which and not dead.is_set():
                dead.set()
                raise Killed
            send(self, name, messages)

        monkeypatch.setattr(Exchange, "send", killed)
        return dead

    return arm


async def restarted(made: Federation, request: RunRequest, dead: threading.Event) -> None:
    """Submit, wait until the hub dies, start it again."""
    user = made.hub.user(made.world.researcher.public)
    made.hub.submit(request.sign(made.world.researcher), user)
    await until(dead.is_set)
    (thread,) = made.runner._threads.values()
    await until(lambda: not thread.is_alive())
    assert made.hub.store.runs.get(request.run_id).info.status in {"queued", "running"}
    await made.restart_hub()


@pytest.mark.parametrize("computation", ["test.sum", SEPARATE])
@pytest.mark.parametrize(
    ("step", "which"),
    [
        ("ShareKeys", 1),
        ("MaskedInputCollection", 1),
        ("Unmasking", 1),
        ("MaskedInputCollection", 2),
        ("Unmasking", 2),
    ],
)
async def test_a_hub_that_was_killed_goes_on_with_the_same_sites(
    mortal: Federation, dies: Dies, computation: str, step: str, which: int
) -> None:
    contract, request = await begun(mortal, computation)
    await restarted(mortal, request, dies(step, which))
    assert await mortal.settled(request) == "succeeded"
    result = mortal.result(request)
    assert result == (sums(FIVE, FIVE, FIVE) if computation == SEPARATE else expected(FIVE, 3))
    assert participants(mortal, request) == FIVE
    assert [mortal.refusals(site) for site in FIVE] == [[]] * 5
    assert mortal.decoding(contract).smallest(request) == 5


@pytest.mark.parametrize("computation", ["test.sum", SEPARATE])
@pytest.mark.parametrize("step", ["ConsistencyCheck", "Unmasking"])
async def test_a_hub_that_was_killed_after_a_drop_out_keeps_to_what_sites_agreed_on(
    mortal: Federation, dies: Dies, computation: str, step: str
) -> None:
    """The site that dropped is back when the hub is: it is summed if nobody has signed yet."""
    contract, request = await begun(mortal, computation)
    mortal.away = at("round_request", 1)
    dead = dies(step, 1)

    def back(_site: str, message: pb.Message) -> pb.Message:
        if dead.is_set():
            mortal.away = None
        return message

    mortal.hub_lies = back
    await restarted(mortal, request, dead)
    assert await mortal.settled(request) == "succeeded"
    first = FOUR if step == "Unmasking" else FIVE
    rounds = [first, FIVE, FIVE]
    assert mortal.result(request) == (
        sums(*rounds) if computation == SEPARATE else expected(first, 3)
    )
    if computation != SEPARATE:
        assert participants(mortal, request) == first
    assert mortal.decoding(contract).smallest(request) == len(first)


async def test_a_hub_that_was_killed_after_a_drop_out_goes_on_without_the_site(
    mortal: Federation, dies: Dies
) -> None:
    """It shares its keys again and is gone again."""
    _, request = await begun(mortal)
    mortal.away = at("round_request", 1)
    await restarted(mortal, request, dies("Unmasking", 1))
    assert await mortal.settled(request) == "succeeded"
    assert mortal.result(request) == expected(FOUR, 3)
    assert participants(mortal, request) == FOUR


async def test_a_hub_that_was_killed_knows_who_took_part_before(
    mortal: Federation, dies: Dies
) -> None:
    _, request = await begun(mortal, SEPARATE)
    mortal.away = either(at("round_request", 1), at("round_request", 3, ["Beta"]))
    await restarted(mortal, request, dies("MaskedInputCollection", 3))
    assert await mortal.settled(request) == "succeeded"
    assert mortal.result(request) == sums(FOUR, FIVE, [s for s in FIVE if s != "Beta"])
    assert participants(mortal, request) == FIVE
    info = mortal.hub.store.runs.get(request.run_id).info
    assert info.rounds == 3


@pytest.mark.parametrize("drops", [False, True])
async def test_a_node_that_was_restarted_opens_what_it_masked(
    made: Federation, drops: bool
) -> None:
    """A new process on the same memory, between its two messages of a round."""
    _, request = await begun(made)
    if drops:
        made.away = at("round_request", 1)
    restarts = []

    def restart(site: str, message: pb.Message) -> pb.Message:
        kind = message.WhichOneof("body")
        if site == "Alpha" and kind in {"consistency_request", "unmask_request"}:
            restarts.append(kind)
            made.world.node(site, store=made.node(site).store, find_analysis=find)
        return message

    made.hub_lies = restart
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == expected(FOUR if drops else FIVE, 3)
    assert len(restarts) == (4 if drops else 3)
    assert made.refusals("Alpha") == []


# Sites that say other things than the protocol


async def test_a_refusal_in_the_middle_fails_the_run_with_the_sites_name(
    made: Federation,
) -> None:
    contract, request = await begun(made, SEPARATE)

    def pause(site: str, message: pb.Message) -> pb.Message:
        if site == "Beta" and message.HasField("unmask_request"):
            made.node("Beta").policy[0] = Policy(paused=True)
        return message

    made.hub_lies = pause
    error = await fails(made, request, "site-policy")
    assert error["details"]["site"] == "Beta"
    first, *others = made.refusals("Beta")  # a request for the next round may be on its way
    assert first == ("unmask", "site-policy")
    assert {code for _, code in others} <= {"site-policy"}
    assert len(made.decodable(request, contract)) <= 1


async def test_a_site_that_signed_another_list_is_not_needed_to_open_this_one(
    made: Federation,
) -> None:
    """A lying hub, before, had one of them sign that another dropped."""
    contract, request = await begun(made, SEPARATE)
    made.wronged.add("Alpha")

    def lie(site: str, message: pb.Message) -> pb.Message:
        if site == "Alpha" and message.HasField("unmask_request"):
            survivors = pb.SurvivorList(run_id=request.run_id, round=1, survivors=b"\x0f")
            made.answer(site, pb.Message(consistency_request=survivors))
        return message

    made.hub_lies = lie
    assert await made.run(request) == "succeeded", made.error(request)
    assert made.result(request) == sums(FIVE, FIVE, FIVE)
    assert made.decoding(contract).smallest(request) == 5


async def test_a_list_that_a_site_makes_up_leaves_out_nobody_but_itself(made: Federation) -> None:
    _, request = await begun(made, SEPARATE)
    made_up = ConflictError("other-survivors", "Another list.", survivors=list(OTHER_FOUR))

    def lie(site: str, message: pb.Message, reply: pb.Message) -> pb.Message:
        first = site == "Beta" and message.round_request.round == 1
        return error_message(made_up) if first else reply

    made.site_lies = lie
    assert await made.run(request) == "succeeded", made.error(request)
    others = tuple(site for site in FIVE if site != "Beta")
    assert made.result(request) == sums(others, FIVE, FIVE)


@pytest.mark.parametrize("claim", [b"\x1e", b"\x1f", b"\xff", b"\x01\x01"])
async def test_a_site_that_speaks_of_survivors_before_anybody_was_told_is_named(
    made: Federation, claim: bytes
) -> None:
    contract, request = await begun(made)

    def lie(site: str, message: pb.Message, reply: pb.Message) -> pb.Message:
        if site == "Beta" and message.round_request.round == 1:
            reply.round_reply.agreed = claim
        return reply

    made.site_lies = lie
    assert await made.run(request) == "failed"
    error = dict(made.error(request))
    assert error["code"] in {"unexpected-message", "malformed-message"}
    assert error["details"]["site"] == "Beta"
    assert made.decodable(request, contract) == []
