"""Files that survive a crash whole, and private ones that only their owner can read."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cohortium.errors import ConflictError, InputError


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that a crash leaves the old content or the new, durable on return."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def held_alone(path: Path, served: str) -> Iterator[None]:
    """Hold a lock file for the one process that serves; the kernel lets go of it at its end.

    Args:
        served: What is served, for the message: ``This hub``.

    Raises:
        ConflictError: ``wrong-state`` where another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConflictError("wrong-state", f"{served} is being served already.") from error
        yield
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """`write_atomically` with mode 0600."""
    write_atomically(path, data, mode=0o600)


def read_private(path: Path) -> bytes:
    """Read a secret; refuse one that others could have read.

    Raises:
        InputError: ``not-found`` or ``bad-config``.
    """
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise InputError("not-found", f"Cannot read the key file {path}.") from error
    if mode & 0o077:
        raise InputError("bad-config", f"{path} can be read by others; run: chmod 600 {path}")
    return data
