"""What is known of a run while it is under way, and not yet in the database."""

from __future__ import annotations

import concurrent.futures
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cohortium.core.rest import RunInfo
from cohortium.runs.journal import Journal

_MEASURES = struct.Struct("<Qd")


@dataclass
class Live:
    """A run under way; written by its thread, read by everyone."""

    info: RunInfo
    sites: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    rounds: int = 0
    seconds: float = 0.0
    payload_bytes: int = 0
    progress: float = 0.0
    message: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)
    waiting: concurrent.futures.Future[Any] | None = None

    def bytes_by_site(self) -> dict[str, int]:
        """Masked payload bytes that left each site; all send the same layout."""
        return dict.fromkeys(self.sites, self.payload_bytes)

    def show(self) -> RunInfo:
        """The stored record of an open run with what is only in memory yet."""
        return self.info.model_copy(
            update={
                "status": "running",
                "participants": self.sites,
                "rounds": self.rounds,
                "seconds": self.seconds,
                "bytes": self.bytes_by_site(),
                "progress": self.progress,
                "message": self.message,
            }
        )


class MeasuredJournal:
    """Puts payload bytes and seconds of a round beside its sum, so that a replay knows them too."""

    def __init__(self, journal: Journal, live: Live) -> None:
        self._journal = journal
        self._live = live
        self.payload_bytes = 0

    def step(self, name: str, compute: Callable[[], bytes]) -> bytes:
        """See `Journal.step`."""

        def measured() -> bytes:
            began, self.payload_bytes = time.monotonic(), 0
            data = compute()
            return _MEASURES.pack(self.payload_bytes, time.monotonic() - began) + data

        data = self._journal.step(name, measured)
        payload_bytes, seconds = _MEASURES.unpack_from(data)
        self._live.payload_bytes += payload_bytes
        self._live.seconds += seconds
        return data[_MEASURES.size :]
