"""Bounds on what clients may send: bytes of a body, requests a minute."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

from cohortium.errors import InputError, PolicyRefusal

CONTRACT_BYTES = 1024 * 1024
RUN_BYTES = 256 * 1024
SMALL_BYTES = 32 * 1024
MAX_ADDRESSES = 10_000


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body, of at most `limit` bytes.

    Raises:
        InputError: ``too-large``.
    """
    too_large = InputError("too-large", f"The request's body has more than {limit} bytes.")
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


class RateLimit:
    """A token bucket for each client address.

    Args:
        per_minute: Tokens that flow in a minute; also the size of the bucket.
        monotonic: Seconds.
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._size = float(per_minute)
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Take one token.

        Raises:
            PolicyRefusal: ``too-many-requests``.
        """
        now = self._monotonic()
        tokens, then = self._buckets.pop(address, (self._size, now))
        tokens = min(self._size, tokens + (now - then) * self._rate)
        self._buckets[address] = (max(tokens - 1, 0.0), now)
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        if tokens < 1:
            raise PolicyRefusal("too-many-requests", "Too many requests; wait a minute.")
