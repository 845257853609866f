"""How much of a machine a task uses: memory, processor time, processes and disk, all its processes
together.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_SHARES = Path("/proc/self/smaps_rollup")
_CHILDREN = Path("/proc/thread-self/children")


@dataclass(frozen=True)
class Limits:
    """Most of everything; see `cohortium.enclave.job.Limits`."""

    memory_bytes: int
    cpu_s: float
    time_s: float
    disk_bytes: int
    processes: int
    log_bytes: int

    def apply(self) -> None:
        """The limits of this process and of each that it starts, as far as the kernel has them."""
        cpu_s = max(1, int(self.cpu_s) + 1)
        for which, most in (
            (resource.RLIMIT_DATA, self.memory_bytes),
            (resource.RLIMIT_CPU, cpu_s),
            (resource.RLIMIT_FSIZE, self.disk_bytes),
            # The kernel counts all of a user, who outside of a sandbox has others running.
            (resource.RLIMIT_NPROC, self.processes + _running()),
            # 0 is no limit to a program that takes core dumps (core_pattern); 1 is for both kinds.
            (resource.RLIMIT_CORE, 1),
        ):
            now = resource.getrlimit(which)[1]
            least = most if now == resource.RLIM_INFINITY else min(most, now)
            resource.setrlimit(which, (least, least))

    def exceeded(self, children: Iterable[int], folders: Iterable[Path]) -> str | None:
        """Which of them these processes have exceeded, together with those that have ended."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        pids = list(children)
        used = {pid: one for pid in pids if (one := _usage(pid)) is not None}
        cpu_s = ended.ru_utime + ended.ru_stime + sum(seconds for seconds, _ in used.values())
        resident = sum(n_bytes for _, n_bytes in used.values())
        # Forked processes share pages; asking how many costs more, and gVisor cannot tell.
        if resident > self.memory_bytes and (
            not _SHARES.exists()
            or sum(_share(pid, own) for pid, (_, own) in used.items()) > self.memory_bytes
        ):
            return "memory"
        if cpu_s > self.cpu_s:
            return "cpu"
        if len(used) > self.processes:
            return "processes"
        return "disk" if sum(map(size_of, folders)) > self.disk_bytes else None


def _running() -> int:
    """Threads of this user that can be seen, those of this process included."""
    user, found = os.getuid(), 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == user:
                    found += sum(1 for _ in (entry / "task").iterdir())
            except OSError:
                continue
    return found


def descendants(of: int) -> list[int]:
    """All processes that a process has started, and those that they have."""
    if not _CHILDREN.exists():
        return _descendants_by_parent(of)
    found, pending = [], [of]
    while pending:
        children = _children(pending.pop())
        found += children
        pending += children
    return found


def _children(of: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{of}/task").iterdir():
            # One that ends meanwhile hides no child of the others.
            with suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    except OSError:
        pass  # it has ended
    return found


def _descendants_by_parent(of: int) -> list[int]:
    """The same where the kernel does not list children (gVisor)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found, pending = [], [of]
    while pending:
        started = children.get(pending.pop(), [])
        found += started
        pending += started
    return found


def size_of(folder: Path) -> int:
    """What is stored below a folder, in bytes on the disk."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118
            except OSError:
                continue
    return total


def _usage(pid: int) -> tuple[float, int] | None:
    """Processor seconds, also of its children that ended, and memory of its own in bytes.

    A process chooses its name, which need not be text; and its first thread may end before others,
    which alone have its memory then.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        own = max(_own(thread) for thread in Path(f"/proc/{pid}/task").iterdir())
    except (OSError, ValueError):
        return None
    ticks = sum(int(number) for number in after_name[11:15])
    return ticks / _TICKS, own


def _own(thread: Path) -> int:
    try:
        _, resident, shared, *_ = (thread / "statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * _PAGE


def _share(pid: int, own: int) -> int:
    """Bytes of a process's own memory, where those that several have are divided among them.

    Args:
        own: What counts where it lets nobody look, or where its first thread has ended.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return own if Path(f"/proc/{pid}").exists() else 0
    except OSError:
        return own
    kib = [int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Swap:"))]
    return sum(kib) * 1024
