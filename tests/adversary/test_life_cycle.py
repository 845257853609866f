"""A hub that lies about what became of a contract."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.support.adversary import TIMEOUT_S, Federation, federation, find, refused
from tests.support.builders import SITES, active, round_request
from tests.support.life import NOW, amended, transition

from cohortium.contract.model import Contract, Draft, Researcher
from cohortium.contract.statements import Action, Assignment
from cohortium.contract.task import Artefact
from cohortium.crypto.keys import SigningKey
from cohortium.errors import PolicyRefusal
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import outbox, steward

HUB = SigningKey.from_seed(b"\x68" * 32)


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation() as one:
        yield one


def statement(envelope: bytes) -> pb.Message:
    return pb.Message(contract_statement=pb.ContractStatement(envelope=envelope))


def state_of(made: Federation, site: str, contract: Contract) -> str:
    stored = made.node(site).store.contract(contract.digest)
    assert stored is not None
    return stored.state


async def states(made: Federation, site: str, action: Action, study: str = "lung") -> bytes:
    """A steward states something, and the hub hears of it; returns the envelope."""
    node = made.node(site)
    stored = steward.find_in_force(node.store, study)
    envelope = steward.state(node.service, stored, action, "A doubt.")
    await outbox.flush(node.store, lambda m: made.uplinks[site].request(m, TIMEOUT_S))
    await made.hub.delivered()
    return envelope


async def not_run(made: Federation, contract: Contract, number: int, code: str) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        await made.run(made.request(contract, number))
    assert caught.value.code == code


async def test_an_honest_hub_brings_a_suspension_to_every_site(made: Federation) -> None:
    contract = await made.agree()
    await states(made, "Beta", "suspend")
    assert {state_of(made, site, contract) for site in SITES} == {"suspended"}
    await not_run(made, contract, 1, "contract-suspended")
    await states(made, "Beta", "resume")
    assert {state_of(made, site, contract) for site in SITES} == {"active"}
    assert await made.run(made.request(contract, 2)) == "succeeded", made.error(
        made.request(contract, 2)
    )


@pytest.mark.parametrize("action", ["suspend", "resume", "revoke", "close", "withdraw"])
async def test_a_statement_is_not_forged(made: Federation, action: Action) -> None:
    """Neither in a site's or the proposer's name, nor by putting the hub's key in theirs."""
    contract = await made.agree()
    await states(made, "Gamma", "suspend")
    before = {site: state_of(made, site, contract) for site in SITES}
    for author, key in (("Beta", made.world.keys["Beta"]), ("Dr. Li", made.world.researcher)):
        said = transition(contract, action, author, at=NOW + timedelta(minutes=1))
        named = said.sign(HUB).replace(HUB.public.encode(), key.public.encode())
        await refused(made, "Alpha", statement(said.sign(HUB)), "unknown-signer")
        await refused(made, "Alpha", statement(named), "bad-signature")
    invented = transition(contract, action, "The hub", at=NOW + timedelta(minutes=1))
    await refused(made, "Alpha", statement(invented.sign(HUB)), "unknown-signer")
    assert {site: state_of(made, site, contract) for site in SITES} == before


async def test_a_genuine_statement_is_not_turned_into_another(made: Federation) -> None:
    first, second = await made.agree(), await made.agree(study="second")
    envelope = await states(made, "Beta", "suspend")
    assert state_of(made, "Alpha", second) == "active"
    wrong = made.world.contract(study="second")
    assert wrong == second
    await made.ask("Alpha", statement(envelope))  # once more, to no other effect
    assert [state_of(made, "Alpha", c) for c in (first, second)] == ["suspended", "active"]


async def test_a_withheld_suspension_holds_at_the_site_that_suspended(made: Federation) -> None:
    """The hub keeps it from the others, and goes on with a run under way."""
    contract = await made.agree()
    request = made.request(contract)
    roster = list((await made.adverts(request)).values())
    await made.ask("Beta", round_request(request, roster, 1))
    node = made.node("Beta")
    stored = steward.find_in_force(node.store, "lung")
    steward.state(node.service, stored, "suspend", "A doubt.")
    await refused(made, "Beta", round_request(request, roster, 2), "contract-suspended")
    await refused(made, "Beta", made.world.prepare(made.request(contract, 2)), "contract-suspended")
    assert state_of(made, "Alpha", contract) == "active"


async def test_the_resume_of_an_old_suspension_does_not_lift_the_new_one(
    made: Federation,
) -> None:
    contract = await made.agree()
    await states(made, "Beta", "suspend")
    resumed = await states(made, "Beta", "resume")
    await states(made, "Beta", "suspend")
    await made.ask("Alpha", statement(resumed))
    assert state_of(made, "Alpha", contract) == "suspended"
    await refused(made, "Alpha", made.world.prepare(made.request(contract)), "contract-suspended")
    # Nor at a site from which the hub had kept the resume so far.
    made.hub_lies = lambda site, message: (
        pb.Message(revocation=pb.Revocation())
        if site == "Alpha" and message.WhichOneof("body") == "contract_statement"
        else message
    )
    kept_back = await states(made, "Beta", "resume")
    made.hub_lies = None
    await states(made, "Beta", "suspend")
    await refused(made, "Alpha", statement(kept_back), "stale-request")
    assert state_of(made, "Alpha", contract) == "suspended"


async def test_a_withheld_activation_leaves_the_old_version_in_force_where_it_is(
    made: Federation,
) -> None:
    contract = await made.agree()
    second = amended(contract, title="More")
    await made.propose(second)
    made.hub_lies = lambda site, message: (
        pb.Message(revocation=pb.Revocation())
        if site == "Gamma" and message.WhichOneof("body") == "contract_active"
        else message
    )
    for site in SITES:
        await made.sign(site, second.digest)
    made.hub_lies = None
    assert [state_of(made, site, contract) for site in SITES] == [
        "superseded",
        "superseded",
        "active",
    ]
    # Under neither version do all sites compute.
    for site, version, code in (
        ("Alpha", contract, "contract-ended"),
        ("Beta", contract, "contract-ended"),
        ("Gamma", second, "contract-not-active"),
    ):
        await refused(made, site, made.world.prepare(made.request(version)), code)
    # The signatures are what counts, whoever brings them.
    await made.ask("Gamma", active(second.digest, made.world.signed(second)))
    assert state_of(made, "Gamma", contract) == "superseded"


async def test_a_version_that_a_site_did_not_sign_is_in_force_nowhere(made: Federation) -> None:
    contract = await made.agree()
    second = amended(contract, title="More")
    await made.propose(second)
    for site in ("Alpha", "Beta"):
        await made.sign(site, second.digest)
    two = made.world.signed(second)[:2]
    of_the_first = made.world.signed(contract)[2]
    await refused(made, "Alpha", active(second.digest, two), "contract-not-active")
    await refused(made, "Alpha", active(second.digest, [*two, of_the_first]), "bad-digest")
    assert state_of(made, "Alpha", contract) == "active"
    assert await made.run(made.request(contract)) == "succeeded"


async def test_an_old_version_is_not_brought_back(made: Federation) -> None:
    contract = await made.agree()
    second = amended(contract, title="More")
    await made.propose(second)
    for site in SITES:
        await made.sign(site, second.digest)
    for site in SITES:
        await made.ask(site, active(contract.digest, made.world.signed(contract)))
        await made.ask(site, made.world.proposal(contract))
        assert state_of(made, site, contract) == "superseded"
        message = made.world.prepare(made.request(contract))
        await refused(made, site, message, "contract-ended")


async def test_the_hubs_word_ends_a_contract_and_begins_none(made: Federation) -> None:
    """Denying service is in its power anyway; see docs/threat-model."""
    contract = await made.agree()
    ended = pb.ContractEnded(contract_digest=contract.digest, reason="Replaced.")
    await made.ask("Alpha", pb.Message(contract_ended=ended))
    await refused(made, "Alpha", made.world.prepare(made.request(contract)), "contract-ended")
    await made.ask("Alpha", active(contract.digest, made.world.signed(contract)))
    assert state_of(made, "Alpha", contract) == "superseded"


async def test_a_proposal_that_nobody_made_is_refused(made: Federation) -> None:
    contract = made.world.contract()
    for envelope in (contract.sign(HUB), contract.sign(made.world.keys["Beta"])):
        message = pb.Message(contract_proposal=pb.ContractProposal(envelope=envelope))
        await refused(made, "Alpha", message, "unknown-signer")
    own = made.world.contract(proposed_by=Researcher(name="The hub", key=HUB.public))
    message = pb.Message(contract_proposal=pb.ContractProposal(envelope=own.sign(HUB)))
    await made.ask("Alpha", message)  # the steward reads who proposes it
    assert state_of(made, "Alpha", own) == "proposed"


async def test_a_draft_or_an_assignment_is_not_forged(made: Federation) -> None:
    draft = _draft(made)
    forged = pb.ContractDraft(envelope=draft.sign(HUB))
    await refused(made, "Alpha", pb.Message(contract_draft=forged), "unknown-signer")
    genuine = draft.sign(made.world.researcher)
    await made.ask("Alpha", pb.Message(contract_draft=pb.ContractDraft(envelope=genuine)))
    assignment = _assignment(made, draft)
    await refused(made, "Alpha", statement(assignment.sign(HUB)), "unknown-signer")
    await made.ask("Alpha", statement(assignment.sign(made.world.keys["Beta"])))
    assert set(made.node("Alpha").service.drafts.find("lung").unfilled) == set()


def _draft(made: Federation) -> Draft:
    fields = made.world.contract().to_json() | {"schema_id": "cohortium/draft/1"}
    for name in ("dataset", "dataset_digest", "dictionary_digest"):
        del fields["participants"][1][name]
    return Draft.from_json(fields)


def _assignment(made: Federation, draft: Draft) -> Assignment:
    participant = made.world.contract().givers[1]
    return Assignment(
        study="lung",
        draft_digest=draft.digest,
        slot="dataset/Beta",
        artefact=Artefact(
            name=participant.dataset,
            content_digest=participant.dataset_digest,
            owners=("Beta",),
            dictionary_digest=participant.dictionary_digest,
        ),
        author="Beta",
        at=NOW,
    )


async def test_a_node_that_lost_its_memory_gets_all_again_and_its_steward_signs_again(
    made: Federation,
) -> None:
    """Nobody lies here: what the hub keeps makes up for what the node lost.

    The ledger is kept from it: what stands there of this site would be an alarm, until its steward
    has looked.
    """
    contract = await made.agree()
    await states(made, "Beta", "suspend")
    await states(made, "Alpha", "suspend")
    made.hub_lies = lambda site, message: (
        pb.Message(revocation=pb.Revocation())
        if site == "Alpha" and message.WhichOneof("body") == "ledger_update"
        else message
    )
    node = made.world.node("Alpha", find_analysis=find)
    uplink = made.uplinks["Alpha"]
    node.service.welcome(await uplink.request(node.service.hello(), TIMEOUT_S))
    made.hub.on_connect("Alpha")
    await made.hub.delivered()
    assert state_of(made, "Alpha", contract) == "proposed"
    await refused(made, "Alpha", made.world.prepare(made.request(contract)), "contract-unknown")
    await made.sign("Alpha", contract.digest)
    assert state_of(made, "Alpha", contract) == "suspended"
    stored = steward.find_in_force(node.store, "lung")
    assert set(json.loads(stored.suspensions)) == {"Alpha", "Beta"}
    for site in ("Beta", "Alpha"):
        await states(made, site, "resume")
    assert {state_of(made, site, contract) for site in SITES} == {"active"}
