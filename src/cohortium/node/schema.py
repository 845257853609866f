"""The tables of the node's memory."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS contracts (
    digest TEXT PRIMARY KEY, study TEXT NOT NULL, body BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN (
        'proposed', 'signed', 'refused', 'active', 'superseded', 'suspended', 'revoked',
        'withdrawn', 'closed'
    )),
    received_at TEXT NOT NULL, decided_at TEXT, reason TEXT, ended_by TEXT,
    suspensions TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE IF NOT EXISTS drafts (
    digest TEXT PRIMARY KEY, study TEXT NOT NULL, received_at TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS statements (
    seq INTEGER PRIMARY KEY, digest TEXT NOT NULL, contract TEXT NOT NULL, action TEXT NOT NULL,
    author TEXT NOT NULL, key TEXT NOT NULL, envelope BLOB NOT NULL, received_at TEXT NOT NULL,
    applied INTEGER NOT NULL DEFAULT 1, UNIQUE (digest, action)
) STRICT;
CREATE INDEX IF NOT EXISTS statements_of_contract ON statements (contract, action);
CREATE TABLE IF NOT EXISTS peers (
    name TEXT PRIMARY KEY, key TEXT NOT NULL, since TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS revoked (key TEXT PRIMARY KEY, since TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, envelope BLOB NOT NULL, request_digest TEXT NOT NULL,
    contract_digest TEXT NOT NULL, computation TEXT NOT NULL, params_digest TEXT NOT NULL,
    disclosure TEXT NOT NULL, secret BLOB, advert BLOB NOT NULL, admitted_at TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'open', sites TEXT, roster BLOB, started_at TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS runs_of_contract ON runs (contract_digest, computation, params_digest);
CREATE TABLE IF NOT EXISTS rounds (
    run_id TEXT NOT NULL REFERENCES runs, round INTEGER NOT NULL, state_digest TEXT NOT NULL,
    reply_tag TEXT NOT NULL, PRIMARY KEY (run_id, round)
) STRICT;
CREATE TABLE IF NOT EXISTS party_rounds (
    run_id TEXT NOT NULL REFERENCES runs, round INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (run_id, round)
) STRICT;
CREATE TABLE IF NOT EXISTS summed (
    run_id TEXT NOT NULL REFERENCES runs, round INTEGER NOT NULL, sites TEXT NOT NULL,
    PRIMARY KEY (run_id, round)
) STRICT;
CREATE TABLE IF NOT EXISTS noise (
    run_id TEXT NOT NULL REFERENCES runs, round INTEGER NOT NULL, body BLOB,
    PRIMARY KEY (run_id, round)
) STRICT;
CREATE TABLE IF NOT EXISTS screens (
    run_id TEXT PRIMARY KEY REFERENCES runs, body BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS released (
    study TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, n_sets INTEGER NOT NULL,
    kept INTEGER NOT NULL, body BLOB NOT NULL, run_id TEXT NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (study, key)
) STRICT;
CREATE TRIGGER IF NOT EXISTS released_keeps BEFORE UPDATE ON released
    BEGIN SELECT RAISE(ABORT, 'what was released stays released'); END;
CREATE TRIGGER IF NOT EXISTS released_stays BEFORE DELETE ON released
    BEGIN SELECT RAISE(ABORT, 'what was released stays released'); END;
CREATE TABLE IF NOT EXISTS released_rows (
    study TEXT NOT NULL, digest TEXT NOT NULL, salt BLOB NOT NULL, columns BLOB NOT NULL,
    hashes BLOB NOT NULL, PRIMARY KEY (study, digest)
) STRICT;
CREATE TABLE IF NOT EXISTS task_releases (
    run_id TEXT PRIMARY KEY REFERENCES runs, recipient TEXT NOT NULL, release BLOB NOT NULL,
    offer BLOB NOT NULL, evidence BLOB NOT NULL, at TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS task_releases_keep BEFORE UPDATE ON task_releases
    BEGIN SELECT RAISE(ABORT, 'keys that were released stay released'); END;
CREATE TRIGGER IF NOT EXISTS task_releases_stay BEFORE DELETE ON task_releases
    BEGIN SELECT RAISE(ABORT, 'keys that were released stay released'); END;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, kind TEXT NOT NULL,
    body BLOB NOT NULL, created_at TEXT NOT NULL, settled_at TEXT, answer TEXT
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS owed_once ON outbox (topic) WHERE settled_at IS NULL;
CREATE TABLE IF NOT EXISTS published (name TEXT PRIMARY KEY, digest TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS said (
    what TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (what, digest)
) STRICT;
CREATE TABLE IF NOT EXISTS ledger_entries (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS ledger_subjects ON ledger_entries (subject);
CREATE INDEX IF NOT EXISTS ledger_kinds ON ledger_entries (kind, position);
CREATE TABLE IF NOT EXISTS ledger_tiles (
    level INTEGER NOT NULL, number INTEGER NOT NULL, hashes BLOB NOT NULL,
    PRIMARY KEY (level, number)
) STRICT;
CREATE TABLE IF NOT EXISTS ledger_checkpoints (
    kind TEXT PRIMARY KEY CHECK (kind IN ('seen', 'cosigned', 'final')),
    size INTEGER NOT NULL, note BLOB NOT NULL, at TEXT NOT NULL, key TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS ledger_state (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS ledger_due (run_id TEXT PRIMARY KEY, since TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS ledger_alarms (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
    raised_at TEXT NOT NULL, seen BLOB NOT NULL, received BLOB NOT NULL, proof BLOB NOT NULL,
    accepted_at TEXT, answer TEXT
) STRICT;
CREATE TRIGGER IF NOT EXISTS ledger_alarms_keep BEFORE UPDATE ON ledger_alarms
    WHEN (old.accepted_at IS NOT NULL) OR (new.kind, new.code, new.message, new.raised_at, new.seen,
        new.received, new.proof) IS NOT (old.kind, old.code, old.message, old.raised_at, old.seen,
        old.received, old.proof)
    BEGIN SELECT RAISE(ABORT, 'an alarm is kept as it was'); END;
CREATE TRIGGER IF NOT EXISTS ledger_alarms_stay BEFORE DELETE ON ledger_alarms
    BEGIN SELECT RAISE(ABORT, 'an alarm is kept for good'); END;
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY, body BLOB NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS journal_keeps BEFORE UPDATE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS journal_stays BEFORE DELETE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""
