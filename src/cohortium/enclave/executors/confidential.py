"""The sandbox inside a confidential virtual machine: what its executors have in common.

The virtual machine is what the hardware measures and keeps from its operator; the task runs in
it as it would in `landlock`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

from cohortium.contract.task import SecurityLevel
from cohortium.enclave import tsm
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.verdict import EvidenceKind
from cohortium.enclave.executor import Prepared
from cohortium.enclave.executors.landlock import Landlock
from cohortium.enclave.job import Job
from cohortium.enclave.supervised import SupervisedTask
from cohortium.errors import PolicyRefusal


class ConfidentialMachine:
    """A task in the sandbox `landlock`, with evidence of the machine around it.

    Args:
        root: Where the machine's files begin.
    """

    name: ClassVar[str]
    levels: ClassVar[tuple[SecurityLevel, ...]] = ("L1", "L2", "L4", "L5")
    provider: ClassVar[str]
    device: ClassVar[str]
    kind: ClassVar[EvidenceKind]

    def __init__(self, root: Path = Path("/")) -> None:
        self._root: Final = root
        self._sandbox: Final = Landlock()

    def missing(self) -> tuple[str, ...]:
        """See `Executor`."""
        out = []
        if not (self._root / self.device).exists():
            out.append(f"/{self.device} is not there: this is no {self.name} virtual machine")
        out += tsm.missing(self._root)
        return (*out, *self._sandbox.missing())

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`; evidence is of the machine, whatever it will run."""
        return replace(self._sandbox.prepare(job), attest=self.evidence)

    def start(self, prepared: Prepared) -> SupervisedTask:
        """See `Executor`."""
        if why := self.missing():
            raise PolicyRefusal("executor-unavailable", f"{self.name}: {'; '.join(why)}.")
        return self._sandbox.start(prepared, attest=self.attest())

    def evidence(self, report_data: bytes) -> Record:
        """Evidence over 64 bytes, as a lender's node appraises it."""
        return self.report(report_data)

    def report(self, report_data: bytes) -> Record:
        """What the hardware signs, without what vouches for the hardware."""
        found = tsm.report(report_data, provider=self.provider, root=self._root)
        return Record.evidence(self.kind, found.outblob)

    def attest(self) -> Callable[[bytes], bytes]:
        """What gives evidence over 64 bytes."""
        return lambda report_data: (
            tsm.report(report_data, provider=self.provider, root=self._root).outblob
        )
