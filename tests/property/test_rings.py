"""Sums through the rings: exact for counts and reals, within a stated bound for vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cohortium.core.rounds import Array, Contribution, FieldKind, FieldSpec, Layout
from cohortium.errors import InputError
from cohortium.secagg import vector
from cohortium.secagg.frame import Frame
from cohortium.secagg.ring import COUNT, REAL, Ring, ring_for
from cohortium.secagg.vector import MaskKey, add, apply_masks, check_word, decode, encode_masked

names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
kinds: st.SearchStrategy[FieldKind] = st.sampled_from(["count", "real", "vector"])
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
bounds = st.floats(2.0**-64, 2.0**64)
specs = st.builds(FieldSpec, shapes, kinds, bounds)
sites = st.integers(2, 7)


@pytest.fixture(autouse=True, scope="module")
def threads_for_short_vectors() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector, "THREAD_BYTES", 1)
        yield


def key(*facts: object) -> bytes:
    return hashlib.sha256(repr(facts).encode()).digest()


def pair_masks(own: int, n_sites: int) -> list[MaskKey]:
    return [
        MaskKey(key(min(own, peer), max(own, peer)), negate=own > peer)
        for peer in range(n_sites)
        if peer != own
    ]


def elements(spec: FieldSpec, n_sites: int) -> st.SearchStrategy[Any]:
    """Numbers that each of `n_sites` may contribute, the largest among them."""
    if spec.kind == "count":
        most = (2**63 - 1) // n_sites
        return st.integers(-most, most)
    largest = ring_for(spec, n_sites).largest(n_sites)
    return st.floats(-largest, largest) | st.sampled_from([largest, -largest])


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Layout, list[Contribution]]:
    n_sites = draw(sites)
    layout: Layout = draw(st.dictionaries(names, specs, max_size=4))
    contributions: list[Contribution] = []
    for _ in range(n_sites):
        own: dict[str, Array] = {}
        for name, spec in layout.items():
            flat = draw(st.lists(elements(spec, n_sites), min_size=spec.size, max_size=spec.size))
            dtype = np.int64 if spec.kind == "count" else np.float64
            own[name] = np.array(flat, dtype=dtype).reshape(spec.shape)
        contributions.append(own)
    return layout, contributions


def masked_sum(layout: Layout, contributions: list[Contribution]) -> dict[str, Array]:
    n_sites = len(contributions)
    frame = Frame(layout, n_sites)
    total = bytearray(frame.n_bytes)
    for site, own in enumerate(contributions):
        masks = pair_masks(site, n_sites)
        add(frame, total, encode_masked(frame, own, masks, dither=key("dither", site)))
    assert check_word(frame, total) == n_sites
    return dict(decode(frame, total))


def vector_error(n_sites: int, ring: Ring, exact: Fraction) -> Fraction:
    """Each site's rounding to less than a unit, and that of the sum to float32."""
    return n_sites / Fraction(2) ** ring.fraction_bits + abs(exact) / 2**24


@settings(deadline=None, max_examples=200)
@given(rounds())
def test_what_is_encoded_summed_and_decoded_is_the_sum(
    case: tuple[Layout, list[Contribution]],
) -> None:
    """Also where all sites contribute the largest number: nothing wraps."""
    layout, contributions = case
    n_sites = len(contributions)
    total = masked_sum(layout, contributions)
    assert {name: array.shape for name, array in total.items()} == {
        name: spec.shape for name, spec in layout.items()
    }
    for name, spec in layout.items():
        ring = ring_for(spec, n_sites)
        columns = zip(*(own[name].reshape(-1).tolist() for own in contributions), strict=True)
        for found, column in zip(total[name].reshape(-1).tolist(), columns, strict=True):
            if spec.kind == "count":
                assert found == sum(column)
            elif spec.kind == "real":
                units = sum(round(Fraction(value) * 2**128) for value in column)
                assert found == float(Fraction(units, 2**128))  # correctly rounded, once
            else:
                exact = sum(map(Fraction, column), Fraction())
                assert abs(Fraction(found) - exact) <= vector_error(n_sites, ring, exact)


@settings(deadline=None, max_examples=25)
@example(1_000_000, "vector", 3, 2, 0)
@example(1_000_000, "count", 3, 2, 0)
@example(0, "vector", 2, 1, 0)
@given(st.integers(0, 1_000_000), kinds, sites, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_any_length_comes_out_as_the_exact_sum_of_the_encodings(
    n: int, kind: FieldKind, n_sites: int, threads: int, seed: int
) -> None:
    n_sites, n = min(n_sites, 4), n // 20 if kind == "real" else n
    random = np.random.default_rng(seed)
    frame = Frame({"x": FieldSpec((n,), kind)}, n_sites)
    plain, total = bytearray(frame.n_bytes), bytearray(frame.n_bytes)
    for site in range(n_sites):
        own: Array
        if kind == "count":
            own = random.integers(-(2**63) // n_sites + 1, 2**63 // n_sites, n)
        else:
            own = random.uniform(-64, 64, n)
        masks = [MaskKey(key("self", site), negate=False), *pair_masks(site, n_sites)]
        masked = encode_masked(frame, {"x": own}, masks, dither=key(site), threads=threads)
        add(frame, total, masked)
        add(frame, plain, encode_masked(frame, {"x": own}, [], dither=key(site)))
    selves = [MaskKey(key("self", site), negate=True) for site in range(n_sites)]
    apply_masks(frame, total, selves, threads=threads)
    assert total == plain
    assert check_word(frame, total) == n_sites


@settings(deadline=None, max_examples=200)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(2, 10_000))
def test_a_real_is_encoded_to_within_half_a_unit_or_refused(value: float, n_sites: int) -> None:
    if abs(value) > REAL.largest(n_sites):
        with pytest.raises(InputError, match="too large"):
            REAL.encode(np.array([value]), n_sites)
        return
    encoded = REAL.encode(np.array([value]), n_sites)
    element = Fraction(int.from_bytes(encoded.tobytes(), "little", signed=True), 2**128)
    assert abs(element - Fraction(value)) <= Fraction(1, 2**129)
    if abs(value) >= 2.0**-75:
        assert REAL.decode(encoded)[0] == value


@settings(deadline=None, max_examples=300)
@given(bounds, st.integers(2, 100_000), st.floats(-1, 1), st.integers(0, 2**32 - 1), st.booleans())
def test_a_vector_component_is_encoded_to_its_neighbours_and_never_wraps(
    bound: float, n_sites: int, part: float, dither: int, single: bool
) -> None:
    ring = ring_for(FieldSpec((1,), "vector", bound), n_sites)
    own = np.array([part * bound], dtype=np.float32 if single else np.float64)
    encoded = ring.encode(own, n_sites, np.array([dither], dtype=np.uint32))
    word = int(encoded.view(np.int32)[0])
    # To 2^-32 of a unit, which is all that the 32 bits of a dither word tell apart.
    sharp = Fraction(float(own[0])) * Fraction(2) ** ring.fraction_bits
    assert abs(word - sharp) < 1 + Fraction(1, 2**32)
    assert abs(word) * n_sites <= 2**31 - 1


@given(bounds, st.integers(2, 1000), st.floats(allow_nan=True), st.booleans())
def test_what_a_vector_may_not_hold_is_refused(
    bound: float, n_sites: int, value: float, negative: bool
) -> None:
    ring = ring_for(FieldSpec((1,), "vector", bound), n_sites)
    own = np.array([-value if negative else value])
    if abs(value) <= bound:
        assert ring.encode(own, n_sites).size == 1
    elif not abs(value) <= float(np.nextafter(np.float32(bound), np.float32(np.inf))):
        with pytest.raises(InputError) as caught:
            ring.encode(own, n_sites)
        assert caught.value.details == {"index": 0}


@pytest.mark.parametrize(("n_sites", "bound"), [(3, 64.0), (10, 1.0), (5, 1000.0)])
def test_a_sum_of_vectors_is_right_on_average(n_sites: int, bound: float) -> None:
    """The errors of 200 000 components: mean 0 within 5 standard errors, no wider than stated.

    A unit's fraction p is rounded with variance p(1 - p), for uniform p 1/6 on average.
    """
    n, spec = 200_000, FieldSpec((200_000,), "vector", bound)
    ring = ring_for(spec, n_sites)
    random = np.random.default_rng(20261122)
    contributions: list[Contribution] = [
        {"x": random.uniform(-bound, bound, n)} for _ in range(n_sites)
    ]
    frame = Frame({"x": spec}, n_sites)
    total = bytearray(frame.n_bytes)
    for site, own in enumerate(contributions):
        add(frame, total, encode_masked(frame, own, [], dither=key("mean", site)))
    elements_found = np.frombuffer(total, dtype="<i4", offset=frame.fields[0].start)[:n]
    exact = sum(own["x"] for own in contributions) * 2.0**ring.fraction_bits
    error = elements_found - exact
    deviation = np.sqrt(n_sites / 6)
    assert abs(error.mean()) < 5 * deviation / np.sqrt(n)
    assert error.std() == pytest.approx(deviation, rel=0.02)
    assert np.abs(error).max() < n_sites


@pytest.mark.parametrize("ring", [REAL, Ring(128, 64)])
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_sums_and_differences_of_limbs_are_those_of_integers(
    ring: Ring, data: st.DataObject
) -> None:
    word = st.sampled_from([0, 1, 2**64 - 1, 2**63]) | st.integers(0, 2**64 - 1)
    size = data.draw(st.integers(0, 6)) * ring.words
    one, other = (
        np.array(data.draw(st.lists(word, min_size=size, max_size=size)), dtype=np.uint64)
        for _ in range(2)
    )

    def integers(words: Array) -> list[int]:
        parts = words.reshape(-1, ring.words).tolist()
        return [sum(int(w) << (64 * place) for place, w in enumerate(part)) for part in parts]

    for negate in (False, True):
        total = one.copy()
        ring.add(total, other, negate=negate)
        sign = -1 if negate else 1
        assert integers(total) == [
            (a + sign * b) % 2**ring.bits
            for a, b in zip(integers(one), integers(other), strict=True)
        ]


@given(st.integers(-(2**255), 2**255 - 1))
def test_every_element_decodes_to_the_nearest_double(element: int) -> None:
    data = (element % 2**256).to_bytes(32, "little")
    decoded = REAL.decode(np.frombuffer(data, dtype=np.uint64))[0]
    assert decoded == float(Fraction(element, 2**128))


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_count_decodes_to_itself(element: int) -> None:
    data = (element % 2**64).to_bytes(8, "little")
    assert COUNT.decode(np.frombuffer(data, dtype=np.uint64))[0] == element
