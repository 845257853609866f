"""A host whose boot a TPM measured, and which measures each task before it starts.

PCR 14 is one register for all tasks of a host, and can only be extended. The log of what was
measured into it lies in a folder that all executors of the host share; who measures or quotes holds
its lock. A line is written before the TPM is asked: what an interruption left is found by the
register's value and dropped, and so is the log of an earlier boot.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, BinaryIO, Final, Literal

from pydantic import Field, StringConstraints, field_validator

from cohortium.core.model import Document
from cohortium.enclave import tpm
from cohortium.enclave.attestation.tpm import MOST_TASKS, TpmEvidence
from cohortium.enclave.attestation.tpm_events import TASK_PCR, extend, parse, replay
from cohortium.enclave.attestation.tpm_structures import PublicArea
from cohortium.enclave.tpm import Tpm
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, VerificationError

FOLDER: Final = Path("/var/lib/cohortium/tpm")
EVENT_LOG: Final = "sys/kernel/security/tpm0/binary_bios_measurements"
BOOT_PCRS: Final = tuple(range(10))
"""Firmware, its settings and Secure Boot (0 to 7); the boot loader and what it loads (8, 9)."""
_KEY_FILE: Final = "attestation-key.json"
_LOG_FILE: Final = "tasks.log"
_LINE_BYTES: Final = 2 * 32 + 1
_LINE: Final = re.compile(rb"([0-9a-f]{64})\n")
_BootPcr = Annotated[int, Field(ge=0, le=15)]


class AttestationKey(Document):
    """A host's attestation key, which its TPM makes again from this; nothing of it is secret.

    Attributes:
        name: Its Name, as it stands in sites' lists of platforms.
        pcrs: What is quoted beside `TASK_PCR`.
    """

    schema_id: Literal["cohortium/attestation-key/1"] = "cohortium/attestation-key/1"
    unique: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    name: Annotated[str, StringConstraints(pattern=r"^000b[0-9a-f]{64}$")]
    pcrs: Annotated[tuple[_BootPcr, ...], Field(min_length=1, max_length=16)] = BOOT_PCRS

    @field_validator("pcrs")
    @classmethod
    def _each_once(cls, pcrs: tuple[int, ...]) -> tuple[int, ...]:
        if TASK_PCR in pcrs or len(set(pcrs)) != len(pcrs):
            raise ValueError(f"each PCR once, and {TASK_PCR}, which is always quoted, not at all")
        return pcrs


@dataclass(frozen=True)
class TpmHost:
    """A machine and its TPM.

    Attributes:
        folder: With its key and the log of tasks; one for all executors of a host.
        tcti: Which TPM; see `Tpm`.
        root: Where the machine's files begin.
    """

    folder: Path = FOLDER
    tcti: str = tpm.DEVICE
    root: Path = Path("/")

    def missing(self) -> tuple[str, ...]:
        """Why it cannot measure; empty where it can."""
        out = list(tpm.missing())
        kind, _, device = self.tcti.partition(":")
        if kind == "device" and not (self.root / device.lstrip("/")).exists():
            out.append(f"{device} is not there: the machine has no TPM 2.0, or its driver is off")
        elif kind == "device" and not os.access(self.root / device.lstrip("/"), os.R_OK | os.W_OK):
            out.append(f"{device} may not be opened by this user: add it to the group tss")
        log = self.root / EVENT_LOG
        if not os.access(log, os.R_OK):
            out.append(
                f"/{EVENT_LOG} "
                + ("may be read by root only" if log.exists() else "is not there: boot by UEFI")
            )
        if find_spec("cbor2") is None:
            out.append("evidence needs: pip install 'cohortium[tpm]'")
        try:
            self.key()
        except CohortiumError as error:
            out.append(str(error).rstrip("."))
        return tuple(out)

    @property
    def has_key(self) -> bool:
        """Whether an attestation key was made here."""
        return (self.folder / _KEY_FILE).exists()

    def key(self) -> AttestationKey:
        """The attestation key that was made here.

        Raises:
            InputError: ``not-found``, ``bad-config``.
        """
        file = self.folder / _KEY_FILE
        try:
            return AttestationKey.from_bytes(file.read_bytes())
        except FileNotFoundError as error:
            raise InputError(
                "not-found",
                f"There is no attestation key in {self.folder}: `cohortium enclave tpm request`.",
            ) from error
        except (OSError, CohortiumError) as error:
            raise InputError("bad-config", f"{file} cannot be read: {error}") from error

    def make_key(self, pcrs: Sequence[int] = BOOT_PCRS) -> AttestationKey:
        """A new attestation key in place of an earlier one, which the sites then no longer know.

        Raises:
            InputError: ``bad-input``, ``bad-config``: the folder cannot be written.
            PolicyRefusal: ``executor-unavailable``: the TPM refuses.
        """
        unique = token_hex(tpm.UNIQUE_BYTES)
        with Tpm(self.tcti) as connection:
            public = connection.attestation_public(bytes.fromhex(unique))
        try:
            key = AttestationKey(
                unique=unique, name=PublicArea.parse(public).name.hex(), pcrs=tuple(sorted(pcrs))
            )
        except ValueError as error:
            raise InputError("bad-input", f"These PCRs cannot be quoted: {error}") from error
        file = self.folder / _KEY_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            written = file.with_suffix(f".{token_hex(8)}")
            written.write_bytes(key.to_bytes())
            written.replace(file)
        except OSError as error:
            raise InputError("bad-config", f"{file} cannot be written: {error}.") from error
        return key

    def registers(self) -> dict[int, bytes]:
        """The values that are quoted, as they are now."""
        with Tpm(self.tcti) as connection:
            return connection.read((*self.key().pcrs, TASK_PCR))

    def measure(self, record: Sequence[bytes]) -> None:
        """Measure a task: what was measured last is what is about to start.

        Raises:
            PolicyRefusal: ``executor-unavailable``: it cannot be measured; do not start it.
        """
        with self._log() as log, Tpm(self.tcti) as connection:
            log.settle(connection)
            log.append(connection, record)

    def evidence(self, record: Sequence[bytes], report_data: bytes) -> TpmEvidence:
        """A quote with this task measured last; it is measured, where another one was.

        Args:
            report_data: What the evidence is bound to: its SHA-256 is the quote's nonce.

        Raises:
            PolicyRefusal: ``executor-unavailable``.
        """
        key = self.key()
        with self._log() as log, Tpm(self.tcti) as connection:
            log.settle(connection)
            if log.tasks[-len(record) :] != list(record):
                log.append(connection, record)
            nonce = sha256(report_data).digest()
            quote = connection.quote(bytes.fromhex(key.unique), (*key.pcrs, TASK_PCR), nonce)
        if PublicArea.parse(quote.public).name.hex() != key.name:
            raise self.cleared()
        return TpmEvidence(
            quote.quoted,
            quote.signature,
            quote.public,
            quote.pcrs,
            log.firmware,
            tuple(log.tasks),
        )

    @staticmethod
    def cleared() -> PolicyRefusal:
        """The refusal where the TPM makes another key than it did."""
        return _unavailable(
            "the TPM was cleared since its key was made; make one anew, and have it enrolled"
        )

    @contextmanager
    def _log(self) -> Iterator[_TaskLog]:
        try:
            firmware = (self.root / EVENT_LOG).read_bytes()
            base = replay(parse(firmware)).get(TASK_PCR, bytes(32))
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            file = os.fdopen(os.open(self.folder / _LOG_FILE, flags, 0o600), "r+b", buffering=0)
        except (OSError, VerificationError) as error:
            raise _unavailable(f"the log of measurements cannot be read: {error}") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield _TaskLog(file, firmware, base)


class _TaskLog:
    """The log while its lock is held."""

    def __init__(self, file: Any, firmware: bytes, base: bytes) -> None:
        self._file: BinaryIO = file
        self._base = base
        self.firmware = firmware
        self.tasks: list[bytes] = []

    def settle(self, connection: Tpm) -> None:
        """Keep of it what the register was extended with since the machine booted."""
        written = _lines(self._file.read())
        self.tasks = _led_to(connection.read((TASK_PCR,))[TASK_PCR], self._base, written)
        self._file.truncate(len(self.tasks) * _LINE_BYTES)
        self._file.seek(0, os.SEEK_END)

    def append(self, connection: Tpm, record: Sequence[bytes]) -> None:
        """Measure, each line before its measurement."""
        if len(self.tasks) + len(record) > MOST_TASKS:
            raise _unavailable(f"more than {MOST_TASKS} measurements since the host started")
        try:
            for digest in record:
                self._file.write(digest.hex().encode() + b"\n")
                connection.extend(TASK_PCR, digest)
                self.tasks.append(digest)
        except OSError as error:
            raise _unavailable(f"the log of measured tasks cannot be written: {error}") from error


def _lines(data: bytes) -> list[bytes]:
    """The digests before the first line that is none; the register says whether they are all."""
    out: list[bytes] = []
    for start in range(0, len(data), _LINE_BYTES):
        found = _LINE.fullmatch(data, start, min(start + _LINE_BYTES, len(data)))
        if found is None:
            break
        out.append(bytes.fromhex(found[1].decode()))
    return out


def _led_to(value: bytes, base: bytes, written: Sequence[bytes]) -> list[bytes]:
    """The first of the digests, up to the one that gave the register its value."""
    reached = base
    for count in range(len(written) + 1):
        if reached == value:
            return list(written[:count])
        if count < len(written):
            reached = extend(reached, written[count])
    raise _unavailable(
        f"something else was measured into PCR {TASK_PCR}, or its log was lost; restart the host"
    )


def _unavailable(why: str) -> PolicyRefusal:
    return PolicyRefusal("executor-unavailable", f"No measured start: {why}.")
