"""The sandbox on a host whose boot and whose task a TPM 2.0 measured (L3).

Before a program starts, what it is, its arguments and its inputs are in PCR 14. That the host then
starts this and nothing else is a matter of what it booted: PCR 0 to 9, and the contract's values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final

from cohortium.contract.task import SecurityLevel
from cohortium.enclave import manifest
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.executor import Prepared
from cohortium.enclave.executors.landlock import Landlock
from cohortium.enclave.job import Job
from cohortium.enclave.supervised import SupervisedTask
from cohortium.enclave.task_record import task_record
from cohortium.enclave.tpm_host import TpmHost
from cohortium.errors import PolicyRefusal


@dataclass(frozen=True)
class MeasuredTask(Prepared):
    """See `Prepared`.

    Attributes:
        record: What is measured for it; see `task_record`.
        program: Digest of its files when it was prepared.
    """

    record: tuple[bytes, ...] = ()
    program: str = ""


class MeasuredHost:
    """A task in the sandbox `landlock`, measured before it starts.

    Args:
        host: This machine, unless said otherwise.
    """

    name: ClassVar[str] = "tpm"
    levels: ClassVar[tuple[SecurityLevel, ...]] = ("L1", "L2", "L3")

    def __init__(self, host: TpmHost | None = None) -> None:
        self._host: Final = host or TpmHost()
        self._sandbox: Final = Landlock()

    def missing(self) -> tuple[str, ...]:
        """See `Executor`."""
        return (*self._host.missing(), *self._sandbox.missing())

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`; its evidence can be asked for before it starts."""
        self._sandbox.prepare(job)
        record = task_record(job)

        def attest(report_data: bytes) -> Record:
            return Record.evidence("tpm", self._evidence(record, report_data))

        return MeasuredTask(job, {}, attest, record, manifest.digest(job.code))

    def start(self, prepared: Prepared) -> SupervisedTask:
        """See `Executor`; measured first, and not started where that fails."""
        if why := self.missing():
            raise PolicyRefusal("executor-unavailable", f"{self.name}: {'; '.join(why)}.")
        record = task_record(prepared.job)
        if isinstance(prepared, MeasuredTask) and (prepared.record, prepared.program) != (
            record,
            manifest.digest(prepared.job.code),
        ):
            raise PolicyRefusal(
                "executor-unavailable",
                "The program or its inputs were changed since they were measured; start again.",
            )
        self._host.measure(record)
        return self._sandbox.start(prepared, attest=partial(self._evidence, record))

    def _evidence(self, record: tuple[bytes, ...], report_data: bytes) -> bytes:
        return self._host.evidence(record, report_data).to_cbor()
