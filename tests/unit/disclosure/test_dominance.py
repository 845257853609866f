"""The (n, k) rule at a site."""

from __future__ import annotations

import numpy as np
import pytest

from cohortium.disclosure.dominance import dominated
from cohortium.disclosure.limits import Dominance


@pytest.mark.parametrize(
    ("values", "largest", "percent", "expected"),
    [
        ([80.0, 10.0, 10.0], 1, 80.0, False),
        ([81.0, 10.0, 9.0], 1, 80.0, True),
        ([-81.0, 10.0, 9.0], 1, 80.0, True),
        ([40.0, 41.0, 10.0, 9.0], 2, 80.0, True),
        ([40.0, 40.0, 10.0, 10.0], 2, 80.0, False),
        ([5.0], 1, 80.0, True),
        ([5.0, 5.0], 2, 99.0, True),
        ([0.0, 0.0, 0.0], 1, 50.0, False),
        ([], 1, 50.0, False),
    ],
)
def test_the_largest_values_share_decides(
    values: list[float], largest: int, percent: float, expected: bool
) -> None:
    rule = Dominance(largest=largest, percent=percent)
    assert dominated(np.array(values), rule) is expected


def test_no_dominance_at_each_site_is_none_in_the_pool() -> None:
    rng = np.random.default_rng(7)
    rule = Dominance(largest=2, percent=50.0)
    found = 0
    for _ in range(300):
        sites = [rng.exponential(size=rng.integers(6, 20)) for _ in range(3)]
        if not any(dominated(values, rule) for values in sites):
            found += 1
            assert not dominated(np.concatenate(sites), rule)
    assert found > 30
