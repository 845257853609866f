"""The released form of `stats.crosstab`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis import contingency as c
from cohortium.analysis.grouped import Groups
from cohortium.disclosure.limits import rounded
from cohortium.disclosure.suppression import REASONS, Release

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Released:
    """A table with its margins, and what of it may be said.

    Attributes:
        table: int64, shape (R + 1, C + 1); persons, margins last.
        status: Same shape; a `Release` each.
        base: Numbers are released rounded to multiples of it; 1: exactly.
        missing: Persons without a value.
        n_sites: Institutions with persons in the table.
    """

    table: Ints
    status: Ints
    base: int
    missing: int
    n_sites: int

    @property
    def cells(self) -> Ints:
        """The cells without the margins; only to be used where `in_full`."""
        return self.table[:-1, :-1]

    @property
    def in_full(self) -> bool:
        """Whether every cell is released, exactly."""
        return self.base == 1 and not np.any(self.status != Release.OPEN)

    def count(self, row: int, column: int) -> int | None:
        """What is said of a cell or margin; None where it is withheld."""
        if self.status[row, column] != Release.OPEN:
            return None
        return self.rounded(int(self.table[row, column]))

    def rounded(self, persons: int) -> int:
        """To the nearest multiple of the base. Each number by itself: what is rounded from numbers
        that may be released tells no more than they do.
        """
        return rounded(persons, self.base)

    def reasons(self) -> list[str]:
        """Why something is missing, one line each; not which cell is missing for which reason."""
        inner = self.status[:-1, :-1]
        lines = [
            f"cells: {REASONS[kind]}"
            for kind in (Release.TOO_FEW, Release.ONE_SITE, Release.SECONDARY)
            if np.any(inner == kind)
        ]
        margins = np.concatenate([self.status[:-1, -1], self.status[-1, :-1]])
        if self.table.shape[1] > 2 and np.any(margins != Release.OPEN):
            lines.append("margins: they are too small, or smaller cells follow from them")
        return lines


def assemble(
    released: Released, groups: Groups, confidence: float, asked_sites: int
) -> dict[str, Any]:
    """The result as JSON values; what is withheld is None and named under ``suppressed``."""
    two_way = len(groups.by) == 2
    names = [variable.name for variable in groups.by]
    rows, columns = len(groups.levels[0]), len(groups.levels[1]) if two_way else 1
    result: dict[str, Any] = {
        "test": "chi-square" if two_way else "frequency",
        "title": "Pearson's chi-square test" if two_way else "Frequency table",
        "variable": names[0],
        "by": names[1] if two_way else None,
        "null": f"{names[0]} and {names[1]} are independent." if two_way else "none",
        "levels": [list(levels) for levels in groups.levels],
        "counts": [[released.count(i, j) for j in range(columns)] for i in range(rows)],
        "row_totals": [released.count(i, columns) for i in range(rows)],
        "column_totals": [released.count(rows, j) for j in range(columns)],
        "n": released.rounded(int(released.table[-1, -1])),
        "n_missing": released.rounded(released.missing),
        "n_sites": released.n_sites,
        "n_sites_asked": asked_sites,
        "rounding": released.base if released.base > 1 else None,
        "suppressed": released.reasons(),
    }
    if not two_way:
        return result
    if released.in_full:
        return result | statistics(released.cells, groups.levels, confidence)
    why = (
        "tests and measures: a withheld cell would follow from them"
        if released.base == 1
        else "tests and measures: the numbers are rounded"
    )
    return result | {"p_value": None, "suppressed": [*result["suppressed"], why]}


def statistics(
    cells: Ints, levels: tuple[tuple[str, ...], ...], confidence: float
) -> dict[str, Any]:
    """Tests and measures of a table that is released in full."""
    some = c.without_empty(cells)
    notes = []
    if some.shape != cells.shape:
        notes.append("Levels that nobody has are left out of the tests.")
    if min(some.shape) < 2:
        return {"p_value": None, "notes": [*notes, "There is only one level: nothing to test."]}
    expected = c.expected(cells)
    if float(c.expected(some).min()) < c.LEAST_EXPECTED:
        notes.append("An expected count is below 5: chi-square tests are approximate.")
    tests = [c.chi_square(some)]
    estimate = contrast = None
    effects = c.cramers_v(some)
    if some.shape == (2, 2):
        exact = c.fisher(some, confidence)
        tests += [c.chi_square(some, yates=True), c.likelihood_ratio(some), exact]
        estimate = c.odds_ratio(some, confidence)
        ratios = [c.risk_ratio(some, confidence), c.risk_difference(some, confidence)]
        row, column = _levels_left(cells, levels)
        contrast = {"outcome": column[1], "level": row[1], "against": row[0]}
        effects = [*ratios, *effects]
    else:
        tests.append(c.likelihood_ratio(some))
    residuals = c.standardised_residuals(cells)
    first = tests[0]
    return {
        **{key: first[key] for key in ("statistic_name", "statistic", "df", "p_value")},
        "tests": tests,
        "estimate": estimate,
        "effects": effects,
        "contrast": contrast,
        "expected": expected.tolist(),
        "residuals": [[None if np.isnan(r) else float(r) for r in row] for row in residuals],
        "notes": notes,
    }


def _levels_left(cells: Ints, levels: tuple[tuple[str, ...], ...]) -> list[list[str]]:
    """The levels of both variables that somebody has."""
    return [
        [level for level, n in zip(of, cells.sum(axis=1 - axis), strict=True) if n]
        for axis, of in enumerate(levels)
    ]
