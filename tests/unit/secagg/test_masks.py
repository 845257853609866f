from __future__ import annotations

import pytest

from cohortium.secagg.frame import BLOCK_BYTES
from cohortium.secagg.masks import MaskStream, new_buffer

KEY = bytes(range(32))


def stream(n_bytes: int, offset: int = 0, key: bytes = KEY) -> bytes:
    buffer = new_buffer()
    MaskStream(key, offset).next(n_bytes, buffer)
    return bytes(buffer[:n_bytes])


def test_the_stream_is_the_keystream_of_aes_256_in_counter_mode() -> None:
    """The block cipher of FIPS 197, appendix C.3, on a plaintext that is the counter."""
    counter = int.from_bytes(bytes.fromhex("00112233445566778899aabbccddeeff"), "big")
    block = stream(16, 16 * counter)
    assert block.hex() == "8ea2b7ca516745bfeafc49904b496089"


@pytest.mark.parametrize("offset", [0, 1, 8, 15, 16, 17, 24, 4096, 100_000])
def test_a_stream_can_start_anywhere(offset: int) -> None:
    assert stream(64, offset) == stream(offset + 64)[offset:]


def test_a_stream_goes_on_where_it_stopped() -> None:
    one, buffer, parts = MaskStream(KEY), new_buffer(), []
    for size in (8, 24, 1, 0, 4099, 32):
        one.next(size, buffer)
        parts.append(bytes(buffer[:size]))
    assert b"".join(parts) == stream(sum(map(len, parts)))


def test_a_block_is_the_most_at_once_and_another_key_is_another_stream() -> None:
    assert len(stream(BLOCK_BYTES)) == BLOCK_BYTES
    assert stream(1024) != stream(1024, key=bytes(32))
