"""A vault's files as a task's inputs and outputs: on no disk between vault and sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from cohortium.errors import InputError
from cohortium.vault.filesystem import VaultFileSystem

_CHUNK_BYTES: Final = 1 << 20


class VaultedInput:
    """A file or folder of a vault; see `cohortium.enclave.job.Source`.

    Raises:
        InputError: ``not-found``.
        VerificationError: On any use, where a file is not what its header says.
    """

    def __init__(self, vault: VaultFileSystem, path: str) -> None:
        self._vault = vault
        self._top = path.rstrip("/")
        if not vault.exists(path):
            raise InputError("not-found", f"There is nothing at {path} in the vault.")
        self._is_file = vault.isfile(path)

    def files(self) -> Iterable[tuple[str, int]]:
        """Relative path and size of each, from verified headers."""
        if self._is_file:
            return [("", self._size(self._top))]
        found = sorted(self._vault.find(self._top))
        top = PurePosixPath(self._vault.info(self._top)["name"])
        return [
            (PurePosixPath(path).relative_to(top).as_posix(), self._size(path)) for path in found
        ]

    def _size(self, path: str) -> int:
        with self._vault.open(path) as file:
            return int(file.size)

    def chunks(self, path: str) -> Iterator[bytes]:
        """The content of one; every chunk was verified."""
        with self._vault.open(f"{self._top}/{path}" if path else self._top) as file:
            while part := file.read(_CHUNK_BYTES):
                yield part


class VaultedOutputs:
    """Encrypts outputs below a folder of a vault; see `cohortium.enclave.job.Sink`."""

    def __init__(self, vault: VaultFileSystem, folder: str) -> None:
        self._vault = vault
        self._folder = folder.rstrip("/")
        self._file: Any = None

    def begin(self, slot: str, path: str, size_bytes: int) -> None:
        """See `Sink`."""
        del size_bytes
        place = f"{self._folder}/{slot}/{path}"
        self._vault.makedirs(place.rpartition("/")[0], exist_ok=True)
        self._file = self._vault.open(place, "xb")

    def write(self, data: bytes) -> None:
        """See `Sink`."""
        self._file.write(data)

    def end(self) -> None:
        """See `Sink`."""
        self._file.close()
