"""Five hospitals as processes that die, or whose network fails, at moments that a test names."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tests.support.faults import VARIABLE, Faults
from tests.support.sites import WarmConsortium
from tests.support.wire import Relay

from cohortium.demo.consortium import together

SITES = ("Alpha Clinic", "Beta Hospital", "Gamma Institute", "Delta Centre", "Epsilon Hospital")
RELAYED = "Epsilon Hospital"
"""Dials the hub through a relay."""
RESEARCHER = "Dr. Test"
STUDY = "five"
STRAGGLER_S = 4.0
DEADLINE_S = 60.0
N_ROWS = {site: 200 + 2**number for number, site in enumerate(SITES)}
"""Persons: each set of sites has a sum of its own."""

PROPOSAL = """\
study: five
title: A study of drop-outs
purpose: To show that sums are right whatever fails.
participants: [{participants}]
variables: [age, sex, score, event]
computations:
  - name: glm
    max_runs: 1000
    limits: {{family: [binomial, gaussian]}}
  - name: faults.sums
min_sites: 4
recipients: [Dr. Test]
expires_at: "2099-01-01T00:00:00Z"
"""


def frames() -> dict[str, pd.DataFrame]:
    """One frame a site; the same numbers at each call."""
    out = {}
    for number, (site, n_rows) in enumerate(N_ROWS.items()):
        rng = np.random.default_rng(100 + number)
        age = rng.integers(20, 90, n_rows)
        sex = rng.choice(["female", "male"], n_rows)
        score = np.round(rng.normal(10 + number, 3, n_rows) + 0.05 * age, 2)
        risk = 1 / (1 + np.exp(-(-6 + 0.05 * age + 0.2 * score + 0.4 * (sex == "male"))))
        event = (rng.random(n_rows) < risk).astype(int)
        out[site] = pd.DataFrame({"age": age, "sex": sex, "score": score, "event": event})
    return out


def until(ready: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll until it is so."""
    end = time.monotonic() + deadline_s
    while not ready():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.01)


class RelayThread:
    """A `Relay` on an event loop of its own."""

    def __init__(self, target_port: int) -> None:
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(target_port,), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self, target_port: int) -> None:
        async def serve() -> None:
            async with Relay.running(target_port) as self._relay:
                self.port = self._relay.port
                self._ready.set()
                await self._stop.wait()

        self._loop.run_until_complete(serve())
        self._loop.close()

    def freeze(self) -> None:
        """Let no byte pass, and close nothing."""
        self._call(self._relay.freeze)

    def thaw(self) -> None:
        """Let the bytes flow again."""
        self._call(self._relay.thaw)

    def _call(self, work: Callable[[], None]) -> None:
        done = threading.Event()

        def call() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(10)

    def close(self) -> None:
        """Break the connections and stop."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


@dataclass
class FaultyConsortium(WarmConsortium):
    """Its hub and nodes run under `tests.support.faulty`."""

    _relay: RelayThread | None = None

    def command(self, *arguments: str) -> list[str]:
        """`Consortium.command`, for services with their fault points."""
        if arguments[1:2] == ("serve",):
            return [sys.executable, "-m", "tests.support.faulty", *arguments]
        return super().command(*arguments)

    def _serve(self, name: str, command: list[str]) -> None:
        if name == _service(RELAYED):
            port = json.loads((self.hub_dir / "address.json").read_text())["link_port"]
            self._relay = RelayThread(int(port))
            address = f"COHORTIUM_NODE_LINK_ADDRESS=127.0.0.1:{self._relay.port}"
            command = ["env", address, *command]
        super()._serve(name, command)

    @property
    def relay(self) -> RelayThread:
        """Between the hub and `RELAYED`."""
        assert self._relay is not None
        return self._relay

    def faults(self, process: str) -> Faults:
        """Of ``hub`` or a site."""
        return Faults.of(self.root / "faults", process)

    def running(self, process: str) -> bool:
        """Whether ``hub`` or a site lives."""
        return self.services[_service(process)].running()

    def start_again(self, process: str) -> None:
        """After it died."""
        until(lambda: not self.running(process), f"{process} is dead")
        self.restart(_service(process))

    def clear_faults(self) -> None:
        """Nothing armed, nothing seen."""
        for process in ("hub", *SITES):
            self.faults(process).clear()

    def arm(self, sites: Collection[str], name: str) -> None:
        """The same fault at several sites."""
        for site in sites:
            self.faults(site).arm(name)

    @contextmanager
    def held(
        self, sites: Collection[str], moment: str, *, run_id: str = "", runs: int = 1
    ) -> Iterator[None]:
        """Sites reach the moment, where a ``hold`` is armed, and wait there until the block ends.

        Args:
            run_id: Of the only run that waits; otherwise all do.
            runs: How many runs shall have reached the moment.
        """
        until(
            lambda: all(self.faults(s).seen(f"held {moment}", run_id) >= runs for s in sites),
            f"all reach {moment!r}",
        )
        yield
        for site in sites:
            self.faults(site).disarm(f"hold {moment} {run_id}".strip())

    def linked(self) -> set[str]:
        """The sites whose links are up, as the hub noted."""
        return set(json.loads((self.hub_dir / "links.json").read_text()))

    def until_linked(self, *sites: str) -> None:
        """Wait for the links of these sites."""
        until(lambda: set(sites) <= self.linked(), f"the links of {', '.join(sites)}")

    def decisions(self, run_id: str, site: str) -> list[dict[str, Any]]:
        """A node's journal of a run."""
        with sqlite3.connect(f"file:{self.node_dir(site) / 'node.db'}?mode=ro", uri=True) as db:
            rows = db.execute("SELECT body FROM journal ORDER BY seq").fetchall()
        db.close()
        entries = [json.loads(body) for (body,) in rows]
        return [entry for entry in entries if entry.get("run_id") == run_id]

    def stop(self) -> None:
        """`Consortium.stop`, the nodes together, and the relay."""
        together(lambda name: self.services[name].end(), set(self.services) - {"hub"})
        super().stop()
        if self._relay is not None:
            self._relay.close()


def _service(process: str) -> str:
    return process if process == "hub" else f"node/{process}"


def start(root: Path) -> FaultyConsortium:
    """A hub, five nodes with data, a researcher, and a study signed by all."""
    here = Path(__file__).parent
    environment: Mapping[str, str] = {
        "PYTHONPATH": f"{here / 'plugin'}:{here.parents[1]}",
        VARIABLE: str(root / "faults"),
        "FAULTS_SITES": str(len(SITES)),
        "COHORTIUM_HUB_STRAGGLER_S": str(STRAGGLER_S),
    }
    consortium = FaultyConsortium(root, name="Five", extra_env=environment)
    try:
        consortium.start_hub()
        consortium.add_sites(SITES)
        consortium.add_researcher(RESEARCHER)
        files = {site: root / f"{consortium.node_dir(site).name}.csv" for site in SITES}
        for site, frame in frames().items():
            frame.to_csv(files[site], index=False)
        together(lambda site: consortium.add_dataset(site, "patients", files[site]), SITES)
        consortium.wait_published(SITES)
        proposal = root / "five.yaml"
        participants = ", ".join(f"{{name: {site}, dataset: patients}}" for site in SITES)
        proposal.write_text(PROPOSAL.format(participants=participants))
        consortium.cli("study", "propose", str(proposal))
        together(lambda site: consortium.sign(site, STUDY), SITES)
        consortium.wait_active(STUDY)
    except BaseException:
        consortium.stop()
        raise
    return consortium
