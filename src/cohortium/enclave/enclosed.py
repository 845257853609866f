"""What of a job goes into an SGX enclave: its program, and the Python that runs it, by digest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cohortium.contract.task import MIB
from cohortium.enclave.job import Job
from cohortium.enclave.sandbox import FOLDER, base
from cohortium.enclave.supervised import python_of, spec
from cohortium.errors import InputError

LIBRARIES: Final = ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu")
CODE: Final = f"{FOLDER}/code"
_SYSTEM: Final = Path("/usr")
_CHUNK_BYTES: Final = MIB
_RUNTIME_BYTES: Final = 256 * MIB


@dataclass(frozen=True, order=True)
class Measured:
    """A file that the enclave may open, and what must be in it.

    Attributes:
        inside: Its path in the enclave.
    """

    inside: str
    host: str
    sha256: str


@dataclass(frozen=True)
class Enclosed:
    """A job as an enclave runs it.

    Attributes:
        python: Its interpreter's file; `argv` may name a link to it.
        folders: Path inside to folder or file on the host, of code and Python.
        files: All in them but compiled caches, sorted.
    """

    python: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    folders: dict[str, str]
    files: tuple[Measured, ...]

    @classmethod
    def of(cls, job: Job) -> Enclosed:
        """What a job needs.

        Raises:
            InputError: ``bad-input``: it does not start with Python, or has what no file of
                settings can hold.
        """
        if not job.argv or job.argv[0] != "{python}":
            raise InputError("bad-input", "In an enclave a task's command begins with {python}.")
        folders = _python_folders(job) | {CODE: str(job.code.resolve())}
        environment = dict(sorted(spec(job, FOLDER)["environment"].items()))
        argv = tuple(job.command(FOLDER, str(python_of(job))))
        _require_plain(argv, environment, (*job.inputs, *job.outputs))
        # A virtual environment's packages stand in for those beside the standard library.
        own = any(path.endswith("/pyvenv.cfg") for path in folders)
        files = [
            one
            for inside, host in folders.items()
            for one in _measured(inside, Path(host), _unused(Path(host), own))
        ]
        python = str(python_of(job).resolve())
        return cls(python, argv, environment, folders, tuple(sorted(set(files))))


def enclave_bytes(job: Job) -> int:
    """Memory of its enclave: a power of two, as SGX has it."""
    needed = job.limits.memory_bytes + job.limits.disk_bytes + _RUNTIME_BYTES
    return 1 << (needed - 1).bit_length()


def _python_folders(job: Job) -> dict[str, str]:
    """The interpreter, its standard library, and the packages of the job's environment."""
    python = python_of(job)
    real = python.resolve()
    environment = python.parent.parent
    standard = base(environment)
    found = {real, python, standard / "lib" / real.name, *(standard / "lib").glob("libpython*.so*")}
    if environment != standard:
        found |= {environment / "lib", environment / "pyvenv.cfg"}
    elif environment != _SYSTEM:
        found.add(environment / "lib")
    outer = {one for one in found if one.exists() and not set(one.parents) & found}
    return {str(path): str(path) for path in sorted(outer)}


def _unused(host: Path, own: bool) -> frozenset[str]:
    standard = own and host.name.startswith("python") and host.parent.name == "lib"
    return frozenset({"__pycache__", *(("site-packages", "test") if standard else ())})


def _measured(inside: str, host: Path, unused: frozenset[str]) -> Iterator[Measured]:
    if host.is_file():
        yield Measured(inside, str(host), _sha256(host))
        return
    for parent, folders, names in os.walk(host):
        folders[:] = sorted(set(folders) - unused)
        for name in sorted(names):
            file = Path(parent) / name
            if file.is_file():
                path = file.relative_to(host).as_posix()
                yield Measured(f"{inside}/{path}", str(file), _sha256(file))


def _sha256(file: Path) -> str:
    found = sha256()
    with file.open("rb") as opened:
        while part := opened.read(_CHUNK_BYTES):
            found.update(part)
    return found.hexdigest()


def _require_plain(
    argv: tuple[str, ...], environment: dict[str, str], slots: tuple[str, ...]
) -> None:
    for text in (*argv, *environment, *environment.values(), *slots):
        try:
            plain = "\0" not in text and bool(text.encode())
        except UnicodeEncodeError:
            plain = False
        if not plain and text:
            raise InputError("bad-input", "The task's command or environment has a bad character.")
    for name in environment:
        if not name.isascii() or not name.isidentifier():
            raise InputError("bad-input", f"{name[:80]!r} is no name of an environment variable.")
    for name in slots:
        if not name.isascii() or not name.replace("-", "_").isidentifier():
            raise InputError("bad-input", f"{name[:80]!r} is no name of a slot.")
