"""What a sandbox of this machine shows of it: the system's programs, Python, and the job."""

from __future__ import annotations

import resource
import secrets
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from cohortium.contract.task import MIB
from cohortium.enclave.cgroup import ControlGroup
from cohortium.enclave.job import Job
from cohortium.enclave.mounted import mounted
from cohortium.enclave.supervised import PACKAGE, from_root, python_of, spec
from cohortium.errors import PolicyRefusal

FOLDER: Final = "/task"
SCRATCH: Final = f"{FOLDER}/scratch"
OUTPUTS: Final = f"{FOLDER}/outputs"
INPUTS: Final = f"{FOLDER}/inputs"
PACKAGE_PARENT: Final = "/opt/cohortium"
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - of the sandbox's own
DEVICE: Final = "/dev/fuse"
_SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"),
)
_SUPERVISOR_BYTES: Final = 64 * MIB


def shown(job: Job) -> dict[str, str]:
    """What the task may read: path inside to path on the host, parents first."""
    folders = [Path(sys.prefix), Path(sys.base_prefix), *map(base, job.readable), *job.readable]
    if (Path(python_of(job)).parent.parent) != Path(sys.prefix):
        folders = folders[2:]
    system = [Path(path) for path in _SYSTEM if Path(path).exists()]
    places = {str(path): str(path) for path in system}
    for folder in sorted({from_root(folder) for folder in folders}):
        if not any(folder.is_relative_to(Path(known)) for known in places):
            places[str(folder)] = str(folder)
    places[f"{PACKAGE_PARENT}/{PACKAGE.name}"] = str(PACKAGE)
    for name in ("passwd", "group"):
        places[f"/etc/{name}"] = str(PACKAGE / "enclave" / "inside" / name)
    places[f"{FOLDER}/code"] = str(job.code.resolve())
    for slot, source in job.inputs.items():
        if isinstance(source, Path):
            places[f"{INPUTS}/{slot}"] = str(source.resolve())
    return places


def base(folder: Path) -> Path:
    """Of a virtual environment, what it is made from; else the folder itself."""
    try:
        lines = (folder / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return folder
    values = dict(line.split(" = ", 1) for line in lines if " = " in line)
    # A Python in /bin is one of the system's; above it is all that the machine has.
    above = Path(values["home"]).parent if "home" in values else folder
    return folder if above == Path(above.anchor) else above


def sizes(job: Job, mounts: Collection[str] = ()) -> dict[str, int]:
    """The folders in memory that the task may write to, and their bytes.

    Args:
        mounts: Inputs that take none.
    """
    held = [
        size
        for slot, source in job.inputs.items()
        if not isinstance(source, Path) and slot not in mounts
        for _, size in source.files()
    ]
    inputs = sum(held)
    disk = job.limits.disk_bytes
    kept = {SCRATCH: disk, OUTPUTS: disk, SHARED_MEMORY: job.limits.memory_bytes}
    return kept | ({INPUTS: inputs + inputs // 8 + MIB} if held or mounts else {})


def mounts_of(job: Job, device: str = DEVICE, *, own_root: bool = True) -> dict[str, Any] | None:
    """What the supervisor is told of mounts; None where there are none.

    Raises:
        PolicyRefusal: ``executor-unavailable``.
    """
    found = mounted(job)
    files = {slot: [path for path, _ in one.files()] == [""] for slot, one in found.items()}
    told = {"folder": INPUTS, "files": files, "device": device, "own_root": own_root}
    return told if found else None


def core_dumps_leave(pattern: Path = Path("/proc/sys/kernel/core_pattern")) -> str | None:
    """Why a task that crashes would give its memory to a program outside; None where it does not.

    The kernel pipes a dump whatever the limit is, but for a limit of 1 (core(5)), and nobody in a
    sandbox can raise a hard limit of 0 to that.
    """
    piped = pattern.exists() and pattern.read_text().startswith("|")
    if piped and resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        return (
            "memory of a task that crashes would go to the program in "
            "/proc/sys/kernel/core_pattern: raise the hard limit of core files to 1 "
            "(`ulimit -H -c 1`, LimitCORE=1)"
        )
    return None


def guarded(job: Job, **more: Any) -> dict[str, Any]:
    """What the supervisor is told of a sandbox with Landlock and seccomp.

    Raises:
        PolicyRefusal: ``executor-unavailable``; see `core_dumps_leave`.
    """
    if (why := core_dumps_leave()) is not None:
        raise PolicyRefusal("executor-unavailable", f"No sandbox: {why}.")
    return spec(
        job,
        FOLDER,
        guarded=True,
        landlock=True,
        readable=[*shown(job), INPUTS, "/proc", "/dev", "/etc"],
        writable=[SCRATCH, OUTPUTS, SHARED_MEMORY, "/dev/null", "/dev/zero", "/dev/full"],
        mounted=[SCRATCH, OUTPUTS],
        **more,
    )


def control_group(job: Job, mounts: Collection[str] = ()) -> ControlGroup | None:
    """One for the job with its memory and processes; None where this user can make none."""
    folders_bytes = sum(sizes(job, mounts).values())
    memory_bytes = job.limits.memory_bytes + folders_bytes + _SUPERVISOR_BYTES
    name = f"cohortium-{secrets.token_hex(8)}"
    return ControlGroup.make(name, memory_bytes, job.limits.processes + 2)
