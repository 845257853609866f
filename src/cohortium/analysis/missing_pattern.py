"""`missing.pattern`: how much is missing, and what is missing together."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.analysis.grouped import Groups, own_floor
from cohortium.analysis.interface import (
    Done,
    DropOuts,
    FieldSpec,
    Params,
    Scope,
    VariableNames,
)
from cohortium.analysis.untrusted import phase_of
from cohortium.core.dictionary import Name
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.differencing import Split
from cohortium.disclosure.suppression import LEAST_SITES, REASONS, Release, is_small
from cohortium.disclosure.tables import suppress_table, with_margins
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_TOGETHER: Final = 8
"""Variables of which each pattern is a set of persons that later results are compared with."""


class PatternParams(Params):
    """What to look at.

    Attributes:
        variables: In the order of the result.
        by: A category or boolean; the missing values of each of its levels are counted too.
        patterns: Whether persons are counted by what they lack together.
    """

    variables: VariableNames
    by: Name | None = None
    patterns: Annotated[bool, Field(description="Of up to 8 variables.")] = True


class Pattern:
    """Missing values of the pooled persons: of each variable, of each group, and together.

    A pattern is what a person lacks, as in R's ``mice::md.pattern``; the first is that of complete
    persons. Nothing is assumed; why values are missing cannot be seen from the data alone.

    Leaves the site, summed under masks, in one round: the number of its persons, of those who lack
    each variable, in each group and in none, of those of each pattern; and whether it has any such.
    With the floor ``site`` a site of fewer than `min_cell` persons sends zeros; a cell is judged on
    its total. The hub sees the sums, small cells among them. The result does not.

    Refuses: fewer persons than the cohort's minimum, or of one institution: PolicyRefusal
    ``too-few-persons``, ``too-few-sites``. A variable that 1 to ``min_cell - 1`` persons lack, or
    have, or that persons of one institution alone lack, is withheld, and is in no pattern. Patterns
    of as few, or of one institution alone, are given together as one number, with as many larger
    ones that neither they nor who of them lacks a variable follow from the totals. In groups cells
    are withheld as in `stats.crosstab`. Those who lack a variable, and each pattern, are compared
    with the persons of earlier results (of up to 8 variables); where that is only for the patterns,
    the result is without them.

    Reference: van Buuren 2018, Flexible imputation of missing data, ch. 4.1.
    """

    name: ClassVar[str] = "missing.pattern"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 1
    params_type = PatternParams

    def variables(self, params: PatternParams) -> frozenset[str]:
        """Those looked at, and the grouping one."""
        return frozenset(params.variables) | ({params.by} if params.by else set())

    def start(self, params: PatternParams, scope: Scope) -> State:
        """There is one round."""
        _groups(params, scope)
        return State(values={"phase": "counts"})

    def layout(self, state: State, params: PatternParams, scope: Scope) -> Layout:
        """See the class."""
        phase_of(state, ("counts",))
        groups, k = len(_groups(params, scope)), len(params.variables)
        each = FieldSpec((groups + 1, k), "count")
        out = {
            "persons": FieldSpec((groups + 1,), "count"),
            "sites": FieldSpec((1,), "count"),
            "missing": each,
            "missing_sites": each,
            "group_sites": FieldSpec((groups + 1,), "count"),
        }
        if params.patterns:
            together = FieldSpec((2**k,), "count")
            out |= {"patterns": together, "pattern_sites": together}
        return out

    def local(
        self, table: Table, state: State, params: PatternParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        out: dict[str, Array] = {
            name: np.zeros(spec.shape, dtype=np.int64)
            for name, spec in self.layout(state, params, scope).items()
        }
        if table.n_rows < own_floor(scope):
            return out
        groups = _groups(params, scope)
        codes = groups.codes(table) if params.by else np.full(table.n_rows, -1, dtype=np.int32)
        codes = np.where(codes < 0, np.int32(len(groups)), codes)
        size = len(groups) + 1
        out["sites"][0] = 1
        out["persons"][:] = np.bincount(codes, minlength=size)
        out["group_sites"][:] = out["persons"] > 0
        for v, name in enumerate(params.variables):
            out["missing"][:, v] = np.bincount(codes[~table.present(name)], minlength=size)
        out["missing_sites"][:] = out["missing"] > 0
        if params.patterns:
            lacks = _patterns(table, params)
            out["patterns"][:] = np.bincount(lacks, minlength=2 ** len(params.variables))
            out["pattern_sites"][:] = out["patterns"] > 0
        return out

    def finish(self, total: Total, state: State, params: PatternParams, scope: Scope) -> Done:
        """Decide what may be released."""
        phase_of(state, ("counts",))
        counts = {name: np.asarray(array, dtype=np.int64) for name, array in total.items()}
        n, limits = int(counts["persons"].sum()), scope.disclosure
        if n < limits.cohort:
            raise PolicyRefusal(
                "too-few-persons", f"Fewer than {limits.cohort} persons are in the cohort."
            )
        if int(counts["sites"][0]) < LEAST_SITES:
            raise PolicyRefusal("too-few-sites", "Only one institution has persons in the cohort.")
        missing = counts["missing"].sum(axis=0)
        # A site may have persons without the variable in several groups.
        apart = counts["missing_sites"].max(axis=0)
        low = limits.min_cell
        reasons = [
            Release.TOO_FEW
            if is_small(int(m), low) or is_small(n - int(m), low)
            else Release.ONE_SITE
            if m > 0 and sites < LEAST_SITES
            else Release.OPEN
            for m, sites in zip(missing, apart, strict=True)
        ]
        suppressed = [
            f"{name}: {REASONS[why]}"
            for name, why in zip(params.variables, reasons, strict=True)
            if why != Release.OPEN
        ]
        shown = limits.shown
        result: dict[str, Any] = {
            "n": shown(n),
            "n_sites": scope.n_sites,
            "n_sites_contributing": int(counts["sites"][0]),
            "rounding": limits.rounding,
            "variables": [
                {"variable": name, **_share(shown(int(m)), shown(n), why == Release.OPEN)}
                for name, m, why in zip(params.variables, missing, reasons, strict=True)
            ],
        }
        told = [v for v, why in enumerate(reasons) if why == Release.OPEN]
        if params.patterns:
            result |= _together(counts, told, params, scope)
        if params.by is not None:
            result |= _by_group(counts, told, params, scope)
        return Done({**result, "suppressed": suppressed})

    def split(self, params: PatternParams, scope: Scope) -> Split:
        """The cohort, its groups, those who lack a variable; and the patterns, or without them."""
        groups, k = len(_groups(params, scope)) + 1, len(params.variables)
        n = 2**k if k <= MAX_TOGETHER else 1
        lacks, group = np.divmod(np.arange(n * groups), groups)
        rows = [np.ones(n * groups, dtype=np.bool_)]
        if params.by is not None:
            rows += [group == one for one in range(groups - 1)]
        if n > 1:
            rows += [(lacks >> v) & 1 == 1 for v in range(k)]
        views = [tuple(range(len(rows)))]
        if params.patterns:
            rows += [lacks == one for one in range(n)]
            views.insert(0, tuple(range(len(rows))))
        sets = np.column_stack([np.array(rows), np.zeros(len(rows), dtype=np.bool_)])
        sets[0, -1] = True
        return Split(n * groups, sets, tuple(views))

    def parts(self, table: Table, params: PatternParams, scope: Scope) -> npt.NDArray[np.integer]:
        """What each person lacks, and their group."""
        groups = _groups(params, scope)
        codes = groups.codes(table) if params.by else np.full(table.n_rows, -1, dtype=np.int32)
        codes = np.where(codes < 0, np.int32(len(groups)), codes).astype(np.int64)
        few = len(params.variables) <= MAX_TOGETHER
        return (_patterns(table, params) if few else 0) * (len(groups) + 1) + codes

    def split_key(self, params: PatternParams, scope: Scope) -> Any:
        """The variables, in order."""
        by = [] if params.by is None else [params.by, *_groups(params, scope).levels[0]]
        few = len(params.variables) <= MAX_TOGETHER
        return ["missing", *(params.variables if few else ()), by, params.patterns]

    def narrowed(self, params: PatternParams, view: int) -> PatternParams:
        """Without the patterns."""
        if view != 1 or not params.patterns:
            raise ProtocolError("malformed-message", "There is no such view of missing values.")
        return params.model_copy(update={"patterns": False})


def _groups(params: PatternParams, scope: Scope) -> Groups:
    """The groups; none where there is no grouping variable: all are in the last place."""
    if len(set(params.variables)) != len(params.variables):
        raise InputError("bad-input", "A variable is named twice.")
    if params.patterns and len(params.variables) > MAX_TOGETHER:
        raise InputError(
            "bad-input",
            f"Patterns are of up to {MAX_TOGETHER} variables: name those of which values are "
            "missing, or ask without patterns.",
        )
    for name in params.variables:
        scope.variable(name)
    return Groups.of(scope, params.by) if params.by else Groups((), ((),))


def _patterns(table: Table, params: PatternParams) -> Ints:
    """What each person lacks: bit v for variable v, shape (n_rows,)."""
    lacks = np.zeros(table.n_rows, dtype=np.int64)
    for v, name in enumerate(params.variables):
        lacks |= (~table.present(name)).astype(np.int64) << v
    return lacks


def _share(missing: int, n: int, told: bool) -> dict[str, Any]:
    if not told:
        return {"n_missing": None, "share": None}
    return {"n_missing": missing, "share": missing / n if n else None}


def pooled_patterns(counts: Ints, alone: Bools, k: int, min_cell: int) -> Bools:
    """Which patterns are given as one number together.

    Whoever knows the other patterns and how many lack each variable knows how many of these persons
    do, and how many do not: nobody, or `min_cell` and more.

    Args:
        counts: Shape (2^k,); persons of each pattern; bit v: they lack variable v.
        alone: Those of one institution.

    Returns:
        bool, shape (2^k,); patterns of nobody are not among them.
    """
    there = counts > 0
    pooled = there & ((counts < min_cell) | alone)
    lacks = (np.arange(len(counts))[:, None] >> np.arange(k)) & 1
    rest = [int(at) for at in np.argsort(counts, kind="stable") if there[at] and not pooled[at]]
    while pooled.any():
        together = int(counts[pooled].sum())
        lacking = counts[pooled] @ lacks[pooled]
        sides = np.concatenate([lacking, together - lacking, [together]])
        small = np.any((sides > 0) & (sides < min_cell))
        if not small and np.count_nonzero(pooled) > 1 and not np.all(alone[pooled]):
            break
        if not rest:
            break
        pooled[rest.pop(0)] = True
    return pooled


def _together(
    counts: dict[str, Ints], told: list[int], params: PatternParams, scope: Scope
) -> dict[str, Any]:
    """The patterns of the variables that may be told of."""
    places = np.arange(len(counts["patterns"]))
    code = np.zeros(len(places), dtype=np.int64)
    for bit, v in enumerate(told):
        code |= ((places >> v) & 1) << bit
    size = 2 ** len(told)
    cells = np.bincount(code, weights=counts["patterns"], minlength=size).astype(np.int64)
    sites = np.zeros(size, dtype=np.int64)
    np.maximum.at(sites, code, counts["pattern_sites"])
    alone = (cells > 0) & (sites < LEAST_SITES)
    pooled = pooled_patterns(cells, alone, len(told), scope.disclosure.min_cell)
    names = [params.variables[v] for v in told]
    shown = scope.disclosure.shown
    order = sorted(
        np.flatnonzero((cells > 0) & ~pooled).tolist(), key=lambda at: (at > 0, -cells[at])
    )
    other = int(cells[pooled].sum())
    return {
        "together": names,
        "patterns": [
            {
                "missing": [name for bit, name in enumerate(names) if (at >> bit) & 1],
                "n": shown(int(cells[at])),
            }
            for at in order
        ],
        "other": shown(other) if other else 0,
        "n_complete": None if pooled[0] else shown(int(cells[0])),
    }


def _by_group(
    counts: dict[str, Ints], told: list[int], params: PatternParams, scope: Scope
) -> dict[str, Any]:
    """Missing values of each group."""
    groups, limits = _groups(params, scope), scope.disclosure
    persons = counts["persons"]
    rows = persons > 0
    is_open = np.ones((len(persons), len(params.variables)), dtype=np.bool_)
    sizes = np.ones(len(persons), dtype=np.bool_)
    for v in told:
        cells = np.stack([counts["missing"][:, v], persons - counts["missing"][:, v]], axis=1)
        alone = np.zeros((int(rows.sum()) + 1, 3), dtype=np.bool_)
        alone[:-1, 0] = (cells[rows, 0] > 0) & (counts["missing_sites"][rows, v] < LEAST_SITES)
        alone[:-1, 2] = counts["group_sites"][rows] < LEAST_SITES
        status = suppress_table(with_margins(cells[rows]), limits.min_cell, alone)[:-1] == 0
        sizes[rows] &= status[:, 2]
        is_open[rows, v] = status[:, :2].all(axis=1)
    is_open[:, [v for v in range(len(params.variables)) if v not in told]] = False
    out, shown = [], limits.shown
    for at, level in enumerate(groups.names):
        n = shown(int(persons[at])) if sizes[at] else None
        for v, name in enumerate(params.variables):
            may = bool(n is not None and is_open[at, v])
            cell = _share(shown(int(counts["missing"][at, v])), n or 0, may)
            out.append({"variable": name, "level": level, "n": n, **cell})
    return {"by": params.by, "groups": out}
