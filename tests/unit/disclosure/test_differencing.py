"""When the difference of two results tells of few persons."""

from __future__ import annotations

import numpy as np
import pytest

from cohortium.disclosure.differencing import (
    Comparison,
    PersonSets,
    Split,
    compare,
    refusal,
    too_close,
)

EVERYBODY = np.arange(100)


def _whole(*rows: int | range) -> PersonSets:
    inside = np.zeros(100, dtype=np.bool_)
    for one in rows:
        inside[one] = True
    return PersonSets(inside.astype(np.int8) - np.int8(1), Split.whole().sets)


def _by(codes: np.ndarray, levels: int) -> PersonSets:
    return PersonSets(codes.astype(np.int8), Split.into((levels,)).sets)


def _close(new: PersonSets, earlier: PersonSets, *, min_cell: int = 5, least: int = 5) -> bool:
    total = compare(new, earlier, clip=min_cell)
    return too_close(total, min_cell=min_cell, least=least)


def test_one_person_fewer_is_too_close_in_either_order() -> None:
    all_of_them, but_one = _whole(range(100)), _whole(range(99))
    assert _close(but_one, all_of_them)
    assert _close(all_of_them, but_one)


@pytest.mark.parametrize(("away", "close"), [(0, False), (1, True), (4, True), (5, False)])
def test_the_difference_must_be_empty_or_of_the_minimum(away: int, close: bool) -> None:
    assert _close(_whole(range(100 - away)), _whole(range(100))) is close


def test_a_few_on_one_side_are_too_few_whatever_is_on_the_other() -> None:
    assert _close(_whole(range(53)), _whole(range(3, 100)))


def test_what_was_too_small_to_be_released_is_not_compared_with() -> None:
    assert not _close(_whole(range(50)), _whole(range(50, 53)))


def test_a_group_that_is_nearly_an_earlier_cohort_is_too_close() -> None:
    group = np.where(EVERYBODY < 49, 0, 1)
    assert _close(_by(group, 2), _whole(range(50)))


def test_groups_that_differ_by_one_are_too_close_though_all_have_the_same_persons() -> None:
    assert _close(_by(np.where(EVERYBODY < 49, 0, 1), 2), _by(np.where(EVERYBODY < 50, 0, 1), 2))


def test_a_table_of_known_persons_may_have_a_small_cell_that_it_withholds_itself() -> None:
    rare = _by(np.where(EVERYBODY < 2, 1, 0), 2)
    assert not _close(rare, _whole(range(100)))
    assert not _close(_whole(range(100)), rare)


def test_a_table_may_stand_beside_its_margin_but_a_cell_may_not() -> None:
    sex, rare = EVERYBODY % 2, (EVERYBODY < 8).astype(int)
    table = PersonSets((2 * rare + sex).astype(np.int8), Split.into((2, 2)).sets)
    by_sex = _by(sex, 2)
    assert not _close(table, by_sex)
    assert not _close(by_sex, table)
    # Those without the rare trait, by sex: what the table withheld to protect its small cells.
    without = _by(np.where(rare == 1, -1, sex), 2)
    assert _close(without, table)
    assert _close(table, without)


def test_persons_in_no_group_are_in_the_cohort() -> None:
    codes = np.where(EVERYBODY < 50, 0, 1)
    codes[:3] = 2
    sets = _by(codes, 2)
    total = compare(sets, _whole(range(100)), clip=50)
    assert total.new.tolist() == [50, 47, 50]
    assert not _close(_whole(range(100)), sets)


def test_no_number_is_above_the_clip_and_small_ones_are_exact() -> None:
    total = compare(_whole(range(97)), _whole(range(100)), clip=5)
    assert total.only_earlier.tolist() == [[3]]
    assert total.flat().max() == 5


def test_a_site_with_few_persons_in_a_set_has_nobody_in_it() -> None:
    total = compare(_whole(range(3)), _whole(range(100)), clip=9, own_floor=5)
    assert total.new.tolist() == [0]
    assert total.only_new.tolist() == [[0]]
    assert total.only_earlier.tolist() == [[9]]


def test_a_site_without_the_earlier_set_counts_nobody_in_it() -> None:
    total = compare(_whole(range(60)), PersonSets.nobody(100, 3), clip=9)
    assert total.only_new.tolist() == [[9, 9, 9]]
    assert not total.earlier.any()


def test_a_comparison_survives_the_way_through_the_sum() -> None:
    codes = np.arange(100) % 4
    total = compare(_by(codes, 3), _by(codes % 2, 2), clip=30)
    again = Comparison.of_flat(total.flat(), 4, 3)
    assert len(total.flat()) == Comparison.size(4, 3)
    for name in ("only_new", "only_earlier", "new", "earlier"):
        assert np.array_equal(getattr(again, name), getattr(total, name))
    assert np.array_equal(total.among((0, 2)).only_new, total.only_new[[0, 2]])


def test_a_table_has_its_cells_and_the_margins_of_both_sides() -> None:
    split = Split.into((2, 3))
    assert split.sets.shape == (1 + 6 + 2 + 3, 7)
    assert split.sets[0].all()
    assert split.sets[7].tolist() == [True, True, True, False, False, False, False]
    assert split.sets[9].tolist() == [True, False, False, True, False, False, False]


def test_what_a_computation_withholds_near_the_set_it_keeps_is_not_compared_with() -> None:
    # After each of two criteria: the second removes two persons, so the first number is withheld.
    steps = PersonSets(
        np.where(EVERYBODY < 30, 0, np.where(EVERYBODY < 32, 1, 2)).astype(np.int8),
        np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1]], dtype=np.bool_),
    )
    last = _whole(range(32, 100))
    for new, earlier, kept in (
        (last, steps, {"kept_earlier": 2}),
        (steps, last, {"kept": 2}),
    ):
        total = compare(new, earlier, clip=5)
        assert too_close(total, min_cell=5, least=5)
        assert not too_close(total, min_cell=5, least=5, **kept)
    nearly = compare(_whole(range(30, 100)), steps, clip=5)  # who would be told of is the first
    assert too_close(nearly, min_cell=5, least=5, kept_earlier=2)


def test_the_refusal_says_what_to_do_and_nothing_about_anybody() -> None:
    error = refusal(7, ("stats.describe with noise, of which 3 sums are left",))
    assert error.code == "differencing"
    assert "rounded to base 7, or for" in error.message
    assert "3 sums are left" in error.message
    assert not error.details
