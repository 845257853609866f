"""Attrition over sites equals that of the pooled persons, and shows nothing about a few of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.analysis.attrition import Attrition, AttritionParams, Step
from cohortium.analysis.interface import Done, Scope
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import PolicyRefusal

MIN_CELL = 5
VARIABLES = {name: Variable(name=name, type=VariableType.INTEGER) for name in ("a", "b")}
SCOPE = Scope(VARIABLES, Disclosure(min_cell=MIN_CELL, floor="total"), 3, ("P", "Q", "R"))

steps = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(["include", "exclude"]),
        criterion=st.builds(
            "{} {} {}".format,
            st.sampled_from(["a", "b"]),
            st.sampled_from(["<", ">=", "="]),
            st.integers(0, 6),
        ),
    ),
    min_size=1,
    max_size=8,
)


def _tables(seed: int) -> list[Table]:
    rng = np.random.default_rng(seed)
    tables = []
    for _ in range(3):
        n = int(rng.integers(3, 60))
        columns = {name: rng.integers(0, 6, n).astype(np.float64) for name in VARIABLES}
        columns["a"][rng.random(n) < 0.1] = np.nan
        tables.append(Table(VARIABLES, columns))
    return tables


def _kept(table: Table, step: Step) -> np.ndarray[Any, Any]:
    name, sign, number = step.criterion.split()
    column, bound = table.columns[name], float(number)
    with np.errstate(invalid="ignore"):
        met = {"<": column < bound, ">=": column >= bound, "=": column == bound}[sign]
    return np.asarray(met if step.kind == "include" else ~met)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), steps)
def test_it_equals_the_pooled_counts_or_is_withheld(seed: int, chosen: list[Step]) -> None:
    tables, analysis = _tables(seed), Attrition()
    params = AttritionParams(steps=tuple(chosen))
    state = analysis.start(params, SCOPE)
    sent = [analysis.local(t, state, params, replace(SCOPE, site=i)) for i, t in enumerate(tables)]
    total = {name: np.sum([one[name] for one in sent], axis=0) for name in sent[0]}
    try:
        outcome = analysis.finish(total, state, params, SCOPE)
    except PolicyRefusal:
        assert sum(table.n_rows for table in tables) < MIN_CELL
        return
    assert isinstance(outcome, Done)
    kept = [np.concatenate([_kept(table, step) for table in tables]) for step in chosen]
    pooled = [int(np.all(kept[:j], axis=0).sum()) for j in range(1, len(kept) + 1)]
    shown = [outcome.result["start"]]
    for step, n in zip(outcome.result["steps"], pooled, strict=True):
        assert step["n"] in {None, n}
        if step["n"] is not None:
            shown.append(step["n"])
    apart = {a - b for i, a in enumerate(shown) for b in [*shown[i:], 0]}
    assert not apart & set(range(1, MIN_CELL))
    parts = outcome.result["combinations"]
    if parts is not None:
        assert all(n == 0 or n >= MIN_CELL for n in parts)
        for code, n in enumerate(parts):
            met = [kept[i] == bool(code >> i & 1) for i in range(len(kept))]
            assert n == int(np.all(met, axis=0).sum())
