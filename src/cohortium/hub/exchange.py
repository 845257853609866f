"""Questions to sites from a run's thread, and their answers as they come."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from cohortium.errors import CohortiumError
from cohortium.hub.live import Live
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.ports import Request

Ask = Callable[[str, Request], Awaitable[Message]]
"""A coroutine function on the event loop: (site, request) -> reply; raises the site's error."""
Answer = tuple[str, str, Message | CohortiumError]
"""The step that was asked for, the site, its answer."""


class Exchange:
    """Asks several sites at once; leaving the context gives up what is not answered.

    Args:
        loop: Where the link lives.
        ask: Asks one site there.
        live: The run; when it is cancelled, waiting ends.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Ask, live: Live) -> None:
        self._loop = loop
        self._ask = ask
        self._live = live
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: queue.SimpleQueue[Answer | Exception | None] = queue.SimpleQueue()
        self._closed = False

    def __enter__(self) -> Self:
        self._live.wake = self._wake
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.wake = None
        self._closed = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    def send(self, step: str, messages: Mapping[str, Request]) -> None:
        """Ask each site; its answer will come out of `next`."""
        self._loop.call_soon_threadsafe(self._start, step, dict(messages))

    def next(self, until: float) -> Answer | None:
        """The next answer; None when the monotonic clock has passed `until`.

        Raises:
            CohortiumError: Why the run was interrupted: ``run-cancelled``, ``contract-suspended``.
        """
        while True:
            if self._live.cancelled.is_set():
                raise self._live.ending
            try:
                answer = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return None
            if isinstance(answer, Exception):
                raise answer
            if answer is not None:
                return answer

    def _wake(self) -> None:
        self._answers.put(None)

    # On the event loop

    def _start(self, step: str, messages: Mapping[str, Request]) -> None:
        if self._closed:
            return
        for site, message in messages.items():
            task = asyncio.ensure_future(self._one(step, site, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, step: str, site: str, message: Request) -> None:
        try:
            self._answers.put((step, site, await self._ask(site, message)))
        except CohortiumError as error:
            self._answers.put((step, site, error))
        except Exception as error:  # noqa: BLE001 - raised in the run's thread
            self._answers.put(error)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


def named(error: CohortiumError, site: str) -> CohortiumError:
    """The same error, saying which site it is about."""
    if error.details.get("site") == site:
        return error
    told = type(error)(error.code, f"{site}: {error.message}")
    told.details = {**error.details, "site": site}  # a site may name its details as it likes
    return told
