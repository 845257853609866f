from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from cohortium.core.rounds import Array, FieldSpec
from cohortium.errors import InputError
from cohortium.secagg.ring import COUNT, REAL, Ring, Words, ring_for

WIDE = Ring(128, 64)
LONG = Ring(64, 32)


def vector_ring(n_sites: int, bound: float = 64.0) -> Ring:
    return ring_for(FieldSpec((1,), "vector", bound), n_sites)


def as_integers(words: Words, ring: Ring) -> list[int]:
    """The ring's elements as signed Python integers."""
    data = words.astype(ring.word).tobytes()
    size = ring.element_bytes
    return [
        int.from_bytes(data[at : at + size], "little", signed=True)
        for at in range(0, len(data), size)
    ]


def as_words(values: list[int], ring: Ring) -> Words:
    data = b"".join(
        (value % (1 << ring.bits)).to_bytes(ring.element_bytes, "little") for value in values
    )
    return np.frombuffer(bytearray(data), dtype=ring.word)


def uniform(n: int, seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.random.default_rng(seed).integers(0, 2**32, n, dtype=np.uint32)


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


@pytest.mark.parametrize("ring", [COUNT, REAL, WIDE, LONG, Ring(32, 20), Ring(32, -7)])
def test_the_ends_of_the_ring_decode_to_themselves(ring: Ring) -> None:
    ends = [2 ** (ring.bits - 1) - 1, -(2 ** (ring.bits - 1)), 0, 1, -1]
    decoded = ring.decode(as_words(ends, ring))
    if ring is COUNT:
        assert decoded.tolist() == ends
    else:
        scale = Fraction(2) ** ring.fraction_bits
        exact = [ring.dtype.type(float(Fraction(end) / scale)) for end in ends]
        assert decoded.tolist() == exact


@pytest.mark.parametrize("n_sites", [2, 3, 7, 10_000])
@pytest.mark.parametrize("ring", [REAL, WIDE, LONG])
def test_the_largest_value_of_every_site_together_does_not_wrap(ring: Ring, n_sites: int) -> None:
    largest = ring.largest(n_sites)
    for sign in (1, -1):
        (one,) = as_integers(ring.encode(np.array([sign * largest]), n_sites), ring)
        assert abs(one) * n_sites < 2 ** (ring.bits - 1)
    with pytest.raises(InputError):
        ring.encode(np.array([largest * (1 + 2**-40)]), n_sites)


@pytest.mark.parametrize("n_sites", [2, 3, 7, 10_000])
def test_the_largest_count_of_every_site_together_does_not_wrap(n_sites: int) -> None:
    count = (2**63 - 1) // n_sites
    assert as_integers(COUNT.encode(np.array([count, -count]), n_sites), COUNT) == [count, -count]
    with pytest.raises(InputError):
        COUNT.encode(np.array([count + 1]), n_sites)
    with pytest.raises(InputError):
        COUNT.encode(np.array([-count - 1]), n_sites)


@pytest.mark.parametrize("bound", [2.0**-64, 1e-3, 0.1, 1.0, 64.0, 1000.0, 1e6, 2.0**64])
@pytest.mark.parametrize("n_sites", [2, 3, 50, 800, 100_000])
def test_a_vector_gets_all_the_fraction_bits_that_the_worst_case_leaves(
    n_sites: int, bound: float
) -> None:
    ring = vector_ring(n_sites, bound)
    taken = Fraction(ring.largest(n_sites))
    unit = Fraction(2) ** ring.fraction_bits
    assert n_sites * taken * unit + n_sites <= 2**31 - 1
    assert n_sites * taken * 2 * unit + n_sites > 2**31 - 1
    for dtype in (np.float32, np.float64):
        ends = np.array([bound, -bound], dtype=dtype)
        for word in (0, 2**32 - 1):  # always down, always up
            dither = np.full(2, word, dtype=np.uint32)
            encoded = as_integers(ring.encode(ends, n_sites, dither), ring)
            assert all(abs(one) * n_sites <= 2**31 - 1 for one in encoded)
            assert encoded[0] > 0 > encoded[1]


def test_too_many_sites_for_32_bits_are_a_programming_error() -> None:
    with pytest.raises(RuntimeError, match="too many"):
        vector_ring(2**31)


@pytest.mark.parametrize("bound", [0.0, -1.0, np.inf, np.nan, 2.0**65, 2.0**-65])
def test_a_bound_that_is_none_is_a_programming_error(bound: float) -> None:
    with pytest.raises(RuntimeError, match="bound"):
        FieldSpec((1,), "vector", bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_component_just_above_the_bound_is_refused(dtype: type[np.floating]) -> None:
    ring = vector_ring(3, 0.1)
    clipped = np.clip(np.array([1.0, -1.0], dtype=dtype), dtype(-0.1), dtype(0.1))
    assert len(ring.encode(clipped, 3, uniform(2))) == 2
    above = np.nextafter(max(np.float64(dtype(0.1)), np.float64(np.float32(0.1))), 1.0)
    if dtype is np.float32:
        above = np.nextafter(np.float32(0.1), np.float32(1.0))
    for sign in (1, -1):
        with pytest.raises(InputError) as caught:
            ring.encode(np.array([0.0, 0.05, sign * above], dtype=dtype), 3, uniform(3))
        assert caught.value.details == {"index": 2}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("ring", [REAL, WIDE, LONG, vector_ring(2)])
def test_what_is_not_finite_or_too_large_is_refused_with_its_place(ring: Ring, bad: float) -> None:
    with pytest.raises(InputError) as caught:
        ring.encode(np.array([0.0, 1.0, bad, np.nan]), 2)
    assert caught.value.code == "overflow"
    assert caught.value.details == {"index": 2}


def test_an_unsigned_count_beyond_the_ring_is_refused() -> None:
    with pytest.raises(InputError, match="Component 1"):
        COUNT.encode(np.array([1, 2**64 - 1], dtype=np.uint64), 2)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.bool_])
def test_counts_of_any_integer_type_are_exact(dtype: type[np.generic]) -> None:
    values = np.array([0, 1, 1, 0], dtype=dtype)
    assert COUNT.decode(COUNT.encode(values, 3)).tolist() == [0, 1, 1, 0]


def test_a_count_of_reals_is_a_programming_error() -> None:
    with pytest.raises(RuntimeError):
        COUNT.encode(np.array([1.0]), 2)


@pytest.mark.parametrize("ring", [COUNT, REAL, WIDE, LONG, vector_ring(2)])
def test_nothing_encodes_to_nothing(ring: Ring) -> None:
    empty: Array = np.array([], dtype=np.int64 if ring is COUNT else np.float64)
    assert ring.encode(empty, 2).size == 0
    assert ring.decode(ring.encode(empty, 2)).size == 0


@pytest.mark.parametrize("ring", [REAL, WIDE])
def test_carries_and_borrows_run_through_all_limbs(ring: Ring) -> None:
    top = ring.bits - 64
    total = as_words([-1, 2 ** (ring.bits - 1) - 1, 0, 2**top, 2**64 - 1, 2**top - 1], ring)
    other = as_words([1, 1, 1, 1, 2**64, 1], ring)
    before = as_integers(total, ring)
    ring.add(total, other)
    sums = [0, -(2 ** (ring.bits - 1)), 1, 2**top + 1, 2**65 - 1, 2**top]
    assert as_integers(total, ring) == sums
    ring.add(total, other, negate=True)
    assert as_integers(total, ring) == before
    ring.add(total, total.copy(), negate=True)
    assert not total.any()


def test_a_vector_is_rounded_down_or_up_by_its_dither_words() -> None:
    ring = Ring(32, 0)  # a unit of 1
    values = np.array([2.25, 2.25, -2.25, -2.25, 3.0, 3.0, -3.0, -3.0])
    quarter = 2**30  # of a unit; 2.25 goes up where the word is at least three of them
    dither = np.array(
        [3 * quarter - 1, 3 * quarter, quarter - 1, quarter, 0, 2**32 - 1, 0, 2**32 - 1],
        dtype=np.uint32,
    )
    for dtype in (np.float32, np.float64):
        encoded = ring.encode(values.astype(dtype), 2, dither)
        assert as_integers(encoded, ring) == [2, 3, -3, -2, 3, 3, -3, -3]
    nearest = ring.encode(np.array([2.25, 2.75, -2.25, -2.75]), 2)
    assert as_integers(nearest, ring) == [2, 3, -2, -3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, -0.1, 1e-7, -3.0 - 2.0**-19, 63.999])
def test_the_random_rounding_is_right_on_average(value: float, dtype: type[np.floating]) -> None:
    """The mean of 10^6 roundings is within 5 standard deviations (of at most 1/2 unit each)."""
    n, ring = 1_000_000, vector_ring(10)
    values = np.full(n, value, dtype=dtype)
    encoded = ring.encode(values, 10, uniform(n)).view(np.int32)
    exact = float(values[0]) * 2.0**ring.fraction_bits
    assert set(encoded.tolist()) <= {int(np.floor(exact)), int(np.floor(exact)) + 1}
    assert abs(float(encoded.mean(dtype=np.float64)) - exact) < 5 * 0.5 / np.sqrt(n)
    nearest = float(ring.encode(values[:1], 10).view(np.int32)[0])
    assert nearest == np.floor(exact + 0.5)


def test_the_roundings_of_two_components_are_independent() -> None:
    n, ring = 200_000, vector_ring(3)
    half = 2.0 ** -(ring.fraction_bits + 1)
    up = ring.encode(np.full(n, half), 3, uniform(n)).view(np.int32).astype(np.float64) - 0.5
    assert abs(np.mean(up[1:] * up[:-1]) * 4) < 5 / np.sqrt(n)


def test_float32_and_float64_of_the_same_values_are_rounded_alike() -> None:
    ring = vector_ring(5)
    values = np.random.default_rng(2).uniform(-64, 64, 50_000).astype(np.float32)
    dither = uniform(50_000)
    np.testing.assert_array_equal(
        ring.encode(values, 5, dither), ring.encode(values.astype(np.float64), 5, dither)
    )


@pytest.mark.parametrize("ring", [COUNT, REAL, WIDE, LONG, vector_ring(3)])
def test_encoding_into_given_words_is_the_same(ring: Ring) -> None:
    values: Array = np.arange(-50, 50)
    if ring is not COUNT:
        values = values / 8
    out = np.empty(100 * ring.words, dtype=ring.word)
    dither = uniform(100)
    assert ring.encode(values, 3, dither, out) is out
    np.testing.assert_array_equal(out, ring.encode(values, 3, dither))


@pytest.mark.parametrize("ring", [COUNT, REAL, vector_ring(3)])
@pytest.mark.parametrize("negate", [False, True])
def test_a_sum_may_be_written_beside_its_terms(ring: Ring, negate: bool) -> None:
    one, other = as_words([5, -1, 2**30], ring), as_words([-7, 1, 3], ring)
    expected, kept = one.copy(), one.copy()
    ring.add(expected, other, negate=negate)
    out = np.empty_like(one)
    ring.add(out, other, negate=negate, augend=one)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(one, kept)
