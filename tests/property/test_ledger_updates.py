"""Whatever bytes come as an update of the ledger, a node answers, and keeps an honest copy."""

from __future__ import annotations

from functools import cache

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ledger_hub import as_message
from tests.support.logs import key
from tests.support.witnessing import Witnessing

from cohortium.ledger.entry import ResearcherChanged, RunDecided, SiteDecision
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import alarms, journal, ledger_copy
from cohortium.node.witness import accept


@cache
def _started() -> tuple[Witnessing, list[bytes]]:
    """A site that has seen the first entries, and valid updates to spoil."""
    site = Witnessing()
    final = site.hub.final(site.world.keys)
    site.cosigned(site.hub.update(final=final))
    decision = SiteDecision(decision="absent", code="peer-timeout")
    site.hub.add(
        *(
            ResearcherChanged(name=f"R{number}", key=key(200).public, status="active")
            for number in range(4)
        ),
        RunDecided(run_id="0" * 32, sites={"Alpha": decision}),
    )
    updates = [
        site.hub.update(4, final=final),
        site.hub.update(),
        site.hub.update(4, 6, more=True),
        site.hub.update(4, 4),
        site.hub.update(9),
    ]
    return site, [as_message(update).SerializeToString() for update in updates]


@given(data=st.data())
@settings(max_examples=250, deadline=None)
def test_a_spoilt_update_gets_an_answer_and_leaves_an_honest_copy(data: st.DataObject) -> None:
    site, messages = _started()
    spoilt = bytearray(data.draw(st.sampled_from(messages)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(spoilt) - 1))
        spoilt[at] = data.draw(st.integers(0, 255))
    try:
        message = pb.Message.FromString(bytes(spoilt))
    except DecodeError:
        return
    if message.WhichOneof("body") != "ledger_update":
        return
    reply = site.node.service.answer(message)
    assert reply.WhichOneof("body") in {"error", "cosignature"}
    if reply.WhichOneof("body") == "error":
        assert b'"internal"' not in reply.error.json
    _settle(site)


@given(
    start=st.integers(0, 2**64 - 1),
    sent_at=st.integers(0, 2**64 - 1),
    more=st.booleans(),
    which=st.integers(0, 4),
)
@settings(max_examples=80, deadline=None)
def test_any_numbers_in_an_update_get_an_answer(
    start: int, sent_at: int, more: bool, which: int
) -> None:
    site, messages = _started()
    message = pb.Message.FromString(messages[which])
    message.ledger_update.start = start
    message.ledger_update.sent_at = sent_at
    message.ledger_update.more = more
    reply = site.node.service.answer(message)
    assert reply.WhichOneof("body") in {"error", "cosignature"}
    _settle(site)


def _settle(site: Witnessing) -> None:
    """The copy is the hub's, so far; the steward ends an alarm."""
    replica = site.node.service.witness.replica
    assert replica.entries(0, 99) == site.hub.entries[: replica.size]
    ledger_copy.verify(replica)
    for alarm in alarms.alarms(site.node.store, only_open=True):
        accept(site.node.store, alarm.id)
    last = journal.entries(site.node.store, last=3)
    assert [entry for entry in last if entry.body["code"] == "internal"] == []
