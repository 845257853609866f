"""Whether the kernel lets this user make namespaces."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

_TRY = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from cohortium.enclave.inside.namespaces import enter; enter()"
)


_TRY_MOUNT = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); "
    "from cohortium.enclave.inside import namespaces; namespaces.enter(); "
    "device = os.open('/dev/fuse', os.O_RDWR); "
    "namespaces.mount_connection(device, '/', '40500')"
)


@cache
def namespaces_refused() -> str | None:
    """Why not; None where it does. Tried in a process of its own, once."""
    said = _tried(_TRY)
    if said is None:
        return None
    return (
        f"the kernel lets this user make no namespaces ({said}); see "
        "user.max_user_namespaces, kernel.unprivileged_userns_clone and AppArmor"
    )


@cache
def mounts_refused() -> str | None:
    """Why this user cannot mount what a program answers (FUSE); None where he can."""
    said = _tried(_TRY_MOUNT)
    return None if said is None else f"this user can mount nothing with /dev/fuse ({said})"


def _tried(program: str) -> str | None:
    """Its last words, where it failed."""
    from cohortium.enclave.supervised import PACKAGE

    tried = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(PACKAGE.parent)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().splitlines()
    return said[-1] if said else "killed"
