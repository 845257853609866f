"""The ledger over REST: anyone who is registered can mirror it and check it."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.fake_sites import SITES, key, make_request
from tests.unit.hub.test_api import Rest, error_of, rest

from cohortium.core.rest import ConsistencyProof, ConsortiumInfo, LedgerInfo, Receipt, RunResult
from cohortium.ledger.checkpoint import Checkpoint, cosigners, open_checkpoint, origin
from cohortium.ledger.entry import Founded, RunEnded, parse_entry
from cohortium.ledger.members import require_final
from cohortium.ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from cohortium.ledger.note import VerifierKey, parse_verifier_key
from cohortium.ledger.tiles import resources, verified_entries
from cohortium.sdk.receipt import verify_result

__all__ = ["rest"]


@pytest.fixture
async def done(rest: Rest) -> str:
    """A run whose end is final; its id."""
    run_id = make_request(rest.world.contract).run_id
    await rest.send("POST", "/runs", make_request(rest.world.contract).sign(key("Ada")))
    assert await rest.world.settled(run_id) == "succeeded"
    return run_id


async def final(rest: Rest) -> tuple[Checkpoint, bytes, VerifierKey]:
    info = LedgerInfo.from_json((await rest.send("GET", "/ledger")).json())
    verifier = parse_verifier_key(info.log_key)
    note = (await rest.send("GET", "/ledger/checkpoint")).content
    return open_checkpoint(note, verifier)[0], note, verifier


@pytest.mark.usefixtures("done")
async def test_the_keys_are_told_to_whom_checks_checkpoints(rest: Rest) -> None:
    info = LedgerInfo.from_json((await rest.send("GET", "/ledger")).json())
    told = ConsortiumInfo.from_json((await rest.send("GET", "/consortium")).json())
    assert info.log_key == told.ledger_key
    assert info.origin == origin(told.fingerprint) == parse_verifier_key(info.log_key).name
    assert 0 < info.final <= info.size
    assert set(info.witness_keys) == set(SITES)
    checkpoint, note, verifier = await final(rest)
    keys = {name: key(name).public for name in SITES}
    assert set(cosigners(open_checkpoint(note, verifier)[1], info.origin, keys)) == set(SITES)
    require_final(note, verifier, keys, keys)
    assert checkpoint.size == info.final


@pytest.mark.usefixtures("done")
async def test_a_mirror_is_made_of_static_files_and_verifies(rest: Rest) -> None:
    checkpoint, _, _ = await final(rest)
    files = {}
    for resource in resources(checkpoint.size):
        answer = await rest.send("GET", f"/ledger/{resource.path}")
        assert answer.headers["content-type"] == "application/octet-stream"
        files[resource.path] = answer.content
    entries = [entry for part in verified_entries(files.get, checkpoint) for entry in part]
    facts = [parse_entry(entry).fact for entry in entries]
    assert isinstance(facts[0], Founded)
    assert sum(isinstance(fact, RunEnded) for fact in facts) == 1


async def test_an_entry_comes_with_its_proof(rest: Rest, done: str) -> None:
    checkpoint, _, verifier = await final(rest)
    ((index, entry),) = rest.world.hub.store.ledger.about("run.ended", done)
    receipt = Receipt.from_json((await rest.send("GET", f"/ledger/entries/{index}")).json())
    assert receipt.entry.encode() == entry
    opened = require_final(receipt.checkpoint.encode(), verifier, receipt.members)
    proof = [bytes.fromhex(node) for node in receipt.proof]
    verify_inclusion(index, opened.size, leaf_hash(entry), proof, opened.root)
    again = await rest.send("GET", f"/ledger/entries/{index}?size={checkpoint.size}")
    assert Receipt.from_json(again.json()).index == index


@pytest.mark.usefixtures("done")
async def test_the_log_is_shown_to_have_grown_only(rest: Rest) -> None:
    new, _, _ = await final(rest)
    for old in range(1, new.size + 1):
        path = f"/ledger/consistency?old={old}&size={new.size}"
        answer = ConsistencyProof.from_json((await rest.send("GET", path)).json())
        proof = [bytes.fromhex(node) for node in answer.proof]
        root = rest.world.hub.store.ledger.tree(old).root()
        verify_consistency(old, root, new.size, new.root, proof)


async def test_a_result_carries_its_receipt(rest: Rest, done: str) -> None:
    answer = (await rest.send("GET", f"/runs/{done}/result")).json()
    assert RunResult.from_json(answer).receipt is not None
    verify_result(
        answer,
        run_id=done,
        contract=rest.world.contract,
        ledger_key=rest.world.hub.consortium.ledger_key,
    )


async def test_a_result_that_is_not_final_is_not_given(rest: Rest) -> None:
    rest.world.sites["Gamma"].witness.signs = False
    request = make_request(rest.world.contract)
    await rest.send("POST", "/runs", request.sign(key("Ada")))
    await rest.world.reaches(request.run_id, "witnessing")
    await asyncio.sleep(0.1)
    run = (await rest.send("GET", f"/runs/{request.run_id}")).json()
    assert run["status"] == "witnessing"
    assert "missing: Gamma" in run["message"]
    error = error_of(await rest.send("GET", f"/runs/{request.run_id}/result"), 409)
    assert (error["code"], error["message"]) == ("wrong-state", run["message"])


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/ledger/entries/100000", 404, "not-found"),
        ("/ledger/entries/0?size=100000", 404, "not-found"),
        ("/ledger/entries/-1", 404, "not-found"),
        ("/ledger/entries/0?size=-1", 422, "bad-input"),
        ("/ledger/tile/0/999", 404, "not-found"),
        ("/ledger/tile/0/000.p/255", 404, "not-found"),
        ("/ledger/tile/0/../0/000.p/1", None, None),
        ("/ledger/tile/nonsense", None, "malformed-message"),
        ("/ledger/consistency?old=9&size=3", 404, "not-found"),
        ("/ledger/consistency?old=1&size=100000", 404, "not-found"),
    ],
)
async def test_what_is_not_there_is_an_error(
    rest: Rest, path: str, status: int | None, code: str | None
) -> None:
    answer = await rest.send("GET", path)
    assert answer.is_client_error
    error = error_of(answer, status or answer.status_code)
    assert code in {None, error["code"]}


@pytest.mark.parametrize(
    "path",
    ["", "/checkpoint", "/tile/0/000.p/1", "/entries/0", "/consistency?old=1&size=2"],
)
async def test_strangers_are_told_nothing(rest: Rest, path: str) -> None:
    answer = await rest.send("GET", f"/ledger{path}", signer=key("Eve"))
    assert error_of(answer, 403)["code"] == "not-authorised"
