"""`stats.crosstab`: frequency and contingency tables over sites, their tests and measures."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.analysis.crosstab_result import Released, assemble
from cohortium.analysis.grouped import Groups, own_floor
from cohortium.analysis.interface import Done, DropOuts, FieldSpec, Params, Scope
from cohortium.analysis.untrusted import phase_of
from cohortium.core.dictionary import Name
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import LEAST_SITES
from cohortium.disclosure.tables import MAX_CELLS, suppress_list, suppress_table, with_margins
from cohortium.errors import InputError, PolicyRefusal

Ints = npt.NDArray[np.int64]
Confidence = Annotated[float, Field(gt=0.5, lt=1)]


class CrosstabParams(Params):
    """Which table.

    Attributes:
        row: A category or boolean.
        column: Another; absent: the frequencies of `row`.
        rounding: Release no number of persons but rounded to multiples of this, and no tests.
        confidence: Of the limits of ratios and differences.
    """

    row: Name
    column: Name | None = None
    rounding: Annotated[int, Field(ge=2, le=1000)] | None = None
    confidence: Confidence = 0.95


class Crosstab:
    """A table of persons by one or two categories, and what can be said of it.

    Null hypothesis (two variables): row and column are independent. Pearson's chi-square test,
    without and (2x2) with Yates' correction, the likelihood-ratio test, Fisher's exact test (2x2);
    Cramer's V without and with Bergsma's correction; for 2x2 the odds ratio with Woolf's limits,
    risk ratio with Katz' and risk difference with Wald's, of the last column in the last row
    against the first. Assumes persons to be independent, and, but for Fisher's test, expected
    counts of five or so. Levels that nobody has are left out of the tests. Persons without a value
    of either variable are in no cell.

    Leaves the site, summed under masks, in one round: the number of persons in each cell; whether
        the site has anybody in each cell and margin; the number of persons without a value. With
        the floor ``site``, a site with fewer than `min_cell` persons in the whole table sends
        zeros; a cell, as the level of a category in `stats.describe`, is judged on its total.
        The hub sees the sums, small cells among them. The result does not.

    Refuses: fewer persons than the cohort's minimum, or of one institution alone: PolicyRefusal
        ``too-few-persons``. Cells and margins of 1 to ``min_cell - 1`` persons, or of one
        institution's persons alone, are withheld, and others so that they do not follow
        (`disclosure.tables`). Where a cell is withheld or numbers are rounded, so are the tests
        and measures: they would give it away. Empty cells are released.

    Reference: Agresti 2013, Categorical Data Analysis, ch. 3; Bergsma 2013 (V); Katz et al. 1978.
    """

    name: ClassVar[str] = "stats.crosstab"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 1
    params_type = CrosstabParams

    def variables(self, params: CrosstabParams) -> frozenset[str]:
        """Row and column."""
        return frozenset({params.row} | ({params.column} if params.column else set()))

    def partition(self, params: CrosstabParams, scope: Scope) -> tuple[str, ...]:
        """The cells are parts of the cohort."""
        return tuple(variable.name for variable in cells_of(scope, params.row, params.column).by)

    def rounding(self, params: CrosstabParams) -> int | None:
        """See the parameters."""
        return params.rounding

    def start(self, params: CrosstabParams, scope: Scope) -> State:
        """There is one round."""
        cells_of(scope, params.row, params.column)
        return State(values={"phase": "counts"})

    def layout(self, state: State, params: CrosstabParams, scope: Scope) -> Layout:
        """See the class."""
        phase_of(state, ("counts",))
        return table_layout(shape_of(cells_of(scope, params.row, params.column)))

    def local(
        self, table: Table, state: State, params: CrosstabParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        phase_of(state, ("counts",))
        return count_cells(table, cells_of(scope, params.row, params.column), scope)

    def finish(self, total: Total, state: State, params: CrosstabParams, scope: Scope) -> Done:
        """Decide what may be released, then compute what rests on released cells alone."""
        phase_of(state, ("counts",))
        groups = cells_of(scope, params.row, params.column)
        base = max(params.rounding or 1, scope.disclosure.rounding or 1)
        released = release(total, groups, scope, base)
        return Done(assemble(released, groups, params.confidence, scope.n_sites))


def cells_of(scope: Scope, row: str, column: str | None) -> Groups:
    """The cells of the table.

    Raises:
        InputError: ``not-found``; ``bad-input`` for a variable without levels, for one variable
            twice, and for too many cells.
        PolicyRefusal: ``too-many-levels``.
    """
    if row == column:
        raise InputError("bad-input", f"{row} cannot be crossed with itself.")
    groups = Groups.of(scope, row, column)
    for variable, levels in zip(groups.by, groups.levels, strict=True):
        scope.disclosure.require_levels(variable.name, len(levels))
    if len(groups) > MAX_CELLS:
        raise InputError(
            "bad-input", f"A table of {len(groups)} cells is too large; at most {MAX_CELLS}."
        )
    return groups


def shape_of(groups: Groups) -> tuple[int, int]:
    """Rows and columns; a one-way table has one column."""
    rows, *columns = (len(levels) for levels in groups.levels)
    return rows, columns[0] if columns else 1


def table_layout(shape: tuple[int, int]) -> Layout:
    """The fields of a table's contribution."""
    rows, columns = shape
    return {
        "cells": FieldSpec((rows, columns), "count"),
        "sites": FieldSpec((rows + 1, columns + 1), "count"),
        "missing": FieldSpec((1,), "count"),
    }


def count_cells(table: Table, groups: Groups, scope: Scope) -> Contribution:
    """One site's table, or zeros where it is too small."""
    shape = shape_of(groups)
    codes = groups.codes(table)
    cells = np.bincount(codes + 1, minlength=len(groups) + 1).astype(np.int64)
    missing, cells = cells[:1], cells[1:].reshape(shape)
    if int(cells.sum()) < own_floor(scope):
        # With the floor ``total`` a site with nobody in the table still tells who lacks a value.
        at_all = scope.disclosure.floor == "total"
        missing, cells = missing if at_all else np.zeros_like(missing), np.zeros_like(cells)
    return {
        "cells": cells,
        "sites": (with_margins(cells) > 0).astype(np.int64),
        "missing": missing,
    }


def release(total: Total, groups: Groups, scope: Scope, base: int = 1) -> Released:
    """Decide on each cell and margin.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    min_cell = scope.disclosure.min_cell
    cells = np.asarray(total["cells"], dtype=np.int64)
    sites = np.asarray(total["sites"], dtype=np.int64)
    table = with_margins(cells)
    n, n_sites = int(table[-1, -1]), int(sites[-1, -1])
    scope.disclosure.require_cohort(n)
    if n_sites < LEAST_SITES:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {LEAST_SITES} institutions have {min_cell} persons in this table.",
        )
    alone = (sites > 0) & (sites < LEAST_SITES)
    if len(groups.by) == 1:
        status = np.zeros(table.shape, dtype=np.int64)
        status[:-1, 0] = status[:-1, -1] = suppress_list(cells[:, 0], min_cell, alone[:-1, 0])
    else:
        status = suppress_table(table, min_cell, alone)
    return Released(
        table=table,
        status=status,
        base=base,
        missing=int(np.asarray(total["missing"])[0]),
        n_sites=n_sites,
    )


__all__ = ["Crosstab", "CrosstabParams", "cells_of", "count_cells", "release", "table_layout"]
