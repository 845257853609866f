"""Who sends a request: the registered researcher whose key signed its access token."""

from __future__ import annotations

from collections import OrderedDict

from starlette.requests import Request

from cohortium.crypto.token import SKEW_S, Token, verify_token
from cohortium.errors import VerificationError
from cohortium.hub.member_store import User
from cohortium.hub.service import Hub

MAX_REMEMBERED = 100_000


class Authentication:
    """Verifies tokens and remembers their ids while they are valid; each counts once."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def user(self, request: Request, body: bytes) -> User:
        """The researcher.

        Raises:
            VerificationError: ``bad-token`` or ``replayed``.
            PolicyRefusal: ``not-authorised``.
        """
        verified = self._verified(request, body)
        user = self._hub.user(verified.key)
        now_s = self._hub.clock().timestamp()
        self._once(verified.key, verified.token_id, verified.expires_at_s, now_s)
        return user

    def expect(self, request: Request) -> None:
        """Before a large body is read: a researcher's token announces it. Raises as `user`."""
        self._hub.user(self._verified(request, None).key)

    def _verified(self, request: Request, body: bytes | None) -> Token:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise VerificationError("bad-token", "This needs a researcher's access token.")
        query = request.scope.get("query_string", b"").decode("latin-1")
        path = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
        return verify_token(
            token,
            audience=self._hub.consortium.fingerprint,
            method=request.method,
            path=f"{path}?{query}" if query else path,
            body=body,
            now=self._hub.clock(),
        )

    def _once(self, key: str, token_id: str, expires_at_s: int, now_s: float) -> None:
        while self._seen and (
            next(iter(self._seen.values())) < now_s or len(self._seen) > MAX_REMEMBERED
        ):
            self._seen.popitem(last=False)
        if (key, token_id) in self._seen:
            raise VerificationError("replayed", "The access token was used before.")
        self._seen[key, token_id] = expires_at_s + SKEW_S
