"""What an enclave, the lenders' nodes and the hub say to each other about a task's run.

Inside a TLS session between enclave and lender, which the hub carries and cannot read:

    Opening     enclave   which key it wants data keys sealed for
    Challenge   lender    a nonce
    Proof       enclave   its signed offer, and evidence where the level asks for it
    Keys        lender    its signed release, and the sealed data keys

Outside of it: the ciphertext of what is lent, and the enclave's signed outcome. The contract binds
what is lent by the digest of `LentFiles`, ciphertext and all.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, StringConstraints, field_validator

from cohortium.contract.model import StudyId
from cohortium.contract.task import ExecutorName, SecurityLevel, TaskName
from cohortium.core.clock import Instant
from cohortium.core.dictionary import Digest, Label, Name
from cohortium.core.model import Document
from cohortium.crypto.signed import KeyText, Signable
from cohortium.enclave.job import Ending
from cohortium.ledger.entry import RunId
from cohortium.vault.card import PublicText

MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
PIECE_BYTES: Final = 4 * 1024 * 1024
MOST_FILES: Final = 100_000

Stage = Literal["preparing", "keys", "inputs", "running", "outputs", "ended"]
Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
Hex64 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class LentFile(Document):
    """A vault file.

    Attributes:
        path: Relative; empty where the artefact is one file.
        size_bytes: Of the ciphertext.
        content_digest: SHA-256 of the ciphertext.
    """

    path: Annotated[str, StringConstraints(max_length=1000)]
    size_bytes: Annotated[int, Field(ge=1)]
    content_digest: Digest

    @field_validator("path")
    @classmethod
    def _below(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if path and (path.startswith("/") or ".." in parts or path != "/".join(parts)):
            raise ValueError("leads elsewhere")
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
            raise ValueError("has control characters")
        return path


class LentFiles(Document):
    """An artefact: its digest is what a contract binds."""

    files: Annotated[tuple[LentFile, ...], Field(min_length=1, max_length=MOST_FILES)]

    @field_validator("files")
    @classmethod
    def _in_order(cls, files: tuple[LentFile, ...]) -> tuple[LentFile, ...]:
        paths = [one.path for one in files]
        if paths != sorted(set(paths)) or ("" in paths and len(paths) > 1):
            raise ValueError("files are sorted by path, each once; one without a path is alone")
        return files


class Offer(Signable):
    """An enclave's signed word on what it will do with the keys that it asks for.

    Attributes:
        code: `Code.content_digest` of the program that it holds.
        recipient: The key of this run; it exists in the enclave's memory only.
        session: The 64 bytes that evidence in this session is bound to, hex; this too is.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.enclave-offer+json"

    schema_id: Literal["cohortium/enclave-offer/1"] = "cohortium/enclave-offer/1"
    run_id: RunId
    request_digest: Digest
    contract_digest: Digest
    task: TaskName
    code: Digest
    enclave: Label
    executor: ExecutorName
    level: SecurityLevel
    recipient: PublicText
    session: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
    at: Instant


class Release(Signable):
    """A lender's signed word that it handed out its keys, to whom, and what it relied on.

    Attributes:
        site: The lender; the contract's key of it signs.
        artefacts: Content digest by input slot.
        recipient: Digest of the public key that data keys were sealed for.
        offer: Digest of the enclave's signed offer.
        evidence: Digest of the attestation evidence; absent where the level asks for none.
        attestation_result: EAR token over the evidence, by the same key.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.key-release+json"

    schema_id: Literal["cohortium/key-release/1"] = "cohortium/key-release/1"
    run_id: RunId
    request_digest: Digest
    contract_digest: Digest
    task: TaskName
    site: Label
    artefacts: Annotated[dict[Name, Digest], Field(min_length=1)]
    enclave: Label
    recipient: Digest
    offer: Digest
    evidence: Digest | None = None
    attestation_result: Annotated[str, StringConstraints(max_length=65536)] | None = None
    at: Instant


class Made(Document):
    """An output as it left the enclave: an archive, encrypted for its recipients.

    See `cohortium.enclave.output_archive`; its files' names are nobody's business on the way.
    """

    slot: Name
    size_bytes: Annotated[int, Field(ge=1)]
    content_digest: Digest

    @property
    def files(self) -> LentFiles:
        """As it may be lent again."""
        file = LentFile(path="", size_bytes=self.size_bytes, content_digest=self.content_digest)
        return LentFiles(files=(file,))


class TaskOutcome(Signable):
    """An enclave's signed word on how a run ended.

    Attributes:
        outputs: Only where it succeeded; the log is one of them, and may be there in any case.
        releases: Digests of the lenders' signed releases, by lender.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.task-outcome+json"

    schema_id: Literal["cohortium/task-outcome/1"] = "cohortium/task-outcome/1"
    run_id: RunId
    study: StudyId
    request_digest: Digest
    contract_digest: Digest
    task: TaskName
    enclave: Label
    enclave_key: KeyText
    executor: ExecutorName
    level: SecurityLevel
    end: Ending
    log_truncated: bool = False
    cpu_s: Annotated[float, Field(ge=0)] = 0.0
    largest_process_bytes: Annotated[int, Field(ge=0)] = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    outputs: tuple[Made, ...] = ()
    releases: dict[Label, Digest] = Field(default_factory=dict)
    at: Instant


class Opening(Document):
    """See above."""

    kind: Literal["opening"] = "opening"
    recipient: PublicText


class Challenge(Document):
    """See above."""

    kind: Literal["challenge"] = "challenge"
    nonce: Hex64


class Proof(Document):
    """See above.

    Attributes:
        offer: Envelope of an `Offer`.
        evidence: A CMW record in CBOR.
    """

    kind: Literal["proof"] = "proof"
    offer: Base64
    evidence: Base64 | None = None


class Handed(Document):
    """What opens an input.

    Attributes:
        grants: By path: `cohortium.vault.grants` for the offer's recipient.
        writer: Whose signature the files have: ``ed25519:...``.
    """

    files: LentFiles
    grants: dict[str, Base64]
    writer: KeyText


class Keys(Document):
    """See above.

    Attributes:
        release: Envelope of a `Release`.
        inputs: By slot.
    """

    kind: Literal["keys"] = "keys"
    release: Base64
    inputs: dict[Name, Handed]
