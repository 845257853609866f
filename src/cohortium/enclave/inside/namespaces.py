"""Namespaces of a task, and a root of its own: read-only system, private memory file systems.

Reference: Linux, namespaces(7), user_namespaces(7), pivot_root(2), mount_setattr(2).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_NEW: Final = {
    "user": 0x10000000,
    "mnt": 0x00020000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
}
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18
_DETACH: Final = 2
_MOUNT_SETATTR, _PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41}
_AT_RECURSIVE: Final = 0x8000
_ATTR_RDONLY_NOSUID_NODEV: Final = 0b111
_CAPSET: Final = {"x86_64": 126, "aarch64": 91}
_CAPABILITIES_V3: Final = 0x20080522
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_SET_CHILD_SUBREAPER: Final = 36
_SIGKILL: Final = 9

INSIDE_ID: Final = 1000
"""As in the file passwd beside this one."""
HOST_NAME: Final = "task"
NOTHING: Final = Path(__file__).with_name("nothing")
"""An empty file."""
_TOLD: Final = frozenset({"cpuinfo", "loadavg", "meminfo", "sys", "uptime", "version"})
"""Of what /proc says of the machine: what libraries size themselves by, and what uname(2) and
sysinfo(2) say too."""
_TOLD_OF_SYS: Final = frozenset({"vm"})
"""Allocators look there."""
DEVICES: Final = ("null", "zero", "full", "random", "urandom")

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), what)


def enter() -> None:
    """Leave all namespaces of the host; the next child is process 1 of its own.

    Raises:
        OSError: The kernel does not let this user make namespaces.
    """
    user, group = os.geteuid(), os.getegid()
    flags = 0
    for flag in _NEW.values():
        flags |= flag
    _checked(_libc.unshare(flags), "unshare")
    _checked(_libc.sethostname(HOST_NAME.encode(), len(HOST_NAME)), "sethostname")
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{INSIDE_ID} {user} 1")
    (own / "gid_map").write_text(f"{INSIDE_ID} {group} 1")


def supervise(*, other_user: bool = False) -> None:
    """Be killed when the parent ends, be traced by nobody, and inherit orphans.

    Args:
        other_user: Than the task's: who may not look then. To gVisor, a process that nobody may
            trace is root's, which the task may be.
    """
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "prctl")
    if not other_user:
        _checked(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")


def build_root(
    readable: Mapping[str, str], sizes: Mapping[str, int], writable: Iterable[str] = ()
) -> None:
    """Make a root of memory, show these paths in it, and leave the host's root.

    Args:
        readable: Path inside to path on the host; shown read-only with all that is mounted below.
        sizes: Empty folders in memory that may be written to, and how many bytes they hold.
        writable: Of these, folders in which programs may be started too.

    Raises:
        OSError: A path is not there, or the kernel refuses.
    """
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, "mode=755,size=16m")  # noqa: S108
    Path("/tmp/host").mkdir()  # noqa: S108
    _pivot("/tmp", "/tmp/host")  # noqa: S108
    for folder, size_bytes in sizes.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        flags = _NOSUID | _NODEV | (0 if folder in writable else _NOEXEC)
        _mount("tmpfs", folder, "tmpfs", flags, f"mode=700,size={size_bytes}")
    for inside, host in readable.items():
        _show(f"/host{host}", inside)
    Path("/dev").mkdir(exist_ok=True)
    for name in DEVICES:
        _bind(f"/host/dev/{name}", f"/dev/{name}")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        Path(f"/dev/{name}").symlink_to(f"/proc/self/fd/{number}")
    Path("/dev/fd").symlink_to("/proc/self/fd")
    Path("/proc").mkdir()
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    nothing = Path("/etc/nothing")
    nothing.parent.mkdir(exist_ok=True)
    nothing.touch()
    for place in untold():
        if place.is_dir():
            cover(str(place), "555")
        else:
            _mount(str(nothing), str(place), None, _BIND)
            _protect(str(place), recursive=False)
    _checked(_libc.umount2(b"/host", _DETACH), "umount2")
    Path("/host").rmdir()
    _protect("/", recursive=False)


def untold(proc: Path = Path("/proc")) -> list[Path]:
    """What of /proc says more of the machine than tasks need: files, and folders."""
    of_machine = [
        one
        for one in sorted(proc.iterdir())
        if not one.name.isdigit() and not one.is_symlink() and one.name not in _TOLD
    ]
    of_sys = [one for one in sorted((proc / "sys").iterdir()) if one.name not in _TOLD_OF_SYS]
    return of_machine + of_sys


def own_mounts() -> None:
    """A copy of all mounts that this process alone changes; those there are cannot be undone in it.

    Raises:
        OSError: The kernel refuses.
    """
    _checked(_libc.unshare(_NEW["mnt"]), "unshare")


def mount_connection(device: int, target: str, root_mode: str) -> None:
    """Mount what the other end of this open FUSE device answers; for this user alone, read-only.

    Args:
        root_mode: Of the mount's root: what it is, in octal.

    Raises:
        OSError: The kernel refuses.
    """
    flags = _RDONLY | _NOSUID | _NODEV | _NOEXEC
    user, group = os.geteuid(), os.getegid()
    said = f"fd={device},rootmode={root_mode},user_id={user},group_id={group}"
    _mount("vault", target, "fuse", flags, said)


def cover(folder: str, mode: str = "000") -> None:
    """Mount an empty folder over one, which nobody may enter unless `mode` says otherwise.

    Raises:
        OSError: The kernel refuses.
    """
    flags = _RDONLY | _NOSUID | _NODEV | _NOEXEC
    _mount("tmpfs", folder, "tmpfs", flags, f"mode={mode},size=4k")


def become(user: int, group: int) -> None:
    """Be another user, in no other group.

    Raises:
        OSError: The kernel refuses.
    """
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


def drop_privileges() -> None:
    """No capability, and none from any program started from here on.

    Raises:
        OSError: The kernel refuses.
    """
    machine = os.uname().machine
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    header = struct.pack("<Ii", _CAPABILITIES_V3, 0)
    _checked(_libc.syscall(_CAPSET[machine], header, bytes(24)), "capset")


def _show(host: str, inside: str) -> None:
    source, place = Path(host), Path(inside)
    if source.is_symlink():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(source.readlink())
        return
    _bind(host, inside)
    _protect(inside, recursive=True)


def _bind(host: str, inside: str) -> None:
    place = Path(inside)
    if Path(host).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    _mount(host, inside, None, _BIND | _REC)


def _protect(path: str, *, recursive: bool) -> None:
    attributes = struct.pack("<QQQQ", _ATTR_RDONLY_NOSUID_NODEV, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    result = _libc.syscall(_MOUNT_SETATTR, -100, path.encode(), flags, attributes, len(attributes))
    _checked(result, f"mount_setattr {path}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    result = _libc.mount(
        source.encode() if source else None,
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _checked(result, f"mount {target}")


def _pivot(new: str, old: str) -> None:
    number = _PIVOT_ROOT[os.uname().machine]
    _checked(_libc.syscall(number, new.encode(), old.encode()), "pivot_root")
    os.chdir("/")
