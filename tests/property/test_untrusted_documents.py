"""Parsers of received bytes: whatever comes in, only the families that callers expect come out."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.contracts import AGE, NOW, SEX, WT_LOSS, contract, entry, key, request
from tests.support.full_contract import full_contract
from tests.support.life import transition
from tests.support.secagg import World
from tests.support.slots import artefact, assignment, begun

from cohortium.contract import draft as drafts
from cohortium.contract import lifecycle
from cohortium.contract.check import unenforceable
from cohortium.contract.model import Contract, Draft, Proposal, RunRequest
from cohortium.contract.proposal import read_proposal
from cohortium.contract.render import render
from cohortium.contract.statements import Assignment, Transition, open_statement
from cohortium.core.canonical import canonical
from cohortium.core.directory import DirectoryEntry
from cohortium.core.model import Document
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.signed import Signable, pae
from cohortium.errors import (
    ConflictError,
    InputError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.secagg.round_key import RoundKey

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        [
            "sha256:" + "0" * 64,
            "ed25519:" + "A" * 43,
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "2026-11-22T09:30:00",
            "\ud800",
            "stats.*",
            10**400,
            1e308,
            -0.0,
        ]
    )
)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)

WORLD = World(["Aarhus", "Boston"])
DRAFT = begun()
TRANSITION = transition(contract(), "suspend", "Boston", at=NOW, computations=("glm",))
ASSIGNMENT = assignment(DRAFT, "train/images", "Aarhus", artefact("Aarhus"))
GOOD: dict[type[Document], dict[str, Any]] = {
    Contract: full_contract().to_json(),
    RunRequest: request(contract()).to_json(),
    RoundKey: RoundKey.open(WORLD.envelopes["Aarhus"])[0].to_json(),
    Transition: TRANSITION.to_json(),
    Draft: DRAFT.draft.to_json(),
    Assignment: ASSIGNMENT.to_json(),
    DirectoryEntry: entry("Aarhus", AGE, SEX, WT_LOSS).to_json(),
    Proposal: {
        **{
            name: value
            for name, value in contract().to_json().items()
            if name in Proposal.model_fields
        },
        "participants": [{"name": site, "dataset": "lung"} for site in WORLD.sites],
        "recipients": ["Ada"],
    },
}
SIGNED = [model for model in GOOD if issubclass(model, Signable)]
models = st.sampled_from(list(GOOD))
signed_models = st.sampled_from(SIGNED)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested JSON."""
    children: list[tuple[Any, Any]] = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [here, *(path for k, child in children for path in paths(child, (*here, k)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with the place replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


@st.composite
def nearly_good(draw: st.DrawFn, source: st.SearchStrategy[Any]) -> tuple[Any, Any]:
    """A document's model, and its JSON with one place replaced by anything."""
    model = draw(source)
    good = GOOD[model]
    return model, put(good, draw(st.sampled_from(paths(good))), draw(json_values))


def only(allowed: tuple[type[Exception], ...], act: Callable[[], object]) -> None:
    """Run `act`; any exception but the allowed ones fails the test."""
    try:
        act()
    except allowed:
        return


@settings(deadline=None)
@given(models, st.binary(max_size=300))
def test_any_bytes(model: type[Document], data: bytes) -> None:
    with pytest.raises(ProtocolError):
        model.from_bytes(data)


@settings(deadline=None)
@given(models, json_values)
def test_any_json(model: type[Document], value: Any) -> None:
    only((ProtocolError,), lambda: model.from_json(value))
    only((ProtocolError,), lambda: model.from_bytes(json.dumps(value).encode()))


@settings(deadline=None, max_examples=500)
@given(nearly_good(models))
def test_a_document_with_one_place_changed(case: tuple[type[Document], Any]) -> None:
    model, value = case
    only((ProtocolError,), lambda: model.from_bytes(json.dumps(value).encode()))


@settings(deadline=None, max_examples=500)
@given(nearly_good(signed_models))
def test_a_well_signed_document_with_one_place_changed(case: tuple[type[Signable], Any]) -> None:
    """What opens is canonical: its digest is that of the signed bytes."""
    model, value = case
    signer = key("Ada")
    for payload in (json.dumps(value).encode(), _canonical_or_json(value)):
        envelope = _envelope(model.payload_type, payload, signer)
        try:
            document, _ = model.open(envelope)
        except (ProtocolError, VerificationError):
            continue
        assert document.to_bytes() == payload
        if isinstance(document, Contract):
            assert document.digest in render(document)
            assert set(document.signatories) <= set(document.parties)
            unenforceable(document)


def _canonical_or_json(value: Any) -> bytes:
    try:
        return canonical(value)
    except InputError:
        return json.dumps(value).encode()


def _envelope(payload_type: str, payload: bytes, signer: SigningKey) -> bytes:
    signature = signer.sign(pae(payload_type, payload))
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": signer.public, "sig": base64.b64encode(signature).decode()}],
        }
    )


@settings(deadline=None, max_examples=300)
@given(signed_models, st.integers(0), st.integers(1, 255))
def test_a_signed_envelope_with_one_byte_changed(
    model: type[Signable], place: int, change: int
) -> None:
    signer = key("Ada")
    envelope = bytearray(model.from_json(GOOD[model]).sign(signer))
    envelope[place % len(envelope)] ^= change
    with pytest.raises((ProtocolError, VerificationError)):
        model.open(bytes(envelope), key=signer.public)


@settings(deadline=None, max_examples=300)
@given(nearly_good(signed_models), st.sampled_from(["Ada", "Boston", "Aarhus", "Eve"]))
def test_a_life_hears_anything_that_is_well_signed(
    case: tuple[type[Signable], Any], signer: str
) -> None:
    """A statement is accepted, or refused in a family that callers expect."""
    model, value = case
    envelope = _envelope(model.payload_type, _canonical_or_json(value), key(signer))
    made = contract()
    life = lifecycle.replay([(made.sign(key("Ada")), NOW), (made.sign(key("Aarhus")), NOW)])
    refusals = (ProtocolError, VerificationError, PolicyRefusal, ConflictError, InputError)
    only(refusals, lambda: lifecycle.hear(life, envelope, NOW))
    only(refusals, lambda: lifecycle.hear(None, envelope, NOW))
    begin = DRAFT.draft.sign(key("Ada"))
    only(refusals, lambda: drafts.replay([(begin, NOW), (envelope, NOW)]))
    only(refusals, lambda: drafts.replay([(envelope, NOW)]).assemble())


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_a_statement_of_any_bytes(data: bytes) -> None:
    only((ProtocolError, VerificationError), lambda: open_statement(data))


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=100) | st.sampled_from(list(WORLD.envelopes.values())), max_size=4)
)
def test_a_roster_of_anything(envelopes: list[bytes]) -> None:
    only((ProtocolError, VerificationError, PolicyRefusal), lambda: WORLD.roster(envelopes))


@settings(deadline=None)
@given(st.text(max_size=200) | st.text("[]{}:-,&*!|>#'\"% \n\tab01", max_size=60))
def test_a_study_file_of_any_text(text: str) -> None:
    with pytest.raises(InputError):
        read_proposal(text)


@settings(deadline=None, max_examples=300)
@given(nearly_good(st.just(Proposal)))
def test_a_study_file_with_one_place_changed(case: tuple[Any, Any]) -> None:
    _, value = case
    only((InputError,), lambda: read_proposal(json.dumps(value)))
