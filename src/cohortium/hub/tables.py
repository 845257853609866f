"""The hub's database. Times are RFC 3339 text; documents are canonical JSON bytes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

counters = Table(
    "counters",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Integer, nullable=False),
)

invitations = Table(
    "invitations",
    metadata,
    Column("secret_digest", String(64), primary_key=True),
    Column("kind", String(12), nullable=False),
    Column("name", String(200), nullable=False),
    Column("expires_at", String(40), nullable=False),
    Column("used_at", String(40)),
)

members = Table(
    "members",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("key", String(60), nullable=False, unique=True),
    Column("node_id", String(40), nullable=False, unique=True),
    Column("status", String(12), nullable=False),
    Column("csr_pem", Text),
    Column("created_at", String(40), nullable=False),
    Column("kind", String(12), nullable=False, server_default="site"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("fingerprint", String(80), primary_key=True),
    Column("member", String(200), ForeignKey("members.name"), nullable=False, index=True),
    Column("pem", Text, nullable=False),
    Column("issued_at", String(40), nullable=False),
    Column("used_at", String(40)),
    Column("revoked_at", String(40)),
)

users = Table(
    "users",
    metadata,
    Column("key", String(60), primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("status", String(12), nullable=False),
    Column("created_at", String(40), nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("member", String(200), ForeignKey("members.name"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("document", LargeBinary, nullable=False),
)

contracts = Table(
    "contracts",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("digest", String(80), nullable=False, unique=True),
    Column("study", String(63), nullable=False, index=True),
    Column("document", LargeBinary, nullable=False),
    Column("created_at", String(40), nullable=False),
)

statements = Table(
    "statements",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("study", String(63), nullable=False, index=True),
    Column("contract", String(80), nullable=False, index=True),
    Column("action", String(12), nullable=False),
    Column("author", String(200), nullable=False),
    Column("key", String(60), nullable=False),
    Column("digest", String(80), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("at", String(40), nullable=False),
    Column("reason", Text),
    Column("state", String(12), nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("study", String(63), nullable=False, index=True),
    Column("contract", String(80), ForeignKey("contracts.digest"), nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("status", String(12), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("participants", LargeBinary, nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("payload_bytes", LargeBinary, nullable=False),
    Column("error", LargeBinary),
    Column("submitted_at", String(40), nullable=False),
    Column("finished_at", String(40)),
)

results = Table(
    "results",
    metadata,
    Column("run", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("document", LargeBinary, nullable=False),
)

task_runs = Table(
    "task_runs",
    metadata,
    Column("run", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("enclave", String(200), nullable=False),
    Column("enclave_key", String(60), nullable=False),
    Column("outcome", String(80)),
)

cards = Table(
    "cards",
    metadata,
    Column("key", String(60), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("at", String(40), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("site", String(200), nullable=False, index=True),
    Column("kind", String(20), nullable=False),
    Column("subject", String(80), nullable=False),
    UniqueConstraint("site", "kind", "subject"),
)

ledger_pending = Table(
    "ledger_pending",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("kind", String(24), nullable=False),
    Column("subject", String(300), nullable=False),
    Column("fact", LargeBinary, nullable=False),
    Column("urgent", Boolean, nullable=False),
)

_position = BigInteger().with_variant(Integer, "sqlite")

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("position", _position, primary_key=True, autoincrement=False),
    Column("kind", String(24), nullable=False),
    Column("subject", String(300), nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Index("ledger_entries_about", "kind", "subject"),
)

ledger_tiles = Table(
    "ledger_tiles",
    metadata,
    Column("level", Integer, primary_key=True),
    Column("number", _position, primary_key=True),
    Column("hashes", LargeBinary, nullable=False),
)

ledger_checkpoints = Table(
    "ledger_checkpoints",
    metadata,
    Column("size", _position, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("final", Boolean, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("run", String(32), nullable=False, index=True),
    Column("envelope", LargeBinary, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("run", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("nonce", LargeBinary, nullable=False),
    Column("position", _position),
    Column("size", _position),
)

recovered = Table(
    "recovered",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
)
