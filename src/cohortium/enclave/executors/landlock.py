"""A sandbox of the kernel's own means, without any program to install (L2).

Namespaces of its own (user, mounts, processes, network, IPC, host name, control groups), a root of
memory with read-only views, Landlock, a seccomp allow-list, no capability, resource limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from cohortium.contract.task import SecurityLevel
from cohortium.enclave.executor import Prepared
from cohortium.enclave.inside import landlock as kernel
from cohortium.enclave.inside import seccomp
from cohortium.enclave.job import Job
from cohortium.enclave.sandbox import (
    PACKAGE_PARENT,
    control_group,
    core_dumps_leave,
    guarded,
    mounts_of,
    shown,
    sizes,
)
from cohortium.enclave.supervised import PACKAGE, SupervisedTask, python_of
from cohortium.enclave.unprivileged import namespaces_refused


class Landlock:
    """Runs a task in a sandbox that this package makes."""

    name: ClassVar[str] = "landlock"
    levels: ClassVar[tuple[SecurityLevel, ...]] = ("L1", "L2")

    def missing(self) -> tuple[str, ...]:
        """See `Executor`."""
        return guards_missing() + tuple(filter(None, [namespaces_refused()]))

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`."""
        job.command("/task", "python")
        return Prepared(job, {})

    def start(
        self, prepared: Prepared, *, attest: Callable[[bytes], bytes] | None = None
    ) -> SupervisedTask:
        """See `Executor`; `attest` gives evidence where the machine has any."""
        job = prepared.job
        mounts = mounts_of(job)
        slots = mounts["files"] if mounts else ()
        root = {"readable": shown(job), "sizes": sizes(job, slots)}
        return SupervisedTask(
            job,
            [str(python_of(job)), "-I", "-S"],
            str(PACKAGE.parent),
            guarded(job, namespaces=True, root=root, mounts=mounts),
            group=control_group(job, slots),
            attest=attest,
        )


def guards_missing() -> tuple[str, ...]:
    """Which of the kernel's guards that every sandbox here uses are not there."""
    out = []
    if not kernel.version():
        out.append("the kernel has no Landlock (Linux 5.13; `lsm=landlock,...` at boot)")
    try:
        seccomp.program()
    except NotImplementedError as error:
        out.append(f"seccomp: {error}")
    return (*out, *filter(None, [core_dumps_leave()]))


__all__ = ["PACKAGE_PARENT", "Landlock", "guards_missing"]
