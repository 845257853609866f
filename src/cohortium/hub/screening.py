"""Which earlier results a run is compared with, from what its sites remember."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cohortium.analysis.screen import (
    Screen,
    only_rounded,
    set_key,
    split_of,
)
from cohortium.contract.check import Admitted
from cohortium.core.rounds import State
from cohortium.hub.live import Live, Memory

_POLL_S: Final = 0.05


@dataclass(frozen=True)
class Comparison:
    """How a run begins.

    Attributes:
        screen: What its persons are compared with first; None: nothing.
        view: What may be released, where nothing is compared.
        known: Whether no site learns of these persons for the first time.
    """

    screen: Screen | None
    view: int
    known: bool

    @staticmethod
    def of(admitted: Admitted, memories: Collection[Memory]) -> Comparison:
        """From what the run's sites remember.

        Raises:
            ProtocolError: ``malformed-message`` where they contradict each other.
        """
        inner, params, scope = admitted.analysis, admitted.params, admitted.scope
        least = [scope.disclosure.min_cell, *(one.min_cell for one in memories)]
        if admitted.noise is not None or only_rounded(inner, params, max(least)):
            return Comparison(None, 0, known=True)
        for view in range(len(split_of(inner, params, scope).views)):
            key = set_key(
                inner,
                params,
                scope,
                contract=admitted.contract.digest,
                population=admitted.population,
                view=view,
            )
            if all(key in one.releases for one in memories):
                return Comparison(None, view, known=True)
        if not any(one.releases for one in memories):
            return Comparison(None, 0, known=False)
        screen = Screen.over(least, [one.releases.values() for one in memories])
        return Comparison(screen, 0, known=False)

    def to_json(self) -> dict[str, Any]:
        """For the run's journal."""
        state = None if self.screen is None else dict(self.screen.to_state().values)
        return {"state": state, "view": self.view, "known": self.known}

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Comparison:
        """The inverse of `to_json`."""
        state = body["state"]
        screen = None if state is None else Screen.from_state(State(state))
        return Comparison(screen, body["view"], known=body["known"])


class Turns:
    """One run of a study at a time asks what sites remember and adds to it.

    Of two new cohorts at once, neither would be compared with the other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._studies: dict[str, threading.Lock] = {}

    def take(self, study: str, live: Live) -> Turn:
        """Wait for this study's turn, unless the run is cancelled meanwhile."""
        with self._lock:
            lock = self._studies.setdefault(study, threading.Lock())
        while not lock.acquire(timeout=_POLL_S):
            if live.cancelled.is_set():
                raise live.ending
        return Turn(lock)


class Turn:
    """A study's turn, until it is ended."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock: threading.Lock | None = lock

    def end(self) -> None:
        """Let the next run of the study go on; may be said again."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
