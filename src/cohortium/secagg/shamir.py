"""Shamir's secret sharing: any `threshold` shares of a 32-byte secret open it, fewer say nothing.

The secret is the value at 0 of a polynomial of degree `threshold` - 1 over GF(2^256 + 297), whose
other coefficients are uniform; a share is its value at a point from 1. The prime is the least above
2^256, so that every 32-byte secret is an element.

Python's integers do not run in constant time. `split` works on fresh secrets inside the process of
the site that made them; `combine` works on what is being opened anyway.

Reference: A. Shamir, "How to share a secret", CACM 22(11), 1979.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import mul
from typing import Final

from cohortium.errors import ProtocolError

PRIME: Final = 2**256 + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33

_DRAW_BYTES: Final = 40
_DRAW_LIMIT: Final = 2 ** (8 * _DRAW_BYTES) // PRIME * PRIME


def split(
    secret: bytes, threshold: int, points: Sequence[int], random: Callable[[int], bytes]
) -> dict[int, bytes]:
    """Shares of a secret by point.

    Args:
        secret: 32 bytes.
        threshold: Shares that open it.
        points: Different, from 1; all that are shared at, or some of them.
        random: Draws that many bytes, uniformly; the same bytes make the same shares.

    Returns:
        33 bytes for each point.
    """
    if len(secret) != SECRET_BYTES or threshold < 1:
        raise RuntimeError("a secret has 32 bytes, and a threshold is from 1")
    if len(set(points)) != len(points) or not all(0 < point < PRIME for point in points):
        raise RuntimeError("the points of shares are different and from 1")
    coefficients = [_element(random) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret))
    shares = {}
    for point in points:
        value = 0
        # Horner; the points are short, so that one reduction at the end is faster.
        for coefficient in coefficients:
            value = value * point + coefficient
        shares[point] = (value % PRIME).to_bytes(SHARE_BYTES)
    return shares


def _element(random: Callable[[int], bytes]) -> int:
    """A uniform element of the field: draws above a multiple of the prime are rejected."""
    while True:
        drawn = int.from_bytes(random(_DRAW_BYTES))
        if drawn < _DRAW_LIMIT:
            return drawn % PRIME


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret (32 bytes) of shares by point.

    Of more than `threshold` shares those at the lowest points are taken. Whether the secret is the
    right one shows only against something else, such as a public key: altered shares open another.

    Raises:
        ProtocolError: ``malformed-message`` for a share that `split` never makes, ``bad-share`` for
            shares that do not open 32 bytes, ``too-few-shares``.
    """
    if len(shares) < threshold:
        raise ProtocolError(
            "too-few-shares",
            f"{len(shares)} shares of a secret are there; {threshold} are needed to open it.",
            shares=len(shares),
            threshold=threshold,
        )
    values = {point: _parse(point, share) for point, share in shares.items()}
    points = tuple(sorted(values))[:threshold]
    secret: int = sum(map(mul, _at_zero(points), [values[point] for point in points])) % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise ProtocolError("bad-share", "The shares of a secret do not belong together.")
    return secret.to_bytes(SECRET_BYTES)


def combine_all(many: Sequence[Mapping[int, bytes]], threshold: int) -> list[bytes]:
    """The secrets of several sets of shares; see `combine`."""
    return [combine(shares, threshold) for shares in many]


def is_share(data: bytes) -> bool:
    """Whether `split` could have made it."""
    return len(data) == SHARE_BYTES and int.from_bytes(data) < PRIME


def _parse(point: int, share: bytes) -> int:
    value = int.from_bytes(share)
    if not is_share(share) or not 0 < point < PRIME:
        raise ProtocolError("malformed-message", "A share of a secret has the wrong form.")
    return value


@lru_cache(maxsize=1024)
def _at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    """Lagrange's coefficients at 0: prod(x_j / (x_j - x_i)) over j other than i, for each i.

    They say who holds shares and nothing of what is shared, so that they may stay in a cache.
    """
    denominators = [
        x * math.prod([other - x for other in points if other != x]) % PRIME for x in points
    ]
    # One inversion for all (Montgomery): 1/d_i = (d_0 ... d_{i-1}) / (d_0 ... d_i).
    products = list(accumulate(denominators, lambda a, b: a * b % PRIME, initial=1))
    inverse = pow(products.pop(), -1, PRIME) * math.prod(points) % PRIME
    coefficients = []
    for denominator, before in zip(reversed(denominators), reversed(products), strict=True):
        coefficients.append(inverse * before % PRIME)
        inverse = inverse * denominator % PRIME
    return tuple(reversed(coefficients))
