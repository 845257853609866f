"""The wrapper of evidence (RFC 9999), in both forms, and everything that is none."""

from __future__ import annotations

import json
from typing import Any, get_args

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.enclave.attestation.cmw import RESULT_TYPE, Indicator, Record
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.verdict import EvidenceKind
from cohortium.errors import VerificationError

SGX = "application/vnd.cohortium.sgx-quote"


def malformed(run: Any, data: bytes) -> bool:
    with pytest.raises(VerificationError) as caught:
        run(data)
    return reason_of(caught.value) is Reason.MALFORMED


@pytest.mark.parametrize("kind", get_args(EvidenceKind))
def test_evidence_comes_out_as_it_went_in(kind: EvidenceKind) -> None:
    record = Record.evidence(kind, b"\x00\xff")
    assert Record.from_json(record.to_json()) == record
    assert Record.from_cbor(record.to_cbor()) == record
    assert (record.kind, record.indicator) == (kind, Indicator.EVIDENCE)


def test_the_two_forms_are_those_of_the_rfc() -> None:
    record = Record.evidence("sgx", b"\x01\x02\x03")
    assert json.loads(record.to_json()) == [SGX, "AQID", 4]
    assert cbor2.loads(record.to_cbor()) == [SGX, b"\x01\x02\x03", 4]


def test_a_verdict_is_no_evidence() -> None:
    record = Record(RESULT_TYPE, b"token")
    assert Record.from_cbor(record.to_cbor()).indicator is Indicator.ATTESTATION_RESULTS
    with pytest.raises(VerificationError) as caught:
        _ = record.kind
    assert reason_of(caught.value) is Reason.WRONG_KIND


@pytest.mark.parametrize(
    "value",
    [
        [SGX, "AQID"],
        [SGX, "AQID", 4, 4],
        [SGX, "AQID", 8],
        [SGX, "AQID", True],
        [SGX, "AQID", "4"],
        [SGX, "AQI=", 4],
        [SGX, "AQJ", 4],
        [SGX, 1, 4],
        [60000, "AQID", 4],
        ["text/plain", "AQID", 4],
        {"__cmwc_t": "x", "a": [SGX, "AQID", 4]},
        None,
    ],
)
def test_json_of_another_form_is_refused(value: Any) -> None:
    assert malformed(Record.from_json, json.dumps(value).encode())


@pytest.mark.parametrize(
    "data",
    [
        cbor2.dumps([SGX, b"x"]),
        cbor2.dumps([SGX, "x", 4]),
        cbor2.dumps([SGX, b"x", 2]),
        cbor2.dumps([SGX, b"x", True]),
        cbor2.dumps([SGX, b"x", 4]) + b"\x00",
        cbor2.dumps(cbor2.CBORTag(60000, [SGX, b"x", 4])),
        cbor2.dumps({"a": [SGX, b"x", 4]}),
        b"\x9f" + cbor2.dumps([SGX, b"x", 4])[1:] + b"\xff",
        b"\x83" + cbor2.dumps(SGX) + cbor2.dumps(b"x") + b"\x18\x04",
        b"\x81" * 2000,
    ],
)
def test_cbor_of_another_form_is_refused(data: bytes) -> None:
    assert malformed(Record.from_cbor, data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    assert malformed(Record.from_cbor, data)
    assert malformed(Record.from_json, data)
