"""Messages between an executor and the supervisor inside its sandbox, over two pipes.

A frame is a kind (1 byte), a length (4 bytes, big-endian) and that many bytes.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Callable, Mapping
from typing import Any, Final

SPEC: Final = b"S"
"""JSON, to the supervisor: what to start."""
INPUT: Final = b"I"
"""To the supervisor: part of a tar archive of inputs; an empty one ends it."""
STARTED: Final = b"B"
"""To the executor: the task runs."""
LOG: Final = b"L"
"""To the executor: what the task printed."""
ENDED: Final = b"E"
"""JSON, to the executor: how the task ended."""
OUTPUT: Final = b"O"
"""To the executor: part of a tar archive of outputs; an empty one ends it."""

CHUNK_BYTES: Final = 1 << 18
PARTS: Final[Mapping[str, Any]] = {
    "format": tarfile.PAX_FORMAT,
    "bufsize": CHUNK_BYTES,
    "copybufsize": CHUNK_BYTES,
}
"""Of archives that stream; tarfile's own parts have 10 KiB."""
_HEADER: Final = struct.Struct(">cI")


def send(descriptor: int, kind: bytes, payload: bytes | memoryview = b"") -> None:
    """Write one frame.

    Raises:
        OSError: The other end is gone.
    """
    for part in (_HEADER.pack(kind, len(payload)), payload):
        left = memoryview(part)
        while left:
            left = left[os.write(descriptor, left) :]


def receive(descriptor: int, largest_bytes: int) -> tuple[bytes, bytes] | None:
    """Read one frame; None where the other end has closed the pipe.

    Raises:
        ValueError: It is longer than allowed, or ends in the middle.
    """
    header = _exactly(descriptor, _HEADER.size)
    if not header:
        return None
    if len(header) < _HEADER.size:
        raise ValueError("a frame ends in its header")
    kind, length = _HEADER.unpack(header)
    if length > largest_bytes:
        raise ValueError("a frame is too long")
    payload = _exactly(descriptor, length)
    if len(payload) < length:
        raise ValueError("a frame ends in the middle")
    return kind, payload


def _exactly(descriptor: int, length: int) -> bytes:
    """Fewer only at the end."""
    parts = []
    while length and (part := os.read(descriptor, min(length, CHUNK_BYTES))):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


class Incoming(io.RawIOBase):
    """An archive as it arrives.

    Args:
        following: Its next part; an empty one is the last.
    """

    def __init__(self, following: Callable[[], bytes]) -> None:
        self._following = following
        self._left = b""
        self._ended = False

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most so much; nothing at the end."""
        while not self._left and not self._ended:
            self._left = self._following()
            self._ended = not self._left
        taken, self._left = self._left[:size], self._left[size:]
        return taken


class Outgoing(io.RawIOBase):
    """An archive as it leaves, in parts of `CHUNK_BYTES` at most."""

    def __init__(self, put: Callable[[memoryview], None]) -> None:
        self._put = put

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """All of it."""
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_BYTES):
            self._put(view[start : start + CHUNK_BYTES])
        return len(view)
