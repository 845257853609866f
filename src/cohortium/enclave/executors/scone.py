"""SCONE: a program in an SGX enclave (L4, L5); its session policy is generated.

Reference: SCONE documentation, "SCONE Session Language (v0.3)".
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from cohortium.enclave.enclosed import Enclosed, enclave_bytes
from cohortium.enclave.executor import Prepared
from cohortium.enclave.executors.generated import Generated
from cohortium.enclave.job import Job
from cohortium.enclave.manifest import digest as code_digest
from cohortium.enclave.plain_yaml import to_yaml
from cohortium.enclave.sandbox import INPUTS, OUTPUTS, SCRATCH
from cohortium.errors import InputError

SESSION: Final = "session.yaml"
_WORD: Final = re.compile(r"^[A-Za-z0-9_@%+=:,./-]+$")
_IMAGE: Final = "task_image"


class Scone(Generated):
    """Generates a session; what only SCONE's tools know stands in it as a variable.

    ``scone session create --use-env`` fills in ``$MRENCLAVE``, and key and tag of the encrypted
    image (``$SCONE_FSPF_KEY``, ``$SCONE_FSPF_TAG``), which `scone fspf encrypt` printed.
    """

    name: ClassVar[str] = "scone"
    tools: ClassVar[tuple[str, ...]] = ("scone",)
    source: ClassVar[str] = "scontain.com, by subscription"

    def prepare(self, job: Job) -> Prepared:
        """See `Executor`."""
        return Prepared(job, {SESSION: to_yaml(_session(job)).encode()})


def _session(job: Job) -> dict[str, Any]:
    inside = Enclosed.of(job)
    for word in inside.argv:
        if not _WORD.match(word):
            raise InputError("bad-input", f"SCONE's command line cannot hold {word[:80]!r}.")
    environment = inside.environment | {
        "SCONE_MODE": "hw",
        "SCONE_HEAP": str(enclave_bytes(job)),
        "SCONE_ALLOW_DLOPEN": "1",
        "SCONE_FORK": "0" if job.limits.processes == 1 else "1",
    }
    for name, value in environment.items():
        if "$" in value:
            raise InputError("bad-input", f"SCONE would fill in the $ in {name}; leave it out.")
    slots = [(f"input_{slot}", f"{INPUTS}/{slot}") for slot in sorted(job.inputs)]
    slots += [(f"output_{slot}", f"{OUTPUTS}/{slot}") for slot in sorted(job.outputs)]
    code = code_digest(job.code).removeprefix("sha256:")
    return {
        "name": f"cohortium-task-{code[:32]}",
        "version": "0.3",
        "access_policy": {"read": ["CREATOR"], "update": ["NONE"]},
        "services": [
            {
                "name": "task",
                "image_name": _IMAGE,
                "mrenclaves": ["$MRENCLAVE"],
                "command": " ".join(inside.argv),
                "pwd": SCRATCH,
                "environment": environment,
                "fspf_path": "/fspf/fs.fspf",
                "fspf_key": "$SCONE_FSPF_KEY",
                "fspf_tag": "$SCONE_FSPF_TAG",
            }
        ],
        "images": [
            {"name": _IMAGE, "volumes": [{"name": name, "path": path} for name, path in slots]}
        ],
        "volumes": [{"name": name} for name, _ in slots],
        "security": {"attestation": {"tolerate": [], "ignore_advisories": []}},
    }
