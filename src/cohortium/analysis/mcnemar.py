"""`stats.mcnemar`: has a binary variable changed between two times?"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.contingency import chi2_tail, log_limits, normal_quantile
from cohortium.analysis.crosstab import (
    Confidence,
    cells_of,
    count_cells,
    release,
    shape_of,
    table_layout,
)
from cohortium.analysis.crosstab_result import assemble
from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import Done, DropOuts, Params, Scope
from cohortium.analysis.untrusted import phase_of
from cohortium.core.dictionary import Name
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import InputError

Ints = npt.NDArray[np.int64]


class McNemarParams(Params):
    """Which pairs.

    Attributes:
        before, after: Booleans, or categories with the same two levels in the same order.
        correction: Whether the test is the one with continuity correction; both are released.
        confidence: Of the limits.
    """

    before: Name
    after: Name
    correction: bool = True
    confidence: Confidence = 0.95


class McNemar:
    """McNemar's test of paired binary values: each person is a pair.

    Null hypothesis: as many change from the first level to the second as from the second to the
    first. The exact test is binomial on those who change; the chi-square tests, with and without
    continuity correction, approximate it. The odds ratio is the conditional one, those who change
    to the second level over those who change to the first, with Wald limits of its logarithm; the
    difference is that of the shares of the second level, after less before, with Wald limits.

    Leaves the site, summed under masks, in one round: what leaves it for `stats.crosstab` of the
        two variables.

    Refuses: what `stats.crosstab` refuses. Where a cell of the 2x2 table is withheld, the tests and
        estimates are withheld: the cell would follow from them.

    Reference: McNemar 1947; Agresti 2013, ch. 11.
    """

    name: ClassVar[str] = "stats.mcnemar"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 1
    params_type = McNemarParams

    def variables(self, params: McNemarParams) -> frozenset[str]:
        """Both."""
        return frozenset({params.before, params.after})

    def partition(self, params: McNemarParams, scope: Scope) -> tuple[str, ...]:
        """The cells are parts of the cohort."""
        return tuple(variable.name for variable in _pairs(params, scope).by)

    def start(self, params: McNemarParams, scope: Scope) -> State:
        """There is one round."""
        _pairs(params, scope)
        return State(values={"phase": "counts"})

    def layout(self, state: State, params: McNemarParams, scope: Scope) -> Layout:
        """See the class."""
        phase_of(state, ("counts",))
        return table_layout(shape_of(_pairs(params, scope)))

    def local(
        self, table: Table, state: State, params: McNemarParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        phase_of(state, ("counts",))
        return count_cells(table, _pairs(params, scope), scope)

    def finish(self, total: Total, state: State, params: McNemarParams, scope: Scope) -> Done:
        """Decide what may be released, then test."""
        phase_of(state, ("counts",))
        groups = _pairs(params, scope)
        released = release(total, groups, scope, scope.disclosure.rounding or 1)
        table = assemble(released, groups, params.confidence, scope.n_sites)
        kept = ("levels", "counts", "row_totals", "column_totals", "n", "n_missing", "n_sites")
        first, second = groups.levels[0]
        result: dict[str, Any] = {
            "test": "mcnemar",
            "title": "McNemar's test",
            "variable": params.before,
            "by": params.after,
            "null": f"As many change from {first} to {second} as from {second} to {first}.",
            "alternative": "two-sided",
            "continuity_correction": params.correction,
            "suppressed": table["suppressed"],
            "p_value": None,
            **{key: table[key] for key in kept},
        }
        if not released.in_full:
            return Done(result)
        return Done(result | paired(released.cells, params.correction, params.confidence))


def _pairs(params: McNemarParams, scope: Scope) -> Groups:
    groups = cells_of(scope, params.before, params.after)
    if groups.levels[0] != groups.levels[1] or len(groups.levels[0]) != 2:
        raise InputError(
            "bad-input",
            f"{params.before} and {params.after} do not have the same two levels, as pairs need.",
        )
    return groups


def paired(cells: Ints, correction: bool, confidence: float) -> dict[str, Any]:
    """Tests and estimates of a 2x2 table of pairs that is released in full."""
    (_, b), (c, _) = cells.tolist()
    n = int(cells.sum())
    if b + c == 0:
        return {"notes": ["Nobody changed: there is nothing to test."]}
    tests = [_chi_square(b, c, correction=True), _chi_square(b, c, correction=False), _exact(b, c)]
    chosen = tests[0] if correction else tests[1]
    odds = b / c if c else None
    low, high = log_limits(odds, math.sqrt(1 / b + 1 / c) if b * c else None, confidence)
    difference = (b - c) / n
    half = normal_quantile(confidence) * math.sqrt((b + c) / n - difference**2) / math.sqrt(n)
    return {
        **{key: chosen[key] for key in ("statistic_name", "statistic", "df", "p_value")},
        "tests": tests,
        "estimate": {
            "name": "odds ratio",
            "value": odds,
            "low": low,
            "high": high,
            "confidence": confidence,
            "method": "conditional, Wald",
        },
        "effects": [
            {
                "name": "risk difference",
                "value": difference,
                "low": difference - half,
                "high": difference + half,
                "confidence": confidence,
                "method": "Wald",
            }
        ],
    }


def _chi_square(b: int, c: int, *, correction: bool) -> dict[str, Any]:
    away = abs(b - c) - (min(1, abs(b - c)) if correction else 0)
    statistic = away**2 / (b + c)
    return {
        "test": "mcnemar-corrected" if correction else "mcnemar",
        "title": "McNemar's test" + (" with continuity correction" if correction else ""),
        "continuity_correction": correction,
        "statistic_name": "chi2",
        "statistic": statistic,
        "df": 1,
        "p_value": chi2_tail(statistic, 1),
    }


def _exact(b: int, c: int) -> dict[str, Any]:
    from scipy import special

    return {
        "test": "mcnemar-exact",
        "title": "Exact McNemar's test",
        "statistic_name": "",
        "statistic": None,
        "df": None,
        "p_value": min(1.0, 2.0 * float(special.bdtr(min(b, c), b + c, 0.5))),
    }


__all__ = ["McNemar", "McNemarParams"]
