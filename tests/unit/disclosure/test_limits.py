"""Every limit, and what satisfies two parties."""

from __future__ import annotations

from itertools import product

import pytest

from cohortium.disclosure.limits import Disclosure, Dominance, rounded

LOOSE = Disclosure(min_cell=5, floor="total", by_site=True)
STRICT = Disclosure(
    min_cell=10,
    floor="site",
    min_cohort=30,
    dominance=Dominance(largest=2, percent=60.0),
    persons_per_parameter=20,
    residual_df=15,
    min_at_risk=12,
    quantile_tail=11,
    max_levels=20,
    rounding=5,
)


def test_the_stricter_of_loose_and_strict_is_the_strict_one() -> None:
    assert LOOSE.stricter(STRICT) == STRICT.stricter(LOOSE) == STRICT
    assert STRICT.stricter(STRICT) == STRICT
    assert LOOSE.stricter(LOOSE) == LOOSE


def test_each_party_has_its_say() -> None:
    mine, yours = Disclosure(min_cohort=40, max_levels=30), Disclosure(rounding=3, max_levels=10)
    both = mine.stricter(yours)
    assert (both.min_cohort, both.rounding, both.max_levels) == (40, 3, 10)
    rules = (Dominance(largest=1, percent=50.0), Dominance(largest=3, percent=90.0))
    found = Disclosure(dominance=rules[0]).stricter(Disclosure(dominance=rules[1])).dominance
    assert found == Dominance(largest=3, percent=50.0)


@pytest.mark.parametrize(("mine", "yours"), [*product((True, False, None), repeat=2)])
def test_numbers_of_single_sites_need_a_yes_of_both(mine: bool | None, yours: bool | None) -> None:
    found = Disclosure(by_site=mine).stricter(Disclosure(by_site=yours)).by_site
    assert bool(found) == (mine is True and yours is True)


def test_an_absent_limit_is_the_default_and_never_below_the_cell() -> None:
    plain = Disclosure(min_cell=7)
    assert (plain.cohort, plain.tail, plain.at_risk) == (7, 7, 7)
    assert (plain.per_parameter, plain.df) == (10, 10)
    low = Disclosure(min_cell=7, min_cohort=2, quantile_tail=3, min_at_risk=1)
    assert (low.cohort, low.tail, low.at_risk) == (7, 7, 7)
    assert Disclosure.from_json(STRICT.to_json()) == STRICT
    assert "min_cohort" not in plain.to_json()


@pytest.mark.parametrize(
    ("count", "base", "expected"),
    [(7, None, 7), (7, 5, 5), (8, 5, 10), (2, 5, 0), (3, 5, 5), (5, 10, 10), (4, 10, 0), (0, 5, 0)],
)
def test_counts_round_to_the_nearest_multiple(count: int, base: int | None, expected: int) -> None:
    assert rounded(count, base) == Disclosure(rounding=base).shown(count) == expected
