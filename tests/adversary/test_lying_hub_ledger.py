"""A hub that lies about its ledger: each lie is an alarm with its proof, and gets no cosignature.

Run by a hub that holds the ledger's key and writes what it likes. The honest history in between
never alarms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.support.builders import RUN_ID, World, run_end
from tests.support.ledger_hub import HubLog, as_message
from tests.support.logs import key
from tests.support.witnessing import Witnessing, welcome

from cohortium.core.canonical import digest_bytes
from cohortium.errors import CohortiumError, PolicyRefusal, VerificationError
from cohortium.ledger.checkpoint import (
    Checkpoint,
    add_cosignatures,
    cosign,
    cosigners,
    members_line,
    open_checkpoint,
    sign,
)
from cohortium.ledger.entry import (
    ContractChanged,
    DatasetChanged,
    Fact,
    KeyReleased,
    MemberChanged,
    PolicyChanged,
    ResearcherChanged,
    Rounds,
    RunDecided,
    RunDenied,
    SiteDecision,
    TakenOver,
)
from cohortium.ledger.members import Members, require_final
from cohortium.ledger.note import Note
from cohortium.ledger.witness import SKEW, Update
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import alarms, consent, outbox, steward
from cohortium.node.alarms import Alarm
from cohortium.node.policy import Policy
from cohortium.node.witness import OMITTED_AFTER, accept

DIGEST = "sha256:" + "7" * 64


def person(number: int) -> Fact:
    return ResearcherChanged(name=f"R{number}", key=key(200).public, status="active")


@pytest.fixture
def site() -> Witnessing:
    """A site that has witnessed twelve entries, an hour ago and now."""
    made = Witnessing()
    made.hub.add(*map(person, range(8)))
    made.cosigned()
    made.pass_time(hours=1)
    made.cosigned()
    return made


def require_proof(site: Witnessing, alarm: Alarm) -> None:
    """Both checkpoints carry the log's own signature; nothing is computed any more."""
    for note in (alarm.seen, alarm.received):
        open_checkpoint(note, site.hub.key)
    with pytest.raises(PolicyRefusal) as caught:
        site.node.ask(site.world.prepare(site.request()))
    assert caught.value.code == "ledger-alarm"


# The log as a whole


def _forks(hub: HubLog) -> Update:
    other = hub.forked(9)
    other.add(*map(person, range(50, 56)))
    return other.update(hub.size)


def _forks_at_the_same_size(hub: HubLog) -> Update:
    other = hub.forked(11)
    other.add(person(77))
    return other.update(hub.size)


def _truncates(hub: HubLog) -> Update:
    return hub.update(10, 10)


def _truncates_and_goes_on(hub: HubLog) -> Update:
    other = hub.forked(10)
    other.add(*map(person, range(60, 70)))
    return other.update(hub.size)


def _reorders(hub: HubLog) -> Update:
    other = hub.forked(8)
    other.add_bytes(*reversed(hub.entries[8:]))
    return other.update(hub.size)


def _reorders_what_is_new(hub: HubLog) -> Update:
    hub.add(person(80), person(81))
    honest = hub.update(12)
    return replace(honest, entries=tuple(reversed(honest.entries)))


def _edits_an_old_entry(hub: HubLog) -> Update:
    other = hub.forked(0)
    other.add_bytes(*(data.replace(b'"R2"', b'"X2"') for data in hub.entries))
    return other.update(hub.size)


def _back_dates(hub: HubLog) -> Update:
    hub.add(person(82), at=hub.now - SKEW - timedelta(seconds=1))
    return hub.update(12)


def _post_dates(hub: HubLog) -> Update:
    hub.add(person(83), at=hub.now + SKEW + timedelta(seconds=1))
    return hub.update(12)


def _dates_out_of_order(hub: HubLog) -> Update:
    hub.add(person(84))
    hub.add(person(85), at=hub.now - timedelta(seconds=1))
    return hub.update(12)


def _replays_an_old_checkpoint(hub: HubLog) -> Update:
    return hub.update(0, 5)


def _invents_members(hub: HubLog) -> Update:
    ghosts = {f"Ghost {number}": key(30 + number).public for number in range(9)}
    hub.members_lie = Members({**hub.members_at(12).members, **ghosts}).digest
    hub.add(person(86))
    return hub.update(12)


def _gives_a_member_another_key(hub: HubLog) -> Update:
    hub.add(MemberChanged(name="Alpha", key=key(33).public, status="approved"))
    return hub.update(12)


def _gives_the_sites_key_to_another(hub: HubLog) -> Update:
    own = hub.members_at(12).members["Alpha"]
    hub.add(MemberChanged(name="Ghost", key=own, status="approved"))
    return hub.update(12)


def _has_what_is_no_entry(hub: HubLog) -> Update:
    hub.add_bytes(b'{"fact":"trust me"}')
    return hub.update(12)


def _shows_another_final(hub: HubLog) -> Update:
    other = hub.forked(9)
    other.add(person(87))
    return hub.update(12, final=other.checkpoint())


def _names_another_key(hub: HubLog) -> Update:
    hub.add(TakenOver(size=12, key=HubLog(own=key(92)).key.text))
    return hub.update(12)


def _takes_over_from_itself(hub: HubLog) -> Update:
    hub.add(TakenOver(size=3, key=hub.key.text))
    return hub.update(12)


LIES: list[tuple[Callable[[HubLog], Update], str]] = [
    (_forks, "fork"),
    (_forks_at_the_same_size, "fork"),
    (_truncates, "truncated"),
    (_truncates_and_goes_on, "fork"),
    (_reorders, "fork"),
    (_reorders_what_is_new, "fork"),
    (_edits_an_old_entry, "fork"),
    (_back_dates, "dates"),
    (_post_dates, "dates"),
    (_dates_out_of_order, "dates"),
    (_replays_an_old_checkpoint, "truncated"),
    (_invents_members, "entry"),
    (_gives_a_member_another_key, "false-entry"),
    (_gives_the_sites_key_to_another, "false-entry"),
    (_has_what_is_no_entry, "entry"),
    (_shows_another_final, "fork"),
    (_names_another_key, "entry"),
    (_takes_over_from_itself, "entry"),
]


@pytest.mark.parametrize(("lie", "kind"), LIES)
def test_a_lie_about_the_log_is_an_alarm(
    site: Witnessing, lie: Callable[[HubLog], Update], kind: str
) -> None:
    alarm = site.alarm(lie(site.hub.copy()))
    assert alarm.kind == kind
    require_proof(site, alarm)


def test_two_views_cannot_both_become_final_and_each_site_proves_the_other(
    site: Witnessing,
) -> None:
    honest = site.hub
    beta = Witnessing(world=World(), hub=honest)
    other = honest.forked(12)
    honest.add(person(1000))
    other.add(person(2000))
    line = site.tell(honest.update(12)).line
    first = add_cosignatures(honest.checkpoint(), [line])
    beta.world.now = honest.now
    lied = beta.node.ask(as_message(other.update(0))).cosignature.line
    second = add_cosignatures(other.checkpoint(), [lied])
    members = honest.members_at(12).members
    for note in (first, second):
        with pytest.raises(VerificationError) as caught:
            require_final(note, honest.key, members)
        assert caught.value.code == "not-final"
    alarm = site.alarm(honest.update(13, final=second))
    assert alarm.kind == "fork"
    require_proof(site, alarm)
    assert {open_checkpoint(n, honest.key)[0].size for n in (alarm.seen, alarm.received)} == {13}


def test_invented_members_make_nothing_final(site: Witnessing) -> None:
    ghosts = {f"Ghost {number}": key(30 + number) for number in range(9)}
    members = {**site.hub.members_at(12).members, **{n: k.public for n, k in ghosts.items()}}
    body = Checkpoint(
        site.hub.origin, 12, site.hub.tree.root(), (members_line(Members(members).digest),)
    )
    note = sign(body, site.hub.own)
    lines = [cosign(Note.parse(note), site.hub.origin, n, k, 1) for n, k in ghosts.items()]
    alarm_free = site.hub.update(12, final=add_cosignatures(note, lines))
    with pytest.raises(VerificationError) as caught:
        site.node.ask(as_message(alarm_free))
    assert caught.value.code == "not-final"
    replica = site.node.service.witness.replica
    assert replica.checkpoint("final") is None
    # Members that the ledger itself invents do not count for a study's participants.
    site.hub.approve(Ghost=key(30), Ghoul=key(31), Geist=key(32), Spook=key(33))
    crowd = {"Ghost": key(30), "Ghoul": key(31), "Geist": key(32), "Spook": key(33)}
    own = {"Alpha": site.world.keys["Alpha"]}
    final = site.hub.final({**crowd, **own})
    known = site.hub.members_at(site.hub.size).members
    require_final(final, site.hub.key, known)
    participants = {p.name: p.key for p in site.contract.participants}
    with pytest.raises(VerificationError) as caught:
        require_final(final, site.hub.key, known, participants)
    assert caught.value.code == "not-final"


def test_a_hub_that_changes_its_key_is_not_followed(site: Witnessing) -> None:
    changed = site.hub.copy()
    changed.own = key(91)
    changed.add(person(88))
    with pytest.raises(VerificationError) as caught:
        site.node.ask(as_message(changed.update(12)))
    assert caught.value.code == "bad-checkpoint"
    site.node.service.welcome(welcome(changed))
    (alarm,) = alarms.alarms(site.node.store)
    assert (alarm.kind, alarm.received.decode()) == ("key", changed.key.text)
    with pytest.raises(PolicyRefusal):
        site.node.ask(site.world.prepare(site.request()))


def test_a_hub_that_omits_a_run_is_found_out(site: Witnessing) -> None:
    site.node.service.welcome(welcome(site.hub))
    site.run(rounds=1)
    for _ in range(4):
        site.hub.add(person(site.hub.size))
        site.pass_time(seconds=OMITTED_AFTER.total_seconds() / 3)
        site.cosigned()
    site.node.service.witness.check_omissions()
    (alarm,) = alarms.alarms(site.node.store)
    assert (alarm.kind, alarm.code, alarm.proof.decode()) == (
        "omission",
        "ledger-omission",
        RUN_ID,
    )
    with pytest.raises(VerificationError):
        site.tell()


def _called_denied(site: Witnessing) -> None:
    """The ledger would say that the hub refused what it had computed."""
    request, adverts = site.run(rounds=2)
    fact = {**site.submitted(request).model_dump(), "kind": "run.denied", "code": "not-permitted"}
    site.hub.add(RunDenied.model_validate(fact), site.decided(adverts))


def _under_another_study(site: Witnessing) -> None:
    """An auditor of the study would see nothing of it, not even with the whole ledger."""
    site.hub.add(site.submitted(site.request()).model_copy(update={"study": "decoy"}))
    site.hub.add(site.decided(site.run(rounds=2)[1]))


def _under_another_contract(site: Witnessing) -> None:
    request, adverts = site.run(rounds=2)
    other = site.submitted(request).model_copy(update={"contract": DIGEST})
    site.hub.add(other, site.decided(adverts))


def _by_somebody_else(site: Witnessing) -> None:
    request, adverts = site.run(rounds=2)
    other = site.submitted(request).model_copy(update={"researcher": key(201).public})
    site.hub.add(other, site.decided(adverts))


def _with_another_request(site: Witnessing) -> None:
    request, adverts = site.run(rounds=2)
    other = site.submitted(request).model_copy(update={"request": DIGEST})
    site.hub.add(other, site.decided(adverts))


def _ordered_and_nothing_more(site: Witnessing) -> None:
    site.hub.add(site.submitted(site.run(rounds=2)[0]))


def _decided_and_never_ordered(site: Witnessing) -> None:
    site.hub.add(site.decided(site.run(rounds=2)[1]))


@pytest.mark.parametrize(
    "lie",
    [
        _called_denied,
        _under_another_study,
        _under_another_contract,
        _by_somebody_else,
        _with_another_request,
        _ordered_and_nothing_more,
        _decided_and_never_ordered,
    ],
)
def test_a_run_that_is_told_otherwise_than_it_was_is_omitted(
    site: Witnessing, lie: Callable[[Witnessing], None]
) -> None:
    lie(site)
    site.cosigned()
    site.pass_time(minutes=16)
    site.node.service.witness.check_omissions()
    (alarm,) = alarms.alarms(site.node.store)
    assert (alarm.kind, alarm.proof.decode()) == ("omission", RUN_ID)


def test_a_study_named_like_a_run_does_not_hide_its_omission(site: Witnessing) -> None:
    site.node.service.welcome(welcome(site.hub))
    fact = _statement(site, author="Dr. Li", key=site.world.researcher.public)
    site.hub.add(fact.model_copy(update={"study": RUN_ID}))
    site.cosigned()
    site.run(rounds=0)
    site.pass_time(minutes=16)
    site.node.service.witness.check_omissions()
    assert [alarm.kind for alarm in alarms.alarms(site.node.store)] == ["omission"]


def _revoke(site: Witnessing) -> ContractChanged:
    """The steward revokes the contract; what an honest hub notes."""
    for owed in site.node.store.owed():  # the signature
        site.node.store.settle(owed.id, "ok")
    (stored,) = site.node.store.contracts()
    digest = digest_bytes(steward.state(site.node.service, stored, "revoke", "No more."))
    return _statement(site, action="revoke", statement=digest, state="revoked")


def _acknowledge(site: Witnessing) -> None:
    """The hub says that it has what the site stated."""

    async def taken(_: pb.Message) -> pb.Message:
        return pb.Message(ack=pb.Ack())

    asyncio.run(outbox.flush(site.node.store, taken))


def test_a_hub_that_swallows_a_revocation_is_found_out(site: Witnessing) -> None:
    site.node.service.welcome(welcome(site.hub))
    fact = _revoke(site)
    _acknowledge(site)
    site.pass_time(minutes=16)
    site.node.service.witness.check_omissions()
    (alarm,) = alarms.alarms(site.node.store)
    assert (alarm.kind, alarm.proof.decode()) == ("omission", fact.statement)
    accept(site.node.store, alarm.id)
    site.node.service.witness.check_omissions()
    assert alarms.alarms(site.node.store, only_open=True) == []


@pytest.mark.parametrize("before", [True, False])
def test_a_statement_on_the_ledger_is_no_omission(site: Witnessing, before: bool) -> None:
    site.node.service.welcome(welcome(site.hub))
    fact = _revoke(site)
    if not before:
        _acknowledge(site)
    site.hub.add(fact)
    site.cosigned()
    if before:  # its entry is there before the hub's word that it has it
        _acknowledge(site)
    site.pass_time(hours=1)
    site.node.service.witness.check_omissions()
    assert alarms.alarms(site.node.store) == []


@pytest.mark.parametrize(
    "changed", [{"action": "suspend"}, {"study": "decoy"}, {"contract": DIGEST}]
)
def test_a_statement_that_is_told_as_another_is_an_alarm(
    site: Witnessing, changed: dict[str, str]
) -> None:
    fact = _revoke(site)
    site.hub.add(ContractChanged.model_validate(fact.model_dump() | changed))
    assert site.alarm().kind == "false-entry"


def test_a_statement_that_is_told_under_a_strangers_key_is_an_alarm(site: Witnessing) -> None:
    """Who withholds the envelope could else have it passed over in the evidence."""
    fact = _revoke(site)
    another = {"author": "Eve", "key": key(99).public}
    site.hub.add(ContractChanged.model_validate(fact.model_dump() | another))
    assert site.alarm().kind == "false-entry"


# Entries about a site


def _statement(site: Witnessing, **changes: str) -> ContractChanged:
    values = {
        "study": "lung",
        "contract": site.contract.digest,
        "version": 1,
        "action": "sign",
        "author": "Alpha",
        "key": site.world.keys["Alpha"].public,
        "statement": DIGEST,
        "state": "proposed",
        **changes,
    }
    return ContractChanged.model_validate(values)


def _dataset(site: Witnessing, **changes: str) -> DatasetChanged:
    published = site.node.service.datasets.published()[0]
    values = {
        "member": "Alpha",
        "name": published.name,
        "content": published.content_digest,
        "dictionary": published.dictionary.digest,
        **changes,
    }
    return DatasetChanged.model_validate(values)


def _decision(**changes: str) -> Callable[[Witnessing], Fact]:
    def made(site: Witnessing) -> Fact:
        return RunDecided(run_id=RUN_ID, sites={"Alpha": SiteDecision.model_validate(changes)})

    return made


def _rounds(*rounds: Rounds) -> Callable[[Witnessing], Fact]:
    def made(site: Witnessing) -> Fact:
        site.run(rounds=2)
        site.hub.add(site.submitted(site.request()))
        return site.ended(rounds=rounds)

    return made


def _other_run(site: Witnessing) -> Fact:
    return site.ended(rounds=(Rounds(first=1, last=1, sites=("Alpha", "Beta")),))


def _of_other_advert(site: Witnessing) -> Fact:
    site.run(rounds=0)
    return site.decided({"Alpha": b"another advert"})


def _refused_though_accepted(site: Witnessing) -> Fact:
    site.run(rounds=0)
    refused = SiteDecision(decision="refused", code="site-policy")
    return RunDecided(run_id=RUN_ID, sites={"Alpha": refused})


FALSE: list[Callable[[Witnessing], Fact]] = [
    lambda site: _dataset(site, content=DIGEST),
    lambda site: _dataset(site, dictionary=DIGEST),
    lambda site: _dataset(site, name="other"),
    lambda _: PolicyChanged(member="Alpha", policy=DIGEST),
    _statement,
    lambda site: _statement(site, key=key(44).public),
    _decision(decision="accepted", statement=DIGEST),
    _decision(decision="accepted"),
    _of_other_advert,
    _refused_though_accepted,
    _other_run,
    _rounds(Rounds(first=1, last=2, sites=("Alpha", "Beta"))),
    _rounds(Rounds(first=1, last=3, sites=("Alpha", "Beta", "Gamma"))),
    _rounds(Rounds(first=1, last=2**53 - 1, sites=("Alpha", "Beta", "Gamma"))),
    _rounds(Rounds(first=1, last=2, sites=("Alpha", "Beta", "Gamma", "Delta"))),
    lambda _: KeyReleased(run_id=RUN_ID, holder="Alpha", recipient=DIGEST, evidence=DIGEST),
]


@pytest.mark.parametrize("made", FALSE)
def test_a_false_entry_about_the_site_is_an_alarm(
    site: Witnessing, made: Callable[[Witnessing], Fact]
) -> None:
    outbox.owe_datasets(site.node.store, site.node.service.datasets.published())
    site.hub.add(made(site))
    alarm = site.alarm()
    assert (alarm.kind, alarm.code) == ("false-entry", "ledger-false-entry")
    require_proof(site, alarm)


def test_a_false_entry_among_true_ones_is_found(site: Witnessing) -> None:
    request, adverts = site.run()
    site.hub.add(site.submitted(request), site.decided(adverts), person(89))
    site.hub.add(PolicyChanged(member="Alpha", policy=DIGEST), person(90))
    assert site.alarm().kind == "false-entry"


# What is so, or may honestly look like it, is no alarm


def test_true_entries_about_the_site_are_cosigned(site: Witnessing) -> None:
    node = site.node
    outbox.owe_datasets(node.store, node.service.datasets.published())
    policy = outbox.owe_policy(node.store, Policy(min_cell=9).digest)
    outbox.owe_policy(node.store, Policy().digest)
    signed = consent.find_contract(node.store, "lung")
    assert signed.state == "active"
    statement = digest_bytes(site.contract.sign(site.world.keys["Alpha"]))
    request, adverts = site.run()
    everyone = Rounds(first=1, last=2, sites=("Alpha", "Beta", "Gamma"))
    site.hub.add(
        MemberChanged(name="Alpha", key=site.world.keys["Alpha"].public, status="approved"),
        _dataset(site),
        DatasetChanged(member="Alpha", name="patients"),
        PolicyChanged(member="Alpha", policy=policy),
        PolicyChanged(member="Beta", policy=DIGEST),
        _statement(site, statement=statement),
        _statement(site, author="Dr. Li", key=site.world.researcher.public),
        site.submitted(request),
        site.decided(adverts),
        site.ended(rounds=(everyone,)),
    )
    site.cosigned()
    assert alarms.alarms(node.store) == []


def test_a_researcher_with_the_sites_name_may_sign_with_another_key(site: Witnessing) -> None:
    other = key(45).public
    site.hub.add(ResearcherChanged(name="Alpha", key=other, status="active"))
    site.hub.add(_statement(site, key=other))
    site.cosigned()
    site.hub.add(_statement(site, key=other))
    site.cosigned()


def test_an_answer_that_was_lost_is_an_absence(site: Witnessing) -> None:
    request, adverts = site.run(rounds=0)
    absent = SiteDecision(decision="absent", code="peer-timeout")
    failed = SiteDecision(decision="refused", code="peer-failed")
    site.hub.add(site.submitted(request))
    site.hub.add(RunDecided(run_id=RUN_ID, sites={"Alpha": absent}))
    site.hub.add(RunDecided(run_id=RUN_ID, sites={"Alpha": failed}))
    site.hub.add(site.decided(adverts))
    site.cosigned()


def test_a_site_that_accepted_may_refuse_when_it_is_asked_again(site: Witnessing) -> None:
    request, adverts = site.run(rounds=0)
    site.node.policy[0] = Policy(paused=True)
    with pytest.raises(PolicyRefusal):
        site.node.ask(site.world.prepare(request))
    refused = SiteDecision(decision="refused", code="site-policy")
    site.hub.add(site.submitted(request), site.decided(adverts))
    site.hub.add(RunDecided(run_id=RUN_ID, sites={"Alpha": refused}))
    site.cosigned()


def test_a_refusal_of_a_run_that_never_was_accepted_is_so(site: Witnessing) -> None:
    site.node.policy[0] = Policy(deny_computations=("test.*",))
    request = site.request()
    with pytest.raises(PolicyRefusal):
        site.node.ask(site.world.prepare(request))
    refused = SiteDecision(decision="refused", code="site-policy")
    site.hub.add(site.submitted(request))
    site.hub.add(RunDecided(run_id=RUN_ID, sites={"Alpha": refused}))
    site.cosigned()


def test_a_run_that_was_cancelled_is_no_alarm(site: Witnessing) -> None:
    site.node.service.welcome(welcome(site.hub))
    request, _ = site.run(rounds=1)
    site.hub.add(site.submitted(request))
    site.node.ask(run_end(request, "cancelled"))
    fact = {"status": "cancelled", "result": None, "code": "run-cancelled"}
    site.hub.add(site.ended(**fact))
    site.cosigned()
    site.pass_time(hours=1)
    site.cosigned()
    assert alarms.alarms(site.node.store) == []


def test_a_round_whose_sum_another_site_dropped_out_of_is_no_alarm() -> None:
    """Where this site never learned who was left, fewer may be named; never others."""
    site = Witnessing(world=World(sites=("Alpha", "Beta", "Gamma", "Kappa", "Sigma"), min_sites=3))
    request, _ = site.run(rounds=0)
    left = Rounds(first=1, last=1, sites=("Alpha", "Beta", "Gamma", "Kappa"))
    with site.node.store.transaction():  # the answered round, before anybody said who was left
        site.node.store.set_summed(RUN_ID, 1, '["Alpha","Beta","Gamma","Kappa","Sigma"]')
    site.hub.add(site.submitted(request), site.ended(rounds=(left,)))
    site.cosigned()
    with site.node.store.transaction():  # it opened the sum for all five
        site.node.store.say("summed", f"{RUN_ID} 1")
    site.hub.add(site.ended(rounds=(left,)))
    assert site.alarm().kind == "false-entry"


def test_what_stands_before_the_sites_membership_is_about_an_earlier_node() -> None:
    world, hub = World(), HubLog()
    hub.add(
        MemberChanged(name="Alpha", key=key(66).public, status="approved"),
        PolicyChanged(member="Alpha", policy=DIGEST),
        MemberChanged(name="Alpha", key=key(66).public, status="removed"),
    )
    hub.approve(**world.keys)
    site = Witnessing(world=world, hub=hub)
    site.cosigned()
    hub.add(PolicyChanged(member="Alpha", policy=DIGEST))
    assert site.alarm().kind == "false-entry"


def test_one_lie_in_a_long_honest_life_is_one_alarm(site: Witnessing) -> None:
    for number in range(30):
        site.pass_time(minutes=number)
        site.hub.add(*map(person, range(number % 4)))
        if number % 3:
            site.cosigned()
            final = site.hub.final(site.world.keys, site.size)
            site.cosigned(site.hub.update(site.size, final=final))
    assert alarms.alarms(site.node.store) == []
    lie = site.hub.forked(site.size - 1)
    lie.add(person(1))
    site.alarm(lie.update(site.size))
    assert len(alarms.alarms(site.node.store)) == 1


def test_cosignatures_are_by_the_contract_key_over_the_hubs_checkpoint(site: Witnessing) -> None:
    note = site.hub.checkpoint()
    line = site.tell(site.hub.update(12)).line
    keys = {"Alpha": site.world.keys["Alpha"].public}
    signed = cosigners(Note.parse(add_cosignatures(note, [line])), site.hub.origin, keys)
    assert signed == {"Alpha": int(site.world.now.timestamp())}


def test_no_lie_gets_past_a_store_that_cannot_be_written(site: Witnessing) -> None:
    """An alarm that cannot be kept still gives no cosignature."""
    store = site.node.store
    store.execute("DROP TABLE ledger_alarms")
    with pytest.raises(CohortiumError):
        site.node.ask(as_message(_forks(site.hub)))
    with pytest.raises(CohortiumError):
        site.node.ask(site.world.prepare(site.request()))
