"""Write constraints.txt: the exact version of everything that `.[dev]` installs.

Resolves in a temporary virtual environment from whatever index pip is configured with; only names
and versions are written, never where they came from.

    python tools/constraints.py constraints.txt
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

HEADER = """\
# Exact versions of everything that `pip install -c constraints.txt -e .[dev]` installs.
# Written by `make constraints`; do not edit by hand.
"""

NOT_INSTALLED = (
    "# Not installed now; held for those who have them beside Cohortium.",
    "datafusion<51  # ibis 12 does not work with later ones",
    "torch==2.13.0",
    "paddlepaddle==3.3.1",
    "xgboost==3.2.0",
    "tpm2-pytss==3.0.0",
    "mpmath<1.4  # sympy, which torch needs, does not work with later ones",
)


def resolve() -> list[str]:
    """``name==version`` of all that a fresh environment gets, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        held = Path(folder, "held.txt")
        held.write_text("\n".join(NOT_INSTALLED[1:]) + "\n")
        pip = [python, "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip>=25"], check=True)
        subprocess.run([*pip, "install", "-c", str(held), "-e", f"{ROOT}[dev]"], check=True)
        frozen = subprocess.run(
            [*pip, "freeze", "--exclude-editable", "--exclude", "cohortium"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
    return [name_and_version(line) for line in frozen if not line.startswith("#")]


def name_and_version(line: str) -> str:
    """The line of `pip freeze`, refused where it names a file or a host."""
    if "==" not in line or "@" in line or "/" in line:
        raise SystemExit(f"not an exact version: {line}")
    return line.strip()


def main() -> None:
    """Write the file named on the command line."""
    (target,) = sys.argv[1:]
    lines = [HEADER, *(f"{line}\n" for line in resolve()), *(f"{line}\n" for line in NOT_INSTALLED)]
    Path(target).write_text("".join(lines))


if __name__ == "__main__":
    main()
