"""Access tokens: a JWT (RFC 7519, EdDSA of RFC 8037) that a researcher's key signs per request.

As in DPoP (RFC 9449) the token names the request that it is for: method, path with query, and
digest of the body. A stolen token repeats one request for at most a minute, and the hub
remembers ``jti`` for that long.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cohortium.crypto.keys import PREFIX, SigningKey, unb64url
from cohortium.errors import VerificationError

LIFETIME_S = 60
SKEW_S = 60
MAX_CHARACTERS = 4096
_CLAIMS = ("iss", "aud", "iat", "exp", "jti", "htm", "htu", "bsh")


@dataclass(frozen=True)
class Token:
    """A verified token: whose key signed it, its unique id, its end as Unix seconds."""

    key: str
    token_id: str
    expires_at_s: int


def make_token(
    key: SigningKey,
    *,
    audience: str,
    method: str,
    path: str,
    body: bytes,
    now: datetime,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> str:
    """The token for one request.

    `audience` is the consortium's fingerprint; `path` is as sent, with the query:
    ``/api/v1/runs?study=lung``.
    """
    issued = int(now.timestamp())
    claims = {
        "iss": key.public,
        "aud": audience,
        "iat": issued,
        "exp": issued + LIFETIME_S,
        "jti": random(16),
        "htm": method.upper(),
        "htu": path,
        "bsh": sha256(body).hexdigest(),
    }
    return jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.public})


def verify_token(
    token: str, *, audience: str, method: str, path: str, body: bytes | None, now: datetime
) -> Token:
    """Check a token against the request that it came with; the caller checks replay and user.

    Args:
        body: None: it is still to come, and to be checked.

    Raises:
        VerificationError: ``bad-token``; never anything else.
    """
    # 1. The key that it names. 2. Signature and audience. 3. Time. 4. Request.
    try:
        if len(token) > MAX_CHARACTERS:
            raise ValueError("too long")
        kid = jwt.get_unverified_header(token).get("kid")  # 1
        if not isinstance(kid, str) or not kid.startswith(PREFIX):
            raise ValueError("no kid")
        public = Ed25519PublicKey.from_public_bytes(unb64url(kid.removeprefix(PREFIX)))
        claims = jwt.decode(  # 2
            token,
            public,
            algorithms=["EdDSA"],
            audience=audience,
            issuer=kid,
            # Time is judged below, by the caller's clock.
            options={
                "require": list(_CLAIMS),
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        issued, expires, token_id = int(claims["iat"]), int(claims["exp"]), str(claims["jti"])
        seconds = now.timestamp()
        if not (issued - SKEW_S <= seconds <= expires + SKEW_S):  # 3
            raise ValueError("outside its time")
        if not (0 < expires - issued <= LIFETIME_S and 0 < len(token_id) <= 64):
            raise ValueError("lifetime or id")
        digest = claims["bsh"] if body is None else sha256(body).hexdigest()
        request = (method.upper(), path, digest)  # 4
        if (claims["htm"], claims["htu"], claims["bsh"]) != request:
            raise ValueError("for another request")
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, VerificationError) as error:
        raise VerificationError(
            "bad-token", "The access token does not fit this request or this hub; check the clock."
        ) from error
    return Token(kid, token_id, expires)
