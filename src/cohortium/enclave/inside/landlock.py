"""Landlock: what a task may open, beside what its mounts show.

Reference: Linux, Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION, _BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_ALL: Final = ((1 << 13) - 1, (1 << 14) - 1, (1 << 15) - 1, (1 << 15) - 1, (1 << 16) - 1)
"""Rights over files by version of the interface, from 1."""
_NETWORK: Final = 0b11
_SCOPES: Final = 0b11


def version() -> int:
    """The kernel's version of the interface; 0 where there is none."""
    found = int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE, None, 0, _VERSION))
    return max(found, 0)


def restrict(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Let this thread, and all that it starts, open nothing but this; needs no_new_privs.

    From version 4 it may neither bind nor connect TCP ports, from 6 it reaches no abstract socket
    and signals no process outside.

    Raises:
        OSError: The kernel has no Landlock, or refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    found = version()
    if not found:
        raise OSError(ctypes.get_errno(), "landlock")
    handled = _ALL[min(found, len(_ALL)) - 1]
    rules = struct.pack("<Q", handled)
    if found >= 4:
        rules += struct.pack("<Q", _NETWORK)
    if found >= 6:
        rules += struct.pack("<Q", _SCOPES)
    ruleset = libc.syscall(_CREATE, rules, len(rules), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock")
    try:
        # The names of folders are no secret in a root that shows nothing else.
        _allow(libc, ruleset, _READ_DIR, Path("/"))
        for rights, paths in ((_READ, readable), (handled & ~_EXECUTE, writable)):
            for path in paths:
                _allow(libc, ruleset, rights & handled, path)
        if libc.syscall(_RESTRICT, ruleset, 0):
            raise OSError(ctypes.get_errno(), "landlock")
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, rights: int, path: Path) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("<Qi", rights, opened)
        if libc.syscall(_ADD, ruleset, _BENEATH, rule, 0):
            raise OSError(ctypes.get_errno(), "landlock", str(path))
    finally:
        os.close(opened)
