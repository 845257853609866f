"""Cutting and joining, and what a joiner refuses."""

from __future__ import annotations

import os

import pytest

from cohortium.errors import ProtocolError
from cohortium.link import frames
from cohortium.link._generated.link_pb2 import Frame
from cohortium.link.frames import FRAME_BYTES, MAX_UNFINISHED, Joiner, cut, parse_frame


def _frame(message_id: int, *, last: bool, data: bytes) -> bytes:
    return Frame(message_id=message_id, last=last, data=data).SerializeToString()


@pytest.mark.parametrize(
    "size", [0, 1, FRAME_BYTES - 11, FRAME_BYTES - 10, FRAME_BYTES, 3 * FRAME_BYTES - 10, 2_500_000]
)
def test_cut_and_join(size: int) -> None:
    body = os.urandom(size)
    pieces = list(cut(7, b"0123456789", body))
    joiner = Joiner()
    whole = [joiner.feed(piece) for piece in pieces]
    assert whole[:-1] == [None] * (len(pieces) - 1)
    assert whole[-1] == b"0123456789" + body
    parsed = [Frame.FromString(piece) for piece in pieces]
    assert [frame.last for frame in parsed] == [False] * (len(pieces) - 1) + [True]
    assert all(len(frame.data) == FRAME_BYTES for frame in parsed[:-1])
    assert {frame.message_id for frame in parsed} == {7}


def test_interleaved_messages() -> None:
    first, second = os.urandom(2_000_000), os.urandom(3_000_000)
    a, b = list(cut(1, b"a", first)), list(cut(2, b"b", second))
    joiner = Joiner()
    order = [b[0], a[0], b[1], a[1], b[2]]
    done = [whole for piece in order if (whole := joiner.feed(piece)) is not None]
    assert done == [b"a" + first, b"b" + second]


def test_message_above_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", 1000)
    with pytest.raises(ProtocolError, match="larger than 2 GiB"):
        list(cut(1, b"", bytes(1001)))


def test_held_bytes_are_bounded_over_all_messages() -> None:
    joiner = Joiner(max_message_bytes=2 * FRAME_BYTES)
    full = bytes(FRAME_BYTES)
    joiner.feed(_frame(1, last=False, data=full))
    joiner.feed(_frame(2, last=False, data=full))
    with pytest.raises(ProtocolError, match="too large"):
        joiner.feed(_frame(3, last=True, data=b"x"))


def test_bound_is_given_back_when_a_message_is_whole() -> None:
    joiner = Joiner(max_message_bytes=FRAME_BYTES + 1)
    full = bytes(FRAME_BYTES)
    for number in range(1, 5):
        assert joiner.feed(_frame(number, last=False, data=full)) is None
        assert joiner.feed(_frame(number, last=True, data=b"x")) == full + b"x"


def test_unfinished_messages_are_bounded() -> None:
    joiner = Joiner()
    data = bytes(FRAME_BYTES)
    for number in range(1, MAX_UNFINISHED + 1):
        joiner.feed(_frame(number, last=False, data=data))
    with pytest.raises(ProtocolError, match="unfinished"):
        joiner.feed(_frame(1000, last=False, data=data))


def test_small_frame_that_is_not_the_last_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not full"):
        Joiner().feed(_frame(1, last=False, data=b"x"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"junk",
        b"\x08\x00\x10\x01\x1a\x01a",  # id 0
        b"\x08\x01\x10\x01",  # no data
        b"\x08\x01\x10\x01\x1a\x00",  # empty data
        b"\x08\x01\x10\x01\x1a\x02a",  # short
        b"\x08\x01\x10\x01\x1a\x01ab",  # long
        b"\x08\x81\x00\x10\x01\x1a\x01a",  # a number in two ways
        b"\x08" + b"\xff" * 10 + b"\x1a\x01a",  # above 2^64
        b"\x08" + b"\xff" * 9 + b"\x7f\x1a\x01a",
        b"\x08\x01\x10\x02\x1a\x01a",  # not a boolean
        b"\x1a\x01a\x08\x01",  # another order
        b"\x08\x01\x10\x01\x1a\x01a\x22\x01a",  # an unknown field
    ],
)
def test_malformed_frames(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_frame(raw)
    assert caught.value.code == "malformed-message"


def test_frame_above_a_mebibyte_is_refused() -> None:
    with pytest.raises(ProtocolError):
        parse_frame(_frame(1, last=True, data=bytes(FRAME_BYTES + 1)))
