from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Frame(_message.Message):
    __slots__ = ("message_id", "last", "data")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    message_id: int
    last: bool
    data: bytes
    def __init__(self, message_id: _Optional[int] = ..., last: _Optional[bool] = ..., data: _Optional[bytes] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("id", "in_reply_to", "error", "ack", "hello", "statement", "publish_dataset", "rotate_certificate", "policy_digest", "welcome", "contract_proposal", "contract_active", "revocation", "ledger_update", "contract_statement", "contract_draft", "contract_ended", "run_prepare", "round_request", "run_end", "share_request", "consistency_request", "unmask_request", "statements_request", "certificate", "cosignature", "run_advert", "round_reply", "share_reply", "survivor_signature", "unmasking", "statements", "task_prepare", "task_stop", "task_report", "task_channel", "task_fetch", "task_piece", "task_output", "publish_card")
    ID_FIELD_NUMBER: _ClassVar[int]
    IN_REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_DATASET_FIELD_NUMBER: _ClassVar[int]
    ROTATE_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    LEDGER_UPDATE_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_DRAFT_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_ENDED_FIELD_NUMBER: _ClassVar[int]
    RUN_PREPARE_FIELD_NUMBER: _ClassVar[int]
    ROUND_REQUEST_FIELD_NUMBER: _ClassVar[int]
    RUN_END_FIELD_NUMBER: _ClassVar[int]
    SHARE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_REQUEST_FIELD_NUMBER: _ClassVar[int]
    UNMASK_REQUEST_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_REQUEST_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    COSIGNATURE_FIELD_NUMBER: _ClassVar[int]
    RUN_ADVERT_FIELD_NUMBER: _ClassVar[int]
    ROUND_REPLY_FIELD_NUMBER: _ClassVar[int]
    SHARE_REPLY_FIELD_NUMBER: _ClassVar[int]
    SURVIVOR_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    UNMASKING_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    TASK_PREPARE_FIELD_NUMBER: _ClassVar[int]
    TASK_STOP_FIELD_NUMBER: _ClassVar[int]
    TASK_REPORT_FIELD_NUMBER: _ClassVar[int]
    TASK_CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TASK_FETCH_FIELD_NUMBER: _ClassVar[int]
    TASK_PIECE_FIELD_NUMBER: _ClassVar[int]
    TASK_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_CARD_FIELD_NUMBER: _ClassVar[int]
    id: int
    in_reply_to: int
    error: Error
    ack: Ack
    hello: Hello
    statement: Statement
    publish_dataset: PublishDataset
    rotate_certificate: RotateCertificate
    policy_digest: PolicyDigest
    welcome: Welcome
    contract_proposal: ContractProposal
    contract_active: ContractActive
    revocation: Revocation
    ledger_update: LedgerUpdate
    contract_statement: ContractStatement
    contract_draft: ContractDraft
    contract_ended: ContractEnded
    run_prepare: RunPrepare
    round_request: RoundRequest
    run_end: RunEnd
    share_request: ShareRequest
    consistency_request: SurvivorList
    unmask_request: SurvivorList
    statements_request: StatementsRequest
    certificate: Certificate
    cosignature: Cosignature
    run_advert: RunAdvert
    round_reply: RoundReply
    share_reply: ShareReply
    survivor_signature: SurvivorSignature
    unmasking: Unmasking
    statements: Statements
    task_prepare: TaskPrepare
    task_stop: TaskStop
    task_report: TaskReport
    task_channel: TaskChannel
    task_fetch: TaskFetch
    task_piece: TaskPiece
    task_output: TaskOutput
    publish_card: PublishCard
    def __init__(self, id: _Optional[int] = ..., in_reply_to: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., statement: _Optional[_Union[Statement, _Mapping]] = ..., publish_dataset: _Optional[_Union[PublishDataset, _Mapping]] = ..., rotate_certificate: _Optional[_Union[RotateCertificate, _Mapping]] = ..., policy_digest: _Optional[_Union[PolicyDigest, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., contract_proposal: _Optional[_Union[ContractProposal, _Mapping]] = ..., contract_active: _Optional[_Union[ContractActive, _Mapping]] = ..., revocation: _Optional[_Union[Revocation, _Mapping]] = ..., ledger_update: _Optional[_Union[LedgerUpdate, _Mapping]] = ..., contract_statement: _Optional[_Union[ContractStatement, _Mapping]] = ..., contract_draft: _Optional[_Union[ContractDraft, _Mapping]] = ..., contract_ended: _Optional[_Union[ContractEnded, _Mapping]] = ..., run_prepare: _Optional[_Union[RunPrepare, _Mapping]] = ..., round_request: _Optional[_Union[RoundRequest, _Mapping]] = ..., run_end: _Optional[_Union[RunEnd, _Mapping]] = ..., share_request: _Optional[_Union[ShareRequest, _Mapping]] = ..., consistency_request: _Optional[_Union[SurvivorList, _Mapping]] = ..., unmask_request: _Optional[_Union[SurvivorList, _Mapping]] = ..., statements_request: _Optional[_Union[StatementsRequest, _Mapping]] = ..., certificate: _Optional[_Union[Certificate, _Mapping]] = ..., cosignature: _Optional[_Union[Cosignature, _Mapping]] = ..., run_advert: _Optional[_Union[RunAdvert, _Mapping]] = ..., round_reply: _Optional[_Union[RoundReply, _Mapping]] = ..., share_reply: _Optional[_Union[ShareReply, _Mapping]] = ..., survivor_signature: _Optional[_Union[SurvivorSignature, _Mapping]] = ..., unmasking: _Optional[_Union[Unmasking, _Mapping]] = ..., statements: _Optional[_Union[Statements, _Mapping]] = ..., task_prepare: _Optional[_Union[TaskPrepare, _Mapping]] = ..., task_stop: _Optional[_Union[TaskStop, _Mapping]] = ..., task_report: _Optional[_Union[TaskReport, _Mapping]] = ..., task_channel: _Optional[_Union[TaskChannel, _Mapping]] = ..., task_fetch: _Optional[_Union[TaskFetch, _Mapping]] = ..., task_piece: _Optional[_Union[TaskPiece, _Mapping]] = ..., task_output: _Optional[_Union[TaskOutput, _Mapping]] = ..., publish_card: _Optional[_Union[PublishCard, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "software", "contracts", "statements")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    CONTRACTS_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    software: str
    contracts: _containers.RepeatedScalarFieldContainer[str]
    statements: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, protocol: _Optional[str] = ..., software: _Optional[str] = ..., contracts: _Optional[_Iterable[str]] = ..., statements: _Optional[_Iterable[str]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("consortium", "revoked_keys", "ledger_key", "ledger_checkpoint")
    CONSORTIUM_FIELD_NUMBER: _ClassVar[int]
    REVOKED_KEYS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_KEY_FIELD_NUMBER: _ClassVar[int]
    LEDGER_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    consortium: str
    revoked_keys: _containers.RepeatedScalarFieldContainer[str]
    ledger_key: str
    ledger_checkpoint: bytes
    def __init__(self, consortium: _Optional[str] = ..., revoked_keys: _Optional[_Iterable[str]] = ..., ledger_key: _Optional[str] = ..., ledger_checkpoint: _Optional[bytes] = ...) -> None: ...

class PublishDataset(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...

class ContractProposal(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    def __init__(self, envelope: _Optional[bytes] = ...) -> None: ...

class Statement(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    def __init__(self, envelope: _Optional[bytes] = ...) -> None: ...

class ContractStatement(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    def __init__(self, envelope: _Optional[bytes] = ...) -> None: ...

class ContractDraft(_message.Message):
    __slots__ = ("envelope", "assignments")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    assignments: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, envelope: _Optional[bytes] = ..., assignments: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ContractEnded(_message.Message):
    __slots__ = ("contract_digest", "reason")
    CONTRACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    contract_digest: str
    reason: str
    def __init__(self, contract_digest: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class PolicyDigest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class StatementsRequest(_message.Message):
    __slots__ = ("digests",)
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, digests: _Optional[_Iterable[str]] = ...) -> None: ...

class Statements(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, envelopes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class LedgerUpdate(_message.Message):
    __slots__ = ("start", "entries", "checkpoint", "final", "more", "sent_at")
    START_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    start: int
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    final: bytes
    more: bool
    sent_at: int
    def __init__(self, start: _Optional[int] = ..., entries: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ..., final: _Optional[bytes] = ..., more: _Optional[bool] = ..., sent_at: _Optional[int] = ...) -> None: ...

class Cosignature(_message.Message):
    __slots__ = ("size", "line")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    size: int
    line: bytes
    def __init__(self, size: _Optional[int] = ..., line: _Optional[bytes] = ...) -> None: ...

class ContractActive(_message.Message):
    __slots__ = ("contract_digest", "envelopes")
    CONTRACT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    contract_digest: str
    envelopes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, contract_digest: _Optional[str] = ..., envelopes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Revocation(_message.Message):
    __slots__ = ("revoked_keys",)
    REVOKED_KEYS_FIELD_NUMBER: _ClassVar[int]
    revoked_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, revoked_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class RotateCertificate(_message.Message):
    __slots__ = ("csr_pem", "signature")
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    csr_pem: bytes
    signature: bytes
    def __init__(self, csr_pem: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("pem",)
    PEM_FIELD_NUMBER: _ClassVar[int]
    pem: bytes
    def __init__(self, pem: _Optional[bytes] = ...) -> None: ...

class RunPrepare(_message.Message):
    __slots__ = ("request_envelope",)
    REQUEST_ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    request_envelope: bytes
    def __init__(self, request_envelope: _Optional[bytes] = ...) -> None: ...

class RunAdvert(_message.Message):
    __slots__ = ("envelope", "min_cell", "released")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    MIN_CELL_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    min_cell: int
    released: _containers.RepeatedCompositeFieldContainer[ReleasedSets]
    def __init__(self, envelope: _Optional[bytes] = ..., min_cell: _Optional[int] = ..., released: _Optional[_Iterable[_Union[ReleasedSets, _Mapping]]] = ...) -> None: ...

class ReleasedSets(_message.Message):
    __slots__ = ("key", "sets", "kept")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SETS_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    key: str
    sets: int
    kept: int
    def __init__(self, key: _Optional[str] = ..., sets: _Optional[int] = ..., kept: _Optional[int] = ...) -> None: ...

class Array(_message.Message):
    __slots__ = ("name", "dtype", "shape", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class RoundRequest(_message.Message):
    __slots__ = ("run_id", "round", "state_json", "state_arrays", "roster", "active", "shares")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STATE_JSON_FIELD_NUMBER: _ClassVar[int]
    STATE_ARRAYS_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    state_json: bytes
    state_arrays: _containers.RepeatedCompositeFieldContainer[Array]
    roster: _containers.RepeatedScalarFieldContainer[bytes]
    active: bytes
    shares: _containers.RepeatedCompositeFieldContainer[KeyShare]
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., state_json: _Optional[bytes] = ..., state_arrays: _Optional[_Iterable[_Union[Array, _Mapping]]] = ..., roster: _Optional[_Iterable[bytes]] = ..., active: _Optional[bytes] = ..., shares: _Optional[_Iterable[_Union[KeyShare, _Mapping]]] = ...) -> None: ...

class RoundReply(_message.Message):
    __slots__ = ("run_id", "round", "masked", "signature", "agreed", "next")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    masked: bytes
    signature: bytes
    agreed: bytes
    next: ShareReply
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., masked: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., agreed: _Optional[bytes] = ..., next: _Optional[_Union[ShareReply, _Mapping]] = ...) -> None: ...

class ShareRequest(_message.Message):
    __slots__ = ("run_id", "round", "roster")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    roster: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., roster: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ShareReply(_message.Message):
    __slots__ = ("run_id", "round", "mask_key", "sealed")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    mask_key: bytes
    sealed: _containers.RepeatedCompositeFieldContainer[OfParty]
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., mask_key: _Optional[bytes] = ..., sealed: _Optional[_Iterable[_Union[OfParty, _Mapping]]] = ...) -> None: ...

class OfParty(_message.Message):
    __slots__ = ("party", "data")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    party: int
    data: bytes
    def __init__(self, party: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class KeyShare(_message.Message):
    __slots__ = ("party", "mask_key", "sealed")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    party: int
    mask_key: bytes
    sealed: bytes
    def __init__(self, party: _Optional[int] = ..., mask_key: _Optional[bytes] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class SurvivorList(_message.Message):
    __slots__ = ("run_id", "round", "survivors", "signatures")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    survivors: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[OfParty]
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., survivors: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[OfParty, _Mapping]]] = ...) -> None: ...

class SurvivorSignature(_message.Message):
    __slots__ = ("run_id", "round", "signature")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    signature: bytes
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Unmasking(_message.Message):
    __slots__ = ("run_id", "round", "shares")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    shares: _containers.RepeatedCompositeFieldContainer[OfParty]
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., shares: _Optional[_Iterable[_Union[OfParty, _Mapping]]] = ...) -> None: ...

class RunEnd(_message.Message):
    __slots__ = ("run_id", "outcome", "error")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    outcome: str
    error: str
    def __init__(self, run_id: _Optional[str] = ..., outcome: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class TaskPrepare(_message.Message):
    __slots__ = ("request_envelope", "contract_envelopes", "code", "cards")
    REQUEST_ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CARDS_FIELD_NUMBER: _ClassVar[int]
    request_envelope: bytes
    contract_envelopes: _containers.RepeatedScalarFieldContainer[bytes]
    code: bytes
    cards: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, request_envelope: _Optional[bytes] = ..., contract_envelopes: _Optional[_Iterable[bytes]] = ..., code: _Optional[bytes] = ..., cards: _Optional[_Iterable[bytes]] = ...) -> None: ...

class TaskStop(_message.Message):
    __slots__ = ("run_id", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class TaskReport(_message.Message):
    __slots__ = ("run_id", "stage", "done_bytes", "total_bytes", "outcome", "error")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    stage: str
    done_bytes: int
    total_bytes: int
    outcome: bytes
    error: bytes
    def __init__(self, run_id: _Optional[str] = ..., stage: _Optional[str] = ..., done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., outcome: _Optional[bytes] = ..., error: _Optional[bytes] = ...) -> None: ...

class TaskChannel(_message.Message):
    __slots__ = ("run_id", "site", "session", "data", "request_envelope", "release", "offer", "evidence")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    site: str
    session: str
    data: bytes
    request_envelope: bytes
    release: bytes
    offer: bytes
    evidence: bytes
    def __init__(self, run_id: _Optional[str] = ..., site: _Optional[str] = ..., session: _Optional[str] = ..., data: _Optional[bytes] = ..., request_envelope: _Optional[bytes] = ..., release: _Optional[bytes] = ..., offer: _Optional[bytes] = ..., evidence: _Optional[bytes] = ...) -> None: ...

class TaskFetch(_message.Message):
    __slots__ = ("run_id", "site", "slot", "path", "offset")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    site: str
    slot: str
    path: str
    offset: int
    def __init__(self, run_id: _Optional[str] = ..., site: _Optional[str] = ..., slot: _Optional[str] = ..., path: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class TaskPiece(_message.Message):
    __slots__ = ("data", "size")
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    size: int
    def __init__(self, data: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class TaskOutput(_message.Message):
    __slots__ = ("run_id", "slot", "path", "offset", "data")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    slot: str
    path: str
    offset: int
    data: bytes
    def __init__(self, run_id: _Optional[str] = ..., slot: _Optional[str] = ..., path: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PublishCard(_message.Message):
    __slots__ = ("envelope",)
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    def __init__(self, envelope: _Optional[bytes] = ...) -> None: ...
