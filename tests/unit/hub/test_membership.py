from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from tests.support.fake_sites import DATASET, NOW, SITES, key, make_contract, make_hub, start_world
from tests.support.life import transition

from cohortium.core.invitation import Invitation
from cohortium.core.publication import Publication
from cohortium.crypto.authority import Authority, make_tls_key_and_csr, read_certificate
from cohortium.crypto.enrolment import (
    SiteEnrolment,
    SiteStatusRequest,
    UserEnrolment,
    rotation_bytes,
)
from cohortium.crypto.keys import SigningKey
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PolicyRefusal,
    VerificationError,
)
from cohortium.hub.service import Hub
from cohortium.hub.store import HubStore
from cohortium.hub.watch import MembershipWatch
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.ports import Request

AUTHORITY = Authority.create("Test", NOW)
OTHER = Authority.create("Other", NOW)
ALPHA = key("Alpha")
HUB = "https://hub:1"


@pytest.fixture
def hub() -> Hub:
    return make_hub(HubStore("sqlite://"), authority=AUTHORITY)


def enrolment(invitation: Invitation, signer: SigningKey = ALPHA, **changes: str) -> bytes:
    fields = {
        "ca": invitation.ca,
        "secret": invitation.secret,
        "name": invitation.name,
        "key": signer.public,
        "csr_pem": make_tls_key_and_csr("node")[1].decode(),
    }
    return SiteEnrolment(**(fields | changes)).sign(signer)


def status_request(name: str = "Alpha", signer: SigningKey = ALPHA) -> bytes:
    return SiteStatusRequest(ca=AUTHORITY.fingerprint, name=name, at=NOW).sign(signer)


def join(hub: Hub, name: str = "Alpha") -> bytes:
    """Enrol and approve; returns the certificate."""
    invitation = hub.members.invite(name, kind="site", hub=HUB)
    hub.members.enrol(enrolment(invitation, key(name)))
    hub.members.approve(name)
    pem = hub.members.enrolment_status(status_request(name, key(name))).certificate_pem
    assert pem is not None
    return pem.encode()


def test_from_invitation_to_certificate(hub: Hub) -> None:
    invitation = hub.members.invite("Alpha", kind="site", hub=HUB)
    assert invitation.ca == AUTHORITY.fingerprint
    assert hub.members.enrol(enrolment(invitation)).status == "pending"
    waiting = hub.members.enrolment_status(status_request())
    assert (waiting.status, waiting.certificate_pem) == ("pending", None)
    hub.members.approve("Alpha")
    pem = hub.members.enrolment_status(status_request()).certificate_pem
    assert pem is not None
    assert hub.members.authorise(pem.encode()) == "Alpha"
    with pytest.raises(ConflictError):
        hub.members.approve("Alpha")


def test_an_invitation_works_once_for_its_name_and_kind_and_in_time(hub: Hub) -> None:
    invitation = hub.members.invite("Alpha", kind="site", hub=HUB)
    person = hub.members.invite("Alpha", kind="researcher", hub=HUB)
    expired = hub.members.invite("Alpha", kind="site", hub=HUB, days=0)
    hub.members.enrol(enrolment(invitation))
    wrong = [
        enrolment(invitation),
        enrolment(person),
        enrolment(expired),
        enrolment(hub.members.invite("Beta", kind="site", hub=HUB), name="Gamma"),
        enrolment(hub.members.invite("Alpha", kind="site", hub=HUB), secret="A" * 43),
        enrolment(hub.members.invite("Alpha", kind="site", hub=HUB), ca=OTHER.fingerprint),
    ]
    for envelope in wrong:
        with pytest.raises(VerificationError) as caught:
            hub.members.enrol(envelope)
        assert caught.value.code == "bad-invitation"


def test_an_enrolment_names_the_key_that_signed_it(hub: Hub) -> None:
    invitation = hub.members.invite("Alpha", kind="site", hub=HUB)
    with pytest.raises(VerificationError) as caught:
        hub.members.enrol(enrolment(invitation, key=key("Eve").public))
    assert caught.value.code == "unknown-signer"
    assert hub.store.members.members() == []
    assert hub.members.enrol(enrolment(invitation)).status == "pending"


def test_a_known_name_keeps_its_key(hub: Hub) -> None:
    join(hub)
    again = hub.members.invite("Alpha", kind="site", hub=HUB)
    with pytest.raises(VerificationError) as caught:
        hub.members.enrol(enrolment(again, key("Eve")))
    assert caught.value.code == "key-mismatch"
    # What failed used nothing up.
    assert hub.members.enrol(enrolment(again)).status == "pending"


def test_only_the_member_itself_asks_for_its_status(hub: Hub) -> None:
    join(hub)
    for envelope in (
        status_request(signer=key("Eve")),
        status_request(name="Nobody"),
        SiteStatusRequest(ca=OTHER.fingerprint, name="Alpha", at=NOW).sign(ALPHA),
        SiteStatusRequest(ca=AUTHORITY.fingerprint, name="Alpha", at=NOW - timedelta(hours=1)).sign(
            ALPHA
        ),
    ):
        with pytest.raises(VerificationError):
            hub.members.enrolment_status(envelope)


def test_the_life_of_a_member(hub: Hub) -> None:
    pem = join(hub)
    hub.members.suspend("Alpha")
    assert hub.members.authorise(pem) is None
    with pytest.raises(ConflictError):
        hub.members.suspend("Alpha")
    hub.members.reinstate("Alpha")
    assert hub.members.authorise(pem) == "Alpha"
    hub.members.remove("Alpha")
    assert hub.members.authorise(pem) is None
    with pytest.raises(ConflictError):
        hub.members.reinstate("Alpha")
    with pytest.raises(InputError):
        hub.members.remove("Nobody")


def test_certificates_of_others_are_refused(hub: Hub) -> None:
    join(hub)
    _, csr = make_tls_key_and_csr("node")
    assert hub.members.authorise(OTHER.issue_node(csr, "Alpha", "0" * 32, NOW)) is None
    assert hub.members.authorise(b"garbage") is None
    assert hub.members.authorise(b"") is None


def test_rotation_ends_the_old_certificate_when_the_new_one_is_used(hub: Hub) -> None:
    old = join(hub)
    assert hub.members.authorise(old) == "Alpha"
    _, csr = make_tls_key_and_csr("node")
    new = hub.members.rotate("Alpha", csr, ALPHA.sign(rotation_bytes(csr)))
    assert read_certificate(new).common_name == read_certificate(old).common_name
    assert hub.members.authorise(old) == "Alpha"
    assert hub.members.authorise(new) == "Alpha"
    assert hub.members.authorise(old) is None
    with pytest.raises(VerificationError):
        hub.members.rotate("Alpha", csr, key("Eve").sign(rotation_bytes(csr)))
    with pytest.raises(VerificationError):
        hub.members.rotate("Alpha", csr, ALPHA.sign(csr))
    assert hub.members.revoke_certificates("Alpha") == 1
    assert hub.members.authorise(new) is None


def test_a_member_that_was_just_removed_gets_no_new_certificate(hub: Hub) -> None:
    """Its link lives on for a moment, and revocation ends only the certificates of before."""
    join(hub)
    hub.members.remove("Alpha")
    _, csr = make_tls_key_and_csr("node")
    with pytest.raises(PolicyRefusal):
        hub.members.rotate("Alpha", csr, ALPHA.sign(rotation_bytes(csr)))
    assert hub.store.members.latest_certificate("Alpha") is None


def test_a_researcher_registers_once(hub: Hub) -> None:
    ada = key("Ada")
    invitation = hub.members.invite("Ada", kind="researcher", hub=HUB)

    def request(secret: str) -> bytes:
        return UserEnrolment(
            ca=AUTHORITY.fingerprint, secret=secret, name="Ada", key=ada.public
        ).sign(ada)

    assert hub.members.enrol_user(request(invitation.secret)).key == ada.public
    assert hub.user(ada.public).name == "Ada"
    with pytest.raises(VerificationError):
        hub.members.enrol_user(request(invitation.secret))
    second = hub.members.invite("Ada", kind="researcher", hub=HUB)
    with pytest.raises(ConflictError):
        hub.members.enrol_user(request(second.secret))
    hub.members.remove_user("Ada")
    with pytest.raises(CohortiumError):
        hub.user(ada.public)
    assert hub.store.members.revoked_keys() == {ada.public}


async def ask(hub: Hub, site: str, message: Message) -> Message:
    reply = await hub.handler_for(site).handle(message)
    assert isinstance(reply, Message)
    return reply


async def test_what_a_member_says_on_the_link() -> None:
    hub = make_hub(HubStore("sqlite://"), authority=AUTHORITY)
    join(hub)
    hub.members.add_user("Eve", key("Eve").public)
    hub.members.remove_user("Eve")
    hello = Message()
    hello.hello.protocol = "cohortium-link/1"
    welcome = await ask(hub, "Alpha", hello)
    assert welcome.welcome.consortium == AUTHORITY.fingerprint
    assert list(welcome.welcome.revoked_keys) == [key("Eve").public]
    assert welcome.welcome.ledger_checkpoint == b""  # nothing stands on the ledger yet
    made = hub.store.ledger.append(hub.log, hub.clock())
    assert made is not None
    welcome = await ask(hub, "Alpha", hello)
    assert welcome.welcome.ledger_checkpoint == made.note

    published = Message()
    published.publish_dataset.json = Publication(dataset=DATASET).to_bytes()
    assert (await ask(hub, "Alpha", published)).WhichOneof("body") == "ack"
    assert (await ask(hub, "Alpha", published)).WhichOneof("body") == "ack"
    assert hub.directory()[0].datasets == (DATASET,)
    published.publish_dataset.json = Publication(removed="lung").to_bytes()
    assert (await ask(hub, "Alpha", published)).WhichOneof("body") == "ack"
    assert hub.directory()[0].datasets == ()

    _, csr = make_tls_key_and_csr("node")
    rotation = Message()
    rotation.rotate_certificate.csr_pem = csr
    rotation.rotate_certificate.signature = ALPHA.sign(rotation_bytes(csr))
    answer = await ask(hub, "Alpha", rotation)
    assert hub.members.authorise(answer.certificate.pem) == "Alpha"

    for body in (b"", b"{}", b"\xff"):
        published.publish_dataset.json = body
        assert (await ask(hub, "Alpha", published)).WhichOneof("body") == "error"
        vote = Message()
        vote.statement.envelope = body
        assert (await ask(hub, "Alpha", vote)).WhichOneof("body") == "error"
    assert (await ask(hub, "Alpha", Message())).WhichOneof("body") == "error"


async def test_a_contract_is_active_when_every_participant_has_signed_it() -> None:
    hub = make_hub(HubStore("sqlite://"))
    world = await start_world(hub)
    contract = make_contract(world.contract.consortium, study="second")
    hub.propose(contract.sign(key("Ada")), hub.user(key("Ada").public))
    with pytest.raises(VerificationError):
        hub.say("Alpha", contract.sign(key("Beta")))
    with pytest.raises(VerificationError):
        hub.say("Nowhere", contract.sign(key("Alpha")))
    altered = contract.model_copy(update={"purpose": contract.purpose + "!"})
    with pytest.raises(InputError):
        hub.say("Alpha", altered.sign(key("Alpha")))
    for name in SITES[:2]:
        hub.say(name, contract.sign(key(name)))
    assert hub.studies.one("second", hub.user(key("Ada").public)).status == "proposed"
    await hub.delivered()
    before = world.sites["Gamma"].seen.count("contract_active")
    hub.say(SITES[2], contract.sign(key(SITES[2])))
    hub.say(SITES[2], contract.sign(key(SITES[2])))
    assert hub.studies.one("second", hub.user(key("Ada").public)).status == "active"
    await hub.delivered()
    assert world.sites["Alpha"].seen.count("contract_active") == 2
    assert world.sites["Gamma"].seen.count("contract_active") >= before + 1
    refusal = transition(contract, "refuse", "Alpha", reason="too late")
    with pytest.raises(ConflictError, match="revoke it instead"):
        hub.say("Alpha", refusal.sign(key("Alpha")))
    await hub.stop()


async def test_a_refused_study_can_be_proposed_anew() -> None:
    hub = make_hub(HubStore("sqlite://"))
    world = await start_world(hub)
    ada = hub.user(key("Ada").public)
    contract = make_contract(world.contract.consortium, study="second")
    hub.propose(contract.sign(key("Ada")), ada)
    refusal = transition(contract, "refuse", "Beta", reason="not like this")
    with pytest.raises(VerificationError):
        hub.say("Alpha", refusal.sign(key("Beta")))
    hub.say("Beta", refusal.sign(key("Beta")))
    shown = hub.studies.one("second", hub.user(key("Ada").public))
    assert shown.status == "refused"
    assert [(r.site, r.reason) for r in shown.refusals] == [("Beta", "not like this")]
    better = make_contract(world.contract.consortium, study="second", title="Better")
    hub.propose(better.sign(key("Ada")), ada)
    assert hub.studies.one("second", hub.user(key("Ada").public)).contract_digest == better.digest
    await hub.stop()


async def test_a_node_that_was_away_gets_what_it_missed() -> None:
    hub = make_hub(HubStore("sqlite://"))
    world = await start_world(hub)
    await hub.delivered()
    gamma = world.sites["Gamma"]
    world.link.leave("Gamma")
    contract = make_contract(world.contract.consortium, study="second")
    hub.propose(contract.sign(key("Ada")), hub.user(key("Ada").public))
    await hub.delivered()
    assert hub.store.outbox.sites() == {"Gamma"}
    gamma.seen.clear()
    world.link.join("Gamma", gamma)
    hello = Message()
    hello.hello.contracts.append(contract.digest)  # it knows that one, but lost the first
    await ask(hub, "Gamma", hello)
    hub.on_connect("Gamma")
    await hub.delivered()
    assert sorted(gamma.seen) == ["contract_active", "contract_proposal", "contract_proposal"]
    assert hub.store.outbox.sites() == frozenset()
    await hub.stop()


async def test_a_suspension_is_not_lost_when_the_database_is_away_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = make_hub(HubStore("sqlite://"), authority=AUTHORITY)
    for name in SITES:
        join(hub, name)
    cut: list[str] = []
    away = [True]
    admissible = hub.store.members.admissible

    def sometimes() -> frozenset[str]:
        if away and away.pop():
            raise OSError("the database is away")
        return admissible()

    class Peers:
        def connected(self) -> frozenset[str]:
            return frozenset(SITES) - frozenset(cut)

        async def request(self, site: str, message: Request, timeout_s: float) -> Message:
            raise AssertionError

        def cut(self, site: str) -> None:
            cut.append(site)

    monkeypatch.setattr(hub.store.members, "admissible", sometimes)
    watch = MembershipWatch(hub.store.members, Peers())
    watch.start()
    await asyncio.sleep(0)
    hub.members.suspend("Beta")
    await asyncio.sleep(0.9)
    await watch.close()
    assert (away, cut) == ([], ["Beta"])


async def test_changes_by_the_operator_reach_the_serving_hub() -> None:
    store = HubStore("sqlite://")
    hub = make_hub(store, authority=AUTHORITY)
    for name in SITES:
        join(hub, name)
    hub.members.add_user("Eve", key("Eve").public)
    cut: list[str] = []
    told: list[list[str]] = []

    class Peers:
        def connected(self) -> frozenset[str]:
            return frozenset(SITES) - frozenset(cut)

        async def request(self, site: str, message: Request, timeout_s: float) -> Message:
            assert isinstance(message, Message)
            reply = Message()
            if message.WhichOneof("body") == "ledger_update":
                reply.cosignature.size = message.ledger_update.start
                return reply
            told.append([site, *message.revocation.revoked_keys])
            reply.ack.SetInParent()
            return reply

        def cut(self, site: str) -> None:
            cut.append(site)

    await hub.start(Peers())
    hub.members.suspend("Beta")
    await asyncio.sleep(0.5)
    assert cut == ["Beta"]
    hub.members.remove_user("Eve")
    await asyncio.sleep(0.5)
    assert sorted(told) == [[name, key("Eve").public] for name in ("Alpha", "Gamma")]
    await hub.stop()
