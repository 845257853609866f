"""Runs in threads with journals in memory: for `cohortium.inprocess` and tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from cohortium.hub.runner import Execute
from cohortium.runs.journal import MemoryJournal

CLOSE_TIMEOUT_S = 10.0


class ThreadRunner:
    """One daemon thread a run."""

    def __init__(self) -> None:
        self._execute: Execute | None = None
        self._journals: dict[str, MemoryJournal] = {}
        self._threads: dict[str, threading.Thread] = {}

    def launch(self, execute: Execute) -> None:
        """See `Runner`."""
        self._execute = execute

    def start(self, run_id: str, attempt: int) -> None:
        """See `Runner`."""
        if self._execute is None:
            raise RuntimeError("the runner has not been launched")
        journal = self._journals.setdefault(run_id, MemoryJournal())
        thread = threading.Thread(
            target=self._execute,
            args=(run_id, journal),
            name=f"run-{run_id[:8]}-{attempt}",
            daemon=True,
        )
        self._threads = {r: t for r, t in self._threads.items() if t.is_alive()}
        self._threads[run_id] = thread
        thread.start()

    def recover(self, open_runs: Sequence[tuple[str, int]]) -> None:
        """See `Runner`."""
        for run_id, attempt in open_runs:
            if run_id not in self._threads:
                self.start(run_id, attempt)

    def forget(self, run_id: str) -> None:
        """See `Runner`."""
        self._journals.pop(run_id, None)

    def close(self) -> None:
        """Wait for the threads; the caller has cancelled what was under way. Nothing is kept."""
        for thread in list(self._threads.values()):
            thread.join(CLOSE_TIMEOUT_S)
        self._journals.clear()
