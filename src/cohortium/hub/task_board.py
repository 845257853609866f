"""The tasks under way in this process: what enclaves report, for those who wait for it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from cohortium.core.canonical import parse_json
from cohortium.enclave.exchange import Stage
from cohortium.errors import CohortiumError, IntegrityFailure, PeerError, ProtocolError
from cohortium.hub.live import Live
from cohortium.link._generated.link_pb2 import TaskReport
from cohortium.link.codec import MAX_ERROR_BYTES

_BEGINS: Final[dict[Stage, float]] = {
    "preparing": 0.0,
    "keys": 0.05,
    "inputs": 0.1,
    "running": 0.3,
    "outputs": 0.9,
    "ended": 1.0,
}
"""Which share of a run is over when a stage begins."""
_ENDS: Final = dict(zip(_BEGINS, [*list(_BEGINS.values())[1:], 1.0], strict=True))
_TEXTS: Final[dict[Stage, str]] = {
    "preparing": "preparing the program",
    "keys": "asking the owners for their keys",
    "inputs": "fetching the inputs",
    "running": "running",
    "outputs": "sending the outputs",
    "ended": "ended",
}


@dataclass
class Watched:
    """A run that somebody waits for. It belongs to the event loop, but for `live`.

    Attributes:
        prepared: The enclave has said since its link is up that it has the run.
        heard: When it last reported something; monotonic.
        error: What it failed with before there was an outcome, or what is wrong with that.
        awaited: A lender that is not connected, and that the enclave asks something of.
        changed: Set with each change of the others.
    """

    live: Live
    enclave: str
    prepared: bool = False
    heard: float = field(default_factory=time.monotonic)
    error: CohortiumError | None = None
    awaited: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def reported(self, report: TaskReport) -> None:
        """Take in where the task is.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        self.heard = time.monotonic()
        stage: Stage | None = next((one for one in _BEGINS if one == report.stage), None)
        if stage is None:
            raise ProtocolError("malformed-message", "A report names no stage of a task.")
        total, done = report.total_bytes, min(report.done_bytes, report.total_bytes)
        share = done / total if total else 0.0
        self.live.progress = _BEGINS[stage] + share * (_ENDS[stage] - _BEGINS[stage])
        moved = f": {_size(done)} of {_size(total)}" if total else ""
        said = f"{_TEXTS[stage]} in {self.enclave}{moved}"
        self.live.message = said if self.awaited is None else self._waits(self.awaited)

    def absent(self, site: str | None) -> None:
        """A lender that is not connected is waited for; None: not any more."""
        self.awaited = site
        if site is not None:
            self.live.message = self._waits(site)

    @staticmethod
    def _waits(site: str) -> str:
        return f"waiting for {site}, which is not connected"

    def failed(self, error: CohortiumError) -> None:
        """It ends with this."""
        self.error = self.error or error
        self.changed.set()


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB"


def reported_error(data: bytes) -> CohortiumError:
    """What an enclave says that it failed with; a broken store there is not our own.

    Raises:
        ProtocolError: ``malformed-message``.
    """
    if len(data) > MAX_ERROR_BYTES:  # it is kept with the run, and told to many
        return PeerError("peer-failed", "The enclave failed, and says so at too great length.")
    wire = parse_json(data)
    if not isinstance(wire, dict):
        raise ProtocolError("malformed-message", "An enclave's error is not readable.")
    error = CohortiumError.from_wire(wire)
    if isinstance(error, IntegrityFailure):
        return PeerError("peer-failed", error.message)
    return error


class Board:
    """Runs of tasks by their id."""

    def __init__(self) -> None:
        self._runs: dict[str, Watched] = {}

    def put(self, run_id: str, live: Live, enclave: str) -> Watched:
        """Somebody waits for a run there; the same one again goes on."""
        held = self._runs.get(run_id)
        if held is None or held.enclave != enclave or held.live is not live:
            held = self._runs[run_id] = Watched(live, enclave)
        return held

    def get(self, run_id: str) -> Watched | None:
        """A run that somebody waits for."""
        return self._runs.get(run_id)

    def drop(self, run_id: str) -> None:
        """Nobody waits any more."""
        self._runs.pop(run_id, None)

    def busy(self, enclave: str) -> int:
        """How many runs are there."""
        return sum(one.enclave == enclave for one in list(self._runs.values()))

    def reconnected(self, enclave: str) -> None:
        """An enclave's link is up anew: whether it still has its runs is to be asked."""
        for one in self._runs.values():
            if one.enclave == enclave:
                one.prepared = False
                one.changed.set()
