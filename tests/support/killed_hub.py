"""A hub process with durable runs that kills itself at a given stage; the second start finishes.

``python -m tests.support.killed_hub FOLDER DATABASE_URL STAGE PARAMS`` prints, when it survives,
the run's record, the stored results and what the sites saw as one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text
from tests.support.fake_sites import World, key, make_hub, make_request, start_world

from cohortium.hub import dbos_runner
from cohortium.hub.dbos_runner import DbosJournal, DbosRunner
from cohortium.hub.objects import ObjectFolder
from cohortium.hub.store import HubStore
from cohortium.link._generated.link_pb2 import Message

RUN_ID = f"{1:032x}"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def around(call: Callable[..., Any], before: bool, after: bool) -> Callable[..., Any]:
    """`call`, killed before or after it took effect."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            die()
        outcome = call(*args, **kwargs)
        if after:
            die()
        return outcome

    return wrapped


def arm(world: World, runner: DbosRunner, stage: str) -> None:
    """Die when `stage` is reached."""
    runs = world.hub.store.runs
    point, _, moment = stage.rpartition(":")
    before, after = moment == "before", moment == "after"
    if point == "submit":
        runs.submit = around(runs.submit, before, after)  # type: ignore[method-assign]
    elif point == "start":
        runner.start = around(runner.start, before, after)  # type: ignore[method-assign]
    elif point == "finish":
        runs.finish = around(runs.finish, before, after)  # type: ignore[method-assign]
    elif point == "decided":
        runs.decided = around(runs.decided, before, after)  # type: ignore[method-assign]
    elif point in {"append_in", "witnessed"}:
        ledger = world.hub.store.ledger
        setattr(ledger, point, around(getattr(ledger, point), before, after))
    elif point.startswith("step "):
        step = DbosJournal.step

        def killed(self: DbosJournal, name: str, compute: Callable[[], bytes]) -> bytes:
            here = name == point.removeprefix("step ")
            return bytes(around(step, here and before, here and after)(self, name, compute))

        DbosJournal.step = killed  # type: ignore[method-assign]
    elif point.startswith("at "):

        async def hook(message: Message) -> Message | None:
            body = str(message.WhichOneof("body"))
            seen = world.sites["Beta"].seen[-1]
            if point.removeprefix("at ") in {body, seen}:
                die()
            return None

        world.sites["Beta"].hook = hook


def count(url: str, table: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        number = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    engine.dispose()
    return int(number)


async def main(folder: Path, url: str, stage: str, params: dict[str, Any]) -> None:
    store = HubStore(url)
    workflows = f"sqlite:///{folder / 'workflows.db'}" if url.startswith("sqlite") else url
    runner = DbosRunner(workflows, ObjectFolder(folder / "objects"))
    world = await start_world(make_hub(store, runner))
    for site in world.sites.values():
        site.lookup = lambda run_id: store.runs.get(run_id).envelope
    arm(world, runner, stage)
    ada = world.hub.user(key("Ada").public)
    if store.runs.find(RUN_ID) is None:
        request = make_request(world.contract, params=params)
        world.hub.submit(request.sign(key("Ada")), ada)
    status = await world.settled(RUN_ID, 60)
    await asyncio.sleep(0.2)
    await world.hub.delivered()
    outcome = {
        "status": status,
        "run": store.runs.get(RUN_ID).info.to_json(),
        "result": json.loads(store.runs.result(RUN_ID) or b"null"),
        "results": count(url, "results"),
        "runs": count(url, "runs"),
        "owed": sorted(store.outbox.sites()),
        "seen": world.sites["Beta"].seen,
        "objects": sorted(path.name for path in (folder / "objects").rglob("*")),
    }
    print(json.dumps(outcome), flush=True)
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "--small-objects":
        dbos_runner.INLINE_BYTES = 10
        del sys.argv[1]
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])))
