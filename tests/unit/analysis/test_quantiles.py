"""The search for order statistics on a grid."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from cohortium.analysis.quantiles import (
    BINS,
    MAX_LEVELS,
    Found,
    advance,
    first_search,
    grid_scale,
    histogram,
    interpolate,
    needed_ranks,
    reach,
)
from cohortium.core.dictionary import Variable, VariableType

WHOLE = Variable(name="k", type=VariableType.INTEGER)
REAL = Variable(name="x", type=VariableType.REAL)
CENTS = Variable(name="d", type=VariableType.REAL, decimals=2)


def search(
    values: npt.NDArray[np.float64], variable: Variable, p: float, min_cell: int
) -> tuple[list[Found], float, int]:
    """All order statistics of the `p` quantile, the grid, and how many rounds it took."""
    mean, sd = float(values.mean()), float(values.std())
    scale = grid_scale(variable, mean, sd, reach(p))
    ranks = needed_ranks(len(values), p, min_cell)
    searches = [first_search(0, 0, ranks, mean=mean, sd=sd, sds=reach(p), scale=scale)]
    found: list[Found] = []
    rounds = 0
    while searches:
        rounds += 1
        following = []
        for one in searches:
            counts = histogram(values, scale, one.lower, one.width, one.bins)
            cut, here = advance(one, counts, min_cell)
            following += cut
            found += here
        searches = following
    return sorted(found, key=lambda f: f.rank), scale, rounds


@pytest.mark.parametrize("p", [0.05, 0.25, 0.5, 0.63, 0.95])
@pytest.mark.parametrize("n", [40, 333, 5000])
@pytest.mark.parametrize("variable", [WHOLE, REAL, CENTS], ids=["integer", "real", "decimals"])
def test_intervals_hold_the_order_statistic_and_enough_persons(
    variable: Variable, n: int, p: float
) -> None:
    random = np.random.default_rng(n)
    values = random.lognormal(3, 1, n)
    if variable is not REAL:
        values = np.round(values, 0 if variable is WHOLE else 2)
    min_cell = 2 if n == 40 else 5
    found, scale, rounds = search(values, variable, p, min_cell)
    ordered = np.sort(values)
    assert [f.rank for f in found] == list(needed_ranks(n, p, min_cell))
    assert rounds <= 4
    for statistic in found:
        cells = np.rint(values * scale)
        assert np.sum((cells >= statistic.lower) & (cells <= statistic.upper)) >= min_cell
        assert statistic.lower <= np.rint(ordered[statistic.rank] * scale) <= statistic.upper
        assert 0 <= statistic.fraction <= 1
    quantile = interpolate(p, n, found, scale, exact=variable is not REAL)
    assert quantile.low <= np.quantile(values, p) <= quantile.high
    assert quantile.high - quantile.low < values.std()


@pytest.mark.parametrize("variable", [WHOLE, REAL], ids=["integer", "real"])
def test_a_value_that_enough_persons_share_is_exact(variable: Variable) -> None:
    values = np.repeat(np.array([-7.0, 0.0, 3.0, 1000.0]), 6)
    for p in (0.3, 0.45, 0.7):
        found, scale, _ = search(values, variable, p, 5)
        quantile = interpolate(p, len(values), found, scale, exact=True)
        assert quantile.low == quantile.value == quantile.high == np.quantile(values, p)


def test_edges_do_not_depend_on_a_value_within_a_small_cell() -> None:
    values = np.arange(0.0, 400.0, 7.0)
    moved = values.copy()
    moved[29] += 1.0
    before, scale, _ = search(values, WHOLE, 0.5, 5)
    counts = [
        histogram(v, scale, before[0].lower, before[0].upper - before[0].lower + 1, 1)
        for v in (values, moved)
    ]
    assert counts[0].tolist() == counts[1].tolist()


@pytest.mark.parametrize(
    ("n", "p", "ranks"),
    [
        (9, 0.5, (4,)),
        (10, 0.5, (4, 5)),
        (8, 0.5, ()),
        (17, 0.25, (4,)),
        (16, 0.25, ()),
        (17, 0.75, (12,)),
        (16, 0.75, ()),
        (1000, 0.001, ()),
    ],
)
def test_each_side_holds_at_least_the_minimum(n: int, p: float, ranks: tuple[int, ...]) -> None:
    assert needed_ranks(n, p, 5) == ranks


def test_the_reach_is_the_bound_of_chebyshev() -> None:
    assert reach(0.5) == 2.0
    assert [reach(0.01), reach(0.99)] == pytest.approx([math.sqrt(99)] * 2)


def test_the_grid_is_recorded_or_fine_enough() -> None:
    assert grid_scale(WHOLE, 1e6, 10.0, 2.0) == 1.0
    assert grid_scale(CENTS, 1e6, 10.0, 2.0) == 100.0
    assert grid_scale(REAL, 5.0, 1.0, 2.0) == 2.0**20
    assert grid_scale(REAL, 5.0, 1e-9, 2.0) * 5.0 <= 2.0**50
    tiny = Variable(name="t", type=VariableType.REAL, decimals=12)
    assert grid_scale(tiny, 1e9, 1.0, 2.0) == 2.0**20
    assert grid_scale(REAL, 0.0, 0.0, 2.0) == 1.0
    assert BINS**MAX_LEVELS > 2**51
