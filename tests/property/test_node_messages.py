"""Whatever bytes the hub sends, a node answers with an error of ours and computes nothing."""

from __future__ import annotations

from functools import cache

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.builders import RUN_ID, Node, World, active, round_request, run_end
from tests.support.life import NOW, transition

from cohortium.contract.model import Contract, Draft
from cohortium.contract.statements import Assignment
from cohortium.contract.task import Artefact
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import journal

KNOWN = {"error", "ack", "run_advert", "round_reply"}


def _stated(contract: Contract, world: World) -> pb.Message:
    said = transition(contract, "suspend", "Beta", computations=("test.separate",))
    envelope = said.sign(world.keys["Beta"])
    return pb.Message(contract_statement=pb.ContractStatement(envelope=envelope))


def _drafted(contract: Contract, world: World) -> pb.Message:
    fields = contract.to_json() | {"schema_id": "cohortium/draft/1", "study": "drafted"}
    for name in ("dataset", "dataset_digest", "dictionary_digest"):
        del fields["participants"][1][name]
    draft = Draft.from_json(fields)
    own = contract.givers[1]
    said = Assignment(
        study="drafted",
        draft_digest=draft.digest,
        slot="dataset/Beta",
        artefact=Artefact(
            name=own.dataset,
            content_digest=own.dataset_digest,
            owners=("Beta",),
            dictionary_digest=own.dictionary_digest,
        ),
        author="Beta",
        at=NOW,
    )
    assignments = [said.sign(world.keys["Beta"])]
    envelope = draft.sign(world.researcher)
    return pb.Message(contract_draft=pb.ContractDraft(envelope=envelope, assignments=assignments))


@cache
def _started() -> tuple[Node, list[bytes]]:
    """A node with a run under way, and valid messages to spoil."""
    world = World()
    contract = world.ready()
    request = world.request(contract)
    roster = world.adverts(request)
    messages = [
        world.proposal(contract),
        active(contract.digest, world.signed(contract)),
        _stated(contract, world),
        _drafted(contract, world),
        world.prepare(request),
        round_request(request, roster),
        run_end(request, "failed"),
    ]
    return world.nodes["Alpha"], [message.SerializeToString() for message in messages]


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_spoilt_messages_get_an_answer(data: st.DataObject) -> None:
    node, messages = _started()
    valid = bytearray(data.draw(st.sampled_from(messages)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(valid) - 1))
        valid[at] = data.draw(st.integers(0, 255))
    try:
        message = pb.Message.FromString(bytes(valid))
    except DecodeError:
        return
    reply = node.service.answer(message)
    assert reply.WhichOneof("body") in KNOWN
    internal = [e for e in journal.entries(node.store, last=1) if e.body["code"] == "internal"]
    assert internal == []


@given(envelope=st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_as_an_envelope_are_refused(envelope: bytes) -> None:
    node, _ = _started()
    before = node.store.run(RUN_ID)
    prepare = pb.Message(run_prepare=pb.RunPrepare(request_envelope=envelope))
    assert node.service.answer(prepare).WhichOneof("body") == "error"
    assert node.store.run(RUN_ID) == before
