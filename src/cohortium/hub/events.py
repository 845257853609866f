"""Progress of the runs under way, for whoever listens; nothing here needs to survive a crash.

Event numbers are round numbers, so that a run that is replayed after a crash repeats none. While a
run waits for its witnesses, or where it is one of a task, which has no rounds, there is an event
with the last round's number for each change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from cohortium.contract.task import TASK_PREFIX
from cohortium.core.rest import FINAL, RunInfo

HEARTBEAT_S = 15.0


@dataclass(frozen=True)
class Event:
    """``progress`` after a round or while witnesses are missing, ``done`` at the end.

    A heartbeat has no `info`.
    """

    number: int
    info: RunInfo | None

    @property
    def kind(self) -> str:
        """The name of the server-sent event."""
        if self.info is None:
            return "heartbeat"
        return "done" if self.info.status in FINAL else "progress"


@dataclass
class _Listeners:
    waiting: set[asyncio.Event] = field(default_factory=set)


class RunEvents:
    """Wakes listeners on the event loop; `changed` may be called from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runs: dict[str, _Listeners] = {}

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use this loop."""
        self._loop = loop

    def changed(self, run_id: str, *, unless_s: float = 0.0) -> None:
        """The run's record is another than before.

        Args:
            unless_s: It changes again within that time, as a rule: listeners hear of that then.
        """
        if self._loop is None or self._loop.is_closed():
            return
        if unless_s:
            self._loop.call_soon_threadsafe(self._loop.call_later, unless_s, self._wake, run_id)
        else:
            self._loop.call_soon_threadsafe(self._wake, run_id)

    def _wake(self, run_id: str) -> None:
        listeners = self._runs.get(run_id)
        for waiting in () if listeners is None else listeners.waiting:
            waiting.set()

    async def follow(
        self, run_id: str, look: Callable[[], RunInfo], *, after: int = 0
    ) -> AsyncIterator[Event]:
        """Events numbered above `after`, the last of them ``done``.

        Args:
            look: The run's record as it is now.
        """
        listeners = self._runs.setdefault(run_id, _Listeners())
        waiting = asyncio.Event()
        listeners.waiting.add(waiting)
        last, said = after, ""
        try:
            while True:
                waiting.clear()
                info = look()
                if info.status in FINAL:
                    yield Event(info.rounds + 1, info)
                    return
                task = info.computation.startswith(TASK_PREFIX) and bool(info.message)
                told = f"{info.message} {info.progress if task else ''}"
                waits = (task or info.status == "witnessing") and told != said
                if info.rounds > last or waits:
                    last, said = max(last, info.rounds), told
                    yield Event(last, info)
                try:
                    await asyncio.wait_for(waiting.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield Event(last, None)
        finally:
            listeners.waiting.discard(waiting)
            if not listeners.waiting:
                self._runs.pop(run_id, None)
