"""A vault's files as a task's inputs and outputs: on no disk between vault and sandbox."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, Final

from cohortium.errors import InputError
from cohortium.vault.filesystem import VaultFileSystem
from cohortium.vault.reader import VaultReader

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
        self._found: dict[str, tuple[int, bytes]] | None = None

    def files(self) -> Iterable[tuple[str, int]]:
        """Relative path and size of each, from verified headers; the same at every call."""
        if self._found is None:
            self._found = {path: self._header(path) for path in self._names()}
        return [(path, size) for path, (size, _) in self._found.items()]

    def chunks(self, path: str) -> Iterator[bytes]:
        """The content of one; every chunk was verified."""
        with self.open(path) as file:
            while part := file.read(_CHUNK_BYTES):
                yield part

    def open(self, path: str) -> VaultReader:
        """One of `files`, to read at any place.

        Raises:
            InputError: ``bad-data``: it is another version than `files` found.
        """
        reader: VaultReader = self._vault.open(self._full(path))
        known = (self._found or {}).get(path)
        if known is not None and known[1] != reader.header.digest:
            reader.close()
            raise InputError("bad-data", "An input was changed while it was read; start again.")
        return reader

    def _names(self) -> list[str]:
        if self._is_file:
            return [""]
        top = PurePosixPath(self._vault.info(self._top)["name"])
        found = sorted(self._vault.find(self._top))
        return [PurePosixPath(path).relative_to(top).as_posix() for path in found]

    def _header(self, path: str) -> tuple[int, bytes]:
        with self._vault.open(self._full(path)) as file:
            return int(file.size), file.header.digest

    def _full(self, path: str) -> str:
        return f"{self._top}/{path}" if path else self._top


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
