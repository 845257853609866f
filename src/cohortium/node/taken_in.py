"""Files on their way into the node's vault: plain ones are encrypted, vault files stay as they are.

Each is read once, in parts, and written with its digest known at the end.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from cohortium.core.model import explain
from cohortium.crypto.files import write_atomically
from cohortium.enclave.exchange import MOST_FILES, LentFile
from cohortium.errors import InputError
from cohortium.node.vault_key import VaultKey
from cohortium.vault.grants import MAX_BYTES, SUFFIX, Grants, parse_grants
from cohortium.vault.header import MAGIC
from cohortium.vault.reader import VaultReader, read_header
from cohortium.vault.storage import LocalSink, LocalSource
from cohortium.vault.writer import VaultWriter

DATA: Final = "data"
GRANTS: Final = "grants"
_BUFFER_BYTES: Final = 4 << 20
LEAST_FREE_BYTES: Final = 512 << 20
"""Of the disk, whatever the hub sends: the node's own database and journal need it."""
OnBytes = Callable[[int], None]


@dataclass(frozen=True)
class TakenIn:
    """A vault file as it lies in its folder now."""

    file: LentFile
    writer: str
    plain_bytes: int


class _Hashing(LocalSink):
    """A local file whose digest is known once it is written."""

    parallel = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sha256 = hashlib.sha256()
        self.written = 0

    def write_at(self, offset: int, data: memoryview) -> None:
        """See `cohortium.vault.storage.Sink`."""
        if offset != self.written:
            raise RuntimeError("it is hashed in order")
        super().write_at(offset, data)
        self.sha256.update(data)
        self.written += len(data)

    def named(self, path: str) -> LentFile:
        """What was written."""
        try:
            return LentFile(
                path=path,
                size_bytes=self.written,
                content_digest=f"sha256:{self.sha256.hexdigest()}",
            )
        except ValidationError as error:
            raise InputError("bad-input", f"{path!r} cannot be lent: {explain(error)}.") from error


def place(folder: Path, path: str, kind: str = DATA) -> Path:
    """Where a file of an artefact is, or its grants."""
    return folder / kind / path if path else folder / kind


def files_of(source: Path) -> dict[str, Path]:
    """The files of what is to be taken in, by relative path; of one file, under the empty path.

    Raises:
        InputError: ``not-found``; ``bad-input`` where there is nothing, too much, or something
            other than files and folders.
    """
    if source.is_file():
        return {"": source}
    if not source.is_dir():
        raise InputError("not-found", f"There is no file or folder {source}.")
    found: dict[str, Path] = {}
    for path in sorted(source.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError("bad-input", f"{path} is neither a file nor a folder.")
        if path.is_file() and not _is_grants(path):
            found[path.relative_to(source).as_posix()] = path
    if not 1 <= len(found) <= MOST_FILES:
        raise InputError("bad-input", f"{source} has {len(found)} files; 1 to {MOST_FILES} go.")
    return found


def _is_grants(path: Path) -> bool:
    return path.name.endswith(SUFFIX) and path.with_name(path.name.removesuffix(SUFFIX)).is_file()


def take_in(source: Path, path: str, folder: Path, vault: VaultKey, on_bytes: OnBytes) -> TakenIn:
    """A file as an artefact's file of that relative path.

    Raises:
        InputError: ``bad-data``; ``bad-input``.
        VerificationError: A vault file that is not intact.
        PolicyRefusal: ``not-authorised``: a vault file that this node cannot open.
    """
    target = place(folder, path)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with source.open("rb", buffering=0) as file:
            encrypted = file.read(len(MAGIC)) == MAGIC
            file.seek(0)
            put = _copy if encrypted else _encrypt
            return put(file, path, folder, vault, on_bytes)
    except OSError as error:
        raise InputError("bad-data", f"Cannot read {source}: {error.strerror}.") from error


def _encrypt(file: Any, path: str, folder: Path, vault: VaultKey, on_bytes: OnBytes) -> TakenIn:
    key, sink = vault.private, _Hashing(place(folder, path))
    plain = 0
    with VaultWriter(sink, [key.public], key.signing) as out:
        for part in parts_of(file):
            out.write(part)
            plain += len(part)
            on_bytes(len(part))
    return TakenIn(sink.named(path), key.signing.public, plain)


def _copy(file: Any, path: str, folder: Path, vault: VaultKey, on_bytes: OnBytes) -> TakenIn:
    grants = _grants_beside(Path(file.name))
    target, sink = place(folder, path), _Hashing(place(folder, path))
    try:
        for part in parts_of(file):
            sink.write_at(sink.written, memoryview(part))
            on_bytes(len(part))
        sink.commit()
    except BaseException:
        sink.discard()
        raise
    with VaultReader.open(target, vault.keyring, grants=lambda: grants) as reader:
        buffer = bytearray(_BUFFER_BYTES)
        while reader.readinto(buffer):  # every byte of it is intact
            pass
        taken = TakenIn(sink.named(path), reader.header.writer_key, reader.size)
    if grants is not None:
        write_atomically(place(folder, path, GRANTS), grants.to_bytes(), mode=0o600)
    return taken


def _grants_beside(source: Path) -> Grants | None:
    beside = source.with_name(source.name + SUFFIX)
    if not beside.is_file() or beside.stat().st_size > MAX_BYTES:
        return None
    opened = LocalSource(source)
    try:
        grants = parse_grants(beside.read_bytes())
        return grants if grants.header_digest == read_header(opened).digest else None
    finally:
        opened.close()


def parts_of(file: Any) -> Iterator[bytes]:
    """A file's bytes, in parts."""
    while part := file.read(_BUFFER_BYTES):
        yield part


def require_room(folder: Path, n_bytes: int) -> None:
    """Refuse what would fill the disk; contracts and outcomes bound what comes by no more.

    Raises:
        InputError: ``too-large``.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if n_bytes > shutil.disk_usage(folder).free - LEAST_FREE_BYTES:
        raise InputError(
            "too-large", f"{n_bytes} bytes do not fit on the node's disk beside what it needs."
        )


def sync_folder(path: Path) -> None:
    """What was renamed in it stays so after a crash of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
