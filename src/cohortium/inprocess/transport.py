"""REST without a network: an ASGI application in another thread's event loop, for httpx."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from concurrent.futures import CancelledError, Future
from typing import Any, Self, TypeVar

import httpx

T = TypeVar("T")
AsgiMessage = MutableMapping[str, Any]
AsgiApp = Callable[
    [AsgiMessage, Callable[[], Awaitable[AsgiMessage]], Callable[[AsgiMessage], Awaitable[None]]],
    Awaitable[None],
]


class LoopThread:
    """An event loop in a daemon thread of its own."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for it."""
        return self.start(work).result()

    def close(self) -> None:
        """Cancel what is under way, end the loop and its threads."""
        if self.loop.is_closed():
            return
        self.run(self._wind_up())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _wind_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsgiTransport(httpx.BaseTransport):
    """Requests to `app`; a response's body streams while the application still writes it.

    httpx's own ASGI transport gathers the whole body first: no progress would be seen.
    """

    def __init__(self, app: AsgiApp, thread: LoopThread) -> None:
        self._app = app
        self._thread = thread

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport`."""
        exchange = _Exchange(request.read())
        exchange.future = self._thread.start(exchange.serve(self._app, _scope(request)))
        start = exchange.next_message()
        if start is None:
            raise httpx.RemoteProtocolError("the application ended without an answer")
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)


class _Exchange(httpx.SyncByteStream):
    """One request and the messages of its response; None ends them."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._messages: queue.SimpleQueue[AsgiMessage | None] = queue.SimpleQueue()
        self._gone = asyncio.Event()
        self.future: Future[None] | None = None

    async def serve(self, app: AsgiApp, scope: AsgiMessage) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._messages.put(None)

    async def _receive(self) -> AsgiMessage:
        if self._body is None:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: AsgiMessage) -> None:
        self._messages.put(message)

    def next_message(self) -> AsgiMessage | None:
        """The next message of the application; its exception is raised here."""
        message = self._messages.get()
        if message is None and self.future is not None:
            try:
                self.future.result()
            except CancelledError as error:
                raise httpx.ReadError("the application was stopped") from error
        return message

    def __iter__(self) -> Iterator[bytes]:
        while (message := self.next_message()) is not None:
            if message["type"] == "http.response.body":
                if message.get("body"):
                    yield message["body"]
                if not message.get("more_body"):
                    return

    def close(self) -> None:
        """The caller has read enough: the application is told so and ends."""
        if self.future is not None and not self.future.done():
            self.future.cancel()


def _scope(request: httpx.Request) -> AsgiMessage:
    """ASGI 3.0 HTTP connection scope."""
    raw_path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 0),
    }
