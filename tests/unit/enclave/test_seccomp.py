"""The filter's own text, interpreted: which system calls pass."""

from __future__ import annotations

import struct

import pytest

from cohortium.enclave.inside import seccomp
from cohortium.enclave.inside.syscalls import ALLOWED, CLONE, CLONE3, IOCTL, SOCKETPAIR

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


def decide(machine: str, number: int, *args: int, architecture: int | None = None) -> int:
    """What the filter answers to a system call."""
    where = ARCHITECTURES[machine] if architecture is None else architecture
    data = struct.pack("<iIQ6Q", number, where, 0, *args, *([0] * (6 - len(args))))
    program = [*struct.iter_unpack("<HBBI", seccomp.program(machine))]
    at, accumulator = 0, 0
    while True:
        code, jump_true, jump_false, k = program[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x06:
            return int(k)
        else:
            holds = {
                0x15: accumulator == k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[code]
            at += jump_true if holds else jump_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_what_is_listed_passes(machine: str) -> None:
    which = list(ARCHITECTURES).index(machine)
    for name, numbers in ALLOWED.items():
        number = numbers[which]
        if number is not None:
            assert decide(machine, number) == ALLOW, name


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_what_is_not_listed_does_not(machine: str) -> None:
    which = list(ARCHITECTURES).index(machine)
    listed = {numbers[which] for numbers in ALLOWED.values()}
    special = {CLONE[which], CLONE3[which], IOCTL[which], SOCKETPAIR[which]}
    for number in set(range(600)) - listed - special:
        assert decide(machine, number) == EPERM, number


@pytest.mark.parametrize(("machine", "clone", "ioctl"), [("x86_64", 56, 16), ("aarch64", 220, 29)])
def test_new_namespaces_and_typing_into_terminals_do_not_pass(
    machine: str, clone: int, ioctl: int
) -> None:
    thread = 0x00010F00 | 0x003D0000
    assert decide(machine, clone, thread) == ALLOW
    assert decide(machine, clone, 17) == ALLOW
    for bit in (17, 25, 26, 27, 28, 29, 30):
        assert decide(machine, clone, 17 | 1 << bit) == EPERM
    assert decide(machine, 435) == ENOSYS
    assert decide(machine, ioctl, 0, 0x5401) == ALLOW
    assert decide(machine, ioctl, 0, 0x5412) == EPERM
    assert decide(machine, ioctl, 0, 0x541C) == EPERM


@pytest.mark.parametrize(("machine", "socketpair"), [("x86_64", 53), ("aarch64", 199)])
def test_pairs_of_sockets_are_streams_of_this_machine(machine: str, socketpair: int) -> None:
    unix, tipc, flags = 1, 30, 0x80800
    for kind in (1, 5):
        assert decide(machine, socketpair, unix, kind | flags) == ALLOW
        assert decide(machine, socketpair, tipc, kind) == EPERM
    for kind in (2, 3):
        assert decide(machine, socketpair, unix, kind | flags) == EPERM


def test_another_architecture_is_killed_and_x32_refused() -> None:
    assert decide("x86_64", 0, architecture=0x40000003) == KILL
    assert decide("x86_64", 0x40000000 | 39) == EPERM


def test_a_machine_without_a_list_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="riscv64"):
        seccomp.program("riscv64")
