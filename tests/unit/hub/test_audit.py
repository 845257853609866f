"""What the hub exports of a study verifies, whatever has happened in it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.docs.test_verify_bundle import failing_step
from tests.support.fake_sites import (
    DATASET,
    NOW,
    SITES,
    World,
    find,
    key,
    make_contract,
    make_hub,
    make_request,
)
from tests.support.life import amended, transition

from cohortium.audit.bundle import parse_bundle
from cohortium.audit.verify import Report, Trust, verify
from cohortium.contract.model import Contract, RunRequest
from cohortium.core.canonical import canonical
from cohortium.crypto.keys import fingerprint
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PeerError,
    VerificationError,
)
from cohortium.hub import audit as audit_module
from cohortium.hub.audit import AuditExport
from cohortium.hub.ledger_notes import note
from cohortium.hub.ledger_store import Log
from cohortium.hub.store import HubStore
from cohortium.hub.tables import documents, ledger_entries
from cohortium.ledger.checkpoint import add_cosignatures, cosign
from cohortium.ledger.entry import ContractChanged, PolicyChanged, parse_entry
from cohortium.ledger.note import Note
from cohortium.link._generated.link_pb2 import Message
from cohortium.secagg.round_key import RoundKey

ADA, BOB = key("Ada"), key("Bob")


async def witnessed(world: World) -> None:
    """Wait until all that was noted is final."""
    ledger = world.hub.store.ledger
    async with asyncio.timeout(20):
        while True:
            final = ledger.newest_final()
            if not ledger.pending() and final is not None and final.size == ledger.size():
                return
            await asyncio.sleep(0.02)


async def export(world: World, study: str = "lung", *, whole: bool = False) -> bytes:
    await witnessed(world)
    return world.hub.audit(study, world.hub.user(ADA.public), whole=whole)


def check(data: bytes, **more: Any) -> Report:
    """Both verifiers."""
    assert failing_step(data, more.get("results", {})) is None
    keys = {name: frozenset({key(name).public}) for name in (*SITES, "Ada")}
    return verify(data, trust=Trust(keys), find=find, **more)


def submit(world: World, contract: Contract, number: int = 1, **changes: Any) -> str:
    request = make_request(contract, number, **changes)
    return world.hub.submit(request.sign(ADA), world.hub.user(ADA.public)).id


def sign(world: World, contract: Contract) -> None:
    for site in SITES:
        world.hub.say(site, contract.sign(key(site)))
        world.sites[site].contract = contract


@pytest.mark.parametrize("whole", [False, True])
async def test_a_study_with_a_result(world: World, whole: bool) -> None:
    run = submit(world, world.contract)
    assert await world.settled(run) == "succeeded"
    data = await export(world, whole=whole)
    result = world.hub.result(run, world.hub.user(ADA.public)).result
    report = check(data, results={run: canonical(result)})
    assert (report.complete, report.results) == (whole, (run,))
    said = [event.what for event in report.events if event.who == "Ada"]
    assert any(what.startswith("ordered test.add_up") for what in said)
    altered = {run: canonical({**result, "n": 7})}
    with pytest.raises(VerificationError, match="not the result"):
        verify(data, find=find, results=altered)


async def test_a_whole_life_of_two_versions_and_of_runs_that_did_not_succeed(world: World) -> None:
    first = world.contract
    assert await world.settled(submit(world, first, 1)) == "succeeded"
    said = transition(first, "suspend", "Beta", at=NOW)
    world.hub.say("Beta", said.sign(key("Beta")))
    with pytest.raises(CohortiumError):
        submit(world, first, 2)
    said = transition(first, "resume", "Beta", at=NOW + timedelta(seconds=1))
    world.hub.say("Beta", said.sign(key("Beta")))
    second = amended(first, title="Lung, and more")
    world.hub.propose(second.sign(ADA), world.hub.user(ADA.public))
    sign(world, second)
    world.link.leave("Gamma")
    without = submit(world, second, 3)
    await world.reaches(without, "witnessing")
    world.join("Gamma")
    assert await world.settled(without) == "succeeded"
    world.link.leave("Beta")
    world.link.leave("Gamma")
    failed = submit(world, second, 4)
    assert await world.settled(failed) == "failed"
    world.join("Beta")
    world.join("Gamma")
    await world.hub.resume(failed, world.hub.user(ADA.public))
    assert await world.settled(failed) == "succeeded"
    with pytest.raises(CohortiumError):
        submit(world, second, 5, computation="survival.cox")
    said = transition(second, "close", "Ada", at=NOW, keeps=("Nothing.",))
    world.hub.state("lung", said.sign(ADA), world.hub.user(ADA.public))
    for whole in (False, True):
        report = check(await export(world, whole=whole))
        told = "\n".join(event.what for event in report.events)
        for words in (
            "suspended version 1",
            "was refused test.add_up",
            "contract-suspended",
            "resumed version 1",
            "signed version 2",
            "absent: Gamma",
            "failed (too-few-sites)",
            "was refused survival.cox",
            "closed version 2",
        ):
            assert words in told, words
        assert report.checked["releases"] == 6  # a receipt, and that it is there, for each result


async def test_a_run_that_a_site_refuses_and_one_that_is_cancelled(world: World) -> None:
    async def refuse(_: Message) -> Message | None:
        raise PeerError("peer-failed", "No.")

    world.sites["Beta"].hook = refuse
    assert await world.settled(submit(world, world.contract, 1)) == "failed"
    waiting = asyncio.Event()

    async def hold(message: Message) -> Message | None:
        if message.round_request.round == 2:
            waiting.set()
            await asyncio.sleep(60)
        return None

    world.sites["Beta"].hook = hold
    run = submit(world, world.contract, 2)
    await asyncio.wait_for(waiting.wait(), 10)
    world.hub.cancel(run, world.hub.user(ADA.public))
    assert await world.settled(run) == "cancelled"
    report = check(await export(world))
    told = "\n".join(event.what for event in report.events)
    assert "refuse: Beta (peer-failed)" in told
    assert "cancelled" in told


async def test_a_researcher_who_orders_in_another_s_name_spoils_nothing(world: World) -> None:
    request = make_request(world.contract, 1)
    for signer in (BOB, ADA):
        with pytest.raises(CohortiumError):
            world.hub.submit(request.sign(BOB), world.hub.user(signer.public))
    report = check(await export(world))
    (denied,) = [event for event in report.events if "was refused" in event.what]
    assert denied.who == fingerprint(BOB.public)  # he is not in the study
    assert "unknown-signer" in denied.what


async def test_an_order_that_was_logged_hours_later_is_in_order(world: World) -> None:
    """The hub was down after it had accepted it; each site keeps to the request's window."""
    run = submit(world, world.contract)
    assert await world.settled(run) == "succeeded"
    with world.hub.store._database.write() as c:
        note(c, PolicyChanged(member="Alpha", policy=DATASET.content_digest))
    later = NOW + timedelta(hours=30)
    world.hub.ledger._clock = lambda: later
    late = make_request(world.contract, 2)
    world.hub.submit(late.sign(ADA), world.hub.user(ADA.public))
    assert await world.settled(late.run_id) == "succeeded"
    report = check(await export(world))
    assert [event.at for event in report.events if event.what.startswith("ordered")] == [NOW, later]


async def test_a_run_that_is_cancelled_before_its_decisions_are_logged(world: World) -> None:
    run = submit(world, world.contract)
    assert await world.settled(run) == "succeeded"
    late = make_request(world.contract, 2)
    store = world.hub.store
    store.runs.submit(late, late.sign(ADA), NOW)
    store.runs.cancel(late.run_id, NOW, ())
    envelope = world.sites["Alpha"]._prepare(late.sign(ADA))
    away = PeerError("peer-unreachable", "Away.")
    store.runs.decided(late.run_id, {"Alpha": envelope, "Beta": away, "Gamma": away})
    assert "cancelled" in "".join(event.what for event in check(await export(world)).events)


@pytest.mark.parametrize("spoilt", ["another run", "another site's", "no key"])
async def test_a_site_cannot_spoil_the_evidence_of_the_others(world: World, spoilt: str) -> None:
    """What it signs for another run, or with the key of another site, harms this run only."""
    others: list[bytes] = []

    async def listen(message: Message) -> Message | None:
        if message.WhichOneof("body") == "run_prepare":
            others.append(world.sites["Alpha"]._prepare(message.run_prepare.request_envelope))
        return None

    async def lie(message: Message) -> Message | None:
        if message.WhichOneof("body") != "run_prepare":
            return None
        request, _ = RunRequest.open(message.run_prepare.request_envelope)
        stated = RoundKey(
            run_id="0" * 32 if spoilt == "another run" else request.run_id,
            contract_digest=request.contract_digest,
            request_digest=request.digest,
            site="Beta",
            x25519=RoundKey.open(others[0])[0].x25519,
        )
        envelope = b"{}" if spoilt == "no key" else stated.sign(key("Beta"))
        reply = Message()
        reply.run_advert.envelope = envelope
        return reply

    world.sites["Alpha"].hook = listen
    world.sites["Beta"].hook = lie
    assert await world.settled(submit(world, world.contract, 1)) == "failed"
    world.sites["Beta"].hook = None
    assert await world.settled(submit(world, world.contract, 2)) == "succeeded"
    report = check(await export(world))
    assert report.checked["releases"] == 2


async def test_another_study_s_entries_and_documents_stay_out(world: World) -> None:
    other = make_contract(world.contract.consortium, study="stroke")
    world.hub.propose(other.sign(ADA), world.hub.user(ADA.public))
    for site in SITES:
        world.hub.say(site, other.sign(key(site)))
    data = await export(world)
    assert b"stroke" not in data
    whole = parse_bundle(await export(world, whole=True))
    assert b"stroke" in whole.to_bytes()
    assert whole.statements == parse_bundle(data).statements


async def test_a_proposal_that_nobody_signed_yet_has_evidence_too(world: World) -> None:
    other = make_contract(world.contract.consortium, study="stroke")
    world.hub.propose(other.sign(ADA), world.hub.user(ADA.public))
    report = check(await export(world, "stroke"))
    assert [event.what for event in report.events if "proposed" in event.what]


async def test_only_who_may_read_results_gets_the_evidence(world: World) -> None:
    await witnessed(world)
    with pytest.raises(InputError) as caught:
        world.hub.audit("lung", world.hub.user(BOB.public), whole=False)
    assert caught.value.code == "not-found"
    with pytest.raises(InputError):
        world.hub.audit("nothing", world.hub.user(ADA.public), whole=False)


async def test_before_enough_have_witnessed_it_there_is_nothing_to_export(tmp_path: Path) -> None:
    store = HubStore(f"sqlite:///{tmp_path / 'hub.db'}")
    hub = make_hub(store)
    hub.members.add_user("Ada", ADA.public)
    for name in SITES:
        hub.members.add(name, key(name).public)
        store.members.publish(name, DATASET)
    contract = make_contract(hub.consortium.fingerprint)
    hub.studies.propose(contract.sign(ADA), hub.user(ADA.public))
    while store.ledger.append(hub.log, NOW):
        pass
    with pytest.raises(ConflictError) as caught:
        hub.audit("lung", hub.user(ADA.public), whole=False)
    assert caught.value.code == "wrong-state"
    store.close()


async def test_an_entry_that_the_hub_altered_is_found_out(world: World) -> None:
    run = submit(world, world.contract)
    assert await world.settled(run) == "succeeded"
    await witnessed(world)
    ledger = world.hub.store.ledger
    ((place, entry),) = ledger.about("run.ended", run)
    with world.hub.store._database.write() as c:
        changed = entry.replace(b'"Gamma"', b'"Gamme"')
        assert changed != entry
        c.execute(
            update(ledger_entries).where(ledger_entries.c.position == place).values(entry=changed)
        )
    data = world.hub.audit("lung", world.hub.user(ADA.public), whole=False)
    with pytest.raises(VerificationError) as caught:
        verify(data, find=find)
    assert caught.value.details == {"step": "entries", "entry": place, "cause": "bad-proof"}


def taken_over(world: World) -> tuple[HubStore, Log]:
    """Another hub that goes on with the ledger and got the contracts back; all witness it."""
    old, store = world.hub.store, HubStore("sqlite://")
    lost = world.hub.log.verifier.text
    log = Log("Test", world.contract.consortium, key("new hub"), earlier=(lost,))
    with store.ledger.adopting(log) as take:
        take([parse_entry(data) for data in old.ledger.entries(0, old.ledger.size())])
    while store.ledger.append(log, NOW):
        pass
    store.recovery.take([said.envelope for said in old.studies.statements("lung")])
    newest = store.ledger.newest()
    assert newest is not None
    lines = [cosign(Note.parse(newest.note), log.origin, site, key(site), 1) for site in SITES]
    store.ledger.witnessed(newest.size, add_cosignatures(newest.note, lines), final=True)
    return store, log


async def test_after_another_hub_took_over_the_contracts_can_be_exported(world: World) -> None:
    await witnessed(world)
    store, log = taken_over(world)
    data = AuditExport(store, log).bundle("lung", ADA.public)
    assert len(parse_bundle(data).log.keys) == 2
    report = verify(data, find=find, trust=Trust(log=log.verifier.text))
    assert any("another hub goes on" in event.what for event in report.events)
    store.close()


async def test_runs_that_the_lost_hub_had_are_in_bundles_of_its_time_only(world: World) -> None:
    assert await world.settled(submit(world, world.contract)) == "succeeded"
    check(await export(world))
    store, log = taken_over(world)
    with pytest.raises(InputError, match="lost with the hub"):
        AuditExport(store, log).bundle("lung", ADA.public)
    store.close()


async def test_what_was_lost_with_another_hub_is_said_to_be_lost(world: World) -> None:
    run = submit(world, world.contract)
    assert await world.settled(run) == "succeeded"
    await witnessed(world)
    with world.hub.store._database.write() as c:
        c.execute(documents.delete())
    with pytest.raises(InputError) as caught:
        AuditExport(world.hub.store, world.hub.log).bundle("lung", ADA.public)
    assert caught.value.code == "not-found"
    assert len(caught.value.details["documents"]) == 3


async def amend(world: World, *sites: str) -> Contract:
    """The study goes on with these institutions only."""
    seats = [seat for seat in world.contract.participants if seat.name in sites]
    second = amended(world.contract, participants=tuple(seats))
    world.hub.propose(second.sign(ADA), world.hub.user(ADA.public))
    for site in sites:
        world.hub.say(site, second.sign(key(site)))
        world.sites[site].contract = second
    return second


async def test_an_institution_that_left_had_witnessed_that_its_contract_was_replaced(
    world: World,
) -> None:
    assert await world.settled(submit(world, world.contract, 1)) == "succeeded"
    second = await amend(world, "Alpha", "Beta")
    await witnessed(world)
    world.link.leave("Gamma")
    world.hub.members.remove("Gamma")
    assert await world.settled(submit(world, second, 2)) == "succeeded"
    for whole in (False, True):
        data = await export(world, whole=whole)
        (end,) = parse_bundle(data).handovers or ()
        assert end.contract == world.contract.digest
        assert "/Gamma " in end.checkpoint
        assert "/Gamma " not in parse_bundle(data).checkpoint
        assert len(check(data).results) == 0


async def test_evidence_ends_where_the_institutions_that_were_replaced_ceased_to_witness(
    world: World,
) -> None:
    assert await world.settled(submit(world, world.contract, 1)) == "succeeded"
    await witnessed(world)
    size = world.hub.store.ledger.size()
    world.link.leave("Gamma")
    world.hub.members.remove("Gamma")
    second = await amend(world, "Alpha", "Beta")
    assert await world.settled(submit(world, second, 2)) == "succeeded"
    report = check(await export(world))
    assert report.size == size
    assert not [event for event in report.events if "version 2" in event.what]


def bogus(world: World, by: str) -> None:
    """The hub says that somebody closed the study."""
    fact = ContractChanged(
        study="lung",
        contract=world.contract.digest,
        version=1,
        action="close",
        author=by,
        key=key(by).public,
        statement="sha256:" + "9" * 64,
        state="closed",
    )
    with world.hub.store._database.write() as c:
        note(c, fact)


async def test_a_statement_that_a_stranger_never_made_spoils_no_evidence(world: World) -> None:
    bogus(world, "Mallory")
    assert await world.settled(submit(world, world.contract)) == "succeeded"
    report = check(await export(world))
    assert len(report.unproven) == 1
    assert "ordered test.add_up" in "\n".join(event.what for event in report.events)


async def test_evidence_ends_before_a_statement_that_a_party_never_made(world: World) -> None:
    assert await world.settled(submit(world, world.contract, 1)) == "succeeded"
    await witnessed(world)
    size = world.hub.store.ledger.size()
    bogus(world, "Ada")
    assert await world.settled(submit(world, world.contract, 2)) == "succeeded"
    report = check(await export(world))
    assert (report.size, report.unproven) == (size, ())


async def test_evidence_of_long_ago_is_found_behind_many_checkpoints(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "TRIED", 2)
    await witnessed(world)
    world.link.leave("Gamma")
    world.hub.members.remove("Gamma")
    before = world.hub.store.ledger.size()
    second = await amend(world, "Alpha", "Beta")
    for number in range(4):
        assert await world.settled(submit(world, second, number)) == "succeeded"
    await witnessed(world)
    assert len(world.hub.store.ledger.finals(1_000)) > 5
    assert check(await export(world)).size == before
