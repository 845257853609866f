"""Each durable write of the hub's ledger fails, before it is done and after, and the hub is killed.

Nothing that was noted is lost, nothing is on the ledger twice, and no result is given out before
its run's end is final.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import select
from tests.faults.test_hub_killed import check, run_hub
from tests.support.fake_sites import (
    SITES,
    World,
    key,
    make_contract,
    make_hub,
    make_request,
    start_world,
    store_url,
)

from cohortium.errors import ConflictError
from cohortium.hub import ledger as ledger_module
from cohortium.hub.store import HubStore
from cohortium.hub.tables import ledger_checkpoints, ledger_entries, ledger_pending, releases
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.ledger.checkpoint import log_key, open_checkpoint, origin
from cohortium.ledger.entry import RunEnded, parse_entry
from cohortium.ledger.members import require_final
from cohortium.ledger.merkle import leaf_hash
from cohortium.ledger.tree import tree_of
from cohortium.sdk.receipt import verify_result

RUN_ID = f"{1:032x}"
ADA = key("Ada")
CONTRACT = make_contract("sha256:" + "c" * 64)
VERIFIER = log_key(origin(CONTRACT.consortium), key("ledger").public)
KEYS = {name: key(name).public for name in SITES}
Moment = Literal["before", "after"]
WRITES = {
    "submit": "succeeded",
    "decided": "failed",
    "finish": "succeeded",
    "append_in": "succeeded",
    "witnessed": "succeeded",
}
"""Each write, and how the run ends when it fails after it was done."""


class Disk(Exception):
    """The database cannot be written."""


def failing(call: Callable[..., Any], moment: Moment, broken: list[str]) -> Callable[..., Any]:
    """`call`, which fails once."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if broken and moment == "before":
            raise Disk(broken.pop())
        outcome = call(*args, **kwargs)
        if broken:
            raise Disk(broken.pop())
        return outcome

    return wrapped


def check_ledger(store: HubStore) -> list[dict[str, Any]]:
    """What holds at any moment; returns the facts on the ledger."""
    with store._database.read() as c:
        rows = c.execute(select(ledger_entries).order_by(ledger_entries.c.position)).all()
        pending = [row.fact for row in c.execute(select(ledger_pending)).all()]
        checkpoints = c.execute(select(ledger_checkpoints)).all()
        released = c.execute(select(releases)).all()
    assert [row.position for row in rows] == list(range(len(rows)))
    tree, tiles = tree_of({}, 0).extended([leaf_hash(row.entry) for row in rows])
    tree = tree_of(tiles, len(rows))
    assert store.ledger.tree().root() == tree.root()
    entries = [parse_entry(row.entry) for row in rows]
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    facts = [entry.fact.to_bytes() for entry in entries] + pending
    assert len(facts) == len(set(facts)), "a fact is there twice"
    final: set[int] = set()
    for row in checkpoints:
        checkpoint, _ = open_checkpoint(row.note, VERIFIER)
        assert checkpoint.root == tree.root(row.size)
        if row.final:
            members = store.ledger.members_at(row.size)
            require_final(row.note, VERIFIER, members, KEYS)
            final.add(row.size)
    for row in released:
        if row.size is not None:
            assert row.size in final
            assert row.position < row.size
            fact = entries[row.position].fact
            assert isinstance(fact, RunEnded)
            assert (fact.run_id, fact.status) == (row.run, "succeeded")
    return [entry.fact.to_json() for entry in entries]


def kinds(facts: list[dict[str, Any]]) -> list[str]:
    return [
        f"{fact['kind']} {fact['status']}" if fact["kind"] == "run.ended" else fact["kind"]
        for fact in facts
        if fact["kind"].startswith("run.")
    ]


def breaks(world: World, write: str, moment: Moment, broken: list[str]) -> None:
    """Let one write of the store fail once."""
    owner: Any = (
        world.hub.store.ledger if write in {"append_in", "witnessed"} else world.hub.store.runs
    )
    setattr(owner, write, failing(getattr(owner, write), moment, broken))


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_fails_loses_and_repeats_nothing(
    tmp_path: Path, write: str, moment: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "RETRY_S", 0.05)
    monkeypatch.setattr(ledger_module, "ASK_AGAIN_S", 0.1)
    store, runner = HubStore(store_url(tmp_path)), ThreadRunner()
    world = await start_world(make_hub(store, runner), CONTRACT)
    await _idle(store)
    user = world.hub.user(ADA.public)
    envelope = make_request(CONTRACT).sign(ADA)
    broken = [write]
    breaks(world, write, moment, broken)
    try:
        world.hub.submit(envelope, user)
    except Disk:
        world.hub.submit(envelope, user)
    early: list[str] = []

    def look() -> str:
        """Ask for the result all the time: it is never there before it is final."""
        try:
            answer = world.hub.result(RUN_ID, user)
        except ConflictError as refusal:
            return refusal.code
        ledger_key = world.hub.consortium.ledger_key
        verify_result(answer.to_json(), run_id=RUN_ID, contract=CONTRACT, ledger_key=ledger_key)
        check_ledger(store)
        return "given"

    async with asyncio.timeout(20):
        while not early or early[-1] == "wrong-state":
            early.append(look())
            await asyncio.sleep(0.005)
    assert broken == []
    await _idle(store)
    ends = WRITES[write] if moment == "after" else ("failed" if write in FAILS else "succeeded")
    assert early[-1] == ("given" if ends == "succeeded" else "run-failed")
    told = kinds(check_ledger(store))
    expected = ["run.submitted", "run.decided", f"run.ended {ends}"]
    if (write, moment) == ("decided", "before"):
        expected.remove("run.decided")
    assert told == expected
    await world.hub.stop()
    await asyncio.to_thread(runner.close)
    store.close()


FAILS = {"decided", "finish"}
"""Writes without which a run does not succeed."""


async def _idle(store: HubStore) -> None:
    """Until all that was noted is final."""
    async with asyncio.timeout(20):
        while True:
            newest = store.ledger.newest()
            if newest is not None and newest.final and not store.ledger.pending():
                return
            await asyncio.sleep(0.01)


STAGES = [
    f"{write}:{moment}"
    for write in ("decided", "append_in", "witnessed")
    for moment in ("before", "after")
]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*STAGES, "finish:after", "submit:after"])
def test_a_hub_that_is_killed_at_a_write_goes_on_with_its_ledger(
    tmp_path: Path, stage: str
) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    killed = run_hub(tmp_path, url, stage)
    assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr[-3000:])
    store = HubStore(url)
    before = check_ledger(store)
    store.close()
    check(run_hub(tmp_path, url, "never:"))
    store = HubStore(url)
    after = check_ledger(store)
    assert after[: len(before)] == before
    assert kinds(after) == ["run.submitted", "run.decided", "run.ended succeeded"]
    assert store.ledger.waiting() == []
    store.close()


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("stage", STAGES[2:])
def test_on_postgresql_too(tmp_path: Path, postgres_url: str, stage: str) -> None:
    killed = run_hub(tmp_path, postgres_url, stage)
    assert killed.returncode == -signal.SIGKILL, (killed.stdout, killed.stderr[-3000:])
    check(run_hub(tmp_path, postgres_url, "never:"))
    store = HubStore(postgres_url)
    assert kinds(check_ledger(store)) == ["run.submitted", "run.decided", "run.ended succeeded"]
    store.close()
