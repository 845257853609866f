"""A control group for a task's processes, where this user may make one.

In version 2 a group that hands on controllers holds no processes itself. So those of our own group
go into a leaf below it, once, and tasks are the leaf's siblings; but only in a group that was
delegated to us, since all others are the service manager's.

Reference: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, pids.rst;
systemd, docs/CGROUP_DELEGATION.md.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
_LEAF: Final = "cohortium-own"
_NEEDED: Final = ("memory", "pids")
_WANTED: Final = ("cpu",)
"""Tasks then share the processor with each other and with their executor as groups."""
_MARKS: Final = ("user.delegate", "trusted.delegate")
"""What systemd writes on a group with ``Delegate=yes``; older releases the second alone."""
_ENDED_WITHIN_S: Final = 2.0
_MOST_ROUNDS: Final = 100


class _None(Exception):
    """There is no control group to be had; the message says why."""


@dataclass(frozen=True)
class ControlGroup:
    """Its folders: one in version 2, one for each controller in version 1."""

    folders: tuple[Path, ...]

    @classmethod
    def make(
        cls,
        name: str,
        memory_bytes: int,
        processes: int,
        *,
        root: Path = _ROOT,
        own: Path = _OWN,
        controllers: tuple[str, ...] = _NEEDED,
    ) -> ControlGroup | None:
        """A new one with these limits; None where there are no control groups for this user.

        Args:
            root, own, controllers: For tests.
        """
        made = cls(())
        try:
            if _is_version_2(root):
                top = _delegated(root, own, controllers)
                _hand_on(top, controllers)
                limits = {"memory": memory_bytes, "pids": processes}
                plan = {
                    top / name: {f"{one}.max": limits[one] for one in limits if one in controllers}
                }
            else:
                plan = {
                    root / "memory" / name: {"memory.limit_in_bytes": memory_bytes},
                    root / "pids" / name: {"pids.max": processes},
                }
            made = cls(tuple(plan))
            for folder, files in plan.items():
                folder.mkdir()
                for file, most in files.items():
                    (folder / file).write_text(str(most))
                if (folder / "memory.swap.max").exists():  # else the rest of it goes there
                    (folder / "memory.swap.max").write_text("0")
        except (OSError, _None):
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


def missing(root: Path = _ROOT, own: Path = _OWN) -> str:
    """Why this process can make none, and what to do; empty where it can. Nothing is changed."""
    if _is_version_2(root):
        try:
            folders = [_delegated(root, own, _NEEDED)]
        except (OSError, _None) as error:
            return str(error)
    else:
        folders = [root / controller for controller in _NEEDED]
    refused = [str(folder) for folder in folders if not os.access(folder, os.W_OK)]
    return f"{' and '.join(refused)} cannot be written to by this user" if refused else ""


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:
        return error.errno != errno.EBUSY
    return True


def _is_version_2(root: Path) -> bool:
    return (root / "cgroup.controllers").exists()


def _delegated(root: Path, own: Path, controllers: tuple[str, ...]) -> Path:
    """The group below which tasks' groups may be made, with the controllers that they need.

    Raises:
        _None: There is none.
        OSError: It cannot be read.
    """
    inside = next(
        (line[3:] for line in own.read_text().splitlines() if line.startswith("0::")), None
    )
    if inside is None or ".." in Path(inside).parts:
        raise _None("this process is in no group of version 2 that is shown here")
    group = root / os.path.relpath(inside, "/")
    if not group.is_dir():
        raise _None(f"the group of this process ({inside}) is not shown below {root}")
    # Processes are moved into the leaf, and DelegateSubgroup= of systemd starts them in one.
    parents = [group] if group == root else [group, group.parent]
    top = next((one for one in parents if _is_ours(one, root, group)), None)
    if top is None:
        raise _None(
            f"the group of this process ({inside}) was not delegated to it; start it with "
            "systemd-run --user --scope -p Delegate=yes, or give its service Delegate=yes"
        )
    known = (top / "cgroup.controllers").read_text().split()
    if absent := [one for one in controllers if one not in known]:
        raise _None(f"{top} has no controller {' and '.join(absent)}")
    return top


def _is_ours(top: Path, root: Path, group: Path) -> bool:
    """Whether all below it is for this user to arrange, and nobody else's."""
    for mark in _MARKS:
        try:
            if os.getxattr(top, mark) == b"1":
                return True
        except OSError:
            continue
    user = os.geteuid()
    if top == root:  # a machine, or a container, without a service manager
        return top.stat().st_uid == user and (group == root or group.name == _LEAF)
    # What an administrator gave to a user begins where what is above is not theirs.
    return user != 0 and top.stat().st_uid == user and top.parent.stat().st_uid != user


def _hand_on(top: Path, controllers: tuple[str, ...]) -> None:
    """Let the groups below have these controllers, and others that help where they can be had."""
    handed_on = top / "cgroup.subtree_control"
    there = handed_on.read_text().split()
    if absent := [f"+{one}" for one in controllers if one not in there]:
        try:
            handed_on.write_text(" ".join(absent))
        except OSError as error:
            if error.errno != errno.EBUSY:  # it has processes
                raise
            _empty(top)
            handed_on.write_text(" ".join(absent))
    for one in _WANTED:
        with suppress(OSError):
            handed_on.write_text(f"+{one}")


def _empty(top: Path) -> None:
    """Move the processes of a group into a leaf of it."""
    leaf = top / _LEAF
    leaf.mkdir(exist_ok=True)
    for _ in range(_MOST_ROUNDS):  # some may be starting others meanwhile
        pids = (top / "cgroup.procs").read_text().split()
        if not pids:
            return
        for pid in pids:
            if pid == "0":
                raise _None(f"{top} has processes that are not seen from here")
            try:
                (leaf / "cgroup.procs").write_text(pid)
            except ProcessLookupError:
                continue
    raise _None(f"{top} is never without processes")
