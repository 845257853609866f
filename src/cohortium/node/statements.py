"""The signed statements that this node holds: its own, and those of others that it verified."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cohortium.contract.statements import Transition
from cohortium.core.canonical import digest_bytes
from cohortium.ledger.entry import ContractAction
from cohortium.node.store import NodeStore


@dataclass(frozen=True)
class Statement:
    """A verified envelope.

    Attributes:
        digest: Of the envelope; what the ledger calls it.
        contract: Digest of the contract or draft that it is about.
        author: Institution or researcher whose `key` signed it.
        applied: Whether the contract's state is what it is with it; else it waits for that.
    """

    seq: int
    digest: str
    contract: str
    action: ContractAction
    author: str
    key: str
    envelope: bytes
    received_at: str
    applied: bool

    @property
    def reason(self) -> str | None:
        """Why, of a transition."""
        if self.action in {"draft", "assign", "propose", "sign"}:
            return None
        return Transition.open(self.envelope)[0].reason


def keep(
    store: NodeStore,
    envelope: bytes,
    *,
    contract: str,
    action: ContractAction,
    author: str,
    key: str,
    applied: bool = True,
) -> bool:
    """Keep a verified statement; False where it is there already. Belongs in a transaction."""
    digest = digest_bytes(envelope)
    if store.execute("SELECT 1 FROM statements WHERE digest = ? AND action = ?", digest, action):
        return False
    store.execute(
        "INSERT INTO statements (digest, contract, action, author, key, envelope, received_at, "
        "applied) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        digest,
        contract,
        action,
        author,
        key,
        envelope,
        store.now(),
        int(applied),
    )
    return True


def set_applied(store: NodeStore, seq: int) -> None:
    """A statement waits no longer."""
    store.execute("UPDATE statements SET applied = 1 WHERE seq = ?", seq)


def about(store: NodeStore, contract: str, action: ContractAction | None = None) -> list[Statement]:
    """The statements about a contract or draft in the order in which they came."""
    rows = store.execute(
        "SELECT * FROM statements WHERE contract = ? AND (? IS NULL OR action = ?) ORDER BY seq",
        contract,
        action,
        action,
    )
    return [_statement(row) for row in rows]


def signatures(store: NodeStore, contract: str) -> dict[str, bytes]:
    """The participants' envelopes over a contract, by key."""
    return {signed.key: signed.envelope for signed in about(store, contract, "sign")}


def find(store: NodeStore, digest: str) -> Statement | None:
    """The statement whose envelope has that digest."""
    rows = store.execute("SELECT * FROM statements WHERE digest = ? ORDER BY seq", digest)
    return _statement(rows[0]) if rows else None


def give_back(store: NodeStore, digests: Iterable[str]) -> list[bytes]:
    """Those of the statements that are kept here; for a hub that took over and has lost them."""
    found = (find(store, digest) for digest in digests)
    return [statement.envelope for statement in found if statement is not None]


def _statement(row: Sequence[Any]) -> Statement:
    return replace(Statement(*row), applied=bool(row[-1]))


def digests(store: NodeStore) -> list[str]:
    """What the hub need not send again; signatures come with the contract that they activate."""
    rows = store.execute("SELECT digest FROM statements WHERE action NOT IN ('propose', 'sign')")
    return [digest for (digest,) in rows]
