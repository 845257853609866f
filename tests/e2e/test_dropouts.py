"""What may fail in a secure sum over five real nodes, at each moment: the sums stay exact.

Four of the five sites open a sum (threshold, quorum and fewest survivors are 4). A run of
`faults.sums` continues without a site and takes it up again; a glm waits for it.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from tests.support.five_sites import (
    N_ROWS,
    RELAYED,
    SITES,
    STRAGGLER_S,
    STUDY,
    FaultyConsortium,
    frames,
    start,
    until,
)
from tests.support.no_alarms import require_no_alarms_in
from tests.support.plugin.cohortium_faults import BOUND

import cohortium as co
from cohortium.core.rounds import FieldSpec
from cohortium.node.journal import check_chain
from cohortium.node.store import NodeStore
from cohortium.secagg.ring import ring_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("dropouts")]

ALL = frozenset(SITES)
DEAD = SITES[1]
OTHERS = ALL - {DEAD}
ROUNDS = 5
STALL_S = 30.0
SHORT_STALL_S = 0.7
WAIT_S = 120.0
UNIT = 2.0 ** -ring_for(FieldSpec((3,), "vector", BOUND), len(SITES)).fraction_bits
AGES = {site: float(frame["age"].to_numpy(float).mean()) for site, frame in frames().items()}

_label = itertools.count()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyConsortium]:
    consortium = start(tmp_path_factory.mktemp("five"))
    yield consortium
    consortium.stop()
    require_no_alarms_in(consortium.node_dir(site) for site in SITES)


@pytest.fixture
def five(running: FaultyConsortium) -> Iterator[FaultyConsortium]:
    """All processes alive and linked, no fault armed."""
    running.until_linked(*SITES)
    yield running
    running.clear_faults()
    for process in ("hub", *SITES):
        if not running.running(process):
            running.start_again(process)


@pytest.fixture
def study(five: FaultyConsortium, monkeypatch: pytest.MonkeyPatch) -> Iterator[co.Study]:
    monkeypatch.setenv("COHORTIUM_PROFILE", str(five.profile))
    with co.connect() as federation:
        yield federation.study(STUDY)


def begin(five: FaultyConsortium, study: co.Study, name: str, params: Mapping[str, Any]) -> co.Run:
    """Submit a run; nothing of round 1 happens before the hub has said that it has the run."""
    five.arm(SITES, "hold before share_request 1")
    run = study.submit(name, dict(params))
    with five.held(SITES, "before share_request 1"):
        return run


def sums(five: FaultyConsortium, study: co.Study, rounds: int = ROUNDS) -> co.Run:
    return begin(five, study, "faults.sums", {"label": f"run {next(_label)}", "rounds": rounds})


@dataclass(frozen=True)
class Noted:
    """What is in a node's journal of a run.

    Attributes:
        masked: The rounds of which it wrote down a masked vector.
        opened: The rounds of which it wrote down that it opened masks.
        refused: Codes of what it refused.
    """

    masked: Collection[int]
    opened: Collection[int]
    refused: frozenset[str] = frozenset()


def noted(five: FaultyConsortium, run: co.Run, site: str, *what: str) -> Counter[int]:
    entries = five.decisions(run.id, site)
    return Counter(e["round"] for e in entries if e["what"] in what and e["allowed"])


def check_journals(
    five: FaultyConsortium,
    run: co.Run,
    expected: Mapping[str, Noted],
    may_refuse: frozenset[str] = frozenset(),
) -> None:
    """Every site masked once and opened once, in the rounds where it should."""
    for site, due in expected.items():
        # The hub goes on when enough have opened their shares: a last answer may be under way.
        until(
            lambda: noted(five, run, site, "unmask") == Counter(due.opened),  # noqa: B023
            f"{site} opens {sorted(due.opened)}: {five.decisions(run.id, site)}",
            deadline_s=10,
        )
        assert noted(five, run, site, "round") == Counter(due.masked), site
        entries = five.decisions(run.id, site)
        refused = {e["code"] for e in entries if not e["allowed"]}
        assert refused - may_refuse == due.refused, entries
        assert sum(e["what"] == "run" for e in entries) == 1
        until(
            lambda: any(e["what"] == "end" for e in five.decisions(run.id, site)),  # noqa: B023
            f"{site} knows that the run is over",
        )


def check_sums(
    five: FaultyConsortium,
    run: co.Run,
    summed: Sequence[frozenset[str]],
    journals: Mapping[str, Noted] | None = None,
    *,
    may_refuse: frozenset[str] = frozenset(),
) -> None:
    """Each round's result is the sum over these sites, and the journals say so.

    Args:
        summed: By round.
        journals: Where a site did other things than mask and open in the rounds of its sums.
        may_refuse: Codes of refusals that may be there or not.
    """
    rounds = run.wait(timeout_s=WAIT_S).result().to_json()["result"]["rounds"]
    assert [r["sites"] for r in rounds] == [len(sites) for sites in summed]
    for number, (got, sites) in enumerate(zip(rounds, summed, strict=True), start=1):
        persons = sum(N_ROWS[site] for site in sites)
        assert got["persons"] == [persons, number * persons], number
        age = float(sum(Fraction(number * AGES[site]) for site in sites))
        assert got["age"] == [age], number
        model = [persons, number * len(sites), sum(AGES[site] for site in sites)]
        np.testing.assert_allclose(got["model"], model, rtol=2.0**-22, atol=len(sites) * UNIT)
    info = run.refresh()
    assert (info.status, info.rounds) == ("succeeded", len(summed))
    assert set(info.participants) == frozenset.union(*summed)
    usual = {site: [n for n, sites in enumerate(summed, 1) if site in sites] for site in SITES}
    expected = {site: Noted(rounds, rounds) for site, rounds in usual.items()}
    check_journals(five, run, {**expected, **(journals or {})}, may_refuse)


# A site dies; each round stands alone


@dataclass(frozen=True)
class Death:
    """A moment of round 2, and whether the site is in the sum, has masked, has opened."""

    moment: str
    summed: bool
    masked: bool
    opened: bool


@pytest.mark.parametrize(
    "death",
    [
        Death("before round_request", summed=False, masked=False, opened=False),
        Death("after round_request", summed=False, masked=True, opened=False),
        Death("before unmask_request", summed=True, masked=True, opened=False),
        Death("after unmask_request", summed=True, masked=True, opened=True),
        Death("sent unmask_request", summed=True, masked=True, opened=True),
    ],
    ids=lambda death: death.moment.replace(" ", "-"),
)
def test_a_run_goes_on_without_a_site_that_dies_and_takes_it_up_again(
    five: FaultyConsortium, study: co.Study, death: Death
) -> None:
    five.faults(DEAD).arm(f"kill {death.moment} 2")
    five.arm(OTHERS, "hold before round_request 4")
    run = sums(five, study)
    with five.held(OTHERS, "before round_request 4"):
        assert noted(five, run, SITES[0], "round") == Counter([1, 2, 3])
        five.start_again(DEAD)
        five.until_linked(DEAD)
    in_second = ALL if death.summed else OTHERS
    masked = {1, 5} | ({2} if death.masked else set())
    opened = {1, 5} | ({2} if death.opened else set())
    summed = [ALL, in_second, OTHERS, OTHERS, ALL]
    check_sums(five, run, summed, {DEAD: Noted(masked, opened)})


@pytest.mark.parametrize(
    "moment", ["before round_request", "before consistency_request", "before unmask_request"]
)
def test_with_too_few_sites_a_round_waits_until_enough_are_back(
    five: FaultyConsortium, study: co.Study, moment: str
) -> None:
    again = SITES[2]
    five.faults(DEAD).arm("kill before round_request 2")
    five.faults(again).arm(f"kill {moment} 2")
    five.arm(OTHERS, "hold before round_request 3")
    run = sums(five, study)
    five.start_again(again)
    with five.held(OTHERS, "before round_request 3"):
        five.start_again(DEAD)
        five.until_linked(DEAD)
    check_sums(five, run, [ALL, OTHERS, OTHERS, ALL, ALL])


# The hub dies


@pytest.mark.parametrize(
    "moment", ["got MaskedInputCollection", "send Unmasking", "got Unmasking", "summed"]
)
def test_a_hub_that_dies_in_a_round_asks_again_and_gets_the_same(
    five: FaultyConsortium, study: co.Study, moment: str
) -> None:
    five.faults("hub").arm(f"kill {moment} 2")
    run = sums(five, study)
    five.start_again("hub")
    check_sums(five, run, [ALL] * ROUNDS)


def test_a_round_that_was_begun_to_be_opened_waits_for_a_site_that_is_in_it(
    five: FaultyConsortium, study: co.Study
) -> None:
    five.faults(DEAD).arm("kill before unmask_request 2")
    five.faults("hub").arm("kill got Unmasking 2")
    run = sums(five, study)
    five.start_again("hub")
    asked_again(five, OTHERS, 2)
    time.sleep(1.5 * STRAGGLER_S)
    five.start_again(DEAD)
    check_sums(five, run, [ALL] * ROUNDS)


def asked_again(five: FaultyConsortium, sites: Collection[str], number: int) -> None:
    """A restarted hub asks these sites for a round; none answers before all are asked."""
    five.arm(sites, f"hold before round_request {number}")
    with five.held(sites, f"before round_request {number}"):
        pass


def test_survivors_that_were_agreed_on_stay_when_the_hub_forgets_them(
    five: FaultyConsortium, study: co.Study
) -> None:
    five.faults(DEAD).arm("kill before round_request 2")
    five.faults("hub").arm("kill send Unmasking 2")
    run = sums(five, study)
    until(lambda: not five.running("hub"), "the hub is dead")
    five.start_again(DEAD)
    five.start_again("hub")
    asked_again(five, SITES, 2)
    # Its own vector reached the hub; the others had opened its masks, and it opens nothing.
    every = range(1, ROUNDS + 1)
    back = {DEAD: Noted(every, {*every} - {2})}
    check_sums(five, run, [ALL, OTHERS, ALL, ALL, ALL], back)


def test_a_hub_that_comes_back_goes_on_without_a_site_that_does_not(
    five: FaultyConsortium, study: co.Study
) -> None:
    five.faults(DEAD).arm("kill before round_request 2")
    five.faults("hub").arm("kill got MaskedInputCollection 2")
    run = sums(five, study)
    five.start_again("hub")
    run.wait(timeout_s=WAIT_S)
    five.start_again(DEAD)
    check_sums(five, run, [ALL, *[OTHERS] * (ROUNDS - 1)])


# An exact statistic has one set of sites


def fit(five: FaultyConsortium, study: co.Study, formula: str) -> co.Run:
    return begin(five, study, "glm", {"formula": formula, "family": "binomial"})


def check_fit(
    five: FaultyConsortium,
    run: co.Run,
    formula: str,
    sites: frozenset[str],
    journals: Callable[[Collection[int]], Mapping[str, Noted]] = lambda _rounds: {},
) -> None:
    """The fit is that of the pooled data of these sites, and the journals say so.

    Args:
        journals: Where a site did other things than mask and open in all rounds or none.
    """
    result = run.wait(timeout_s=WAIT_S).result()
    assert isinstance(result, co.GlmResult)
    pooled = pd.concat([frame for site, frame in frames().items() if site in sites])
    expected = smf.glm(formula, pooled, family=sm.families.Binomial()).fit(tol=1e-14)
    np.testing.assert_allclose(result.params, expected.params[result.params.index], rtol=1e-8)
    assert result.nobs == len(pooled)
    assert set(run.refresh().participants) == sites
    every = range(1, run.info.rounds + 1)
    usual = {site: Noted(every, every) if site in sites else Noted((), ()) for site in SITES}
    check_journals(five, run, {**usual, **journals(every)})


def test_a_site_that_dies_before_it_masks_is_not_in_an_exact_statistic(
    five: FaultyConsortium, study: co.Study
) -> None:
    formula = "event ~ age"
    five.faults(DEAD).arm("kill before round_request 1")
    run = fit(five, study, formula)
    run.wait(timeout_s=WAIT_S)
    five.start_again(DEAD)
    five.until_linked(DEAD)
    check_fit(five, run, formula, OTHERS)
    # With it, the difference of both fits would show it.
    with pytest.raises(co.CohortiumError) as refused:
        study.submit("glm", {"formula": formula, "family": "binomial"}).wait(WAIT_S).result()
    assert refused.value.code == "differencing"


def test_an_exact_statistic_keeps_the_survivors_that_its_hub_forgot(
    five: FaultyConsortium, study: co.Study
) -> None:
    formula = "event ~ sex"
    five.faults(DEAD).arm("kill before round_request 1")
    five.faults("hub").arm("kill send Unmasking 1")
    run = fit(five, study, formula)
    until(lambda: not five.running("hub"), "the hub is dead")
    five.start_again(DEAD)
    five.start_again("hub")
    asked_again(five, SITES, 1)
    check_fit(five, run, formula, OTHERS, lambda _rounds: {DEAD: Noted([1], [])})


@pytest.mark.parametrize(
    ("moment", "formula", "not_opened"),
    [
        ("before unmask_request 1", "event ~ score", {1}),
        ("before round_request 2", "event ~ age + score", set()),
        ("after round_request 2", "event ~ age + sex", set()),
    ],
    ids=["unmasking-1", "masking-2", "masked-2"],
)
def test_an_exact_statistic_waits_for_a_site_that_has_masked(
    five: FaultyConsortium, study: co.Study, moment: str, formula: str, not_opened: set[int]
) -> None:
    five.faults(DEAD).arm(f"kill {moment}")
    run = fit(five, study, formula)
    until(lambda: not five.running(DEAD), "it is dead")
    five.start_again(DEAD)
    check_fit(five, run, formula, ALL, lambda rounds: {DEAD: Noted(rounds, {*rounds} - not_opened)})


# The network fails


def test_a_round_waits_for_a_network_that_stalls_for_a_moment(
    five: FaultyConsortium, study: co.Study
) -> None:
    five.arm(SITES, "hold before round_request 2")
    run = sums(five, study)
    with five.held(SITES, "before round_request 2"):
        five.relay.freeze()
    time.sleep(SHORT_STALL_S)
    five.relay.thaw()
    check_sums(five, run, [ALL] * ROUNDS)


def test_while_a_network_stalls_a_run_goes_on_and_an_exact_statistic_waits(
    five: FaultyConsortium, study: co.Study
) -> None:
    formula, others = "event ~ age + sex + score", ALL - {RELAYED}
    five.arm(SITES, "hold before round_request 2")
    run, exact = sums(five, study), fit(five, study, formula)
    with five.held(SITES, "before round_request 2", runs=2):
        five.arm(others, f"hold before round_request 4 {run.id}")
        five.relay.freeze()
        began = time.monotonic()
    with five.held(others, "before round_request 4", run_id=run.id):
        assert time.monotonic() - began < STALL_S
        time.sleep(max(0.0, STALL_S - (time.monotonic() - began)))
        assert exact.refresh().rounds == 1
        five.relay.thaw()
        exact.wait(timeout_s=WAIT_S)  # for which the site must be back
    check_fit(five, exact, formula, ALL)
    # It masked for round 2; nobody heard it.
    late = {RELAYED: Noted({1, 2, 5}, {1, 5})}
    check_sums(five, run, [ALL, others, others, others, ALL], late)


def test_messages_that_come_twice_count_once(five: FaultyConsortium, study: co.Study) -> None:
    five.faults("hub").arm("twice")
    run = sums(five, study)
    run.wait(timeout_s=WAIT_S)
    assert five.faults("hub").seen("same")
    assert not five.faults("hub").seen("different")
    # A copy of a list of survivors may come after the next round's masked vector.
    check_sums(five, run, [ALL] * ROUNDS, may_refuse=frozenset({"wrong-round"}))


def test_answers_in_reverse_order_give_the_same_sum(
    five: FaultyConsortium, study: co.Study
) -> None:
    five.faults("hub").arm("reverse")
    check_sums(five, sums(five, study), [ALL] * ROUNDS)


def test_a_question_that_comes_after_the_next_rounds_is_refused(
    five: FaultyConsortium, study: co.Study
) -> None:
    """The others have opened this site's mask for that round."""
    five.faults("hub").arm(f"late {DEAD} round_request 2")
    run = sums(five, study)
    there = (1, 3, 4, 5)
    late = {DEAD: Noted(there, there, frozenset({"wrong-round"}))}
    check_sums(five, run, [ALL, OTHERS, ALL, ALL, ALL], late)
    assert five.faults("hub").seen("late wrong-round 2") == 1


def test_after_all_this_every_journal_is_whole(five: FaultyConsortium) -> None:
    for site in SITES:
        store = NodeStore(five.node_dir(site) / "node.db")
        try:
            entries, _ = check_chain(store)
        finally:
            store.close()
        assert entries > 5
