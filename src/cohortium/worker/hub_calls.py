"""The hub as a run's thread sees it: requests that wait, and end when the run is stopped."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from cohortium.errors import ConflictError, PeerError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import expect
from cohortium.link.ports import Uplink

REQUEST_TIMEOUT_S: Final = 120.0
PATIENCE_S: Final = 600.0
PAUSE_S: Final = 2.0
AWAY: Final = frozenset({"peer-unreachable", "peer-timeout", "link-lost"})
"""Errors after which the same is asked again."""

T = TypeVar("T")


class Stopped(Exception):
    """The run was told to end; what it waited for is given up."""


class HubCalls:
    """Requests of one run, from any of its threads.

    Args:
        loop: Of the link.
        patience_s: How long a hub or node that is away is waited for.
    """

    def __init__(
        self,
        uplink: Uplink,
        loop: asyncio.AbstractEventLoop,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._uplink = uplink
        self._loop = loop
        self._patience_s = patience_s
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._waiting: set[concurrent.futures.Future[pb.Message]] = set()

    @property
    def stopped(self) -> bool:
        """Whether the run was told to end."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End what waits, now and later, with `Stopped`."""
        self._stopped.set()
        with self._lock:
            waiting = list(self._waiting)
        for one in waiting:
            one.cancel()

    def require_going(self) -> None:
        """Raise `Stopped` once the run was told to end."""
        if self._stopped.is_set():
            raise Stopped

    def ask(self, message: pb.Message, body: str) -> pb.Message:
        """A reply of that body.

        Raises:
            Stopped: The run was told to end.
            PeerError: The hub, or whom it asked, is away.
            CohortiumError: What they answered.
        """
        with self._lock:
            self.require_going()
            waiting = asyncio.run_coroutine_threadsafe(
                self._uplink.request(message, REQUEST_TIMEOUT_S), self._loop
            )
            self._waiting.add(waiting)
        try:
            return expect(waiting.result(), body)
        except concurrent.futures.CancelledError:
            self.require_going()
            raise ConflictError("run-cancelled", "The enclave is shutting down.") from None
        finally:
            with self._lock:
                self._waiting.discard(waiting)

    def patiently(self, ask: Callable[[], T]) -> T:
        """Ask again while the hub or a node is away, which a restart takes.

        Raises:
            As `ask`.
        """
        begun = time.monotonic()
        while True:
            try:
                return ask()
            except PeerError as error:
                if error.code not in AWAY or time.monotonic() - begun > self._patience_s:
                    raise
            if self._stopped.wait(PAUSE_S):
                raise Stopped
