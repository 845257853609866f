"""Numbers that look drawn, from a key and a counter: the same wherever and whenever they are asked.

An analysis draws nothing. What it needs as if drawn is a function of where in the computation it
is, so that a site that crashed, and a hub that replays, find the same numbers again. They keep no
secret of the key's holder; a key that must not be guessed is made of what others do not know.

Reference: Salmon, Moraes, Dror & Shaw 2011, Parallel random numbers: as easy as 1, 2, 3 (Philox
4x32-10).
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Key = tuple[int, int]

_ROUNDS: Final = 10
_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)


def key_of(*parts: bytes) -> Key:
    """A key of 64 bits from any bytes."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "big") + part)
    first = sha.digest()
    return int.from_bytes(first[:4], "big"), int.from_bytes(first[4:8], "big")


def philox(counter: Words, key: Key) -> Words:
    """Philox 4x32-10.

    Args:
        counter: Shape (4, n); each below 2^32.
        key: Two numbers below 2^32.

    Returns:
        uint64, shape (4, n); each below 2^32.
    """
    a, b, c, d = (np.asarray(word, dtype=np.uint64) for word in counter)
    first, second = key
    for _ in range(_ROUNDS):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a = (right >> _HALF) ^ b ^ np.uint64(first)
        c = (left >> _HALF) ^ d ^ np.uint64(second)
        b, d = right & _LOW, left & _LOW
        first, second = (first + _WEYL[0]) & 0xFFFFFFFF, (second + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([a, b, c, d])


def uniforms(key: Key, at: npt.NDArray[np.integer], place: tuple[int, int, int]) -> Floats:
    """Numbers between 0 and 1, neither included; shape (n,).

    Args:
        at: Shape (n,); whose number it is, below 2^32.
        place: Where in the computation.
    """
    return _pair(key, at, place)[0]


def normals(key: Key, at: npt.NDArray[np.integer], place: tuple[int, int, int]) -> Floats:
    """Standard normal numbers (Box & Muller 1958); as `uniforms`."""
    one, other = _pair(key, at, place)
    return np.asarray(np.sqrt(-2.0 * np.log(one)) * np.cos(2.0 * np.pi * other))


def _pair(
    key: Key, at: npt.NDArray[np.integer], place: tuple[int, int, int]
) -> tuple[Floats, Floats]:
    counter = np.empty((4, len(at)), dtype=np.uint64)
    counter[0] = at
    for word, number in enumerate(place, start=1):
        counter[word] = number
    a, b, c, d = philox(counter, key)
    return _open(a, b), _open(c, d)


def _open(high: Words, low: Words) -> Floats:
    """53 bits of two words, in the middle of their interval."""
    bits = (high << np.uint64(21)) | (low >> np.uint64(11))
    return np.asarray((bits.astype(np.float64) + 0.5) * 2.0**-53)
