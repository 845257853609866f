from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortium.crypto.keys import SigningKey
from cohortium.crypto.token import make_token, verify_token
from cohortium.errors import VerificationError

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
KEY = SigningKey.from_seed(b"\x01" * 32)
AUDIENCE = "sha256:" + "0" * 64


def token(**changes: object) -> str:
    request: dict[str, object] = {
        "audience": AUDIENCE,
        "method": "POST",
        "path": "/api/v1/runs",
        "body": b"{}",
        "now": NOW,
    }
    return make_token(KEY, **(request | changes))  # type: ignore[arg-type]


def check(text: str, now: datetime = NOW, body: bytes = b"{}") -> str:
    return verify_token(
        text, audience=AUDIENCE, method="POST", path="/api/v1/runs", body=body, now=now
    ).key


def test_a_fresh_token_names_its_key() -> None:
    assert check(token()) == KEY.public
    assert check(token(), now=NOW + timedelta(seconds=119)) == KEY.public


@pytest.mark.parametrize(
    "changed",
    [
        token(audience="sha256:" + "1" * 64),
        token(method="GET"),
        token(path="/api/v1/runs?x=1"),
        token(body=b"[]"),
        token(now=NOW - timedelta(seconds=121)),
        token(now=NOW + timedelta(seconds=61)),
        token()[:-4] + "AAAA",
        jwt.encode({"iss": KEY.public}, "", algorithm="none", headers={"kid": KEY.public}),
        jwt.encode({"iss": KEY.public}, "k" * 64, algorithm="HS256", headers={"kid": KEY.public}),
        "x" * 5000,
    ],
)
def test_a_token_for_anything_else_is_refused(changed: str) -> None:
    with pytest.raises(VerificationError) as caught:
        check(changed)
    assert caught.value.code == "bad-token"


def test_a_token_that_names_another_key_is_refused() -> None:
    other = SigningKey.from_seed(b"\x02" * 32)
    claims = jwt.decode(token(), options={"verify_signature": False})
    forged = jwt.encode(claims, other.private, algorithm="EdDSA", headers={"kid": KEY.public})
    with pytest.raises(VerificationError):
        check(forged)


@given(st.text())
def test_garbage_never_raises_anything_else(text: str) -> None:
    with pytest.raises(VerificationError):
        check(text)
