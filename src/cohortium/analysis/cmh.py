"""`stats.cmh`: Cochran, Mantel and Haenszel's test of 2x2 tables in strata."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.crosstab import Confidence
from cohortium.analysis.grouped import Groups, own_floor
from cohortium.analysis.interface import Continue, Done, DropOuts, FieldSpec, Params, Scope
from cohortium.analysis.stratified import (
    EVEN,
    TERMS,
    cmh_result,
    common_odds,
    even_terms,
    homogeneity,
    informative,
    terms,
)
from cohortium.analysis.untrusted import floats, phase_of
from cohortium.core.dictionary import Name
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import LEAST_SITES, is_small
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

Ints = npt.NDArray[np.int64]

PHASES = ("counts", "counts+terms", "terms", "even")


class CmhParams(Params):
    """Which tables.

    Attributes:
        row, column: Categories or booleans of two levels.
        strata: A category or boolean; absent: each institution is a stratum.
        correction: Whether the test is the one with continuity correction; both are released.
        confidence: Of the limits of the common odds ratio.
    """

    row: Name
    column: Name
    strata: Name | None = None
    correction: bool = True
    confidence: Confidence = 0.95


class Cmh:
    """Cochran-Mantel-Haenszel test and common odds ratio over strata.

    Null hypothesis: within every stratum row and column are independent. Assumes one odds ratio in
    all strata, which the Breslow-Day test (without and with Tarone's correction) looks at. The
    estimate is Mantel and Haenszel's, its limits are those of Robins, Breslow and Greenland. A
    stratum in which only one row or one column has persons adds nothing. Persons without a value of
    one of the variables are left out.

    Leaves the site, summed under masks, where the strata are the sites: the persons of its table
        cell by cell and which cells hold anybody; then a - E(a), its variance, and the five terms
        of the common odds ratio and its limits; then, at that odds ratio, the three terms of the
        Breslow-Day test. No site's table is seen by anybody. Where a variable makes the strata: the
        persons in each cell of each stratum; the hub sees the totals. With the floor ``site`` a
        site with fewer than `min_cell` persons sends zeros; with the floor ``total`` the terms
        follow only when the counts are known to be enough.

    Refuses: fewer persons than the cohort's minimum; a cell of the table over all strata with 1 to
        ``min_cell - 1`` persons; where a variable makes the strata, exactly one stratum with such a
        cell, whose table would follow from the others': PolicyRefusal ``too-few-persons``. A cell
        with persons of one institution only, or fewer than two institutions that say something:
        ``too-few-sites``.

    Reference: Mantel & Haenszel 1959; Robins, Breslow & Greenland 1986; Breslow & Day 1980;
    Tarone 1985; Agresti 2013, ch. 6.
    """

    name: ClassVar[str] = "stats.cmh"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 3
    params_type = CmhParams

    def variables(self, params: CmhParams) -> frozenset[str]:
        """Row, column and strata."""
        return frozenset(_names(params))

    def partition(self, params: CmhParams, scope: Scope) -> tuple[str, ...]:
        """The cells of the table over all strata."""
        return tuple(variable.name for variable in _groups(params, scope).by[-2:])

    def start(self, params: CmhParams, scope: Scope) -> State:
        """Begin with counts, and with terms where each site guards its own floor."""
        _groups(params, scope)
        at_once = params.strata is None and scope.disclosure.floor == "site"
        return State(values={"phase": "counts+terms" if at_once else "counts"})

    def layout(self, state: State, params: CmhParams, scope: Scope) -> Layout:
        """See the class."""
        phase = _phase(state, params)
        strata = len(_groups(params, scope)) // 4
        of: dict[str, FieldSpec] = {}
        if phase in {"counts", "counts+terms"}:
            of["cells"] = FieldSpec((strata, 2, 2), "count")
            of["sites"] = FieldSpec((2, 2), "count")
            of["informative"] = of["missing"] = FieldSpec((1,), "count")
        if phase in {"terms", "counts+terms"}:
            of["terms"] = FieldSpec((len(TERMS),), "real")
        if phase == "even":
            of["even"] = FieldSpec((len(EVEN),), "real")
        return of

    def local(self, table: Table, state: State, params: CmhParams, scope: Scope) -> Contribution:
        """See the class."""
        phase = _phase(state, params)
        groups = _groups(params, scope)
        counted = np.bincount(groups.codes(table) + 1, minlength=len(groups) + 1).astype(np.int64)
        missing, cells = counted[:1], counted[1:].reshape(-1, 2, 2)
        if int(cells.sum()) < own_floor(scope):
            missing = missing if scope.disclosure.floor == "total" else np.zeros_like(missing)
            cells = np.zeros_like(cells)
        over_all = cells.sum(axis=0)
        out: dict[str, Array] = {}
        if phase in {"counts", "counts+terms"}:
            out["cells"] = cells
            out["sites"] = (over_all > 0).astype(np.int64)
            out["informative"] = informative(over_all[np.newaxis]).astype(np.int64)
            out["missing"] = missing
        if phase in {"terms", "counts+terms"}:
            out["terms"] = terms(cells)
        if phase == "even":
            out["even"] = even_terms(cells, _odds(state))
        return out

    def finish(
        self, total: Total, state: State, params: CmhParams, scope: Scope
    ) -> Continue | Done:
        """Refuse what is too small; then the test; then whether the odds ratio is common."""
        phase = _phase(state, params)
        if phase in {"counts", "counts+terms"}:
            result = _counted(total, params, scope)
            if params.strata is not None:
                return Done(_over_levels(result, np.asarray(total["cells"]), params))
            if phase == "counts":
                return Continue(State(values={"phase": "terms", "result": result}), 0.4, "counts")
        else:
            result = dict(state.values["result"])
        if phase == "even":
            return Done(result | {"homogeneity": homogeneity(total["even"], result["n_strata"])})
        sums = np.asarray(total["terms"], dtype=np.float64)
        result |= cmh_result(sums, correction=params.correction, confidence=params.confidence)
        odds = common_odds(sums)
        if not odds:
            return Done(result | {"homogeneity": []})
        return Continue(
            State(
                values={"phase": "even", "result": result},
                arrays={"odds": np.array([odds], dtype=np.float64)},
            ),
            0.7,
            "common odds ratio",
        )


def _names(params: CmhParams) -> list[str]:
    return [name for name in (params.strata, params.row, params.column) if name is not None]


def _groups(params: CmhParams, scope: Scope) -> Groups:
    """The cells of all strata: levels of the strata, of the row, of the column."""
    scope.disclosure.require_exact()
    names = _names(params)
    if len(set(names)) != len(names):
        raise InputError("bad-input", "Row, column and strata are different variables.")
    groups = Groups.of(scope, *names)
    for variable, levels in zip(groups.by[-2:], groups.levels[-2:], strict=True):
        if len(levels) != 2:
            raise InputError(
                "bad-input",
                f"{variable.name} has {len(levels)} levels; the test is of two rows and columns.",
            )
    return groups


def _phase(state: State, params: CmhParams) -> str:
    return phase_of(state, PHASES if params.strata is None else ("counts",))


def _odds(state: State) -> float:
    odds = float(floats(state, "odds", (1,))[0])
    if not 1e-15 < odds < 1e15:
        raise ProtocolError("malformed-message", "The state's odds ratio cannot be one.")
    return odds


def _counted(total: Total, params: CmhParams, scope: Scope) -> dict[str, Any]:
    """What the counts say, which are enough.

    Raises:
        PolicyRefusal: See `Cmh`.
    """
    cells, min_cell = np.asarray(total["cells"], dtype=np.int64), scope.disclosure.min_cell
    over_all, sites = cells.sum(axis=0), np.asarray(total["sites"], dtype=np.int64)
    n_informative = int(np.asarray(total["informative"])[0])
    scope.disclosure.require_cohort(int(over_all.sum()))
    for (i, j), count in np.ndenumerate(over_all):
        if is_small(int(count), min_cell):
            raise PolicyRefusal(
                "too-few-persons",
                f"A cell of {params.row} by {params.column} holds fewer than {min_cell} persons.",
            )
        if 0 < sites[i, j] < LEAST_SITES:
            raise PolicyRefusal(
                "too-few-sites",
                f"A cell of {params.row} by {params.column} holds one institution's persons alone.",
            )
    if params.strata is not None:
        small = ((cells > 0) & (cells < min_cell)).any(axis=(1, 2))
        if int(small.sum()) == 1:
            raise PolicyRefusal(
                "too-few-persons",
                f"One level of {params.strata} has a cell of fewer than {min_cell} persons; its "
                "table would follow from those of the others. Merge the level.",
            )
    strata = n_informative if params.strata is None else int(informative(cells).sum())
    if strata == 0 or n_informative < (LEAST_SITES if params.strata is None else 1):
        raise PolicyRefusal(
            "too-few-sites",
            f"Fewer than {LEAST_SITES} institutions have persons in both rows and columns."
            if params.strata is None
            else f"No level of {params.strata} has persons in both rows and both columns.",
        )
    by = "institution" if params.strata is None else params.strata
    return {
        "test": "cmh",
        "title": "Cochran-Mantel-Haenszel test",
        "variable": params.row,
        "by": params.column,
        "strata": params.strata,
        "adjusted_for": [by],
        "null": f"Within every {by}, {params.row} and {params.column} are independent.",
        "alternative": "two-sided",
        "continuity_correction": params.correction,
        "n": scope.disclosure.shown(int(over_all.sum())),
        "n_missing": scope.disclosure.shown(int(np.asarray(total["missing"])[0])),
        "n_sites": scope.n_sites,
        "n_strata": strata,
        "suppressed": [],
    }


def _over_levels(result: dict[str, Any], cells: Ints, params: CmhParams) -> dict[str, Any]:
    sums = terms(cells)
    result |= cmh_result(sums, correction=params.correction, confidence=params.confidence)
    odds = common_odds(sums)
    even = even_terms(cells, odds) if odds else None
    lines = [] if even is None or result["n_strata"] < 2 else homogeneity(even, result["n_strata"])
    return result | {"homogeneity": lines}


__all__ = ["Cmh", "CmhParams"]
