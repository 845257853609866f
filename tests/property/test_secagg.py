from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from tests.support.secagg import BINDING, World, words

from cohortium.core.canonical import digest
from cohortium.core.rounds import Array, Contribution, FieldKind, FieldSpec, Layout
from cohortium.errors import InputError, ProtocolError
from cohortium.secagg.aggregator import aggregate
from cohortium.secagg.masks import MaskStream, new_buffer
from cohortium.secagg.party import Party
from cohortium.secagg.ring import RINGS

names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
kinds: st.SearchStrategy[FieldKind] = st.sampled_from(["count", "real", "vector"])
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
layouts = st.dictionaries(names, st.builds(FieldSpec, shapes, kinds), max_size=4)


def values(spec: FieldSpec, n_sites: int) -> st.SearchStrategy[Array]:
    """Arrays that the ring takes from each of `n_sites`."""
    element: st.SearchStrategy[Any]
    if spec.kind == "count":
        bound = (2**63 - 1) // n_sites
        element = st.integers(-bound, bound)
    else:
        bound_real = RINGS[spec.kind].largest(n_sites)
        element = st.floats(-bound_real, bound_real)
    dtype = np.int64 if spec.kind == "count" else np.float64
    return st.lists(element, min_size=spec.size, max_size=spec.size).map(
        lambda flat: np.array(flat, dtype=dtype).reshape(spec.shape)
    )


@st.composite
def federations(draw: st.DrawFn) -> tuple[World, Layout, dict[str, Contribution]]:
    sites = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    layout: Layout = draw(layouts)
    contributions: dict[str, Contribution] = {
        site: {name: draw(values(spec, len(sites))) for name, spec in layout.items()}
        for site in sites
    }
    return World(sites), layout, contributions


def exact_sum(arrays: list[Array], spec: FieldSpec) -> list[Fraction]:
    """The sum of the ring's encodings, as Python fractions."""
    scale = 2 ** RINGS[spec.kind].fraction_bits
    columns = zip(*(array.reshape(-1).tolist() for array in arrays), strict=True)
    return [
        sum((Fraction(round(Fraction(v) * scale), scale) for v in c), Fraction()) for c in columns
    ]


@settings(deadline=None, max_examples=150)
@given(federations())
def test_the_masked_sum_is_the_exact_sum(
    case: tuple[World, Layout, dict[str, Contribution]],
) -> None:
    world, layout, contributions = case
    total = world.sum(layout, contributions)
    assert set(total) == set(layout)
    for name, spec in layout.items():
        assert total[name].shape == spec.shape
        exact = exact_sum([contribution[name] for contribution in contributions.values()], spec)
        found = total[name].reshape(-1).tolist()
        if spec.kind == "count":
            assert found == [int(value) for value in exact]
        elif spec.kind == "real":
            assert found == [float(value) for value in exact]  # correctly rounded, once
        else:
            elements = np.array([int(value * 2**32) for value in exact], dtype=np.int64)
            assert found == (elements.astype(np.float32) * np.float32(2.0**-32)).tolist()


@settings(deadline=None, max_examples=50)
@given(federations(), st.randoms(use_true_random=False))
def test_the_order_of_sites_keys_and_vectors_does_not_matter(
    case: tuple[World, Layout, dict[str, Contribution]], random: Any
) -> None:
    world, layout, contributions = case
    masked = world.mask_all(layout, contributions)
    straight = aggregate(masked, world.roster(), BINDING, layout)
    order = list(world.sites)
    random.shuffle(order)
    roster = world.roster([world.envelopes[site] for site in order])
    again = {
        site: bytes(
            Party(site, world.secrets[site], roster).mask(BINDING, layout, contributions[site])
        )
        for site in order
    }
    assert again == masked
    shuffled = aggregate(again, roster, BINDING, layout)
    assert {k: v.tobytes() for k, v in straight.items()} == {
        k: v.tobytes() for k, v in shuffled.items()
    }


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(2, 10_000))
def test_a_real_is_encoded_to_within_half_a_unit_or_refused(value: float, n_sites: int) -> None:
    for kind in ("real", "vector"):
        ring = RINGS[kind]
        if abs(value) > ring.largest(n_sites):
            with pytest.raises(InputError, match="too large"):
                ring.encode(np.array([value]), n_sites)
            continue
        encoded = ring.encode(np.array([value]), n_sites)
        word = int.from_bytes(encoded.tobytes(), "little", signed=True)
        element = Fraction(word, 2**ring.fraction_bits)
        assert abs(element - Fraction(value)) <= Fraction(1, 2 ** (ring.fraction_bits + 1))
        decoded = Fraction(float(ring.decode(encoded)[0]))
        assert abs(decoded - element) <= abs(element) * Fraction(1, 2**24)
        if kind == "real" and abs(value) >= 2.0**-75:
            assert decoded == Fraction(value)


@given(st.integers(-(2**255), 2**255 - 1))
def test_every_element_decodes_to_the_nearest_double(element: int) -> None:
    ring = RINGS["real"]
    data = (element % 2**256).to_bytes(32, "little")
    decoded = ring.decode(np.frombuffer(data, dtype=np.uint64))[0]
    assert decoded == float(Fraction(element, 2**128))


def transcript(label: str, value: float, n: int) -> dict[str, bytes]:
    """What a hub sees of three sites with fresh keys: a has `value`, b its negative, c zero."""
    world = World(["a", "b", "c"], label=label)
    layout: Layout = {"x": FieldSpec((n,), "vector"), "y": FieldSpec((n // 4,), "real")}
    own = {"a": value, "b": -value, "c": 0.0}
    return world.mask_all(
        layout,
        {site: {"x": np.full(n, v), "y": np.full(n // 4, v)} for site, v in own.items()},
    )


def is_uniform(data: bytes) -> float:
    """The p-value of the hypothesis that the bytes are uniform (chi-square, 255 df)."""
    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    return float(chisquare(counts).pvalue)


def word_sum(*vectors: bytes) -> bytes:
    """The sum word by word, as a hub that ignores carries would form it."""
    return np.sum([words(vector) for vector in vectors], axis=0, dtype=np.uint64).tobytes()


@pytest.mark.parametrize("value", [0.0, 1.0, -12345.678])
def test_without_one_sites_vector_what_the_hub_has_looks_uniform(value: float) -> None:
    masked = transcript(f"uniform {value}", value, 40_000)
    for size in (1, 2):
        for subset in combinations(masked.values(), size):
            assert is_uniform(word_sum(*subset)) > 1e-6
    assert is_uniform(word_sum(*masked.values())) < 1e-300  # all three: the plain sum


def test_a_masked_word_has_one_distribution_whatever_it_hides() -> None:
    seen = {
        value: np.concatenate(
            [words(transcript(f"{value} {i}", value, 4)["a"]) for i in range(150)]
        ).astype(np.float64)
        / 2**64
        for value in (0.0, 7e8)
    }
    for sample in seen.values():
        assert kstest(sample, "uniform").pvalue > 1e-6


def test_colluding_sites_and_the_hub_still_lack_the_mask_between_two_honest_ones() -> None:
    """Subtract every mask that site c knows: a and b are left with the one that they share."""
    world = World(["a", "b", "c"])
    layout: Layout = {"x": FieldSpec((40_000,), "vector")}
    zeros = {"x": np.zeros(40_000)}
    masked = world.mask_all(layout, dict.fromkeys(world.sites, zeros))
    roster = world.roster()
    opened = {}
    for site in ("a", "b"):
        pair = world.party("c")._pairs[site]
        stream = MaskStream(pair, BINDING.digest(layout, roster.digest))
        buffer = new_buffer()
        mask = np.concatenate([stream.next(n, buffer).copy() for n in (16_000, 16_000, 8_001)])
        opened[site] = (words(masked[site]) - mask).tobytes()
        assert is_uniform(opened[site]) > 1e-6
    np.testing.assert_array_equal(words(word_sum(*opened.values())), [2] + [0] * 40_000)


@settings(deadline=None, max_examples=60)
@given(federations(), st.sampled_from(["state", "round", "roster"]), st.data())
def test_one_site_that_was_told_something_else_is_noticed(
    case: tuple[World, Layout, dict[str, Contribution]], lie: str, data: st.DataObject
) -> None:
    world, layout, contributions = case
    masked = world.mask_all(layout, contributions)
    roster = world.roster()
    site = data.draw(st.sampled_from(list(world.sites)))
    binding, told = BINDING, roster
    if lie == "state":
        binding = replace(BINDING, state_digest=digest("lie"))
    elif lie == "round":
        binding = replace(BINDING, round=data.draw(st.integers(1, 1000)))
    else:
        other = data.draw(st.sampled_from([s for s in world.sites if s != site]))
        told = replace(roster, keys={**roster.keys, other: b"\x09" + bytes(31)})
    party = Party(site, world.secrets[site], told)
    masked[site] = bytes(party.mask(binding, layout, contributions[site]))
    with pytest.raises(ProtocolError, match="did not mask for the same"):
        aggregate(masked, roster, BINDING, layout)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_garbage_vectors_are_refused(one: bytes, two: bytes) -> None:
    world = World(["a", "b"])
    layout: Layout = {"x": FieldSpec((1,), "real")}
    with pytest.raises(ProtocolError):
        aggregate({"a": one, "b": two}, world.roster(), BINDING, layout)
