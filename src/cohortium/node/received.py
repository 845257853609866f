"""Outputs of tasks that are for this institution: ciphertext, until a steward opens it.

    received/RUN/received.json     what there is, and the enclave's signed outcome
    received/RUN/SLOT/data         the vault file: an archive of the output's files

A run appears once all that it gave is here and is what its enclave signed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from cohortium.contract.model import StudyId
from cohortium.contract.task import TaskName
from cohortium.core.clock import Instant
from cohortium.core.dictionary import Label
from cohortium.core.model import Document
from cohortium.crypto.files import write_atomically
from cohortium.crypto.signed import KeyText
from cohortium.enclave.exchange import Base64, Made, TaskOutcome
from cohortium.enclave.job import Ending
from cohortium.enclave.output_archive import unpack
from cohortium.errors import CohortiumError, InputError, VerificationError
from cohortium.ledger.entry import RunId
from cohortium.node.taken_in import OnBytes, place, require_room, sync_folder
from cohortium.node.vault_key import VaultKey
from cohortium.vault.reader import Expected, VaultReader

RECORD: Final = "received.json"


class Received(Document):
    """What a run gave to this institution.

    Attributes:
        outputs: Those for this institution; none where the run gave it nothing.
        enclave_key: Whose signature the outputs have.
        outcome: Envelope of the enclave's `TaskOutcome`.
    """

    schema_id: Literal["cohortium/received/1"] = "cohortium/received/1"
    run_id: RunId
    study: StudyId
    task: TaskName
    enclave: Label
    enclave_key: KeyText
    end: Ending
    outputs: tuple[Made, ...]
    outcome: Base64
    at: Instant

    @property
    def stored_bytes(self) -> int:
        """Ciphertext."""
        return sum(made.size_bytes for made in self.outputs)


class ReceivedFolder:
    """The outputs that this node holds.

    Args:
        folder: Where they are.
        vault: The key that opens them.
    """

    def __init__(self, folder: Path, vault: VaultKey) -> None:
        self._folder = folder
        self._vault = vault

    def has(self, run_id: str) -> bool:
        """Whether a run was looked at, and all that it gave is here."""
        return (self._folder / run_id / RECORD).is_file()

    def all(self) -> list[Received]:
        """Every run that gave something, the newest first."""
        found = []
        for path in self._folder.glob(f"*/{RECORD}"):
            with suppress(CohortiumError, OSError):  # what cannot be read is not there
                found.append(Received.from_bytes(path.read_bytes()))
        return sorted((one for one in found if one.outputs), key=lambda one: one.at, reverse=True)

    def find(self, run: str) -> Received:
        """A run by its id, or the first letters of one.

        Raises:
            InputError: ``not-found``; ``bad-input`` where there are several.
        """
        found = [one for one in self.all() if len(run) >= 4 and one.run_id.startswith(run)]
        if len(found) != 1:
            code = "bad-input" if found else "not-found"
            raise InputError(
                code,
                f"{len(found) or 'No'} runs that gave this site something begin with "
                f"{run[:40]!r}. See: cohortium lend received",
            )
        return found[0]

    # Fetching

    def missing(self, run_id: str, outputs: Iterable[Made]) -> list[Made]:
        """Those that are still to be fetched."""
        stage = self._stage(run_id)
        return [made for made in outputs if not place(stage / made.slot, "").is_file()]

    async def put(self, run_id: str, made: Made, parts: AsyncIterator[bytes]) -> None:
        """Keep an output as it comes; it is there once all of it is what the enclave signed.

        Raises:
            VerificationError: ``bad-digest``.
            InputError: ``too-large``: the disk has no room for it.
        """
        target = place(self._stage(run_id) / made.slot, "")
        require_room(self._folder, made.size_bytes)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._stage(run_id) / f".{secrets.token_hex(6)}.part"
        digest, size = hashlib.sha256(), 0
        try:
            with temporary.open("xb") as out:
                async for part in parts:
                    digest.update(part)
                    size += len(part)
                    out.write(part)
                out.flush()
                os.fsync(out.fileno())
            if (size, f"sha256:{digest.hexdigest()}") != (made.size_bytes, made.content_digest):
                raise VerificationError(
                    "bad-digest", f"What came of {made.slot} is not what the enclave has signed."
                )
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def finish(self, outcome: TaskOutcome, envelope: bytes, outputs: tuple[Made, ...]) -> None:
        """All that a run gave is here."""
        stage = self._stage(outcome.run_id)
        stage.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = Received(
            run_id=outcome.run_id,
            study=outcome.study,
            task=outcome.task,
            enclave=outcome.enclave,
            enclave_key=outcome.enclave_key,
            end=outcome.end,
            outputs=outputs,
            outcome=base64.b64encode(envelope).decode(),
            at=outcome.at,
        )
        write_atomically(stage / RECORD, record.to_bytes(), mode=0o600)
        stage.rename(self._folder / outcome.run_id)
        sync_folder(self._folder)

    def _stage(self, run_id: str) -> Path:
        return self._folder / f".{run_id}"

    # Opening

    def open(
        self, run: str, slot: str, target: Path, on_bytes: OnBytes = lambda _n: None
    ) -> list[Path]:
        """Decrypt an output into a folder; returns the files.

        Raises:
            InputError: ``not-found``; ``bad-input``.
            ConflictError: ``already-exists``: nothing is overwritten.
            VerificationError: It is not intact, or not of the enclave that signed the outcome.
            PolicyRefusal: ``not-authorised``: it is for another key.
        """
        received = self.find(run)
        if all(one.slot != slot for one in received.outputs):
            there = ", ".join(one.slot for one in received.outputs)
            raise InputError("not-found", f"The run gave this site no {slot!r}; it gave {there}.")
        source = place(self._folder / received.run_id / slot, "")
        writers = frozenset({received.enclave_key})
        try:
            target.mkdir(parents=True, exist_ok=True)
            with VaultReader.open(
                source, self._vault.keyring, expected=Expected(writers=writers)
            ) as file:
                return unpack(_Counted(file, on_bytes), target)
        except OSError as error:
            raise InputError("bad-input", f"Cannot write {target}: {error.strerror}.") from error

    def remove(self, run: str) -> Received:
        """Delete what a run gave; that it was looked at is remembered.

        Raises:
            InputError: As `find`.
        """
        received = self.find(run)
        emptied = received.model_copy(update={"outputs": ()})
        folder = self._folder / received.run_id
        write_atomically(folder / RECORD, emptied.to_bytes(), mode=0o600)
        for made in received.outputs:
            shutil.rmtree(folder / made.slot, ignore_errors=True)
        return received


class _Counted:
    """A reader that tells how far it was read."""

    def __init__(self, file: VaultReader, on_bytes: OnBytes) -> None:
        self._file = file
        self._on_bytes = on_bytes

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._on_bytes(len(data))
        return data
