"""The published JSON Schemas are current, and are about the documents that there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.support.audit import honest
from tests.support.audit_tasks import TaskStory
from tests.support.contracts import ADA, NOW, contract, key, request
from tests.support.full_contract import full_contract, mutations
from tools.document_pages import documents_page, ledger_page
from tools.schemas import DOCUMENTS, FOLDER, texts

from cohortium.audit.bundle import parse_bundle
from cohortium.contract.model import Draft
from cohortium.contract.statements import Assignment, Transition
from cohortium.core.canonical import canonical, digest
from cohortium.core.model import Document
from cohortium.crypto.signed import Envelope
from cohortium.enclave.exchange import Offer, Release, TaskOutcome
from cohortium.errors import CohortiumError
from cohortium.ledger import entry as facts
from cohortium.ledger.entry import Entry, Fact


def validator(name: str) -> Draft202012Validator:
    """Of the file that is published."""
    schema = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def draft() -> Draft:
    data = full_contract().to_json() | {"schema_id": "cohortium/draft/1"}
    for name in ("dataset", "dataset_digest", "dictionary_digest"):
        del data["participants"][1][name]
    del data["tasks"][0]["inputs"][0]["artefact"]
    return Draft.from_json(data)


def entries() -> list[Entry]:
    run = {"run_id": "0" * 32}
    ordered = {
        **run,
        "study": "lung",
        "contract": digest(1),
        "computation": "glm",
        "researcher": ADA.key,
        "request": digest(2),
    }
    known: list[Fact] = [
        facts.Founded(name="Nordic", fingerprint=digest(0)),
        facts.TakenOver(size=7, key="cohortium/00+0a0b0c0d+key"),
        facts.MemberChanged(name="Aarhus", key=key("Aarhus").public, status="approved"),
        facts.EnclaveChanged(name="Kiel", key=key("Kiel").public, status="suspended"),
        facts.ResearcherChanged(name="Ada", key=ADA.key, status="removed"),
        facts.DatasetChanged(member="Aarhus", name="lung", content=digest(1), dictionary=digest(2)),
        facts.PolicyChanged(member="Aarhus", policy=digest(3)),
        facts.ContractChanged(
            study="lung",
            contract=digest(1),
            version=2,
            action="sign",
            author="Aarhus",
            key=key("Aarhus").public,
            statement=digest(4),
            state="active",
        ),
        facts.RunSubmitted.model_validate(ordered),
        facts.RunDenied.model_validate({**ordered, "code": "not-permitted"}),
        facts.RunDecided.model_validate({**run, "sites": {"Aarhus": {"decision": "accepted"}}}),
        facts.RunEnded.model_validate(
            {
                **run,
                "status": "succeeded",
                "rounds": [{"first": 1, "last": 2, "sites": ["Aarhus"]}],
                "result": digest(5),
            }
        ),
        facts.KeyReleased.model_validate(
            {**run, "holder": "Aarhus", "recipient": digest(6), "evidence": digest(7)}
        ),
    ]
    return [Entry(at=NOW, fact=fact) for fact in known]


def _lent() -> list[bytes]:
    """A task's outcome, a release and an offer, as they were signed."""
    story = TaskStory()
    story.trained(story.begin())
    kinds = ("task-outcome", "key-release", "enclave-offer")
    texts = list(story.statements.values())
    return [next(text for text in texts if f"{kind}+json" in text).encode() for kind in kinds]


def envelope() -> Document:
    return Envelope.from_bytes(contract().sign(key("Aarhus")))


EXAMPLES: dict[str, Callable[[], list[Document]]] = {
    "contract": lambda: [contract(), full_contract()],
    "draft": lambda: [draft()],
    "transition": lambda: [
        Transition(
            study="lung",
            contract_digest=digest(1),
            action="suspend",
            author="Aarhus",
            at=NOW,
            reason="A question of the board.",
            computations=("glm", "stats.*"),
        )
    ],
    "assignment": lambda: [
        Assignment.model_validate(
            {
                "study": "lung",
                "draft_digest": draft().digest,
                "slot": "train/images",
                "artefact": full_contract().to_json()["tasks"][0]["inputs"][0]["artefact"],
                "author": "Aarhus",
                "at": NOW,
            }
        )
    ],
    "run-request": lambda: [request(contract(), params={"a": [1, {"b": None}]})],
    "enclave-offer": lambda: [Offer.open(_lent()[2])[0]],
    "key-release": lambda: [Release.open(_lent()[1])[0]],
    "task-outcome": lambda: [TaskOutcome.open(_lent()[0])[0]],
    "ledger-entry": lambda: [*entries()],
    "envelope": lambda: [envelope()],
    "audit-bundle": lambda: [
        parse_bundle(canonical(honest().story.seal(coverage))) for coverage in ("study", "log")
    ],
}


def test_the_published_schemas_are_current() -> None:
    """``make schemas`` writes them."""
    current = texts()
    assert {path.name for path in FOLDER.iterdir()} == {path.name for path in current}
    stale = [p.name for p, text in current.items() if p.read_text(encoding="utf-8") != text]
    assert stale == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_real_document_satisfies_its_schema(name: str) -> None:
    for example in EXAMPLES[name]():
        document = json.loads(canonical(example.to_json()))
        assert [error.message for error in validator(name).iter_errors(document)] == []


def test_each_kind_of_fact_is_tried() -> None:
    assert {type(one.fact) for one in entries()} == set(Fact.__args__)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_field_too_many_or_too_few_does_not_satisfy_it(name: str) -> None:
    check = validator(name)
    schema = check.schema
    assert isinstance(schema, dict)
    for example in EXAMPLES[name]():
        document = json.loads(canonical(example.to_json()))
        assert not check.is_valid({**document, "extra": 1})
        assert set(document) >= set(schema["required"])
        for field in schema["required"]:
            assert not check.is_valid({k: v for k, v in document.items() if k != field}), field


@pytest.mark.parametrize(
    "change",
    [
        {"study": "Lung"},
        {"min_sites": 1},
        {"expires_at": "2027-11-22T09:30:00+01:00"},
        {"consortium": "sha256:00"},
        {"security_level": "L6"},
        {"amends": None},
        {"proposed_by": {"name": "Ada", "key": "ed25519:short"}},
        {"aggregation": "plain"},
        {"participants": []},
    ],
)
def test_what_is_not_a_contract_does_not_satisfy_it(change: dict[str, Any]) -> None:
    assert not validator("contract").is_valid({**full_contract().to_json(), **change})


def test_a_schema_refuses_nothing_that_is_a_contract() -> None:
    """What `Contract` accepts of all single changes, the schema accepts."""
    check, accepted = validator("contract"), 0
    for mutation in mutations(full_contract()):
        try:
            document = type(full_contract()).from_json(mutation.document.to_json())
        except CohortiumError:
            continue
        accepted += 1
        assert check.is_valid(document.to_json()), mutation.pattern
    assert accepted > 50
    moved = full_contract(created_at=NOW + timedelta(hours=1))
    assert check.is_valid(moved.to_json())


def test_every_document_and_every_kind_of_entry_is_on_its_page() -> None:
    documents, ledger = documents_page(), ledger_page()
    for name in DOCUMENTS:
        assert f"| [{name}](schemas/{name}.json) |" in documents
    for entry in entries():
        heading = f"\n## {entry.fact.kind}\n"
        assert heading in ledger
        section = ledger.split(heading)[1].split("\n## ")[0]
        for field in set(type(entry.fact).model_fields) - {"kind"}:
            assert f"\n| `{field}` | " in section
