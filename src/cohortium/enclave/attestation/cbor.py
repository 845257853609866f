"""CBOR (RFC 8949) as evidence uses it: one item, in its one preferred form."""

from __future__ import annotations

from typing import Any

from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.errors import InputError


def encode(value: Any) -> bytes:
    """An item of definite lengths, shortest integers, and keys in the order given."""
    encoded: bytes = _library().dumps(value)
    return encoded


def decode(data: bytes, what: str) -> Any:
    """Read untrusted bytes: exactly one item, as `encode` would write it.

    Only so is there one text for each content: no second key, no rest, no other length.

    Raises:
        VerificationError: ``bad-evidence`` (``malformed``).
    """
    cbor2 = _library()
    try:
        value = cbor2.loads(data)
        same = cbor2.dumps(value) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise refuse(Reason.MALFORMED, f"{what} is not CBOR.") from error
    if not same:
        raise refuse(Reason.MALFORMED, f"{what} is not CBOR in its preferred form.")
    return value


def tagged(tag: int, value: Any) -> Any:
    """A tagged item, for `encode`."""
    return _library().CBORTag(tag, value)


def tag_of(value: Any) -> tuple[int, Any] | None:
    """Tag and content of a decoded item; None where it has no tag."""
    return (value.tag, value.value) if isinstance(value, _library().CBORTag) else None


def _library() -> Any:
    try:
        import cbor2
    except ImportError as error:
        raise InputError(
            "missing-extra", "Evidence in CBOR needs: pip install 'cohortium[attestation]'."
        ) from error
    return cbor2
