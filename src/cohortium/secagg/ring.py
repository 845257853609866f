"""Fixed-point numbers in Z_2^64 and Z_2^256, as little-endian 64-bit words.

A value x is the integer round(x * 2^fraction_bits), negative ones in two's complement. A sum of
n sites is exact, in any order, as long as it cannot wrap: each site checks its own values against
the worst case before it masks them.

    ring     kind     a site's value              what is exact
    COUNT    count    |x| <= (2^63 - 1) / n       every integer
    REAL     real     |x| <  2^127 / n            every float64 multiple of 2^-128, so every one of
                                                  2^-75 or more; smaller ones are rounded to 2^-128
    VECTOR   vector   |x| <  2^31 / n             every multiple of 2^-32; others are rounded to it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.core.rounds import Array, FieldKind
from cohortium.errors import InputError

Words = npt.NDArray[np.uint64]

_ONE = np.uint64(1)
_SIGN = 63


@dataclass(frozen=True)
class Ring:
    """Z_2^bits with `fraction_bits` binary places."""

    bits: int
    fraction_bits: int

    @property
    def words(self) -> int:
        """64-bit words of an element."""
        return self.bits // 64

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the decoded sum: int64 without fraction bits, float32 in one word, else float64."""
        if self.fraction_bits == 0:
            return np.dtype(np.int64)
        return np.dtype(np.float32 if self.words == 1 else np.float64)

    def largest(self, n_sites: int) -> float:
        """The largest absolute real that `n_sites` may each contribute."""
        bound = (2 ** (self.bits - 1) - 1) // n_sites
        nearest = float(bound)
        if int(nearest) > bound:
            nearest = float(np.nextafter(nearest, 0.0))
        return nearest * 2.0**-self.fraction_bits

    def encode(self, values: Array, n_sites: int) -> Words:
        """Encode a flat array as words, shape (values.size * words,); element-major.

        Raises:
            InputError: ``overflow``; `details` hold the index of the first such component.
        """
        if self.fraction_bits == 0:
            return _encode_integers(values, n_sites)
        reals = np.asarray(values, dtype=np.float64)
        bound = self.largest(n_sites)
        # NaN compares false with everything, so that it fails this test as the infinities do.
        if not -bound <= reals.min(initial=0.0) <= reals.max(initial=0.0) <= bound:
            _refuse(~(np.abs(reals) <= bound))
        scaled = np.rint(reals * 2.0**self.fraction_bits)
        if self.words == 1:
            return scaled.astype(np.int64).view(np.uint64)
        return _to_limbs(scaled, self.words).reshape(-1)

    def decode(self, words: Words) -> Array:
        """The signed values as `dtype`, each correctly rounded."""
        if self.words == 1:
            values: Array = words.view(np.int64).astype(self.dtype)
        else:
            values = _from_limbs(words.reshape(-1, self.words))
        if self.fraction_bits:
            values *= self.dtype.type(2.0**-self.fraction_bits)
        return values

    def add(self, total: Words, other: Words, *, negate: bool = False) -> None:
        """``total += other`` (or ``-=``) in place, element by element."""
        if self.words > 1:
            add_limbs(total.reshape(-1, self.words), other.reshape(-1, self.words), negate=negate)
        elif negate:
            np.subtract(total, other, out=total)
        else:
            np.add(total, other, out=total)


COUNT = Ring(64, 0)
REAL = Ring(256, 128)
VECTOR = Ring(64, 32)

RINGS: Mapping[FieldKind, Ring] = MappingProxyType({"count": COUNT, "real": REAL, "vector": VECTOR})


def add_limbs(total: Words, other: Words, *, negate: bool = False) -> None:
    """Multi-word ``total += other`` (or ``-=``) in place, mod 2^(64 * words); shapes (n, words)."""
    # a - b = a + ~b + 1
    carry = np.full(len(total), int(negate), dtype=np.uint64)
    for limb in range(total.shape[1]):
        addend = ~other[:, limb] if negate else other[:, limb]
        partial = total[:, limb] + addend
        wrapped = partial < addend
        partial += carry
        wrapped |= partial < carry
        total[:, limb] = partial
        carry = wrapped.astype(np.uint64)


def _encode_integers(values: Array, n_sites: int) -> Words:
    bound = (2**63 - 1) // n_sites
    if values.dtype.kind not in "iub":
        raise RuntimeError("a count must be an array of integers")
    if values.size and not -bound <= int(values.min()) <= int(values.max()) <= bound:
        _refuse((values > bound) | (values < -bound))
    return values.astype(np.int64).view(np.uint64)


def _refuse(bad: npt.NDArray[np.bool_]) -> None:
    index = int(np.flatnonzero(bad)[0])
    raise InputError(
        "overflow", f"Component {index} is too large or not finite for the masked sum.", index=index
    )


def _to_limbs(scaled: npt.NDArray[np.float64], words: int) -> Words:
    """Integral float64 as two's complement limbs, exactly; shape (n, words)."""
    mantissa, exponent = np.frexp(np.abs(scaled))
    significand = np.ldexp(mantissa, 53).astype(np.uint64)
    shift = exponent.astype(np.int64) - 53
    significand >>= np.maximum(-shift, 0).astype(np.uint64)  # zeros only: the value is integral
    shift = np.maximum(shift, 0)
    limb, bit = shift >> 6, (shift & 63).astype(np.uint64)
    rows = np.arange(len(scaled))
    out = np.zeros((len(scaled), words), dtype=np.uint64)
    out[rows, limb] = significand << bit
    # What the shift pushed out of the word; nothing where the last word is reached.
    out[rows, np.minimum(limb + 1, words - 1)] |= (significand >> _ONE) >> (np.uint64(63) - bit)
    negative = scaled < 0
    if negative.any():
        magnitude = out[negative]
        negated = np.zeros_like(magnitude)
        add_limbs(negated, magnitude, negate=True)
        out[negative] = negated
    return out


def _from_limbs(limbs: Words) -> npt.NDArray[np.float64]:
    """Two's complement limbs as float64, rounded to nearest, ties to even; shape (n,)."""
    words = limbs.shape[1]
    negative = (limbs[:, -1] >> np.uint64(_SIGN)).astype(np.bool_)
    magnitude = limbs.copy()
    if negative.any():
        negated = np.zeros_like(magnitude[negative])
        add_limbs(negated, limbs[negative], negate=True)
        magnitude[negative] = negated
    rows = np.arange(len(limbs))
    top = words - 1 - np.argmax(magnitude[:, ::-1] != 0, axis=1)
    top = np.where(magnitude.any(axis=1), top, 0)
    high = magnitude[rows, top]
    below = np.where(top > 0, magnitude[rows, np.maximum(top - 1, 0)], np.uint64(0))
    # Normalise to 64 significant bits; what lies below only matters as "not zero" (sticky bit).
    lead = _leading_zeros(high)
    window = (high << lead) | ((below >> _ONE) >> (np.uint64(63) - lead))
    nonzero_below = np.cumsum(magnitude != 0, axis=1)
    deeper = np.where(top > 1, nonzero_below[rows, np.maximum(top - 2, 0)], 0) > 0
    sticky = ((below << lead) != 0) | deeper
    window |= sticky.astype(np.uint64)
    value: npt.NDArray[np.float64] = np.ldexp(
        window.astype(np.float64), top * 64 - lead.astype(np.int64)
    )
    np.negative(value, out=value, where=negative)
    return value


def _leading_zeros(words: Words) -> Words:
    """Leading zero bits of each word; 0 for the word 0."""
    count = np.zeros(words.shape, dtype=np.uint64)
    rest = words.copy()
    for step in (32, 16, 8, 4, 2, 1):
        small = (rest >> np.uint64(64 - step)) == 0
        count[small] += np.uint64(step)
        rest[small] <<= np.uint64(step)
    return np.where(words == 0, np.uint64(0), count)
