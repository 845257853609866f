"""What a witness accepts, and what becomes an alarm with both signed checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ledger_hub import CONSORTIUM, NOW, HubLog
from tests.support.logs import key

from cohortium.core.canonical import canonical
from cohortium.errors import ConflictError, ProtocolError, VerificationError
from cohortium.ledger.checkpoint import open_checkpoint
from cohortium.ledger.entry import (
    Fact,
    Founded,
    MemberChanged,
    PolicyChanged,
    ResearcherChanged,
    TakenOver,
    parse_entry,
)
from cohortium.ledger.members import Members
from cohortium.ledger.merkle import EMPTY_ROOT
from cohortium.ledger.tree import tree_of
from cohortium.ledger.witness import (
    MAX_ENTRIES,
    SKEW,
    STALE,
    Accepted,
    Alarm,
    Behind,
    Seen,
    Update,
    witness,
)

KEYS = {name: key(number) for number, name in enumerate(("Alpha", "Beta", "Gamma"), 1)}


@dataclass
class Site:
    """A witness in memory."""

    hub: HubLog
    now: datetime = NOW
    entries: list[bytes] = field(default_factory=list)
    tiles: dict[tuple[int, int], bytes] = field(default_factory=dict)
    checkpoint: bytes = b""
    final: bytes = b""
    final_size: int = 0
    cosigned_at: datetime | None = None

    def members_at(self, size: int) -> Members:
        return Members().after_all(parse_entry(data).fact for data in self.entries[:size])

    @property
    def seen(self) -> Seen:
        return Seen(
            tree=tree_of(self.tiles, len(self.entries)),
            members_at=self.members_at,
            checkpoint=self.checkpoint,
            final_size=self.final_size,
            last_at=parse_entry(self.entries[-1]).at if self.entries else None,
            cosigned_at=self.cosigned_at,
            taken_over=self.taken_over,
        )

    @property
    def taken_over(self) -> str | None:
        facts = [parse_entry(data).fact for data in self.entries]
        keys = [fact.key for fact in facts if isinstance(fact, TakenOver)]
        return keys[-1] if keys else None

    def ask(
        self, update: Update, *, late: bool = False, excused: bool = False
    ) -> Accepted | Behind | Alarm:
        outcome = witness(self.seen, update, self.hub.key, self.now, late=late, excused=excused)
        if isinstance(outcome, Accepted):
            self.entries += [data for data, _ in outcome.entries]
            self.tiles.update(outcome.tiles)
            self.checkpoint = update.checkpoint
            if outcome.cosign:
                self.cosigned_at = self.now
            if outcome.final is not None:
                self.final_size, self.final = outcome.final
        return outcome

    def accept(self, update: Update) -> Accepted:
        outcome = self.ask(update)
        assert isinstance(outcome, Accepted), outcome
        return outcome

    def alarm(self, update: Update) -> Alarm:
        """The alarm, which names both checkpoints; nothing was taken in."""
        before = (list(self.entries), self.checkpoint, self.cosigned_at)
        outcome = self.ask(update)
        assert isinstance(outcome, Alarm), outcome
        assert outcome.seen == self.checkpoint
        open_checkpoint(outcome.received, self.hub.key)
        assert (list(self.entries), self.checkpoint, self.cosigned_at) == before
        return outcome


def a_hub() -> HubLog:
    hub = HubLog()
    hub.approve(**KEYS)
    return hub


def people(count: int, start: int = 0) -> list[Fact]:
    return [
        ResearcherChanged(name=f"R{number}", key=key(200).public, status="active")
        for number in range(start, start + count)
    ]


def started() -> tuple[HubLog, Site]:
    """A hub with ten entries and a site that has witnessed them."""
    hub = a_hub()
    hub.add(*people(6))
    site = Site(hub)
    assert site.accept(hub.update()).cosign
    return hub, site


def test_entries_are_accepted_in_steps_and_the_tree_is_the_hubs() -> None:
    hub, site = started()
    for step in (1, 300, 40):
        before = hub.size
        hub.add(*people(step))
        accepted = site.accept(hub.update(before))
        assert accepted.start == before
        assert accepted.tree.root() == accepted.checkpoint.root == hub.tree.root()
        assert [data for data, _ in accepted.entries] == hub.entries[before:]
    assert site.tiles == hub.tiles


def test_the_same_update_again_is_accepted_again_and_adds_nothing() -> None:
    hub, site = started()
    hub.add(*people(3))
    update = hub.update(10)
    site.accept(update)
    for again in (update, hub.update(), hub.update(hub.size), hub.update(12)):
        accepted = site.accept(again)
        assert accepted.cosign
        assert (list(accepted.entries), accepted.tiles) == ([], {})
    assert site.entries == hub.entries


def test_who_is_behind_says_so() -> None:
    hub, site = started()
    hub.add(*people(5))
    assert site.ask(hub.update(12)) == Behind(10)
    assert site.ask(hub.update(hub.size)) == Behind(10)
    site.accept(hub.update(8))
    assert len(site.entries) == 15


def test_an_empty_log_is_a_log() -> None:
    hub = HubLog()
    empty = hub.forked(0)
    site = Site(hub)
    assert site.accept(empty.update()).checkpoint.root == EMPTY_ROOT
    site.accept(hub.update())


def test_nothing_is_cosigned_while_more_follows_and_old_dates_are_no_alarm_then() -> None:
    hub, site = started()
    hub.pass_time(hours=1)
    hub.add(*people(4))
    hub.pass_time(hours=20)
    hub.add(*people(4))
    site.now = hub.now
    assert not site.accept(replace(hub.update(10, 14), more=True)).cosign
    site.now += timedelta(hours=3)
    assert site.accept(hub.update(14)).cosign


@pytest.mark.parametrize("off", [timedelta(0), STALE, -STALE])
def test_an_update_that_was_sent_now_is_cosigned(off: timedelta) -> None:
    hub, site = started()
    sent_at = int((site.now + off).timestamp())
    assert site.accept(replace(hub.update(), sent_at=sent_at)).cosign


@pytest.mark.parametrize("off", [STALE, -STALE])
def test_an_update_that_lay_about_is_stored_and_not_cosigned(off: timedelta) -> None:
    hub, site = started()
    hub.add(*people(1))
    sent_at = int((site.now + off * 1.01).timestamp())
    assert not site.accept(replace(hub.update(), sent_at=sent_at)).cosign
    assert len(site.entries) == hub.size


# What the log's key must not sign


def test_another_entry_in_an_old_place_is_a_fork() -> None:
    hub, site = started()
    other = hub.forked(7)
    other.add(*people(6, start=50))
    hub.add(*people(1))
    for update in (other.update(10), other.update(), other.update(10, 10), other.update(0, 9)):
        alarm = site.alarm(replace(update, entries=update.entries))
        assert alarm.kind == "fork"
    assert site.alarm(replace(other.update(0, 10))).kind == "fork"


def test_other_entries_than_the_checkpoint_covers_are_a_fork() -> None:
    hub, site = started()
    hub.add(*people(3))
    update = hub.update(10)
    for entries in (update.entries[::-1], (update.entries[0],) * 3):
        assert site.alarm(replace(update, entries=tuple(entries))).kind == "fork"
    site.accept(update)


def test_fewer_entries_than_before_are_a_truncation_but_not_in_a_late_message() -> None:
    hub, site = started()
    shorter = hub.update(0, 8)
    assert site.alarm(shorter).kind == "truncated"
    assert site.alarm(hub.update(0, 0)).kind == "truncated"
    assert site.ask(shorter, late=True) == Behind(10)
    fork = hub.forked(5)
    fork.add(*people(2, start=70))
    late_fork = site.ask(fork.update(), late=True)
    assert isinstance(late_fork, Alarm)
    assert late_fork.kind == "fork"


def test_back_dated_entries_are_an_alarm() -> None:
    hub, site = started()
    site.now += timedelta(hours=2)
    site.accept(hub.update())
    hub.add(*people(1), at=site.now - SKEW - timedelta(seconds=1))
    alarm = site.alarm(hub.update())
    assert alarm.kind == "dates"
    assert alarm.entries == tuple(hub.entries)
    assert isinstance(site.ask(hub.update(), excused=True), Accepted)


def test_dates_within_the_clocks_difference_are_none() -> None:
    hub, site = started()
    site.now += timedelta(hours=2)
    site.accept(hub.update())
    hub.add(*people(1), at=site.now - SKEW)
    hub.add(*people(1), at=site.now + SKEW)
    site.accept(hub.update())


def test_post_dated_entries_are_an_alarm() -> None:
    hub, site = started()
    hub.add(*people(1), at=site.now + SKEW + timedelta(seconds=1))
    assert site.alarm(hub.update()).kind == "dates"
    site.now += timedelta(seconds=1)
    site.accept(hub.update())


def test_dates_that_run_backwards_are_an_alarm_even_where_dates_are_excused() -> None:
    hub, site = started()
    hub.add(*people(1), at=NOW + timedelta(seconds=9))
    hub.add(*people(1), at=NOW + timedelta(seconds=8))
    assert site.alarm(hub.update()).kind == "dates"
    assert isinstance(site.ask(hub.update(), excused=True), Alarm)
    hub, site = started()
    hub.add(*people(1), at=NOW - timedelta(seconds=1))
    assert site.alarm(hub.update()).kind == "dates"


def _not_canonical(hub: HubLog) -> bytes:
    return hub.entries[-1].replace(b",", b", ", 1)


def _of_no_known_form(hub: HubLog) -> bytes:
    return canonical({**parse_entry(hub.entries[-1]).to_json(), "extra": 1})


NO_ENTRIES: list[Callable[[HubLog], bytes]] = [
    _not_canonical,
    _of_no_known_form,
    lambda _: b"",
    lambda _: b"[]",
    lambda _: b'{"fact":1,"schema_id":"x"}',
    lambda _: b"\xff" * 70_000,
    lambda _: (
        b'{"at":"2026-11-22T09:00:00Z","fact":{"key":"k","kind":"consortium.taken-over",'
        b'"size":1000000000000000000},"schema_id":"cohortium/ledger-entry/1"}'
    ),
]


@pytest.mark.parametrize("made", NO_ENTRIES)
def test_what_is_no_entry_is_an_alarm_once_the_log_has_signed_it(
    made: Callable[[HubLog], bytes],
) -> None:
    hub, site = started()
    hub.add_bytes(made(hub))
    assert site.alarm(hub.update()).kind == "entry"


@pytest.mark.parametrize("value", [{"kind": "member.married"}, {"kind": "policy", "x": 1}])
def test_an_entry_of_a_newer_version_is_refused_without_alarm(value: dict[str, object]) -> None:
    hub, site = started()
    entry = {"schema_id": "cohortium/ledger-entry/1", "at": "2026-11-22T09:00:00Z", "fact": value}
    if value["kind"] == "policy":
        entry["schema_id"] = "cohortium/ledger-entry/2"
    hub.add_bytes(canonical(entry))
    with pytest.raises(ProtocolError, match="update this node") as caught:
        site.ask(hub.update())
    assert caught.value.details["here"] is True


def test_the_founding_is_the_first_entry_of_this_consortium_and_no_other() -> None:
    hub, site = started()
    hub.add(Founded(name="Again", fingerprint=CONSORTIUM))
    assert site.alarm(hub.update()).kind == "entry"
    hub = a_hub().forked(0)
    hub.add(*people(1))
    assert Site(hub).alarm(hub.update()).kind == "entry"
    hub = a_hub().forked(0)
    hub.add(Founded(name="Other", fingerprint="sha256:" + "0" * 64))
    assert Site(hub).alarm(hub.update()).kind == "entry"


@pytest.mark.parametrize("size", [3, 99])
def test_nobody_takes_over_another_number_of_entries_than_there_are(size: int) -> None:
    hub, site = started()
    hub.add(TakenOver(size=10, key=hub.key.text))
    site.accept(hub.update())
    hub.add(TakenOver(size=size, key=hub.key.text))
    assert site.alarm(hub.update()).kind == "entry"


def test_the_last_hub_that_took_over_is_the_one_that_signs() -> None:
    """With another key on it, nobody could verify a copy or a bundle, nor take over again."""
    hub, site = started()
    other = HubLog(own=key(77)).key.text
    hub.add(TakenOver(size=10, key=other))
    assert site.alarm(hub.update()).kind == "entry"
    site.accept(hub.update(10, 11, more=True))
    assert site.alarm(hub.update(11)).kind == "entry"
    hub.add(TakenOver(size=11, key=hub.key.text))  # it was an earlier hub's
    site.accept(hub.update())


def test_a_checkpoint_names_the_members_that_its_entries_make() -> None:
    hub, site = started()
    invented = Members({"Alpha": KEYS["Alpha"].public, "Delta": key(9).public})
    for start in (0, 10):
        hub.members_lie = invented.digest
        assert site.alarm(hub.update(start)).kind == "entry"
        hub.members_lie = None
    hub.add(MemberChanged(name="Delta", key=key(9).public, status="approved"))
    hub.members_lie = hub.members_at(10).digest
    assert site.alarm(hub.update()).kind == "entry"
    hub.members_lie = None
    site.accept(hub.update())


# What only refuses: nothing that the log's key signed


def test_without_the_logs_signature_nothing_is_an_alarm() -> None:
    hub, site = started()
    stranger = replace(hub.copy(), own=key(91))
    stranger.add(*people(1, start=90))
    elsewhere = HubLog(consortium="sha256:" + "d" * 64)
    for note in (b"", b"note", stranger.checkpoint(), elsewhere.checkpoint(), b"\xff"):
        with pytest.raises(VerificationError) as caught:
            site.ask(replace(hub.update(10), checkpoint=note))
        assert caught.value.code == "bad-checkpoint"


def test_a_checkpoint_over_other_entries_than_those_sent_is_malformed() -> None:
    hub, site = started()
    hub.add(*people(2))
    for update in (replace(hub.update(10), entries=()), replace(hub.update(9), start=10)):
        with pytest.raises(ProtocolError):
            site.ask(update)
    with pytest.raises(ProtocolError):
        site.ask(replace(hub.update(), entries=(b"",) * (MAX_ENTRIES + 1)))


def test_a_clock_that_went_back_is_this_machines_fault() -> None:
    hub, site = started()
    site.now -= SKEW + timedelta(seconds=1)
    with pytest.raises(ConflictError) as caught:
        site.ask(hub.update())
    assert caught.value.details["here"] is True


# Final checkpoints


def test_a_final_checkpoint_is_kept_once_it_has_its_quorum() -> None:
    hub, site = started()
    hub.add(*people(3))
    final = hub.final(KEYS, 9)
    assert site.accept(hub.update(10, final=final)).final == (9, final)
    assert site.accept(hub.update(10, final=final)).final is None
    newer = hub.final(KEYS)
    assert site.accept(hub.update(13, final=newer)).final == (13, newer)
    assert site.accept(hub.update(13, final=final)).final is None


def test_a_final_checkpoint_is_measured_by_the_members_of_its_time() -> None:
    hub, site = started()
    final_before = hub.final(KEYS)
    more = {f"New{number}": key(100 + number) for number in range(6)}
    hub.approve(**more)
    assert site.accept(hub.update(10, final=final_before)).final is not None
    with pytest.raises(VerificationError) as caught:
        site.ask(hub.update(10, final=hub.final(KEYS)))
    assert caught.value.code == "not-final"
    assert site.accept(hub.update(10, final=hub.final({**KEYS, **more}))).final is not None


def test_too_few_cosignatures_are_refused_without_alarm() -> None:
    hub, site = started()
    two = {name: KEYS[name] for name in ("Alpha", "Beta")}
    for final in (hub.final(two), hub.checkpoint()):
        with pytest.raises(VerificationError) as caught:
            site.ask(hub.update(10, final=final))
        assert caught.value.code == "not-final"


def test_a_final_checkpoint_of_another_history_is_a_fork() -> None:
    hub, site = started()
    other = hub.forked(6)
    other.add(*people(4, start=60))
    for final in (other.final(KEYS), other.checkpoint(), other.final(KEYS, 8)):
        alarm = site.alarm(hub.update(10, final=final))
        assert alarm.kind == "fork"
        assert alarm.received == final


def test_a_final_checkpoint_beyond_what_is_here_waits() -> None:
    hub, site = started()
    hub.add(*people(9))
    assert site.accept(hub.update(10, 12, final=hub.final(KEYS), more=True)).final is None
    assert site.final_size == 0


# An honest hub never alarms


@st.composite
def _histories(draw: st.DrawFn) -> list[tuple[str, int]]:
    action = st.sampled_from(["add", "send", "resend", "lag", "wait", "member", "final", "late"])
    return draw(st.lists(st.tuples(action, st.integers(0, 400)), min_size=5, max_size=40))


def _honest_step(hub: HubLog, sites: list[Site], action: str, number: int) -> None:
    site = sites[number % len(sites)]
    have = len(site.entries)
    match action:
        case "add":
            hub.add(*people(number % 60, start=hub.size))
        case "member":
            status = "suspended" if number % 3 == 0 else "approved"
            name = f"M{number % 5}"
            hub.add(MemberChanged(name=name, key=key(100 + number % 5).public, status=status))
        case "wait":
            hub.pass_time(minutes=number)
        case "send" | "final":
            final = b""
            members = hub.members_at(have).members
            if action == "final" and all(s.entries for s in sites) and members:
                known = {key(n).public: key(n) for n in (*range(1, 4), *range(100, 105))}
                signers = {name: known[public] for name, public in members.items()}
                final = hub.final(signers, have)
            site.accept(hub.update(have, final=final, sent_at=int(hub.now.timestamp())))
        case "resend":
            site.accept(hub.update(max(0, have - number)))
        case "lag":
            end = min(hub.size, have + number % 7)
            more = end < hub.size
            assert site.accept(hub.update(have, end, more=more)).cosign is not more
        case "late":
            outcome = site.ask(hub.update(0, number % (have + 1)), late=True)
            assert isinstance(outcome, Behind | Accepted)


@given(history=_histories(), skews=st.lists(st.integers(-119, 119), min_size=2, max_size=3))
@settings(max_examples=40, deadline=None)
def test_an_honest_hub_is_never_an_alarm(history: list[tuple[str, int]], skews: list[int]) -> None:
    hub = a_hub()
    sites = [Site(hub) for _ in skews]
    for action, number in history:
        for site, skew in zip(sites, skews, strict=True):
            site.now = hub.now + timedelta(seconds=skew)
        _honest_step(hub, sites, action, number)
    for site in sites:
        site.accept(hub.update(len(site.entries)))
        assert site.entries == hub.entries
        assert site.seen.tree.root() == hub.tree.root()


@given(
    cut=st.integers(0, 9),
    entries=st.lists(st.integers(0, 5), max_size=8),
    start=st.integers(0, 12),
)
@settings(max_examples=60, deadline=None)
def test_no_other_history_is_ever_accepted(cut: int, entries: list[int], start: int) -> None:
    hub, site = started()
    other = hub.forked(cut)
    other.add(*(PolicyChanged(member="Alpha", policy=f"sha256:{n:064x}") for n in entries))
    honest = list(site.entries)
    try:
        outcome = site.ask(other.update(min(start, other.size)))
    except (ProtocolError, VerificationError):
        outcome = Behind(-1)
    if isinstance(outcome, Accepted):
        raise AssertionError("another history was accepted")
    assert site.entries == honest


spoil = st.binary(max_size=120)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_bytes_in_an_update_give_an_answer(data: st.DataObject) -> None:
    hub, site = started()
    hub.add(*people(2))
    update = hub.update(10, final=hub.final(KEYS))
    field_name = data.draw(st.sampled_from(["checkpoint", "final", "entries", "start", "sent_at"]))
    number = st.integers(0, 2**64 - 1)
    drawn: dict[str, Callable[[], object]] = {
        "checkpoint": partial(data.draw, spoil),
        "final": partial(data.draw, spoil),
        "entries": lambda: tuple(data.draw(st.lists(spoil, max_size=4))),
        "start": partial(data.draw, number),
        "sent_at": partial(data.draw, number),
    }
    changes = {field_name: drawn[field_name]()}
    try:
        outcome = site.ask(replace(update, **changes))  # type: ignore[arg-type]
    except (VerificationError, ProtocolError):
        return
    assert isinstance(outcome, Accepted | Behind | Alarm)
