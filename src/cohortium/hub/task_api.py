"""REST of tasks: programs, vault cards, enclaves, outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse, Response

from cohortium.contract.code import MAX_ARCHIVE_BYTES
from cohortium.core.rest import EnclaveInfo
from cohortium.errors import InputError
from cohortium.hub.limits import SMALL_BYTES
from cohortium.hub.member_store import User
from cohortium.hub.service import Hub
from cohortium.hub.tasks import Reader

Sender = Callable[[Request, int], Awaitable[tuple[User, bytes]]]
"""The researcher whose token a request carries, and its body of so many bytes at most."""

_BYTES = "application/octet-stream"
_Text = Annotated[str, Path(max_length=200)]


def task_routes(hub: Hub, sender: Sender) -> APIRouter:
    """The routes over a hub."""
    routes = APIRouter(tags=["tasks"])

    @routes.get("/enclaves")
    async def enclaves(request: Request) -> list[EnclaveInfo]:
        """The machines that run tasks."""
        await sender(request, SMALL_BYTES)
        return hub.tasks.enclaves()

    @routes.put("/card")
    async def card(request: Request) -> dict[str, str]:
        """Say for which vault key outputs for you are encrypted: body is a signed VaultCard."""
        user, body = await sender(request, SMALL_BYTES)
        hub.tasks.take_card(Reader(user.name, user.key), body)
        return {"name": user.name}

    @routes.put("/code/{digest}")
    async def put_code(request: Request, digest: _Text) -> dict[str, str]:
        """Give the hub a program that a contract is to name: body is a ZIP of its files."""
        user, body = await sender(request, MAX_ARCHIVE_BYTES)
        hub.spend(user.key)
        await asyncio.to_thread(hub.tasks.programs.put, digest, body)
        return {"digest": digest}

    @routes.get("/code/{digest}", response_class=Response)
    async def get_code(request: Request, digest: _Text) -> Response:
        """The ZIP of a program that a contract names which names you."""
        user, _ = await sender(request, SMALL_BYTES)

        def program() -> bytes:
            return hub.tasks.program(digest, lambda one: user.key in one.parties.values())

        return Response(await asyncio.to_thread(program), media_type=_BYTES)

    @routes.get("/runs/{run_id}/outcome", response_class=Response)
    async def outcome(request: Request, run_id: str) -> Response:
        """What the enclave signed at the end of a task: an envelope with the outputs' digests."""
        user, _ = await sender(request, SMALL_BYTES)
        return Response(hub.outcome(run_id, user), media_type="application/json")

    @routes.get("/runs/{run_id}/documents/{digest}", response_class=Response)
    async def document(request: Request, run_id: str, digest: _Text) -> Response:
        """What a lender or the enclave signed in a run, by the digest that names it."""
        user, _ = await sender(request, SMALL_BYTES)
        return Response(hub.document(run_id, digest, user), media_type="application/json")

    @routes.get("/runs/{run_id}/outputs/{slot}", response_class=FileResponse)
    async def output(
        request: Request,
        run_id: str,
        slot: _Text,
        path: Annotated[str, Query(max_length=1000)] = "",
    ) -> FileResponse:
        """The ciphertext of an output that is for you: one archive, without a path."""
        user, _ = await sender(request, SMALL_BYTES)
        if path:
            raise InputError("not-found", "An output is one archive; it has no path.")
        return FileResponse(hub.output(run_id, slot, user), media_type=_BYTES)

    return routes
