"""Sample sizes and powers equal those of R, statsmodels, Stata and lifelines."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.statistics import power_under_cph, sample_size_necessary_under_cph
from scipy.integrate import quad
from statsmodels.stats.power import NormalIndPower, TTestIndPower, TTestPower
from statsmodels.stats.proportion import power_proportions_2indep, proportion_effectsize

import cohortium as co
from cohortium.errors import InputError

effects = st.floats(0.2, 2.0)
ratios = st.sampled_from([0.5, 1.0, 2.0])
sides = st.sampled_from(["two-sided", "one-sided"])
SIDE: dict[str, Any] = {"two-sided": "two-sided", "one-sided": "larger"}


@pytest.mark.parametrize(
    ("asked", "found", "expected"),
    [
        # R 4, example(power.t.test): what it prints
        ({"n": 20, "difference": 1}, "power", 0.8689528),
        ({"power": 0.90, "difference": 1}, "n1", 22.02110),
        ({"power": 0.90, "difference": 1, "alternative": "one-sided"}, "n1", 17.84713),
        # R's pwr, pwr.t.test, in the tests of statsmodels (test_power.py)
        ({"difference": 1, "n": 30, "kind": "one-sample"}, "power", 0.9995636009612725),
        ({"difference": 0.2, "n": 20, "kind": "paired"}, "power", 0.1359562887679666),
        (
            {"difference": 1, "n": 30, "kind": "one-sample", "alternative": "one-sided"},
            "power",
            0.999892010204909,
        ),
        ({"difference": 1, "n": 30}, "power", 0.967708258242517),
        ({"difference": 0.1, "n": 20}, "power", 0.06095912465411235),
        ({"difference": 1, "n": 30, "alternative": "one-sided"}, "power", 0.985459690251624),
    ],
)
def test_means_equal_r(asked: dict[str, Any], found: str, expected: float) -> None:
    assert getattr(co.power_means(**asked), found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("asked", "found", "expected", "digits"),
    [
        # R 4, the comments in example(power.prop.test)
        ({"n": 50, "p2": 0.75}, "power", 0.740, 3),
        ({"p2": 0.75, "power": 0.90}, "n1", 76.7, 1),
        ({"p2": 0.75, "power": 0.80}, "n1", 57.7, 1),
        # Stata and R in the tests of statsmodels (test_proportion.py, test_power_2indep)
        ({"p2": 0.75, "power": 0.90}, "n1", 76.70692, 4),
        ({"p2": 0.75, "power": 0.90, "alternative": "one-sided"}, "n1", 62.33551, 4),
        ({"p1": 0.015, "p2": 0.001, "n": 550}, "power", 0.7415600, 6),
        ({"p1": 0.1, "p2": 0.2, "n": 154, "ratio": 2.0}, "power", 0.7995659211532175, 7),
    ],
)
def test_proportions_equal_r_and_stata(
    asked: dict[str, Any], found: str, expected: float, digits: int
) -> None:
    result = co.power_proportions(**{"p1": 0.5, **asked})
    assert getattr(result, found) == pytest.approx(expected, abs=0.6 * 10**-digits)


@settings(max_examples=30, deadline=None)
@given(effect=st.floats(0.05, 0.5), n=st.integers(5, 100), ratio=ratios, side=sides)
def test_means_equal_statsmodels(effect: float, n: int, ratio: float, side: Any) -> None:
    options = {"alpha": 0.05, "alternative": SIDE[side]}
    two = co.power_means(difference=3 * effect, sd=3, n=n, ratio=ratio, alternative=side)
    expected = TTestIndPower().power(effect, n, ratio=ratio, **options)
    assert two.power == pytest.approx(expected, abs=1e-9)
    one = co.power_means(difference=-effect, n=n, kind="paired", alternative=side)
    assert one.power == pytest.approx(TTestPower().power(effect, n, **options), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    p1=st.floats(0.05, 0.45),
    p2=st.floats(0.5, 0.95),
    n=st.integers(5, 500),
    ratio=ratios,
    side=sides,
)
def test_proportions_equal_statsmodels(
    p1: float, p2: float, n: int, ratio: float, side: Any
) -> None:
    found = co.power_proportions(p1, p2, n=n, ratio=ratio, alternative=side)
    # statsmodels' ratio is that of its first group to its second, and diff is prop1 - prop2
    expected = power_proportions_2indep(
        p2 - p1, p1, n, ratio=ratio, alternative=SIDE[side], return_results=False
    )
    if ratio == 1:
        assert found.power == pytest.approx(float(expected), abs=1e-7)
    arcsine = co.power_proportions(p1, p2, n=n, ratio=ratio, alternative=side, method="arcsine")
    h = proportion_effectsize(p2, p1)
    expected = NormalIndPower().power(h, n, 0.05, ratio=ratio, alternative=SIDE[side])
    assert arcsine.power == pytest.approx(expected, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(power=st.floats(0.3, 0.99), effect=effects, ratio=ratios, side=sides)
def test_what_is_found_gives_back_what_was_asked(
    power: float, effect: float, ratio: float, side: Any
) -> None:
    common: dict[str, Any] = {"ratio": ratio, "alternative": side}
    means = co.power_means(difference=effect, power=power, **common)
    if means.n1 is not None and means.n1 > 4:
        back = co.power_means(n=means.n1, power=power, **common)
        assert back.effects["difference"] == pytest.approx(effect, rel=1e-6)
    p2 = 0.2 + effect / 4
    for method in ("normal", "arcsine"):
        shares = co.power_proportions(0.2, p2, power=power, method=method, **common)
        assert shares.n1 is not None
        back = co.power_proportions(0.2, n=shares.n1, power=power, method=method, **common)
        assert back.effects["p2"] == pytest.approx(p2, rel=1e-6)
        deaths = co.power_logrank(1 + effect, power=power, **common)
        back = co.power_logrank(1 + effect, events=deaths.events, **common)
        assert back.power == pytest.approx(power, rel=1e-9)


@pytest.mark.parametrize("ratio", [1.0, 0.5, 3.0])
def test_freedman_equals_lifelines(ratio: float) -> None:
    # Its groups are the other way around: the experimental one comes first.
    given_: dict[str, Any] = {"event_rates": (0.4890, 0.3707), "ratio": ratio, "method": "freedman"}
    found = co.power_logrank(0.7, power=0.8, **given_)
    assert found.persons[::-1] == sample_size_necessary_under_cph(
        0.8, ratio, 0.3707, 0.4890, 0.7, 0.05
    )
    back = co.power_logrank(0.7, n=100, **given_)
    expected = power_under_cph(100 * ratio, 100, 0.3707, 0.4890, 0.7, 0.05)
    assert back.power == pytest.approx(expected, abs=1e-6)


def test_schoenfeld_equals_a_textbook() -> None:
    # Collett 2015, Modelling Survival Data in Medical Research, ch. 15: hepatitis, 133 deaths
    found = co.power_logrank(0.57, power=0.90)
    assert found.events == pytest.approx(133, abs=0.1)
    assert found.persons == ()
    z = 1.959964 + 1.281552
    assert found.events == pytest.approx(4 * (z / math.log(0.57)) ** 2, rel=1e-5)


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("accrual", [0.0, 2.0])
def test_events_follow_from_accrual_follow_up_and_loss(accrual: float, loss: float) -> None:
    found = co.power_logrank(
        0.6, power=0.8, median=3, accrual=accrual, follow_up=2, loss=loss, ratio=2
    )
    for group, hazard in ((1, math.log(2) / 3), (2, 0.6 * math.log(2) / 3)):

        def seen(entry: float, hazard: float = hazard) -> float:
            until = 2 + accrual - entry
            return float(quad(lambda t: hazard * math.exp(-(hazard + loss) * t), 0, until)[0])

        expected = quad(seen, 0, accrual)[0] / accrual if accrual else seen(0.0)
        assert found.effects[f"events in group {group}"] == pytest.approx(expected, rel=1e-9)
    one, two = (found.effects[f"events in group {group}"] for group in (1, 2))
    assert found.n1 is not None
    assert found.n2 == pytest.approx(2 * found.n1)
    assert found.events == pytest.approx(found.n1 * (one + 2 * two))


@pytest.mark.parametrize(
    ("function", "asked"),
    [
        ("power_means", {"difference": 1}),
        ("power_means", {"difference": 1, "n": 20, "power": 0.9}),
        ("power_means", {"difference": 0, "n": 20}),
        ("power_means", {"difference": 1, "power": 1.0}),
        ("power_means", {"difference": 1, "power": 0.04}),
        ("power_means", {"difference": 1, "n": 1}),
        ("power_means", {"difference": 1, "n": 20, "sd": -1}),
        ("power_means", {"difference": 1, "n": 20, "kind": "three"}),
        ("power_means", {"difference": 1, "n": 20, "kind": "paired", "ratio": 2}),
        ("power_means", {"difference": 1, "n": 20, "alternative": "less"}),
        ("power_means", {"difference": 1e-9, "power": 0.9}),
        ("power_proportions", {"p1": 0.5, "p2": 0.5, "n": 20}),
        ("power_proportions", {"p1": 0.5, "p2": 1.5, "n": 20}),
        ("power_proportions", {"p1": 0.9, "n": 30, "power": 0.8}),
        ("power_proportions", {"p1": 0.5, "p2": 0.6, "n": 20, "method": "exact"}),
        ("power_logrank", {"hazard_ratio": 1, "power": 0.8}),
        ("power_logrank", {"hazard_ratio": 0.5}),
        ("power_logrank", {"hazard_ratio": 0.5, "n": 20}),
        ("power_logrank", {"hazard_ratio": 0.5, "power": 0.8, "method": "other"}),
        ("power_logrank", {"hazard_ratio": 0.5, "power": 0.8, "median": 3}),
        ("power_logrank", {"hazard_ratio": 0.5, "power": 0.8, "follow_up": 3}),
        ("power_logrank", {"hazard_ratio": 0.5, "power": 0.8, "median": 3, "accrual": -1}),
        ("power_logrank", {"hazard_ratio": 0.5, "power": 0.8, "event_rates": (0.5,)}),
        (
            "power_logrank",
            {"hazard_ratio": 0.5, "power": 0.8, "event_rates": (0.5, 0.4), "follow_up": 1},
        ),
        (
            "power_logrank",
            {"hazard_ratio": 0.5, "power": 0.8, "event_rates": (0.5, 0.4), "median": 1},
        ),
    ],
)
def test_what_cannot_be_is_refused(function: str, asked: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        getattr(co, function)(**asked)


def test_a_result_says_itself() -> None:
    found = co.power_means(difference=5, sd=10, power=0.8, kind="paired")
    assert found.persons == (34,)
    assert found.total == 34
    assert "34 pairs give a power of 80.0%" in found.interpret()
    assert "34 对时" in found.interpret("zh")
    assert "Enough: 34 pairs." in repr(found)
    assert found.to_frame().loc["Cohen's d", "value"] == 0.5
    deaths = co.power_logrank(0.57, power=0.9, median=3, accrual=2, follow_up=3)
    assert "134 events from 133 and 133 persons" in deaths.interpret()
    assert "134 例事件" in deaths.interpret("zh")
    assert "<pre" in deaths._repr_html_()
