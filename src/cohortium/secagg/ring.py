"""Fixed-point numbers in Z_2^32, Z_2^64 and Z_2^256, as little-endian words of 32 or 64 bits.

A value x is an integer near x * 2^fraction_bits, negative ones in two's complement. A sum of n
sites is exact, in any order, as long as it cannot wrap: each site checks its own values against the
worst case before it masks them.

    kind     ring                   a site's value          what is exact
    count    Z_2^64                 |x| <= (2^63 - 1) / n   every integer
    real     Z_2^256, f = 128       |x| <  2^127 / n        multiples of 2^-128, so every float64 of
                                                            2^-75 or more; others to nearest
    vector   Z_2^32, f from bound   |x| <= bound            multiples of 2^-f; others go up or down
                                                            at random, right on average

ADR 0004 and 0012; stochastic rounding: Gupta et al., ICML 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import inf
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cohortium.core.rounds import Array, FieldSpec
from cohortium.errors import InputError

Words = npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Limbs = npt.NDArray[np.uint64]

_ONE = np.uint64(1)
_SIGN = 63
_MANTISSA, _BIAS = 52, 1023  # of a float64 (IEEE 754-2019 3.6)
_STEP: Final = 16 * 1024
"""Components that are rounded at once: their copies stay in the cache."""


@dataclass(frozen=True)
class Ring:
    """Z_2^bits with `fraction_bits` binary places; words of 32 bits for 32 bits, else of 64.

    Attributes:
        fraction_bits: Of a ring of 32 bits it may be negative.
        bound: The largest absolute value that is taken, where that is less than what fits.
    """

    bits: int
    fraction_bits: int
    bound: float = inf

    @property
    def word(self) -> np.dtype[Any]:
        """The type of a word."""
        return np.dtype("<u4" if self.bits == 32 else "<u8")

    @property
    def words(self) -> int:
        """Words of an element."""
        return max(1, self.bits // 64)

    @property
    def element_bytes(self) -> int:
        """Bytes of an element."""
        return self.bits // 8

    @property
    def integral(self) -> bool:
        """Whether it holds counts: exact integers, and nothing else."""
        return self.fraction_bits == 0 and self.bits > 32

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the decoded sum: int64 for counts, float32 in one word, else float64."""
        if self.integral:
            return np.dtype(np.int64)
        return np.dtype(np.float32 if self.words == 1 else np.float64)

    def largest(self, n_sites: int) -> float:
        """The largest absolute real that `n_sites` may each contribute."""
        fits = (2 ** (self.bits - 1) - 1) // n_sites
        nearest = float(fits)
        if int(nearest) > fits:
            nearest = float(np.nextafter(nearest, 0.0))
        return min(self.bound, nearest * 2.0**-self.fraction_bits)

    def encode(
        self,
        values: Array,
        n_sites: int,
        dither: npt.NDArray[np.uint32] | None = None,
        out: Words | None = None,
    ) -> Words:
        """Encode a flat array as words, shape (values.size * words,); element-major.

        Args:
            dither: For a ring of 32 bits: a uniform word for each value, which is rounded up with
                probability equal to its fraction (to 2^-32 of the ring's unit). None: to nearest.
            out: Where to write the words. Without it, int64 counts are not copied but viewed.

        Raises:
            InputError: ``overflow``; `details` hold the index of the first such component.
        """
        if self.integral:
            _check_integers(values, n_sites)
            if out is None:
                return values.astype(np.int64, copy=False).view(np.uint64)
            np.copyto(out.view(np.int64), values, casting="unsafe")
            return out
        if out is None:
            out = np.empty(values.size * self.words, dtype=self.word)
        reals = values if values.dtype == np.float32 else np.asarray(values, dtype=np.float64)
        largest = self.largest(n_sites)
        # NaN compares false with everything, so that it fails this test as the infinities do.
        low, high = float(reals.min(initial=0.0)), float(reals.max(initial=0.0))
        if not -largest <= low <= high <= largest:
            _refuse(~(np.abs(reals, dtype=np.float64) <= largest))
        if self.bits == 32:
            _round_by(reals, self.fraction_bits, dither, out)
            return out
        scaled = np.rint(reals.astype(np.float64, copy=False) * 2.0**self.fraction_bits)
        if self.words == 1:
            np.copyto(out.view(np.int64), scaled, casting="unsafe")
        else:
            out[:] = _to_limbs(scaled, self.words)
        return out

    def decode(self, words: Words) -> Array:
        """The signed values as `dtype`, each correctly rounded."""
        if self.words == 1:
            signed = np.int32 if self.bits == 32 else np.int64
            values: Array = words.view(signed).astype(self.dtype)
        else:
            values = _from_limbs(words.view(np.uint64).reshape(-1, self.words))
        if self.fraction_bits:
            values *= self.dtype.type(2.0**-self.fraction_bits)
        return values

    def add(
        self, total: Words, other: Words, *, negate: bool = False, augend: Words | None = None
    ) -> None:
        """``total += other`` (or ``-=``) in place, element by element.

        Args:
            augend: What `other` is added to instead of `total`, which takes the sum.
        """
        if self.words > 1:
            if augend is not None:
                np.copyto(total, augend)
            _add_limbs(total.view(np.uint64), other.view(np.uint64), self.words, negate=negate)
            return
        operation = np.subtract if negate else np.add
        operation(total if augend is None else augend, other, out=total)


COUNT: Final = Ring(64, 0)
REAL: Final = Ring(256, 128)


def ring_for(spec: FieldSpec, n_sites: int) -> Ring:
    """The ring of a field that `n_sites` add up.

    That of a vector has as many fraction bits f as the worst case leaves room for:
    n * bound * 2^f + n <= 2^31 - 1, the second n for the rounding.
    """
    if spec.kind == "count":
        return COUNT
    if spec.kind == "real":
        return REAL
    return _vector_ring(spec.bound, n_sites)


@lru_cache(maxsize=1024)
def _vector_ring(bound: float, n_sites: int) -> Ring:
    # What is clipped to the bound in float32 may exceed it by half an ulp; it is taken.
    bound = max(bound, float(np.float32(bound)))
    room = Fraction(2**31 - 1 - n_sites) / (n_sites * Fraction(bound))
    if room <= 0:
        raise RuntimeError(f"{n_sites} sites are too many for a ring of 32 bits")
    fraction_bits = room.numerator.bit_length() - room.denominator.bit_length()
    if Fraction(2) ** fraction_bits > room:
        fraction_bits -= 1
    return Ring(32, fraction_bits, bound)


def _check_integers(values: Array, n_sites: int) -> None:
    bound = (2**63 - 1) // n_sites
    if values.dtype.kind not in "iub":
        raise RuntimeError("a count must be an array of integers")
    if values.size and not -bound <= int(values.min()) <= int(values.max()) <= bound:
        _refuse((values > bound) | (values < -bound))


def _refuse(bad: npt.NDArray[np.bool_]) -> None:
    index = int(np.flatnonzero(bad)[0])
    raise InputError(
        "overflow", f"Component {index} is too large or not finite for the masked sum.", index=index
    )


def _round_by(
    reals: Array, fraction_bits: int, dither: npt.NDArray[np.uint32] | None, out: Words
) -> None:
    """floor(x * 2^fraction_bits + u / 2^32) for a dither word u, as 32-bit words.

    In integers of 64 bits, the lower 32 of them for what lies below the ring's unit.
    """
    scale = reals.dtype.type(2.0 ** (fraction_bits + 32))  # a power of two: exact in float32 too
    scaled = np.empty(min(_STEP, reals.size), dtype=reals.dtype)
    integers = np.empty(scaled.size, dtype=np.int64)
    for first in range(0, reals.size, _STEP):
        end = min(first + _STEP, reals.size)
        x, y = scaled[: end - first], integers[: end - first]
        np.multiply(reals[first:end], scale, out=x)
        np.copyto(y, x, casting="unsafe")
        y += np.uint32(1 << 31) if dither is None else dither[first:end]
        y >>= 32
        np.copyto(out[first:end].view(np.int32), y, casting="unsafe")


def _add_limbs(total: Limbs, other: Limbs, words: int, *, negate: bool = False) -> None:
    """``total += other`` (or ``-=``) in place, mod 2^(64 * words); both flat, element-major."""
    if negate:
        carry = total < other
        np.subtract(total, other, out=total)
    else:
        np.add(total, other, out=total)
        carry = total < other
    step, wrapped = (np.subtract, ~np.uint64(0)) if negate else (np.add, np.uint64(0))
    # The word after a carrying one takes the carry. That it wraps in turn is rare.
    carry.reshape(-1, words)[:, -1] = False
    while carry.any():
        upper, carried = total[1:], carry[:-1]
        step(upper, carried.astype(np.uint64), out=upper)
        carry[1:] = carried & (upper == wrapped)
        carry[0] = False
        carry.reshape(-1, words)[:, -1] = False


def _to_limbs(scaled: npt.NDArray[np.float64], words: int) -> Limbs:
    """Integral float64 as two's complement limbs, exactly; flat."""
    bits = scaled.view(np.uint64)
    significand = bits & np.uint64((1 << _MANTISSA) - 1) | np.uint64(1 << _MANTISSA)
    exponent = (bits >> np.uint64(_MANTISSA) & np.uint64(0x7FF)).astype(np.int64)
    out = np.empty((len(scaled), words), dtype=np.uint64)
    for word in range(words):
        # The significand's lowest bit is bit `shift` of this word; numpy shifts by 64 or more to 0,
        # which takes care of the value 0 with its exponent 0.
        shift = exponent - (_BIAS + _MANTISSA + 64 * word)
        left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
        out[:, word] = (significand << left.view(np.uint64)) >> right.view(np.uint64)
    negative = scaled < 0
    if negative.any():
        # -m = ~m + 1
        out ^= (-negative.astype(np.int64)).view(np.uint64)[:, None]
        one = np.zeros_like(out)
        one[:, 0] = negative
        _add_limbs(out.reshape(-1), one.reshape(-1), words)
    return out.reshape(-1)


def _from_limbs(limbs: Limbs) -> npt.NDArray[np.float64]:
    """Two's complement limbs as float64, rounded to nearest, ties to even; shape (n,)."""
    words = limbs.shape[1]
    negative = (limbs[:, -1] >> np.uint64(_SIGN)).astype(np.bool_)
    magnitude = limbs.copy()
    if negative.any():
        negated = np.zeros_like(magnitude[negative])
        _add_limbs(negated.reshape(-1), limbs[negative].reshape(-1), words, negate=True)
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


def _leading_zeros(words: Limbs) -> Limbs:
    """Leading zero bits of each word; 0 for the word 0."""
    count = np.zeros(words.shape, dtype=np.uint64)
    rest = words.copy()
    for step in (32, 16, 8, 4, 2, 1):
        small = (rest >> np.uint64(64 - step)) == 0
        count[small] += np.uint64(step)
        rest[small] <<= np.uint64(step)
    return np.where(words == 0, np.uint64(0), count)
