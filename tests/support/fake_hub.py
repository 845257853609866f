"""A hub's REST interface made of a table of answers, for tests of the SDK alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from cohortium.core.rest import API
from cohortium.crypto.keys import SigningKey
from cohortium.crypto.token import verify_token
from cohortium.errors import CohortiumError
from cohortium.sdk.client import Client

FINGERPRINT = "sha256:" + "a" * 64
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = SigningKey.from_seed(b"\x01" * 32)

Answer = Any | Callable[[httpx.Request], Any]


class FakeHub:
    """Answers ``METHOD /path`` from `answers`; checks each request's token as a hub does."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []

    def client(self) -> Client:
        """A client of this hub."""
        http = httpx.Client(
            base_url="https://hub.example:8443" + API, transport=httpx.MockTransport(self._answer)
        )
        return Client(http, key=KEY, fingerprint=FINGERPRINT, clock=lambda: NOW)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        token = verify_token(
            request.headers["authorization"].removeprefix("Bearer "),
            audience=FINGERPRINT,
            method=request.method,
            path=request.url.raw_path.decode(),
            body=request.content,
            now=NOW,
        )
        assert token.key == KEY.public
        self.requests.append(request)
        answer = self.answers[f"{request.method} {request.url.path.removeprefix(API)}"]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception) and not isinstance(answer, CohortiumError):
            raise answer
        if isinstance(answer, CohortiumError):
            return httpx.Response(answer.http_status, json={"error": answer.to_wire()})
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)


def events(*items: tuple[str, Any]) -> httpx.Response:
    """A stream of server-sent events."""
    text = "".join(
        f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
        for number, (kind, data) in enumerate(items, start=1)
    )
    return httpx.Response(
        200, headers={"content-type": "text/event-stream"}, content=": hello\n\n" + text
    )
