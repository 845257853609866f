"""How long the hub was there, over all its connections: the time in which it could have told."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Final

MAX_SPANS: Final = 10_000
"""Connections that are remembered."""


class Attendance:
    """Times by this node's clock, while its process runs.

    A connection lasts until the hub was last heard on it. One that begins anew takes nothing from
    those before: a hub that dropped each of them in time could keep things to itself for ever.
    """

    def __init__(self) -> None:
        self._spans: deque[tuple[datetime, datetime]] = deque(maxlen=MAX_SPANS)
        self._began: datetime | None = None
        self._heard: datetime | None = None

    def begins(self, now: datetime) -> None:
        """A connection, or the machine's going on after it stood still."""
        if self._began is not None and self._heard is not None:
            self._spans.append((self._began, self._heard))
        self._began = self._heard = now

    def hears(self, now: datetime) -> None:
        """The hub is there."""
        if self._heard is not None:
            self._heard = max(self._heard, now)

    def before(self, now: datetime, time: timedelta) -> datetime | None:
        """The moment since which the hub was there for so long; None where it was not yet."""
        if self._began is None:
            return None
        left = time
        for began, ended in [(self._began, now), *reversed(self._spans)]:
            if ended - began >= left:
                return ended - left
            left -= max(ended - began, timedelta(0))
        return None
