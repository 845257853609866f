"""The node as a witness: what it keeps, cosigns and refuses, and what its steward can do."""

from __future__ import annotations

import copy
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.builders import RUN_ID, World, round_request
from tests.support.ledger_hub import HubLog
from tests.support.logs import key
from tests.support.witnessing import Witnessing, welcome

from cohortium.contract.model import RunRequest
from cohortium.crypto.keys import fingerprint
from cohortium.errors import (
    ConflictError,
    InputError,
    IntegrityFailure,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.ledger.checkpoint import open_checkpoint
from cohortium.ledger.entry import MemberChanged, PolicyChanged, ResearcherChanged
from cohortium.ledger.tiles import read_folder, verify_mirror
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import alarms, ledger_copy
from cohortium.node.store import NodeStore
from cohortium.node.witness import OMITTED_AFTER, accept, require_following


@pytest.fixture
def site() -> Witnessing:
    return Witnessing()


def person(number: int) -> ResearcherChanged:
    return ResearcherChanged(name=f"R{number}", key=key(200).public, status="active")


def test_a_node_cosigns_what_goes_on_from_what_it_saw(site: Witnessing) -> None:
    assert site.cosigned() == int(site.world.now.timestamp())
    site.pass_time(seconds=7)
    site.hub.add(person(1), person(2))
    assert site.cosigned() == int(site.world.now.timestamp())
    replica = site.node.service.witness.replica
    assert replica.entries(0, 99) == site.hub.entries
    assert replica.tree().root() == site.hub.tree.root()
    assert replica.checkpoint("cosigned") == replica.checkpoint("seen")


def test_the_same_update_again_gets_a_cosignature_again(site: Witnessing) -> None:
    update = site.hub.update()
    first = site.tell(update)
    assert site.tell(update) == first
    site.pass_time(seconds=1)
    again = site.tell(update)
    assert (again.size, again.line != first.line) == (first.size, True)
    assert len(site.node.decisions(what="ledger")) == 0


def test_a_node_that_is_behind_says_where_to_begin(site: Witnessing) -> None:
    assert site.tell(site.hub.update(3)) == pb.Cosignature(size=0)
    site.cosigned()
    site.hub.add(*map(person, range(5)))
    assert site.tell(site.hub.update(6)) == pb.Cosignature(size=4)
    more = site.hub.update(4, 6)
    assert site.tell(type(more)(4, more.entries, more.checkpoint, more=True)).line == b""
    assert site.size == 6
    site.cosigned()


def test_a_final_checkpoint_is_kept_and_served(site: Witnessing) -> None:
    site.cosigned()
    final = site.hub.final(site.world.keys)
    site.hub.add(person(1))
    site.cosigned(site.hub.update(4, final=final))
    replica = site.node.service.witness.replica
    mirror = replica.mirror()
    assert mirror.checkpoint == final
    assert mirror.tree.size == 4
    assert replica.mirror(newest=True).tree.size == 5


def test_without_the_logs_key_nothing_is_cosigned() -> None:
    site = Witnessing(hub=HubLog())
    with site.node.store.transaction():
        site.node.service.witness.replica.remember("key", None)
    with pytest.raises(ConflictError):
        site.tell()
    site.node.service.welcome(welcome(site.hub))
    site.cosigned()


@pytest.mark.parametrize("text", ["x", "x+y+z", HubLog("sha256:" + "0" * 64).key.text])
def test_the_key_of_another_ledger_ends_the_connection(site: Witnessing, text: str) -> None:
    message = welcome(site.hub)
    message.welcome.ledger_key = text
    with pytest.raises(VerificationError) as caught:
        site.node.service.welcome(message)
    assert caught.value.code == "bad-checkpoint"


def test_an_update_that_was_overtaken_is_no_truncation(site: Witnessing) -> None:
    earlier = site.hub.update()
    site.hub.add(person(1))
    later = site.hub.message()
    older = pb.Message.FromString(site.hub.message(0, 4).SerializeToString())
    older.id, later.id = 7, 8
    witness = site.node.service.witness
    arrived = [witness.turn(7), witness.turn(8)]
    witness.update(later.ledger_update, arrived[1])
    overtaken = witness.update(older.ledger_update, arrived[0])
    assert overtaken.cosignature == pb.Cosignature(size=5)
    site.node.service.welcome(welcome(site.hub))
    assert site.alarm(earlier).kind == "truncated"


# Alarms


def test_an_alarm_stops_runs_and_rounds_until_the_steward_accepts(site: Witnessing) -> None:
    site.cosigned()
    request = site.request()
    adverts = site.world.adverts(request)
    fork = site.hub.forked(3)
    fork.add(person(9), person(10))
    alarm = site.alarm(fork.update(4))
    assert alarm.kind == "fork"
    for message in (site.world.prepare(request), round_request(request, adverts)):
        with pytest.raises(PolicyRefusal) as caught:
            site.node.ask(message)
        assert caught.value.code == "ledger-alarm"
    with pytest.raises(VerificationError):  # not even the honest continuation
        site.tell()
    entry = site.node.decisions(what="ledger")[0]
    assert (entry["allowed"], entry["code"], entry["alarm"]) == (False, "ledger-fork", alarm.id)
    ended = accept(site.node.store, alarm.id)
    assert ended.answer == "go-on"
    site.cosigned()
    assert site.node.ask(round_request(request, adverts)).WhichOneof("body") == "round_reply"
    assert site.node.decisions(what="ledger-accept")[0]["alarm"] == alarm.id
    with pytest.raises(ConflictError):
        accept(site.node.store, alarm.id)
    assert site.alarm(fork.update(4)).id == alarm.id + 1


def test_an_alarm_cannot_be_changed_or_deleted(site: Witnessing) -> None:
    site.cosigned()
    alarm = site.alarm(site.hub.update(0, 2))
    store = site.node.store
    for sql in ("DELETE FROM ledger_alarms", "UPDATE ledger_alarms SET message = ''"):
        with pytest.raises(sqlite3.IntegrityError):
            store.execute(sql)
    accept(store, alarm.id)
    with pytest.raises(sqlite3.IntegrityError):
        store.execute("UPDATE ledger_alarms SET accepted_at = NULL")
    assert alarms.find(store, alarm.id).accepted_at is not None


def test_starting_over_takes_the_hubs_ledger_from_its_beginning(site: Witnessing) -> None:
    site.hub.add(*map(person, range(4)))
    site.pass_time(hours=1)
    site.cosigned()
    final = site.hub.final(site.world.keys, 6)
    site.hub = site.hub.forked(5)
    site.hub.add(person(8), at=site.world.now - timedelta(minutes=50))
    alarm = site.alarm(site.hub.update())
    accept(site.node.store, alarm.id, start_over=True)
    assert site.size == 0
    site.cosigned()
    assert site.size == 6
    assert alarms.alarms(site.node.store, only_open=True) == []
    assert site.alarm(site.hub.update(6, final=final)).kind == "fork"


def test_another_key_of_the_log_is_an_alarm_until_it_is_accepted(site: Witnessing) -> None:
    site.cosigned()
    site.hub.own = key(91)
    for _ in range(2):
        site.node.service.welcome(welcome(site.hub))
    (alarm,) = alarms.alarms(site.node.store)
    assert (alarm.kind, alarm.code) == ("key", "ledger-key")
    assert alarm.received.decode() == site.hub.key.text
    with pytest.raises(VerificationError) as refused:
        site.tell()
    assert refused.value.code == "ledger-key"
    for wrong in (None, fingerprint("x")):
        with pytest.raises(InputError):
            accept(site.node.store, alarm.id, key_fingerprint=wrong)
    accept(site.node.store, alarm.id, key_fingerprint=fingerprint(site.hub.key.text).lower())
    site.hub.add(person(1))
    site.cosigned()
    site.node.service.welcome(welcome(site.hub))
    assert alarms.alarms(site.node.store, only_open=True) == []


def test_the_old_key_can_be_chosen_again(site: Witnessing) -> None:
    honest = welcome(site.hub)
    site.node.service.welcome(welcome(HubLog(own=key(92))))
    (alarm,) = alarms.alarms(site.node.store)
    accept(site.node.store, alarm.id, key_fingerprint=fingerprint(site.hub.key.text))
    site.node.service.welcome(honest)
    site.cosigned()


def test_an_alarm_about_the_log_has_no_key_to_choose(site: Witnessing) -> None:
    site.cosigned()
    alarm = site.alarm(site.hub.update(0, 2))
    with pytest.raises(InputError):
        accept(site.node.store, alarm.id, key_fingerprint=fingerprint(site.hub.key.text))
    with pytest.raises(InputError):
        accept(site.node.store, 99)


def test_dates_that_were_accepted_are_taken_in_once(site: Witnessing) -> None:
    site.hub.add(person(1), at=site.world.now + timedelta(hours=1))
    alarm = site.alarm()
    accept(site.node.store, alarm.id)
    site.cosigned()
    site.hub.add(person(2), at=site.world.now + timedelta(hours=2))
    assert site.alarm().kind == "dates"


def test_words_of_the_hubs_own_have_no_place_on_the_ledger(site: Witnessing) -> None:
    site.cosigned()
    fact = '{"action":"close","author":"Ada","contract":"D","key":"K","kind":"contract",'
    fact += '"state":"The hub thinks so.","statement":"D","study":"lung","version":1}'
    text = fact.replace("D", "sha256:" + "0" * 64).replace("K", key(91).public)
    entry = f'{{"at":"2026-11-22T09:00:00Z","fact":{text},"schema_id":"cohortium/ledger-entry/1"}}'
    site.hub.add_bytes(entry.encode())
    assert site.alarm().kind == "entry"


# What the hub shows when a connection begins


def reconnect(site: Witnessing, hub: HubLog) -> list[str]:
    """The alarms after the node has connected anew, and the hub has nothing new to tell."""
    site.node.service.hello()
    site.node.service.welcome(welcome(hub))
    return [alarm.kind for alarm in alarms.alarms(site.node.store)]


def test_a_hub_that_was_put_back_from_a_backup_is_noticed_as_it_connects(site: Witnessing) -> None:
    older = copy.deepcopy(site.hub)
    site.hub.add(person(1))
    site.cosigned()
    assert reconnect(site, site.hub) == []
    assert reconnect(site, older) == ["truncated"]
    (alarm,) = alarms.alarms(site.node.store)
    assert alarm.received == older.checkpoint()
    assert alarm.seen == site.hub.checkpoint()
    assert reconnect(site, older) == ["truncated"]  # one alarm is enough


@pytest.mark.parametrize("more", [0, 1])
def test_a_hub_with_another_history_is_noticed_as_it_connects(site: Witnessing, more: int) -> None:
    other = copy.deepcopy(site.hub)
    site.hub.add(*map(person, range(1 + more)))
    other.add(person(2))
    site.cosigned()
    assert reconnect(site, other) == ["fork"]


def test_what_came_after_the_greeting_is_not_missing_in_the_answer(site: Witnessing) -> None:
    site.cosigned()
    site.node.service.hello()
    answer = welcome(site.hub)
    site.hub.add(person(1))
    site.cosigned()  # over the connection before
    site.node.service.welcome(answer)
    assert alarms.alarms(site.node.store) == []


def test_a_checkpoint_that_the_log_did_not_sign_is_no_greeting(site: Witnessing) -> None:
    site.cosigned()
    answer = welcome(site.hub)
    answer.welcome.ledger_checkpoint = HubLog(own=key(91)).checkpoint()
    with pytest.raises(VerificationError) as refusal:
        site.node.service.welcome(answer)
    assert refusal.value.code == "bad-checkpoint"
    assert alarms.alarms(site.node.store) == []


def test_a_copy_that_was_begun_anew_is_behind_and_misses_nothing(site: Witnessing) -> None:
    site.hub.add(person(1))
    site.cosigned()
    older = HubLog()
    assert reconnect(site, older) == ["truncated"]
    accept(site.node.store, 1, start_over=True)
    assert reconnect(site, older) == ["truncated"]


# Omissions


def test_a_run_that_is_kept_off_the_ledger_is_an_alarm(site: Witnessing) -> None:
    site.cosigned()
    site.run(rounds=0)
    site.pass_time(seconds=OMITTED_AFTER.total_seconds())
    site.cosigned()
    assert alarms.alarms(site.node.store) == []
    site.pass_time(seconds=1)
    site.node.service.witness.check_omissions()
    (alarm,) = alarms.alarms(site.node.store)
    assert (alarm.kind, alarm.proof.decode()) == ("omission", RUN_ID)
    site.node.service.witness.check_omissions()
    accept(site.node.store, alarm.id)
    site.node.service.witness.check_omissions()
    assert len(alarms.alarms(site.node.store)) == 1
    site.cosigned()


@pytest.mark.parametrize("before", [True, False])
def test_a_run_on_the_ledger_is_no_omission(site: Witnessing, before: bool) -> None:
    site.cosigned()
    submitted = site.submitted(site.request())
    if before:
        site.hub.add(submitted)
        site.cosigned()
    _, adverts = site.run(rounds=0)
    if not before:
        site.hub.add(submitted)
    site.hub.add(site.decided(adverts))
    site.cosigned()
    site.pass_time(hours=1)
    site.node.service.witness.check_omissions()
    assert alarms.alarms(site.node.store) == []


def test_a_run_that_ended_before_all_had_answered_is_no_omission(site: Witnessing) -> None:
    site.cosigned()
    request, _ = site.run(rounds=0)
    site.hub.add(site.submitted(request), site.ended(status="cancelled", result=None))
    site.cosigned()
    site.pass_time(hours=1)
    site.node.service.witness.check_omissions()
    assert alarms.alarms(site.node.store) == []


Ran = tuple[RunRequest, dict[str, bytes]]


def on_the_ledger(site: Witnessing, rounds: int = 2) -> Ran:
    """A run that the ledger tells of, but for its end."""
    request, adverts = site.run(rounds=rounds)
    site.hub.add(site.submitted(request), site.decided(adverts))
    site.cosigned()
    return request, adverts


def answer(site: Witnessing, ran: Ran, number: int) -> None:
    """One more round of it."""
    request, adverts = ran
    for name in site.world.sites:
        site.world.nodes[name].ask(round_request(request, list(adverts.values()), number))


def pass_hours(site: Witnessing, hours: int) -> None:
    for _ in range(hours):
        site.pass_time(hours=1)
        site.cosigned()
        site.node.service.witness.check_omissions()


def test_a_run_of_which_the_ledger_never_tells_the_end_is_an_alarm(site: Witnessing) -> None:
    site.cosigned()
    on_the_ledger(site)
    pass_hours(site, 24)
    assert alarms.alarms(site.node.store) == []
    site.pass_time(minutes=1)
    site.node.service.witness.check_omissions()
    (alarm,) = alarms.alarms(site.node.store)
    assert (alarm.kind, alarm.proof.decode()) == ("omission", f"end of run {RUN_ID}")
    assert f"end of run {RUN_ID}" in alarm.message
    accept(site.node.store, alarm.id)
    site.node.service.witness.check_omissions()
    assert len(alarms.alarms(site.node.store)) == 1


def test_the_day_begins_with_the_last_answer(site: Witnessing) -> None:
    site.cosigned()
    ran = on_the_ledger(site, rounds=1)
    pass_hours(site, 23)
    answer(site, ran, 2)
    pass_hours(site, 23)
    assert alarms.alarms(site.node.store) == []
    site.hub.add(site.ended(status="failed", result=None, code="peer-timeout"))
    pass_hours(site, 30)
    assert alarms.alarms(site.node.store) == []


def test_a_run_that_went_on_after_it_is_said_to_have_failed_has_another_end(
    site: Witnessing,
) -> None:
    site.cosigned()
    ran = on_the_ledger(site, rounds=1)
    site.hub.add(site.ended(status="failed", result=None, code="peer-timeout"))
    site.cosigned()
    answer(site, ran, 1)  # that in which it failed, perhaps
    pass_hours(site, 30)
    assert alarms.alarms(site.node.store) == []
    answer(site, ran, 2)
    pass_hours(site, 24)
    site.pass_time(minutes=1)
    site.node.service.witness.check_omissions()
    assert [alarm.proof.decode() for alarm in alarms.alarms(site.node.store)] == [
        f"end of run {RUN_ID}"
    ]


def test_runs_under_way_are_lost_with_the_hub_that_another_took_over_from(
    site: Witnessing,
) -> None:
    site.cosigned()
    site.run(rounds=0)
    new = HubLog(own=key(92))
    site.node.service.welcome(welcome(new))
    (alarm,) = alarms.alarms(site.node.store)
    accept(site.node.store, alarm.id, key_fingerprint=fingerprint(new.key.text))
    site.pass_time(hours=1)
    site.node.service.witness.check_omissions()
    assert alarms.alarms(site.node.store, only_open=True) == []


def test_a_hub_that_was_away_has_its_time_again(site: Witnessing) -> None:
    site.cosigned()
    site.run(rounds=0)
    site.pass_time(hours=5)
    site.node.service.welcome(welcome(site.hub))
    site.cosigned()
    site.pass_time(minutes=14)
    site.node.service.witness.check_omissions()
    assert alarms.alarms(site.node.store) == []
    site.pass_time(minutes=2)
    site.node.service.witness.check_omissions()
    assert [alarm.kind for alarm in alarms.alarms(site.node.store)] == ["omission"]


def test_a_hub_that_drops_each_connection_in_time_is_missed_all_the_same(
    site: Witnessing,
) -> None:
    site.cosigned()
    site.run(rounds=0)
    minutes = 0
    while not alarms.alarms(site.node.store):
        if minutes % 7 == 0:
            site.pass_time(hours=10)  # the hub is away
            site.node.service.welcome(welcome(site.hub))
        site.pass_time(minutes=1)
        minutes += 1
        site.node.service.witness.check_omissions()
    assert [alarm.kind for alarm in alarms.alarms(site.node.store)] == ["omission"]
    assert minutes == 15


def test_a_node_that_is_too_old_for_the_ledger_blames_nobody_for_omissions(
    site: Witnessing,
) -> None:
    site.cosigned()
    site.run(rounds=0)
    site.hub.add_bytes(
        b'{"at":"2026-11-22T09:00:00Z","fact":{"kind":"new"},"schema_id":"cohortium/ledger-entry/1"}'
    )
    site.pass_time(hours=1)
    with pytest.raises(Exception, match="update this node"):
        site.tell()
    site.node.service.witness.check_omissions()
    assert alarms.alarms(site.node.store) == []


def test_a_node_that_cannot_follow_the_ledger_soon_computes_nothing(site: Witnessing) -> None:
    site.cosigned()
    site.hub.add_bytes(
        b'{"at":"2026-11-22T09:00:00Z","fact":{"kind":"new"},"schema_id":"cohortium/ledger-entry/1"}'
    )
    with pytest.raises(ProtocolError, match="update this node"):
        site.tell()
    site.run(rounds=1)
    site.pass_time(minutes=14)
    with pytest.raises(ProtocolError, match="update this node"):
        site.tell()
    require_following(site.node.store, site.world.now)
    site.pass_time(minutes=2)
    with pytest.raises(PolicyRefusal, match="cannot follow") as refusal:
        site.run(rounds=1)
    assert refusal.value.code == "ledger-alarm"
    assert alarms.alarms(site.node.store) == []


def test_a_node_that_follows_again_computes_again(site: Witnessing) -> None:
    site.cosigned()
    site.pass_time(hours=-1)
    with pytest.raises(ConflictError, match="clock"):
        site.tell()
    site.pass_time(hours=2)
    with pytest.raises(PolicyRefusal, match="cannot follow"):
        site.run(rounds=1)
    site.hub.add(person(1))
    site.cosigned()
    site.run(rounds=1)


def test_a_machine_that_stood_still_blames_nobody_for_omissions(site: Witnessing) -> None:
    site.cosigned()
    site.run(rounds=0)
    site.pass_time(hours=5)
    site.node.service.witness.woke()
    site.node.service.witness.check_omissions()
    assert alarms.alarms(site.node.store) == []


def without_alpha() -> Witnessing:
    world, hub = World(), HubLog()
    hub.approve(Beta=world.keys["Beta"], Gamma=world.keys["Gamma"])
    return Witnessing(world=world, hub=hub)


def test_a_site_that_the_ledger_does_not_know_as_a_member_is_an_alarm() -> None:
    site = without_alpha()
    site.cosigned()
    site.pass_time(minutes=14)
    site.node.service.witness.check_omissions()
    assert alarms.alarms(site.node.store) == []
    site.pass_time(minutes=2)
    site.node.service.witness.check_omissions()
    (alarm,) = alarms.alarms(site.node.store)
    assert (alarm.kind, alarm.proof) == ("omission", b"membership")
    accept(site.node.store, alarm.id)
    site.node.service.witness.check_omissions()
    assert len(alarms.alarms(site.node.store)) == 1


def test_a_site_that_was_kept_off_the_ledger_looks_at_what_it_says_of_it_all_the_same() -> None:
    site = without_alpha()
    site.cosigned()
    site.pass_time(minutes=6)
    site.hub.add(PolicyChanged(member="Alpha", policy="sha256:" + "5" * 64))
    assert site.alarm().kind == "false-entry"


# The copy


def test_the_copy_verifies_and_an_altered_one_does_not(site: Witnessing, tmp_path: Path) -> None:
    site.hub.add(*map(person, range(300)))
    site.cosigned()
    replica = site.node.service.witness.replica
    assert ledger_copy.verify(replica).final == 0
    site.cosigned(site.hub.update(site.size, final=site.hub.final(site.world.keys)))
    found = ledger_copy.verify(replica)
    assert (found.entries, found.final) == (site.hub.size, site.hub.size)
    assert found.root == site.hub.tree.root().hex()
    body = replica.entries(7, 8)[0]
    for sql, values in (
        ("UPDATE ledger_entries SET body = ? WHERE position = 7", (body.replace(b"R", b"S"),)),
        ("UPDATE ledger_tiles SET hashes = zeroblob(64) WHERE level = 1", ()),
        ("DELETE FROM ledger_entries WHERE position = 303", ()),
        ("UPDATE ledger_checkpoints SET size = 4 WHERE kind = 'seen'", ()),
    ):
        store = site.node.store
        store.execute("BEGIN")
        store.execute(sql, *values)
        with pytest.raises(IntegrityFailure):
            ledger_copy.verify(replica)
        store.execute("ROLLBACK")
    ledger_copy.verify(replica)


def test_the_copy_is_exported_as_files_that_verify(site: Witnessing, tmp_path: Path) -> None:
    replica = site.node.service.witness.replica
    with pytest.raises(InputError):
        ledger_copy.export(replica, tmp_path / "early")
    site.hub.add(*map(person, range(700)))
    site.cosigned()
    files = ledger_copy.export(replica, tmp_path / "ledger")
    written = [path for path in (tmp_path / "ledger").rglob("*") if path.is_file()]
    assert len(written) == files
    note = (tmp_path / "ledger" / "checkpoint").read_bytes()
    checkpoint, _ = open_checkpoint(note, site.hub.key)
    verify_mirror(read_folder(tmp_path / "ledger"), checkpoint)
    site.hub.add(*map(person, range(70)))
    site.cosigned()
    ledger_copy.export(replica, tmp_path / "ledger")  # brings it up to date
    note = (tmp_path / "ledger" / "checkpoint").read_bytes()
    verify_mirror(read_folder(tmp_path / "ledger"), open_checkpoint(note, site.hub.key)[0])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ConflictError):
        ledger_copy.export(replica, tmp_path / "full")


def test_a_node_goes_on_after_a_restart_where_it_was(tmp_path: Path) -> None:
    world = World()
    site = Witnessing(world=world)
    store = NodeStore(tmp_path / "node.db", clock=world.clock)
    world.node("Alpha", store=store)
    site.node.service.welcome(welcome(site.hub))
    site.cosigned()
    store.close()
    world.node("Alpha", store=NodeStore(tmp_path / "node.db", clock=world.clock))
    site.hub.add(person(1))
    assert site.size == 4
    site.cosigned()
    shorter = site.hub.update(0, 2)
    assert site.alarm(shorter).kind == "truncated"


def test_a_node_older_than_the_ledger_believes_what_it_says_of_the_time_before() -> None:
    site = Witnessing()
    store, replica = site.node.store, site.node.service.witness.replica
    with store.transaction():  # as the version before left it
        store.execute("DELETE FROM said")
        store.set_published("patients", "sha256:" + "1" * 64)
        replica.remember("key", None)
    site.node.service.welcome(welcome(site.hub))
    unknown = PolicyChanged(member="Alpha", policy="sha256:" + "2" * 64)
    site.hub.add(unknown)
    site.cosigned()
    site.hub.add(PolicyChanged(member="Alpha", policy="sha256:" + "3" * 64))
    assert site.alarm().kind == "false-entry"


def test_a_node_restored_from_a_backup_says_so(tmp_path: Path) -> None:
    site = Witnessing()
    site.cosigned()
    fresh = Witnessing(hub=site.hub)
    site.pass_time(hours=1)
    fresh.world.now = site.hub.now
    policy = "sha256:" + "4" * 64
    with site.node.store.transaction():
        site.node.store.say("policy_digest", policy)
    site.hub.add(PolicyChanged(member="Alpha", policy=policy))
    site.cosigned()
    final = site.hub.final(site.world.keys)
    fresh.cosigned(site.hub.update(0, 4, final=site.hub.final(site.world.keys, 4)))
    assert fresh.node.decisions(what="ledger-restored")
    alarm = fresh.alarm(site.hub.update(4, final=final))
    assert alarm.kind == "false-entry"
    assert "restored from a backup" in alarm.message
    assert "older than a cosignature" in alarm.message
    accept(fresh.node.store, alarm.id)
    fresh.cosigned(site.hub.update(4, final=final))
    fresh.hub.add(MemberChanged(name="Delta", key=key(9).public, status="approved"))
    fresh.cosigned()
    assert alarms.alarms(fresh.node.store, only_open=True) == []
