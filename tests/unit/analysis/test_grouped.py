"""Who is in a group, what a site may say of it, and which groups are spoken of."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.frames import table_of

from cohortium.analysis.grouped import Counted, Groups, decide, parts
from cohortium.analysis.interface import Scope
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.disclosure.suppression import Release
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

AGE = Variable(name="age", type=VariableType.INTEGER)
ILL = Variable(name="ill", type=VariableType.BOOLEAN)
SEX = Variable(name="sex", type=VariableType.CATEGORY, levels=("f", "m", "x"))
VARIABLES = {v.name: v for v in (AGE, ILL, SEX)}
SITE = Scope(VARIABLES, Disclosure(min_cell=3, floor="site"), 2)
TOTAL = Scope(VARIABLES, Disclosure(min_cell=3, floor="total"), 2)
COHORT = Scope(VARIABLES, Disclosure(min_cell=3, min_cohort=28), 2)

TABLE = table_of(
    [AGE, ILL, SEX],
    {
        "age": [1, None, 3, 4, 5, 6, 7],
        "ill": [0, 1, 1, None, 0, 1, 0],
        "sex": ["f", "m", "f", "x", None, "m", "f"],
    },
)


def rows(groups: Groups, complete: tuple[str, ...] = ()) -> list[list[int]]:
    return [np.arange(TABLE.n_rows)[one].tolist() for one in groups.rows(TABLE, complete)]


def test_groups_are_levels_crossed_levels_or_everybody() -> None:
    assert rows(Groups.of(SITE)) == [[0, 1, 2, 3, 4, 5, 6]]
    assert rows(Groups.of(SITE, None)) == rows(Groups.of(SITE))
    assert rows(Groups.of(SITE, "sex")) == [[0, 2, 6], [1, 5], [3]]
    assert rows(Groups.of(SITE, "ill")) == [[0, 4, 6], [1, 2, 5]]
    crossed = Groups.of(SITE, "sex", "ill")
    assert rows(crossed) == [[0, 6], [2], [], [1, 5], [], []]
    assert crossed.names[:2] == ("f, false", "f, true")
    assert crossed.where(3) == "sex = m, ill = true"
    assert Groups.of(SITE).names == (None,)
    assert Groups.of(SITE).where(0) == "everybody"


def test_only_persons_with_every_value_are_in_a_group() -> None:
    assert rows(Groups.of(SITE, "sex"), ("age",)) == [[0, 2, 6], [5], [3]]
    assert rows(Groups.of(SITE), ("age", "ill")) == [[0, 2, 4, 5, 6]]


def test_a_code_that_is_no_level_is_in_no_group() -> None:
    odd = Table({"sex": SEX}, {"sex": np.array([0, 3, -1, 99], dtype=np.int32)})
    assert Groups.of(SITE, "sex").codes(odd).tolist() == [0, -1, -1, -1]


def test_what_cannot_group_is_an_input_error() -> None:
    with pytest.raises(InputError) as caught:
        Groups.of(SITE, "age")
    assert caught.value.code == "bad-input"
    with pytest.raises(InputError) as caught:
        Groups.of(SITE, "nothing")
    assert caught.value.code == "not-found"


def contribution(scope: Scope, groups: Groups, status: list[int]) -> Total:
    out = {
        name: np.zeros(spec.shape, dtype=np.int64) for name, spec in Counted.layout(groups).items()
    }
    given = list(parts(TABLE, groups, np.array(status), scope, out=out, complete=("age",)))
    assert all(len(TABLE.columns["age"][found]) for group, found in given if status[group] == 0)
    return out


def test_a_site_below_its_floor_says_nothing_of_a_group() -> None:
    groups = Groups.of(SITE, "sex")
    out = contribution(SITE, groups, [0, 0, 0])
    assert (out["persons"].tolist(), out["sites"].tolist()) == ([3, 0, 0], [1, 0, 0])
    assert out["left_out"].tolist() == [2]
    out = contribution(TOTAL, groups, [0, 0, 0])
    assert (out["persons"].tolist(), out["sites"].tolist()) == ([3, 1, 1], [1, 1, 1])


def test_a_closed_group_is_passed_over() -> None:
    out = contribution(TOTAL, Groups.of(TOTAL, "sex"), [Release.ONE_SITE, 0, Release.SECONDARY])
    assert out["persons"].tolist() == [0, 1, 0]


def test_totals_decide_which_groups_are_open() -> None:
    def status(persons: list[int], sites: list[int], scope: Scope) -> list[int]:
        return [int(one) for one in decide(np.array(persons), np.array(sites), scope)]

    assert status([9, 9, 0], [2, 2, 0], TOTAL) == [0, 0, 0]
    assert status([9, 9, 0], [2, 2, 0], SITE) == [0, 0, Release.TOO_FEW]
    assert status([9, 9, 2], [2, 2, 1], TOTAL) == [Release.SECONDARY, 0, Release.TOO_FEW]
    assert status([9, 9, 4], [2, 1, 2], TOTAL) == [0, Release.ONE_SITE, 0]


def counted(persons: list[int], sites: list[int], scope: Scope) -> Counted:
    total = {
        "persons": np.array(persons),
        "sites": np.array(sites),
        "left_out": np.array([7]),
    }
    return Counted.release(total, scope)


def test_groups_are_compared_when_each_is_open() -> None:
    groups = Groups.of(TOTAL, "sex")
    known = counted([9, 9, 0], [2, 2, 0], SITE)
    assert known.together(groups, SITE) == (0, 1)
    assert known.unheard(groups) == ["sex = x: nobody, or too few persons at each institution"]
    assert counted([9, 9, 0], [2, 2, 0], TOTAL).together(groups, TOTAL) == (0, 1)


@pytest.mark.parametrize(
    ("persons", "sites", "scope", "code"),
    [
        ([9, 9, 2], [2, 2, 2], TOTAL, "too-few-persons"),
        ([9, 0, 0], [2, 0, 0], TOTAL, "too-few-persons"),
        ([9, 0, 0], [2, 0, 0], SITE, "too-few-persons"),
        ([9, 9, 9], [2, 1, 2], TOTAL, "too-few-sites"),
        ([9, 9, 9], [2, 2, 2], COHORT, "too-few-persons"),
    ],
)
def test_closed_groups_are_not_compared(
    persons: list[int], sites: list[int], scope: Scope, code: str
) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        counted(persons, sites, scope).together(Groups.of(scope, "sex"), scope)
    assert caught.value.code == code


def test_a_small_group_stops_a_comparison_of_many() -> None:
    groups = Groups.of(TOTAL, "sex", "ill")
    persons, sites = [9, 8, 9, 9, 2, 0], [2, 2, 2, 2, 2, 0]
    with pytest.raises(PolicyRefusal):
        counted(persons, sites, TOTAL).together(groups, TOTAL)


def test_two_groups_are_compared_where_neither_tells_of_a_third() -> None:
    groups = Groups.of(TOTAL, "sex")
    assert counted([9, 9, 0], [2, 2, 0], TOTAL).together(groups, TOTAL, among=(1, 0)) == (1, 0)
    assert counted([9, 9, 9], [2, 2, 1], TOTAL).together(groups, TOTAL, among=(0, 1)) == (0, 1)
    for persons in ([9, 12, 2], [9, 9, 0]):
        with pytest.raises(PolicyRefusal):
            counted(persons, [2, 2, 2], TOTAL).together(groups, TOTAL, among=(0, 2))
    with pytest.raises(PolicyRefusal):
        # That two persons are x would follow from f, m and everybody.
        counted([9, 12, 2], [2, 2, 2], TOTAL).together(groups, TOTAL, among=(0, 1))


def test_closed_groups_do_not_travel() -> None:
    known = counted([9, 9, 2], [2, 2, 2], TOTAL)
    assert (known.persons.tolist(), known.sites.tolist(), known.n) == ([0, 9, 0], [0, 2, 0], 9)
    groups = Groups.of(TOTAL, "sex")
    state = State(arrays=known.to_arrays())
    again = Counted.from_state(state, groups)
    assert again.status.tolist() == known.status.tolist()
    assert again.left_out.tolist() == [7]
    with pytest.raises(ProtocolError):
        Counted.from_state(state, Groups.of(TOTAL, "ill"))
