"""`stats.levene`: equality of variances over sites, around means or medians."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from cohortium.analysis import search_state
from cohortium.analysis.f_result import OneWay
from cohortium.analysis.grouped import Groups, parts
from cohortium.analysis.interface import Continue, Done, DropOuts, FieldSpec, Params, Scope
from cohortium.analysis.moments import DONE, Floats, Moments, empty, numeric
from cohortium.analysis.quantiles import (
    BINS,
    MAX_LEVELS,
    Found,
    Quantile,
    Search,
    advance,
    first_search,
    grid_scale,
    histogram,
    interpolate,
    needed_ranks,
    reach,
    recorded_scale,
)
from cohortium.analysis.untrusted import floats
from cohortium.core.dictionary import Name, Variable
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import PolicyRefusal, ProtocolError

SEARCH, Z_SUMS, Z_SQUARES = "search", "distances", "distances squared"
FURTHER = (SEARCH, Z_SUMS, Z_SQUARES)
SDS = reach(0.5)


class LeveneParams(Params):
    """Which variances are compared.

    Attributes:
        variable: A number.
        by: A category or boolean.
        centre: Distances are from the groups' means (Levene) or medians (Brown & Forsythe).
    """

    variable: Name
    by: Name
    centre: Literal["mean", "median"] = "median"


@dataclass(frozen=True)
class Known:
    """The totals so far; axis G of the groups.

    Attributes:
        values: Of the variable; its phase is that of the run.
        centre, low: (G,); from where distances are measured, in two parts.
        distances: Of the distances, when the centres are known.
        scale: (G,); grid cells per unit, for medians.
    """

    values: Moments
    centre: Floats
    low: Floats
    distances: Moments
    scale: Floats
    searches: tuple[Search, ...] = ()
    found: tuple[Found, ...] = ()

    @property
    def phase(self) -> str:
        """What the next round asks for."""
        return self.values.phase

    def at(self, phase: str) -> Known:
        """In another phase."""
        return replace(self, values=replace(self.values, phase=phase))

    def to_state(self) -> State:
        """As the hub sends it."""
        return self.values.to_state(
            centre=self.centre,
            centre_low=self.low,
            distance=self.distances.mean,
            scale=self.scale,
            **search_state.to_arrays(self.searches, self.found),
        )

    @staticmethod
    def from_state(state: State, groups: Groups, variable: Variable) -> Known:
        """Read an untrusted state, or ProtocolError ``malformed-message``."""
        values = Moments.from_state(state, groups, FURTHER)
        names = ("centre", "centre_low", "distance", "scale")
        centre, low, distance, scale = (floats(state, name, (len(groups),)) for name in names)
        searches, found = search_state.from_state(state, len(groups), 1)
        each = np.bincount([search.group for search in searches], minlength=1)
        # A median has one or two order statistics, each of them in one bin.
        if not np.all(np.isfinite([*centre, *low, *distance])) or np.any(each > 2):
            raise ProtocolError("malformed-message", "The state is not one of medians.")
        for search in searches:
            search_state.check_grid(variable, float(scale[search.group]))
        phase = {Z_SUMS: "sums", Z_SQUARES: "squares"}.get(values.phase, DONE)
        distances = Moments(
            phase, values.counted, distance, np.zeros_like(distance), np.zeros_like(distance)
        )
        return Known(values, centre, low, distances, scale, searches, found)

    def layout(self, groups: Groups, scope: Scope) -> Layout:
        """The fields of this phase's contribution."""
        if self.phase == SEARCH:
            return {"histogram": FieldSpec((len(self.searches), BINS + 1), "count")}
        of = self.distances if self.phase in {Z_SUMS, Z_SQUARES} else self.values
        return of.layout(groups, scope)


class Levene:
    """Levene's test of equal variances of the pooled persons; around medians Brown and Forsythe's.

    Null hypothesis: the distances from the groups' centres have the same mean, as they have where
    the variances are equal. Assumes independent persons. Around medians (the default) it holds its
    level for skewed values too. It is the one-way analysis of variance of the distances.

    The means are exact. A median is found by the shared search for quantiles: exact where at least
    `min_cell` persons have that very value as it is recorded; else interpolated in an interval into
    which the search did not look, and which the result gives (``resolution``).

    Leaves the site, summed under masks, for each group, never for a person:
        round 1: persons with every value, whether the site contributes, persons left out; with the
            floor ``site`` also the sum of the values, which with the floor ``total`` follows once
            the joint number of persons is known to be enough;
        then: the sums of distances and of squared distances from the joint mean;
        for medians, at most eight times: the counts of persons below and in each of up to 256 bins,
            as `stats.describe` asks for them;
        then: the sum of the distances from the centre; then the sums of their distances, and
            squared distances, from their own joint mean.

    Refuses: a site with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its
    persons. PolicyRefusal ``too-few-persons`` where a group is smaller jointly, where so few have
    one of two values, are on one side of a median, or make up most of a sum; ``too-few-sites`` for
    a group of one institution; ``not-permitted`` where numbers of persons are rounded. InputError
    ``no-convergence`` where all values of a group, or all distances, are equal.

    Reference: Levene 1960; Brown & Forsythe 1974.
    """

    name: ClassVar[str] = "stats.levene"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 5 + MAX_LEVELS + 1
    params_type = LeveneParams

    def variables(self, params: LeveneParams) -> frozenset[str]:
        """The number and the grouping variable."""
        return frozenset({params.variable, params.by})

    def partition(self, params: LeveneParams, scope: Scope) -> tuple[str, ...]:
        """The grouping variable."""
        return tuple(variable.name for variable in Groups.of(scope, params.by).by)

    def start(self, params: LeveneParams, scope: Scope) -> State:
        """Begin with counts."""
        numeric(scope, params.variable)
        groups = Groups.of(scope, params.by)
        zeros = np.zeros(len(groups))
        values = Moments.nothing(groups, scope)
        return Known(values, zeros, zeros, values, zeros).to_state()

    def layout(self, state: State, params: LeveneParams, scope: Scope) -> Layout:
        """See the class."""
        groups = Groups.of(scope, params.by)
        known = Known.from_state(state, groups, scope.variable(params.variable))
        return known.layout(groups, scope)

    def local(self, table: Table, state: State, params: LeveneParams, scope: Scope) -> Contribution:
        """See the class."""
        groups = Groups.of(scope, params.by)
        known = Known.from_state(state, groups, scope.variable(params.variable))
        out = empty(known.layout(groups, scope))
        column = np.asarray(table.columns[table.variable(params.variable).name], dtype=np.float64)
        status = known.values.counted.status
        names = (params.variable,)
        for group, rows in parts(table, groups, status, scope, out=out, complete=names):
            values = column[rows]
            if known.phase == SEARCH:
                for at, q in enumerate(known.searches):
                    if q.group == group:
                        out["histogram"][at] = histogram(
                            values, float(known.scale[group]), q.lower, q.width, q.bins
                        )
            elif known.phase in {Z_SUMS, Z_SQUARES}:
                away = np.abs((values - known.centre[group]) - known.low[group])
                known.distances.add(out, group, away, scope)
            else:
                known.values.add(out, group, values, scope)
        return out

    def column(
        self,
        field: str,  # noqa: ARG002 - the protocol's signature
        index: int,  # noqa: ARG002
        params: LeveneParams,
        scope: Scope,
    ) -> str:
        """The variable."""
        return scope.variable(params.variable).name

    def finish(
        self, total: Total, state: State, params: LeveneParams, scope: Scope
    ) -> Continue | Done:
        """Withhold what is too small, then go on to the next phase."""
        groups = Groups.of(scope, params.by)
        variable = scope.variable(params.variable)
        known = Known.from_state(state, groups, variable)
        if known.phase == SEARCH:
            known = _advance_search(known, total, scope)
            onward = known if known.searches else _at_medians(known, groups, variable, scope)
            return Continue(onward.to_state(), 0.6, "medians")
        if known.phase in {Z_SUMS, Z_SQUARES}:
            distances = known.distances.advance(total, groups, scope)
            if distances.phase == DONE:
                known = replace(known, distances=distances)
                return Done(_result(known, groups, variable, params, scope))
            return Continue(replace(known.at(Z_SQUARES), distances=distances).to_state(), 0.9, "")
        values = known.values.advance(total, groups, scope)
        known = replace(known, values=values)
        if values.phase != DONE:
            return Continue(known.to_state(), 0.3, values.phase)
        held = values.counted.together(groups, scope)
        values.check(groups, held, variable, scope)
        if params.centre == "median":
            known = _begin_search(known, groups, held, variable, scope)
        else:
            known = replace(known.at(Z_SUMS), centre=values.mean, low=values.low)
        return Continue(known.to_state(), 0.5, "centres")


def _begin_search(
    known: Known, groups: Groups, held: tuple[int, ...], variable: Variable, scope: Scope
) -> Known:
    scale = known.scale.copy()
    searches = []
    for group in held:
        n = int(known.values.counted.persons[group])
        ranks = needed_ranks(n, 0.5, scope.disclosure.tail)
        if not ranks:
            raise PolicyRefusal(
                "too-few-persons",
                f"{groups.where(group)}: fewer than {scope.disclosure.tail} persons are on either "
                "side of the median. Ask for distances from the means.",
            )
        mean = float(known.values.mean[group])
        sd = float(np.sqrt(known.values.squares[group] / n))
        scale[group] = grid_scale(variable, mean, sd, SDS)
        searches.append(
            first_search(group, 0, ranks, mean=mean, sd=sd, sds=SDS, scale=float(scale[group]))
        )
    return replace(known.at(SEARCH), scale=scale, searches=tuple(searches))


def _advance_search(known: Known, total: Total, scope: Scope) -> Known:
    searches: list[Search] = []
    found = list(known.found)
    for at, search in enumerate(known.searches):
        cut, here = advance(search, np.asarray(total["histogram"][at]), scope.disclosure.min_cell)
        searches += cut
        found += here
    return replace(known, searches=tuple(searches), found=tuple(found))


def _medians(
    known: Known, held: tuple[int, ...], variable: Variable, scope: Scope
) -> dict[int, Quantile]:
    out = {}
    for group in held:
        n = int(known.values.counted.persons[group])
        here = {one.rank: one for one in known.found if one.group == group}
        ranks = needed_ranks(n, 0.5, scope.disclosure.tail)
        if not all(rank in here for rank in ranks):
            raise ProtocolError("malformed-message", "The counts of the sites hold no median.")
        scale = float(known.scale[group])
        exact = scale == recorded_scale(variable)
        out[group] = interpolate(0.5, n, [here[rank] for rank in ranks], scale, exact)
    return out


def _at_medians(known: Known, groups: Groups, variable: Variable, scope: Scope) -> Known:
    held = known.values.counted.together(groups, scope)
    centre = known.centre.copy()
    for group, median in _medians(known, held, variable, scope).items():
        centre[group] = median.value
    return replace(known.at(Z_SUMS), centre=centre, low=np.zeros_like(centre))


def _result(
    known: Known, groups: Groups, variable: Variable, params: LeveneParams, scope: Scope
) -> dict[str, Any]:
    counted = known.values.counted
    held = counted.together(groups, scope)
    test = OneWay.of(known.distances, held).classical()
    described = known.values.described(groups, held)
    resolution = None
    if params.centre == "median":
        medians = _medians(known, held, variable, scope)
        for entry, group in zip(described, held, strict=True):
            entry["median"] = medians[group].value
        wide = [
            {"level": groups.names[group], "low": median.low, "high": median.high}
            for group, median in medians.items()
            if median.low != median.high
        ]
        resolution = {"medians": wide} if wide else None
    title = {"mean": "Levene's test", "median": "Brown-Forsythe test"}[params.centre]
    return {
        "test": {"mean": "levene", "median": "brown-forsythe"}[params.centre],
        "title": title,
        "variable": params.variable,
        "by": params.by,
        "null": f"The variance of {params.variable} is the same at every level of {params.by}.",
        "alternative": "two-sided",
        **{name: test[name] for name in ("statistic_name", "statistic", "df", "p_value")},
        "n": counted.n,
        "n_missing": int(counted.left_out[0]),
        "n_sites": scope.n_sites,
        "groups": described,
        "effects": [],
        "resolution": resolution,
        "suppressed": counted.unheard(groups),
    }
