"""`stats.normality`: skewness and kurtosis against those of the normal distribution, over sites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.grouped import Groups, parts
from cohortium.analysis.interface import Continue, Done, DropOuts, FieldSpec, Params, Scope
from cohortium.analysis.moments import DONE, Moments, empty, numeric
from cohortium.core.dictionary import Name
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import InputError

SHAPE = "shape"
LEAST_PERSONS = 8
"""Of the approximation for the skewness (D'Agostino 1970)."""
EDGES = np.arange(-12, 13) / 4
"""Of the picture, in standard deviations from the mean."""

Ints = npt.NDArray[np.int64]


class NormalityParams(Params):
    """What is held against a normal distribution.

    Attributes:
        variable: A number.
        by: A category or boolean: the distances from its levels' means (residuals) are tested.
        kind: The test that is reported first; all four are in the result.
    """

    variable: Name
    by: Name | None = None
    kind: Literal["jarque-bera", "dagostino", "skewness", "kurtosis"] = "dagostino"


class Normality:
    """Tests of normality that need moments only.

    Null hypothesis: the values (with `by`: the residuals within groups) are from a normal
    distribution. Assumes independent persons. Jarque-Bera: n / 6 (g1^2 + g2^2 / 4) against
    chi-square with 2 degrees of freedom, good for thousands of persons; D'Agostino's K^2: the sum
    of the squared z of skewness and of kurtosis, good from 20 persons on; each z by itself.

    Shapiro-Wilk's, Anderson-Darling's and Lilliefors' tests need the records in order and are not
    offered: no sum over persons gives them. With many persons any test rejects what is normal
    enough for every purpose: look at skewness, kurtosis and the picture, a histogram of bins of
    `min_cell` persons or more.

    Leaves the site, summed under masks, never for a person:
        round 1, for each group: persons with every value, whether the site contributes, persons
            left out; with the floor ``site`` also the sum of the values, which with the floor
            ``total`` follows once the joint number of persons is known to be enough;
        then, for each group: the sums of distances and of squared distances from the joint mean;
        then, for all together: the sums of second, third and fourth powers of the distances from
            the groups' means in standard deviations, and the counts of persons in 26 bins of them.

    Refuses: a site with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its
    persons. PolicyRefusal ``too-few-persons`` where a group is smaller jointly, where so few have
    one of two values, or make up most of a sum; ``too-few-sites`` for a group of one institution;
    ``not-permitted`` where numbers of persons are rounded. InputError ``no-convergence`` for fewer
    than 8 persons, or where all values are equal.

    Reference: Jarque & Bera 1980; D'Agostino & Pearson 1973; D'Agostino 1970; Anscombe & Glynn
    1983; as `scipy.stats.jarque_bera`, `normaltest`, `skewtest` and `kurtosistest`.
    """

    name: ClassVar[str] = "stats.normality"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 4
    params_type = NormalityParams

    def variables(self, params: NormalityParams) -> frozenset[str]:
        """The number and the grouping variable."""
        return frozenset({params.variable, *([params.by] if params.by else [])})

    def partition(self, params: NormalityParams, scope: Scope) -> tuple[str, ...]:
        """The grouping variable."""
        return tuple(variable.name for variable in Groups.of(scope, params.by).by)

    def start(self, params: NormalityParams, scope: Scope) -> State:
        """Begin with counts."""
        numeric(scope, params.variable)
        return Moments.nothing(Groups.of(scope, params.by), scope).to_state()

    def layout(self, state: State, params: NormalityParams, scope: Scope) -> Layout:
        """See the class."""
        groups = Groups.of(scope, params.by)
        return _layout(Moments.from_state(state, groups, (SHAPE,)), groups, scope)

    def local(
        self, table: Table, state: State, params: NormalityParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        groups = Groups.of(scope, params.by)
        known = Moments.from_state(state, groups, (SHAPE,))
        out = empty(_layout(known, groups, scope))
        column = np.asarray(table.columns[table.variable(params.variable).name], dtype=np.float64)
        names = (params.variable,)
        status = known.counted.status
        sd = _sd(known)
        for group, rows in parts(table, groups, status, scope, out=out, complete=names):
            values = column[rows]
            known.add(out, group, values, scope)
            if "powers" in out and sd > 0:
                z = ((values - known.mean[group]) - known.low[group]) / sd
                z2 = z * z
                out["powers"] += (z2.sum(), (z2 * z).sum(), np.square(z2).sum())
                places = np.searchsorted(EDGES, z, side="right")
                out["bins"] += np.bincount(places, minlength=len(EDGES) + 1)
        return out

    def column(
        self,
        field: str,  # noqa: ARG002 - the protocol's signature
        index: int,  # noqa: ARG002
        params: NormalityParams,
        scope: Scope,
    ) -> str:
        """The variable."""
        return scope.variable(params.variable).name

    def finish(
        self, total: Total, state: State, params: NormalityParams, scope: Scope
    ) -> Continue | Done:
        """Withhold what is too small, then go on to the next pass."""
        groups = Groups.of(scope, params.by)
        known = Moments.from_state(state, groups, (SHAPE,))
        if known.phase == SHAPE:
            return Done(_result(known, total, groups, params, scope))
        known = known.advance(total, groups, scope, least=1)
        if known.phase != DONE:
            return Continue(known.to_state(), 0.4, known.phase)
        held = known.counted.together(groups, scope, least=1)
        known.check(groups, held, scope.variable(params.variable), scope)
        if known.counted.n < LEAST_PERSONS:
            raise InputError(
                "no-convergence",
                f"These tests need {LEAST_PERSONS} persons or more with every value.",
            )
        shape = Moments(SHAPE, known.counted, known.mean, known.low, known.squares)
        return Continue(shape.to_state(), 0.8, SHAPE)


def _layout(known: Moments, groups: Groups, scope: Scope) -> Layout:
    if known.phase != SHAPE:
        return known.layout(groups, scope)
    return {
        "powers": FieldSpec((3,), "real"),
        "bins": FieldSpec((len(EDGES) + 1,), "count"),
    }


def _sd(known: Moments) -> float:
    """Of the distances from the groups' means, divisor n."""
    return math.sqrt(float(known.squares.sum()) / max(known.counted.n, 1))


def _result(
    known: Moments, total: Total, groups: Groups, params: NormalityParams, scope: Scope
) -> dict[str, Any]:
    n = known.counted.n
    second, third, fourth = (float(power) / n for power in total["powers"])
    tests = shape_tests(n, third / second**1.5, fourth / second**2)
    first = next(test for test in tests if test["test"] == params.kind)
    held = known.counted.together(groups, scope, least=1)
    residuals = f"{params.variable}, around the means by {params.by}," if params.by else ""
    described = known.described(groups, held)
    centre = 0.0 if params.by else described[0]["mean"]
    if not params.by:
        described[0]["level"] = params.variable
    bins = merged(np.asarray(total["bins"], dtype=np.int64), scope.disclosure.min_cell)
    return {
        **first,
        "variable": params.variable,
        "by": params.by,
        "null": f"{residuals or params.variable} has a normal distribution.",
        "alternative": "two-sided",
        "n": n,
        "n_missing": int(known.counted.left_out[0]),
        "n_sites": scope.n_sites,
        "groups": described,
        "effects": [
            {"name": "skewness", "value": third / second**1.5},
            {"name": "excess kurtosis", "value": fourth / second**2 - 3},
        ],
        "tests": tests,
        "histogram": {
            "mean": centre,
            "sd": _sd(known) * math.sqrt(n / (n - len(held))),
            "bins": [
                {
                    "low": None if low is None else centre + _sd(known) * low,
                    "high": None if high is None else centre + _sd(known) * high,
                    "n": count,
                }
                for low, high, count in bins
            ],
        },
        "suppressed": known.counted.unheard(groups),
    }


def shape_tests(n: int, skewness: float, kurtosis: float) -> list[dict[str, Any]]:
    """The four tests, from g1 and g2 + 3."""
    from scipy.stats import chi2, norm

    zs = {
        "skewness": _skewness_z(n, skewness),
        "kurtosis": _kurtosis_z(n, kurtosis),
    }
    squares = {
        "jarque-bera": ("Jarque-Bera test", "JB", n / 6 * (skewness**2 + (kurtosis - 3) ** 2 / 4)),
        "dagostino": ("D'Agostino-Pearson test", "K²", sum(z**2 for z in zs.values())),
    }
    return [
        *(
            {
                "test": name,
                "title": title,
                "statistic_name": symbol,
                "statistic": value,
                "df": 2,
                "p_value": float(chi2.sf(value, 2)),
            }
            for name, (title, symbol, value) in squares.items()
        ),
        *(
            {
                "test": name,
                "title": f"Test of the {name}",
                "statistic_name": "z",
                "statistic": z,
                "df": None,
                "p_value": 2 * float(norm.sf(abs(z))),
            }
            for name, z in zs.items()
        ),
    ]


def _skewness_z(n: int, g1: float) -> float:
    """D'Agostino 1970."""
    y = g1 * math.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    beta2 = 3.0 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3)
    beta2 /= (n - 2) * (n + 5) * (n + 7) * (n + 9)
    w2 = math.sqrt(2 * (beta2 - 1)) - 1
    y /= math.sqrt(2 / (w2 - 1))
    return math.asinh(y) / math.sqrt(0.5 * math.log(w2))


def _kurtosis_z(n: int, b2: float) -> float:
    """Anscombe & Glynn 1983."""
    expected = 3 * (n - 1) / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    x = (b2 - expected) / math.sqrt(variance)
    beta1 = 6.0 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9))
    beta1 *= math.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    a = 6 + 8 / beta1 * (2 / beta1 + math.sqrt(1 + 4 / beta1**2))
    root = (1 - 2 / a) / (1 + x * math.sqrt(2 / (a - 4)))
    return (1 - 2 / (9 * a) - math.copysign(abs(root) ** (1 / 3), root)) / math.sqrt(2 / (9 * a))


def merged(counts: Ints, min_cell: int) -> list[tuple[float | None, float | None, int]]:
    """Bins of at least `min_cell` persons, small ones joined to the next.

    Returns:
        Lower and upper edge in standard deviations, None at the ends, and persons.
    """
    edges: Sequence[float | None] = [None, *EDGES.tolist(), None]
    out: list[tuple[float | None, float | None, int]] = []
    begin, persons = 0, 0
    for at, count in enumerate(counts.tolist()):
        persons += count
        if persons >= min_cell:
            out.append((edges[begin], edges[at + 1], persons))
            begin, persons = at + 1, 0
    if out and begin < len(counts):
        low, _, last = out.pop()
        out.append((low, None, last + persons))
    return out
