"""The client: tokens, errors rebuilt from the wire, events, what goes wrong on the way."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from tests.support.fake_hub import NOW, FakeHub, events

from cohortium.core.canonical import digest_bytes
from cohortium.crypto.authority import Authority, pinned_certificate
from cohortium.errors import CATALOGUE, FAMILIES, CohortiumError, PeerError, VerificationError
from cohortium.sdk.client import pinned_http


def test_a_token_covers_method_path_with_query_and_body() -> None:
    hub = FakeHub({"GET /runs": [], "POST /studies": {"id": "lung"}})
    with hub.client() as client:
        assert client.get("/runs", study="lung & co") == []
        assert client.post("/studies", b"{}") == {"id": "lung"}
        assert client.post("/studies", {"a": 1}) == {"id": "lung"}
    assert hub.requests[0].url.raw_path == b"/api/v1/runs?study=lung+%26+co"
    assert hub.requests[2].content == b'{"a": 1}'


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_an_error_of_the_hub_is_raised_as_its_own_family(code: str) -> None:
    sent = FAMILIES[CATALOGUE[code].family](code, "Do this next.", site="A")
    answers: list[CohortiumError] = []

    def answer(request: httpx.Request) -> CohortiumError:
        answers.append(sent)
        return sent

    with (
        FakeHub({"GET /members": answer}).client() as client,
        pytest.raises(type(sent), match="Do this next") as caught,
    ):
        client.get("/members")
    assert (caught.value.code, caught.value.details) == (code, {"site": "A"})


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (httpx.ConnectError("refused"), "peer-unreachable"),
        (httpx.ReadTimeout("slow"), "peer-timeout"),
        (httpx.ReadError("reset"), "link-lost"),
        (httpx.RemoteProtocolError("closed"), "link-lost"),
        (httpx.Response(502, text="<html>proxy</html>"), "peer-failed"),
    ],
)
def test_what_goes_wrong_on_the_way_says_what_to_do(
    failure: Exception | httpx.Response, code: str
) -> None:
    with (
        FakeHub({"GET /members": failure}).client() as client,
        pytest.raises(PeerError) as caught,
    ):
        client.get("/members")
    assert caught.value.code == code
    assert caught.value.message.endswith((".", "again."))


def test_another_server_s_certificate_is_not_taken_for_an_unreachable_hub() -> None:
    fault = httpx.ConnectError("handshake")
    fault.__cause__ = ssl.SSLCertVerificationError("unknown CA")
    with (
        FakeHub({"GET /members": fault}).client() as client,
        pytest.raises(VerificationError) as caught,
    ):
        client.get("/members")
    assert caught.value.code == "bad-certificate"


def test_a_stale_connection_is_asked_once_more() -> None:
    faults = [httpx.ReadError("reset")]

    def answer(request: httpx.Request) -> object:
        return faults.pop() if faults else []

    with FakeHub({"GET /members": answer}).client() as client:
        assert client.get("/members") == []


def test_an_answer_that_is_not_json_is_a_protocol_error() -> None:
    with (
        FakeHub({"GET /members": httpx.Response(200, text="[1,")}).client() as client,
        pytest.raises(CohortiumError) as caught,
    ):
        client.get("/members")
    assert caught.value.code == "malformed-message"


def test_events_are_parsed_with_their_numbers() -> None:
    stream = events(("progress", {"progress": 0.5}), ("done", {"status": "succeeded"}))
    with FakeHub({"GET /runs/1/events": stream}).client() as client:
        got = list(client.events("/runs/1/events", after=0))
    assert [(e.kind, e.number) for e in got] == [("progress", 1), ("done", 2)]
    assert got[0].data == {"progress": 0.5}


def test_a_ca_with_another_fingerprint_is_refused() -> None:
    authority = Authority.create("Consortium", NOW)
    pem = authority.certificate_pem.decode()
    pinned_http("https://hub", pem, authority.fingerprint).close()
    with pytest.raises(VerificationError) as caught:
        pinned_http("https://hub", pem, digest_bytes(b"other"))
    assert caught.value.details["received"] == authority.fingerprint
    with pytest.raises(VerificationError):
        pinned_http("https://hub", "not a certificate", authority.fingerprint)


def test_no_certificate_beside_the_pinned_one_is_trusted() -> None:
    """A man in the middle sends the real CA, which is public, with its own behind it."""
    authorities = [Authority.create(f"Real {'x' * n}", datetime.now(UTC)) for n in range(3)]
    other = Authority.create("Other", datetime.now(UTC)).certificate_pem.decode()
    for real in authorities:  # the encoding's padding differs
        pem = real.certificate_pem.decode()
        assert pinned_certificate(pem + other, real.fingerprint) == pem
        with pytest.raises(VerificationError):
            pinned_certificate(other + pem, real.fingerprint)


def test_the_client_s_trust_is_the_pinned_certificate_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[ssl.SSLContext] = []
    create = ssl.create_default_context

    def remembered(**given: Any) -> ssl.SSLContext:
        made.append(create(**given))
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", remembered)
    real, other = (Authority.create(name, datetime.now(UTC)) for name in ("Real", "Other"))
    both = (real.certificate_pem + other.certificate_pem).decode()
    pinned_http("https://hub.example:8443", both, real.fingerprint).close()
    assert [len(context.get_ca_certs()) for context in made] == [1]
