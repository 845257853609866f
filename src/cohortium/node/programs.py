"""Programs of proposed and signed tasks, so that a steward can read what would run.

    code/HEX/...     the files of the program whose digest is sha256:HEX

Nothing of them is run by the node.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Final

from cohortium.contract.code import MAX_CODE_BYTES, files_below, unpack
from cohortium.contract.model import Contract
from cohortium.contract.task import code_digest
from cohortium.errors import CohortiumError, InputError, VerificationError
from cohortium.node.taken_in import require_room, sync_folder

_PREFIX: Final = "sha256:"


def custom(contract: Contract) -> frozenset[str]:
    """Digests of a contract's programs that are not Cohortium's own."""
    return frozenset(task.code.content_digest for task in contract.tasks if not task.code.built_in)


class Programs:
    """The programs that this node has.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, digest: str) -> bool:
        """Whether a program has arrived."""
        return self._place(digest).is_dir()

    def put(self, digest: str, archive: bytes) -> None:
        """Keep a program that was fetched.

        Raises:
            ProtocolError: ``malformed-message``: it is no archive of a program.
            VerificationError: ``bad-digest``: it is another one.
            InputError: ``too-large``: the disk has no room for it.
        """
        require_room(self._folder, MAX_CODE_BYTES)
        place = self._place(digest)
        stage = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
        try:
            unpack(archive, stage, digest)
            if not place.exists():
                stage.rename(place)
                sync_folder(self._folder)
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def files(self, digest: str) -> dict[str, bytes]:
        """The files of a program by relative path; they are what the digest names.

        Raises:
            InputError: ``not-found`` where it has not arrived.
            VerificationError: ``bad-digest`` where it was altered here.
        """
        if not self.has(digest):
            raise InputError(
                "not-found",
                "The program has not arrived here yet; the serving node fetches it from the hub.",
            )
        try:
            files = files_below(self._place(digest))
        except CohortiumError as error:
            raise _altered() from error
        if code_digest(files) != digest:
            raise _altered()
        return files

    def copy(self, digest: str, target: Path) -> list[str]:
        """Write a program into a new folder; returns the relative paths.

        Raises:
            InputError: ``not-found``; ``bad-input`` where the folder has content.
            VerificationError: ``bad-digest``.
        """
        files = self.files(digest)
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise InputError("bad-input", f"{target} is not empty.")
        for name, content in files.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return sorted(files)

    def _place(self, digest: str) -> Path:
        return self._folder / digest.removeprefix(_PREFIX)


def _altered() -> VerificationError:
    return VerificationError(
        "bad-digest",
        "The node's copy of the program was altered; delete its folder, and it is fetched again.",
    )
