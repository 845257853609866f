"""Philox 4x32-10 against the known answers of Random123 (kat_vectors), and as uniform numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cohortium.analysis.philox import key_of, normals, philox, uniforms


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000",
         "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
         "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_the_known_answers(counter: str, key: str, answer: str) -> None:
    words = np.array([[int(word, 16)] for word in counter.split()], dtype=np.uint64)
    first, second = (int(word, 16) for word in key.split())
    found = philox(np.repeat(words, 3, axis=1), (first, second))
    assert found.shape == (4, 3)
    assert [f"{word:08x}" for word in found[:, 2].tolist()] == answer.split()


def test_numbers_are_uniform_and_normal_and_depend_on_everything() -> None:
    key, at = key_of(b"a", b"b"), np.arange(20_000)
    assert key != key_of(b"ab")
    drawn = uniforms(key, at, (1, 2, 3))
    assert stats.kstest(drawn, "uniform").pvalue > 0.001
    assert drawn.min() > 0
    assert drawn.max() < 1
    noise = normals(key, at, (1, 2, 3))
    assert stats.kstest(noise, "norm").pvalue > 0.001
    for place in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        other = normals(key, at, place)
        assert abs(np.corrcoef(noise, other)[0, 1]) < 0.03
    part = normals(key, at[500:600], (1, 2, 3))
    assert np.array_equal(part, noise[500:600])
