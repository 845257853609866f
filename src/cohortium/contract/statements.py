"""Signed statements about a contract, beside the signed contract itself.

A signature of a contract is an envelope over the `Contract`: its proposer's proposes it, a
signatory's signs it. What else is said about it is a `Transition`. A `Draft` is what slots are
filled of, each by an `Assignment` of every owner.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from cohortium.contract.model import ComputationName, Contract, Draft, StudyId
from cohortium.contract.task import Artefact
from cohortium.core.clock import Instant
from cohortium.core.dictionary import Digest, Label
from cohortium.crypto.signed import Envelope, Signable
from cohortium.errors import VerificationError

Action = Literal["refuse", "withdraw", "suspend", "resume", "revoke", "close"]
SlotName = Annotated[str, StringConstraints(min_length=3, max_length=300)]
"""``dataset/<participant>`` or ``<task>/<input>``."""

Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class Transition(Signable):
    """A party's signed word that changes a contract's state.

    Attributes:
        contract_digest: Of the version that it is about.
        at: Later than whatever else the author stated about the study: an old statement that is
            brought again is then known for one.
        computations: Suspends only these (``glm``, ``stats.*``); absent: everything. A second
            suspension by the same author replaces the first.
        keeps: What is kept after a contract is closed.
    """

    payload_type: ClassVar[str] = "application/vnd.cohortium.transition+json"

    schema_id: Literal["cohortium/transition/1"] = "cohortium/transition/1"
    study: StudyId
    contract_digest: Digest
    action: Action
    author: Label
    at: Instant
    reason: Reason
    computations: Annotated[tuple[ComputationName, ...], Field(min_length=1)] | None = None
    keeps: Annotated[tuple[Reason, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.computations is not None and self.action != "suspend":
            raise ValueError("only a suspension names computations")
        if self.keeps and self.action != "close":
            raise ValueError("only closing says what is kept")
        return self


class Assignment(Signable):
    """An owner's signed word that an artefact fills a slot of a draft."""

    payload_type: ClassVar[str] = "application/vnd.cohortium.assignment+json"

    schema_id: Literal["cohortium/assignment/1"] = "cohortium/assignment/1"
    study: StudyId
    draft_digest: Digest
    slot: SlotName
    artefact: Artefact
    author: Label
    at: Instant


Statement = Contract | Transition | Draft | Assignment

_TYPES: Final[dict[str, type[Statement]]] = {
    kind.payload_type: kind for kind in (Contract, Transition, Draft, Assignment)
}


def open_statement(envelope: bytes) -> tuple[Statement, str]:
    """Verify a statement of any type; returns (document, signer's key).

    Raises:
        VerificationError: ``bad-signature`` or ``bad-digest``.
        ProtocolError: ``malformed-message``.
    """
    kind = _TYPES.get(Envelope.from_bytes(envelope).payloadType)
    if kind is None:
        raise VerificationError("bad-signature", "The envelope holds no statement on a contract.")
    return kind.open(envelope)
