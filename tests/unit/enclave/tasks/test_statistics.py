"""Statistics over the joined table beside pandas, and what of them is withheld."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.support.built_in import called, document, files, of, plain_join, two_tables

from cohortium.enclave.tasks.call import Refused
from cohortium.enclave.tasks.joined_statistics import correlation, crosstab, describe, withheld


def test_a_column_is_described_as_by_pandas() -> None:
    tables = two_tables()
    tables["left"].loc[tables["left"].index[:40], "age"] = np.nan
    expected = plain_join(tables)["left.age"]
    found = describe(of(tables).frame, "left.age", 10)
    assert (found["n"], found["missing"]) == (expected.count(), expected.isna().sum())
    asked = [found[name] for name in ("mean", "sd", "q25", "median", "q75")]
    quartiles = expected.quantile([0.25, 0.5, 0.75])
    assert asked == pytest.approx([expected.mean(), expected.std(), *quartiles], rel=1e-12)


def test_a_description_shows_no_few() -> None:
    frame = pd.DataFrame({"x": [*range(30), None, None], "one": [1] + [0] * 31})
    found = describe(frame, "x", 10)
    assert (found["n"], found["missing"]) == (None, None)
    assert (found["q25"], found["median"], found["q75"]) == (None, 14.5, None)
    assert describe(frame, "one", 10)["mean"] is None
    assert describe(frame, "one", 1)["mean"] == 1 / 32
    with pytest.raises(Refused, match="fewer than 31 values of x"):
        describe(frame, "x", 31)


def test_correlations_are_those_of_pandas() -> None:
    tables = two_tables()
    tables["right"].loc[tables["right"].index[:40], "visits"] = np.nan
    columns = ["left.age", "right.income", "right.visits"]
    expected = plain_join(tables)[columns].dropna().corr().to_numpy()
    np.testing.assert_allclose(
        correlation(of(tables).frame, columns, 10)["r"], expected, rtol=1e-10
    )


def test_a_correlation_with_one_person_is_refused() -> None:
    frame = pd.DataFrame({"x": range(30), "one": [1] + [0] * 29, "same": 1, "word": "a"})
    with pytest.raises(Refused, match="one has a value of fewer than 10 rows"):
        correlation(frame, ["x", "one"], 10)
    with pytest.raises(Refused, match="same has one value only"):
        correlation(frame, ["x", "same"], 10)
    with pytest.raises(Refused, match="word is not a column of numbers"):
        correlation(frame, ["x", "word"], 10)
    with pytest.raises(Refused, match="two columns or more"):
        correlation(frame, ["x"], 10)


def test_a_crosstab_is_that_of_pandas() -> None:
    tables = two_tables()
    plain = plain_join(tables)
    found = crosstab(of(tables).frame, ["left.region", "left.stroke"], 1)
    expected = pd.crosstab(plain["left.region"], plain["left.stroke"])
    assert found["rows"] == list(expected.index)
    assert found["across"] == ["0", "1"]
    assert found["cells"] == expected.to_numpy().tolist()


def test_small_cells_cannot_be_found_from_totals() -> None:
    cells = np.array([[3, 40, 50], [60, 70, 80], [90, 20, 30]])
    gone = withheld(cells, 10)
    assert gone.tolist() == [[True, True, False], [True, True, False], [False, False, False]]
    several = np.array([[2, 3, 50, 20], [60, 70, 80, 90], [15, 90, 20, 0]])
    gone = withheld(several, 10)
    for own, hidden in [*zip(several, gone, strict=True), *zip(several.T, gone.T, strict=True)]:
        assert not hidden.any() or hidden.all() or (hidden.sum() > 1 and own[hidden].sum() >= 10)
    assert not withheld(np.array([[0, 10], [10, 0]]), 10).any()


def test_a_crosstab_withholds_them(tmp_path: Path) -> None:
    left = pd.DataFrame(
        {"customer": [f"{n:03d}" for n in range(100)], "a": ["x"] * 52 + ["y"] * 48}
    )
    right = pd.DataFrame({"customer": left["customer"], "b": ["u"] * 50 + ["v"] * 50})
    given = files({"left": left, "right": right}, tmp_path)
    out = called("statistics", tmp_path, given, crosstab="left.a,right.b")
    found = document(out["statistics"] / "statistics.json")["crosstab"]
    assert (found["cells"], found["cells_withheld"]) == ([[None, None], [None, None]], 4)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "Name columns to describe, correlation or crosstab"),
        ({"describe": "left.weight"}, "no column 'left.weight'"),
        ({"describe": "left.age,left.age"}, "describe names a column twice"),
        ({"crosstab": "left.region"}, "A crosstab has two columns"),
        ({"crosstab": "left.age,left.region"}, "100 values at most"),
        ({"describe": "left.age", "min_cell": 301}, "fewer than 301 joined rows"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        called("statistics", tmp_path, files(two_tables(), tmp_path), **changed)
