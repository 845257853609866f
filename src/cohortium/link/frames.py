"""Messages cut into `Frame`s and put together again.

The two functions write and read the protobuf encoding of ``Frame`` by hand (three fields), which
saves two copies of every byte; a property test holds them to the generated code. Every frame of a
message but the last is full, so that a peer cannot make a few bytes cost much memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from cohortium.errors import ProtocolError

FRAME_BYTES = 1024 * 1024
MAX_MESSAGE_BYTES = 2**31 - 1024  # protobuf's own limit is 2 GiB
MAX_UNFINISHED = 64

_ID, _LAST, _DATA = b"\x08", b"\x10\x01", b"\x1a"


def varint(value: int) -> bytes:
    """A number in the base-128 encoding of protobuf."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _frame(message_id: int, last: bool, *parts: bytes | memoryview) -> bytes:
    size = sum(len(part) for part in parts)
    head = _ID + varint(message_id) + (_LAST if last else b"")
    return b"".join((head, _DATA, varint(size), *parts))


def cut(message_id: int, prefix: bytes, body: bytes | bytearray) -> Iterator[bytes]:
    """The encoded frames of the message ``prefix + body``; each body byte is copied once.

    Args:
        message_id: Above 0; unique among this sender's unfinished messages.
        prefix: A few bytes (the ids); less than a frame.
        body: The rest.
    """
    if len(prefix) + len(body) > MAX_MESSAGE_BYTES:
        raise ProtocolError("malformed-message", "The message is larger than 2 GiB; send less.")
    view = memoryview(body)
    end = FRAME_BYTES - len(prefix)
    if len(body) <= end:
        yield _frame(message_id, True, prefix, view)
        return
    yield _frame(message_id, False, prefix, view[:end])
    for start in range(end, len(body), FRAME_BYTES):
        stop = start + FRAME_BYTES
        yield _frame(message_id, stop >= len(body), view[start:stop])


def _malformed(what: str) -> ProtocolError:
    return ProtocolError("malformed-message", f"A received frame is malformed: {what}.")


def _read_varint(raw: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(raw):
            break
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64 or (byte == 0 and shift):
                break
            return value, position
    raise _malformed("a number")


def parse_frame(raw: bytes) -> tuple[int, bool, memoryview]:
    """(message id, last, data) of one frame, in the one encoding that protobuf writes.

    Raises:
        ProtocolError: ``malformed-message``; never anything else.
    """
    if raw[:1] != _ID:
        raise _malformed("no message id")
    message_id, position = _read_varint(raw, 1)
    last = raw[position : position + 2] == _LAST
    position += 2 if last else 0
    if raw[position : position + 1] != _DATA:
        raise _malformed("no data")
    size, position = _read_varint(raw, position + 1)
    if not 0 < size <= FRAME_BYTES or size != len(raw) - position or not message_id:
        raise _malformed("its length")
    return message_id, last, memoryview(raw)[position:]


class Joiner:
    """Puts one sender's frames together.

    Args:
        max_message_bytes: Most bytes held, over all unfinished messages.
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_message_bytes
        self._held_bytes = 0
        self._unfinished: dict[int, list[memoryview]] = {}

    def feed(self, raw: bytes) -> bytes | memoryview | None:
        """Take a frame; the message's bytes when this was its last.

        Raises:
            ProtocolError: ``malformed-message``; the link cannot go on.
        """
        message_id, last, data = parse_frame(raw)
        if self._held_bytes + len(data) > self._max_bytes:
            raise _malformed("the message is too large")
        if last:
            parts = self._unfinished.pop(message_id, None)
            if parts is None:
                return data
            self._held_bytes -= sum(len(part) for part in parts)
            return b"".join((*parts, data))
        if len(data) != FRAME_BYTES:
            raise _malformed("it is not full and not the last")
        parts = self._unfinished.setdefault(message_id, [])
        if len(self._unfinished) > MAX_UNFINISHED:
            raise _malformed("too many unfinished messages")
        parts.append(data)
        self._held_bytes += len(data)
        return None
