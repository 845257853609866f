"""Verifying a whole copy: its entries too, and whose log it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.support.logs import FINGERPRINT, Log, key

from cohortium.errors import CohortiumError, ProtocolError, VerificationError
from cohortium.ledger.checkpoint import log_key
from cohortium.ledger.entry import (
    Entry,
    Fact,
    Founded,
    MemberChanged,
    PolicyChanged,
    ResearcherChanged,
    TakenOver,
)
from cohortium.ledger.replica import Standing, verify_replica

START = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
FOUNDED = Founded(name="Heart failure", fingerprint=FINGERPRINT)
MEMBERS = [
    MemberChanged(name=f"Site {n}", key=key(10 + n).public, status="approved") for n in range(4)
]


def entry(fact: Fact, seconds: int = 0) -> bytes:
    return Entry(at=START + timedelta(seconds=seconds), fact=fact).to_bytes()


def log_with(*facts: Fact, founded: Fact = FOUNDED, own: int = 1) -> Log:
    log = Log(own=key(own))
    log.append(*(entry(fact, n) for n, fact in enumerate((founded, *MEMBERS, *facts))))
    return log


def refusal_of(log: Log, copy: dict[str, bytes] | None = None) -> CohortiumError:
    with pytest.raises((VerificationError, ProtocolError)) as refusal:
        verify_replica((log.mirror() if copy is None else copy).get, log.key)
    return refusal.value


def test_a_copy_says_what_stands_in_the_end() -> None:
    person = ResearcherChanged(name="Ada", key=key(30).public, status="active")
    gone = ResearcherChanged(name="Ada", key=key(30).public, status="removed")
    log = log_with(person, gone, PolicyChanged(member="Site 1", policy=FINGERPRINT))
    received: list[Entry] = []
    replica = verify_replica(log.mirror().get, log.key, received.extend)
    assert replica.founded == FOUNDED
    assert replica.note == log.cosigned()
    standing = replica.standing
    assert standing.size == 8 == len(received)
    assert standing.members == log.members
    assert [one.status for one in standing.researchers.values()] == ["removed"]
    assert standing.last_at == START + timedelta(seconds=7)
    assert standing.log_key is None


def test_a_copy_that_too_few_cosigned_is_refused() -> None:
    log = log_with()
    copy = {**log.mirror(), "checkpoint": log.cosigned("Site 0", "Site 1")}
    assert refusal_of(log, copy).code == "not-final"
    assert refusal_of(log, {**copy, "checkpoint": log.checkpoint()}).code == "not-final"


def test_a_copy_that_other_members_cosigned_is_refused() -> None:
    log = log_with(MemberChanged(name="Site 3", key=key(13).public, status="removed"))
    # The checkpoint names four members; three stand on the log.
    assert refusal_of(log).code == "not-final"


def test_a_copy_without_checkpoint_or_file_is_refused() -> None:
    log = log_with()
    copy = log.mirror()
    assert refusal_of(log, {}).code == "bad-checkpoint"
    del copy["tile/entries/000.p/5"]
    assert refusal_of(log, copy).code == "bad-proof"


def test_what_is_no_entry_is_refused() -> None:
    log = Log()
    log.append(entry(FOUNDED), b'{"at": "2026-11-22T09:30:00Z"}')
    assert refusal_of(log).code == "malformed-message"


@pytest.mark.parametrize(
    "facts",
    [
        [],
        [MEMBERS[0]],
        [FOUNDED, FOUNDED],
        [Founded(name="Other", fingerprint="sha256:" + "00" * 32)],
        [FOUNDED, TakenOver(size=2, key="key")],
    ],
    ids=["empty", "not founded", "twice", "another consortium", "more than there was"],
)
def test_a_log_that_does_not_begin_as_this_one_must_is_refused(facts: list[Fact]) -> None:
    log = Log()
    log.append(*map(entry, facts))
    assert refusal_of(log).code == "bad-checkpoint"


def test_entries_that_go_back_in_time_are_refused() -> None:
    log = Log()
    log.append(entry(FOUNDED, 5), entry(MEMBERS[0], 4))
    assert "older than the one before" in refusal_of(log).message


def test_after_a_take_over_only_the_new_key_counts() -> None:
    new = log_key(log_with().key.name, key(2).public)
    fact = TakenOver(size=5, key=new.text)
    old_key = log_with(fact)
    assert "Another hub has taken over" in refusal_of(old_key).message
    replica = verify_replica(log_with(fact, own=2).mirror().get, new)
    assert replica.standing.log_key == new.text


def test_members_are_those_approved_last() -> None:
    standing = Standing()
    facts = [
        FOUNDED,
        MEMBERS[0],
        MEMBERS[1],
        MemberChanged(name="Site 0", key=key(10).public, status="suspended"),
        MemberChanged(name="Site 1", key=key(11).public, status="removed"),
        MemberChanged(name="Site 0", key=key(10).public, status="approved"),
    ]
    for number, fact in enumerate(facts):
        standing.take(Entry(at=START + timedelta(seconds=number), fact=fact))
    assert standing.members == {"Site 0": key(10).public}
    assert standing.institutions["Site 1"].status == "removed"
