from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.contracts import ADA, AGE, NOW, SEX, contract, key, request
from tests.support.slots import CODE, VENDOR, artefact, draft, filled, task, task_contract

from cohortium.contract.model import Contract, RunRequest
from cohortium.core.canonical import canonical
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.signed import pae
from cohortium.errors import CohortiumError


def test_a_contract_survives_signing_and_opening() -> None:
    signed = contract()
    opened, signer = Contract.open(signed.sign(key("Aarhus")), key=key("Aarhus").public)
    assert opened == signed
    assert opened.digest == signed.digest
    assert signer == key("Aarhus").public


def test_the_digest_is_the_same_for_the_same_meaning() -> None:
    tokyo = timezone(timedelta(hours=9))
    moved = contract(
        expires_at=(NOW + timedelta(days=365)).astimezone(tokyo), created_at=NOW.astimezone(tokyo)
    )
    assert moved.digest == contract().digest
    assert contract(created_at=NOW.replace(microsecond=999_999)).digest == contract().digest
    limits = {"name": "glm", "limits": {"alpha": (1.0, 0.1, 1e21)}}
    floats = contract(computations=(limits,))
    assert Contract.from_bytes(floats.to_bytes()).digest == floats.digest
    assert b'"alpha":[1,0.1,1e+21]' in floats.to_bytes()
    assert b'"expires_at":"2027-11-22T09:30:00Z"' in floats.to_bytes()


def test_every_field_is_in_the_digest() -> None:
    changed = [
        contract(study="lung-2"),
        contract(title="Other"),
        contract(min_sites=2, disclosure={"min_cell": 10}),
        contract(disclosure={"floor": "total"}),
        contract(security_level="L2"),
        contract(expires_at=NOW + timedelta(days=1)),
        contract(created_at=NOW - timedelta(days=1)),
        contract(consortium="sha256:" + "1" * 64),
        contract(proposed_by={"name": "Eve", "key": key("Eve").public}),
        contract(recipients=({"name": "Eve", "key": key("Eve").public},)),
        contract(computations=({"name": "stats.*", "max_runs": 1},)),
        contract(variables=(AGE, SEX, {"name": "wt_loss", "type": "real"})),
        contract(version=2, amends="sha256:" + "1" * 64),
        contract(version=2, amends="sha256:" + "2" * 64),
        contract(contacts=({"name": "Bo", "role": "DPO", "email": "bo@x.example"},)),
        contract(cohort={"include": ("age > 18",)}),
        contract(cohort={"include": ("age > 18",), "adjustable": ("age",)}),
        contract(derived=({"name": "old", "expression": "age > 70"},)),
        contract(environment={"executor": "bubblewrap"}),
        contract(environment={"allow_simulated": True}),
        contract(environment={"measurements": ({"kind": "mrtd", "value": "0" * 96},)}),
        contract(aggregation="enclave"),
        contract(computations=({"name": "stats.*", "versions": {"stats.describe": 2}},)),
        contract(computations=({"name": "stats.*", "recipients": ("Ada",)},)),
        task_contract(),
        task_contract(tasks=()),
    ]
    assert len({contract().digest, *(one.digest for one in changed)}) == len(changed) + 1


@pytest.mark.parametrize(
    "change",
    [
        {"min_sites": 3},
        {"min_sites": 1},
        {"expires_at": NOW},
        {"variables": (AGE, SEX, {"name": "AGE", "type": "real"})},
        {"variables": (AGE, SEX)},
        {"variables": ({"name": "note", "type": "text"},)},
        {"computations": ({"name": "glm", "variables": ("zip",)},)},
        {"computations": ({"name": "glm"}, {"name": "glm", "max_runs": 3})},
        {"recipients": (ADA, {"name": "Ada again", "key": ADA.key})},
        {"recipients": ()},
        {"expires_at": datetime(2027, 1, 1)},  # noqa: DTZ001 - without a zone on purpose
        {"extra": 1},
        {"version": 2},
        {"version": 0},
        {"amends": "sha256:" + "1" * 64},
        {"derived": ({"name": "age", "expression": "1"},)},
        {"cohort": {"adjustable": ("zip",)}},
        {"computations": ({"name": "glm", "recipients": ("Bob",)},)},
        {"computations": ({"name": "glm", "versions": {"stats.describe": 1}},)},
        {"computations": ({"name": "own", "code": CODE, "versions": {"own": 1}},)},
        {"computations": ({"name": "own", "code": CODE},)},
        {"tasks": (filled(task(), images=artefact("Aarhus")),)},
        {"tasks": (task(inputs=()), task(inputs=())), "owners": (VENDOR,)},
        {"owners": ({"name": "Ada", "key": key("Eve").public},)},
        {"owners": ({"name": "Eve", "key": ADA.key},)},
        {"owners": ({"name": "Boston", "key": key("Eve").public},)},
        {"proposed_by": {"name": "Ada", "key": key("Eve").public}},
        {"contacts": ({"name": "Bo", "role": "DPO", "email": "nobody"},)},
        {"environment": {"measurements": ({"kind": "mrtd", "value": "zz"},)}},
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        contract(**change)


def test_participants_are_distinct_and_give_study_variables() -> None:
    one, two = contract().participants
    for wrong in (
        two.model_copy(update={"name": one.name}),
        two.model_copy(update={"key": one.key}),
        two.model_copy(update={"variables": ("age", "zip")}),
        two.model_copy(update={"variables": ("age",), "sources": {"sex": "geschlecht"}}),
    ):
        with pytest.raises(ValidationError):
            contract(participants=(one, wrong))


def test_an_exact_entry_comes_before_a_family_and_a_narrow_family_before_a_wide_one() -> None:
    signed = contract(
        computations=(
            {"name": "stats.*", "max_runs": 1},
            {"name": "stats.test.*", "max_runs": 2},
            {"name": "stats.test.logrank", "max_runs": 3},
        )
    )
    found = [
        entry.max_runs if (entry := signed.computation(name)) else None
        for name in ("stats.describe", "stats.test.t", "stats.test.logrank", "glm", "stats")
    ]
    assert found == [1, 2, 3, None, None]
    assert signed.scope_variables("glm") == {}


def test_everybody_who_is_named_is_a_party_and_who_gives_or_owns_signs() -> None:
    made = task_contract()
    assert made.parties == {
        name: key(name).public for name in ("Aarhus", "Boston", "Ada", "Cleo", "Vendor")
    }
    assert made.signatories == made.parties
    without = task_contract(tasks=())
    assert set(without.signatories) == {"Aarhus", "Boston"}
    assert without.parties == made.parties


def test_a_computation_may_be_for_some_recipients() -> None:
    bob = {"name": "Bob", "key": key("Bob").public}
    made = contract(recipients=(ADA, bob), computations=({"name": "glm", "recipients": ("Bob",)},))
    assert made.recipient(ADA.key) == ADA
    assert made.recipient(ADA.key, "glm") is None
    assert made.recipient(key("Bob").public, "glm") is not None
    assert made.recipient(ADA.key, "stats.describe") == ADA
    assert made.recipient(key("Eve").public, "glm") is None


def test_a_draft_is_no_contract() -> None:
    made = draft()
    assert made.to_json()["participants"][0]["dataset"] == "lung"
    assert "dataset" not in made.to_json()["participants"][1]
    fields = made.to_json() | {"schema_id": "cohortium/contract/2"}
    with pytest.raises(CohortiumError):
        Contract.from_json(fields)
    with pytest.raises(CohortiumError):
        Contract.open(made.sign(key("Ada")))


def test_a_contract_of_the_first_schema_is_not_read() -> None:
    with pytest.raises(CohortiumError) as caught:
        Contract.from_json(contract().to_json() | {"schema_id": "cohortium/contract/1"})
    assert caught.value.code == "malformed-message"


@pytest.mark.parametrize(
    "text",
    [
        b'{"params":{"x":1e999}}',
        b'{"params":{"x":36893488147419103232}}',
        b'{"params":{"x":"\\ud800"}}',
    ],
)
def test_parameters_without_a_canonical_form_cannot_be_signed_for(text: bytes) -> None:
    """JSON that parses but has no RFC 8785 form must not escape as another kind of error."""
    good = canonical(request(contract()).to_json())
    start = good.index(b'"params":')
    end = good.index(b',"researcher"')
    payload = good[:start] + text[1:-1] + good[end:]
    with pytest.raises(CohortiumError) as caught:
        RunRequest.open(dsse(payload, key("Ada")))
    assert caught.value.code in {"malformed-message", "bad-digest"}


def test_a_payload_that_is_not_canonical_is_refused() -> None:
    payload = canonical(request(contract()).to_json()).replace(b":", b": ", 1)
    with pytest.raises(CohortiumError) as caught:
        RunRequest.open(dsse(payload, key("Ada")))
    assert caught.value.code == "bad-digest"


def test_a_time_at_the_end_of_the_calendar_is_malformed_not_a_crash() -> None:
    value = contract().to_json() | {"expires_at": "9999-12-31T23:59:59-10:00"}
    with pytest.raises(CohortiumError) as caught:
        Contract.from_json(value)
    assert caught.value.code == "malformed-message"
    assert contract(expires_at=datetime(9999, 12, 31, tzinfo=UTC)).to_bytes()


def dsse(payload: bytes, signer: SigningKey) -> bytes:
    """An envelope with a good signature over any bytes as a run request."""
    signature = signer.sign(pae(RunRequest.payload_type, payload))
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": RunRequest.payload_type,
            "signatures": [{"keyid": signer.public, "sig": base64.b64encode(signature).decode()}],
        }
    )
