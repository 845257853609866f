"""The seccomp filter of a task: an allow-list of system calls, as classic BPF.

Reference: Linux, Documentation/userspace-api/seccomp_filter.rst; seccomp(2).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from typing import Final

from cohortium.enclave.inside.syscalls import ALLOWED, CLONE, CLONE3, IOCTL, SOCKETPAIR

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000
_ALLOW: Final = 0x7FFF0000

_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data
_X32: Final = 0x40000000
_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_NEW_NAMESPACES: Final = 0x7E020080
"""CLONE_NEWTIME (0x80), NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX: Final = 1
_DATAGRAMS: Final = 2
"""A bit of SOCK_DGRAM and SOCK_RAW, which can send to any named socket; not of SOCK_STREAM."""

_PR_SET_SECCOMP, _FILTER = 22, 2


def program(machine: str = "") -> bytes:
    """The filter as an array of ``struct sock_filter``, for this machine.

    Raises:
        NotImplementedError: There is no list of system calls for it.
    """
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        raise NotImplementedError(f"there is no list of system calls for {machine}")
    which, architecture = _MACHINES[machine]
    refuse = _ERRNO | errno.EPERM
    out = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        out += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, refuse)]
    # glibc falls back to clone, whose flags a filter can see.
    out += [(_EQUAL, 0, 1, CLONE3[which]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    out += [
        (_EQUAL, 0, 4, CLONE[which]),
        (_LOAD, 0, 0, _FIRST),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, refuse),
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 5, IOCTL[which]),
        (_LOAD, 0, 0, _SECOND),
        (_EQUAL, 1, 0, _TIOCSTI),
        (_EQUAL, 0, 1, _TIOCLINUX),
        (_RETURN, 0, 0, refuse),
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 6, SOCKETPAIR[which]),
        (_LOAD, 0, 0, _FIRST),
        (_EQUAL, 0, 3, _AF_UNIX),
        (_LOAD, 0, 0, _SECOND),
        (_ANY_BIT, 1, 0, _DATAGRAMS),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, refuse),
    ]
    for numbers in ALLOWED.values():
        number = numbers[which]
        if number is not None:
            out += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    out.append((_RETURN, 0, 0, refuse))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in out)


def apply() -> None:
    """Filter this thread's system calls and those of all that it starts; needs no_new_privs.

    Raises:
        OSError: The kernel refuses.
    """
    filters = program()
    buffer = ctypes.create_string_buffer(filters, len(filters))
    header = struct.pack("@HP", len(filters) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.c_char_p(header), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, "seccomp")
