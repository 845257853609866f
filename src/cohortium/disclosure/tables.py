"""Which cells of a table of persons may be released where its margins are released too.

A table of R rows and C columns with its margins is one array of R + 1 by C + 1 cells. Multiply the
row totals and the column totals by -1, and each row and each column of it adds to zero. Somebody
who reads the released cells cannot tell apart the tables that differ by a circulation: an array
over the withheld cells, each of whose rows and columns adds to zero, that makes no cell negative.
How far a withheld cell can move is therefore a maximum flow between its row and its column, and
what has to be withheld beside it is found by sending that flow along the cheapest cells.

Protected cells (of 1 to ``min_cell - 1`` persons, or of one institution alone): whoever knows every
released cell and the rules finds for each of them an interval from at most
``max(0, count - min_cell)`` to at least ``max(count, min_cell)``. So every row and column with a
protected cell has another withheld one, and where its total is released they hold at least
`min_cell` persons together.

Empty cells are released: that nobody has two things together is what a table is read for, and it
holds for groups of at least `min_cell` persons only, since smaller margins are withheld. An empty
cell is withheld only where a smaller number needs it.

Reference: Hundepool et al. 2012, Statistical Disclosure Control, ch. 4; Cox 1995, Network models
for complementary cell suppression, JASA 90:1453.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.disclosure.suppression import Counts, Release

Mask = npt.NDArray[np.bool_]

MAX_CELLS: Final = 1024
"""Of one table, margins not counted: the work grows with the square of it."""

_FAR: Final = np.int64(2**62)


def with_margins(counts: Counts) -> Counts:
    """The table with its totals as last row and last column; shape (R + 1, C + 1)."""
    rows = np.concatenate([counts, counts.sum(axis=0, keepdims=True)])
    return np.concatenate([rows, rows.sum(axis=1, keepdims=True)], axis=1)


def suppress_table(table: Counts, min_cell: int, alone: Mask | None = None) -> Counts:
    """Decide on each cell of a two-way table and of its margins.

    The decision depends on the numbers alone, not on who counted them or in which order. Few cells
    are withheld rather than many, then small ones rather than large; an empty one counts as
    several. Among equal ones it is the first in the order of the levels.

    Of each margin at least those totals are withheld that `suppress_list` withholds of it, since it
    may be released as a table of its own; and only those, but where the least that a small cell can
    be would otherwise be known.

    Args:
        table: int64, shape (R + 1, C + 1); persons, as `with_margins` gives it.
        min_cell: Smallest count that may be released.
        alone: Cells of the same shape to withhold because they are of one institution's persons;
            the grand total is not among them.

    Returns:
        int64, shape (R + 1, C + 1); a `Release` for each cell.
    """
    if table[-1, -1] < min_cell:
        return np.full(table.shape, Release.TOO_FEW, dtype=np.int64)
    marked = np.zeros(table.shape, dtype=np.bool_) if alone is None else alone
    search = _Search(table, min_cell, marked, np.zeros(table.shape, dtype=np.bool_))
    for margin in ((slice(None, -1), -1), (-1, slice(None, -1))):
        search.withheld[margin] |= suppress_list(table[margin], min_cell, marked[margin]) != 0
    return search.status()


def suppress_list(counts: Counts, min_cell: int, alone: Mask | None = None) -> Counts:
    """Decide on each cell of a one-way table whose total is released.

    Args:
        counts: int64, shape (n_cells,).
        alone: Cells to withhold because they are of one institution's persons.

    Returns:
        int64, shape (n_cells,); a `Release` for each cell.
    """
    if int(counts.sum()) < min_cell:
        return np.full(counts.shape, Release.TOO_FEW, dtype=np.int64)
    # One row of a table whose other margin nobody releases.
    table = with_margins(counts[np.newaxis, :])
    hidden = np.zeros(table.shape, dtype=np.bool_)
    hidden[1] = True
    marked = np.zeros(table.shape, dtype=np.bool_)
    if alone is not None:
        marked[0, :-1] = alone
    return _Search(table, min_cell, marked, hidden).status()[0, :-1]


def withheld_levels(counts: Counts, min_cell: int) -> Mask:
    """Which levels of a category are withheld in which group of persons.

    The numbers of persons of each group and at each level over all groups are known, or may be.

    Args:
        counts: int64, shape (n_groups, n_levels).

    Returns:
        bool, of the same shape; with a small cell, all of a table too large to decide on.
    """
    small = (counts > 0) & (counts < min_cell)
    if not small.any():
        return small
    if counts.shape[0] == 1:
        return np.asarray(suppress_list(counts[0], min_cell)[np.newaxis] != Release.OPEN)
    if counts.size > MAX_CELLS:
        return np.ones(counts.shape, dtype=np.bool_)
    return np.asarray(suppress_table(with_margins(counts), min_cell)[:-1, :-1] != Release.OPEN)


class _Search:
    """The withheld cells so far, and one table `x` that the released cells do not exclude."""

    def __init__(self, table: Counts, min_cell: int, alone: Mask, hidden: Mask) -> None:
        self.table = table
        self.min_cell = min_cell
        self.hidden = hidden
        small = (table > 0) & (table < min_cell)
        self.first = (small | alone) & ~hidden
        self.reason = np.where(small, Release.TOO_FEW, Release.ONE_SITE)
        self.withheld = self.first | hidden
        self.sign = np.ones(table.shape, dtype=np.int64)
        self.sign[-1, :-1] = self.sign[:-1, -1] = -1
        self.inner = np.ones(table.shape, dtype=np.bool_)
        self.inner[-1, :] = self.inner[:, -1] = False
        self.cost = self._costs()
        self.x = table.copy()

    def status(self) -> Counts:
        cells = [(int(i), int(j)) for i, j in np.argwhere(self.first)]
        # The largest first: what protects them protects many of the smaller ones as well.
        for cell in sorted(cells, key=lambda cell: -int(self.table[cell])):
            count = int(self.table[cell])
            self._protect(cell, 1, max(0, self.min_cell - count))
            self._protect(cell, -1, min(count, self.min_cell))
        status = np.where(self.withheld & ~self.hidden, Release.SECONDARY, Release.OPEN)
        return np.where(self.first, self.reason, status).astype(np.int64)

    def _costs(self) -> Counts:
        """What withholding each cell costs: one cell first, then its persons."""
        persons = int(self.table[-1, -1]) + 1
        cost = self.table + persons
        cost[self.table == 0] = 4 * persons
        margin = 4 * persons * self.table.size
        cost[-1, :] += margin
        cost[:, -1] += margin
        cost[-1, -1] = _FAR
        return np.asarray(cost, dtype=np.int64)

    def _protect(self, cell: tuple[int, int], direction: int, need: int) -> None:
        """Withhold so much that the cell can move by `need` persons in one direction."""
        self.x = self.table.copy()
        while need > 0:
            path = (
                self._path(cell, direction, 1, self.withheld)
                or self._path(cell, direction, need, self.inner)
                or self._path(cell, direction, 1, self.inner)
                or self._path(cell, direction, need)
                or self._path(cell, direction, 1)
            )
            if path is None:
                raise RuntimeError("nothing can protect the only cell of a released total")
            falling = [int(self.x[at]) for at, up in path if not up]
            step = min([need, *falling])
            for at, up in path:
                self.x[at] += step if up else -step
                self.withheld[at] = True
            need -= step

    def _path(
        self, cell: tuple[int, int], direction: int, room: int, among: Mask | None = None
    ) -> list[tuple[tuple[int, int], bool]] | None:
        """The cheapest cells that close a circle with `cell`, and whether each rises.

        Args:
            direction: 1 where the cell rises, -1 where it falls.
            room: Each cell that falls has at least so many persons.
            among: Only these cells, and those that are withheld already.
        """
        cost = np.where(self.withheld, 0, self.cost)
        if among is not None:
            cost[~(among | self.withheld)] = _FAR
        cost[cell] = _FAR
        may_fall = self.x >= room
        rises = self.sign > 0
        # A flow from a row to a column adds to the cell between them, in the signed table.
        ahead = np.where(rises | may_fall, cost, _FAR)
        back = np.where(~rises | may_fall, cost, _FAR)
        row_to_column = direction * int(self.sign[cell]) < 0
        steps = _cheapest(ahead, back, cell, from_row=row_to_column)
        if steps is None:
            return None
        return [(at, bool(rises[at]) == forward) for at, forward in steps]


def _cheapest(
    ahead: Counts, back: Counts, cell: tuple[int, int], *, from_row: bool
) -> list[tuple[tuple[int, int], bool]] | None:
    """The cheapest way between a cell's row and its column: (cell, whether from row to column).

    Args:
        ahead: Cost of going from each row to each column. back: from each column to each row.
        from_row: Whether the way begins at the row of `cell` and ends at its column.
    """
    n_rows, n_columns = ahead.shape
    rows = np.full(n_rows, _FAR, dtype=np.int64)
    columns = np.full(n_columns, _FAR, dtype=np.int64)
    row_from = np.full(n_rows, -1, dtype=np.int64)
    column_from = np.full(n_columns, -1, dtype=np.int64)
    if from_row:
        rows[cell[0]] = 0
    else:
        columns[cell[1]] = 0
    changed = True
    while changed:
        by_row = _plus(rows[:, np.newaxis], ahead)
        best = by_row.min(axis=0)
        better = best < columns
        column_from[better] = by_row.argmin(axis=0)[better]
        columns = np.minimum(columns, best)
        by_column = _plus(columns[np.newaxis, :], back)
        nearest = by_column.min(axis=1)
        closer = nearest < rows
        row_from[closer] = by_column.argmin(axis=1)[closer]
        rows = np.minimum(rows, nearest)
        changed = bool(better.any() or closer.any())
    if (columns[cell[1]] if from_row else rows[cell[0]]) >= _FAR:
        return None
    steps: list[tuple[tuple[int, int], bool]] = []
    at, is_row = (cell[1], False) if from_row else (cell[0], True)
    while (at, is_row) != ((cell[0], True) if from_row else (cell[1], False)):
        before = int(row_from[at] if is_row else column_from[at])
        steps.append(((at, before) if is_row else (before, at), not is_row))
        at, is_row = before, not is_row
    return steps


def _plus(so_far: Counts, step: Counts) -> Counts:
    """Sums of costs, where a cost that is not to be paid stays so."""
    return np.where((so_far >= _FAR) | (step >= _FAR), _FAR, so_far + step)
