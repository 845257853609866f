"""A separate process on this machine (L1): its code is known by digest, and nothing keeps it in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

from cohortium.contract.task import SecurityLevel
from cohortium.enclave.executor import Prepared
from cohortium.enclave.job import Job
from cohortium.enclave.mounted import require_memory
from cohortium.enclave.sandbox import control_group
from cohortium.enclave.supervised import PACKAGE, SupervisedTask, python_of, spec


class Process:
    """Runs a task as this user, in a folder of its own that is removed afterwards.

    Memory, processor time, time, processes and disk are limited; what it reads and whom it calls is
    not.
    """

    name: ClassVar[str] = "process"
    levels: ClassVar[tuple[SecurityLevel, ...]] = ("L1",)

    def missing(self) -> tuple[str, ...]:
        """Nothing: every machine can."""
        return ()

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`."""
        require_memory(job)
        job.command("/task", "python")
        return Prepared(job, {})

    def start(self, prepared: Prepared) -> SupervisedTask:
        """See `Executor`."""
        job = prepared.job
        folder = Path(tempfile.mkdtemp(prefix="cohortium-task-"))
        (folder / "scratch").mkdir()
        (folder / "inputs").mkdir()
        (folder / "code").symlink_to(job.code.resolve())
        for slot, source in job.inputs.items():
            if isinstance(source, Path):
                (folder / "inputs" / slot).symlink_to(source.resolve())
        measured = [str(folder / part) for part in ("scratch", "outputs")]
        return SupervisedTask(
            job,
            [str(python_of(job)), "-I", "-S"],
            str(PACKAGE.parent),
            spec(job, str(folder), measured=measured),
            folder=folder,
            group=control_group(job),
        )
