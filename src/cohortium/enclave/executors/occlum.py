"""Occlum: a program in an SGX enclave (L4, L5); its settings and its image are generated.

Reference: Occlum 0.31, "Occlum configuration", "Copy Bom" and "Mount support".
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any, ClassVar, Final

from cohortium.contract.task import MIB
from cohortium.enclave.enclosed import Enclosed, Measured, enclave_bytes
from cohortium.enclave.executor import Prepared
from cohortium.enclave.executors.generated import Generated
from cohortium.enclave.job import Job
from cohortium.enclave.plain_yaml import to_yaml
from cohortium.enclave.sandbox import INPUTS, OUTPUTS, SCRATCH
from cohortium.errors import InputError

SETTINGS: Final = "Occlum.json"
IMAGE: Final = "bom.yaml"
_FIRST_THREADS: Final = 16
_KERNEL_THREADS: Final = 16


class Occlum(Generated):
    """Generates an instance's settings, and the list of the files in its image with digests."""

    name: ClassVar[str] = "occlum"
    tools: ClassVar[tuple[str, ...]] = ("occlum", "copy_bom")
    source: ClassVar[str] = "occlum.io"

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`."""
        inside = Enclosed.of(job)
        settings = json.dumps(_settings(job, inside), indent=2, sort_keys=True)
        image = to_yaml(_image(job, inside))
        return Prepared(job, {SETTINGS: f"{settings}\n".encode(), IMAGE: image.encode()})


def _settings(job: Job, inside: Enclosed) -> dict[str, Any]:
    size = f"{enclave_bytes(job) // MIB}MB"
    unnamed = {"high": "0x0", "low": "0x0"}
    return {
        "resource_limits": {
            "kernel_space_heap_size": "32MB",
            "kernel_space_heap_max_size": "1024MB",
            "kernel_space_stack_size": "1MB",
            "user_space_size": "64MB",
            "user_space_max_size": size,
            "init_num_of_threads": _FIRST_THREADS,
            "max_num_of_threads": job.limits.processes + _KERNEL_THREADS,
        },
        "process": {
            "default_stack_size": "8MB",
            "default_heap_size": "64MB",
            "default_mmap_size": size,
        },
        "entry_points": [str(PurePosixPath(inside.python).parent)],
        "env": {
            "default": [f"{name}={value}" for name, value in inside.environment.items()],
            "untrusted": [],
        },
        "metadata": {
            "product_id": 0,
            "version_number": 0,
            "debuggable": False,
            "disable_log": True,
            "enable_kss": False,
            "family_id": unnamed,
            "ext_prod_id": unnamed,
        },
        "feature": {
            "amx": 0,
            "pkru": 0,
            "io_uring": 0,
            "enable_edmm": True,
            "enable_posix_shm": False,
        },
        "mount": _mounts(),
    }


def _mounts() -> list[dict[str, Any]]:
    """No folder of the host. Inputs and outputs are mounted inside, once their keys are there."""
    image = {
        "target": "/",
        "type": "sefs",
        "source": "./build/mount/__ROOT",
        "options": {"MAC": ""},
    }
    written = {
        "target": "/",
        "type": "sefs",
        "source": "./run/mount/__ROOT",
        "options": {"temporary": True},
    }
    return [
        {"target": "/", "type": "unionfs", "options": {"layers": [image, written]}},
        {"target": "/proc", "type": "procfs"},
        {"target": "/dev", "type": "devfs"},
    ]


def _image(job: Job, inside: Enclosed) -> dict[str, Any]:
    folders = [SCRATCH, *(f"{INPUTS}/{slot}" for slot in sorted(job.inputs))]
    folders += [f"{OUTPUTS}/{slot}" for slot in sorted(job.outputs)]
    places: dict[tuple[str, str], list[Measured]] = {}
    for one in inside.files:
        if "$" in one.host:
            raise InputError("bad-input", f"Occlum cannot copy {one.host}: it has a $ in its name.")
        to, origin = PurePosixPath(one.inside), PurePosixPath(one.host)
        places.setdefault((str(to.parent), str(origin.parent)), []).append(one)
    copied = [
        {
            "target": target,
            "copy": [{"from": origin, "files": [_file(one) for one in files]}],
        }
        for (target, origin), files in sorted(places.items())
    ]
    made = {"target": "/", "mkdirs": [folder.lstrip("/") for folder in folders]}
    return {"includes": ["base.yaml"], "targets": [made, *copied]}


def _file(one: Measured) -> dict[str, str]:
    inside, host = PurePosixPath(one.inside).name, PurePosixPath(one.host).name
    # copy_bom compares with upper-case digits.
    out = {"name": host, "hash": one.sha256.upper()}
    return out if inside == host else out | {"rename": inside}
