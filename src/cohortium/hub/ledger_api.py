"""The ledger over REST: tiles for mirrors (C2SP tlog-tiles), proofs, keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from cohortium.core.rest import ConsistencyProof, LedgerInfo, Receipt
from cohortium.errors import InputError
from cohortium.hub.ledger_store import LedgerStore, Log
from cohortium.ledger.checkpoint import witness_key
from cohortium.ledger.tiles import Mirror

Size = Annotated[int, Query(ge=0, lt=2**62)]


def ledger_routes(
    store: LedgerStore, log: Log, sender: Callable[[Request], Awaitable[object]]
) -> APIRouter:
    """``/ledger``.

    Args:
        sender: Who asks; raises where it is nobody known.
    """
    routes = APIRouter(tags=["ledger"], prefix="/ledger")

    @routes.get("", response_model_exclude_none=True)
    async def ledger(request: Request) -> LedgerInfo:
        """Sizes, and the keys that check the ledger's checkpoints."""
        await sender(request)
        size, final = store.size(), store.newest_final()
        return LedgerInfo(
            origin=log.origin,
            size=size,
            final=0 if final is None else final.size,
            log_key=log.verifier.text,
            witness_keys={
                name: witness_key(log.origin, name, key).text
                for name, key in store.members_at(size).items()
            },
        )

    @routes.get("/checkpoint", response_class=Response)
    async def checkpoint(request: Request) -> Response:
        """The newest final checkpoint; before the first one, the newest that the log signed."""
        await sender(request)
        found = store.newest_final() or store.newest()
        if found is None:
            raise InputError("not-found", "The ledger is empty.")
        return Response(found.note, media_type="text/plain; charset=utf-8")

    @routes.get("/tile/{place:path}", response_class=Response)
    async def tile(request: Request, place: str) -> Response:
        """A tile of hashes, or a bundle of entries, after C2SP tlog-tiles."""
        await sender(request)
        mirror = Mirror(store.tree(), lambda start, end: store.entries(start, end - start), b"")
        return Response(mirror.get(f"tile/{place}"), media_type="application/octet-stream")

    @routes.get("/entries/{index}")
    async def entry(request: Request, index: int, size: Size | None = None) -> Receipt:
        """An entry, with the proof that a checkpoint covers it: the newest final one, or `size`."""
        await sender(request)
        if size is None:
            final = store.newest_final()
            size = 0 if final is None else final.size
        return store.receipt(index, size)

    @routes.get("/consistency")
    async def consistency(request: Request, old: Size, size: Size) -> ConsistencyProof:
        """The proof that the ledger of `old` entries is the beginning of that of `size`."""
        await sender(request)
        proof = store.tree().consistency_proof(old, size)
        return ConsistencyProof(old=old, size=size, proof=tuple(node.hex() for node in proof))

    return routes
