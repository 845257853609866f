"""Orders that come twice, links that break, and processes that are killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.enclave_hub import World

from cohortium.contract.task import MIB
from cohortium.enclave.executors.landlock import Landlock
from cohortium.errors import CohortiumError, PeerError
from cohortium.worker import hub_calls, service
from cohortium.worker.store import RunStore

pytestmark = pytest.mark.skipif(bool(Landlock().missing()), reason="no sandbox on this machine")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_calls, "PAUSE_S", 0.01)
    monkeypatch.setattr(service, "AGAIN_AFTER_S", 0.01)


async def test_a_run_is_begun_once_and_its_outcome_sent_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    asked = world.prepare()
    async with world.serving():
        await asyncio.gather(*(world.send(task_prepare=asked) for _ in range(3)))
        await world.ended()
        first = world.reports[-1].outcome
        assert first
    world.reports.clear()
    async with world.serving():
        await world.send(task_prepare=asked)
        assert (await world.ended()).outcome == first
    assert len(world.alpha.shown) == 1


async def test_another_request_of_a_run_s_id_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    request = world.request()
    other = world.request(run_id=request.run_id, params={"word": "other"})
    async with world.serving():
        await world.send(task_prepare=world.prepare(request))
        with pytest.raises(CohortiumError) as caught:
            await world.send(task_prepare=world.prepare(other))
        await world.ended()
    assert caught.value.code == "replayed"


async def test_a_run_whose_process_was_killed_is_lost_and_not_begun_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    request = world.request()
    before = RunStore(world.directory.store)
    before.begin(request.run_id, request.digest, "joint", "join", "landlock")
    before.close()
    async with world.serving():
        await world.ended()
        assert world.error().code == "enclave-lost"
        with pytest.raises(PeerError) as caught:
            await world.send(task_prepare=world.prepare(request))
    assert caught.value.code == "enclave-lost"
    assert world.alpha.shown == []


async def test_a_task_that_an_orderly_shutdown_stops_is_told_to_the_hub(tmp_path: Path) -> None:
    world = World(tmp_path, program="import time; time.sleep(60)")
    async with world.serving():
        await world.send(task_prepare=world.prepare())
        while "running" not in {one.stage for one in world.reports}:
            await asyncio.sleep(0.01)
    assert world.outcome().end == "stopped"
    kept = RunStore(world.directory.store)
    assert [(one.how, one.sent) for one in kept.latest()] == [("stopped", True)]
    kept.close()


async def test_an_outcome_waits_for_a_hub_that_is_away(tmp_path: Path) -> None:
    world = World(tmp_path)
    failures = [3]

    def away(report: Any) -> None:
        if report.stage == "ended" and failures[0]:
            failures[0] -= 1
            raise PeerError("peer-unreachable", "The hub restarts.")

    world.on["task_report"] = away
    await world.run()
    assert world.outcome().end == "succeeded"
    assert failures == [0]
    with_store = RunStore(world.directory.store)
    assert with_store.latest()[0].sent
    with_store.close()


async def test_a_fetch_goes_on_where_the_link_broke(tmp_path: Path) -> None:
    world = World(tmp_path, chunk=4096)
    asked: list[int] = []

    def breaks(fetch: Any) -> None:
        asked.append(fetch.offset)
        if len(asked) == 3:
            raise PeerError("link-lost", "Broken.")

    world.on["task_fetch"] = breaks
    await world.run()
    assert world.outcome().end == "succeeded"
    offsets = [offset for path, offset in world.alpha.fetched if path == "deep/b.txt"]
    assert offsets == sorted(set(offsets))
    assert len(offsets) > 2


async def test_a_session_that_was_cut_off_is_begun_anew_for_the_same_key(tmp_path: Path) -> None:
    world = World(tmp_path)
    failures = [1]

    def breaks(message: Any) -> None:
        if message.site == "Alpha" and not message.request_envelope and failures[0]:
            failures[0] -= 1
            raise PeerError("link-lost", "The node knows no such session.")

    world.on["task_channel"] = breaks
    await world.run()
    assert world.outcome().end == "succeeded"
    assert len(world.alpha.sessions) == 2


async def test_what_was_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.run()
    before = len(world.alpha.fetched) + len(world.beta.fetched)
    world.reports.clear()
    world.outputs.clear()
    await world.run()
    assert world.outcome().end == "succeeded"
    assert len(world.alpha.fetched) + len(world.beta.fetched) == before


async def test_inputs_beyond_the_cache_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path, settings={"max_cache_bytes": MIB})
    big = world.beta.lent.files[0].model_copy(update={"size_bytes": 2 * MIB})
    from cohortium.errors import InputError
    from cohortium.worker.cache import CiphertextCache

    with pytest.raises(InputError, match="max_cache_bytes"):
        CiphertextCache(tmp_path / "cache", MIB).reserve([big])


async def test_tasks_wait_for_one_another(tmp_path: Path) -> None:
    world = World(tmp_path, program="import time; time.sleep(0.3)")
    async with world.serving() as worker:
        await world.send(task_prepare=world.prepare())
        await world.send(task_prepare=world.prepare())
        while "running" not in {one.stage for one in world.reports}:
            await asyncio.sleep(0.01)
        assert sorted(one.stage for one in worker.progress.values()) == ["preparing", "running"]
        while sum(bool(one.outcome) for one in world.reports) < 2:
            await asyncio.sleep(0.01)
