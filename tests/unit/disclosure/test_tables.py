"""Which cells of a table are withheld where its margins are released."""

from __future__ import annotations

import numpy as np
import pytest

from cohortium.disclosure.suppression import Release, suppress
from cohortium.disclosure.tables import (
    suppress_list,
    suppress_table,
    with_margins,
    withheld_levels,
)

OPEN, FEW, SECOND, ALONE = Release.OPEN, Release.TOO_FEW, Release.SECONDARY, Release.ONE_SITE


def decide(counts: list[list[int]], min_cell: int = 5) -> list[list[Release]]:
    status = suppress_table(with_margins(np.array(counts, dtype=np.int64)), min_cell)
    return [[Release(int(one)) for one in row] for row in status]


def test_margins_stand_last() -> None:
    table = with_margins(np.array([[1, 2], [3, 4]]))
    assert table.tolist() == [[1, 2, 3], [3, 4, 7], [4, 6, 10]]


def test_a_table_without_small_cells_is_open_with_its_empty_cells() -> None:
    assert decide([[0, 20], [10, 30]]) == [[OPEN] * 3] * 3


def test_one_small_cell_takes_one_in_its_row_one_in_its_column_and_the_fourth() -> None:
    assert decide([[100, 50, 30], [60, 3, 40], [70, 80, 90]]) == [
        [OPEN, SECOND, SECOND, OPEN],
        [OPEN, FEW, SECOND, OPEN],
        [OPEN, OPEN, OPEN, OPEN],
        [OPEN, OPEN, OPEN, OPEN],
    ]


def test_all_of_a_2x2_with_a_small_cell_is_withheld_but_its_margins_are_not() -> None:
    assert decide([[3, 40], [60, 70]]) == [
        [FEW, SECOND, OPEN],
        [SECOND, SECOND, OPEN],
        [OPEN, OPEN, OPEN],
    ]


def test_a_row_of_few_persons_is_withheld_with_its_margin_and_another_margin() -> None:
    status = decide([[2, 0, 0], [50, 60, 70], [80, 90, 99]])
    assert status[0][0] == status[0][3] == FEW
    assert [row[3] for row in status].count(OPEN) == 2  # one other row, and not the grand total
    assert status[3][3] == OPEN


def test_small_cells_that_protect_each_other_need_no_more() -> None:
    status = decide([[3, 4, 90], [4, 3, 80], [70, 60, 50]])
    assert [row[:2] for row in status[:2]] == [[FEW, FEW], [FEW, FEW]]
    assert sum(row.count(SECOND) for row in status) == 0


def test_two_small_cells_that_hold_too_few_together_take_a_third() -> None:
    # In the first row 1 + 1 persons: whoever knows the rule would know both.
    status = decide([[1, 1, 90], [1, 1, 80], [70, 60, 50]])
    assert status[0][2] == SECOND
    assert status[1][2] == SECOND


@pytest.mark.parametrize("seed", range(4))
def test_a_one_way_table_is_decided_as_before(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(200):
        counts = random.integers(0, 12, size=random.integers(2, 7))
        if counts.sum() >= 5:
            assert suppress_list(counts, 5).tolist() == suppress(counts, 5).tolist()


def test_one_institutions_cell_is_withheld_with_another() -> None:
    alone = np.array([False, True, False])
    assert suppress_list(np.array([60, 50, 70]), 5, alone).tolist() == [SECOND, ALONE, OPEN]
    table = with_margins(np.array([[60, 50], [70, 80]]))
    marked = np.zeros(table.shape, dtype=np.bool_)
    marked[0, 1] = True
    assert suppress_table(table, 5, marked)[:2, :2].tolist() == [[SECOND, ALONE], [SECOND, SECOND]]


def test_the_decision_depends_on_the_numbers_alone() -> None:
    random = np.random.default_rng(3)
    counts = random.poisson(7, size=(5, 4))
    first = suppress_table(with_margins(counts), 5)
    assert suppress_table(with_margins(counts.copy(order="F")), 5).tolist() == first.tolist()
    # Where no two cells are equal, neither does the order of the levels matter.
    counts = random.permutation(np.arange(1, 21)).reshape(5, 4) ** 2
    rows, columns = random.permutation(5), random.permutation(4)
    turned = suppress_table(with_margins(counts[rows][:, columns]), 5)[:-1, :-1]
    straight = suppress_table(with_margins(counts), 5)[:-1, :-1]
    assert ((turned != 0) == (straight[rows][:, columns] != 0)).all()


def test_a_table_of_the_largest_size_is_decided_soon() -> None:
    counts = np.random.default_rng(0).poisson(4, size=(32, 32))
    status = suppress_table(with_margins(counts), 5)
    assert (status[:-1, :-1][(counts > 0) & (counts < 5)] == FEW).all()


def test_a_total_of_too_few_is_withheld_itself() -> None:
    assert decide([[2, 0], [0, 1]]) == [[FEW] * 3] * 3
    assert suppress_list(np.array([2, 0, 1]), 5).tolist() == [FEW] * 3


def test_nothing_protects_the_only_cell_of_a_released_total() -> None:
    marked = np.array([[True, False], [False, False]])
    with pytest.raises(RuntimeError):
        suppress_table(with_margins(np.array([[50]])), 5, marked)


def test_levels_in_groups_are_withheld_across_the_groups_too() -> None:
    counts = np.array([[100, 50, 30], [60, 3, 40], [70, 80, 90]])
    withheld = withheld_levels(counts, 5)
    assert withheld[1].tolist() == [False, True, True]
    assert withheld.sum(axis=0).tolist() == [0, 2, 2]
    assert withheld_levels(counts[:1] + 2, 5).tolist() == [[False] * 3]
    assert withheld_levels(np.array([[3, 50, 60]]), 5).tolist() == [[True, True, False]]


def test_a_table_too_large_to_decide_on_shows_nothing_beside_a_small_cell() -> None:
    counts = np.full((40, 40), 9)
    assert not withheld_levels(counts, 5).any()
    counts[3, 3] = 2
    assert withheld_levels(counts, 5).all()
