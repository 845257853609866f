"""`stats.anova`: one-way analysis of variance over sites, by a variable or by institution."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from cohortium.analysis.f_result import OneWay, Weighted, weigh
from cohortium.analysis.grouped import Groups, parts
from cohortium.analysis.interface import Continue, Done, DropOuts, FieldSpec, Params, Scope
from cohortium.analysis.moments import DONE, Floats, Moments, empty, is_constant, numeric
from cohortium.analysis.untrusted import floats
from cohortium.core.dictionary import Name
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

WEIGHTS = "weights"
LEAST_INSTITUTIONS = 3
"""Of two, each one's mean would follow from the F and the other's."""


class AnovaParams(Params):
    """Which means are compared.

    Attributes:
        variable: A number.
        by: A category or boolean; absent: the institutions are the groups.
        kind: classical (one variance) or welch (variances may differ).
    """

    variable: Name
    by: Name | None = None
    kind: Literal["classical", "welch"] = "classical"


class Anova:
    """One-way analysis of variance of the pooled persons.

    Null hypothesis: all groups have the same mean. Assumptions: independent persons; means that are
    about normally distributed; for classical also equal variances (`stats.levene`). Levels of
    nobody are left out.

    Gives F with its degrees of freedom and p, the sums of squares, eta squared and omega squared
    (0 where it would be negative). By institution no institution's mean or number is released.

    Leaves the site, summed under masks, for each group, never for a person:
        round 1: persons with every value, whether the site contributes, persons left out; with the
            floor ``site`` also the sum of the values, which with the floor ``total`` follows once
            the joint number of persons is known to be enough;
        then: the sums of distances and of squared distances from the joint mean;
        by institution also n_k (mean_k - joint mean)^2, the sum of squares around its own mean,
            and whether all its values are equal; for welch then six sums of its weight
            n_k / variance_k, its mean and 1 / (n_k - 1). They mean nothing but under masks.

    Refuses: a site with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its
    persons. PolicyRefusal ``too-few-persons`` where a group is smaller jointly, where so few have
    one of two values, or where few make up most of a sum; ``too-few-sites`` for a group of one
    institution, and by institution for fewer than three; ``not-permitted`` where numbers of persons
    are rounded. InputError ``no-convergence`` where all values of a group are equal.

    Reference: Fisher 1925; Welch 1951; Olejnik & Algina 2003 (effect sizes).
    """

    name: ClassVar[str] = "stats.anova"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 4
    params_type = AnovaParams

    def variables(self, params: AnovaParams) -> frozenset[str]:
        """The number and the grouping variable."""
        return frozenset({params.variable, *([params.by] if params.by else [])})

    def partition(self, params: AnovaParams, scope: Scope) -> tuple[str, ...]:
        """The grouping variable."""
        return tuple(variable.name for variable in Groups.of(scope, params.by).by)

    def start(self, params: AnovaParams, scope: Scope) -> State:
        """Begin with counts."""
        numeric(scope, params.variable)
        groups = Groups.of(scope, params.by)
        if groups.by and len(groups) < 2:
            raise InputError(
                "bad-input", f"{params.by} has one level; there is nothing to compare."
            )
        return _to_state(Moments.nothing(groups, scope), np.zeros(2))

    def layout(self, state: State, params: AnovaParams, scope: Scope) -> Layout:
        """See the class."""
        groups = Groups.of(scope, params.by)
        known, _ = _from_state(state, groups)
        return _layout(known, groups, scope)

    def local(self, table: Table, state: State, params: AnovaParams, scope: Scope) -> Contribution:
        """See the class."""
        groups = Groups.of(scope, params.by)
        known, institutions = _from_state(state, groups)
        out = empty(_layout(known, groups, scope))
        column = np.asarray(table.columns[table.variable(params.variable).name], dtype=np.float64)
        names = (params.variable,)
        for group, rows in parts(
            table, groups, known.counted.status, scope, out=out, complete=names
        ):
            values = column[rows]
            known.add(out, group, values, scope)
            if not groups.by and len(values):
                _add_institution(out, values, known, institutions)
        return out

    def column(
        self,
        field: str,  # noqa: ARG002 - the protocol's signature
        index: int,  # noqa: ARG002
        params: AnovaParams,
        scope: Scope,
    ) -> str:
        """The variable."""
        return scope.variable(params.variable).name

    def finish(
        self, total: Total, state: State, params: AnovaParams, scope: Scope
    ) -> Continue | Done:
        """Withhold what is too small, then go on to the next pass."""
        groups = Groups.of(scope, params.by)
        known, institutions = _from_state(state, groups)
        least = 2 if groups.by else 1
        if known.phase == WEIGHTS:
            test = Weighted(int(known.counted.sites[0]), np.asarray(total["weights"])).test()
            return Done(_institutions_result(known, institutions, test, params, scope))
        known = known.advance(total, groups, scope, least=least)
        if not groups.by and known.counted.sites[0] < LEAST_INSTITUTIONS:
            raise PolicyRefusal(
                "too-few-sites",
                f"Means are compared between {LEAST_INSTITUTIONS} institutions or more: of two, "
                "each could tell the other's mean.",
            )
        if known.phase != DONE:
            return Continue(_to_state(known, institutions), 0.4, known.phase)
        held = known.counted.together(groups, scope, least=least)
        known.check(groups, held, scope.variable(params.variable), scope)
        if groups.by:
            return Done(_result(known, groups, held, params, scope))
        if int(total["flat"][0]):
            raise InputError(
                "no-convergence",
                f"{params.variable}: at an institution all values are equal, or there is only one.",
            )
        between = float(total["between"][0]) - known.counted.n * float(known.low[0]) ** 2
        institutions = np.array([max(between, 0.0), float(total["within"][0])])
        if params.kind == "welch":
            onward = Moments(WEIGHTS, known.counted, known.mean, known.low, known.squares)
            return Continue(_to_state(onward, institutions), 0.8, WEIGHTS)
        return Done(_institutions_result(known, institutions, None, params, scope))


def _to_state(known: Moments, institutions: Floats) -> State:
    return known.to_state(institutions=institutions)


def _from_state(state: State, groups: Groups) -> tuple[Moments, Floats]:
    """The moments, and the sums of squares between and within institutions."""
    further = () if groups.by else (WEIGHTS,)
    institutions = floats(state, "institutions", (2,))
    if not np.all(np.isfinite(institutions)):
        raise ProtocolError("malformed-message", "A sum of squares in the state is not a number.")
    return Moments.from_state(state, groups, further), institutions


def _layout(known: Moments, groups: Groups, scope: Scope) -> Layout:
    fields = dict(known.layout(groups, scope))
    if known.phase == "squares" and not groups.by:
        fields["between"] = fields["within"] = FieldSpec((1,), "real")
        fields["flat"] = FieldSpec((1,), "count")
    if known.phase == WEIGHTS:
        fields["weights"] = FieldSpec((6,), "real")
    return fields


def _add_institution(
    out: Contribution, values: Floats, known: Moments, institutions: Floats
) -> None:
    """What an institution as a group adds: around its own mean, and of that mean."""
    n = len(values)
    mean = float(values.mean())
    residual = values - mean
    low = float(residual.sum()) / n
    squares = max(float(np.square(residual).sum()) - n * low**2, 0.0)
    away = (mean - float(known.mean[0])) + low
    if "between" in out:
        out["between"][0] = n * away**2
        out["within"][0] = squares
        out["flat"][0] = n < 2 or is_constant(n, mean, squares)
    if "weights" in out and n > 1 and squares > 0:
        unit = max(float(institutions[1]), np.finfo(np.float64).tiny) / known.counted.n
        out["weights"][:] = Weighted.terms(n, away / unit**0.5, squares / (n - 1) / unit)


def _title(params: AnovaParams) -> dict[str, Any]:
    welch = params.kind == "welch"
    return {
        "test": "welch-anova" if welch else "anova",
        "title": "Welch's analysis of variance" if welch else "One-way analysis of variance",
        "alternative": "two-sided",
        "variable": params.variable,
        "by": params.by or "site",
        "null": f"The mean of {params.variable} is the same "
        + (f"at every level of {params.by}." if params.by else "at every institution."),
    }


def _result(
    known: Moments, groups: Groups, held: tuple[int, ...], params: AnovaParams, scope: Scope
) -> dict[str, Any]:
    layout = OneWay.of(known, held)
    test = layout.classical()
    return {
        **_title(params),
        **test,
        **(weigh(known, held) if params.kind == "welch" else {}),
        "n": layout.n,
        "n_missing": int(known.counted.left_out[0]),
        "n_sites": scope.n_sites,
        "groups": known.described(groups, held),
        "suppressed": known.counted.unheard(groups),
    }


def _institutions_result(
    known: Moments,
    institutions: Floats,
    welch: dict[str, Any] | None,
    params: AnovaParams,
    scope: Scope,
) -> dict[str, Any]:
    between, within = (float(value) for value in institutions)
    layout = OneWay(int(known.counted.sites[0]), known.counted.n, between, within)
    return {
        **_title(params),
        **layout.classical(),
        **(welch or {}),
        "n": layout.n,
        "n_missing": int(known.counted.left_out[0]),
        "n_sites": scope.n_sites,
        "groups": [],
        "suppressed": [],
    }
