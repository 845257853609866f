"""The node's memory: contracts, known keys, runs, what is owed to the hub, and the journal.

One SQLite file in write-ahead mode with full synchronisation: what a transaction wrote survives a
crash of the process and of the machine, whole or not at all. Several processes (the serving node
and the command line) may use it at once.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cohortium.core.canonical import digest_bytes
from cohortium.core.clock import Clock, system_clock, to_rfc3339
from cohortium.errors import IntegrityFailure
from cohortium.node.schema import SCHEMA

ContractState = Literal[
    "proposed",
    "signed",
    "refused",
    "active",
    "superseded",
    "suspended",
    "revoked",
    "withdrawn",
    "closed",
]
RunStatus = Literal["open", "failed", "succeeded", "cancelled"]
Stage = Literal["before-commit", "after-commit"]
_MAX_INTEGER = 2**63 - 1
"""Of SQLite."""


@dataclass(frozen=True)
class StoredContract:
    """A contract as the node keeps it.

    Attributes:
        body: Its canonical bytes.
        reason: Why it ended, or this site refused it; `ended_by` says by whom.
        suspensions: JSON: by whom, and of which computations (null: everything).
    """

    digest: str
    study: str
    body: bytes
    state: ContractState
    received_at: str
    decided_at: str | None
    reason: str | None
    ended_by: str | None
    suspensions: str


@dataclass(frozen=True, repr=False)
class StoredRun:
    """A run that this node admitted.

    Attributes:
        secret: X25519 secret of the run; None once the run is over.
        disclosure: JSON of the limits that hold for the whole run.
        sites: JSON list of the parties whose contributions are summed, from the first round on.
        roster: The parties' round keys, length-framed; see `NodeStore.begin_rounds`.
    """

    run_id: str
    envelope: bytes
    request_digest: str
    contract_digest: str
    computation: str
    params_digest: str
    disclosure: str
    secret: bytes | None
    advert: bytes
    admitted_at: str
    status: RunStatus = "open"
    sites: str | None = None
    roster: bytes | None = None
    started_at: str | None = None


@dataclass(frozen=True)
class Owed:
    """A message that the hub has not acknowledged."""

    id: int
    topic: str
    kind: str
    body: bytes


@dataclass(frozen=True)
class StoredRound:
    """A round that was answered, or that failed here.

    Attributes:
        reply_tag: `Party.tag` of the answer; empty where no contribution came about.
    """

    round: int
    state_digest: str
    reply_tag: str


class NodeStore:
    """The node's durable state.

    Args:
        path: The database file, or ``:memory:``.
        clock: Where times come from.
        fault: Called around every commit; tests make it raise.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock = system_clock,
        fault: Callable[[Stage], None] = lambda _stage: None,
    ) -> None:
        self._clock = clock
        self._fault = fault
        self._lock = threading.RLock()
        self._depth = 0
        try:
            # Read once for its mode only: SQLite would create the file readable by others.
            if str(path) != ":memory:":
                Path(path).touch(mode=0o600)
            self._db = sqlite3.connect(
                str(path), isolation_level=None, check_same_thread=False, timeout=10
            )
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            # A run's secret is overwritten when the run ends, not only unlinked.
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise IntegrityFailure(
                "broken-store", f"The node's database {path} cannot be used: {error}."
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside become durable together on leaving, or none of them; may be nested."""
        with self._lock:
            if self._depth:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._fault("before-commit")
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0
            self._fault("after-commit")

    def now(self) -> str:
        """The present time as stored."""
        return to_rfc3339(self._clock())

    def execute(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement; a write belongs in a `transaction`."""
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    # Contracts

    def add_proposal(self, digest: str, study: str, body: bytes) -> bool:
        """Keep a proposed contract; False where it is known already."""
        if self.contract(digest) is not None:
            return False
        self.execute(
            "INSERT INTO contracts (digest, study, body, state, received_at) "
            "VALUES (?, ?, ?, 'proposed', ?)",
            digest,
            study,
            body,
            self.now(),
        )
        return True

    def contract(self, digest: str) -> StoredContract | None:
        """The contract of that digest, in any state."""
        rows = self.execute("SELECT * FROM contracts WHERE digest = ?", digest)
        return StoredContract(*rows[0]) if rows else None

    def contracts(self, study: str | None = None) -> list[StoredContract]:
        """All contracts, or a study's, oldest first."""
        rows = self.execute(
            "SELECT * FROM contracts WHERE ? IS NULL OR study = ? ORDER BY received_at, rowid",
            study,
            study,
        )
        return [StoredContract(*row) for row in rows]

    def set_contract_state(
        self,
        digest: str,
        state: ContractState,
        *,
        reason: str | None = None,
        ended_by: str | None = None,
        suspensions: str = "{}",
    ) -> None:
        """Record what a decision or a statement made of a contract."""
        self.execute(
            "UPDATE contracts SET state = ?, decided_at = ?, reason = ?, ended_by = ?, "
            "suspensions = ? WHERE digest = ?",
            state,
            self.now(),
            reason,
            ended_by,
            suspensions,
            digest,
        )

    def add_draft(self, digest: str, study: str) -> bool:
        """Know of a draft, whose statements are kept; False where it is known already."""
        if self.execute("SELECT 1 FROM drafts WHERE digest = ?", digest):
            return False
        self.execute("INSERT INTO drafts VALUES (?, ?, ?)", digest, study, self.now())
        return True

    def drafts(self) -> list[tuple[str, str]]:
        """Digest and study of every draft, oldest first."""
        rows = self.execute("SELECT digest, study FROM drafts ORDER BY rowid")
        return [(str(digest), str(study)) for digest, study in rows]

    # Keys of others

    def peers(self) -> dict[str, str]:
        """The pinned contract key of each other institution."""
        return {name: key for name, key in self.execute("SELECT name, key FROM peers")}  # noqa: C416

    def pin_peer(self, name: str, key: str) -> None:
        """Know `name` by `key` from now on."""
        self.execute("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", name, key, self.now())

    def revoke(self, key: str) -> bool:
        """Never again accept this researcher's key; False where that was so before."""
        known = self.execute("SELECT 1 FROM revoked WHERE key = ?", key)
        if not known:
            self.execute("INSERT INTO revoked VALUES (?, ?)", key, self.now())
        return not known

    def revoked(self) -> frozenset[str]:
        """The researchers' keys that no longer count."""
        return frozenset(key for (key,) in self.execute("SELECT key FROM revoked"))

    # Runs

    def run(self, run_id: str) -> StoredRun | None:
        """The run, or None where it was never admitted."""
        rows = self.execute("SELECT * FROM runs WHERE run_id = ?", run_id)
        return StoredRun(*rows[0]) if rows else None

    def newest_runs(self, count: int) -> list[StoredRun]:
        """Runs that were admitted here, newest first."""
        rows = self.execute("SELECT * FROM runs ORDER BY rowid DESC LIMIT ?", count)
        return [StoredRun(*row) for row in rows]

    def add_run(self, run: StoredRun) -> None:
        """Keep an admitted run with its secret."""
        self.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            run.run_id,
            run.envelope,
            run.request_digest,
            run.contract_digest,
            run.computation,
            run.params_digest,
            run.disclosure,
            run.secret,
            run.advert,
            run.admitted_at,
            run.status,
            run.sites,
            run.roster,
            run.started_at,
        )

    def begin_rounds(self, run_id: str, sites: str, roster: bytes) -> None:
        """Fix the parties of a run: from here on it counts as used."""
        self.execute(
            "UPDATE runs SET sites = ?, roster = ?, started_at = ? WHERE run_id = ?",
            sites,
            roster,
            self.now(),
            run_id,
        )

    def end_run(self, run_id: str, status: RunStatus) -> None:
        """Close a run; its secret stays only where it may be resumed."""
        keep = status in {"open", "failed"}
        self.execute("UPDATE runs SET status = ? WHERE run_id = ?", status, run_id)
        if not keep:
            self.execute("UPDATE runs SET secret = NULL WHERE run_id = ?", run_id)
            self.execute("DELETE FROM party_rounds WHERE run_id = ?", run_id)
            self.execute("UPDATE noise SET body = NULL WHERE run_id = ?", run_id)

    def expire_runs(self, admitted_before: str) -> None:
        """Forget the secrets of runs that nobody ended."""
        self.execute(
            "UPDATE runs SET secret = NULL, status = 'cancelled' "
            "WHERE secret IS NOT NULL AND admitted_at < ?",
            admitted_before,
        )
        self.execute(
            "DELETE FROM party_rounds WHERE run_id IN "
            "(SELECT run_id FROM runs WHERE secret IS NULL)"
        )
        self.execute(
            "UPDATE noise SET body = NULL WHERE body IS NOT NULL AND run_id IN "
            "(SELECT run_id FROM runs WHERE secret IS NULL)"
        )

    def runs_used(self, contract_digest: str, computations: Callable[[str], bool]) -> int:
        """Runs of this contract that had a round, of the computations that the predicate names."""
        rows = self.execute(
            "SELECT computation FROM runs WHERE contract_digest = ? AND started_at IS NOT NULL",
            contract_digest,
        )
        return sum(computations(name) for (name,) in rows)

    def runs_since(self, moment: str) -> int:
        """Runs of any contract that had their first round at or after `moment`."""
        rows = self.execute("SELECT count(*) FROM runs WHERE started_at >= ?", moment)
        return int(rows[0][0])

    def sums_before(
        self, contract_digest: str, computation: str, params_digest: str, run_id: str
    ) -> set[tuple[str, str]]:
        """Over which parties and limits (both JSON) runs but `run_id` summed this computation."""
        rows = self.execute(
            "SELECT DISTINCT sites, disclosure FROM runs WHERE contract_digest = ? "
            "AND computation = ? AND params_digest = ? AND sites IS NOT NULL AND run_id <> ?",
            contract_digest,
            computation,
            params_digest,
            run_id,
        )
        return {(str(sites), str(disclosure)) for sites, disclosure in rows}

    def round(self, run_id: str, number: int) -> StoredRound | None:
        """The round as it was answered or failed, or None."""
        rows = self.execute(
            "SELECT round, state_digest, reply_tag FROM rounds WHERE run_id = ? AND round = ?",
            run_id,
            number,
        )
        return StoredRound(*rows[0]) if rows else None

    def highest_round(self, run_id: str) -> int:
        """The last answered round; 0 before the first."""
        rows = self.execute(
            "SELECT max(round) FROM rounds WHERE run_id = ? AND reply_tag <> ''", run_id
        )
        return int(rows[0][0] or 0)

    def add_round(self, run_id: str, answered: StoredRound) -> None:
        """Keep what was asked and what was answered; a failure gives way to an answer."""
        self.execute(
            "INSERT INTO rounds VALUES (?, ?, ?, ?) ON CONFLICT (run_id, round) "
            "DO UPDATE SET reply_tag = excluded.reply_tag WHERE reply_tag = ''",
            run_id,
            answered.round,
            answered.state_digest,
            answered.reply_tag,
        )

    def first_round(self, run_id: str) -> int:
        """The first answered round; 0 before it."""
        rows = self.execute(
            "SELECT min(round) FROM rounds WHERE run_id = ? AND reply_tag <> ''", run_id
        )
        return int(rows[0][0] or 0)

    def failed_round(self, run_id: str) -> int:
        """The round that failed on the data and was not answered since; 0 where there is none."""
        rows = self.execute(
            "SELECT max(round) FROM rounds WHERE run_id = ? AND reply_tag = ''", run_id
        )
        return int(rows[0][0] or 0)

    def asked_before(self, run_id: str, state_digest: str, number: int) -> bool:
        """Whether another round of the run was answered for the same state."""
        return bool(
            self.execute(
                "SELECT 1 FROM rounds WHERE run_id = ? AND state_digest = ? AND round <> ? LIMIT 1",
                run_id,
                state_digest,
                number,
            )
        )

    def set_summed(self, run_id: str, number: int, sites: str) -> None:
        """The parties whose contributions a round sums, as far as this site knows."""
        self.execute("INSERT OR REPLACE INTO summed VALUES (?, ?, ?)", run_id, number, sites)

    def summed(self, run_id: str, first: int, last: int) -> dict[int, str]:
        """The parties (JSON) of the rounds in that range that this site has answered."""
        rows = self.execute(
            "SELECT round, sites FROM summed WHERE run_id = ? AND round BETWEEN ? AND ?",
            run_id,
            *(min(number, _MAX_INTEGER) for number in (first, last)),
        )
        return {int(number): str(sites) for number, sites in rows}

    def summed_before(
        self,
        contract_digest: str,
        computation: str,
        params_digest: str,
        state_digest: str,
        run_id: str,
    ) -> set[str]:
        """Over which parties (JSON) runs but `run_id` summed this computation for this state."""
        rows = self.execute(
            "SELECT DISTINCT summed.sites FROM summed JOIN rounds USING (run_id, round) "
            "JOIN runs USING (run_id) WHERE contract_digest = ? AND computation = ? "
            "AND params_digest = ? AND state_digest = ? AND run_id <> ?",
            contract_digest,
            computation,
            params_digest,
            state_digest,
            run_id,
        )
        return {str(sites) for (sites,) in rows}

    def party_round(self, run_id: str, number: int) -> dict[str, Any] | None:
        """What `put_party_round` stored."""
        rows = self.execute(
            "SELECT body FROM party_rounds WHERE run_id = ? AND round = ?", run_id, number
        )
        return json.loads(rows[0][0]) if rows else None

    def put_party_round(self, run_id: str, number: int, body: Mapping[str, Any]) -> None:
        """Keep what a site has to remember of a round of the secure sum."""
        self.execute(
            "INSERT OR REPLACE INTO party_rounds VALUES (?, ?, ?)",
            run_id,
            number,
            json.dumps(body).encode(),
        )

    def set_sites(self, run_id: str, sites: str) -> None:
        """The parties whose contributions a run sums, where some dropped in its first round."""
        self.execute("UPDATE runs SET sites = ? WHERE run_id = ?", sites, run_id)

    def noise(self, run_id: str, number: int) -> bytes | None:
        """The noise of a round; None where there was none, or it was forgotten."""
        rows = self.execute("SELECT body FROM noise WHERE run_id = ? AND round = ?", run_id, number)
        return rows[0][0] if rows else None

    def put_noise(self, run_id: str, number: int, body: bytes) -> None:
        """Keep a round's noise, forget that of the rounds before it, and count one more sum."""
        self.execute("UPDATE noise SET body = NULL WHERE run_id = ? AND round < ?", run_id, number)
        self.execute("INSERT INTO noise VALUES (?, ?, ?)", run_id, number, body)

    def noisy_sums(self, contract_digest: str, computations: Callable[[str], bool]) -> int:
        """Sums with noise under this contract, of the computations that the predicate names."""
        rows = self.execute(
            "SELECT computation FROM noise JOIN runs USING (run_id) WHERE contract_digest = ?",
            contract_digest,
        )
        return sum(computations(name) for (name,) in rows)

    # What this site has told the hub: what the ledger may say of it

    def say(self, what: str, digest: str) -> None:
        """Remember for good that the hub may know this from here."""
        self.execute("INSERT OR IGNORE INTO said VALUES (?, ?)", what, digest)

    def has_said(self, what: str, digest: str) -> bool:
        """Whether that was said before."""
        return bool(self.execute("SELECT 1 FROM said WHERE what = ? AND digest = ?", what, digest))

    # What is owed to the hub

    def owe(self, topic: str, kind: str, body: bytes) -> None:
        """Queue a message; a newer one on the same topic takes the place of an unsent one."""
        self.say(kind, digest_bytes(body))
        self.execute("DELETE FROM outbox WHERE topic = ? AND settled_at IS NULL", topic)
        self.execute(
            "INSERT INTO outbox (topic, kind, body, created_at) VALUES (?, ?, ?, ?)",
            topic,
            kind,
            body,
            self.now(),
        )

    def owed(self) -> list[Owed]:
        """What the hub has not acknowledged, oldest first."""
        rows = self.execute(
            "SELECT id, topic, kind, body FROM outbox WHERE settled_at IS NULL ORDER BY id"
        )
        return [Owed(*row) for row in rows]

    def settle(self, owed_id: int, answer: str) -> None:
        """The hub has it; `answer` is ``ok`` or the code of its refusal."""
        self.execute(
            "UPDATE outbox SET settled_at = ?, answer = ?, body = x'' WHERE id = ?",
            self.now(),
            answer,
            owed_id,
        )

    def last_answer(self, topic: str) -> str | None:
        """How the hub answered the latest message on a topic; None while it is owed or unknown."""
        rows = self.execute(
            "SELECT answer FROM outbox WHERE topic = ? ORDER BY id DESC LIMIT 1", topic
        )
        return rows[0][0] if rows else None

    def refused_statements(self, last: int = 10) -> list[tuple[str, str]]:
        """Time and answer of the hub's latest refusals of what this site stated."""
        rows = self.execute(
            "SELECT settled_at, answer FROM outbox WHERE kind = 'statement' AND answer <> 'ok' "
            "ORDER BY id DESC LIMIT ?",
            last,
        )
        return [(str(at), str(answer)) for at, answer in rows]

    def published(self) -> dict[str, str]:
        """Digest of the latest publication that was owed, by dataset."""
        rows = self.execute("SELECT name, digest FROM published")
        return {name: digest for name, digest in rows}  # noqa: C416

    def set_published(self, name: str, digest: str) -> None:
        """Remember what the consortium is told about a dataset."""
        self.execute("INSERT OR REPLACE INTO published VALUES (?, ?)", name, digest)
