"""What sites decide together is what anybody would decide who saw all persons."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.analysis.attrition_result import released_steps
from cohortium.analysis.screen import Release, Screen
from cohortium.disclosure.differencing import PersonSets, Split, compare, too_close

MIN_CELL = 5
Codes = npt.NDArray[np.int64]


Drawn = tuple[list[int], list[tuple[tuple[int, ...], Codes]]]


@st.composite
def releases(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Drawn:
    """Persons at sites; releases of them, the last one new, many of them nearly the same."""
    sizes = draw(st.lists(st.integers(1, 25), min_size=1, max_size=4))
    n = sum(sizes)
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    found: list[tuple[tuple[int, ...], Codes]] = []
    for _ in range(draw(st.integers(2, 4))):
        shape = draw(st.sampled_from([(), (2,), (2, 2), (3,)]))
        parts = int(np.prod(shape)) if shape else 0
        if found and draw(st.booleans()):
            shape, before = found[-1]
            codes = before.copy()
            parts = int(np.prod(shape)) if shape else 0
            for person in rng.integers(0, n, draw(st.integers(0, 3))):
                codes[person] = rng.integers(-1, parts + 1)
        else:
            codes = rng.integers(-1, parts + 1, n)
        found.append((shape, codes))
    return sizes, found


def _sets(shape: tuple[int, ...], codes: Codes) -> tuple[Split, PersonSets]:
    split = Split.into(shape) if shape else Split.whole()
    return split, PersonSets(codes.astype(np.int32), split.sets)


def _persons(sets: PersonSets) -> list[frozenset[int]]:
    """Each set as the persons in it, slowly."""
    return [
        frozenset(i for i, code in enumerate(sets.codes.tolist()) if code >= 0 and row[code])
        for row in sets.sets
    ]


def _said(new: Sequence[frozenset[int]], earlier: Sequence[frozenset[int]]) -> bool:
    """The rule of ADR 0022, in words."""
    whole, before = new[0], earlier[0]
    either = (len(whole - before), len(before - whole))
    if len(before) >= MIN_CELL and any(0 < d < MIN_CELL for d in either):
        return True
    for i, a in enumerate(new):
        for j, b in enumerate(earlier):
            apart = len(a - b) >= MIN_CELL or len(b - a) >= MIN_CELL
            if (i, j) == (0, 0) or a == b or apart or min(len(a), len(b)) < MIN_CELL:
                continue
            inside_earlier_table = b <= a and a in earlier
            inside_own_table = a <= b and b in new
            if not inside_earlier_table and not inside_own_table:
                return True
    return False


@settings(max_examples=80, deadline=None)
@given(releases())
def test_the_decision_is_that_on_the_pooled_persons(
    drawn: Drawn,
) -> None:
    sizes, found = drawn
    edges = np.cumsum([0, *sizes])
    split, new = _sets(*found[-1])
    totals, expected = [], False
    for shape, codes in found[:-1]:
        _, earlier = _sets(shape, codes)
        flat = sum(
            compare(
                PersonSets(new.codes[a:b], new.sets),
                PersonSets(earlier.codes[a:b], earlier.sets),
                clip=MIN_CELL,
            ).flat()
            for a, b in itertools.pairwise(edges)
        )
        totals.append(np.asarray(flat))
        expected |= _said(_persons(new), _persons(earlier))
        pooled = compare(new, earlier, clip=10**6)
        said = _said(_persons(new), _persons(earlier))
        assert too_close(pooled, min_cell=MIN_CELL, least=MIN_CELL) is said
    listed = [Release(f"{i}", len(_sets(*one)[1].sets)) for i, one in enumerate(found[:-1])]
    screen = Screen(MIN_CELL, tuple(listed))
    numbers = np.minimum(np.concatenate(totals), MIN_CELL)
    assert (screen.choose(numbers, split, MIN_CELL) is None) is expected


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_two_sets_that_are_shown_are_nearly_the_same(seed: int) -> None:
    """Cohorts and attritions in any order, many of them nearly the same."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(15, 60))
    pool = [rng.random(n) < rng.choice([0.5, 0.9, 0.97]) for _ in range(4)]
    told: list[tuple[Split, PersonSets]] = []
    shown: list[frozenset[int]] = []
    for _ in range(6):
        steps = [pool[i] for i in rng.choice(4, rng.integers(1, 4), replace=False)]
        if rng.random() < 0.5:
            inside = np.all(steps, axis=0)
            split = Split.whole()
            new = PersonSets(inside.astype(np.int8) - np.int8(1), split.sets)
            after = [frozenset(np.flatnonzero(inside).tolist())]
            kept = [0] if len(after[0]) >= MIN_CELL else []
        else:
            left = np.cumprod(np.array([np.ones(n), *steps]), axis=0).astype(bool)
            parts = len(steps) + 1
            sets = np.array([np.arange(parts + 1) >= j for j in range(parts)])
            split = Split(parts, sets, (tuple(range(parts)),), kept=len(steps))
            new = PersonSets((left.sum(axis=0) - 1).astype(np.int8), sets)
            after = [frozenset(np.flatnonzero(row).tolist()) for row in left]
            kept = released_steps([len(one) for one in after], MIN_CELL)
        listed = tuple(Release(f"{i}", len(one.sets), s.kept) for i, (s, one) in enumerate(told))
        flat = [compare(new, one, clip=MIN_CELL).flat() for _, one in told]
        if told and Screen(MIN_CELL, listed).choose(np.concatenate(flat), split, MIN_CELL) is None:
            continue
        told.append((split, new))
        for a in (after[j] for j in kept if after[j]):
            for b in shown:
                assert a == b or len(a - b) >= MIN_CELL or len(b - a) >= MIN_CELL
        shown += [after[j] for j in kept if after[j]]
