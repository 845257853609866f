from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cohortium.errors import InputError
from cohortium.secagg.ring import COUNT, REAL, VECTOR, Ring, add_limbs


def as_integers(words: np.ndarray, ring: Ring) -> list[int]:
    """The ring's elements as signed Python integers."""
    out = []
    for element in words.reshape(-1, ring.words):
        value = sum(int(word) << (64 * place) for place, word in enumerate(element))
        out.append(value - (1 << ring.bits) if value >> (ring.bits - 1) else value)
    return out


def as_words(values: list[int], ring: Ring) -> np.ndarray:
    mask = (1 << 64) - 1
    flat = [
        ((value % (1 << ring.bits)) >> (64 * place)) & mask
        for value in values
        for place in range(ring.words)
    ]
    return np.array(flat, dtype=np.uint64)


@pytest.mark.parametrize(
    "value",
    [0.0, -0.0, 1.0, -1.0, 0.1, -0.1, 1e30, -1e30, 2.0**-75, 5e-324, -(2.0**-128), 2.0**63, 1e-60],
)
def test_a_real_is_encoded_to_the_nearest_multiple_of_its_unit(value: float) -> None:
    (encoded,) = as_integers(REAL.encode(np.array([value]), 3), REAL)
    exact = Fraction(value) * 2**128
    assert abs(encoded - exact) <= Fraction(1, 2)
    if abs(value) >= 2.0**-75:
        assert encoded == exact
        assert REAL.decode(REAL.encode(np.array([value]), 3))[0] == value


def test_ties_round_to_even_when_a_sum_is_decoded() -> None:
    unit = 1 << 128
    half_above_even = (2**53) * unit + unit  # 2^53 + 1 lies between two doubles
    half_above_odd = (2**53 + 2) * unit + unit
    just_above_half = half_above_even + 1
    values = [half_above_even, half_above_odd, just_above_half, -half_above_even, -just_above_half]
    decoded = REAL.decode(as_words(values, REAL))
    assert decoded.tolist() == [float(Fraction(v, unit)) for v in values]
    assert decoded[0] == 2.0**53
    assert decoded[2] == 2.0**53 + 2


@pytest.mark.parametrize("ring", [COUNT, REAL, VECTOR])
def test_the_ends_of_the_ring_decode_to_themselves(ring: Ring) -> None:
    ends = [2 ** (ring.bits - 1) - 1, -(2 ** (ring.bits - 1)), 0, 1, -1]
    decoded = ring.decode(as_words(ends, ring))
    scale = 2**ring.fraction_bits
    assert decoded.tolist() == [
        end if ring is COUNT else float(Fraction(end, scale)) for end in ends
    ]


@pytest.mark.parametrize("n_sites", [2, 3, 7, 10_000])
def test_the_largest_value_of_every_site_together_does_not_wrap(n_sites: int) -> None:
    for ring in (REAL, VECTOR):
        largest = ring.largest(n_sites)
        for sign in (1, -1):
            (one,) = as_integers(ring.encode(np.array([sign * largest]), n_sites), ring)
            assert abs(one) * n_sites < 2 ** (ring.bits - 1)
        with pytest.raises(InputError):
            ring.encode(np.array([largest * (1 + 2**-40)]), n_sites)
    count = (2**63 - 1) // n_sites
    assert as_integers(COUNT.encode(np.array([count, -count]), n_sites), COUNT) == [count, -count]
    with pytest.raises(InputError):
        COUNT.encode(np.array([count + 1]), n_sites)
    with pytest.raises(InputError):
        COUNT.encode(np.array([-count - 1]), n_sites)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("ring", [REAL, VECTOR])
def test_what_is_not_finite_or_too_large_is_refused_with_its_place(ring: Ring, bad: float) -> None:
    with pytest.raises(InputError) as caught:
        ring.encode(np.array([0.0, 1.0, bad, np.nan]), 2)
    assert caught.value.code == "overflow"
    assert caught.value.details == {"index": 2}


def test_an_unsigned_count_beyond_the_ring_is_refused() -> None:
    with pytest.raises(InputError, match="Component 1"):
        COUNT.encode(np.array([1, 2**64 - 1], dtype=np.uint64), 2)


def test_a_count_of_reals_is_a_programming_error() -> None:
    with pytest.raises(RuntimeError):
        COUNT.encode(np.array([1.0]), 2)


def test_nothing_encodes_to_nothing() -> None:
    for ring in (COUNT, REAL, VECTOR):
        empty = np.array([], dtype=np.int64 if ring is COUNT else np.float64)
        assert ring.encode(empty, 2).size == 0
        assert ring.decode(ring.encode(empty, 2)).size == 0


def test_carries_and_borrows_run_through_all_limbs() -> None:
    total = as_words([-1, 2**255 - 1, 0, 2**192], REAL)
    other = as_words([1, 1, 1, 1], REAL)
    REAL.add(total, other)
    assert as_integers(total, REAL) == [0, -(2**255), 1, 2**192 + 1]
    REAL.add(total, other, negate=True)
    assert as_integers(total, REAL) == [-1, 2**255 - 1, 0, 2**192]
    limbs = total.reshape(-1, 4)
    add_limbs(limbs, limbs.copy(), negate=True)
    assert not total.any()
