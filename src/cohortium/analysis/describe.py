"""`stats.describe`: counts, moments, quantiles and frequencies over sites."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.analysis.describe_result import assemble
from cohortium.analysis.describe_state import Knowledge, Plan
from cohortium.analysis.grouped import Groups, decide, own_floor, parts
from cohortium.analysis.interface import Continue, Done, DropOuts, Params, Scope, VariableNames
from cohortium.analysis.quantiles import (
    Search,
    advance,
    first_search,
    grid_scale,
    histogram,
    needed_ranks,
    reach,
)
from cohortium.analysis.search_state import MAX_SEARCHES, check_grid
from cohortium.core.dictionary import NUMERIC, Name
from cohortium.core.rounds import Array, Contribution, FieldSpec, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.dominance import dominated
from cohortium.disclosure.suppression import LEAST_SITES, Release, follows_from_mean
from cohortium.disclosure.tables import withheld_levels
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

Probability = Annotated[float, Field(gt=0, lt=1)]
Floats = npt.NDArray[np.float64]


class DescribeParams(Params):
    """What to describe.

    Attributes:
        variables: In the order of the result.
        by: A category or boolean; each of its levels is described by itself.
        quantiles: Probabilities, between 0 and 1; minimum and maximum are not released.
    """

    variables: VariableNames
    by: Name | None = None
    quantiles: Annotated[tuple[Probability, ...], Field(max_length=99)] = (0.25, 0.5, 0.75)


class Describe:
    """Descriptive statistics of the pooled persons.

    n and missing; mean, variance and sd (divisor n - 1), skewness ``m3 / m2**1.5`` and excess
    kurtosis ``m4 / m2**2 - 3`` (moments with divisor n: g1 and g2); quantiles of type 7 at the
    resolution of the data; the count of each level of a category. Persons without a value of `by`
    are in no group.

    Leaves the site, summed under masks, for each group (and variable), never for a person:
        round 1: persons, whether the site contributes, persons with and without a value; with the
            floor ``site`` also the sum of the values and the persons at each level, which with the
            floor ``total`` follow in a round of their own, once the totals are known to be enough;
        then: the sums of distances and of squared distances from the joint mean;
        then: the sums of third and fourth powers of standardised distances, and the counts of
            persons below and in each of up to 256 bins of mean +- k sd;
        then, at most seven times: the same counts in the parts of one bin of `min_cell` persons or
            more (jointly), down to the grid on which the values are recorded.
        The hub sees these sums; a bin among them may hold a single person. The result does not.

    Refuses: a site with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its
    persons, and for a variable of which it has 1 to ``min_cell - 1`` values. Groups, variables and
    levels of fewer than `min_cell` persons jointly are withheld, with one more where the total
    would give them away; where nothing is left: PolicyRefusal ``too-few-persons``. A quantile with
    fewer than `min_cell` persons on either side is withheld. Numbers of missing values are not
    cells: they are released. With a dominance rule a site also says of which of its sums a few
    persons are most; such a variable is withheld.

    Reference: Joanes & Gill 1998 (g1, g2); Hyndman & Fan 1996 (type 7); Chan et al. 1983 (two
    passes with correction).
    """

    name: ClassVar[str] = "stats.describe"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 12
    params_type = DescribeParams

    def variables(self, params: DescribeParams) -> frozenset[str]:
        """Described variables and the grouping one."""
        return frozenset(params.variables) | ({params.by} if params.by else set())

    def partition(self, params: DescribeParams, scope: Scope) -> tuple[str, ...]:
        """The grouping variable."""
        return tuple(variable.name for variable in Groups.of(scope, params.by).by)

    def start(self, params: DescribeParams, scope: Scope) -> State:
        """Begin with counts, and with sums where each site guards its own floor."""
        if len(set(params.variables)) != len(params.variables):
            raise InputError("bad-input", "A variable is named twice.")
        plan = Plan.of(params.variables, params.by, scope)
        if len(plan.groups) * len(plan.measured) * max(1, len(params.quantiles)) > MAX_SEARCHES:
            raise InputError(
                "bad-input", "Too many groups, variables and quantiles at once; ask for fewer."
            )
        at_once = scope.disclosure.floor == "site"
        return Knowledge.nothing(plan, "counts+sums" if at_once else "counts").to_state()

    def layout(self, state: State, params: DescribeParams, scope: Scope) -> Layout:
        """See the class."""
        plan = Plan.of(params.variables, params.by, scope)
        return _layout(Knowledge.from_state(state, plan), scope)

    def local(
        self, table: Table, state: State, params: DescribeParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        plan = Plan.of(params.variables, params.by, scope)
        known = Knowledge.from_state(state, plan)
        out: dict[str, Array] = {
            name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
            for name, spec in _layout(known, scope).items()
        }
        searches: dict[tuple[int, int], list[tuple[int, Search]]] = {}
        for at, search in enumerate(known.searches):
            check_grid(
                plan.variables[plan.measured[search.variable]],
                float(known.scale[search.group, search.variable]),
            )
            searches.setdefault((search.group, search.variable), []).append((at, search))
        if max(map(len, searches.values()), default=0) > 2 * len(params.quantiles):
            # A quantile has one or two order statistics, each of them in one bin.
            raise ProtocolError(
                "malformed-message", "The state searches for more than the quantiles asked for."
            )
        sd = known.sd(plan)
        for group, v, values in _cells(table, plan, known, scope, out):
            if v in plan.categories:
                _count_levels(out, plan, group, v, values)
                continue
            m = plan.measured.index(v)
            if "sum" in out:
                out["sum"][group, m] = values.sum()
            if "dominated" in out and plan.variables[v].type in NUMERIC:
                rule = scope.disclosure.dominance
                out["dominated"][group, m] = rule is not None and dominated(values, rule)
            if "squares" in out:
                away = values - known.mean[group, m]
                out["residual"][group, m] = away.sum()
                out["squares"][group, m] = np.square(away).sum()
            if "powers" in out and sd[group, m] > 0:
                z = (values - known.mean[group, m]) / sd[group, m]
                z2 = z * z
                out["powers"][group, m] = ((z2 * z).sum(), np.square(z2).sum())
            for at, q in searches.get((group, m), ()):
                out["histogram"][at] = histogram(
                    values, float(known.scale[group, m]), q.lower, q.width, q.bins
                )
        return out

    def column(self, field: str, index: int, params: DescribeParams, scope: Scope) -> str:
        """The variable of a real component, shape (G, M) or (G, M, 2); counts do not overflow."""
        plan = Plan.of(params.variables, params.by, scope)
        cell = index // 2 if field == "powers" else index
        return plan.variables[plan.measured[cell % len(plan.measured)]].name

    def finish(
        self, total: Total, state: State, params: DescribeParams, scope: Scope
    ) -> Continue | Done:
        """Withhold what is too small, then go on to the next phase."""
        plan = Plan.of(params.variables, params.by, scope)
        known = Knowledge.from_state(state, plan)
        min_cell = scope.disclosure.min_cell
        if "persons" in total:
            known = _release_counts(known, total, plan, scope)
            if known.phase == "counts":
                return Continue(known.but(phase="sums").to_state(), 0.2, "counts")
        if known.phase in {"sums", "counts+sums"}:
            known = _release_sums(known, total, plan, min_cell)
            if plan.measured:
                return Continue(known.but(phase="squares").to_state(), 0.4, "sums")
            return Done(assemble(known, plan, params.quantiles, scope))
        if known.phase == "squares":
            known = _release_squares(known, total, plan, min_cell)
            known = _begin_searches(known, plan, params.quantiles, scope.disclosure.tail)
            return Continue(known.but(phase="shape").to_state(), 0.6, "variances")
        if known.phase == "shape":
            known = known.but(powers=np.asarray(total["powers"]))
        known = _advance_searches(known, total, min_cell)
        if known.searches:
            return Continue(known.but(phase="search").to_state(), 0.8, "quantiles")
        return Done(assemble(known, plan, params.quantiles, scope))


def _cells(
    table: Table, plan: Plan, known: Knowledge, scope: Scope, out: dict[str, Array]
) -> Iterator[tuple[int, int, Array]]:
    """Count, apply the site's floor, and give (group, variable, present values) to sum over."""
    floor = own_floor(scope)
    columns = [table.columns[table.variable(v.name).name] for v in plan.variables]
    present = [table.present(v.name) for v in plan.variables]
    for group, rows in parts(table, plan.groups, known.group_status, scope, out=out):
        persons = table.n_rows if isinstance(rows, slice) else len(rows)
        for v, column in enumerate(columns):
            has = present[v][rows]
            n = int(np.count_nonzero(has))
            if 0 < n < floor or known.status[group, v] != Release.OPEN:
                continue
            if "present" in out:
                out["present"][group, v] = n
                out["missing"][group, v] = persons - n
            if n and known.phase != "counts":
                yield group, v, column[rows] if n == persons else column[rows][has]


def _count_levels(out: dict[str, Array], plan: Plan, group: int, v: int, codes: Array) -> None:
    if "levels" in out:
        start, stop = itertools.islice(plan.level_at, (c := plan.categories.index(v)), c + 2)
        out["levels"][group, start:stop] = np.bincount(codes, minlength=stop - start)


def _release_counts(known: Knowledge, total: Total, plan: Plan, scope: Scope) -> Knowledge:
    min_cell = scope.disclosure.min_cell
    persons = np.asarray(total["persons"], dtype=np.int64)
    sites = np.asarray(total["sites"], dtype=np.int64)
    group_status = decide(persons, sites, scope)
    if not np.any((group_status == Release.OPEN) & (persons >= min_cell)):
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {min_cell} persons of {LEAST_SITES} institutions can be described"
            + (" in each group." if plan.groups.by else "."),
        )
    scope.disclosure.require_cohort(int(persons.sum()))
    present = np.asarray(total["present"], dtype=np.int64)
    closed = (group_status != Release.OPEN)[:, None]
    status = np.where((present > 0) & (present < min_cell), Release.TOO_FEW, Release.OPEN)
    status = np.where(closed, group_status[:, None], status).astype(np.int64)
    is_open = status == Release.OPEN
    return known.but(
        group_status=group_status,
        status=status,
        persons=np.where(closed[:, 0], 0, persons),
        sites=np.where(closed[:, 0], 0, sites),
        present=np.where(is_open, present, 0),
        missing=np.where(is_open, total["missing"], 0),
    )


def _layout(known: Knowledge, scope: Scope) -> Layout:
    """The phase's fields, and at how many sites a few persons dominate a sum."""
    fields = dict(known.layout())
    if "sum" in fields and scope.disclosure.dominance is not None:
        fields["dominated"] = FieldSpec(fields["sum"].shape, "count")
    return fields


def _close_dominated(known: Knowledge, where: npt.NDArray[np.bool_], plan: Plan) -> Knowledge:
    closed = np.zeros(known.status.shape, dtype=np.bool_)
    closed[:, plan.measured] = where
    closed &= known.status == Release.OPEN
    return known.but(
        status=np.where(closed, Release.DOMINATED, known.status),
        present=np.where(closed, 0, known.present),
        missing=np.where(closed, 0, known.missing),
    )


def _release_sums(known: Knowledge, total: Total, plan: Plan, min_cell: int) -> Knowledge:
    if "dominated" in total:
        known = _close_dominated(known, np.asarray(total["dominated"]) > 0, plan)
    levels = known.levels.copy()
    for c, v in enumerate(plan.categories):
        start, stop = plan.level_at[c], plan.level_at[c + 1]
        counts = np.asarray(total["levels"], dtype=np.int64)[:, start:stop]
        closed = (known.status[:, v] != Release.OPEN)[:, None]
        levels[:, start:stop] = np.where(withheld_levels(counts, min_cell) | closed, -1, counts)
    if not plan.measured:
        return known.but(levels=levels)
    n = known.present[:, plan.measured]
    mean = np.where(n > 0, total["sum"], 0.0) / np.maximum(n, 1)
    return known.but(levels=levels, mean=mean)


def _release_squares(known: Knowledge, total: Total, plan: Plan, min_cell: int) -> Knowledge:
    n = known.present[:, plan.measured]
    some = np.maximum(n, 1)
    correction = np.where(n > 0, total["residual"], 0.0) / some
    squares = np.where(n > 0, total["squares"] - some * correction**2, 0.0)
    mean, squares = known.mean + correction, np.maximum(squares, 0.0)
    for group, m in np.argwhere(n > 0).tolist():
        mean_square = float(squares[group, m] / n[group, m] + mean[group, m] ** 2)
        numeric = plan.variables[plan.measured[m]].type in NUMERIC
        if numeric and follows_from_mean(
            int(n[group, m]), float(mean[group, m]), mean_square, min_cell
        ):
            mean[group, m] = squares[group, m] = np.nan
    return known.but(mean=mean, squares=squares)


def _begin_searches(
    known: Knowledge, plan: Plan, quantiles: tuple[float, ...], tail: int
) -> Knowledge:
    searches = []
    scale = known.scale.copy()
    sd = known.sd(plan)
    sds = max((reach(p) for p in quantiles), default=0.0)
    for group, m in np.argwhere(np.isfinite(known.mean)).tolist():
        n = int(known.present[group, plan.measured[m]])
        ranks = sorted({rank for p in quantiles for rank in needed_ranks(n, p, tail)})
        if n == 0 or not ranks:
            continue
        mean, spread = float(known.mean[group, m]), float(sd[group, m])
        scale[group, m] = grid_scale(plan.variables[plan.measured[m]], mean, spread, sds)
        searches.append(
            first_search(
                group, m, ranks, mean=mean, sd=spread, sds=sds, scale=float(scale[group, m])
            )
        )
    return known.but(scale=scale, searches=tuple(searches))


def _advance_searches(known: Knowledge, total: Total, min_cell: int) -> Knowledge:
    searches: list[Search] = []
    found = list(known.found)
    for at, search in enumerate(known.searches):
        cut, here = advance(search, np.asarray(total["histogram"][at]), min_cell)
        searches += cut
        found += here
    return replace(known, searches=tuple(searches), found=tuple(found))
