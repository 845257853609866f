from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import stats

from cohortium.core.rounds import Contribution, FieldSpec, Layout
from cohortium.errors import InputError
from cohortium.secagg.frame import BLOCK_BYTES, Frame
from cohortium.secagg.noise import BATCH, discrete_gaussian
from cohortium.secagg.vector import MaskKey, Noise, encode_masked

NEVER = 1e-9
"""A sound sampler fails a test once in a thousand million runs."""


@pytest.mark.parametrize("sigma", [0.5, 1.3, 4.0])
def test_samples_follow_the_exact_probabilities(sigma: float) -> None:
    samples = discrete_gaussian(sigma, 30_000, threads=2)
    reach = int(6 * sigma) + 1
    x = np.arange(-10 * reach, 10 * reach + 1)
    probability = np.exp(-(x**2) / (2 * sigma**2))
    probability /= probability.sum()
    cells = [x < -2 * sigma, *(x == k for k in range(-int(2 * sigma), int(2 * sigma) + 1))]
    expected = np.array([probability[cell].sum() for cell in [*cells, x > 2 * sigma]])
    seen = [samples < -2 * sigma]
    seen += [samples == k for k in range(-int(2 * sigma), int(2 * sigma) + 1)]
    observed = np.array([cell.sum() for cell in [*seen, samples > 2 * sigma]])
    assert observed.sum() == len(samples)
    assert stats.chisquare(observed, expected * len(samples)).pvalue > NEVER


@pytest.mark.parametrize(("sigma", "shares"), [(0.8, 7), (2.0**21, 4)])
def test_the_sum_of_shares_has_the_sum_of_their_variances(sigma: float, shares: int) -> None:
    size = 6000
    total = np.sum([discrete_gaussian(sigma, size) for _ in range(shares)], axis=0)
    # sum of squares / variance is nearly chi-square with `size` degrees of freedom
    statistic = float((total.astype(np.float64) ** 2).sum()) / (shares * sigma**2)
    assert stats.chi2.ppf(NEVER, size) < statistic < stats.chi2.isf(NEVER, size)
    assert abs(total.mean()) < 7 * sigma * (shares / size) ** 0.5


def test_components_are_independent_across_batches_and_threads() -> None:
    samples = discrete_gaussian(50.0, 2 * BATCH + 17, threads=2)
    assert samples.shape == (2 * BATCH + 17,)
    assert samples.dtype == np.int64
    first, second = samples[:BATCH], samples[BATCH : 2 * BATCH]
    assert abs(np.corrcoef(first, second)[0, 1]) < 7 / BATCH**0.5
    assert abs(np.corrcoef(samples[:-1], samples[1:])[0, 1]) < 7 / BATCH**0.5


def test_two_draws_differ() -> None:
    assert not np.array_equal(discrete_gaussian(1e6, 20), discrete_gaussian(1e6, 20))


def test_nothing_is_drawn_for_an_empty_field() -> None:
    assert discrete_gaussian(3.0, 0).shape == (0,)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf"), 2.0**49])
def test_a_sigma_that_gives_no_proper_noise_is_a_programming_error(sigma: float) -> None:
    with pytest.raises(RuntimeError, match="sigma"):
        discrete_gaussian(sigma, 5)


def test_without_the_extra_noise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opendp", None)
    monkeypatch.setitem(sys.modules, "opendp.measurements", None)
    with pytest.raises(InputError) as error:
        discrete_gaussian(1.0, 5)
    assert error.value.code == "missing-extra"


# --- noise in a masked vector ---------------------------------------------------------------------

LAYOUT: Layout = {
    "n": FieldSpec((), "count"),
    "cells": FieldSpec((BLOCK_BYTES // 8 + 5,), "count"),
    "gram": FieldSpec((3, 3), "real"),
    "update": FieldSpec((3, BLOCK_BYTES // 4 + 1), "vector", 4.0),
    "exact": FieldSpec((7,), "vector", 1.0),
}
FRAME = Frame(LAYOUT, 3)


def contribution() -> Contribution:
    random = np.random.default_rng(5)
    return {
        name: random.integers(-9, 9, spec.shape)
        if spec.kind == "count"
        else random.uniform(-1, 1, spec.shape)
        for name, spec in LAYOUT.items()
    }


def noise(*names: str) -> Noise:
    random = np.random.default_rng(6)
    return {name: random.integers(-(2**20), 2**20, LAYOUT[name].size) for name in names}


def test_noise_is_added_to_the_encoding_and_to_nothing_else() -> None:
    given, drawn = contribution(), noise("n", "cells", "update")
    masks = [MaskKey(bytes([7]) * 32, negate=False)]
    without = encode_masked(FRAME, given, masks, dither=bytes(32))
    added = encode_masked(FRAME, given, masks, dither=bytes(32), noise=drawn)
    assert added == encode_masked(FRAME, given, masks, dither=bytes(32), noise=drawn, threads=3)
    for segment in FRAME.segments:
        place = slice(segment.start, segment.start + segment.n_bytes)
        first = np.frombuffer(without[place], dtype=segment.ring.word)
        second = np.frombuffer(added[place], dtype=segment.ring.word)
        expected = drawn.get(segment.name, np.zeros(1, dtype=np.int64))
        signed = np.int32 if segment.ring.bits == 32 else np.int64
        assert ((second - first).view(signed) == expected).all(), segment.name
    for name, array in contribution().items():
        assert (given[name] == array).all()


@pytest.mark.parametrize(
    "drawn",
    [
        {"gram": np.zeros(9, dtype=np.int64)},
        {"n": np.zeros((), dtype=np.int64)},
        {"exact": np.zeros(6, dtype=np.int64)},
        {"exact": np.zeros(7)},
        {"other": np.zeros(1, dtype=np.int64)},
    ],
)
def test_noise_that_does_not_fit_the_layout_is_a_programming_error(drawn: Noise) -> None:
    with pytest.raises(RuntimeError, match="does not fit"):
        encode_masked(FRAME, contribution(), [], dither=bytes(32), noise=drawn)
