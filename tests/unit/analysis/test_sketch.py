"""Tables of counts that are added up and taken apart again."""

from __future__ import annotations

import numpy as np
import pytest

from cohortium.analysis.sketch import CHECK_BITS, Sketch


def keys_of(seed: int, n: int, bits: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    random = np.random.default_rng(seed)
    keys = random.integers(0, 2**bits, n)
    keys[: n // 3] = keys[n // 3 : n // 3 * 2]  # some held by two persons
    return keys


@pytest.mark.parametrize(("n", "bits"), [(1, 1), (7, 48), (400, 33), (5000, 20)])
def test_the_sum_of_two_sites_gives_everybodys_keys(n: int, bits: int) -> None:
    sketch = Sketch(2 * n, bits, Sketch.cells_for(2 * n))
    here, there = keys_of(1, n, bits), keys_of(2, n, bits)
    found = sketch.decode(sketch.encode(here) + sketch.encode(there))
    assert found is not None
    keys, persons = np.unique(np.concatenate([here, there]), return_counts=True)
    assert np.array_equal(found[0], keys)
    assert np.array_equal(found[1], persons)


def test_an_empty_table_holds_nobody() -> None:
    sketch = Sketch(10, 8, Sketch.cells_for(10))
    found = sketch.decode(np.zeros(sketch.shape, dtype=np.int64))
    assert found is not None
    assert len(found[0]) == 0


def test_more_keys_than_it_has_room_for_do_not_come_out_wrong() -> None:
    sketch = Sketch(900, 30, Sketch.cells_for(300))
    assert sketch.decode(sketch.encode(np.arange(900))) is None


def test_a_table_that_nobody_has_written_does_not_come_out() -> None:
    sketch = Sketch(100, 30, Sketch.cells_for(100))
    random = np.random.default_rng(3)
    for _ in range(20):
        assert sketch.decode(random.integers(-5, 2**33, sketch.shape)) is None
    table = sketch.encode(np.arange(50))
    table[1, 7] += 1
    assert sketch.decode(table) is None


def test_another_salt_puts_keys_elsewhere() -> None:
    keys = np.arange(50)
    one, other = (Sketch(50, 10, 100, salt).encode(keys) for salt in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("persons", [1, 1000, 2**22, 2**32])
def test_sums_stay_exact_whatever_the_number_of_persons(persons: int) -> None:
    sketch = Sketch(persons, 40, 100)
    assert persons * 2**sketch.word_bits <= 2**53
    assert (sketch.shape[0] - 1) * sketch.word_bits >= 40 + CHECK_BITS
