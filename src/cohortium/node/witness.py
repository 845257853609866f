"""The node as a witness of the hub's ledger: keeps a copy, cosigns, and raises alarms.

What is cosigned is durable first. An alarm stops everything that this site computes until its
steward has looked at it; see `cohortium.node.alarms`.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

from cohortium.core.clock import Clock, parse_rfc3339, to_rfc3339
from cohortium.crypto.keys import fingerprint
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PolicyRefusal,
    VerificationError,
)
from cohortium.ledger.checkpoint import cosign, cosigners, open_checkpoint, origin
from cohortium.ledger.note import ED25519, Note, VerifierKey, parse_verifier_key
from cohortium.ledger.witness import Accepted, Behind, Seen, Update, contradiction, witness
from cohortium.ledger.witness import Alarm as LogAlarm
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import alarms, journal
from cohortium.node.alarms import Alarm
from cohortium.node.attendance import Attendance
from cohortium.node.identity import Identity
from cohortium.node.own_entries import OwnEntries
from cohortium.node.replica import Replica
from cohortium.node.store import NodeStore

log = logging.getLogger(__name__)

OMITTED_AFTER = timedelta(minutes=15)
"""How long the hub has, on a connection, to put a run on the ledger that this site answered."""

ENDED_AFTER = timedelta(hours=24)
"""How long it has to put the end of a run there, from this site's last answer."""

MEMBERSHIP = "membership"
"""In the proof of an omission, beside the runs."""

STUCK = "stuck since"
"""Since when this node cannot follow the ledger, for a reason of its own."""

Turn = tuple[int, int, int]
"""When the hub sent an update: connection, message id, arrival."""


class Witness:
    """The ledger as this site sees and witnesses it.

    Args:
        identity: Who witnesses, with its contract key.
        store: Where the copy is.
        clock: Dates the cosignatures.
    """

    def __init__(self, identity: Identity, store: NodeStore, clock: Clock) -> None:
        self.replica = Replica(store)
        self._identity = identity
        self._store = store
        self._clock = clock
        self._own = OwnEntries(identity, store)
        self._origin = origin(identity.consortium)
        self._lock = threading.Lock()
        self._connection = 0
        self._arrived = 0
        self._newest: Turn = (0, 0, 0)
        self._attendance = Attendance()
        self._greeted: int | None = None

    # The link

    def greets(self) -> None:
        """A connection is about to begin: the hub has no less than what is here now."""
        self._greeted = self.replica.size

    def connected(self, key_text: str, newest: bytes = b"") -> None:
        """A connection begins; the hub names the log's key, and shows its newest checkpoint.

        A hub that was put back from a backup, or goes on with another history, is noticed here
        before there is anything new on its ledger.

        Raises:
            VerificationError: ``bad-checkpoint`` where that is not a key of this consortium's log,
                or has not signed the checkpoint.
        """
        with self._lock:
            self._connection += 1
            self._attendance.begins(self._clock())
        if not key_text:
            return
        key = parse_verifier_key(key_text)
        if key.name != self._origin or key.kind != ED25519:
            raise VerificationError("bad-checkpoint", "The hub names the key of another ledger.")
        with self._store.transaction():
            pinned = self.replica.recall("key")
            if pinned is None:
                if self._older_than_ledger():
                    self.replica.remember("excused", "own records")
                self.replica.remember("key", key_text)
                self.replica.remember("since", self._store.now())
                journal.append(self._store, "ledger-key", {"key": fingerprint(key_text)})
            elif pinned != key_text and not self._key_alarm(key_text):
                alarms.raise_alarm(
                    self._store,
                    "key",
                    f"The hub's ledger has another key, {fingerprint(key_text)}; it had "
                    f"{fingerprint(pinned)}. Ask the hub's operator by telephone.",
                    seen=pinned.encode(),
                    received=key_text.encode(),
                )
            elif pinned == key_text and newest:
                self._compare(newest, key)

    def _compare(self, newest: bytes, key: VerifierKey) -> None:
        """What the hub has now holds all that it showed this node before."""
        held = self.replica.size if self._greeted is None else self._greeted
        seen = self.replica.checkpoint("seen")
        if seen is None or alarms.alarms(self._store, only_open=True):
            open_checkpoint(newest, key)
            return
        alarm = contradiction(self.replica.tree(), held, seen.note, newest, key)
        if alarm is not None:
            alarms.raise_alarm(
                self._store, alarm.kind, alarm.message, seen=alarm.seen, received=alarm.received
            )

    def _older_than_ledger(self) -> bool:
        """Whether this site did things before its node kept what the ledger is held against."""
        empty = "SELECT NOT EXISTS (SELECT 1 FROM said) AND EXISTS (SELECT 1 FROM published)"
        return bool(self._store.execute(empty)[0][0])

    def _key_alarm(self, key_text: str) -> bool:
        opened = alarms.alarms(self._store, only_open=True)
        return any(alarm.received == key_text.encode() for alarm in opened)

    def turn(self, message_id: int) -> Turn:
        """The place of a message that has just arrived among all of them."""
        with self._lock:
            self._arrived += 1
            self._attendance.hears(self._clock())
            return self._connection, message_id, self._arrived

    def update(self, message: pb.LedgerUpdate, turn: Turn) -> pb.Message:
        """Answer a LedgerUpdate: this node's size, and its cosignature where it gives one.

        Raises:
            CohortiumError: Why not; an alarm's code as long as one is open.
        """
        update = Update(
            start=message.start,
            entries=tuple(message.entries),
            checkpoint=message.checkpoint,
            final=message.final,
            more=message.more,
            sent_at=message.sent_at,
        )
        try:
            with self._store.transaction():
                outcome = self._take(update, turn)
        except CohortiumError as error:
            if error.details.get("here"):
                self._cannot_follow()
            raise
        if isinstance(outcome, Alarm):
            raise outcome.error
        return pb.Message(cosignature=outcome)

    def _take(self, update: Update, turn: Turn) -> pb.Cosignature | Alarm:
        # 1. No alarm is open. 2. The log's key is known. 3. What the log's key signed goes on from
        # what was seen. 4. What it says about this site is so. 5. Durable; 6. then the signature.
        opened = alarms.alarms(self._store, only_open=True)  # 1
        if opened:
            return opened[0]
        key = self.replica.key()  # 2
        if key is None:
            raise ConflictError("wrong-state", "The hub has not named the ledger's key.")
        now = self._clock()
        excused = self.replica.recall("excused") is not None
        late, self._newest = turn < self._newest, max(turn, self._newest)
        seen = self.replica.seen()
        outcome = self._witness(seen, update, key, now, late=late, excused=excused)  # 3
        if isinstance(outcome, Behind):
            return pb.Cosignature(size=outcome.size)
        if isinstance(outcome, LogAlarm):
            return alarms.raise_alarm(
                self._store,
                outcome.kind,
                outcome.message,
                seen=outcome.seen,
                received=outcome.received,
                entries=outcome.entries,
            )
        entries = [entry for _, entry in outcome.entries]
        why = None if excused else self._own.find_false(entries)  # 4
        if why is not None:
            return self._false_entry(why, seen.checkpoint, update)
        self._note_rollback(outcome, seen.cosigned_at)
        self.replica.extend(outcome, update.checkpoint, now)  # 5
        self.replica.settle_runs(outcome.entries)
        if excused and outcome.cosign:
            self.replica.remember("excused", None)
        return self._cosignature(outcome, update.checkpoint, now)  # 6

    def _witness(
        self,
        seen: Seen,
        update: Update,
        key: VerifierKey,
        now: datetime,
        *,
        late: bool,
        excused: bool,
    ) -> Accepted | Behind | LogAlarm:
        outcome = witness(seen, update, key, now, late=late, excused=excused)
        if self.replica.recall(STUCK) is not None:
            self.replica.remember(STUCK, None)
        return outcome

    def _cannot_follow(self) -> None:
        """Not the hub's omission, where the cause is here; but see `require_following`."""
        with self._store.transaction():
            if self.replica.recall(STUCK) is None:
                self.replica.remember(STUCK, to_rfc3339(self._clock()))

    def _cosignature(self, accepted: Accepted, note: bytes, now: datetime) -> pb.Cosignature:
        size = accepted.checkpoint.size
        if not accepted.cosign:
            return pb.Cosignature(size=size)
        line = cosign(
            Note.parse(note),
            self._origin,
            self._identity.name,
            self._identity.key,
            int(now.timestamp()),
        )
        return pb.Cosignature(size=size, line=line)

    def _false_entry(self, why: str, seen: bytes, update: Update) -> Alarm:
        restored = self.replica.recall("restored")
        hint = f" This folder is older than a cosignature of {restored}." if restored else ""
        return alarms.raise_alarm(
            self._store,
            "false-entry",
            f"The hub's ledger says what this node's records do not: {why}.{hint} Where the node's "
            "folder was restored from a backup, that is why.",
            seen=seen,
            received=update.checkpoint,
            entries=update.entries,
        )

    def _note_rollback(self, accepted: Accepted, cosigned_at: datetime | None) -> None:
        """Notice a cosignature of this site that its store does not know of."""
        if accepted.final is None:
            return
        own = {self._identity.name: self._identity.key.public}
        signed = cosigners(Note.parse(accepted.final[1]), self._origin, own)
        at = signed.get(self._identity.name)
        forgotten = self.replica.recall("started over")
        known = [cosigned_at, parse_rfc3339(forgotten) if forgotten else None]
        latest = max((moment.timestamp() for moment in known if moment is not None), default=0.0)
        if at is not None and at > latest + 1:
            text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
            if self.replica.recall("restored") != text:
                self.replica.remember("restored", text)
                journal.append(self._store, "ledger-restored", {"cosigned": text})
                log.error("this node's store is older than its own cosignature of %s", text)

    # What is missing

    def woke(self) -> None:
        """After the machine stood still: what the hub did in that time is still on its way."""
        with self._lock:
            self._attendance.begins(self._clock())

    def check_omissions(self) -> None:
        """Raise an alarm for what the hub kept off the ledger: runs that this site answered, how
        these ended, and statements of its steward that the hub has taken.

        To be called while there is a connection. Only the time counts in which there was one: the
        hub, too, may have been away.
        """
        now = self._clock()
        with self._lock:
            self._attendance.hears(now)
            before = self._attendance.before(now, OMITTED_AFTER)
        if before is None or self.replica.recall(STUCK) is not None:
            return
        if not self._missing(before, now):
            return
        with self._store.transaction():
            missing = self._missing(before, now)
            if not missing or alarms.alarms(self._store, only_open=True):
                return
            seen = self.replica.checkpoint("seen")
            alarms.raise_alarm(
                self._store,
                "omission",
                f"After {OMITTED_AFTER.total_seconds() / 60:g} minutes (for the end of a run: "
                f"{ENDED_AFTER.total_seconds() / 3600:g} hours) the hub's ledger does not have "
                f"what this site answered, stated or is: {', '.join(missing[:3])}"
                f"{' ...' if len(missing) > 3 else ''}.",
                seen=b"" if seen is None else seen.note,
                received=b"",
                proof="\n".join(missing).encode(),
            )

    def _missing(self, before: datetime, now: datetime) -> list[str]:
        """Runs, their ends, and this site's membership, that are on the ledger too late by now."""
        missing = self.replica.overdue(before)
        missing += self.replica.overdue(now - ENDED_AFTER, ends=True)
        known_since = self.replica.recall("since")
        waited = known_since is not None and parse_rfc3339(known_since) <= before
        whole = self.replica.checkpoint("cosigned") is not None
        if waited and whole and not self.replica.recall("unlisted") and not self._own.listed():
            missing.append(MEMBERSHIP)
        return missing


def require_following(store: NodeStore, now: datetime) -> None:
    """Nothing is computed for long that this node could not miss on the ledger.

    Raises:
        PolicyRefusal: ``ledger-alarm``.
    """
    since = Replica(store).recall(STUCK)
    if since is not None and now - parse_rfc3339(since) > OMITTED_AFTER:
        raise PolicyRefusal(
            "ledger-alarm",
            f"Since {since} this site cannot follow the hub's ledger, and computes nothing; its "
            "log says why: its clock is wrong, or its program is older than the hub's.",
        )


def accept(
    store: NodeStore, alarm_id: int, *, key_fingerprint: str | None = None, start_over: bool = False
) -> Alarm:
    """The steward ends an alarm; the proof stays.

    Args:
        key_fingerprint: Of the ledger's key that counts from now on, for an alarm about the key.
        start_over: Forget the copy of the ledger, and take the hub's from its beginning.

    Raises:
        InputError: ``not-found``; ``bad-input`` where the fingerprint is missing or of no key that
            the alarm is about.
        ConflictError: ``wrong-state`` where it was accepted before.
    """
    replica = Replica(store)
    with store.transaction():
        alarm = alarms.find(store, alarm_id)
        answer = "start-over" if start_over else "go-on"
        if alarm.kind == "key":
            answer = f"key {_chosen_key(replica, alarm, key_fingerprint)}"
        elif key_fingerprint is not None:
            raise InputError("bad-input", f"Alarm {alarm_id} is not about the ledger's key.")
        alarms.settle(store, alarm, answer)
        if alarm.kind in {"false-entry", "dates"}:
            replica.remember("excused", alarm.kind)
            replica.remember("restored", None)
        if alarm.kind == "omission":
            for missing in alarm.proof.decode().splitlines():
                replica.forget_run(missing)
                if missing == MEMBERSHIP:
                    replica.remember("unlisted", "accepted")
        if start_over:
            replica.clear()
            replica.remember("started over", store.now())
    return alarms.find(store, alarm_id)


def _chosen_key(replica: Replica, alarm: Alarm, given: str | None) -> str:
    wanted = (given or "").replace(" ", "").upper()
    for text in (alarm.received.decode(), alarm.seen.decode()):
        if fingerprint(text).replace(" ", "") == wanted:
            if text != replica.recall("key"):
                replica.forget_runs()
            replica.remember("key", text)
            return fingerprint(text)
    raise InputError(
        "bad-input",
        "Say which key counts: --key FINGERPRINT, as the hub's operator reads it out.",
    )
