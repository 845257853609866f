"""Numbers at the edge of what RFC 8785 can write."""

from __future__ import annotations

import pytest

from cohortium.core.canonical import canonical, parse_json
from cohortium.errors import ProtocolError


@pytest.mark.parametrize("value", [1e17, 1e20, 1e21, -1e17, 2.0**53, 2**53 - 1, 1 - 2**53, 5e-324])
def test_canonical_numbers_parse_back(value: float) -> None:
    assert canonical(parse_json(canonical(value))) == canonical(value)


@pytest.mark.parametrize(
    "text", [b"1e999", b"-1e999", b"1" * 400, b"1" * 5000, b"NaN", b"-Infinity"]
)
def test_numbers_that_are_no_double_are_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_json(text)
