"""Limits of effect sizes from the noncentral t distribution."""

from __future__ import annotations

import math

import pytest

from cohortium.analysis.t_result import noncentrality

nct = pytest.importorskip("scipy.stats").nct


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.9999])
@pytest.mark.parametrize(
    ("t", "df"), [(0.0, 1), (2.0, 5), (-2.0, 5), (30.0, 20), (-500.0, 1e6), (3000.0, 1e5)]
)
def test_the_limits_leave_their_tails(t: float, df: float, confidence: float) -> None:
    low, high = noncentrality(t, df, confidence)
    tail = (1 - confidence) / 2
    assert nct.sf(abs(t), df, low if t >= 0 else -high) == pytest.approx(tail, rel=1e-3)
    assert nct.cdf(abs(t), df, high if t >= 0 else -low) == pytest.approx(tail, rel=1e-3)
    assert low <= t * (1 - 1 / (4 * df)) <= high or df < 2


def test_the_limits_are_mirrored() -> None:
    low, high = noncentrality(1.7, 12, 0.95)
    assert noncentrality(-1.7, 12, 0.95) == (-high, -low)
    assert math.isclose(noncentrality(0, 12, 0.95)[1], 1.959963984540054, rel_tol=1e-9)
