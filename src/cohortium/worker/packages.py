"""Python packages of tasks: one environment for each lock file, made by the enclave's operator.

A program that has ``requirements.lock`` gets the environment of that very file, known by its
digest, and is refused where there is none; nothing is installed while a task runs. A program
without one gets the environment of the enclave itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from cohortium.core.canonical import canonical, digest_bytes, parse_json
from cohortium.core.clock import Clock, system_clock, to_rfc3339
from cohortium.crypto.files import write_private
from cohortium.errors import ConflictError, InputError, PolicyRefusal, ProtocolError

LOCK: Final = "requirements.lock"
_RECORD: Final = "packages.json"
_LARGEST_LOCK_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class PackageSet:
    """An environment of packages.

    Attributes:
        digest: Of the lock file.
        packages: Name and version of what is in it.
        hashed: Whether the lock file names what it installs by hash, not by version alone.
    """

    digest: str
    path: Path
    added_at: str
    packages: tuple[str, ...]
    hashed: bool

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**vars(self), "path": str(self.path), "packages": list(self.packages)}


class PackageSets:
    """The environments in a folder, each in a folder named by its lock file's digest."""

    def __init__(self, folder: Path, clock: Clock = system_clock) -> None:
        self._folder = folder
        self._clock = clock

    def all(self) -> list[PackageSet]:
        """Those that are complete, oldest first."""
        found = [self._read(path.parent) for path in self._folder.glob(f"[0-9a-f]*/{_RECORD}")]
        return sorted(found, key=lambda one: (one.added_at, one.digest))

    def of_program(self, files: Mapping[str, bytes]) -> tuple[Path, ...]:
        """What a program needs to read besides itself.

        Args:
            files: The program's by relative path.

        Raises:
            PolicyRefusal: ``packages-missing``.
        """
        lock = files.get(LOCK)
        if lock is None:
            return ()
        digest = digest_bytes(lock)
        place = self._place(digest)
        if not (place / _RECORD).exists():
            raise PolicyRefusal(
                "packages-missing",
                f"The program locks packages ({digest}) that this enclave does not have. Its "
                f"operator adds them with: cohortium enclave packages add {LOCK} --dir DIR",
                lock=digest,
            )
        return (place,)

    def add(self, lock: Path, wheels: Path | None = None) -> PackageSet:
        """Make the environment of a lock file.

        Args:
            wheels: A folder of wheels; nothing is then fetched from anywhere.

        Raises:
            InputError: ``not-found``, ``too-large``; ``bad-data`` where pip cannot install it.
            ConflictError: ``already-exists``.
        """
        content = _content(lock)
        digest = digest_bytes(content)
        place = self._place(digest)
        if (place / _RECORD).exists():
            raise ConflictError("already-exists", f"There is an environment of {digest} already.")
        if wheels is not None and not wheels.is_dir():
            raise InputError("not-found", f"There is no folder {wheels}.")
        shutil.rmtree(place, ignore_errors=True)  # what a kill left behind
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            # Made where it stays: an environment has its own path in its files.
            venv.EnvBuilder(symlinks=True, with_pip=False).create(place)
            _install(place, lock, wheels)
            packages = _packages(place)
            record = {
                "digest": digest,
                "added_at": to_rfc3339(self._clock()),
                "packages": packages,
                "hashed": b"--hash=" in content,
            }
            write_private(place / _RECORD, canonical(record))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return self._read(place)

    def remove(self, digest: str) -> PackageSet:
        """Remove one.

        Args:
            digest: Of the lock file, or its first digits where no other begins so.

        Raises:
            InputError: ``not-found``.
        """
        wanted = digest.removeprefix("sha256:")
        found = [one for one in self.all() if one.path.name.startswith(wanted)]
        if not wanted or len(found) != 1:
            raise InputError(
                "not-found",
                f"{len(found)} environments have a digest that begins with {digest[:80]!r}; see: "
                "cohortium enclave packages list",
            )
        (found[0].path / _RECORD).unlink()  # from here on it is none
        shutil.rmtree(found[0].path)
        return found[0]

    def _place(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def _read(self, place: Path) -> PackageSet:
        try:
            said = parse_json((place / _RECORD).read_bytes())
            return PackageSet(
                digest=str(said["digest"]),
                path=place,
                added_at=str(said["added_at"]),
                packages=tuple(str(one) for one in said["packages"]),
                hashed=bool(said["hashed"]),
            )
        except (OSError, ProtocolError, KeyError, TypeError) as error:
            raise InputError(
                "bad-config", f"{place / _RECORD} cannot be read; remove {place}."
            ) from error


def _content(lock: Path) -> bytes:
    try:
        with lock.open("rb") as file:
            content = file.read(_LARGEST_LOCK_BYTES + 1)
    except OSError as error:
        raise InputError("not-found", f"Cannot read the lock file {lock}.") from error
    if len(content) > _LARGEST_LOCK_BYTES:
        raise InputError("too-large", f"{lock} is too long for a lock file.")
    return content


def _install(place: Path, lock: Path, wheels: Path | None) -> None:
    """By this process's pip, so that the environment holds what is locked and nothing else."""
    if find_spec("pip") is None:
        raise InputError(
            "missing-extra", "pip is not installed beside cohortium: python -m ensurepip"
        )
    command = [
        *(sys.executable, "-I", "-m", "pip", "--python", str(place / "bin" / "python")),
        *("--disable-pip-version-check", "--no-input", "install"),
        *("--only-binary", ":all:", "--no-deps", "--requirement", str(lock)),
    ]
    if wheels is not None:
        command += ["--no-index", "--find-links", str(wheels)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"},
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise InputError(
            "bad-data",
            f"pip cannot install {lock}: {' '.join(lines[-3:])[:600] or 'it says nothing'}. "
            "A lock file names every package with its version; wheels only, and for this Python.",
        )


def _packages(place: Path) -> list[str]:
    from importlib.metadata import distributions

    where = [str(path) for path in place.glob("lib/python*/site-packages")]
    found = {f"{one.name}=={one.version}" for one in distributions(path=where)}
    return sorted(found, key=str.lower)
