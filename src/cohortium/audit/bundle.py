"""The audit bundle: one file that holds the evidence of a study, for somebody who trusts nobody.

The format is described in docs/evidence.md, from which alone it can be read; this is our reading.
It holds no patient data and no result.
"""

from __future__ import annotations

import base64
import binascii
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from cohortium.core.canonical import digest_bytes
from cohortium.core.dictionary import Digest, Label
from cohortium.core.model import Document
from cohortium.crypto.signed import KeyText
from cohortium.errors import InputError, ProtocolError
from cohortium.ledger.entry import RunId, StudyName

SCHEMA: Final = "cohortium/audit-bundle/1"

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A node of the Merkle tree, or a nonce: 32 bytes in hex."""

Proof = Annotated[tuple[Hash, ...], Field(max_length=128)]
Size = Annotated[int, Field(ge=0, lt=2**53)]
Members = dict[Label, KeyText]
Coverage = Literal["study", "log"]


class LogKey(Document):
    """A key that signs the log's checkpoints of more than `size` entries, until the next one."""

    key: str
    size: Size


class Log(Document):
    """Which log; more than one key only where another hub took it over."""

    origin: str
    keys: Annotated[tuple[LogKey, ...], Field(min_length=1, max_length=1000)]


class LoggedEntry(Document):
    """An entry: its place, its text (whose UTF-8 bytes are the leaf), and its inclusion proof."""

    index: Size
    entry: str
    proof: Proof = ()


class Release(Document):
    """A result that was given out: the receipt that came with it.

    Attributes:
        nonce: With the result, what the commitment of the run's end is over; absent where who
            exported it may not read the result.
        outcome: Of a task: digest of what its enclave signed; there where the nonce is, since the
            commitment is over it.
        checkpoint: The cosigned checkpoint on which the result was released.
        members: The members at it, where they are others than at the bundle's checkpoint.
        consistency: From it to the bundle's checkpoint.
    """

    run_id: RunId
    nonce: Hash | None = None
    outcome: Digest | None = None
    checkpoint: str
    members: Members | None = None
    consistency: Proof = ()


class Handover(Document):
    """That the participants of a contract that gave way to another witnessed this.

    Attributes:
        contract: Digest of the one that ended.
        checkpoint: One that they cosigned, which covers the entry with which it ended.
        members, consistency: As of a release.
    """

    contract: Digest
    checkpoint: str
    members: Members | None = None
    consistency: Proof = ()


class Bundle(Document):
    """What `cohortium audit export` writes.

    Attributes:
        coverage: ``study``: the entries about one study, each with its proof; it cannot be seen
            whether there are more. ``log``: all entries of the log, and no proofs.
        checkpoint: A cosigned checkpoint, which all proofs are about.
        handovers: For each contract whose participants' witness of its end is on another checkpoint
            than the bundle's.
        statements: Signed envelopes by their digest.
        evidence: Attestation evidence in base64 by its digest.
    """

    schema_id: Literal["cohortium/audit-bundle/1"] = SCHEMA
    study: StudyName
    coverage: Coverage
    log: Log
    checkpoint: str
    members: Members
    entries: Annotated[tuple[LoggedEntry, ...], Field(min_length=1)]
    releases: tuple[Release, ...] = ()
    handovers: Annotated[tuple[Handover, ...], Field(min_length=1)] | None = None
    statements: dict[Digest, str]
    evidence: dict[Digest, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        indices = [entry.index for entry in self.entries]
        if any(later <= earlier for earlier, later in pairwise(indices)):
            raise ValueError("the entries are not in the order of the log")
        runs = [release.run_id for release in self.releases]
        if runs != sorted(set(runs)):
            raise ValueError("the releases are not in the order of their runs, each once")
        given = [handover.contract for handover in self.handovers or ()]
        if given != sorted(set(given)):
            raise ValueError("the handovers are not in the order of their contracts, each once")
        for digest, text in self.statements.items():
            if digest_bytes(_utf8(text)) != digest:
                raise ValueError(f"statement {digest} has another digest")
        for digest, text in self.evidence.items():
            if digest_bytes(_unbase64(text)) != digest:
                raise ValueError(f"evidence {digest} has another digest")
        return self

    def evidence_bytes(self, digest: str) -> bytes:
        """Attestation evidence that is in the bundle."""
        return _unbase64(self.evidence[digest])


def parse_bundle(data: bytes) -> Bundle:
    """A bundle from untrusted bytes.

    Raises:
        ProtocolError: ``malformed-message``, also where the bytes are not in canonical form.
    """
    bundle = Bundle.from_bytes(data)
    try:
        canonical = bundle.to_bytes()
    except InputError as error:
        raise ProtocolError("malformed-message", "The bundle has no canonical form.") from error
    if canonical != data:
        raise ProtocolError("malformed-message", "The bundle is not in canonical form.")
    return bundle


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text is not Unicode") from error


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("evidence is not base64") from error
    if base64.b64encode(data).decode() != text:
        raise ValueError("evidence is not canonical base64")
    return data
