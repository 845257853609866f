"""A simulated TEE, for development: the sandbox `landlock`, and evidence that says "simulated".

It protects from its operator no more than the sandbox does, so its level is the sandbox's.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Final

from cohortium.contract.model import Environment
from cohortium.contract.task import SecurityLevel
from cohortium.core.canonical import digest as digest_of
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.simulated import SimulatedEvidence
from cohortium.enclave.executor import Prepared
from cohortium.enclave.executors.landlock import Landlock
from cohortium.enclave.job import Job
from cohortium.enclave.manifest import digest as code_digest
from cohortium.enclave.supervised import SupervisedTask
from cohortium.errors import PolicyRefusal

LABEL: Final = "L4-simulated"
"""What it is called beside the levels; no contract's level is reached by it."""


class Simulated:
    """Runs a task in the sandbox, and says that a TEE was simulated.

    Args:
        environment: A contract's; without one that allows simulated TEEs it refuses.
    """

    name: ClassVar[str] = "simulated"
    levels: ClassVar[tuple[SecurityLevel, ...]] = ("L1", "L2")

    def __init__(self, environment: Environment | None = None) -> None:
        self._allowed: Final = environment is not None and environment.allow_simulated
        self._sandbox: Final = Landlock()

    def missing(self) -> tuple[str, ...]:
        """See `Executor`."""
        if not self._allowed:
            return ("a contract's environment has to say allow_simulated",)
        return self._sandbox.missing()

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`; the file says what its evidence will say."""
        self._sandbox.prepare(job)
        measured = measurement(job)

        def attest(report_data: bytes) -> Record:
            return Record.evidence("simulated", _evidence(measured, report_data))

        return Prepared(job, {"measurement": measured.encode()}, attest)

    def start(self, prepared: Prepared) -> SupervisedTask:
        """See `Executor`."""
        if not self._allowed:
            raise PolicyRefusal(
                "executor-unavailable",
                "A simulated TEE protects nothing: it runs only where the contract's environment "
                "says allow_simulated.",
            )
        measured = measurement(prepared.job)
        return self._sandbox.start(prepared, attest=partial(_evidence, measured))


def _evidence(measured: str, report_data: bytes) -> bytes:
    return SimulatedEvidence(measurement=measured, report_data=report_data.hex()).to_bytes()


def measurement(job: Job) -> str:
    """What stands for a measurement: the digest of the program, as a contract names it; without a
    contract, of the program and of how it is started.
    """
    if job.measured is not None:
        return job.measured.removeprefix("sha256:")
    measured = digest_of(
        {
            "argv": list(job.argv),
            "code": code_digest(job.code),
            "environment": dict(job.environment),
            "inputs": sorted(job.inputs),
            "limits": job.limits.model_dump(mode="json"),
            "outputs": list(job.outputs),
        }
    )
    return measured.removeprefix("sha256:")
