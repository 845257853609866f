"""How many tasks run at a time, and how much memory they have together; further ones wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cohortium.errors import PolicyRefusal


class Capacity:
    """What the machine gives to tasks.

    Args:
        most_bytes: By the tasks' limits.
    """

    def __init__(self, most_tasks: int, most_bytes: int) -> None:
        self._most_tasks = most_tasks
        self._most_bytes = most_bytes
        self._changed = threading.Condition()
        self._tasks = 0
        self._bytes = 0

    def require_room(self, memory_bytes: int) -> None:
        """Refuse a task that would wait for ever.

        Raises:
            PolicyRefusal: ``executor-unavailable``.
        """
        if memory_bytes > self._most_bytes:
            raise PolicyRefusal(
                "executor-unavailable",
                f"The task may use {memory_bytes} bytes of memory, and this enclave has "
                f"{self._most_bytes} for tasks (max_memory_bytes in enclave.toml); the task's "
                "limits can be lower in the contract.",
            )

    @contextmanager
    def taken(self, memory_bytes: int, require_going: Callable[[], None]) -> Iterator[None]:
        """Wait for room, and hold it.

        Args:
            require_going: Raises where there is no use in waiting any more.
        """
        with self._changed:
            while True:
                require_going()
                if self._tasks < self._most_tasks and self._bytes + memory_bytes <= (
                    self._most_bytes
                ):
                    break
                self._changed.wait()
            self._tasks += 1
            self._bytes += memory_bytes
        try:
            yield
        finally:
            with self._changed:
                self._tasks -= 1
                self._bytes -= memory_bytes
                self._changed.notify_all()

    def wake(self) -> None:
        """Have those that wait look again whether they still should."""
        with self._changed:
            self._changed.notify_all()
