"""Alarms about the hub's ledger: kept for good with their proof; open until the steward accepts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cohortium.core.clock import parse_rfc3339
from cohortium.errors import ConflictError, InputError, PolicyRefusal, VerificationError
from cohortium.ledger.witness import AlarmKind as WitnessAlarm
from cohortium.node import journal
from cohortium.node.store import NodeStore

log = logging.getLogger(__name__)

AlarmKind = WitnessAlarm | Literal["false-entry", "omission", "key"]

CODES: dict[AlarmKind, str] = {
    "fork": "ledger-fork",
    "truncated": "ledger-fork",
    "dates": "ledger-fork",
    "entry": "ledger-fork",
    "false-entry": "ledger-false-entry",
    "omission": "ledger-omission",
    "key": "ledger-key",
}


@dataclass(frozen=True)
class Alarm:
    """What the hub's ledger did that it must not.

    Attributes:
        code: Of the error that the hub gets.
        seen: The signed checkpoint that this node had; for ``key`` the log's key.
        received: The signed checkpoint that contradicts it; for ``key`` the other key.
        proof: The entries that came with it, each after its length (4 bytes, big-endian); for
            ``omission`` the runs, one in a line.
        answer: What the steward decided.
    """

    id: int
    kind: AlarmKind
    code: str
    message: str
    raised_at: str
    seen: bytes
    received: bytes
    proof: bytes
    accepted_at: str | None
    answer: str | None

    @property
    def error(self) -> VerificationError:
        """What the hub is answered while the alarm is open."""
        return VerificationError(self.code, self.message, alarm=self.id, kind=self.kind)


def raise_alarm(
    store: NodeStore,
    kind: AlarmKind,
    message: str,
    *,
    seen: bytes,
    received: bytes,
    entries: Sequence[bytes] = (),
    proof: bytes = b"",
) -> Alarm:
    """Keep an alarm and its proof; durable when the surrounding transaction is."""
    with store.transaction():
        store.execute(
            "INSERT INTO ledger_alarms (kind, code, message, raised_at, seen, received, proof) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            kind,
            CODES[kind],
            message,
            store.now(),
            seen,
            received,
            proof or _framed(entries),
        )
        alarm = alarms(store)[-1]
        about = {"alarm": alarm.id, "kind": kind, "why": message}
        journal.append(store, "ledger", about, allowed=False, code=alarm.code)
    log.error("LEDGER ALARM %d (%s): %s", alarm.id, kind, message)
    return alarm


def alarms(store: NodeStore, *, only_open: bool = False) -> list[Alarm]:
    """All alarms, oldest first."""
    which = "WHERE accepted_at IS NULL" if only_open else ""
    rows = store.execute(f"SELECT * FROM ledger_alarms {which} ORDER BY id")  # noqa: S608
    return [Alarm(*row) for row in rows]


def find(store: NodeStore, alarm_id: int) -> Alarm:
    """The alarm of that number.

    Raises:
        InputError: ``not-found``.
    """
    rows = store.execute("SELECT * FROM ledger_alarms WHERE id = ?", alarm_id)
    if not rows:
        raise InputError(
            "not-found", f"There is no alarm {alarm_id}. See: cohortium node ledger alarms"
        )
    return Alarm(*rows[0])


def settle(store: NodeStore, alarm: Alarm, answer: str) -> None:
    """The steward has accepted it. Belongs in a transaction.

    Raises:
        ConflictError: ``wrong-state`` where that was so before.
    """
    current = find(store, alarm.id)
    if current.accepted_at is not None:
        raise ConflictError("wrong-state", f"Alarm {alarm.id} was accepted before.")
    store.execute(
        "UPDATE ledger_alarms SET accepted_at = ?, answer = ? WHERE id = ?",
        store.now(),
        answer,
        alarm.id,
    )
    journal.append(
        store, "ledger-accept", {"alarm": alarm.id, "kind": alarm.kind, "answer": answer}
    )


def require_none(store: NodeStore) -> None:
    """Nothing is computed while the hub's ledger is known to be altered.

    Raises:
        PolicyRefusal: ``ledger-alarm``.
    """
    opened = alarms(store, only_open=True)
    if opened:
        since = parse_rfc3339(opened[0].raised_at)
        raise PolicyRefusal(
            "ledger-alarm",
            f"Since {since:%Y-%m-%d %H:%M} UTC this site has proof that the hub's ledger is not as "
            "it must be, and computes nothing; its data steward knows more.",
        )


def _framed(entries: Sequence[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(4, "big") + entry for entry in entries)


def write_proof(alarm: Alarm, folder: Path) -> None:
    """Both checkpoints and what came with them as files, to show to others."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (("seen", alarm.seen), ("received", alarm.received), ("proof", alarm.proof)):
        (folder / name).write_bytes(data)
    (folder / "message.txt").write_text(f"{alarm.raised_at} {alarm.kind}: {alarm.message}\n")
