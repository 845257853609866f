"""Canonical JSON (RFC 8785) and the digests that everything signed is named by."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import rfc8785

from cohortium.errors import InputError, ProtocolError

MAX_JSON_BYTES = 64 * 1024 * 1024


def canonical(value: Any) -> bytes:
    """Encode JSON values as RFC 8785 bytes.

    Raises:
        InputError: ``bad-input`` for NaN, infinities, integers beyond 2^53 and non-JSON types.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError) as error:
        raise InputError(
            "bad-input", f"The value cannot be written as canonical JSON: {error}"
        ) from error


def digest_bytes(data: bytes | memoryview) -> str:
    """``sha256:`` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """The digest of a JSON value's canonical form."""
    return digest_bytes(canonical(value))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("duplicate key")
    return out


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _integer(text: str) -> int | float:
    # RFC 8785 writes the double 1e17 as 100000000000000000; a JSON number is a double (RFC 7493).
    value = _float(text)
    return int(text) if abs(value) < 2**53 else value


def parse_json(data: bytes) -> Any:
    """Parse untrusted JSON bytes: no duplicate keys, no NaN, bounded size and depth.

    Raises:
        ProtocolError: ``malformed-message``.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ProtocolError("malformed-message", "The JSON document is too large.")
    try:
        return json.loads(
            data,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_float,
            parse_int=_integer,
        )
    except (ValueError, RecursionError, UnicodeError) as error:
        raise ProtocolError(
            "malformed-message", "The bytes are not a valid JSON document."
        ) from error
