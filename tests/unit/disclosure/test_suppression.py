"""Primary and secondary suppression of one-way tables."""

from __future__ import annotations

import numpy as np
import pytest

from cohortium.disclosure.limits import Disclosure
from cohortium.disclosure.suppression import (
    Release,
    follows_from_mean,
    is_small,
    nearly_equal,
    suppress,
)

OPEN, FEW, SECOND = Release.OPEN, Release.TOO_FEW, Release.SECONDARY


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([10, 20, 30], [OPEN, OPEN, OPEN]),
        ([10, 0, 30], [OPEN, OPEN, OPEN]),
        ([4, 20, 30], [FEW, SECOND, OPEN]),
        ([4, 4, 30], [FEW, FEW, OPEN]),
        ([1, 1, 30], [FEW, FEW, SECOND]),
        ([3, 97], [FEW, SECOND]),
        ([3, 0, 97], [FEW, OPEN, SECOND]),
        ([3, 50, 50], [FEW, SECOND, OPEN]),
        ([2, 0], [FEW, SECOND]),
        ([], []),
    ],
)
def test_what_is_withheld(counts: list[int], expected: list[Release]) -> None:
    assert suppress(np.array(counts, dtype=np.int64), 5).tolist() == expected


def test_no_withheld_cell_follows_from_the_total() -> None:
    random = np.random.default_rng(1)
    for _ in range(500):
        counts = random.integers(0, 12, size=random.integers(2, 7))
        withheld = suppress(counts, 5) != Release.OPEN
        assert not np.any(~withheld & (counts > 0) & (counts < 5))
        if withheld.any():
            assert withheld.sum() >= 2
            assert counts[withheld].sum() >= 5 or withheld.all()


def test_a_cell_is_small_between_one_and_the_minimum() -> None:
    assert [n for n in range(8) if is_small(n, 5)] == [1, 2, 3, 4]
    assert not any(is_small(n, 1) for n in range(3))


@pytest.mark.parametrize(
    ("values", "gives_away"),
    [
        ([1] * 3 + [0] * 97, True),
        ([1] * 97 + [0] * 3, True),
        ([1] * 5 + [0] * 95, False),
        ([0] * 100, False),
        ([2] * 3 + [0] * 97, False),
    ],
)
def test_the_mean_of_zeros_and_ones_is_a_count(values: list[int], gives_away: bool) -> None:
    array = np.array(values, dtype=float)
    mean, square = float(array.mean()), float((array**2).mean())
    assert follows_from_mean(len(values), mean, square, 5) is gives_away


def test_the_stricter_limits_satisfy_both() -> None:
    ours, theirs = Disclosure(min_cell=5, floor="total"), Disclosure(min_cell=10, floor="total")
    assert ours.stricter(theirs) == Disclosure(min_cell=10, floor="total")
    assert Disclosure().stricter(theirs) == Disclosure(min_cell=10, floor="site")


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ((50, 1, 0, 50), True),  # all but one
        ((50, 4, 4, 50), True),  # four each way
        ((50, 5, 0, 50), False),
        ((50, 0, 0, 50), False),  # the same persons
        ((0, 50, 50, 0), False),  # one is what the other leaves
        ((1, 50, 50, 4), True),
        ((1, 50, 50, 5), False),
        ((3, 50, 2, 50), False),  # a small cell, which others withhold
    ],
)
def test_two_groups_are_nearly_equal_where_few_persons_tell_them_apart(
    cells: tuple[int, ...], told: bool
) -> None:
    assert bool(nearly_equal(np.array(cells), 5)) is told
    assert nearly_equal(np.array([cells, cells]).T, 5).tolist() == [told, told]
