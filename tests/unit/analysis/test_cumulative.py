"""The likelihood between two thresholds, and its slopes, for each link."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from cohortium.analysis.cumulative import Between, Link, cumulative, thresholds_of

LAWS: dict[Link, Any] = {"logit": stats.logistic, "probit": stats.norm, "cloglog": stats.gumbel_l}
CUTS = np.array([-1.0, 0.2, 0.9])
LINKS: tuple[Link, ...] = ("logit", "probit", "cloglog")


def some(seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    return random.integers(0, 4, 60), random.normal(0, 1.2, 60)


@pytest.mark.parametrize("link", LINKS)
def test_the_likelihood_is_scipys(link: Link) -> None:
    y, eta = some()
    edges = np.concatenate([[-np.inf], CUTS, [np.inf]])
    law = LAWS[link]
    chances = law.cdf(edges[y + 1] - eta) - law.cdf(edges[y] - eta)
    assert Between.of(link, CUTS, y, eta).loglik == pytest.approx(np.log(chances).sum(), rel=1e-12)
    assert cumulative(link, CUTS) == pytest.approx(law.cdf(CUTS), rel=1e-12)
    counts = np.array([10.0, 30.0, 20.0, 40.0])
    assert thresholds_of(link, counts) == pytest.approx(law.ppf([0.1, 0.4, 0.6]), rel=1e-12)


@pytest.mark.parametrize("link", LINKS)
def test_slopes_are_differences_of_the_likelihood(link: Link) -> None:
    y, eta = some(1)
    step = 1e-5

    def at(cuts: Any = CUTS, away: float = 0.0) -> Between:
        return Between.of(link, cuts, y, eta + away)

    here = at()
    slope = (at(away=step).loglik - at(away=-step).loglik) / (2 * step)
    assert slope == pytest.approx((here.low - here.high).sum(), rel=1e-6)
    fall = [(at(away=side).high - at(away=side).low) for side in (step, -step)]
    assert (fall[0] - fall[1]) / (2 * step) == pytest.approx(
        here.fall_high + here.fall_low, rel=1e-5, abs=1e-8
    )
    for cut in range(3):
        move = step * (np.arange(3) == cut)
        up, down = at(CUTS + move), at(CUTS - move)
        found = here.high[y == cut].sum() - here.low[y == cut + 1].sum()
        assert (up.loglik - down.loglik) / (2 * step) == pytest.approx(found, rel=1e-5)
        bend = -(up.high - down.high) / (2 * step)
        assert bend[y == cut] == pytest.approx(
            (here.fall_high + here.both)[y == cut], rel=1e-4, abs=1e-7
        )
        assert bend[y == cut + 1] == pytest.approx(-here.both[y == cut + 1], rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("link", LINKS)
def test_nothing_cancels_in_the_tails_or_between_close_thresholds(link: Link) -> None:
    """The probability between two close thresholds is the density times their distance."""
    gap, y = 1e-6, np.array([1])
    for place in (-3.0, 2.0):
        here = Between.of(link, np.array([place - gap / 2, place + gap / 2]), y, np.zeros(1))
        want = LAWS[link].logpdf(place) + np.log(gap)
        assert here.loglik == pytest.approx(want, rel=1e-8)
        assert here.high[0] * gap == pytest.approx(1.0, rel=1e-5)
    top = Between.of(link, CUTS, np.array([3]), np.array([-20.0 if link != "cloglog" else -4.0]))
    far = 20.9 if link != "cloglog" else 4.9
    assert top.loglik == pytest.approx(LAWS[link].logsf(far), rel=1e-12)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("away", [1e4, -1e4])
def test_a_step_far_away_has_a_poor_likelihood_and_finite_sums(link: Link, away: float) -> None:
    y = np.array([0, 1, 2, 3])
    far = Between.of(link, CUTS, y, np.full(4, away))
    near = Between.of(link, CUTS, y, np.zeros(4))
    assert far.loglik < near.loglik - 10
    for values in (far.high, far.low, far.fall_high, far.fall_low, far.both):
        assert np.isfinite(values).all()
