"""A hub that lies about contracts: what arrives, who signed, and whose keys they were."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support.adversary import Federation, federation, refused
from tests.support.builders import SITES, World, active, enveloped

from cohortium.contract.model import Contract
from cohortium.crypto.keys import SigningKey
from cohortium.errors import CohortiumError, PolicyRefusal, VerificationError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import consent

HUB = SigningKey.from_seed(b"\x68" * 32)


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation() as one:
        yield one


def _proposal(contract: Contract) -> pb.Message:
    """As the hub sends it; the proposer helps it lie where this is not what was proposed."""
    return World().proposal(contract)


def _with_key(contract: Contract, site: str, key: SigningKey) -> Contract:
    return contract.model_copy(
        update={
            "participants": tuple(
                p.model_copy(update={"key": key.public}) if p.name == site else p
                for p in contract.participants
            )
        }
    )


def _state(made: Federation, site: str, contract: Contract) -> str | None:
    stored = made.node(site).store.contract(contract.digest)
    return None if stored is None else stored.state


async def _signed_here(made: Federation, site: str, contract: Contract) -> None:
    await made.ask(site, _proposal(contract))
    node = made.node(site)
    stored = consent.find_contract(node.store, contract.digest)
    consent.sign(node.service, consent.review(node.service, stored))


async def test_one_byte_of_a_contract_is_another_contract(made: Federation) -> None:
    """Whatever byte the hub alters, the signatures over the real one activate nothing."""
    contract = made.world.contract()
    real, envelopes = contract.to_bytes(), made.world.signed(contract)
    node, taken = made.node("Alpha"), 0
    for at in range(0, len(real), 23):
        payload = real[:at] + bytes([real[at] ^ 1]) + real[at + 1 :]
        altered = pb.ContractProposal(envelope=enveloped(payload, made.world.researcher))
        before = len(made.refusals("Alpha"))
        reply = node.service.answer(pb.Message(contract_proposal=altered))
        if reply.WhichOneof("body") == "error":
            ((what, code),) = made.refusals("Alpha")[before:]
            assert what == "proposal"
            expected = {"malformed-message", "bad-digest", "key-mismatch", "not-permitted"}
            assert code in {*expected, "unknown-signer"}
            continue
        taken += 1
        stored = node.store.contracts()[-1]
        assert stored.digest != contract.digest
        reviewed = consent.review(node.service, stored)
        if reviewed.problems:
            continue
        consent.sign(node.service, reviewed)
        node.store.execute("DELETE FROM peers")  # what the next alteration says of keys is new
        await refused(made, "Alpha", active(stored.digest, envelopes), "bad-digest")
        request = made.request(reviewed.contract)
        await refused(made, "Alpha", made.world.prepare(request), "contract-not-active")
    assert taken > 5
    assert {stored.state for stored in node.store.contracts()} <= {"proposed", "signed"}


async def test_a_contract_altered_on_the_way_to_one_site_is_active_nowhere(
    made: Federation,
) -> None:
    contract = made.world.contract()
    altered = contract.model_copy(update={"purpose": "To tess."})

    def lie(site: str, message: pb.Message) -> pb.Message:
        mine = message.WhichOneof("body") == "contract_proposal" and site == "Gamma"
        return _proposal(altered) if mine else message

    made.hub_lies = lie
    await made.propose(contract)
    for site in SITES:
        await made.sign(site, "lung")
    assert [_state(made, site, contract) for site in SITES] == ["signed", "signed", None]
    assert _state(made, "Gamma", altered) == "signed"
    real = made.world.signed(contract)
    gammas = altered.sign(made.world.keys["Gamma"])
    for site in ("Alpha", "Beta"):
        await refused(made, site, active(contract.digest, [*real[:2], gammas]), "bad-digest")
        await refused(made, site, active(contract.digest, real[:2]), "contract-not-active")
    await refused(made, "Gamma", active(altered.digest, [*real[:2], gammas]), "bad-digest")
    for site, what in (("Alpha", contract), ("Gamma", altered)):
        message = made.world.prepare(made.request(what))
        await refused(made, site, message, "contract-not-active")


def _missing(contract: Contract, envelopes: list[bytes]) -> list[bytes]:
    return envelopes[:2]


def _none(contract: Contract, envelopes: list[bytes]) -> list[bytes]:
    return []


def _twice(contract: Contract, envelopes: list[bytes]) -> list[bytes]:
    return [envelopes[0], envelopes[1], envelopes[1]]


def _of_the_hub(contract: Contract, envelopes: list[bytes]) -> list[bytes]:
    return [*envelopes[:2], contract.sign(HUB)]


def _one_too_many(contract: Contract, envelopes: list[bytes]) -> list[bytes]:
    return [*envelopes, contract.sign(HUB)]


def _over_another(contract: Contract, envelopes: list[bytes]) -> list[bytes]:
    other = contract.model_copy(update={"min_sites": 3})
    return [*envelopes[:2], other.sign(SigningKey.from_seed(b"\x03" * 32))]


def _in_anothers_name(contract: Contract, envelopes: list[bytes]) -> list[bytes]:
    gamma = contract.participants[2].key
    forged = contract.sign(HUB).replace(HUB.public.encode(), gamma.encode())
    return [*envelopes[:2], forged]


def _junk(contract: Contract, envelopes: list[bytes]) -> list[bytes]:
    return [*envelopes[:2], b"\x00" * 200]


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (_missing, "contract-not-active"),
        (_none, "contract-not-active"),
        (_twice, "contract-not-active"),
        (_of_the_hub, "unknown-signer"),
        (_one_too_many, "unknown-signer"),
        (_over_another, "bad-digest"),
        (_in_anothers_name, "bad-signature"),
        (_junk, "malformed-message"),
    ],
)
async def test_a_contract_is_not_activated_by(made: Federation, lie: object, code: str) -> None:
    assert callable(lie)
    contract = made.world.contract()
    await _signed_here(made, "Alpha", contract)
    assert contract.participants[2].key == SigningKey.from_seed(b"\x03" * 32).public
    spoilt = lie(contract, made.world.signed(contract))
    await refused(made, "Alpha", active(contract.digest, spoilt), code)
    assert _state(made, "Alpha", contract) == "signed"
    request = made.request(contract)
    await refused(made, "Alpha", made.world.prepare(request), "contract-not-active")
    # The true ones are taken afterwards.
    await made.ask("Alpha", active(contract.digest, made.world.signed(contract)))
    assert _state(made, "Alpha", contract) == "active"


async def test_all_signatures_but_ones_own_activate_nothing(made: Federation) -> None:
    contract = made.world.contract()
    await made.ask("Alpha", _proposal(contract))
    message = active(contract.digest, made.world.signed(contract))
    await refused(made, "Alpha", message, "contract-unknown")
    request = made.request(contract)
    await refused(made, "Alpha", made.world.prepare(request), "contract-unknown")


async def test_a_swapped_key_in_a_proposal_is_active_nowhere(made: Federation) -> None:
    """The first contract, nobody is known yet: the site itself and the others' votes stop it."""
    contract = made.world.contract()
    swapped = _with_key(contract, "Beta", HUB)
    await refused(made, "Beta", _proposal(swapped), "key-mismatch")
    # One steward signs without comparing fingerprints; the others got the real contract.
    await _signed_here(made, "Alpha", swapped)
    real = made.world.signed(contract)
    forged = [swapped.sign(made.world.keys["Alpha"]), swapped.sign(HUB), real[2]]
    await refused(made, "Alpha", active(swapped.digest, forged), "bad-digest")
    await refused(made, "Alpha", made.world.prepare(made.request(swapped)), "contract-not-active")
    # What the real contract says of Beta is a surprise now, and it is said.
    await made.ask("Alpha", _proposal(contract))
    node = made.node("Alpha")
    reviewed = consent.review(node.service, consent.find_contract(node.store, contract.digest))
    assert [problem.code for problem in reviewed.problems] == ["key-mismatch"]
    with pytest.raises(VerificationError):
        consent.sign(node.service, reviewed)
    assert ("sign", "key-mismatch") in made.refusals("Alpha")


async def test_a_swapped_key_of_a_known_site_is_refused(made: Federation) -> None:
    await made.agree()
    swapped = _with_key(made.world.contract(study="second"), "Beta", HUB)
    for site in ("Alpha", "Gamma"):
        await made.ask(site, _proposal(swapped))
        node = made.node(site)
        reviewed = consent.review(node.service, consent.find_contract(node.store, "second"))
        assert [known.status for known in reviewed.keys if known.name == "Beta"] == ["changed"]
        with pytest.raises(VerificationError) as caught:
            consent.sign(node.service, reviewed)
        assert caught.value.code == "key-mismatch"
        assert made.refusals(site) == [("sign", "key-mismatch")]
        assert node.store.owed() == []


async def test_invented_sites_need_every_stewards_signature(made: Federation) -> None:
    """Not prevented: stewards who sign with parties that they never spoke to (docs/threat-model).

    The review says of each party that it is new; that is all that a program can do.
    """
    contract = made.world.contract()
    swapped = _with_key(
        _with_key(contract, "Beta", HUB), "Gamma", SigningKey.from_seed(b"\x69" * 32)
    )
    node = made.node("Alpha")
    await made.ask("Alpha", _proposal(swapped))
    reviewed = consent.review(node.service, consent.find_contract(node.store, swapped.digest))
    assert {k.name: k.status for k in reviewed.keys if k.role != "researcher"} == {
        "Alpha": "this site",
        "Beta": "new",
        "Gamma": "new",
    }
    request = made.request(swapped)
    await refused(made, "Alpha", made.world.prepare(request), "contract-unknown")
    consent.sign(node.service, reviewed)
    envelopes = [
        swapped.sign(key)
        for key in (made.world.keys["Alpha"], HUB, SigningKey.from_seed(b"\x69" * 32))
    ]
    await made.ask("Alpha", active(swapped.digest, envelopes))
    await made.ask("Alpha", made.world.prepare(request))


async def test_the_real_hub_takes_no_vote_that_is_not_the_sites_own(made: Federation) -> None:
    contract = made.world.contract()
    await made.propose(contract)
    beta = made.uplinks["Beta"]
    gammas = contract.sign(made.world.keys["Gamma"])
    for envelope, code in (
        (gammas, "unknown-signer"),
        (contract.sign(HUB), "unknown-signer"),
        (contract.model_copy(update={"purpose": "x"}).sign(made.world.keys["Beta"]), "not-found"),
        (b"\x00", "malformed-message"),
    ):
        vote = pb.Message(statement=pb.Statement(envelope=envelope))
        with pytest.raises(CohortiumError) as caught:
            await beta.request(vote, 1)
        assert caught.value.code == code
    with pytest.raises(PolicyRefusal) as not_active:
        await made.run(made.request(contract))
    assert not_active.value.code == "contract-not-active"
