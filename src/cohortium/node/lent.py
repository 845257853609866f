"""What an institution lends to tasks: encrypted for its own vault key, in a folder of the node.

    lent/NAME/lent.json      what it is
    lent/NAME/data           the vault file, or the folder of vault files
    lent/NAME/grants/...     grants of files that came encrypted, where they had any

A contract binds the digest of the ciphertext, so that nothing can be exchanged behind its back.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import threading
from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, ValidationError

from cohortium.contract.task import SlotKind
from cohortium.core.clock import Clock, Instant
from cohortium.core.dictionary import Name
from cohortium.core.model import Document, explain
from cohortium.crypto.files import write_atomically
from cohortium.crypto.signed import KeyText
from cohortium.enclave.exchange import PIECE_BYTES, Handed, LentFile, LentFiles
from cohortium.errors import CohortiumError, ConflictError, InputError, VerificationError
from cohortium.node.taken_in import (
    GRANTS,
    OnBytes,
    TakenIn,
    files_of,
    parts_of,
    place,
    sync_folder,
    take_in,
)
from cohortium.node.vault_key import VaultKey
from cohortium.vault.grants import Grants, parse_grants
from cohortium.vault.keys import Keyring, PublicKey
from cohortium.vault.reader import open_data_key, read_header
from cohortium.vault.storage import LocalSource

RECORD: Final = "lent.json"


class Lent(Document):
    """An artefact that can fill a slot.

    Attributes:
        writer: Whose signature the files have: this node's, or the enclave's that made them.
        plain_bytes: Of all files, decrypted.
        source: The name of the file or folder that it was made of.
    """

    schema_id: Literal["cohortium/lent/1"] = "cohortium/lent/1"
    name: Name
    kind: SlotKind
    files: LentFiles
    writer: KeyText
    plain_bytes: Annotated[int, Field(ge=0)]
    source: Annotated[str, StringConstraints(max_length=255)]
    added_at: Instant

    @property
    def artefact(self) -> str:
        """The digest that a contract binds."""
        return self.files.digest

    @property
    def stored_bytes(self) -> int:
        """Ciphertext."""
        return sum(one.size_bytes for one in self.files.files)


class LentFolder:
    """The artefacts of a node.

    Args:
        folder: Where they are.
        vault: For whose key they are encrypted.
    """

    def __init__(self, folder: Path, vault: VaultKey, clock: Clock) -> None:
        self._folder = folder
        self._vault = vault
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[tuple[int, int, int], Lent]] = {}

    # What there is

    def names(self) -> list[str]:
        """All, sorted."""
        found = [one.parent.name for one in self._folder.glob(f"*/{RECORD}")]
        return sorted(name for name in found if not name.startswith("."))

    def get(self, name: str) -> Lent:
        """One of them.

        Raises:
            InputError: ``not-found``; ``bad-data`` where its record cannot be read.
        """
        record = self._place(name) / RECORD
        try:
            found = record.stat()
            mark = (found.st_mtime_ns, found.st_size, found.st_ino)
            with self._lock:
                known = self._seen.get(name)
                if known is None or known[0] != mark:
                    known = mark, Lent.from_bytes(record.read_bytes())
                    self._seen[name] = known
        except FileNotFoundError as error:
            raise InputError(
                "not-found", f"This site lends nothing called {name!r}. See: cohortium lend list"
            ) from error
        except (OSError, CohortiumError) as error:
            raise InputError("bad-data", f"The record of {name} cannot be read.") from error
        return known[1]

    def find(self, artefact: str) -> Lent:
        """The one of that digest.

        Raises:
            InputError: ``not-found``.
        """
        for name in self.names():
            try:
                one = self.get(name)
            except InputError:
                continue
            if one.artefact == artefact:
                return one
        raise InputError(
            "not-found",
            f"What the contract names, {artefact[:19]}..., is not among what this site lends. "
            "See: cohortium lend list",
        )

    def _place(self, name: str) -> Path:
        if not name.isidentifier() or not name.isascii() or len(name) > 64 or name[0] == "_":
            raise InputError("bad-input", "A name is a letter, then letters, digits and _.")
        return self._folder / name

    # Adding and removing

    def add(
        self,
        name: str,
        kind: SlotKind,
        source: Path,
        on_bytes: OnBytes = lambda _n: None,
    ) -> Lent:
        """Encrypt a file or folder into the node; vault files that it can open stay as they are.

        Args:
            on_bytes: Called with the bytes read since the last call.

        Raises:
            InputError: ``not-found``, ``bad-input``, ``bad-data``.
            ConflictError: ``already-exists``.
            VerificationError: A vault file that is not intact.
            PolicyRefusal: ``not-authorised``: a vault file that this node cannot open.
        """
        target = self._place(name)
        self._require_new(target)
        paths = files_of(source)
        stage = self._folder / f".{name}.{secrets.token_hex(6)}"
        stage.mkdir(mode=0o700, parents=True)
        try:
            taken = [
                take_in(paths[path], path, stage, self._vault, on_bytes) for path in sorted(paths)
            ]
            lent = self._record(name, kind, source, taken)
            write_atomically(stage / RECORD, lent.to_bytes(), mode=0o600)
            try:
                stage.rename(target)
            except OSError:  # somebody was quicker
                self._require_new(target)
                raise
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        sync_folder(self._folder)
        return lent

    @staticmethod
    def _require_new(target: Path) -> None:
        if target.exists():
            raise ConflictError(
                "already-exists",
                f"{target.name} is lent already; remove it first, or choose another name.",
            )

    def _record(self, name: str, kind: SlotKind, source: Path, taken: list[TakenIn]) -> Lent:
        writers = {one.writer for one in taken}
        if len(writers) > 1:
            raise InputError(
                "bad-input",
                "The files are some plain and some encrypted, or of several writers; lend them "
                "apart.",
            )
        try:
            return Lent(
                name=name,
                kind=kind,
                files=LentFiles(files=tuple(one.file for one in taken)),
                writer=writers.pop(),
                plain_bytes=sum(one.plain_bytes for one in taken),
                source=source.absolute().name[-255:],
                added_at=self._clock(),
            )
        except ValidationError as error:
            raise InputError("bad-input", f"It cannot be lent: {explain(error)}.") from error

    def remove(self, name: str) -> Lent:
        """Delete the node's copy; tasks that name it can no longer run.

        Raises:
            InputError: ``not-found``.
        """
        lent = self.get(name)
        gone = self._folder / f".{name}.{secrets.token_hex(6)}"
        self._place(name).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        return lent

    # Lending

    def verify(self, lent: Lent, on_bytes: OnBytes = lambda _n: None) -> None:
        """Whether the files are still those that were added.

        Raises:
            VerificationError: ``bad-digest``.
        """
        for one in lent.files.files:
            found = hashlib.sha256()
            with self._open(lent, one) as file:
                for part in parts_of(file):
                    found.update(part)
                    on_bytes(len(part))
            if f"sha256:{found.hexdigest()}" != one.content_digest:
                raise _changed(lent)

    def require_here(self, lent: Lent) -> None:
        """Require that all files are there and as long as they were.

        Raises:
            VerificationError: ``bad-digest``.
        """
        for one in lent.files.files:
            self._open(lent, one).close()

    def piece(self, lent: Lent, digest: str, offset: int) -> tuple[bytes, int]:
        """Ciphertext of one of its files from a place on, and the file's size.

        Args:
            digest: Of the ciphertext: the file's name is nobody's business on the way.

        Raises:
            InputError: ``not-found``; ``bad-input`` for a place behind the end.
            VerificationError: ``bad-digest`` where it is not as it was.
        """
        one = next((one for one in lent.files.files if one.content_digest == digest), None)
        if one is None:
            raise InputError("not-found", f"{lent.name} has no file of that digest.")
        if not 0 <= offset < one.size_bytes:
            raise InputError("bad-input", "The file ends before that place.")
        with self._open(lent, one) as file:
            return os.pread(file.fileno(), PIECE_BYTES, offset), one.size_bytes

    def handed(self, lent: Lent, recipient: PublicKey) -> Handed:
        """What opens it for a recipient.

        Raises:
            VerificationError: ``bad-digest``, ``bad-vault-file``: it is not as it was.
            PolicyRefusal: ``not-authorised``: this node's key does not open it.
        """
        keyring = self._vault.keyring
        granted = {
            one.path: self._granted(lent, one, keyring, recipient) for one in lent.files.files
        }
        grants = {path: b64encode(made).decode() for path, made in granted.items()}
        return Handed(files=lent.files, grants=grants, writer=lent.writer)

    def _granted(self, lent: Lent, one: LentFile, keyring: Keyring, to: PublicKey) -> bytes:
        folder = self._place(lent.name)
        self._open(lent, one).close()
        source = LocalSource(place(folder, one.path))
        try:
            header = read_header(source)
        finally:
            source.close()
        if header.writer_key != lent.writer:
            raise _changed(lent)

        def beside() -> Grants | None:
            grants = place(folder, one.path, GRANTS)
            return parse_grants(grants.read_bytes()) if grants.is_file() else None

        data_key = open_data_key(header, keyring, beside)
        return Grants(header.digest).add(data_key, [to]).to_bytes()

    def _open(self, lent: Lent, one: LentFile) -> Any:
        try:
            descriptor = os.open(
                place(self._place(lent.name), one.path),
                os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC,
            )
        except OSError as error:
            raise _changed(lent) from error
        file = os.fdopen(descriptor, "rb", buffering=0)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != one.size_bytes:
            file.close()
            raise _changed(lent)
        return file


def _changed(lent: Lent) -> VerificationError:
    return VerificationError(
        "bad-digest",
        f"The files of {lent.name} are not those that were lent: put the folder back from a copy, "
        "or lend them anew under another name.",
    )
