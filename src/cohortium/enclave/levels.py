"""The security levels as checklists, and which of them a machine can offer.

A level is reached where every line of its list holds, those of the lower levels included; L4 does
without a TPM, since the processor proves what runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, get_args

from cohortium.contract.task import SecurityLevel
from cohortium.enclave import cgroup, tsm
from cohortium.enclave.executor import Executor

LEVELS: Final[tuple[SecurityLevel, ...]] = get_args(SecurityLevel)

_HARDWARE: Final[Mapping[str, str]] = {
    "dev/sgx_enclave": "dev/sgx_provision",
    "dev/tdx_guest": tsm.FOLDER,
    "dev/sev-guest": tsm.FOLDER,
}
"""Devices of trusted execution environments, and what their evidence comes from."""

MEANING: Final[Mapping[SecurityLevel, str]] = {
    "L1": "a separate process; its code is known by digest",
    "L2": "a sandbox without network; data encrypted at rest",
    "L3": "L2 on a host whose boot and program a TPM 2.0 measures",
    "L4": "a hardware trusted execution environment; keys go to its approved measurement only",
    "L5": "L4 with built-in computations only, in production mode and up to date",
}


@dataclass(frozen=True)
class Requirement:
    """One line of a level's checklist, and whether it holds here.

    Attributes:
        missing: Why not, and what to do; empty where it holds.
        needed: Whether the level is not offered without it.
    """

    text: str
    missing: str = ""
    needed: bool = True

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return not self.missing


@dataclass(frozen=True)
class Offer:
    """A level, and what this machine has of it.

    Attributes:
        executors: Those that offer it here.
    """

    level: SecurityLevel
    requirements: tuple[Requirement, ...]
    executors: tuple[str, ...]

    @property
    def offered(self) -> bool:
        """Whether tasks can run at it here."""
        return bool(self.executors) and all(one.holds for one in self.requirements if one.needed)


def offers(executors: Iterable[Executor], root: Path = Path("/")) -> tuple[Offer, ...]:
    """What this machine can offer, from L1 to L5.

    Args:
        executors: All that are installed.
        root: Where the machine's files begin.
    """
    known = {one: one.missing() for one in executors}
    out: list[Offer] = []
    for level in LEVELS:
        able = [one for one in known if reaches(one, level)]
        running = tuple(one.name for one in able if not known[one])
        wanted = f"an executor that reaches {level}"
        if running:
            lines = [Requirement(wanted)]
        elif not able:
            lines = [Requirement(wanted, "no executor for it is installed")]
        elif level == "L5" and out[-1].requirements[: len(able)] == _why_not(able, known):
            lines = [Requirement(wanted, "as for L4")]
        else:
            lines = list(_why_not(able, known))
        out.append(Offer(level, (*lines, *_platform(level, root)), running))
    return tuple(out)


def reaches(executor: Executor, level: SecurityLevel) -> bool:
    """Whether an executor can offer a level, on a machine where it can run.

    A higher level is no stand-in: a TPM's evidence is of its own kind, and an SGX enclave has
    no sandbox around the program (`L2`).
    """
    return level in executor.levels


def _why_not(
    able: Iterable[Executor], missing: Mapping[Executor, tuple[str, ...]]
) -> tuple[Requirement, ...]:
    return tuple(Requirement(one.name, "; ".join(missing[one])) for one in able)


def _platform(level: SecurityLevel, root: Path) -> list[Requirement]:
    if level == "L1":
        return []
    if level == "L2":
        return [
            Requirement(
                "a control group, which alone bounds the memory of all of a task's processes",
                cgroup.missing(root / "sys/fs/cgroup", root / "proc/self/cgroup"),
                needed=False,
            )
        ]
    if level == "L3":
        return [
            _there(root, "dev/tpmrm0", "a TPM 2.0", "the machine has none, or its driver is off"),
            _there(
                root,
                "sys/kernel/security/tpm0/binary_bios_measurements",
                "an event log of the measured boot",
                "boot by UEFI with the TPM on, and mount securityfs",
            ),
            _package("tpm2_pytss", "the TPM's library", "pip install 'cohortium[tpm]'"),
        ]
    hardware, found = _hardware(root)
    if level == "L5":
        hardware.append(
            Requirement(
                "evidence of production mode and an up-to-date platform",
                "" if found else "judged from the hardware's evidence when a task starts",
            )
        )
    return hardware


def _hardware(root: Path) -> tuple[list[Requirement], bool]:
    """Whether there is a trusted execution environment, and a way to its evidence."""
    found = [name for name in _HARDWARE if (root / name).exists()]
    proven = [_HARDWARE[name] for name in found if (root / _HARDWARE[name]).exists()]
    none = "none of " + ", ".join(f"/{name}" for name in _HARDWARE) + " is there"
    lines = [Requirement("SGX, TDX or SEV-SNP", "" if found else none)]
    if found:
        absent = " and ".join(f"/{_HARDWARE[name]}" for name in found) + " is not there"
        lines.append(Requirement("its evidence", "" if proven else absent))
    return lines, bool(proven)


def _there(root: Path, path: str, text: str, why: str) -> Requirement:
    return Requirement(text, "" if (root / path).exists() else f"/{path} is not there: {why}")


def _package(name: str, text: str, why: str) -> Requirement:
    return Requirement(text, "" if find_spec(name) is not None else why)
