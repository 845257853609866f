"""The hub's REST interface under ``/api/v1``."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from cohortium.core.faults import said
from cohortium.core.model import Document
from cohortium.core.rest import (
    API,
    ConsortiumInfo,
    DraftInfo,
    EnrolmentInfo,
    MemberInfo,
    RunInfo,
    RunResult,
    StatementInfo,
    StudyInfo,
    UserInfo,
)
from cohortium.errors import CohortiumError, InputError, IntegrityFailure
from cohortium.hub.auth import Authentication
from cohortium.hub.events import Event
from cohortium.hub.ledger_api import ledger_routes
from cohortium.hub.limits import CONTRACT_BYTES, RUN_BYTES, SMALL_BYTES, RateLimit, read_body
from cohortium.hub.member_store import User
from cohortium.hub.service import Hub
from cohortium.hub.task_api import task_routes
from cohortium.version import __version__

logger = logging.getLogger(__name__)


def build_app(hub: Hub) -> FastAPI:
    """The ASGI application over a hub that the caller starts and stops."""
    app = FastAPI(
        title="Cohortium hub",
        version=__version__,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    authentication = Authentication(hub)
    limit = RateLimit(hub.config.requests_per_minute)
    for routes in (
        _open_routes(hub, limit),
        _directory_routes(hub, authentication),
        _run_routes(hub, authentication),
        task_routes(hub, lambda request, limit: _sender(request, authentication, limit)),
        ledger_routes(hub.store.ledger, hub.log, lambda request: _sender(request, authentication)),
    ):
        app.include_router(routes, prefix=API)
    _one_error_shape(app)
    return app


def _one_error_shape(app: FastAPI) -> None:
    @app.exception_handler(CohortiumError)
    async def _ours(_: Request, error: CohortiumError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def _routing(_: Request, error: HTTPException) -> Response:
        code = "not-found" if error.status_code == 404 else "bad-input"
        return error_response(
            InputError(code, f"{error.detail}: see {API}/openapi.json."), error.status_code
        )

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> Response:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc'])}: {said(fault)}"
            for fault in error.errors()[:5]
        ]
        return error_response(InputError("bad-input", "; ".join(faults)), 422)

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, error: Exception) -> Response:
        logger.error("a request failed unexpectedly", exc_info=error)
        return error_response(
            IntegrityFailure("internal", "The hub failed on this request; its log has the trace.")
        )


def error_response(error: CohortiumError, status: int | None = None) -> JSONResponse:
    """The one shape of an error."""
    return JSONResponse({"error": error.to_wire()}, status_code=status or error.http_status)


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _open_routes(hub: Hub, limit: RateLimit) -> APIRouter:
    routes = APIRouter(tags=["membership"])

    @routes.get("/consortium")
    async def consortium(request: Request) -> ConsortiumInfo:
        """Name, CA and link address; open to all."""
        limit.take(_address(request))
        return hub.consortium

    @routes.post("/enrol")
    async def enrol(request: Request) -> EnrolmentInfo:
        """A node enrols: body is a signed SiteEnrolment envelope."""
        limit.take(_address(request))
        return hub.members.enrol(await read_body(request, SMALL_BYTES))

    @routes.post("/enrol/status", response_model_exclude_none=True)
    async def enrolment_status(request: Request) -> EnrolmentInfo:
        """How far an enrolment is: body is a signed SiteStatusRequest envelope."""
        limit.take(_address(request))
        return hub.members.enrolment_status(await read_body(request, SMALL_BYTES))

    @routes.post("/users")
    async def enrol_user(request: Request) -> UserInfo:
        """A researcher registers a key: body is a signed UserEnrolment envelope."""
        limit.take(_address(request))
        return hub.members.enrol_user(await read_body(request, SMALL_BYTES))

    return routes


async def _sender(
    request: Request, authentication: Authentication, limit: int = SMALL_BYTES
) -> tuple[User, bytes]:
    if limit > CONTRACT_BYTES:
        authentication.expect(request)
    body = await read_body(request, limit)
    return authentication.user(request, body), body


def _directory_routes(hub: Hub, authentication: Authentication) -> APIRouter:
    routes = APIRouter(tags=["studies"])

    @routes.get("/members", response_model_exclude_none=True)
    async def members(request: Request) -> list[MemberInfo]:
        """The institutions and the datasets that they publish."""
        await _sender(request, authentication)
        return hub.directory()

    @routes.get("/users")
    async def users(request: Request) -> list[UserInfo]:
        """The registered researchers."""
        await _sender(request, authentication)
        return hub.users()

    @routes.get("/studies", response_model_exclude_none=True)
    async def studies(request: Request) -> list[StudyInfo]:
        """The studies that name you, each by its contract in force, or else its newest."""
        user, _ = await _sender(request, authentication)
        return hub.studies.all(user)

    @routes.get("/studies/{study}", response_model_exclude_none=True)
    async def study(request: Request, study: str, contract: str | None = None) -> StudyInfo:
        """A study's contract in force, or that of the digest `contract`, and its text."""
        user, _ = await _sender(request, authentication)
        return hub.studies.one(study, user, contract)

    @routes.get("/studies/{study}/statements", response_model_exclude_none=True)
    async def statements(request: Request, study: str) -> list[StatementInfo]:
        """What was stated about a study's contracts, oldest first, as signed."""
        user, _ = await _sender(request, authentication)
        return hub.studies.statements(study, user)

    @routes.get("/studies/{study}/audit", response_class=Response)
    async def audit(request: Request, study: str, whole: bool = False) -> Response:
        """The evidence of a study as an audit bundle; with all the ledger's entries if `whole`."""
        user, _ = await _sender(request, authentication)
        bundle = await asyncio.to_thread(hub.audit, study, user, whole=whole)
        return Response(bundle, media_type="application/json")

    @routes.post("/studies/{study}/statements", response_model_exclude_none=True)
    async def state(request: Request, study: str) -> StudyInfo:
        """State something on a contract: body is the envelope of a Transition or a Contract."""
        user, body = await _sender(request, authentication, CONTRACT_BYTES)
        return hub.state(study, body, user)

    @routes.post("/studies", response_model_exclude_none=True)
    async def propose(request: Request) -> StudyInfo:
        """Propose a contract or an amendment: body is its envelope, signed by the proposer."""
        user, body = await _sender(request, authentication, CONTRACT_BYTES)
        return hub.propose(body, user)

    @routes.get("/drafts", response_model_exclude_none=True)
    async def drafts(request: Request) -> list[DraftInfo]:
        """The drafts that name you."""
        user, _ = await _sender(request, authentication)
        return hub.drafts.all(user)

    @routes.get("/drafts/{study}", response_model_exclude_none=True)
    async def draft(request: Request, study: str) -> DraftInfo:
        """A study's draft, what its slots are filled with, and the signed statements."""
        user, _ = await _sender(request, authentication)
        return hub.drafts.one(study, user)

    @routes.post("/drafts", response_model_exclude_none=True)
    async def add_draft(request: Request) -> DraftInfo:
        """Put a draft to the owners of its slots: body is its envelope, signed by the proposer."""
        user, body = await _sender(request, authentication, CONTRACT_BYTES)
        return hub.draft(body, user)

    return routes


def _run_routes(hub: Hub, authentication: Authentication) -> APIRouter:
    routes = APIRouter(tags=["runs"])

    @routes.post("/runs")
    async def submit(request: Request) -> dict[str, RunInfo]:
        """Submit a run: body is the RunRequest's envelope, signed by the researcher."""
        user, body = await _sender(request, authentication, RUN_BYTES)
        return {"run": hub.submit(body, user)}

    @routes.get("/runs")
    async def runs(request: Request, study: str | None = None) -> list[RunInfo]:
        """Runs, newest first."""
        user, _ = await _sender(request, authentication)
        return hub.runs(study, user)

    @routes.get("/runs/{run_id}")
    async def run(request: Request, run_id: str) -> RunInfo:
        """A run's record."""
        user, _ = await _sender(request, authentication)
        return hub.run(run_id, user)

    @routes.get("/runs/{run_id}/events", response_class=StreamingResponse)
    async def events(
        request: Request, run_id: str, after: Annotated[int, Query(ge=0)] = 0
    ) -> StreamingResponse:
        """Server-sent events: ``progress`` after each round, then ``done``; data is the record.

        Before ``done`` there is the ``result``, where it is small.
        """
        user, _ = await _sender(request, authentication)
        stream = hub.follow(run_id, user, after)
        return StreamingResponse(
            _server_sent(stream, lambda: hub.small_result(run_id, user)),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    @routes.get("/runs/{run_id}/result")
    async def result(request: Request, run_id: str) -> RunResult:
        """A finished run with its result."""
        user, _ = await _sender(request, authentication)
        return hub.result(run_id, user)

    @routes.post("/runs/{run_id}/cancel")
    async def cancel(request: Request, run_id: str) -> dict[str, RunInfo]:
        """Stop a run."""
        user, _ = await _sender(request, authentication)
        return {"run": hub.cancel(run_id, user)}

    @routes.post("/runs/{run_id}/resume")
    async def resume(request: Request, run_id: str) -> dict[str, RunInfo]:
        """Go on with a run that failed because a site was away."""
        user, _ = await _sender(request, authentication)
        return {"run": await hub.resume(run_id, user)}

    return routes


async def _server_sent(
    events: AsyncIterator[Event], result: Callable[[], RunResult | None]
) -> AsyncIterator[bytes]:
    async for event in events:
        if event.info is None:
            yield b": still here\n\n"
            continue
        text = f"id: {event.number}\nevent: {event.kind}\ndata: {_line(event.info)}\n\n"
        given = result() if event.kind == "done" else None
        yield (text if given is None else f"event: result\ndata: {_line(given)}\n\n{text}").encode()


def _line(document: Document) -> str:
    return json.dumps(document.to_json())
