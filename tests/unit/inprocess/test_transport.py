"""The in-process transport streams, passes errors on and leaves no thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest

from cohortium.inprocess.transport import AsgiTransport, LoopThread


async def _application(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    if scope["path"] == "/fails":
        raise RuntimeError("on purpose")
    if scope["path"] == "/silent":
        return
    headers = [(b"x-query", scope["query_string"])]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await receive()
    await send({"type": "http.response.body", "body": body, "more_body": False})


def test_request_and_response() -> None:
    with LoopThread("test") as thread:
        with httpx.Client(transport=AsgiTransport(_application, thread)) as http:
            answer = http.post("http://hub/echo?a=1", content=b"hello")
        assert (answer.content, answer.headers["x-query"]) == (b"hello", "a=1")


def test_a_stream_is_seen_before_it_ends_and_can_be_left() -> None:
    with (
        LoopThread("test") as thread,
        httpx.Client(transport=AsgiTransport(_application, thread)) as http,
        http.stream("GET", "http://hub/stream") as response,
    ):
        assert next(response.iter_bytes()) == b"first"


@pytest.mark.parametrize(
    ("path", "error"), [("/fails", RuntimeError), ("/silent", httpx.RemoteProtocolError)]
)
def test_an_application_that_fails_does_not_hang(path: str, error: type[Exception]) -> None:
    with (
        LoopThread("test") as thread,
        httpx.Client(transport=AsgiTransport(_application, thread)) as http,
        pytest.raises(error),
    ):
        http.get("http://hub" + path)


def test_closing_cancels_what_is_under_way_and_ends_the_thread() -> None:
    before = threading.active_count()
    thread = LoopThread("test")
    sleeping = thread.start(asyncio.sleep(60))
    thread.run(asyncio.to_thread(lambda: None))
    thread.close()
    thread.close()
    assert sleeping.cancelled()
    assert threading.active_count() == before
