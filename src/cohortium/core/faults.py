"""What is wrong with a document, in our words: the field, and what is allowed there.

The values are never part of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_QUOTED: Final = re.compile(r"'((?:[^'\\]|\\.)*)'")

_SAID: Final[Mapping[str, str]] = {
    "missing": "must be given",
    "extra_forbidden": "there is no such field",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be a finite number",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "timezone_aware": "the time has no zone; end it with Z or +02:00",
}
_KINDS: Final[Mapping[str, str]] = {
    "bool": "true or false",
    "bytes": "bytes",
    "date": "a date, such as 2026-05-01",
    "datetime": "a date and time with its zone, such as 2026-05-01T12:00:00Z",
    "dict": "a mapping of names to values",
    "float": "a number",
    "int": "a whole number",
    "iterable": "a list",
    "list": "a list",
    "mapping": "a mapping of names to values",
    "model": "a mapping of fields",
    "model_attributes": "a mapping of fields",
    "set": "a list",
    "string": "a text",
    "tuple": "a list",
    "url": "an address, such as https://hub.example.org",
}
_PATTERNS: Final[Mapping[str, str]] = {
    r"^[A-Za-z][A-Za-z0-9_]{0,63}$": (
        "must be a name: a letter, then letters, digits and _, at most 64"
    ),
    r"^sha256:[0-9a-f]{64}$": "must be sha256: and 64 hexadecimal digits",
    r"^[^\x00-\x1f\x7f]+$": "must be a line of text without control characters",
}


def said(fault: ErrorDetails) -> str:
    """What is allowed, of one fault: ``must be at least 1``."""
    kind, about = fault["type"], fault.get("ctx") or {}
    if kind in {"value_error", "assertion_error"}:
        return fault["msg"].partition(", ")[2] or fault["msg"]
    if kind in {"literal_error", "enum"}:
        return _one_of(str(about.get("expected", "")))
    if kind == "string_pattern_mismatch":
        pattern = str(about.get("pattern", ""))
        return _PATTERNS.get(pattern, f"must have the form {pattern}")
    if kind.endswith(("_parsing", "_type", "_from_float")):
        return _of_kind(kind, fault["msg"], about)
    try:
        return _SAID[kind].format(**about)
    except KeyError:
        return fault["msg"]


def _one_of(expected: str) -> str:
    """From ``'a', 'b' or 'c'``."""
    allowed = _QUOTED.findall(expected)
    if not allowed:
        return f"must be {expected}"
    return f"must be {allowed[0]}" if len(allowed) == 1 else f"must be one of {', '.join(allowed)}"


def _of_kind(kind: str, otherwise: str, about: Mapping[str, Any]) -> str:
    name = re.sub(r"(_from_date(time)?)?_(parsing|type|from_float)$", "", kind)
    if name not in _KINDS:
        return otherwise
    why = f" ({about['error']})" if "error" in about else ""
    return f"must be {_KINDS[name]}{why}"
