"""A control group for a task's processes, where this user may make one.

Reference: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, pids.rst.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_ENDED_WITHIN_S: Final = 2.0


@dataclass(frozen=True)
class ControlGroup:
    """Its folders: one in version 2, one for each controller in version 1."""

    folders: tuple[Path, ...]

    @classmethod
    def make(cls, name: str, memory_bytes: int, processes: int) -> ControlGroup | None:
        """A new one with these limits; None where there are no control groups for this user."""
        if (_ROOT / "cgroup.controllers").exists():
            plan = {_parent() / name: {"memory.max": memory_bytes, "pids.max": processes}}
        else:
            plan = {
                _ROOT / "memory" / name: {"memory.limit_in_bytes": memory_bytes},
                _ROOT / "pids" / name: {"pids.max": processes},
            }
        made = cls(tuple(plan))
        try:
            for folder, limits in plan.items():
                folder.mkdir()
                for file, most in limits.items():
                    (folder / file).write_text(str(most))
        except OSError:
            made.remove()
            return None
        return made

    def add(self, pid: int) -> None:
        """Put a process in, with all that it will start.

        Raises:
            OSError: It may not be moved.
        """
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of it."""
        for folder in self.folders:
            for file in ("memory.events", "memory.oom_control"):
                try:
                    lines = (folder / file).read_text().splitlines()
                except OSError:
                    continue
                if any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines):
                    return True
        return False

    def remove(self) -> None:
        """Take it away once its processes have ended, for which it waits a little."""
        for folder in self.folders:
            until = time.monotonic() + _ENDED_WITHIN_S
            while not _removed(folder) and time.monotonic() < until:
                time.sleep(0.002)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:
        return error.errno != errno.EBUSY
    return True


def _parent() -> Path:
    """The own group of this process in version 2, below which a delegated user makes others."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return _ROOT / os.path.relpath(line[3:], "/")
    return _ROOT
