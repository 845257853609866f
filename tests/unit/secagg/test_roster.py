from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.secagg import CONTRACT, REQUEST, RUN, World, seed

from cohortium.core.canonical import digest
from cohortium.crypto.keys import SigningKey, b64url
from cohortium.errors import CohortiumError, PolicyRefusal, ProtocolError, VerificationError
from cohortium.secagg.roster import Roster
from cohortium.secagg.round_key import RoundKey

SITES = ["Charité", "北京协和医院", "Aarhus"]


def statement(site: str, **changes: Any) -> RoundKey:
    fields = {
        "run_id": RUN,
        "contract_digest": CONTRACT,
        "request_digest": REQUEST,
        "site": site,
        "x25519": b64url(seed("other", site)),
    }
    return RoundKey(**(fields | changes))


def refused(world: World, envelopes: list[bytes]) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        world.roster(envelopes)
    return caught.value


def test_the_order_in_which_the_hub_sends_the_keys_does_not_matter() -> None:
    world = World(SITES)
    forward = world.roster()
    backward = world.roster(list(reversed(world.envelopes.values())))
    assert forward.digest == backward.digest
    assert forward.sites == backward.sites == tuple(sorted(SITES))


def test_the_digest_names_run_contract_request_sites_and_keys() -> None:
    roster = World(SITES).roster()
    other = digest("other")
    fewer = {site: key for site, key in roster.keys.items() if site != "Aarhus"}
    changed = [
        Roster("f" * 32, roster.contract_digest, roster.request_digest, roster.keys),
        Roster(roster.run_id, other, roster.request_digest, roster.keys),
        Roster(roster.run_id, roster.contract_digest, other, roster.keys),
        Roster(roster.run_id, roster.contract_digest, roster.request_digest, fewer),
        Roster(
            roster.run_id,
            roster.contract_digest,
            roster.request_digest,
            {**roster.keys, "Aarhus": bytes(32)},
        ),
    ]
    assert len({roster.digest, *(r.digest for r in changed)}) == 6


def test_a_key_that_the_hub_made_up_is_refused() -> None:
    world = World(SITES)
    hub = SigningKey.from_seed(seed("hub"))
    forged = statement("Aarhus").sign(hub)
    error = refused(world, [world.envelopes["Charité"], forged])
    assert isinstance(error, VerificationError)
    assert error.code == "unknown-signer"


def test_a_key_signed_by_another_participant_for_this_site_is_refused() -> None:
    world = World(SITES)
    forged = statement("Aarhus").sign(world.signing["Charité"])
    assert refused(world, [world.envelopes["Charité"], forged]).code == "unknown-signer"


def test_a_site_outside_the_contract_is_refused() -> None:
    world = World(SITES)
    stranger = statement("Elsewhere").sign(SigningKey.from_seed(seed("stranger")))
    assert refused(world, [*list(world.envelopes.values())[:2], stranger]).code == "unknown-signer"


def test_one_bit_of_a_signature_is_enough() -> None:
    world = World(SITES)
    parsed = json.loads(world.envelopes["Aarhus"])
    signature = parsed["signatures"][0]["sig"]
    parsed["signatures"][0]["sig"] = ("B" if signature[0] != "B" else "C") + signature[1:]
    envelope = json.dumps(parsed).encode()
    assert refused(world, [world.envelopes["Charité"], envelope]).code == "bad-signature"


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": "f" * 32},
        {"contract_digest": digest("another contract")},
        {"request_digest": digest("another request")},
    ],
)
def test_a_key_of_another_run_contract_or_request_is_refused(change: dict[str, str]) -> None:
    world = World(SITES)
    replayed = statement("Aarhus", **change).sign(world.signing["Aarhus"])
    error = refused(world, [world.envelopes["Charité"], replayed])
    assert isinstance(error, ProtocolError)
    assert error.code == "wrong-round"


def test_a_site_or_a_key_comes_once() -> None:
    world = World(SITES)
    envelopes = list(world.envelopes.values())
    assert refused(world, [envelopes[0], envelopes[0]]).code == "roster-mismatch"
    copied = statement("Aarhus", x25519=b64url(world.roster().keys["Charité"])).sign(
        world.signing["Aarhus"]
    )
    assert refused(world, [world.envelopes["Charité"], copied]).code == "roster-mismatch"
    assert refused(world, [*envelopes, envelopes[0]]).code == "roster-mismatch"


@pytest.mark.parametrize(("min_sites", "sent"), [(3, 2), (2, 1), (2, 0), (1, 1)])
def test_too_few_parties_are_refused(min_sites: int, sent: int) -> None:
    world = World(SITES, min_sites=min_sites)
    error = refused(world, list(world.envelopes.values())[:sent])
    assert isinstance(error, PolicyRefusal)
    assert error.code == "too-few-sites"


def test_a_statement_that_is_not_a_round_key_is_refused() -> None:
    assert refused(World(SITES), [b"{}"]).code == "malformed-message"
