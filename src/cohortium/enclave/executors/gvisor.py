"""A sandbox with a kernel of its own: gVisor's, which answers a task's system calls itself (L2).

Reference: gVisor, "Security Model" and "runsc run"; OCI runtime specification 1.0.2, config.json.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

from cohortium.contract.task import MIB, SecurityLevel
from cohortium.enclave.cgroup import ControlGroup
from cohortium.enclave.executor import Prepared
from cohortium.enclave.inside.namespaces import INSIDE_ID
from cohortium.enclave.job import Job
from cohortium.enclave.mounted import require_memory
from cohortium.enclave.sandbox import FOLDER, PACKAGE_PARENT, guarded, shown, sizes
from cohortium.enclave.supervised import SupervisedTask, boot, python_of
from cohortium.errors import PolicyRefusal

_PROGRAM: Final = "runsc"
_PLATFORMS: Final = ("systrap", "ptrace")
"""systrap is newer and faster; older releases have ptrace alone. Neither needs a device."""
_KERNEL_BYTES: Final = 512 * MIB
_KERNEL_THREADS: Final = 256
_NAMESPACES: Final = ("pid", "network", "ipc", "uts", "mount")
_STREAMS: Final = (0, 1)
_CAPABILITIES: Final = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL"),
    *("CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"),
)
"""Of the supervisor, over this kernel only; its task has none."""
_SETS: Final = ("bounding", "effective", "permitted")


class Gvisor:
    """Runs a task on gVisor's kernel, without a network, with seccomp inside."""

    name: ClassVar[str] = "gvisor"
    levels: ClassVar[tuple[SecurityLevel, ...]] = ("L1", "L2")

    def missing(self) -> tuple[str, ...]:
        """See `Executor`."""
        found = shutil.which(_PROGRAM)
        if found is None:
            return ("runsc is not installed (Debian: apt install runsc)",)
        if _platform(found) is None:
            return (f"runsc starts nothing here, by {' or '.join(_PLATFORMS)}",)
        return ()

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`."""
        require_memory(job)
        job.command(FOLDER, "python")
        config = json.dumps(_config(job), indent=1, sort_keys=True).encode()
        return Prepared(job, {"config.json": config})

    def start(self, prepared: Prepared) -> SupervisedTask:
        """See `Executor`."""
        program = shutil.which(_PROGRAM)
        platform = None if program is None else _platform(program)
        if program is None or platform is None:
            raise PolicyRefusal("executor-unavailable", "; ".join(self.missing()) + ".")
        job = prepared.job
        folder = Path(tempfile.mkdtemp(prefix="cohortium-gvisor-"))
        (folder / "root").mkdir()
        for path, content in prepared.files.items():
            (folder / path).write_bytes(content)
        name = f"cohortium-{secrets.token_hex(8)}"
        command = [program, *_options(platform), "--root", str(folder / "state")]
        memory_bytes = job.limits.memory_bytes + sum(sizes(job).values()) + _KERNEL_BYTES
        # The task is whom the given files belong to (root, or who is root to runsc), and another
        # than the supervisor: this kernel lets a user look into all of its own processes.
        told = {"landlock": False, "user": [0, 0], "taken": ["/dev"]}
        most = 2 * job.limits.processes + _KERNEL_THREADS
        return SupervisedTask(
            job,
            [*command, "run", "--bundle", str(folder), name],
            None,
            guarded(job) | told,
            folder=folder,
            group=ControlGroup.make(name, memory_bytes, most),
        )


def _options(platform: str) -> list[str]:
    # Control groups are made here, where this user may.
    options = ["--network=none", f"--platform={platform}", "--ignore-cgroups"]
    return options if os.geteuid() == 0 else ["--rootless", *options]


@cache
def _platform(program: str) -> str | None:
    """The first that works on this machine."""
    for platform in _PLATFORMS:
        tried = subprocess.run(
            [program, *_options(platform), "do", "true"],
            capture_output=True,
            timeout=60,
            check=False,
        )
        if tried.returncode == 0:
            return platform
    return None


def _config(job: Job) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        # runsc would mount writable ones there.
        _memory("/tmp", "ro"),  # noqa: S108 - of the sandbox's own
    ]
    for folder, size_bytes in sizes(job).items():
        mounts.append(_memory(folder, f"size={size_bytes}", "mode=777"))
    for inside, host in shown(job).items():
        mounts.append(
            {
                "destination": inside,
                "type": "bind",
                "source": host,
                "options": ["rbind", "ro", "nosuid", "nodev"],
            }
        )
    return {
        "ociVersion": "1.0.2",
        "hostname": "task",
        "root": {"path": "root", "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": INSIDE_ID, "gid": INSIDE_ID},
            "args": [str(python_of(job)), "-I", "-S", *boot(PACKAGE_PARENT, *_STREAMS)],
            "env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {name: list(_CAPABILITIES) for name in _SETS},
        },
        "mounts": mounts,
        "linux": {"namespaces": [{"type": one} for one in _NAMESPACES]},
    }


def _memory(folder: str, *options: str) -> dict[str, Any]:
    return {
        "destination": folder,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "nodev", "noexec", *options],
    }
