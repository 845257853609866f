"""What is known of a run while it is under way, and not yet in the database."""

from __future__ import annotations

import concurrent.futures
import re
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from cohortium.analysis.screen import MAX_EARLIER, Release
from cohortium.core.rest import RunInfo
from cohortium.disclosure.differencing import MAX_COMPARISONS
from cohortium.errors import CohortiumError, ConflictError, InputError, ProtocolError
from cohortium.ledger.entry import MAX_ENTRY_BYTES, Rounds
from cohortium.link._generated.link_pb2 import RunAdvert
from cohortium.runs.journal import Journal

MAX_SUMS_BYTES = MAX_ENTRY_BYTES - 2048
MAX_ROUND = 2**31
_KEY: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MEASURES = struct.Struct("<QdI")


@dataclass(frozen=True)
class Memory:
    """What a site says of its memory.

    Attributes:
        releases: In the study, by key.
    """

    min_cell: int
    releases: Mapping[str, Release]

    @staticmethod
    def of(advert: RunAdvert) -> Memory:
        """Read what a site sent.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        found = {one.key: Release(one.key, one.sets, one.kept) for one in advert.released}
        good = len(found) == len(advert.released) <= MAX_EARLIER and all(
            _KEY.fullmatch(one.key) and one.kept < one.n_sets <= MAX_COMPARISONS
            for one in found.values()
        )
        if not good:
            raise ProtocolError(
                "malformed-message", "What a site remembers of earlier results cannot be read."
            )
        return Memory(advert.min_cell, found)


@dataclass
class Live:
    """A run under way; written by its thread, read by everyone.

    Attributes:
        sites: Whose contributions are in its sums; before the first sum, the roster.
        roster: Who agreed on keys.
        asked: Who was invited.
        memories: What the sites remember of earlier results in the study.
        bytes: Masked payload bytes that left each site and are in a sum.
        cancelled: Set when nobody is to be waited for any more; `stopped` says why, where it was
            not the researcher.
    """

    info: RunInfo
    sites: tuple[str, ...] = ()
    roster: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    rounds: int = 0
    seconds: float = 0.0
    bytes: dict[str, int] = field(default_factory=dict)
    sums: list[Rounds] = field(default_factory=list)
    suppressed: int = 0
    memories: dict[str, Memory] = field(default_factory=dict)
    recording: concurrent.futures.Future[None] | None = None
    progress: float = 0.0
    message: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)
    stopped: CohortiumError | None = None
    waiting: concurrent.futures.Future[Any] | None = None
    wake: Callable[[], None] | None = None

    @property
    def ending(self) -> CohortiumError:
        """Why nobody waits any more."""
        return self.stopped or ConflictError("run-cancelled", "The run was cancelled.")

    def show(self) -> RunInfo:
        """The stored record of an open run with what is only in memory yet."""
        return self.info.model_copy(
            update={
                "status": "running",
                "participants": self.sites,
                "rounds": self.rounds,
                "seconds": self.seconds,
                "bytes": dict(self.bytes),
                "progress": self.progress,
                "message": self.message,
            }
        )

    def require_room(self) -> None:
        """Before a round: it fits on the ledger, whoever will be in its sum.

        Raises:
            InputError: ``too-large``.
        """
        most = _most_bytes(self.roster)
        if (len(self.sums) + 1) * most <= MAX_SUMS_BYTES:
            return
        known = sum(len(rounds.to_bytes()) for rounds in self.sums)
        if known + most > MAX_SUMS_BYTES:
            raise InputError(
                "too-large",
                "Sites came and went so often in this run that the ledger cannot hold who was in "
                "which round; submit it again when the links are steady.",
            )

    def summed(self, number: int, sites: tuple[str, ...]) -> None:
        """Round `number` was over these sites."""
        if self.sums and self.sums[-1].sites == sites:
            first = self.sums.pop().first
            self.sums.append(Rounds(first=first, last=number, sites=sites))
        else:
            self.sums.append(Rounds(first=number, last=number, sites=sites))


@lru_cache(maxsize=64)
def _most_bytes(roster: tuple[str, ...]) -> int:
    """What rounds over all or some of these sites take on the ledger, at most."""
    return len(Rounds(first=MAX_ROUND, last=MAX_ROUND, sites=roster).to_bytes())


class MeasuredJournal:
    """Puts facts about a round beside its sum, so that a replay knows them too.

    Attributes:
        payload_bytes: Masked bytes that left each site in the last step; as `note`.
        note: More facts of the last step; set by what computes it, restored by a replay.
    """

    def __init__(self, journal: Journal, live: Live) -> None:
        self._journal = journal
        self._live = live
        self.payload_bytes = 0
        self.note = b""

    def step(self, name: str, compute: Callable[[], bytes]) -> bytes:
        """See `Journal.step`."""

        def measured() -> bytes:
            began, self.payload_bytes, self.note = time.monotonic(), 0, b""
            data = compute()
            seconds = time.monotonic() - began
            head = _MEASURES.pack(self.payload_bytes, seconds, len(self.note))
            return b"".join((head, self.note, data))

        data = self._journal.step(name, measured)
        self.payload_bytes, seconds, n_note = _MEASURES.unpack_from(data)
        self._live.seconds += seconds
        start = _MEASURES.size + n_note
        self.note = data[_MEASURES.size : start]
        return data[start:]
