"""The same guards in a sandbox that bubblewrap makes (L2), as Flatpak's programs run in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import ClassVar, Final

from cohortium.contract.task import SecurityLevel
from cohortium.enclave.executor import Prepared
from cohortium.enclave.executors.landlock import guards_missing
from cohortium.enclave.inside.mounts import HIDDEN
from cohortium.enclave.inside.namespaces import HOST_NAME, NOTHING, untold
from cohortium.enclave.job import Job
from cohortium.enclave.sandbox import (
    DEVICE,
    FOLDER,
    INPUTS,
    PACKAGE_PARENT,
    control_group,
    guarded,
    mounts_of,
    shown,
    sizes,
)
from cohortium.enclave.supervised import SupervisedTask, python_of
from cohortium.errors import PolicyRefusal

_PROGRAM: Final = "bwrap"
_UNSHARED: Final = (
    *("--unshare-all", "--unshare-user", "--disable-userns"),
    *("--die-with-parent", "--as-pid-1"),
)
_DEVICE: Final = f"{HIDDEN}/fuse"
_MAY_MOUNT: Final = ("--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP")
"""Over its own namespaces, until the inputs are mounted; before the task starts all are dropped."""


class Bubblewrap:
    """Runs a task in a sandbox of bubblewrap, with Landlock and seccomp inside."""

    name: ClassVar[str] = "bubblewrap"
    levels: ClassVar[tuple[SecurityLevel, ...]] = ("L1", "L2")

    def missing(self) -> tuple[str, ...]:
        """See `Executor`."""
        return guards_missing() + tuple(filter(None, [self._refused()]))

    def _refused(self) -> str | None:
        found = shutil.which(_PROGRAM)
        if found is None:
            return "bubblewrap is not installed (Debian: apt install bubblewrap)"
        tried = subprocess.run(
            [found, *_UNSHARED, "--ro-bind", "/", "/", "--proc", "/proc", "true"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return None if tried.returncode == 0 else f"bubblewrap: {tried.stderr.strip()[:200]}"

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`."""
        job.command(FOLDER, "python")
        return Prepared(job, {})

    def start(self, prepared: Prepared) -> SupervisedTask:
        """See `Executor`."""
        found = shutil.which(_PROGRAM)
        if found is None:
            raise PolicyRefusal("executor-unavailable", "bubblewrap is not installed.")
        job = prepared.job
        command = [found, *_UNSHARED, "--uid", "1000", "--gid", "1000", "--clearenv"]
        mounts = mounts_of(job, _DEVICE, own_root=False)
        slots = mounts["files"] if mounts else ()
        if mounts:
            command += [*_MAY_MOUNT, "--dev-bind", DEVICE, _DEVICE]
        command += ["--hostname", HOST_NAME, "--proc", "/proc", *_hidden()]
        command += ["--dev", "/dev", "--dir", INPUTS]
        for folder, size_bytes in sizes(job, slots).items():
            command += ["--size", str(size_bytes), "--tmpfs", folder]
        for inside, host in shown(job).items():
            command += ["--ro-bind", host, inside]
        command += ["--remount-ro", "/", "--", str(python_of(job)), "-I", "-S"]
        return SupervisedTask(
            job,
            command,
            PACKAGE_PARENT,
            guarded(job, mounts=mounts),
            group=control_group(job, slots),
        )


def _hidden() -> list[str]:
    """What covers what /proc says of the machine."""
    options: list[str] = []
    for place in map(str, untold()):
        if Path(place).is_dir():
            options += ["--perms", "0555", "--size", "4096", "--tmpfs", place]
            options += ["--remount-ro", place]
        else:
            options += ["--ro-bind", str(NOTHING), place]
    return options
