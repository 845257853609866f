"""A node that adds the noise its contract asks for, once a round, as long as the budget lasts."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.builders import SITES, Node, World, round_request, run_end
from tests.support.noisy import SIZE, Updates, find, permitted, terms
from tests.support.secagg import aggregate

from cohortium.analysis.interface import AnyAnalysis, Scope
from cohortium.contract.model import Contract, RunRequest
from cohortium.contract.noise_plan import plan
from cohortium.core.rounds import Contribution, FieldSpec, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError
from cohortium.node.store import NodeStore, Stage
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.roster import Roster

SCOPE = Scope({}, Disclosure(), 3)


def scene(
    store: NodeStore | None = None, registry: Callable[[str], AnyAnalysis] = find, **changes: Any
) -> tuple[World, Contract]:
    """Three nodes with a contract that asks for noise; Alpha on `store`."""
    world = World()
    contract = world.contract(computations=permitted(**changes))
    for site in SITES:
        node = world.node(site, store=store if site == "Alpha" else None, find_analysis=registry)
        world.agree(node, contract)
    return world, contract


def request(world: World, contract: Contract, number: int = 1, **params: Any) -> RunRequest:
    asked = {"computation": "test.update", "params": params, "run_id": f"{number:032x}"}
    return world.request(contract, **asked)


def restarted(world: World, store: NodeStore) -> Node:
    """Alpha's process anew, on what it wrote down."""
    return world.node("Alpha", store=store, find_analysis=find)


def masked(node: Node, asked: RunRequest, roster: list[bytes], number: int = 1) -> bytes:
    return node.ask(round_request(asked, roster, number)).round_reply.masked


def refusal(act: Callable[[], object]) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        act()
    return caught.value


def total(world: World, contract: Contract, asked: RunRequest, number: int = 1) -> Total:
    """What the hub decodes."""
    envelopes = world.adverts(asked)
    vectors = {site: masked(world.nodes[site], asked, envelopes, number) for site in SITES}
    state = State({"round": number})
    roster = Roster.verify(
        envelopes,
        contract_keys={p.name: p.key for p in contract.participants},
        run_id=asked.run_id,
        contract_digest=contract.digest,
        request_digest=asked.digest,
        min_sites=2,
    )
    noise = contract.computations[0].noise
    assert noise is not None
    layout = plan(noise, Updates().layout(state, Updates.params_type(), SCOPE), 3, 3).layout
    binding = RoundBinding(asked.run_id, number, contract.digest, asked.digest, state.digest)
    return aggregate(vectors, roster, binding, layout)


def spent(node: Node, contract: Contract) -> int:
    return node.store.noisy_sums(contract.digest, lambda _name: True)


def test_the_sum_carries_the_noise_of_every_site() -> None:
    world, contract = scene()
    found = total(world, contract, request(world, contract))
    # Three shares where two suffice (one site may collude); of 500 components, 6 sigma are 20 %.
    deviation = (terms().multiplier or 0.0) * (3 / 2) ** 0.5
    update = found["update"] - 3 * 0.1 / SIZE**0.5
    assert deviation * 0.8 < update.std() < deviation * 1.25
    assert abs(update.mean()) < 6 * deviation / SIZE**0.5
    assert abs(int(found["n"])) < 9 * deviation


def test_a_site_adds_no_more_than_the_clip() -> None:
    changes: dict[str, Any] = {"epsilon": 100.0, "sums": 1, "delta": 0.01, "clip": 20.0}
    world, contract = scene(**changes)
    deviation = (terms(**changes).multiplier or 0.0) * 20.0 * (3 / 2) ** 0.5
    huge = total(world, contract, request(world, contract, size=500.0))["update"]
    # The norm of three updates that point the same way, each of 500 before it was clipped.
    assert float(huge.sum()) / SIZE**0.5 == pytest.approx(60.0, abs=7 * deviation)
    assert 7 * deviation < 60.0


def test_a_round_that_is_asked_again_has_the_same_noise(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.db")
    world, contract = scene(store)
    asked = request(world, contract)
    roster = world.adverts(asked)
    first = masked(world.nodes["Alpha"], asked, roster)
    assert masked(world.nodes["Alpha"], asked, roster) == first
    store.close()
    after = restarted(world, NodeStore(tmp_path / "node.db"))
    assert masked(after, asked, roster) == first
    assert spent(after, contract) == 1
    (entry,) = after.decisions(what="round")
    assert entry["noisy_sums"] == 1
    assert entry["epsilon"] == pytest.approx(terms().spent(1), abs=1e-6)
    after.store.close()


def test_noise_is_forgotten_when_the_next_round_begins() -> None:
    world, contract = scene()
    asked, alpha = request(world, contract), world.nodes["Alpha"]
    roster = world.adverts(asked)
    masked(alpha, asked, roster)
    kept = alpha.store.noise(asked.run_id, 1)
    assert kept is not None
    masked(alpha, asked, roster, 2)
    assert alpha.store.noise(asked.run_id, 1) is None
    assert alpha.store.noise(asked.run_id, 2) not in {None, kept}
    again = refusal(lambda: masked(alpha, asked, roster, 1))
    assert again.code == "round-burnt"
    assert spent(alpha, contract) == 2


@pytest.mark.parametrize(("outcome", "keeps"), [("failed", True), ("succeeded", False)])
def test_noise_stays_only_where_a_run_may_be_resumed(outcome: str, keeps: bool) -> None:
    world, contract = scene()
    asked, alpha = request(world, contract), world.nodes["Alpha"]
    masked(alpha, asked, world.adverts(asked))
    alpha.ask(run_end(asked, outcome))
    assert (alpha.store.noise(asked.run_id, 1) is not None) == keeps
    alpha.store.expire_runs("9999")
    assert alpha.store.noise(asked.run_id, 1) is None
    assert spent(alpha, contract) == 1


def test_the_budget_ends_runs_and_stays_spent_after_a_restart(tmp_path: Path) -> None:
    store = NodeStore(tmp_path / "node.db")
    world, contract = scene(store)
    first, second, third = (request(world, contract, number) for number in (1, 2, 3))
    alpha = world.nodes["Alpha"]
    rosters = {run.run_id: world.adverts(run) for run in (first, second)}
    for run, number in ((first, 1), (first, 2), (second, 1)):
        masked(alpha, run, rosters[run.run_id], number)
    for run, number in ((first, 3), (second, 2)):
        over = refusal(
            lambda run=run, number=number: masked(alpha, run, rosters[run.run_id], number)  # type: ignore[misc]
        )
        assert over.code == "privacy-budget"
    store.close()
    after = restarted(world, NodeStore(tmp_path / "node.db"))
    assert refusal(lambda: after.ask(world.prepare(third))).code == "privacy-budget"
    assert refusal(lambda: masked(after, first, rosters[first.run_id], 3)).code == "privacy-budget"
    # What was paid for can still be had.
    assert masked(after, second, rosters[second.run_id], 1)
    assert spent(after, contract) == 3
    after.store.close()


class Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize(("stage", "paid"), [("before-commit", 0), ("after-commit", 1)])
def test_a_crash_spends_with_the_record_of_the_round_or_not_at_all(
    tmp_path: Path, stage: Stage, paid: int
) -> None:
    armed: list[Stage] = []

    def fault(reached: Stage) -> None:
        if reached in armed:
            raise Crash

    store = NodeStore(tmp_path / "node.db", fault=fault)
    world, contract = scene(store)
    asked = request(world, contract)
    roster = world.adverts(asked)
    armed.append(stage)
    with pytest.raises(Crash):
        masked(world.nodes["Alpha"], asked, roster)
    store.close()
    after = restarted(world, NodeStore(tmp_path / "node.db"))
    assert spent(after, contract) == paid
    assert (after.store.noise(asked.run_id, 1) is not None) == bool(paid)
    answer = masked(after, asked, roster)
    assert masked(after, asked, roster) == answer
    assert spent(after, contract) == 1
    after.store.close()


def test_two_questions_at_once_draw_one_noise() -> None:
    barrier = threading.Barrier(2)

    def together(_name: str) -> AnyAnalysis:
        return Updates()

    world, contract = scene(registry=together)
    asked, alpha = request(world, contract), world.nodes["Alpha"]
    roster = world.adverts(asked)

    def ask(_number: int) -> bytes:
        barrier.wait(5)
        return masked(alpha, asked, roster)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(ask, range(2))
    assert one == other
    assert spent(alpha, contract) == 1


def test_an_analysis_with_exact_reals_is_refused() -> None:
    class Reals(Updates):
        def layout(self, state: State, params: Any, scope: Scope) -> Layout:
            return {"mean": FieldSpec((), "real")}

        def local(self, table: Table, state: State, params: Any, scope: Scope) -> Contribution:
            return {"mean": np.array(1.0)}

    world, contract = scene(registry=lambda _name: Reals())
    asked, alpha = request(world, contract), world.nodes["Alpha"]
    roster = world.adverts(asked)
    assert refusal(lambda: masked(alpha, asked, roster)).code == "not-permitted"
    assert spent(alpha, contract) == 0


@pytest.mark.parametrize("library", ["opendp", "dp_accounting"])
def test_without_the_extra_the_run_is_refused(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    world, contract = scene()
    for module in [name for name in sys.modules if name.split(".")[0] == library] or [library]:
        monkeypatch.setitem(sys.modules, module, None)
    asked = request(world, contract)
    assert refusal(lambda: world.adverts(asked)).code == "missing-extra"


def test_stored_noise_of_another_length_is_a_broken_store() -> None:
    world, contract = scene()
    asked, alpha = request(world, contract), world.nodes["Alpha"]
    roster = world.adverts(asked)
    masked(alpha, asked, roster)
    alpha.store.execute("UPDATE noise SET body = x'00'")
    assert refusal(lambda: masked(alpha, asked, roster)).code == "peer-failed"
    assert [entry["code"] for entry in alpha.decisions(allowed=False)] == ["broken-store"]
