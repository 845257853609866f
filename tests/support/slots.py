"""A study with a task: Aarhus and Cleo give data to the vendor's private code, Ada proposes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.support.contracts import ADA, NOW, contract, key

from cohortium.contract import draft as drafts
from cohortium.contract.draft import DraftLife
from cohortium.contract.model import Contract, Draft, Researcher, Seat
from cohortium.contract.statements import Assignment
from cohortium.contract.task import Artefact, Code, Task, code_digest
from cohortium.core.canonical import digest

CLEO = Researcher(name="Cleo", key=key("Cleo").public)
VENDOR = Researcher(name="Vendor", key=key("Vendor").public)
CODE = Code(
    name="trainer",
    content_digest=code_digest({"main.py": b"print()", "lib/net.py": b""}),
    owner="Vendor",
)


def artefact(*owners: str, **changes: Any) -> Artefact:
    """A finished dataset of these owners."""
    fields: dict[str, Any] = {
        "name": "scans",
        "content_digest": digest(["scans", *owners]),
        "owners": owners,
        "dictionary_digest": digest("dictionary of scans"),
    }
    return Artefact(**(fields | changes))


def task(**changes: Any) -> Task:
    """Training on images of Aarhus, perhaps from a start model of Cleo; the model is Ada's."""
    fields: dict[str, Any] = {
        "name": "train",
        "code": CODE,
        "arguments": (
            {"name": "epochs", "value": 10},
            {"name": "rate"},
            {"name": "seed", "required": False},
        ),
        "inputs": (
            {"name": "images", "kind": "dataset", "owners": ("Aarhus",)},
            {"name": "start", "kind": "model", "owners": ("Cleo",), "required": False},
        ),
        "outputs": ({"name": "model", "owners": ("Ada",), "recipients": ("Ada",)},),
    }
    return Task.model_validate(fields | changes)


def filled(made: Task, **artefacts: Artefact) -> Task:
    """A task with artefacts in its inputs."""
    inputs = tuple(
        {**slot.to_json(), **({"artefact": artefacts[slot.name]} if slot.name in artefacts else {})}
        for slot in made.inputs
    )
    return Task.model_validate({**made.to_json(), "inputs": inputs})


def task_contract(*tasks: Task, **changes: Any) -> Contract:
    """A contract with tasks; by default one, filled."""
    made = tasks or (filled(task(), images=artefact("Aarhus")),)
    return contract(**{"tasks": made, "owners": (CLEO, VENDOR), **changes})


def draft(*tasks: Task, **changes: Any) -> Draft:
    """A draft in which Boston has not said which dataset it gives, and a task has free inputs."""
    fields = contract().to_json()
    aarhus, boston = contract().participants
    seat = Seat(name=boston.name, key=boston.key, variables=boston.variables)
    fields |= {
        "schema_id": "cohortium/draft/1",
        "participants": (aarhus, seat),
        "owners": (CLEO, VENDOR),
        "tasks": tasks or (task(),),
    }
    return Draft.model_validate(fields | changes)


def begun(made: Draft | None = None) -> DraftLife:
    """The life of a draft, before anything is assigned."""
    return drafts.begin(made or draft(), ADA.key, NOW)


def assignment(
    life: DraftLife, slot: str, author: str, what: Artefact, **changes: Any
) -> Assignment:
    """What `author` says fills a slot."""
    fields: dict[str, Any] = {
        "study": life.draft.study,
        "draft_digest": life.digest,
        "slot": slot,
        "artefact": what,
        "author": author,
        "at": NOW,
    }
    return Assignment(**(fields | changes))


def assign(
    life: DraftLife,
    slot: str,
    author: str,
    what: Artefact,
    *,
    signer: str | None = None,
    known: dict[str, frozenset[str]] | None = None,
    now: datetime = NOW,
) -> DraftLife:
    """The life with an assignment, signed by its author unless somebody else is named."""
    said = assignment(life, slot, author, what)
    return life.assign(said, key(signer or author).public, now, known or {})
