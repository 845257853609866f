"""Time as a parameter: pure code receives a `Clock`; a process's ``main`` picks the real one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

from cohortium.errors import InputError

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)


def to_rfc3339(moment: datetime) -> str:
    """``2026-11-22T09:30:00Z``; seconds resolution, UTC."""
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _utc_seconds(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("the time has no zone; write 2026-11-22T09:30:00Z")
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError as error:
        raise ValueError("the time is out of range") from error


def parse_rfc3339(text: str) -> datetime:
    """Parse an RFC 3339 time with its zone.

    Raises:
        InputError: ``bad-input``.
    """
    try:
        return _utc_seconds(datetime.fromisoformat(text))
    except ValueError as error:
        raise InputError("bad-input", f"Not an RFC 3339 time with a zone: {text[:40]!r}") from error


Instant = Annotated[
    datetime,
    AfterValidator(_utc_seconds),
    PlainSerializer(to_rfc3339, return_type=str, when_used="json"),
]
"""A moment in UTC with seconds resolution, written as RFC 3339."""
