"""Gramine: a program in an SGX enclave (L4, L5). Its manifest is generated, and checked.

Reference: Gramine 1.9, "Manifest syntax" and "Attestation and secret provisioning".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

from cohortium.contract.task import MIB
from cohortium.enclave.enclosed import CODE, LIBRARIES, Enclosed, enclave_bytes
from cohortium.enclave.executor import Prepared
from cohortium.enclave.executors.generated import Generated
from cohortium.enclave.gramine_manifest import require_sound, to_toml
from cohortium.enclave.job import Job
from cohortium.enclave.sandbox import INPUTS, OUTPUTS, SCRATCH

RUNTIME: Final = "/usr/lib/x86_64-linux-gnu/gramine"
"""Where Gramine's packages put it."""
MANIFEST: Final = "task.manifest"
_HELPER_THREADS: Final = 4
"""Of Gramine itself, as its documents say; with EDMM more are added as they are needed."""


class Gramine(Generated):
    """Generates an enclave's manifest: nothing is allowed that is not measured or encrypted."""

    name: ClassVar[str] = "gramine"
    tools: ClassVar[tuple[str, ...]] = ("gramine-sgx", "gramine-sgx-sign")
    source: ClassVar[str] = "packages.gramineproject.io"

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`."""
        text = to_toml(_manifest(job)).encode()
        require_sound(text)
        return Prepared(job, {MANIFEST: text})


def key_name(kind: str, slot: str) -> str:
    """The name of the key of an input or output, as what runs first in the enclave sets it."""
    return f"cohortium_{kind}_{slot}"


def _manifest(job: Job) -> dict[str, Any]:
    inside = Enclosed.of(job)
    beside = sorted({str(Path(one).parent) for one in inside.folders if ".so" in Path(one).name})
    libraries = {"LD_LIBRARY_PATH": ":".join(("/lib", *LIBRARIES, *beside))}
    return {
        "libos": {"entrypoint": inside.python},
        "loader": {
            "entrypoint": {"uri": f"file:{RUNTIME}/libsysdb.so"},
            "argv": list(inside.argv),
            "env": inside.environment | libraries,
            "log_level": "error",
            "uid": 1000,
            "gid": 1000,
        },
        "fs": {"start_dir": SCRATCH, "mounts": _mounts(job, inside)},
        "sys": {
            "stack": {"size": "2M"},
            "disallow_subprocesses": job.limits.processes == 1,
        },
        "sgx": {
            "debug": False,
            "edmm_enable": True,
            "enclave_size": f"{enclave_bytes(job) // MIB}M",
            "file_check_policy": "strict",
            "max_threads": _HELPER_THREADS,
            "remote_attestation": "dcap",
            "trusted_files": _trusted(inside),
        },
    }


def _mounts(job: Job, inside: Enclosed) -> list[dict[str, str]]:
    """In the order in which they are mounted: a folder before what lies in it."""
    shown = {"/lib": f"{RUNTIME}/runtime/glibc", **{path: path for path in LIBRARIES}}
    out = [{"type": "chroot", "path": path, "uri": f"file:{host}"} for path, host in shown.items()]
    out += [
        {"type": "chroot", "path": path, "uri": _uri(path, host)}
        for path, host in sorted(inside.folders.items())
    ]
    for kind, folder, slots in (("input", INPUTS, job.inputs), ("output", OUTPUTS, job.outputs)):
        out += [
            {
                "type": "encrypted",
                "path": f"{folder}/{slot}",
                "uri": f"file:{kind}s/{slot}",
                "key_name": key_name(kind, slot),
            }
            for slot in sorted(slots)
        ]
    return [*out, {"type": "tmpfs", "path": SCRATCH}]


def _uri(inside: str, host: str) -> str:
    """Beside the manifest, so that MRENCLAVE does not tell where the code lay."""
    if inside == CODE or inside.startswith(f"{CODE}/"):
        return f"file:code{inside.removeprefix(CODE)}"
    return f"file:{host}"


def _trusted(inside: Enclosed) -> list[Any]:
    """Files by digest; of the system's and Gramine's libraries the signer takes the digests."""
    system = [f"file:{path}/" for path in (f"{RUNTIME}/runtime/glibc", *LIBRARIES)]
    files = {_uri(one.inside, one.host): one.sha256 for one in inside.files}
    return [*system, *({"uri": uri, "sha256": found} for uri, found in sorted(files.items()))]
