"""Noting facts for the ledger, in the transaction of the change that they are about."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, insert, select

from cohortium.core.canonical import digest_bytes
from cohortium.errors import InputError
from cohortium.hub.database import NOTED
from cohortium.hub.tables import documents, ledger_entries, ledger_pending
from cohortium.ledger.entry import (
    MAX_ENTRY_BYTES,
    ContractChanged,
    DatasetChanged,
    EnclaveChanged,
    Fact,
    Founded,
    KeyReleased,
    MemberChanged,
    PolicyChanged,
    ResearcherChanged,
    RunDecided,
    RunDenied,
    RunEnded,
    RunSubmitted,
    TakenOver,
    parse_entry,
)

DATE_BYTES: Final = 128
"""What an entry holds besides its fact; more than enough."""

# Built once: every run needs them.
_NOTE: Final = insert(ledger_pending)
_LATEST_NOTED: Final = (
    select(ledger_pending.c.fact)
    .where(
        ledger_pending.c.kind == bindparam("of_kind"),
        ledger_pending.c.subject == bindparam("about"),
    )
    .order_by(ledger_pending.c.seq.desc())
    .limit(1)
)
_LATEST_ENTRY: Final = (
    select(ledger_entries.c.entry)
    .where(
        ledger_entries.c.kind == bindparam("of_kind"),
        ledger_entries.c.subject == bindparam("about"),
    )
    .order_by(ledger_entries.c.position.desc())
    .limit(1)
)
_KEPT: Final = select(documents.c.digest).where(documents.c.digest == bindparam("of_digest"))
_KEEP: Final = insert(documents)


def fits(fact: Fact) -> bool:
    """Whether there is room for a fact in an entry."""
    return len(fact.to_bytes()) <= MAX_ENTRY_BYTES - DATE_BYTES


def note(c: Connection, fact: Fact) -> None:
    """Put a fact on its way to the ledger; it gets there if, and only if, `c` commits.

    Raises:
        InputError: ``too-large``.
    """
    data = fact.to_bytes()
    if len(data) > MAX_ENTRY_BYTES - DATE_BYTES:
        raise InputError("too-large", f"A fact of {len(data)} bytes does not fit on the ledger.")
    urgent = is_urgent(fact)
    row = {"kind": fact.kind, "subject": subject_of(fact), "fact": data, "urgent": urgent}
    c.execute(_NOTE, row)
    c.info[NOTED] = urgent or c.info.get(NOTED, False)


def note_change(c: Connection, fact: Fact) -> bool:
    """`note` a fact unless it is the last one about its subject; whether it was news."""
    if latest(c, fact.kind, subject_of(fact)) == fact.to_bytes():
        return False
    note(c, fact)
    return True


def latest(c: Connection, kind: str, subject: str) -> bytes | None:
    """The last fact of that kind about that subject, on the ledger or on its way there."""
    about = {"of_kind": kind, "about": subject}
    pending = c.execute(_LATEST_NOTED, about).scalar()
    if pending is not None:
        return bytes(pending)
    entry = c.execute(_LATEST_ENTRY, about).scalar()
    return None if entry is None else parse_entry(entry).fact.to_bytes()


def keep(c: Connection, run_id: str, envelope: bytes) -> str:
    """Keep a signed document that a fact about a run names; returns its digest."""
    digest = digest_bytes(envelope)
    if c.execute(_KEPT, {"of_digest": digest}).first() is None:
        c.execute(_KEEP, {"digest": digest, "run": run_id, "envelope": envelope})
    return digest


def is_urgent(fact: Fact) -> bool:
    """Whether someone waits for it: the end of a run, a contract that comes into force."""
    if isinstance(fact, ContractChanged):
        return fact.state == "active" or fact.action in {"suspend", "revoke"}
    return isinstance(fact, RunEnded)


def subject_of(fact: Fact) -> str:
    """What entries are found by: a run, a study, a member, a dataset of a member."""
    match fact:
        case RunSubmitted() | RunDenied() | RunDecided() | RunEnded() | KeyReleased():
            return fact.run_id
        case ContractChanged():
            return fact.study
        case MemberChanged() | EnclaveChanged() | ResearcherChanged():
            return fact.name
        case DatasetChanged():
            return f"{fact.member}/{fact.name}"
        case PolicyChanged():
            return fact.member
        case Founded() | TakenOver():
            return ""
