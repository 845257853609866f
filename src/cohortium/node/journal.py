"""The node's own record of every decision: append-only, each entry bound to the one before.

Entry `seq` has the hash SHA-256(hash of the entry before || canonical JSON of the entry), so a
changed, removed or inserted entry breaks every hash after it. The journal holds who asked for what
and how this node decided; it never holds a value of the data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cohortium.core.canonical import canonical, parse_json
from cohortium.errors import CohortiumError, IntegrityFailure
from cohortium.node.store import NodeStore

GENESIS = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Entry:
    """One decision.

    Attributes:
        body: ``at``, ``what``, ``allowed``, ``code`` and what it was about.
    """

    seq: int
    hash: str
    body: dict[str, Any]


def append(
    store: NodeStore,
    what: str,
    about: Mapping[str, object] = MappingProxyType({}),
    *,
    allowed: bool = True,
    code: str = "ok",
) -> Entry:
    """Write one decision; durable when the surrounding transaction is.

    Args:
        store: Where the journal lives.
        what: What was decided on: ``run``, ``round``, ``sign``, ...
        about: JSON values that name the object (run, round, contract, ...); None is left out.
        allowed: Whether it was let through.
        code: ``ok`` or the error's code.
    """
    with store.transaction():
        seq, previous = head(store)
        body = {"seq": seq + 1, "at": store.now(), "what": what, "allowed": allowed, "code": code}
        body |= {key: value for key, value in about.items() if value is not None}
        data = canonical(body)
        entry = Entry(seq + 1, _link(previous, data), body)
        store.execute("INSERT INTO journal VALUES (?, ?, ?)", entry.seq, data, entry.hash)
    return entry


def head(store: NodeStore) -> tuple[int, str]:
    """Number and hash of the last entry."""
    rows = store.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1")
    return (int(rows[0][0]), str(rows[0][1])) if rows else (0, GENESIS)


def entries(store: NodeStore, *, last: int | None = None) -> list[Entry]:
    """The decisions, oldest first; with `last`, only so many of the newest."""
    limit = -1 if last is None else last
    rows = store.execute("SELECT seq, hash, body FROM journal ORDER BY seq DESC LIMIT ?", limit)
    return [Entry(int(seq), str(link), parse_json(body)) for seq, link, body in reversed(rows)]


def check_chain(store: NodeStore) -> tuple[int, str]:
    """Recompute every hash; returns number and hash of the last entry.

    A journal that was cut off at its end is still a chain: compare the last hash with one that was
    written down before.

    Raises:
        IntegrityFailure: ``broken-journal``, naming the first entry that does not hold.
    """
    previous, expected = GENESIS, 1
    for seq, body, link in store.execute("SELECT seq, body, hash FROM journal ORDER BY seq"):
        if seq != expected or _link(previous, body) != link or _seq_of(body) != seq:
            raise IntegrityFailure(
                "broken-journal",
                f"The journal was altered at entry {expected}. Keep a copy of the node's folder "
                "and ask who had access to it.",
                entry=expected,
            )
        previous, expected = link, expected + 1
    return expected - 1, previous


def _seq_of(body: bytes) -> object:
    try:
        value = parse_json(body)
    except CohortiumError:
        return None
    return value.get("seq") if isinstance(value, dict) else None


def _link(previous: str, body: bytes) -> str:
    return "sha256:" + hashlib.sha256(previous.encode() + body).hexdigest()
