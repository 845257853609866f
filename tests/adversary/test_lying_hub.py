"""A hub that lies to the sites of a run: what each site says, and what the hub can make of it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.support.adversary import Federation, federation, refused
from tests.support.builders import NOW, SITES, round_request, run_end
from tests.support.wire import until

from cohortium.contract.model import Computation, Contract, RunRequest
from cohortium.core.rounds import State
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.signed import Envelope, pae
from cohortium.errors import ConflictError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.codec import get_state, put_state
from cohortium.node.policy import Policy
from cohortium.secagg.party import Party

HUB = SigningKey.from_seed(b"\x68" * 32)
"""A key that the hub made up."""


@pytest.fixture
async def made() -> AsyncIterator[Federation]:
    async with federation() as one:
        yield one


def _of_round(message: pb.Message, number: int | None = None) -> bool:
    return message.WhichOneof("body") == "round_request" and (
        number is None or message.round_request.round == number
    )


def _with_roster(message: pb.Message, roster: list[bytes]) -> pb.Message:
    del message.round_request.roster[:]
    message.round_request.roster.extend(roster)
    return message


def _with_state(message: pb.Message, values: dict[str, Any]) -> pb.Message:
    put_state(State(values), message.round_request)
    return message


async def _fails(
    made: Federation, contract: Contract, request: RunRequest, code: str
) -> dict[str, Any]:
    """The run fails with `code`, has no result, and no total comes out of what the hub heard."""
    assert await made.run(request) == "failed"
    error = dict(made.error(request))
    assert error["code"] == code, error
    with pytest.raises(ConflictError) as caught:
        made.result(request)
    assert caught.value.code == "run-failed"
    return error


async def test_with_an_honest_hub_the_sums_are_exact_and_each_round_is_one_total(
    made: Federation,
) -> None:
    contract = await made.agree()
    request = made.request(contract)
    assert await made.run(request) == "succeeded"
    ages = sum(sum(range(12)) + 120 * seed for seed in (1, 2, 3))
    assert made.result(request) == {"n": 36, "sum": [ages, ages + 9]}
    # Of all combinations of what it heard, the hub can decode the three totals and nothing else.
    assert len(made.decodable(request, contract)) == 3
    for site in SITES:
        entries = made.node(site).decisions(run_id=request.run_id)
        assert [e["what"] for e in entries] == ["run", "round", "round", "round", "end"]
        assert made.refusals(site) == []


# Different lists of parties


async def test_different_lists_of_parties_leave_nothing_to_decode(made: Federation) -> None:
    told = {"Alpha": {"Alpha", "Beta"}, "Beta": {"Beta", "Gamma"}, "Gamma": set(SITES)}

    def lie(site: str, message: pb.Message) -> pb.Message:
        if not _of_round(message):
            return message
        by_site = dict(zip(SITES, message.round_request.roster, strict=True))
        return _with_roster(message, [by_site[name] for name in sorted(told[site])])

    contract = await made.agree()
    request = made.request(contract)
    made.hub_lies = lie
    await _fails(made, contract, request, "masks-do-not-cancel")
    assert {heard.site for heard in made.masked(request)} == set(SITES)
    assert made.decodable(request, contract) == []
    for site in SITES:
        (entry,) = made.rounds(site, request.run_id)
        assert entry["parties"] == sorted(told[site])
    # An honest list afterwards does not bring the contributions out: not in this run,
    made.hub_lies = None
    user = made.hub.user(made.world.researcher.public)
    await made.hub.resume(request.run_id, user)
    assert await made.settled(request) == "failed"
    assert made.error(request)["code"] == "roster-mismatch"
    # and not in another: each site remembers with whom it was to be added up.
    again = made.request(contract, 2)
    assert await made.run(again) == "failed"
    assert made.error(again)["code"] == "differencing"
    assert made.decodable(again, contract) == []
    for wanted, code in ((request, "roster-mismatch"), (again, "differencing")):
        honest = round_request(wanted, list(made.adverts_of(wanted).values()))
        for site in ("Alpha", "Beta"):
            await refused(made, site, honest, code)


@pytest.mark.parametrize("by", ["contract", "policy"])
async def test_a_list_below_the_minimum_is_refused(made: Federation, by: str) -> None:
    def lie(site: str, message: pb.Message) -> pb.Message:
        if site == "Alpha" and _of_round(message):
            return _with_roster(message, list(message.round_request.roster)[:2])
        return message

    contract = await made.agree(min_sites=3 if by == "contract" else 2)
    if by == "policy":
        made.node("Alpha").policy[0] = Policy(min_sites=3)
    request = made.request(contract)
    made.hub_lies = lie
    error = await _fails(made, contract, request, "too-few-sites")
    assert error["details"]["site"] == "Alpha"
    assert made.refusals("Alpha") == [("round", "too-few-sites")]
    assert made.rounds("Alpha", request.run_id) == []
    assert made.decodable(request, contract) == []


async def test_the_list_does_not_change_within_a_run(made: Federation) -> None:
    def lie(site: str, message: pb.Message) -> pb.Message:
        if _of_round(message, 2):
            return _with_roster(message, list(message.round_request.roster)[:2])
        return message

    contract = await made.agree()
    request = made.request(contract)
    made.hub_lies = lie
    await _fails(made, contract, request, "roster-mismatch")
    assert len(made.decodable(request, contract)) == 1  # of the first, honest round
    assert made.refusals("Alpha") == [("round", "roster-mismatch")]


def _round_key(request: RunRequest, site: str, key: SigningKey) -> bytes:
    return Party.prepare(
        site=site,
        run_id=request.run_id,
        contract_digest=request.contract_digest,
        request_digest=request.digest,
        signing_key=key,
    )[1]


def _hubs_own(made: Federation, request: RunRequest, roster: list[bytes]) -> list[bytes]:
    return [roster[0], _round_key(request, "Beta", HUB), roster[2]]


def _of_a_colluding_site(made: Federation, request: RunRequest, roster: list[bytes]) -> list[bytes]:
    return [roster[0], _round_key(request, "Beta", made.world.keys["Gamma"]), roster[2]]


def _altered(made: Federation, request: RunRequest, roster: list[bytes]) -> list[bytes]:
    envelope = json.loads(roster[1])
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["x25519"] = json.loads(
        base64.b64decode(json.loads(_round_key(request, "Beta", HUB))["payload"])
    )["x25519"]
    text = json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
    envelope["payload"] = base64.b64encode(text).decode()
    return [roster[0], json.dumps(envelope).encode(), roster[2]]


def _an_invented_site(made: Federation, request: RunRequest, roster: list[bytes]) -> list[bytes]:
    return [*roster[:2], _round_key(request, "Delta", HUB)]


def _a_fourth_site(made: Federation, request: RunRequest, roster: list[bytes]) -> list[bytes]:
    return [*roster, _round_key(request, "Delta", HUB)]


def _one_site_twice(made: Federation, request: RunRequest, roster: list[bytes]) -> list[bytes]:
    return [*roster[:2], roster[1]]


def _without_the_asked(made: Federation, request: RunRequest, roster: list[bytes]) -> list[bytes]:
    return roster[1:]


def _garbage(made: Federation, request: RunRequest, roster: list[bytes]) -> list[bytes]:
    return [*roster[:2], b"\x00\xff" * 40]


@pytest.mark.parametrize(
    ("swap", "code"),
    [
        (_hubs_own, "unknown-signer"),
        (_of_a_colluding_site, "unknown-signer"),
        (_altered, "bad-signature"),
        (_an_invented_site, "unknown-signer"),
        (_a_fourth_site, "roster-mismatch"),
        (_one_site_twice, "roster-mismatch"),
        (_without_the_asked, "roster-mismatch"),
        (_garbage, "malformed-message"),
    ],
)
async def test_a_swapped_key_in_the_list_of_parties_is_refused(
    made: Federation,
    swap: Callable[[Federation, RunRequest, list[bytes]], list[bytes]],
    code: str,
) -> None:
    contract = await made.agree()
    request = made.request(contract)

    def lie(site: str, message: pb.Message) -> pb.Message:
        if site == "Alpha" and _of_round(message):
            return _with_roster(message, swap(made, request, list(message.round_request.roster)))
        return message

    made.hub_lies = lie
    await _fails(made, contract, request, code)
    assert made.refusals("Alpha") == [("round", code)]
    assert made.rounds("Alpha", request.run_id) == []
    assert made.decodable(request, contract) == []


async def test_a_key_of_the_same_site_from_another_run_is_refused(made: Federation) -> None:
    contract = await made.agree()
    before, request = made.request(contract, 1), made.request(contract, 2)
    old, new = await made.adverts(before), await made.adverts(request)
    roster = [new["Alpha"], old["Beta"], new["Gamma"]]
    await refused(made, "Alpha", round_request(request, roster), "wrong-round")


# Different states and rounds


async def test_different_states_leave_nothing_to_decode(made: Federation) -> None:
    def lie(site: str, message: pb.Message) -> pb.Message:
        if site == "Beta" and _of_round(message, 2):
            return _with_state(message, {"round": 99})
        return message

    contract = await made.agree()
    request = made.request(contract)
    made.hub_lies = lie
    await _fails(made, contract, request, "masks-do-not-cancel")
    assert len(made.decodable(request, contract)) == 1  # of the first, honest round
    states = {site: made.rounds(site, request.run_id)[1]["state"] for site in SITES}
    assert states["Alpha"] == states["Gamma"] != states["Beta"]


async def test_the_first_state_is_not_the_hubs_to_choose(made: Federation) -> None:
    def lie(_site: str, message: pb.Message) -> pb.Message:
        return _with_state(message, {"round": 2}) if _of_round(message, 1) else message

    contract = await made.agree()
    request = made.request(contract)
    made.hub_lies = lie
    await _fails(made, contract, request, "wrong-round")
    assert made.refusals("Alpha") == [("round", "wrong-round")]
    assert made.masked(request) == []


async def test_a_round_is_asked_again_with_the_same_state_only(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)
    roster = list((await made.adverts(request)).values())
    question = round_request(request, roster, 1)
    first = (await made.ask("Alpha", question)).round_reply.masked
    await refused(made, "Alpha", round_request(request, roster, 1, {"round": 2}), "wrong-round")
    await made.ask("Alpha", round_request(request, roster, 2))
    for values in ({"round": 1}, {"round": 2, "more": 1}, {"round": 2.5}):
        await refused(made, "Alpha", round_request(request, roster, 2, values), "wrong-round")
    # The same question has the same answer, and is not written down twice.
    assert (await made.ask("Alpha", question)).round_reply.masked == first
    assert [entry["round"] for entry in made.rounds("Alpha", request.run_id)] == [1, 2]


async def test_no_round_is_skipped(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)

    def lie(site: str, message: pb.Message) -> pb.Message:
        if site == "Gamma" and _of_round(message, 2):
            message.round_request.round = 3
        return message

    made.hub_lies = lie
    await _fails(made, contract, request, "wrong-round")
    assert made.refusals("Gamma") == [("round", "wrong-round")]
    assert len(made.rounds("Gamma", request.run_id)) == 1


@pytest.mark.parametrize(
    "state",
    [b"[1]", b"{", b"\xff", b'{"round":NaN}', b'{"round":1,"round":2}'],
)
async def test_a_state_that_is_none_is_refused(made: Federation, state: bytes) -> None:
    contract = await made.agree()
    request = made.request(contract)
    message = round_request(request, list((await made.adverts(request)).values()))
    message.round_request.state_json = state
    await refused(made, "Alpha", message, "malformed-message")


# Replays


async def test_a_finished_run_is_over(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)
    assert await made.run(request) == "succeeded"
    prepare, rounds = made.world.prepare(request), made.masked(request)
    for site in SITES:
        await refused(made, site, prepare, "replayed")
        for heard in rounds:
            if heard.site == site:
                await refused(made, site, heard.asked, "wrong-round")
        stored = made.node(site).store.run(request.run_id)
        assert stored is not None
        assert stored.secret is None


def _envelope(request: RunRequest, key: SigningKey, named: str) -> pb.Message:
    """Signed with `key`, in the name of `named`."""
    payload = request.to_bytes()
    envelope = Envelope.from_json(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": RunRequest.payload_type,
            "signatures": [
                {
                    "keyid": named,
                    "sig": base64.b64encode(
                        key.sign(pae(RunRequest.payload_type, payload))
                    ).decode(),
                }
            ],
        }
    )
    return pb.Message(run_prepare=pb.RunPrepare(request_envelope=envelope.to_bytes()))


async def test_a_request_is_good_for_its_run_only(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract, 1)
    good = made.world.prepare(request)
    roster = list((await made.adverts(request)).values())
    # The hub puts another run id into what the researcher signed.
    envelope = json.loads(good.run_prepare.request_envelope)
    payload = base64.b64decode(envelope["payload"])
    other = payload.replace(request.run_id.encode(), b"f" * 32)
    assert other != payload
    envelope["payload"] = base64.b64encode(other).decode()
    renamed = pb.RunPrepare(request_envelope=json.dumps(envelope).encode())
    await refused(made, "Alpha", pb.Message(run_prepare=renamed), "bad-signature")
    # It asks for a round of a run that nobody ordered, or of another that was ordered.
    unknown = round_request(request, roster)
    unknown.round_request.run_id = "f" * 32
    await refused(made, "Alpha", unknown, "wrong-round")
    second = made.request(contract, 2)
    await made.adverts(second)
    mixed = round_request(second, roster)
    await refused(made, "Alpha", mixed, "wrong-round")
    # It orders something else under a run id that was used.
    changed = made.request(contract, 1, params={"variable": "age", "rounds": 1})
    await refused(made, "Alpha", made.world.prepare(changed), "replayed")


async def test_two_requests_under_one_run_id_do_not_meet(made: Federation) -> None:
    """A researcher who helps the hub signs twice: each site gets other parameters."""
    contract = await made.agree()
    one = made.request(contract, 1)
    other = made.request(contract, 1, params={"variable": "age", "rounds": 1})
    envelopes = {"Alpha": one, "Beta": other, "Gamma": other}
    roster = []
    for site, request in envelopes.items():
        prepared = await made.ask(site, made.world.prepare(request))
        roster.append(prepared.run_advert.envelope)
    for site, request in envelopes.items():
        await refused(made, site, round_request(request, roster), "wrong-round")
        assert made.rounds(site, request.run_id) == []
    # And the real hub, where it is lied to on the way, asks for no round at all.
    second = made.request(contract, 2)
    twin = made.request(contract, 2, params={"variable": "age", "rounds": 1})

    def lie(site: str, message: pb.Message) -> pb.Message:
        mine = site == "Beta" and message.WhichOneof("body") == "run_prepare"
        return made.world.prepare(twin) if mine else message

    made.hub_lies = lie
    await _fails(made, contract, second, "wrong-round")
    assert made.masked(second) == []


# Requests that the contract does not permit


async def test_a_forged_signature_is_refused(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)
    researcher = made.world.researcher.public
    await refused(made, "Alpha", _envelope(request, HUB, researcher), "bad-signature")
    await refused(made, "Alpha", _envelope(request, HUB, HUB.public), "unknown-signer")
    own = made.request(contract, researcher=HUB.public)
    await refused(made, "Alpha", _envelope(own, HUB, HUB.public), "not-authorised")
    # A site of the contract is no researcher.
    beta = made.world.keys["Beta"]
    as_site = made.request(contract, researcher=beta.public)
    await refused(made, "Alpha", _envelope(as_site, beta, beta.public), "not-authorised")
    # What the researcher signed for another purpose is no request.
    proposal = contract.sign(made.world.researcher)
    message = pb.Message(run_prepare=pb.RunPrepare(request_envelope=proposal))
    await refused(made, "Alpha", message, "bad-signature")


async def test_one_byte_of_a_signed_request_is_enough(made: Federation) -> None:
    contract = await made.agree()
    good = made.world.prepare(made.request(contract)).run_prepare.request_envelope
    payload_ends = good.index(b'"payloadType"')
    allowed = {"bad-signature", "malformed-message", "bad-digest", "unknown-signer"}
    for at in range(0, payload_ends, 29):
        altered = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        before = len(made.refusals("Alpha"))
        reply = made.node("Alpha").service.answer(
            pb.Message(run_prepare=pb.RunPrepare(request_envelope=altered))
        )
        assert reply.WhichOneof("body") == "error"
        ((what, code),) = made.refusals("Alpha")[before:]
        assert what == "run"
        assert code in allowed
    assert made.node("Alpha").store.run(made.request(contract).run_id) is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"params": {"variable": "weight"}}, "not-permitted"),
        ({"params": {"variable": "age", "rounds": 2}}, "not-permitted"),
        ({"params": {"variable": "age", "rounds": 1, "spy": True}}, "bad-input"),
        ({"computation": "glm"}, "not-permitted"),
        ({"valid_until": NOW + timedelta(days=3)}, "stale-request"),
        (
            {"issued_at": NOW - timedelta(hours=3), "valid_until": NOW - timedelta(hours=2)},
            "stale-request",
        ),
    ],
)
async def test_the_nodes_refuse_what_a_hub_lets_through(
    made: Federation, changes: dict[str, Any], code: str
) -> None:
    limited = Computation(name="test.*", variables=("age",), limits={"rounds": (1,)})
    contract = await made.agree(computations=(limited,))
    allowed = made.request(contract, params={"variable": "age", "rounds": 1})
    forbidden = made.request(contract, 2, **{"params": {"variable": "age", "rounds": 1}, **changes})
    envelope = forbidden.sign(made.world.researcher)

    def lie(_site: str, message: pb.Message) -> pb.Message:
        if message.WhichOneof("body") == "run_prepare":
            message.run_prepare.request_envelope = envelope
        return message

    made.hub_lies = lie
    error = await _fails(made, contract, allowed, code)
    for site in SITES:
        assert made.refusals(site) == [("run", code)]
        assert made.node(site).store.run(forbidden.run_id) is None
    assert error["details"]["site"] in SITES
    made.hub_lies = None
    assert await made.run(made.request(contract, 3, params=allowed.params)) == "succeeded"


async def test_the_run_limit_is_the_nodes_own(made: Federation) -> None:
    contract = await made.agree()
    for number in (1, 2, 3):
        assert await made.run(made.request(contract, number)) == "succeeded"
    # The hub admits a fourth: it keeps no count that a node would rely on.
    fourth = made.request(contract, 4)
    await _fails(made, contract, fourth, "run-limit")
    assert [made.refusals(site) for site in SITES] == [[("run", "run-limit")]] * 3
    assert made.masked(fourth) == []


async def test_after_its_expiry_a_contract_gives_nothing(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)
    roster = list((await made.adverts(request)).values())
    await made.ask("Alpha", round_request(request, roster))
    made.world.now = contract.expires_at
    later = made.request(contract, 2)
    await refused(made, "Alpha", made.world.prepare(later), "contract-expired")
    await refused(made, "Alpha", round_request(request, roster, 2), "contract-expired")
    await refused(made, "Alpha", round_request(request, roster, 1), "contract-expired")


async def test_a_removed_researcher_is_stopped_in_the_middle_of_a_run(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)
    roster = list((await made.adverts(request)).values())
    await made.ask("Alpha", round_request(request, roster))
    made.hub.members.remove_user("Dr. Li")
    made.hub.announce_revocations()
    await until(lambda: all(made.node(site).store.revoked() for site in SITES))
    await refused(made, "Alpha", round_request(request, roster, 2), "not-authorised")
    await refused(made, "Beta", made.world.prepare(made.request(contract, 2)), "not-authorised")
    # A hub that takes the removal back is not believed.
    welcome = pb.Message(welcome=pb.Welcome(consortium=contract.consortium))
    made.node("Beta").service.welcome(welcome)
    await refused(made, "Beta", made.world.prepare(made.request(contract, 3)), "not-authorised")


async def test_a_hub_of_another_consortium_is_not_welcome(made: Federation) -> None:
    contract = await made.agree()
    with pytest.raises(Exception, match="another consortium") as caught:
        made.node("Alpha").service.welcome(pb.Message(welcome=pb.Welcome(consortium="else")))
    assert getattr(caught.value, "code", None) == "bad-certificate"
    assert await made.run(made.request(contract)) == "succeeded"


# What an end that nobody ordered does: it costs the run, not the contributions.


async def test_an_early_end_costs_the_run_only(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)
    roster = list((await made.adverts(request)).values())
    await made.ask("Alpha", round_request(request, roster))
    await made.ask("Alpha", run_end(request, "succeeded"))
    await refused(made, "Alpha", round_request(request, roster, 2), "wrong-round")
    await refused(made, "Alpha", run_end(request, "won"), "malformed-message")


async def test_states_that_the_hub_sends_are_the_ones_in_the_journal(made: Federation) -> None:
    contract = await made.agree()
    request = made.request(contract)
    assert await made.run(request) == "succeeded"
    sent = [
        get_state(h.asked.round_request).digest for h in made.masked(request) if h.site == "Alpha"
    ]
    assert [entry["state"] for entry in made.rounds("Alpha", request.run_id)] == sent
