"""Whatever a bundle holds, both verifiers refuse it or find it in order; neither crashes."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.docs.test_verify_bundle import SHORT, failing_step
from tests.support.audit import Honest, honest, key, make_contract
from tests.support.audit_faults import released
from tests.support.audit_tasks import TaskStory

from cohortium.audit.steps import STEPS
from cohortium.audit.verify import verify
from cohortium.core.canonical import canonical, digest_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.signed import pae
from cohortium.errors import CohortiumError, InputError, ProtocolError, VerificationError
from cohortium.ledger.entry import ContractChanged, RunDecided, RunSubmitted

odd: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1, 2**53, 2**63, 1.5, 1e300, "", "x", "\x00", "\ud800", [], {}),
        *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "sha256:" + "0" * 64),
        *("ed25519:" + "A" * 43, "stats.*", "glm", "\u2014 x AAAA\n", "A" * 3_000),
        *([[[[]]]], {"kind": "member"}, ["Aarhus", "Aarhus"], "dated", "1" * 400),
    ]
)


@cache
def _honest() -> Honest:
    return honest()


@cache
def _sealed(coverage: str) -> bytes:
    return canonical(_honest().story.seal(coverage))


def spoil(value: Any, path: list[int], new: Any) -> Any:
    """The value with one place in it replaced, or left out where `new` is "left out"."""
    if isinstance(value, dict) and value and path:
        name = sorted(value)[path[0] % len(value)]
        rest = {other: inner for other, inner in value.items() if other != name}
        return rest if new == "left out" else {**rest, name: spoil(value[name], path[1:], new)}
    if isinstance(value, list) and value and path:
        at = path[0] % len(value)
        if new == "left out":
            return value[:at] + value[at + 1 :]
        return [*value[:at], spoil(value[at], path[1:], new), *value[at + 1 :]]
    return new


def outcome(data: bytes) -> str | None:
    """The failing step; what is raised besides the two families is a failure of the test."""
    try:
        verify(data, results=released(_honest()))
    except (VerificationError, ProtocolError) as error:
        return STEPS[error.details["step"]].name
    return None


def attempt(make: Callable[[], bytes]) -> None:
    """Both verifiers on what may have no canonical form at all."""
    try:
        data = make()
    except InputError:
        return
    if outcome(data) is None:
        assert failing_step(data, {}) is None
    else:
        failing_step(data, {})


@given(st.binary(max_size=200) | st.just(b"[" * 100_000) | st.just(b'{"a":' * 50_000))
def test_bytes_that_are_no_bundle(data: bytes) -> None:
    assert outcome(data) == "format"
    assert failing_step(data, {}) == "format"


paths = st.lists(st.integers(0, 60), min_size=1, max_size=5)


@settings(deadline=None, max_examples=150)
@given(paths, odd | st.just("left out"), st.sampled_from(["study", "log"]))
def test_one_place_of_the_file_replaced(path: list[int], new: Any, coverage: str) -> None:
    attempt(lambda: canonical(spoil(json.loads(_sealed(coverage)), path, new)))


@settings(deadline=None, max_examples=60)
@given(st.integers(0), st.integers(1, 255), st.sampled_from(["study", "log"]))
def test_one_bit_or_more_of_the_file_turned(place: int, mask: int, coverage: str) -> None:
    data = bytearray(_sealed(coverage))
    data[place % len(data)] ^= mask
    attempt(lambda: bytes(data))  # in the line of a witness that is not needed it does no harm


def enveloped(document: Any, payload_type: str, signer: SigningKey) -> bytes:
    """A signed envelope over any JSON value."""
    payload = canonical(document)
    signature = signer.sign(pae(payload_type, payload))
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [
                {"keyid": signer.public, "sig": base64.b64encode(signature).decode()},
            ],
        }
    )


def _spoiled_document(path: list[int], new: Any, kind: str, number: int) -> bytes:
    """A bundle that hub and witnesses sealed over a document with one place replaced."""
    h = copy.deepcopy(_honest())
    classes: dict[str, Any] = {
        "contract": ContractChanged,
        "request": RunSubmitted,
        "round key": RunDecided,
    }
    places = h.story.places(classes[kind])
    at = places[number % len(places)]
    fact = h.story.log[at][1]
    if kind == "round key":
        site = sorted(fact.sites)[number % len(fact.sites)]
        named = fact.sites[site].statement
        if named is None:
            return _sealed("study")
    else:
        named = fact.statement if kind == "contract" else fact.request
    envelope = json.loads(h.story.statements[named])
    signer = next(
        one for one in map(key, _NAMES) if one.public == envelope["signatures"][0]["keyid"]
    )
    document = spoil(json.loads(base64.b64decode(envelope["payload"])), path, new)
    made = enveloped(document, envelope["payloadType"], signer)
    named = h.story.keep(made)
    changes: dict[str, Any] = {"statement": named} if kind == "contract" else {"request": named}
    if kind == "contract" and envelope["payloadType"].endswith("contract+json"):
        changes["contract"] = digest_bytes(canonical(document))
    if kind == "round key":
        decision = fact.sites[site].model_copy(update={"statement": named})
        changes = {"sites": {**fact.sites, site: decision}}
    h.story.alter(at, **changes)
    return canonical(h.story.seal())


_NAMES = ("Aarhus", "Boston", "Cairo", "Delhi", "Ada", "Bob")


@settings(deadline=None, max_examples=80)
@given(
    paths, odd | st.just("left out"), st.sampled_from(["contract", "request", "round key"]),
    st.integers(0, 30),
)  # fmt: skip
def test_one_place_of_a_signed_document_replaced(
    path: list[int], new: Any, kind: str, number: int
) -> None:
    attempt(lambda: _spoiled_document(path, new, kind, number))


def _spoiled_fact(path: list[int], new: Any, number: int) -> bytes:
    """A bundle that hub and witnesses sealed over an entry with one place replaced."""
    story = copy.deepcopy(_honest()).story
    at = number % len(story.log)
    when, fact = story.log[at]
    values = spoil(fact.to_json(), path, new)
    try:
        story.log[at] = (when, type(fact).from_json(values))
    except CohortiumError:
        return _sealed("study")
    return canonical(story.seal())


@settings(deadline=None, max_examples=60)
@given(paths, odd | st.just("left out"), st.integers(0, 60))
def test_one_place_of_an_entry_replaced(path: list[int], new: Any, number: int) -> None:
    attempt(lambda: _spoiled_fact(path, new, number))


params = st.dictionaries(
    st.sampled_from(["variables", "by", "quantiles", "formula", "family", "x"]),
    odd | st.lists(odd, max_size=3) | st.sampled_from([["age"], "died ~ age", "binomial", [0.5]]),
    max_size=4,
)


@settings(deadline=None, max_examples=60)
@given(params, st.sampled_from(["glm", "stats.describe"]))
def test_a_run_with_any_parameters(values: dict[str, Any], computation: str) -> None:
    h = honest(closed=False)
    try:
        request = h.story.order(h.second, 9, computation, values)
        h.story.submit(request)
    except CohortiumError:
        return
    attempt(lambda: canonical(h.story.seal()))


def test_the_helper_reaches_the_inside_of_documents() -> None:
    assert spoil({"a": [1, {"b": 2}]}, [0, 1, 0], 3) == {"a": [1, {"b": 3}]}
    assert spoil({"a": [1, 2]}, [0, 0], "left out") == {}
    assert make_contract().digest != make_contract(min_sites=3).digest
    assert SHORT.HOSTILE


class Spoiling(TaskStory):
    """A story in which one kind of document has one place replaced, and is signed like that."""

    def __init__(self, kind: str, path: list[int], new: Any) -> None:
        super().__init__()
        self._spoil = (kind, path, new)

    def said(self, envelope: bytes) -> bytes:
        """See `TaskStory`."""
        kind, path, new = self._spoil
        held = json.loads(envelope)
        if kind not in held["payloadType"]:
            return envelope
        document = spoil(json.loads(base64.b64decode(held["payload"])), path, new)
        names = ("Kiel", "Aarhus", "Boston")
        by = next(key(n) for n in names if key(n).public == held["signatures"][0]["keyid"])
        return enveloped(document, held["payloadType"], by)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["enclave-offer", "key-release", "task-outcome"]),
    st.lists(st.integers(0, 60), min_size=1, max_size=3),
    odd | st.just("left out"),
)
def test_one_place_of_a_tasks_document_replaced_and_signed(
    kind: str, path: list[int], new: Any
) -> None:
    story = Spoiling(kind, path, new)
    try:
        story.trained(story.begin())
        data = canonical(story.seal())
    except InputError:  # it has no canonical form
        return
    outcome(data)
