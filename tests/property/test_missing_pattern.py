"""Missing values over sites are those of everybody's rows, and small cells do not follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.federation import run_pooled_sum
from tests.support.frames import split, table_of

from cohortium.analysis.interface import Scope
from cohortium.analysis.missing_pattern import Pattern, PatternParams, pooled_patterns
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError

NAMES = ("a", "b", "c")
VARIABLES = {name: Variable(name=name, type=VariableType.REAL) for name in NAMES} | {
    "g": Variable(name="g", type=VariableType.CATEGORY, levels=("u", "v"))
}


def people(seed: int, n: int, shares: tuple[float, ...] = (0.3, 0.2, 0.1)) -> Table:
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for name, share in zip(NAMES, shares, strict=True):
        values = random.normal(size=n)
        values[random.uniform(size=n) < share] = np.nan
        columns[name] = values
    return Table(VARIABLES, columns | {"g": random.integers(-1, 2, n).astype(np.int32)})


def run(tables: list[Table], limits: Disclosure | None = None, **params: Any) -> dict[str, Any]:
    asked = {"variables": list(NAMES), **params}
    return dict(run_pooled_sum(Pattern(), asked, tables, limits or Disclosure()).result)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), floor=st.sampled_from(["site", "total"]))
def test_the_counts_are_everybodys(seed: int, floor: Any) -> None:
    table = people(seed, 200)
    limits = Disclosure(min_cell=1, floor=floor)
    # Those whom one site alone has are not told of: two sites with the same persons.
    result = run([table, table], limits, by="g")
    lacks = {name: ~table.present(name) for name in NAMES}
    for one in result["variables"]:
        assert one["n_missing"] == 2 * lacks[one["variable"]].sum()
        assert one["share"] == one["n_missing"] / 400
    for one in result["patterns"]:
        rows = np.all([lacks[name] == (name in one["missing"]) for name in NAMES], axis=0)
        assert one["n"] == 2 * rows.sum()
    assert sum(one["n"] for one in result["patterns"]) == 400
    assert result["other"] == 0
    complete = ~np.any(list(lacks.values()), axis=0)
    assert result["n_complete"] == 2 * complete.sum() == result["patterns"][0]["n"]
    for one in result["groups"]:
        rows = table.columns["g"] == ("u", "v").index(one["level"])
        assert one["n"] == 2 * rows.sum()
        assert one["n_missing"] == 2 * (rows & lacks[one["variable"]]).sum()
    parts = split(table, [80, 120])
    assert run(parts) == run(parts[::-1])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(30, 300))
def test_no_small_number_follows_from_the_patterns(seed: int, n: int) -> None:
    shares = tuple(np.random.default_rng(seed).uniform(0, 0.3, 3).tolist())
    table = people(seed, n, shares)
    result = run(split(table, [n // 2, n - n // 2]))
    margins = {o["variable"]: o["n_missing"] for o in result["variables"]}
    told = result["together"]
    assert all(margins[name] is not None for name in told)
    for one in [*result["patterns"], {"n": result["other"] or 5}]:
        assert one["n"] >= 5
    for name in told:
        shown = sum(one["n"] for one in result["patterns"] if name in one["missing"])
        hidden = margins[name] - shown
        assert hidden == 0 or hidden >= 5
        rest = result["other"] - hidden
        assert rest == 0 or rest >= 5


def test_what_is_pooled_has_more_than_one_answer() -> None:
    """Every table of the same totals is gone through: none of the small cells is the only one."""
    for counts in ([50, 3, 9, 2], [40, 6, 2, 12], [9, 1, 1, 9], [30, 4, 0, 30], [20, 5, 5, 1]):
        cells = np.array(counts, dtype=np.int64)
        pooled = pooled_patterns(cells, np.zeros(4, dtype=np.bool_), 2, 5)
        hidden = np.flatnonzero(pooled)
        total = cells[pooled].sum()
        lacks = [cells[[at for at in hidden if at >> v & 1]].sum() for v in range(2)]
        found = []
        for both in range(int(total) + 1):
            guess = (total - lacks[0] - lacks[1] + both, lacks[0] - both, lacks[1] - both, both)
            if min(guess) >= 0:
                found.append(guess)
        for at in hidden:
            if 0 < cells[at] < 5:
                assert len({guess[at] for guess in found}) >= 5


def test_a_variable_that_few_lack_is_in_no_pattern() -> None:
    table = people(1, 300)
    table.columns["c"][np.isnan(table.columns["c"])] = 0.0
    table.columns["c"][[0, 200]] = np.nan
    result = run(split(table, [150, 150]), by="g")
    assert result["variables"][2]["n_missing"] is None
    assert result["together"] == ["a", "b"]
    assert result["suppressed"] == ["c: fewer persons than the minimum cell size"]
    assert all(o["n_missing"] is None for o in result["groups"] if o["variable"] == "c")


def test_nhanes_is_as_r_shows_it() -> None:
    """R's mice, data nhanes (Schafer 1997, table 6.14), and what ``md.pattern(nhanes)`` prints."""
    no = None
    bmi = [no, 22.7, no, no, 20.4, no, 22.5, 30.1, 22.0, no, no, no, 21.7, 28.7, 29.6, no, 27.2]
    bmi += [26.3, 35.3, 25.5, no, 33.2, 27.5, 24.9, 27.4]
    hyp = [no, 1, 1, no, 1, no, 1, 1, 1, no, no, no, 1, 2, 1, no, 2, 2, 1, 2, no, 1, 1, 1, 1]
    chl = [no, 187, 187, no, 113, 184, 118, 187, 238, no, no, no, 206, 204, no, no, 284, 199, 218]
    chl += [no, no, 229, 131, no, 186]
    age = [1, 2, 1, 3, 1, 3, 1, 1, 2, 2, 1, 2, 3, 2, 1, 1, 3, 2, 1, 3, 1, 1, 1, 3, 2]
    names = ("age", "hyp", "bmi", "chl")
    variables = [Variable(name=name, type=VariableType.REAL) for name in names]
    table = table_of(variables, {"age": age, "hyp": hyp, "bmi": bmi, "chl": chl})
    params = PatternParams(variables=names)
    scope = Scope(table.variables, Disclosure(min_cell=1), 2)
    total = {
        name: np.asarray(array) + (0 if name in {"persons", "missing", "patterns"} else array)
        for name, array in Pattern()
        .local(table, Pattern().start(params, scope), params, scope)
        .items()
    }
    result = Pattern().finish(total, Pattern().start(params, scope), params, scope).result
    assert [(o["variable"], o["n_missing"]) for o in result["variables"]] == [
        ("age", 0),
        ("hyp", 8),
        ("bmi", 9),
        ("chl", 10),
    ]
    assert {tuple(o["missing"]): o["n"] for o in result["patterns"]} == {
        (): 13,
        ("chl",): 3,
        ("bmi",): 1,
        ("hyp", "bmi"): 1,
        ("hyp", "bmi", "chl"): 7,
    }
    assert result["n_complete"] == 13


def test_bad_requests_and_few_persons_are_refused() -> None:
    def code(tables: list[Table], **params: Any) -> str:
        with pytest.raises(CohortiumError) as caught:
            run(tables, **params)
        return caught.value.code

    parts = split(people(1, 60), [30, 30])
    assert code(parts, variables=["a", "a"]) == "bad-input"
    assert code(parts, variables=["a", "nobody"]) == "not-found"
    assert code(parts, by="a") == "bad-input"
    assert code(split(people(1, 4), [2, 2])) == "too-few-persons"
    assert code(split(people(1, 60), [58, 2])) == "too-few-sites"
    many = {f"v{i}": Variable(name=f"v{i}", type=VariableType.REAL) for i in range(9)}
    wide = Table(many, {name: np.zeros(30) for name in many})
    assert code([wide, wide], variables=list(many)) == "bad-input"
    assert run([wide, wide], variables=list(many), patterns=False)["n"] == 60
