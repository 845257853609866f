"""Enclaves have a link and a key as institutions have, and are no members."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.fake_sites import NOW, SITES, key, make_hub, start_world
from tests.support.lost_hub import LostHub
from tests.unit.hub.test_membership import AUTHORITY, enrolment, status_request

from cohortium.core.canonical import canonical
from cohortium.crypto.authority import make_tls_key_and_csr
from cohortium.crypto.enrolment import UserEnrolment, rotation_bytes
from cohortium.errors import ConflictError, InputError, PolicyRefusal, VerificationError
from cohortium.hub.folder import HubFolder
from cohortium.hub.member_store import InvitedKind
from cohortium.hub.service import Hub
from cohortium.hub.store import HubStore
from cohortium.hub.task_board import reported_error
from cohortium.ledger.entry import EnclaveChanged, MemberChanged, parse_entry
from cohortium.link._generated.link_pb2 import Message

VAULT = key("Vault")


@pytest.fixture
def hub() -> Hub:
    return make_hub(HubStore("sqlite://"), authority=AUTHORITY)


def join(hub: Hub) -> bytes:
    """Enrol and approve an enclave; its certificate."""
    invitation = hub.members.invite("Vault", kind="enclave", hub="https://hub:1")
    hub.members.enrol(enrolment(invitation, VAULT))
    hub.members.approve("Vault")
    info = hub.members.enrolment_status(status_request("Vault", VAULT))
    assert info.certificate_pem is not None
    return info.certificate_pem.encode()


def noted(hub: Hub) -> list[EnclaveChanged | MemberChanged]:
    while hub.store.ledger.append(hub.log, NOW):
        pass
    facts = [parse_entry(entry).fact for entry in hub.store.ledger.entries(0, 100)]
    return [fact for fact in facts if isinstance(fact, EnclaveChanged | MemberChanged)]


def test_an_enclave_joins_as_a_node_does_and_is_no_member(hub: Hub) -> None:
    pem = join(hub)
    assert hub.members.authorise(pem) == "Vault"
    assert hub.store.members.members() == []
    assert [(one.name, one.key) for one in hub.store.members.enclaves()] == [
        ("Vault", VAULT.public)
    ]
    assert hub.directory() == []
    assert [(e.name, e.status, e.connected) for e in hub.tasks.enclaves()] == [
        ("Vault", "approved", False)
    ]
    csr = make_tls_key_and_csr("node")[1]
    rotated = hub.members.rotate("Vault", csr, VAULT.sign(rotation_bytes(csr)))
    assert hub.members.authorise(rotated) == "Vault"
    assert hub.members.authorise(pem) is None
    hub.members.suspend("Vault")
    assert hub.members.authorise(rotated) is None
    hub.members.reinstate("Vault")
    assert hub.store.members.admissible() == {"Vault"}
    hub.members.remove("Vault")
    assert hub.tasks.enclaves() == []
    facts = noted(hub)
    assert all(isinstance(fact, EnclaveChanged) for fact in facts)
    assert [(fact.status, fact.certificate is None) for fact in facts] == [
        ("approved", False),
        ("approved", False),
        ("suspended", True),
        ("approved", False),
        ("removed", True),
    ]
    assert hub.store.ledger.members_at(hub.store.ledger.size()) == {}


def test_a_name_is_an_institutions_an_enclaves_or_a_researchers(hub: Hub) -> None:
    members = hub.members
    kinds: tuple[InvitedKind, ...] = ("site", "researcher", "enclave")
    early = {kind: members.invite("Vault", kind=kind, hub="https://hub:1") for kind in kinds}
    join(hub)
    with pytest.raises(ConflictError, match="Vault is an enclave"):
        members.enrol(enrolment(early["site"], VAULT))
    person = UserEnrolment(
        ca=early["researcher"].ca,
        secret=early["researcher"].secret,
        name="Vault",
        key=key("Bob").public,
    )
    with pytest.raises(ConflictError, match="Vault is an enclave"):
        members.enrol_user(person.sign(key("Bob")))
    other = members.invite("Other", kind="site", hub="https://hub:1")
    with pytest.raises(ConflictError, match="with this name or key exists"):
        members.enrol(enrolment(other, VAULT))
    members.add_user("Dr. Ada", key("Dr. Ada").public)
    members.remove_user("Dr. Ada")
    members.add("Alpha", key("Alpha").public)
    names = {"site": "Alpha", "researcher": "Dr. Ada", "enclave": "Vault"}
    for has, name in names.items():
        for kind in kinds:
            if kind == has:
                members.invite(name, kind=kind, hub="https://hub:1")
                continue
            with pytest.raises(ConflictError, match=f"{name} is an? .*: choose another name"):
                members.invite(name, kind=kind, hub="https://hub:1")


def test_a_revoked_enclave_joins_again_with_its_own_key_only(hub: Hub) -> None:
    old = join(hub)
    assert hub.members.revoke_certificates("Vault") == 1
    assert hub.members.authorise(old) is None
    again = hub.members.invite("Vault", kind="enclave", hub="https://hub:1")
    with pytest.raises(VerificationError, match="Vault is an enclave, enrolled with another key"):
        hub.members.enrol(enrolment(again, key("Other")))
    assert hub.members.authorise(join(hub)) == "Vault"


async def test_an_enclave_witnesses_nothing_and_is_owed_nothing() -> None:
    world = await start_world(make_hub(HubStore("sqlite://")))
    hub = world.hub
    hub.members.add("Vault", VAULT.public, "enclave")
    heard: list[str] = []

    class Silent:
        async def handle(self, message: Message) -> Message:
            heard.append(str(message.WhichOneof("body")))
            return Message()

    uplink = world.link.join("Vault", Silent())
    hub.on_connect("Vault")
    hub.members.add_user("Bob", key("Bob").public)
    hub.members.remove_user("Bob")
    hub.announce_revocations()
    await hub.delivered()
    assert heard == []
    welcome = (await uplink.request(Message(hello={"protocol": "cohortium-link/1"}), 5)).welcome
    assert list(welcome.revoked_keys) == [key("Bob").public]
    assert set(hub.store.ledger.members_at(hub.store.ledger.size())) == set(SITES)
    with pytest.raises(InputError):
        hub.members.store.member("Nobody")
    await hub.stop()
    hub.store.close()


def test_a_hub_that_takes_over_knows_the_enclaves(tmp_path: Path) -> None:
    old = LostHub(tmp_path)
    for name in ("Vault", "Cellar"):
        invitation = old.members.invite(name, kind="enclave", hub="https://x")
        envelope = enrolment(invitation, key(name), ca=old.folder.load_authority().fingerprint)
        old.members.enrol(envelope)
        old.members.approve(name)
    pem = (old.store.members.latest_certificate("Vault") or "").encode()
    old.members.suspend("Cellar")
    old.lose()
    assert old.take_over().members == ("Alpha", "Beta", "Gamma")
    folder = HubFolder(tmp_path / "new")
    store = folder.store()
    assert [(one.name, one.key, one.status) for one in store.members.enclaves()] == [
        ("Cellar", key("Cellar").public, "suspended"),
        ("Vault", key("Vault").public, "approved"),
    ]
    assert folder.membership(store).authorise(pem) == "Vault"
    store.close()


def test_what_an_enclave_says_of_its_failure_is_short_or_not_kept() -> None:
    told = PolicyRefusal("site-policy", "No.").to_wire()
    assert reported_error(canonical(told)).message == "No."
    error = reported_error(canonical(told | {"message": "No. " * 20_000}))
    assert (error.code, len(error.message) < 100) == ("peer-failed", True)
