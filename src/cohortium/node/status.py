"""The node's status on 127.0.0.1: whether it is connected and what it owes; nothing of the data.

Only requests that name a loopback host are answered, so that no web page in a browser on this
machine can read it under a name of its own (DNS rebinding).
"""

from __future__ import annotations

from asyncio import to_thread
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cohortium.crypto.keys import fingerprint
from cohortium.errors import CohortiumError, PolicyRefusal
from cohortium.ledger.tiles import CHECKPOINT
from cohortium.node import alarms, ledger_copy
from cohortium.node.service import NodeService
from cohortium.version import __version__

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})

LinkState = Callable[[], dict[str, Any]]
"""``connected``, ``since`` and ``last_error`` of the link."""


def summary(service: NodeService) -> dict[str, Any]:
    """What the node's own files say; the command line shows it where the node is not serving."""
    store = service.store
    try:
        paused: bool | None = service.policy().paused
    except CohortiumError:
        paused = None
    return {
        "name": service.identity.name,
        "consortium": service.identity.consortium,
        "key_fingerprint": fingerprint(service.identity.key.public),
        "version": __version__,
        "owed": len(store.owed()),
        "datasets": [
            {"name": name, "confirmed": service.datasets.get(name).confirmed}
            for name in service.datasets.names()
        ],
        "lends": [] if service.lending is None else service.lending.lent.names(),
        "received": 0 if service.lending is None else len(service.lending.received.all()),
        "contracts": dict(Counter(contract.state for contract in store.contracts())),
        "paused": paused,
        "ledger": {
            **ledger_copy.summary(service.witness.replica),
            "alarms": [
                {"id": alarm.id, "kind": alarm.kind, "since": alarm.raised_at, "why": alarm.message}
                for alarm in alarms.alarms(store, only_open=True)
            ],
        },
    }


def build_app(service: NodeService, link: LinkState) -> ASGIApp:
    """``GET /health``, ``/status``, and the copy of the ledger as static files at ``/ledger/``."""

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def status(_request: Request) -> Response:
        return JSONResponse({**summary(service), "link": link()})

    async def ledger(request: Request) -> Response:
        path = request.path_params["path"]
        try:
            data = await to_thread(lambda: service.witness.replica.mirror().get(path))
        except CohortiumError as error:
            return JSONResponse({"error": error.to_wire()}, status_code=error.http_status)
        kind = "text/plain; charset=utf-8" if path == CHECKPOINT else "application/octet-stream"
        return Response(data, media_type=kind)

    routes = [
        Route("/health", health),
        Route("/status", status),
        Route("/ledger/{path:path}", ledger),
    ]
    return OnlyLoopback(Starlette(routes=routes))


class OnlyLoopback:
    """Refuses requests whose ``Host`` is not this machine's loopback interface."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        host = Request(scope).headers.get("host", "")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if name.lower() in LOOPBACK:
            await self._app(scope, receive, send)
            return
        error = PolicyRefusal("not-authorised", "Only local requests are answered.")
        refused = JSONResponse({"error": error.to_wire()}, status_code=error.http_status)
        await refused(scope, receive, send)


class Server(uvicorn.Server):
    """Leaves the signals to the node."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", server_header=False
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The node stops this server by cancelling it."""
        yield
