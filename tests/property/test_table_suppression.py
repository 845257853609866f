"""Whoever solves the released table by linear programming does not find a small cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from cohortium.disclosure.suppression import Release
from cohortium.disclosure.tables import suppress_list, suppress_table, with_margins


def interval(table: Any, withheld: Any, cell: tuple[int, int]) -> tuple[float, float]:
    """What can be said of a withheld cell: no cell is negative, and all totals hold."""
    places = {tuple(at): k for k, at in enumerate(np.argwhere(withheld).tolist())}
    n_rows, n_columns = table.shape
    rows = [
        [(i, j, -1 if j == n_columns - 1 else 1) for j in range(n_columns)] for i in range(n_rows)
    ]
    columns = [
        [(i, j, -1 if i == n_rows - 1 else 1) for i in range(n_rows)] for j in range(n_columns)
    ]
    matrix, right = [], []
    for line in [*rows, *columns]:
        equation, known = np.zeros(len(places)), 0
        for i, j, sign in line:
            if (i, j) in places:
                equation[places[i, j]] = sign
            else:
                known -= sign * int(table[i, j])
        matrix.append(equation)
        right.append(known)
    ends = []
    for direction in (1, -1):
        goal = np.zeros(len(places))
        goal[places[cell]] = direction
        found = linprog(goal, A_eq=np.array(matrix), b_eq=right, bounds=(0, None), method="highs")
        assert found.status in {0, 3}
        ends.append(np.inf if found.status == 3 else direction * found.fun)
    return ends[0], ends[1]


def check(table: Any, withheld: Any, cells: Any, min_cell: int) -> None:
    for cell in map(tuple, cells.tolist()):
        low, high = interval(table, withheld, cell)
        count = int(table[cell])
        assert low <= max(0, count - min_cell) + 1e-6
        assert high >= max(count, min_cell) - 1e-6


@st.composite
def counts(draw: st.DrawFn) -> Any:
    """Tables from sparse to full, with empty cells, of one to five rows and columns."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    mean = draw(st.sampled_from([0.5, 2.0, 5.0, 8.0, 20.0, 60.0]))
    return random.poisson(mean, size=shape) * (random.random(shape) < draw(st.floats(0.5, 1.0)))


@settings(max_examples=40, deadline=None)
@given(counts=counts(), min_cell=st.sampled_from([3, 5, 10]), alone=st.booleans())
def test_no_protected_cell_is_known_to_less_than_the_minimum(
    counts: Any, min_cell: int, alone: bool
) -> None:
    table = with_margins(counts)
    if table[-1, -1] < min_cell or counts.size == 1:
        return
    marked = np.zeros(table.shape, dtype=np.bool_)
    if alone:
        marked[:-1, :-1] = (counts > 0) & (np.random.default_rng(1).random(counts.shape) < 0.2)
    status = suppress_table(table, min_cell, marked)
    protected = ((table > 0) & (table < min_cell)) | marked
    assert np.all(status[protected] != Release.OPEN)
    assert status[-1, -1] == Release.OPEN
    check(table, status != Release.OPEN, np.argwhere(protected), min_cell)


@settings(max_examples=40, deadline=None)
@given(counts=counts(), min_cell=st.sampled_from([3, 5, 10]))
def test_rows_and_columns_withhold_two_cells_that_hold_the_minimum(
    counts: Any, min_cell: int
) -> None:
    table = with_margins(counts)
    if table[-1, -1] < min_cell or counts.size == 1:
        return
    status = suppress_table(table, min_cell)
    for lines, margins in ((status, table), (status.T, table.T)):
        for line, numbers in zip(lines[:-1], margins[:-1], strict=True):
            if line[-1] == Release.OPEN and Release.TOO_FEW in line[:-1]:
                withheld = line[:-1] != Release.OPEN
                assert withheld.sum() >= 2
                assert numbers[:-1][withheld].sum() >= min_cell


@settings(max_examples=40, deadline=None)
@given(counts=counts(), min_cell=st.sampled_from([3, 5, 10]))
def test_a_table_and_the_tables_of_its_margins_do_not_tell_more_together(
    counts: Any, min_cell: int
) -> None:
    """From above, no cell is bounded below the minimum."""
    table = with_margins(counts)
    if table[-1, -1] < min_cell or counts.size == 1:
        return
    withheld = suppress_table(table, min_cell) != Release.OPEN
    for margin in ((slice(None, -1), -1), (-1, slice(None, -1))):
        withheld[margin] &= suppress_list(table[margin], min_cell) != Release.OPEN
    for i, j in np.argwhere((table > 0) & (table < min_cell)).tolist():
        assert withheld[i, j]
        assert interval(table, withheld, (i, j))[1] >= min_cell - 1e-6


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 20), min_size=2, max_size=8),
    marks=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_a_list_does_not_give_away_its_small_cells(counts: list[int], marks: list[bool]) -> None:
    array = np.array(counts, dtype=np.int64)
    if array.sum() < 5:
        return
    alone = np.array(marks[: len(counts)]) & (array > 0)
    status = suppress_list(array, 5, alone)
    withheld = status != Release.OPEN
    protected = ((array > 0) & (array < 5)) | alone
    assert np.all(withheld[protected])
    if protected.any():
        hidden = array[withheld]
        assert withheld.sum() >= 2
        for at in np.flatnonzero(protected):
            # The others of unknown size fill up what the total leaves.
            assert hidden.sum() >= max(array[at], 5)


def test_the_linear_program_finds_a_cell_that_is_not_protected() -> None:
    table = with_margins(np.array([[3, 40, 50], [60, 70, 80]]))
    withheld = np.zeros(table.shape, dtype=np.bool_)
    withheld[0, :2] = True  # another one in the row, but none in the columns
    with pytest.raises(AssertionError):
        check(table, withheld, np.array([[0, 0]]), 5)
