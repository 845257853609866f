"""Means, weights and deviances against scipy's distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cohortium.analysis.families import FAMILIES

ETA = np.array([-800.0, -30.0, -1.3, 0.0, 0.4, 30.0, 800.0])


def test_names_are_statsmodels() -> None:
    assert {name: (f.name, f.link) for name, f in FAMILIES.items()} == {
        "binomial": ("binomial", "logit"),
        "gaussian": ("gaussian", "identity"),
        "poisson": ("poisson", "log"),
    }


def test_the_logit_is_finite_at_any_distance() -> None:
    family = FAMILIES["binomial"]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        mean, weight = family.mean(ETA), family.weight(ETA)
        deviance = [family.deviance(np.array([y]), ETA[-1:]) for y in (0.0, 1.0)]
    assert mean == pytest.approx(stats.logistic.cdf(ETA), rel=1e-14)
    assert weight == pytest.approx(stats.logistic.pdf(ETA), rel=1e-14)
    assert deviance == [1600.0, 0.0]


def test_the_log_is_cut_where_a_step_is_taken_back_anyway() -> None:
    mean = FAMILIES["poisson"].mean(ETA)
    assert np.all(np.isfinite(mean))
    assert mean[1:5] == pytest.approx(np.exp(ETA[1:5]))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_inverse_link_inverts(name: str) -> None:
    family = FAMILIES[name]
    assert family.mean(np.array([family.predictor(0.3)]))[0] == pytest.approx(0.3, rel=1e-15)


def test_deviance_and_saturated_likelihood_give_the_likelihood() -> None:
    random = np.random.default_rng(2)
    eta = random.normal(size=200)
    counts = random.poisson(np.exp(eta)).astype(float)
    events = (random.uniform(size=200) < 0.5).astype(float)
    poisson, binomial = FAMILIES["poisson"], FAMILIES["binomial"]
    for family, y, expected in (
        (poisson, counts, stats.poisson.logpmf(counts, np.exp(eta)).sum()),
        (binomial, events, stats.bernoulli.logpmf(events, stats.logistic.cdf(eta)).sum()),
    ):
        found = family.saturated(y) - family.deviance(y, eta) / 2
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_start_is_rs() -> None:
    y = np.array([0.0, 1.0])
    assert FAMILIES["binomial"].mean(FAMILIES["binomial"].start(y)) == pytest.approx([0.25, 0.75])
    assert FAMILIES["poisson"].mean(FAMILIES["poisson"].start(y)) == pytest.approx([0.1, 1.1])
    assert FAMILIES["gaussian"].start(y).tolist() == [0.0, 1.0]
