"""What executes runs: `DbosRunner` durably in the hub, `ThreadRunner` in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cohortium.runs.journal import Journal

Execute = Callable[[str, Journal], None]
"""Runs one run by its id to its end, blocking; calling it again with its journal is harmless."""


class Runner(Protocol):
    """Calls `Execute` in threads of its own."""

    def launch(self, execute: Execute) -> None:
        """Get ready; executions that were interrupted before may begin."""
        ...

    def start(self, run_id: str, attempt: int) -> None:
        """Begin a run, or for an attempt above 1 go on after what earlier ones journaled.

        The attempt that exists already is left alone.
        """
        ...

    def recover(self, open_runs: Sequence[tuple[str, int]]) -> None:
        """Make sure that each of these (run id, attempt) is under way."""
        ...

    def forget(self, run_id: str) -> None:
        """The run is over: its journal is not needed any more."""
        ...

    def close(self) -> None:
        """Stop; what is under way goes on after the next launch, where the journal is durable."""
        ...
