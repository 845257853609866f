"""What the hub's REST interface answers; hub and SDK share these documents."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cohortium.core.clock import Instant
from cohortium.core.dictionary import Digest, Label
from cohortium.core.directory import DirectoryEntry
from cohortium.core.model import Document
from cohortium.core.selection import Selection

API = "/api/v1"

RunStatus = Literal["queued", "running", "witnessing", "succeeded", "failed", "cancelled"]
"""A run that is ``witnessing`` is computed; its result waits until enough have witnessed it."""
StudyStatus = Literal[
    "proposed",
    "active",
    "refused",
    "withdrawn",
    "superseded",
    "suspended",
    "revoked",
    "closed",
    "expired",
]
MemberStatus = Literal["pending", "approved", "suspended", "removed"]

FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class ConsortiumInfo(Document):
    """``GET /consortium``; open to all.

    Attributes:
        fingerprint: Digest of the CA certificate (DER); people compare it by telephone.
        link_address: ``host:port`` that nodes dial.
        ledger_key: The verifier key of the ledger (C2SP signed-note).
    """

    name: Label
    fingerprint: Digest
    ca_pem: str
    link_address: str
    ledger_key: str | None = None


class EnrolmentInfo(Document):
    """``POST /enrol`` and ``POST /enrol/status``.

    Attributes:
        certificate_pem: The node's TLS certificate, once the operator has approved.
    """

    member: Label
    status: MemberStatus
    certificate_pem: str | None = None


class MemberInfo(DirectoryEntry):
    """An institution in ``GET /members``."""

    status: MemberStatus
    connected: bool

    def __repr__(self) -> str:
        datasets = ", ".join(dataset.name for dataset in self.datasets) or "no datasets"
        link = "connected" if self.connected else "not connected"
        return f"<Member {self.name} {self.status}, {link}: {datasets}>"


class EnclaveInfo(Document):
    """A machine that runs tasks, in ``GET /enclaves``."""

    name: Label
    key: str
    status: MemberStatus
    connected: bool


class UserInfo(Document):
    """A registered researcher."""

    name: Label
    key: str


class SignatureInfo(Document):
    """That a site signed a contract, as the hub received it."""

    site: Label
    signed_at: Instant


class RefusalInfo(Document):
    """That a site refused a contract, and why."""

    site: Label
    reason: str
    at: Instant


class SuspensionInfo(Document):
    """Who suspended a contract; of only these computations where some are named."""

    by: Label
    computations: tuple[str, ...] | None = None


class VersionInfo(Document):
    """A version of a study's contract; two amendments of one contract have the same number."""

    version: int
    contract_digest: Digest
    status: StudyStatus


class StudyInfo(Document):
    """A contract and how far it is.

    Attributes:
        contract: The contract's canonical JSON values; `contract_digest` is over them.
        reason: Why it ended, or was suspended last, and `ended_by` whom.
        versions: Those of the study's contracts that are visible to you, oldest first.
        rendered: The contract as text for people; only for a single study.
    """

    id: str
    contract_digest: Digest
    status: StudyStatus
    contract: dict[str, Any]
    signatures: tuple[SignatureInfo, ...] = ()
    refusals: tuple[RefusalInfo, ...] = ()
    suspensions: tuple[SuspensionInfo, ...] = ()
    ended_by: Label | None = None
    reason: str | None = None
    versions: tuple[VersionInfo, ...] = ()
    rendered: str | None = None


class StatementInfo(Document):
    """A signed statement on a contract, as ``GET /studies/{study}/statements`` lists it.

    Attributes:
        at: When the hub received it.
        state: The contract's state with it.
        envelope: The signed document; whoever reads it verifies it.
    """

    seq: int
    study: str
    contract_digest: Digest
    version: int
    action: str
    author: Label
    key: str
    at: Instant
    state: str
    reason: str | None = None
    envelope: str


class AssignmentInfo(Document):
    """An owner's word on what fills a slot."""

    slot: str
    author: Label
    artefact: dict[str, Any]
    at: Instant


class DraftInfo(Document):
    """A draft and what its slots are filled with.

    Attributes:
        draft: Its canonical JSON values; `draft_digest` is over them.
        unfilled: Slots that still wait for an owner; it can be proposed when there is none.
        envelopes: The signed draft, then every signed assignment.
    """

    id: str
    draft_digest: Digest
    draft: dict[str, Any]
    assignments: tuple[AssignmentInfo, ...] = ()
    unfilled: tuple[str, ...] = ()
    envelopes: tuple[str, ...] = ()


class RunInfo(Document):
    """A run's record.

    Attributes:
        cohort: What the researcher added to the contract's criteria and derived variables.
        participants: The sites whose contributions are summed; empty before they are known.
        absent: The contract's other sites, which were not there or dropped out; once the run ended.
        rounds: Rounds done.
        seconds: Time spent computing so far.
        bytes: Masked payload bytes that left each site.
        enclave: Where a task runs, or ran; absent for a computation.
        error: The wire form of the error that ended it.
        progress: 0 to 1.
    """

    id: str
    study: str
    contract_digest: Digest
    computation: str
    params: dict[str, Any]
    cohort: Selection | None = None
    status: RunStatus
    researcher: str
    participants: tuple[Label, ...] = ()
    absent: tuple[Label, ...] = ()
    rounds: int = 0
    seconds: float = 0.0
    bytes: dict[str, int] = Field(default_factory=dict)
    enclave: Label | None = None
    error: dict[str, Any] | None = None
    submitted_at: Instant
    finished_at: Instant | None = None
    progress: float = 0.0
    message: str = ""


class Receipt(Document):
    """That an entry stands on the ledger, and who has witnessed it.

    Attributes:
        index: The entry's place.
        entry: Its canonical JSON.
        proof: RFC 9162 inclusion proof in the checkpoint's tree; hex.
        checkpoint: A C2SP signed note with the members' cosignatures.
        members: The members at that checkpoint and their keys; the checkpoint has their digest.
    """

    index: int
    entry: str
    proof: tuple[str, ...]
    checkpoint: str
    members: dict[Label, str]


class LedgerInfo(Document):
    """``GET /ledger``: what is needed to check a copy of the ledger.

    Attributes:
        origin: The log's name.
        size: Entries; `final` of them are covered by a final checkpoint.
        log_key: The log's verifier key (C2SP signed-note).
        witness_keys: Verifier keys of the members' cosignatures.
    """

    origin: str
    size: int
    final: int
    log_key: str
    witness_keys: dict[Label, str]


class ConsistencyProof(Document):
    """That the ledger of `old` entries is the beginning of that of `size`; hex (RFC 9162)."""

    old: int
    size: int
    proof: tuple[str, ...]


class RunResult(Document):
    """``GET /runs/{id}/result``.

    Attributes:
        nonce: Opens the commitment to the result that stands on the ledger; hex.
        receipt: That the commitment stands there, and is final.
    """

    run: RunInfo
    result: dict[str, Any]
    nonce: str | None = None
    receipt: Receipt | None = None
