"""A researcher's connection to the hub's REST interface: pinned TLS, a signed token a request."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from cohortium.core.canonical import parse_json
from cohortium.core.clock import Clock, system_clock
from cohortium.core.rest import API, ConsortiumInfo
from cohortium.crypto.authority import pinned_certificate
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.token import make_token
from cohortium.errors import CohortiumError, PeerError, ProtocolError, VerificationError

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class ServerEvent:
    """One server-sent event."""

    kind: str
    data: Any
    number: int | None


def pinned_http(url: str, ca_pem: str, fingerprint: str) -> httpx.Client:
    """An HTTP client that accepts only servers of the consortium's own CA.

    Raises:
        VerificationError: ``bad-certificate`` when `ca_pem` is not the CA of `fingerprint`.
    """
    context = ssl.create_default_context(cadata=pinned_certificate(ca_pem, fingerprint))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return httpx.Client(base_url=url.rstrip("/") + API, verify=context, timeout=_timeout())


def _timeout() -> httpx.Timeout:
    return httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)


def fetch_consortium(url: str, fingerprint: str) -> ConsortiumInfo:
    """Ask a hub for its CA certificate, which the fingerprint of an invitation then vouches for."""
    # The first contact has no CA yet; what arrives counts only when its digest is the expected one.
    with httpx.Client(base_url=url.rstrip("/") + API, verify=False, timeout=_timeout()) as http:  # noqa: S501
        with _transport_errors(url):
            response = http.get("/consortium")
        info = ConsortiumInfo.from_json(_checked(response))
    return info.model_copy(update={"ca_pem": pinned_certificate(info.ca_pem, fingerprint)})


class Client:
    """Requests in one researcher's name.

    Args:
        http: Its base URL ends in ``/api/v1``; the client closes it.
        key: Signs an access token for each request.
        fingerprint: The consortium that the tokens are for.
        ledger_key: The verifier key of its ledger, where it is known.
        vault_file: The researcher's vault key, which opens outputs of tasks.
    """

    def __init__(
        self,
        http: httpx.Client,
        *,
        key: SigningKey,
        fingerprint: str,
        ledger_key: str | None = None,
        vault_file: Path | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._http = http
        self.vault_file = vault_file
        self._key = key
        self._clock = clock
        self._ledger_key = ledger_key
        self.fingerprint = fingerprint

    @property
    def key(self) -> SigningKey:
        """The researcher's key."""
        return self._key

    @property
    def clock(self) -> Clock:
        """The time that requests are dated with."""
        return self._clock

    @property
    def url(self) -> str:
        """Where the hub is."""
        return str(self._http.base_url).rstrip("/").removesuffix(API)

    @property
    def ledger_key(self) -> str | None:
        """The verifier key of the consortium's ledger: as pinned, else as the hub says it once."""
        if self._ledger_key is None:
            self._ledger_key = ConsortiumInfo.from_json(self.get("/consortium")).ledger_key
        return self._ledger_key

    def get(self, path: str, **query: str | int) -> Any:
        """GET JSON; asked once more where a kept connection had gone stale."""
        try:
            return self._send(self._request("GET", path, query=query))
        except PeerError as error:
            if error.code != "link-lost":
                raise
            return self._send(self._request("GET", path, query=query))

    def post(self, path: str, body: bytes | Mapping[str, Any] = b"") -> Any:
        """POST an envelope's bytes or JSON values."""
        content = body if isinstance(body, bytes) else json.dumps(dict(body)).encode()
        return self._send(self._request("POST", path, content=content))

    def put(self, path: str, body: bytes) -> Any:
        """PUT bytes: a program, an envelope."""
        return self._send(self._request("PUT", path, content=body))

    def download(self, path: str, /, **query: str | int) -> Iterator[bytes]:
        """GET bytes, as they come."""
        self._require_open()
        request = self._request("GET", path, query=query)
        with _transport_errors(self.url):
            response = self._http.send(request, stream=True)
            try:
                if response.is_error:
                    response.read()
                    _checked(response)
                yield from response.iter_bytes()
            finally:
                response.close()

    def events(self, path: str, **query: str | int) -> Iterator[ServerEvent]:
        """Server-sent events until the hub ends the stream."""
        self._require_open()
        request = self._request("GET", path, query=query)
        with _transport_errors(self.url):
            response = self._http.send(request, stream=True)
            try:
                if response.is_error:
                    response.read()
                    _checked(response)
                yield from _parse_events(response.iter_lines())
            finally:
                response.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        content: bytes = b"",
    ) -> httpx.Request:
        request = self._http.build_request(
            method, path, params=dict(query) if query else None, content=content
        )
        token = make_token(
            self._key,
            audience=self.fingerprint,
            method=method,
            path=request.url.raw_path.decode("ascii"),
            body=content,
            now=self._clock(),
        )
        request.headers["authorization"] = f"Bearer {token}"
        if content:
            request.headers["content-type"] = "application/json"
        return request

    def _send(self, request: httpx.Request) -> Any:
        self._require_open()
        with _transport_errors(self.url):
            response = self._http.send(request)
        return _checked(response)

    def _require_open(self) -> None:
        if self._http.is_closed:
            raise PeerError("peer-unreachable", "This federation was closed; connect again.")


def _checked(response: httpx.Response) -> Any:
    """The JSON of an answer; an error answer is raised as the family that the hub raised."""
    if response.is_error:
        try:
            body = parse_json(response.content)
        except ProtocolError:
            body = None
        wire = body.get("error") if isinstance(body, dict) else None
        if isinstance(wire, dict):
            raise CohortiumError.from_wire(wire)
        raise PeerError(
            "peer-failed",
            f"The hub answered with HTTP {response.status_code}; its log has the reason.",
            http_status=response.status_code,
        )
    return parse_json(response.content)


@contextmanager
def _transport_errors(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        raise PeerError(
            "peer-timeout", f"The hub at {url} did not answer in time; try again.", url=url
        ) from error
    except httpx.ConnectError as error:
        if _certificate_fault(error):
            raise VerificationError(
                "bad-certificate",
                f"The server at {url} is not the hub of your consortium (its certificate is not "
                "signed by the consortium's CA). Check the address with the hub's operator.",
                url=url,
            ) from error
        raise PeerError(
            "peer-unreachable",
            f"The hub at {url} cannot be reached. Check the address, your network or proxy, and "
            "that the hub is running (cohortium hub serve).",
            url=url,
        ) from error
    except httpx.TransportError as error:
        raise PeerError(
            "link-lost", f"The connection to the hub at {url} broke; try again.", url=url
        ) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise PeerError("peer-unreachable", f"{url!r} is not the address of a hub.") from error


def _certificate_fault(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _parse_events(lines: Iterator[str]) -> Iterator[ServerEvent]:
    """WHATWG HTML 9.2.6, as far as the hub uses it."""
    kind, data, number = "message", list[str](), None
    for line in lines:
        if not line:
            if data:
                yield ServerEvent(kind, parse_json("\n".join(data).encode()), number)
            kind, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id" and value.isdigit():
            number = int(value)
