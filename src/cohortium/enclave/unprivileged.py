"""Whether the kernel lets this user make namespaces."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

_TRY = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from cohortium.enclave.inside.namespaces import enter; enter()"
)


@cache
def namespaces_refused() -> str | None:
    """Why not; None where it does. Tried in a process of its own, once."""
    from cohortium.enclave.supervised import PACKAGE

    tried = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _TRY, str(PACKAGE.parent)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if tried.returncode == 0:
        return None
    said = tried.stderr.strip().splitlines()
    return (
        f"the kernel lets this user make no namespaces ({said[-1] if said else 'killed'}); see "
        "user.max_user_namespaces, kernel.unprivileged_userns_clone and AppArmor"
    )
