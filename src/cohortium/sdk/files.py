"""Where a result is written to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cohortium.errors import InputError


def require_folder(path: Path) -> None:
    """Before anything is spent on what cannot be written.

    Raises:
        InputError: ``bad-input``.
    """
    if not path.parent.is_dir():
        raise InputError("bad-input", f"There is no folder {path.parent}; make it first.")
    if path.is_dir():
        raise InputError("bad-input", f"{path} is a folder; name a file in it.")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which folder there is not, or that the file may not be written.

    Raises:
        InputError: ``bad-input``.
    """
    require_folder(path)
    try:
        yield
    except PermissionError as error:
        raise InputError("bad-input", f"{path} may not be written by this user.") from error
