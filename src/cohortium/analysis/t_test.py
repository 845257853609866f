"""`stats.t_test`: tests of one mean, of two, and of paired values over sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cohortium.analysis.grouped import Groups, parts
from cohortium.analysis.interface import Continue, Done, DropOuts, Params, Scope
from cohortium.analysis.moments import DONE, Floats, Moments, empty, numeric
from cohortium.analysis.t_result import Sample, assemble
from cohortium.core.dictionary import Label, Name, VariableType
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import is_small
from cohortium.errors import InputError, PolicyRefusal

Kind = Literal["welch", "student", "paired", "one-sample"]
Alternative = Literal["two-sided", "less", "greater"]


class TTestParams(Params):
    """Which means are compared.

    Attributes:
        variable: A number.
        by: For welch and student: a category or boolean.
        levels: Two levels of `by`, the first minus the second; absent where it has only two.
        kind: One of welch (variances may differ), student (one variance), paired, one-sample.
        second: For paired: the number that is subtracted from `variable`, person by person.
        mu: The mean, or difference of means, under the null hypothesis.
        alternative: Of the mean, or the difference, to `mu`.
        confidence: Of the intervals, which are two-sided whatever the alternative.
    """

    variable: Name
    by: Name | None = None
    levels: tuple[Label, Label] | None = None
    kind: Kind = "welch"
    second: Name | None = None
    mu: float = 0.0
    alternative: Alternative = "two-sided"
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = 0.95


class TTest:
    """t-tests of means of the pooled persons.

    Null hypothesis: two groups have the same mean (or means that differ by `mu`); the mean of the
    differences within persons, or of one variable, is `mu`. Assumptions: independent persons; means
    that are about normally distributed, which the central limit theorem gives for all but small
    groups of skewed values; for student also equal variances.

    Gives t, its degrees of freedom (Satterthwaite's for welch), p, the difference with its
    interval, Cohen's d (by the pooled standard deviation; for one mean by its own) and Hedges' g
    with exact intervals from the noncentral t distribution.

    Leaves the site, summed under masks, for each group, never for a person:
        round 1: persons with every value, whether the site contributes, persons left out; with the
            floor ``site`` also the sum of the values (for paired: of the differences), which with
            the floor ``total`` follows once the joint number of persons is known to be enough;
        then: the sums of distances and of squared distances from the joint mean.

    Refuses: a site with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its
    persons. PolicyRefusal ``too-few-persons`` where a group is smaller jointly, where its count
    would give away a small third level, where so few have one of two values, or where few make up
    most of a sum; ``too-few-sites`` for a group of one institution; ``not-permitted`` where numbers
    of persons are rounded. InputError ``no-convergence`` where all values are equal, since the mean
    would be everybody's value.

    Reference: Student 1908; Welch 1947; Hedges & Olkin 1985, ch. 5-6 (effect sizes).
    """

    name: ClassVar[str] = "stats.t_test"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 3
    params_type = TTestParams

    def variables(self, params: TTestParams) -> frozenset[str]:
        """The number or numbers, and the grouping variable."""
        return frozenset({*_measured(params), *([params.by] if params.by else [])})

    def partition(self, params: TTestParams, scope: Scope) -> tuple[str, ...]:
        """The grouping variable."""
        return tuple(variable.name for variable in Groups.of(scope, params.by).by)

    def start(self, params: TTestParams, scope: Scope) -> State:
        """Begin with counts."""
        _check_params(params)
        for name in _measured(params):
            numeric(scope, name)
        groups = Groups.of(scope, params.by)
        among_of(groups, params)
        return Moments.nothing(groups, scope).to_state()

    def layout(self, state: State, params: TTestParams, scope: Scope) -> Layout:
        """See the class."""
        groups = Groups.of(scope, params.by)
        return Moments.from_state(state, groups).layout(groups, scope)

    def local(self, table: Table, state: State, params: TTestParams, scope: Scope) -> Contribution:
        """See the class."""
        groups = Groups.of(scope, params.by)
        known = Moments.from_state(state, groups)
        out = empty(known.layout(groups, scope))
        among = among_of(groups, params)
        values = _values(table, params)
        status = known.counted.status
        for group, rows in parts(table, groups, status, scope, out=out, complete=_measured(params)):
            if group in among:
                known.add(out, group, values[rows], scope)
        return out

    def column(
        self,
        field: str,  # noqa: ARG002 - the protocol's signature
        index: int,  # noqa: ARG002
        params: TTestParams,
        scope: Scope,
    ) -> str:
        """The variable."""
        return scope.variable(params.variable).name

    def finish(
        self, total: Total, state: State, params: TTestParams, scope: Scope
    ) -> Continue | Done:
        """Withhold what is too small, then go on to the next pass."""
        groups = Groups.of(scope, params.by)
        among = among_of(groups, params)
        known = Moments.from_state(state, groups).advance(
            total, groups, scope, among=among, least=len(among)
        )
        if known.phase != DONE:
            return Continue(known.to_state(), 0.5, known.phase)
        variable = scope.variable(params.variable)
        if params.second is None:
            known.check(groups, among, variable, scope)
        else:
            _check_differences(known, params, scope)
        samples = [Sample.of(known, at) for at in among]
        return Done(_result(known, groups, samples, params, scope))


def _measured(params: TTestParams) -> tuple[str, ...]:
    return (params.variable,) if params.second is None else (params.variable, params.second)


def _check_params(params: TTestParams) -> None:
    two = params.kind in {"welch", "student"}
    if two != (params.by is not None):
        raise InputError(
            "bad-input",
            f"A {params.kind} t-test compares two groups: name `by`."
            if two
            else f"A {params.kind} t-test has no groups: leave `by` out.",
        )
    if (params.kind == "paired") != (params.second is not None):
        raise InputError("bad-input", "A paired t-test, and only it, has a second variable.")
    if params.second == params.variable:
        raise InputError("bad-input", "The two variables of a paired t-test are one.")
    if params.levels is not None and params.by is None:
        raise InputError("bad-input", "Levels are of a grouping variable: name `by`.")


def among_of(groups: Groups, params: TTestParams) -> tuple[int, ...]:
    """The group or the two groups that are compared, in order."""
    if not groups.by:
        return (0,)
    levels = params.levels or groups.levels[0]
    known = ", ".join(groups.levels[0][:20])
    if len(levels) != 2 or len(set(levels)) != 2:
        raise InputError("bad-input", f"Name two levels of {params.by}; it has: {known}.")
    if not set(levels) <= set(groups.levels[0]):
        raise InputError("bad-input", f"{params.by} has the levels: {known}.")
    return tuple(groups.levels[0].index(level) for level in levels)


def _values(table: Table, params: TTestParams) -> Floats:
    values = np.asarray(table.columns[table.variable(params.variable).name], dtype=np.float64)
    if params.second is None:
        return values
    return values - table.columns[table.variable(params.second).name]


def _check_differences(known: Moments, params: TTestParams, scope: Scope) -> None:
    """That the mean difference gives away no difference that too few persons have."""
    named = scope.variable(params.variable)
    shown = named.model_copy(update={"name": f"{params.variable} - {params.second}"})
    known.check(Groups((), ()), (0,), shown, scope)
    n, mean = int(known.counted.persons[0]), float(known.mean[0] + known.low[0])
    squares = float(known.squares[0]) + n * mean**2
    whole = {scope.variable(name).type for name in _measured(params)}
    if not whole <= {VariableType.BOOLEAN, VariableType.INTEGER}:
        return
    # Of differences -1, 0 and 1 the sum and the sum of squares tell how many there are of each.
    counts = [round(squares)]
    if whole == {VariableType.BOOLEAN}:
        counts += [n - round(squares), round((squares + n * mean) / 2)]
        counts.append(counts[0] - counts[2])
    if any(is_small(count, scope.disclosure.min_cell) for count in counts):
        raise PolicyRefusal(
            "too-few-persons",
            f"{shown.name}: the mean would give away a value that too few persons have.",
        )


def _result(
    known: Moments, groups: Groups, samples: list[Sample], params: TTestParams, scope: Scope
) -> Mapping[str, Any]:
    described = known.described(groups, among_of(groups, params))
    difference = f"{params.variable} - {params.second}"
    if not groups.by:
        described[0]["level"] = params.variable if params.second is None else difference
    about = ", ".join(_measured(params))
    mu = f"{params.mu:g}"
    if params.by is not None:
        first, second = (group["level"] for group in described)
        null = f"The mean of {params.variable} is the same at {params.by} = {first} and {second}."
        if params.mu:
            null = f"{null[:-1].replace('is the same', 'differs')} by {mu}."
    else:
        null = f"The mean of {about if params.second is None else difference} is {mu}."
    return {
        **assemble(params.kind, samples, params.mu, params.alternative, params.confidence),
        "variable": params.variable,
        "by": params.by if params.second is None else None,
        **({} if params.second is None else {"second": params.second}),
        "mu": params.mu,
        "null": null,
        "n": sum(sample.n for sample in samples),
        "n_missing": int(known.counted.left_out[0]),
        "n_sites": scope.n_sites,
        "groups": described,
        "suppressed": [],
    }
