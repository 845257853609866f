"""A hub process that runs a task and kills itself at a given stage; the second start finishes.

``python -m tests.support.killed_task_hub FOLDER STAGE`` prints, when it survives, the run's status,
its enclave, which enclaves were given it, and what the ledger has of it as one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.support.fake_sites import key, make_hub, start_world
from tests.support.killed_hub import around
from tests.support.task_hub import (
    ENCLAVES,
    FILES,
    PROGRAM,
    FakeEnclave,
    Lender,
    TaskWorld,
    card,
    contract,
)

from cohortium.contract.code import packed
from cohortium.hub.dbos_runner import DbosJournal, DbosRunner
from cohortium.hub.objects import ObjectFolder
from cohortium.hub.store import HubStore
from cohortium.ledger.entry import parse_entry

RUN_ID = f"{1:032x}"


def arm(store: HubStore, stage: str) -> None:
    """Die when `stage` is reached."""
    point, _, moment = stage.rpartition(":")
    before, after = moment == "before", moment == "after"
    if point.startswith("step "):
        step = DbosJournal.step

        def killed(self: DbosJournal, name: str, compute: object) -> bytes:
            here = name == point.removeprefix("step ")
            return bytes(around(step, here and before, here and after)(self, name, compute))

        DbosJournal.step = killed  # type: ignore[method-assign]
    elif point:
        owner = store.runs if point == "finish" else store.tasks
        setattr(owner, point, around(getattr(owner, point), before, after))


async def main(folder: Path, stage: str) -> None:
    store = HubStore(f"sqlite:///{folder / 'hub.db'}")
    runner = DbosRunner(f"sqlite:///{folder / 'workflows.db'}", ObjectFolder(folder / "objects"))
    hub = make_hub(store, runner, folder=folder / "tasks")
    if store.runs.find(RUN_ID) is None:
        hub.tasks.programs.put(PROGRAM, packed(FILES))
        for name in ENCLAVES:
            hub.members.add(name, key(name).public, "enclave")
        for name in ("Ada", "Beta", "Gamma"):
            store.tasks.put_card(key(name).public, name, hub.clock(), card(name))
    arm(store, stage)
    started = await start_world(hub, contract(hub.consortium.fingerprint))
    world = TaskWorld(started.hub, started.link, started.contract, started.sites)
    for name, site in world.sites.items():
        site.hook = Lender(name).answer
    # What ran in an enclave when the hub died goes on there: here it is begun anew, as if it were.
    for name in reversed(ENCLAVES) if store.tasks.assigned(RUN_ID) else ENCLAVES:
        world.enclaves[name] = FakeEnclave(name)
        world.connect(name)
    if store.runs.find(RUN_ID) is None:
        world.submit()
    status = await world.settled(RUN_ID, 60)
    found = [parse_entry(entry).fact for entry in store.ledger.entries(0, 1000)]
    outcome = {
        "status": status,
        "error": store.runs.get(RUN_ID).info.error,
        "enclave": store.runs.get(RUN_ID).info.enclave,
        "given": [name for name, one in world.enclaves.items() if one.prepared],
        "ledger": [fact.kind for fact in found if getattr(fact, "run_id", "") == RUN_ID],
        "outputs": sorted(path.name for path in (folder / "tasks" / "outputs").rglob("*.vault")),
    }
    print(json.dumps(outcome), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
