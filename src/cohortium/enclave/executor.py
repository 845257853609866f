"""What an executor is: a place where a program runs, and the evidence of what it is.

    prepare(job) -> Prepared     what the place needs: a manifest, an image; nothing runs yet
    start(prepared) -> Running   the program runs
    running.evidence(...)        proof of where it runs, bound to what the verifier says
    running.wait()               until it ends
    running.stop()               now
    running.collect(sink)        its outputs, once

Packages add executors as entry points of the group ``cohortium.executors``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol

from cohortium.contract.model import Environment
from cohortium.contract.task import SecurityLevel
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.job import Job, Outcome, Sink
from cohortium.errors import InputError

ENTRY_POINT_GROUP = "cohortium.executors"


@dataclass(frozen=True)
class Prepared:
    """A job that could start now.

    Attributes:
        files: What was generated for it, by relative path: a manifest, a policy.
        attest: Evidence over 64 bytes of the place and of this job, before it starts: the keys
            of its inputs are released for that. None where the place can prove nothing.
    """

    job: Job
    files: Mapping[str, bytes]
    attest: Callable[[bytes], Record] | None = None


class Running(Protocol):
    """A task that has been started."""

    def evidence(self, report_data: bytes) -> bytes | None:
        """Evidence over 64 bytes that the verifier chose; None where there is none to give."""
        ...

    def wait(self, on_log: Callable[[bytes], None] | None = None) -> Outcome:
        """Until it ends; what it prints is passed on as it comes, up to the limit."""
        ...

    def stop(self) -> None:
        """End it now, with all that it started."""
        ...

    def collect(self, sink: Sink | None) -> None:
        """Its outputs, after `wait`; nothing unless it succeeded. What is left of it goes."""
        ...


class Executor(Protocol):
    """A place where programs run.

    Attributes:
        levels: The security levels at which it can run a task: all that each of them says of the
            program, of its host and of evidence holds.
    """

    name: ClassVar[str]
    levels: ClassVar[tuple[SecurityLevel, ...]]

    def missing(self) -> tuple[str, ...]:
        """Why it cannot run on this machine; empty where it can."""
        ...

    def prepare(self, job: Job) -> Prepared:
        """What it needs for a job; raises InputError where the job does not fit it."""
        ...

    def start(self, prepared: Prepared) -> Running:
        """Start it; raises PolicyRefusal ``executor-unavailable`` where a control cannot run."""
        ...


def executors(environment: Environment | None = None) -> dict[str, Executor]:
    """All that are installed, by name; built-in ones cannot be replaced.

    Args:
        environment: A contract's, which says whether a simulated TEE may stand in for a real one.
    """
    from cohortium.enclave.executors.bubblewrap import Bubblewrap
    from cohortium.enclave.executors.gramine import Gramine
    from cohortium.enclave.executors.gvisor import Gvisor
    from cohortium.enclave.executors.landlock import Landlock
    from cohortium.enclave.executors.occlum import Occlum
    from cohortium.enclave.executors.process import Process
    from cohortium.enclave.executors.scone import Scone
    from cohortium.enclave.executors.sev_snp import SevSnp
    from cohortium.enclave.executors.simulated import Simulated
    from cohortium.enclave.executors.tdx import Tdx
    from cohortium.enclave.executors.tpm import MeasuredHost

    found: dict[str, Any] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        found[point.name] = point.load()()
    built_in: tuple[Executor, ...] = (
        Process(),
        Bubblewrap(),
        Landlock(),
        Gvisor(),
        Simulated(environment),
        MeasuredHost(),
        Tdx(),
        SevSnp(),
        Gramine(),
        Occlum(),
        Scone(),
    )
    return found | {one.name: one for one in built_in}


def executor(name: str, environment: Environment | None = None) -> Executor:
    """One of them.

    Raises:
        InputError: ``not-found``.
    """
    known = executors(environment)
    if name not in known:
        raise InputError(
            "not-found", f"There is no executor {name[:80]!r}; there are {', '.join(known)}."
        )
    return known[name]
