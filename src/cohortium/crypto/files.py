"""Files that survive a crash whole, and private ones that only their owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cohortium.errors import InputError


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
