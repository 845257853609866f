from __future__ import annotations

from typing import Any

import pytest
from tests.support.contracts import NOW, contract, key, request
from tests.support.life import transition
from tests.support.slots import artefact, assignment, begun, draft

from cohortium.contract.draft import replay
from cohortium.contract.statements import Transition, open_statement
from cohortium.errors import CohortiumError, ProtocolError


def refused(code: str) -> pytest.RaisesExc[CohortiumError]:
    return pytest.raises(CohortiumError, check=lambda error: error.code == code)


def test_each_kind_of_statement_opens_by_its_type() -> None:
    made = contract()
    for document, name in (
        (made, "Boston"),
        (transition(made, "revoke", "Boston"), "Boston"),
        (draft(), "Ada"),
        (assignment(begun(), "train/images", "Aarhus", artefact("Aarhus")), "Aarhus"),
    ):
        assert open_statement(document.sign(key(name))) == (document, key(name).public)


def test_another_signed_document_is_no_statement() -> None:
    with refused("bad-signature"):
        open_statement(request(contract()).sign(key("Ada")))
    with refused("malformed-message"):
        open_statement(b"{}")


def test_the_kinds_do_not_stand_for_each_other() -> None:
    envelope = transition(contract(), "revoke", "Boston").sign(key("Boston"))
    kind = Transition.payload_type.encode()
    for other in (b"application/vnd.cohortium.contract+json", b"application/json"):
        with refused("bad-signature"):
            open_statement(envelope.replace(kind, other))


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "revoke", "computations": ("glm",)},
        {"action": "suspend", "computations": ()},
        {"action": "revoke", "keeps": ("All.",)},
        {"action": "expire"},
        {"action": "revoke", "reason": ""},
        {"action": "revoke", "reason": "x" * 2001},
        {"action": "revoke", "author": "Bos\nton"},
        {"action": "revoke", "extra": 1},
    ],
)
def test_a_transition_says_only_what_its_action_can(fields: dict[str, Any]) -> None:
    good = transition(contract(), "close", "Ada", keeps=("The results.",)).to_json()
    del good["keeps"]
    with pytest.raises(ProtocolError):
        Transition.from_json({**good, **fields})


def test_a_draft_follows_from_its_statements() -> None:
    life = begun()
    said = assignment(life, "train/images", "Aarhus", artefact("Aarhus"))
    begin, one = draft().sign(key("Ada")), said.sign(key("Aarhus"))
    again = replay([(begin, NOW), (one, NOW), (one, NOW)])
    assert again == life.assign(said, key("Aarhus").public, NOW)
    assert set(again.unfilled) == {"dataset/Boston"}
    for wrong in ([one], [begin, begin], [begin, contract().sign(key("Ada"))]):
        with refused("unexpected-message"):
            replay([(envelope, NOW) for envelope in wrong])
    with refused("not-found"):
        replay([])
    with refused("unknown-signer"):
        replay([(draft().sign(key("Eve")), NOW)])
    with refused("stale-request"):
        replay([(begin, NOW.replace(year=2025))])
    early = assignment(life, "train/images", "Aarhus", artefact("Aarhus"), at=NOW.replace(hour=23))
    with refused("stale-request"):
        life.assign(early, key("Aarhus").public, NOW)


def test_a_dataset_is_assigned_with_its_dictionary() -> None:
    life = begun()
    bare = artefact("Boston", dictionary_digest=None)
    with refused("bad-input"):
        life.assign(assignment(life, "dataset/Boston", "Boston", bare), key("Boston").public, NOW)


def test_what_was_assigned_stands_in_the_contract() -> None:
    life = begun()
    for slot, name in (("train/images", "Aarhus"), ("dataset/Boston", "Boston")):
        said = assignment(life, slot, name, artefact(name))
        life = life.assign(said, key(name).public, NOW)
    made = life.assemble()
    boston = made.giver("Boston")
    assert boston is not None
    given = artefact("Boston")
    assert (boston.dataset, boston.dataset_digest) == (given.name, given.content_digest)
    assert boston.dictionary_digest == given.dictionary_digest
    assert made.tasks[0].inputs[0].artefact == artefact("Aarhus")
    assert made.created_at == life.draft.created_at
    assert life.proposed(made).ended
    assert life.assemble().digest == made.digest
