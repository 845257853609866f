"""What stands on the ledger: facts without patient data and without result values.

A fact names documents by digest; who may read them keeps them. The hub dates an entry when it gives
it a place in the log, never before the entry that stands in front of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from cohortium.core.canonical import canonical
from cohortium.core.clock import Instant
from cohortium.core.dictionary import Digest, Label, Name
from cohortium.core.model import Document
from cohortium.crypto.signed import KeyText
from cohortium.errors import InputError, ProtocolError

MAX_ENTRY_BYTES: Final = 65_535
"""C2SP tlog-tiles: an entry's length is a 16-bit number."""

RunId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
StudyName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Code = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
"""A key of `cohortium.errors.CATALOGUE`."""

ContractAction = Literal[
    "draft",
    "assign",
    "propose",
    "sign",
    "refuse",
    "withdraw",
    "suspend",
    "resume",
    "revoke",
    "close",
]

ContractState = Literal[
    "draft",
    "proposed",
    "active",
    "refused",
    "withdrawn",
    "superseded",
    "suspended",
    "revoked",
    "closed",
]
"""A contract's state with a statement; of what is only drafted, ``draft``."""


class Founded(Document):
    """The first entry: which consortium this is."""

    kind: Literal["consortium.founded"] = "consortium.founded"
    name: Label
    fingerprint: Digest


class TakenOver(Document):
    """A new hub goes on with a replica of the log.

    Attributes:
        size: Entries that it took over.
        key: The log's new key, as a verifier key.
    """

    kind: Literal["consortium.taken-over"] = "consortium.taken-over"
    size: Annotated[int, Field(ge=1)]
    key: str


class MemberChanged(Document):
    """An institution's standing.

    Attributes:
        certificate: Digest of the certificate that it connects with from now on. An approved
            institution without one has to join again.
    """

    kind: Literal["member"] = "member"
    name: Label
    key: KeyText
    status: Literal["approved", "suspended", "removed"]
    certificate: Digest | None = None


class EnclaveChanged(Document):
    """The standing of a machine that runs tasks; it is no member, and witnesses nothing.

    Attributes:
        certificate: As a member's.
    """

    kind: Literal["enclave"] = "enclave"
    name: Label
    key: KeyText
    status: Literal["approved", "suspended", "removed"]
    certificate: Digest | None = None


class ResearcherChanged(Document):
    """A researcher's standing."""

    kind: Literal["researcher"] = "researcher"
    name: Label
    key: KeyText
    status: Literal["active", "removed"]


class DatasetChanged(Document):
    """A dataset's version; without digests it was withdrawn."""

    kind: Literal["dataset"] = "dataset"
    member: Label
    name: Name
    content: Digest | None = None
    dictionary: Digest | None = None


class PolicyChanged(Document):
    """An institution's own policy is another than before.

    Attributes:
        policy: `commitment` to its digest: the few settings of a policy could be tried out.
    """

    kind: Literal["policy"] = "policy"
    member: Label
    policy: Digest


class ContractChanged(Document):
    """A signed statement about a contract, and the state that the contract has with it.

    Attributes:
        author: The institution or researcher that signed the statement with `key`.
        statement: Digest of the signed envelope.
    """

    kind: Literal["contract"] = "contract"
    study: StudyName
    contract: Digest
    version: Annotated[int, Field(ge=1)]
    action: ContractAction
    author: Label
    key: KeyText
    statement: Digest
    state: ContractState


class RunSubmitted(Document):
    """A researcher's signed request was accepted by the hub; `request` is its digest."""

    kind: Literal["run.submitted"] = "run.submitted"
    run_id: RunId
    study: StudyName
    contract: Digest
    computation: str
    researcher: KeyText
    request: Digest


class RunDenied(Document):
    """A signed request that the hub refused."""

    kind: Literal["run.denied"] = "run.denied"
    run_id: RunId
    study: StudyName
    contract: Digest
    computation: str
    researcher: KeyText
    request: Digest
    code: Code


class SiteDecision(Document):
    """What a site answered to a request.

    Attributes:
        statement: Digest of the site's signed round key, where it takes part.
        code: Why it does not.
    """

    decision: Literal["accepted", "refused", "absent"]
    statement: Digest | None = None
    code: Code | None = None


class RunDecided(Document):
    """Each participant's decision on a run; see `room_for_decisions`."""

    kind: Literal["run.decided"] = "run.decided"
    run_id: RunId
    sites: dict[Label, SiteDecision]


class Rounds(Document):
    """Consecutive rounds that summed the contributions of the same sites."""

    first: Annotated[int, Field(ge=1)]
    last: Annotated[int, Field(ge=1)]
    sites: tuple[Label, ...]


class RunEnded(Document):
    """How a run ended.

    Attributes:
        rounds: The sums of it, in order.
        result: `commitment` to what was released; only of a run that succeeded.
        suppressed: Numbers that disclosure control left out of the result.
        code: Why it failed.
    """

    kind: Literal["run.ended"] = "run.ended"
    run_id: RunId
    status: Literal["succeeded", "failed", "cancelled"]
    rounds: tuple[Rounds, ...] = ()
    result: Digest | None = None
    suppressed: Annotated[int, Field(ge=0)] = 0
    code: Code | None = None


class KeyReleased(Document):
    """A data key was handed to a computation that proved what it is.

    Attributes:
        holder: Whose key.
        recipient: Digest of the public key that it was sealed for.
        evidence: Digest of the holder's signed release, which says what evidence it relied on.
    """

    kind: Literal["key.released"] = "key.released"
    run_id: RunId
    holder: Label
    recipient: Digest
    evidence: Digest


Fact = (
    Founded
    | TakenOver
    | MemberChanged
    | EnclaveChanged
    | ResearcherChanged
    | DatasetChanged
    | PolicyChanged
    | ContractChanged
    | RunSubmitted
    | RunDenied
    | RunDecided
    | RunEnded
    | KeyReleased
)


class Entry(Document):
    """A fact and when it was put on the ledger; its canonical bytes are the log's leaf."""

    schema_id: Literal["cohortium/ledger-entry/1"] = "cohortium/ledger-entry/1"
    at: Instant
    fact: Annotated[Fact, Field(discriminator="kind")]


@lru_cache(maxsize=256)
def parse_entry(data: bytes) -> Entry:
    """An entry from the log's bytes.

    Raises:
        ProtocolError: ``malformed-message``, also where the bytes are not in canonical form.
    """
    if len(data) > MAX_ENTRY_BYTES:
        raise ProtocolError("malformed-message", "A ledger entry is too long.")
    entry = Entry.from_bytes(data)
    try:
        again = entry.to_bytes()
    except InputError as error:
        raise ProtocolError("malformed-message", "A ledger entry has no canonical form.") from error
    if again != data:
        raise ProtocolError("malformed-message", "A ledger entry is not in canonical form.")
    return entry


_DECIDED_BYTES: Final = 512
_DECISION_BYTES: Final = 112
"""Of a site that takes part, whose entry is the longest, without its name."""


def room_for_decisions(sites: Collection[str]) -> bool:
    """Whether the decisions of these sites on a run fit into one entry, whatever they are.

    There is room for about 480 with names of 20 characters, 350 with names of 70.
    """
    names = sum(len(canonical(site)) for site in sites)
    return _DECIDED_BYTES + names + len(sites) * _DECISION_BYTES <= MAX_ENTRY_BYTES


def commitment(nonce: bytes, data: bytes, of: Literal["result", "policy"] = "result") -> str:
    """What the ledger holds of a result: it binds, and cannot be found by guessing the result.

    Args:
        nonce: 32 random bytes that go with the result.
        data: Its canonical JSON bytes; of a policy, the text of its digest.
    """
    return "sha256:" + hashlib.sha256(f"cohortium {of} v1\0".encode() + nonce + data).hexdigest()
