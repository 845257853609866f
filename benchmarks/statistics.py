"""Cohorts, tables and tests over real processes, beside pandas and scipy on the pooled rows.

    python -m benchmarks.statistics [--quick] [--rows 100000 1000000]

A hub and three nodes are started through the command line, with mutual TLS on the loopback
interface; each node has so many rows of 20 variables.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.common import print_header, print_table
from benchmarks.three_sites import COLUMNS, SITES, STUDY, compared, start
from scipy import stats

import cohortium as co

NUMBERS = tuple(f"x{number:02}" for number in range(12))
CATEGORIES = ("sex", "stage", "region", "drug")
BINARY = ("event", "smoker")
VARIABLES = ("age", "follow_up", *NUMBERS, *CATEGORIES, *BINARY)
INCLUDE = ("age >= 40", "x00 IS NOT NULL", "stage IN ('I', 'II', 'III')")
EXCLUDE = ("follow_up < 30", "region = 'north' AND smoker = 1")


def frames(n_rows: int) -> dict[str, pd.DataFrame]:
    """One frame a site; the same numbers at each call."""
    out = {}
    for number, site in enumerate(SITES):
        rng = np.random.default_rng(number)
        columns: dict[str, Any] = {
            "age": rng.integers(18, 95, n_rows),
            "follow_up": rng.integers(0, 3650, n_rows),
        }
        for at, name in enumerate(NUMBERS):
            columns[name] = np.round(rng.normal(10 + at + 0.1 * number, 3, n_rows), 2)
        columns["sex"] = rng.choice(["female", "male"], n_rows)
        columns["stage"] = rng.choice(["I", "II", "III", "IV"], n_rows)
        columns["region"] = rng.choice(["north", "south", "east", "west"], n_rows)
        columns["drug"] = rng.choice(["placebo", "low", "high"], n_rows)
        columns["event"] = (rng.random(n_rows) < 0.3).astype(int)
        columns["smoker"] = (rng.random(n_rows) < 0.2).astype(int)
        frame = pd.DataFrame(columns)
        frame.loc[rng.random(n_rows) < 0.05, "x00"] = np.nan
        out[site] = frame
    return out


def kept(pooled: pd.DataFrame, include: tuple[str, ...]) -> list[int]:
    """The attrition by pandas: persons after each criterion."""
    masks = {
        "age >= 40": lambda f: f["age"] >= 40,
        "x00 IS NOT NULL": lambda f: f["x00"].notna(),
        "stage IN ('I', 'II', 'III')": lambda f: f["stage"].isin(["I", "II", "III"]),
    }
    rows = pd.Series(data=True, index=pooled.index)
    counts = [int(rows.sum())]
    for criterion in include:
        if criterion in masks:
            rows &= masks[criterion](pooled)
        else:
            rows &= pooled["age"] >= int(criterion.rpartition(" ")[2])
        counts.append(int(rows.sum()))
    for leave in (
        pooled["follow_up"] < 30,
        (pooled["region"] == "north") & (pooled["smoker"] == 1),
    ):
        rows &= ~leave
        counts.append(int(rows.sum()))
    return counts


def described(pooled: pd.DataFrame) -> object:
    """What `describe` gives, by pandas and scipy."""
    numbers = pooled[["age", "follow_up", *NUMBERS, *BINARY]]
    return (
        numbers.describe(),
        numbers.skew(),
        numbers.kurt(),
        [pooled[name].value_counts() for name in CATEGORIES],
    )


def table_one(pooled: pd.DataFrame) -> object:
    """The numbers of a Table 1, by pandas and scipy."""
    groups = [group for _, group in pooled.groupby("drug")]
    grouped = pooled.groupby("drug")[["age", "follow_up", *NUMBERS, *BINARY]]
    means = (grouped.mean(), grouped.std(), grouped.count())
    tests = [
        stats.f_oneway(*(group[name].dropna() for group in groups))
        for name in ("age", "follow_up", *NUMBERS)
    ]
    tables = [pd.crosstab(pooled[name], pooled["drug"]) for name in (*CATEGORIES[:3], *BINARY)]
    return means, tests, [stats.chi2_contingency(table) for table in tables]


def mann_whitney(pooled: pd.DataFrame) -> object:
    """By scipy."""
    one = pooled.loc[pooled["sex"] == "female", "x03"]
    two = pooled.loc[pooled["sex"] == "male", "x03"]
    return stats.mannwhitneyu(one, two)


def changed(study: co.Study) -> Iterator[object]:
    """Attritions, each time with another threshold of the first criterion."""
    for age in itertools.cycle(range(20, 90)):
        include = (f"age >= {age}", *INCLUDE[1:])
        yield study.cohort(include=list(include), exclude=list(EXCLUDE)).attrition()


def compare(study: co.Study, pooled: pd.DataFrame, repeats: int) -> list[list[object]]:
    """A row for each analysis."""
    rows: list[list[object]] = []
    drugs_table = [name for name in VARIABLES if name != "drug"]

    def row(what: str, ours: Callable[[], Any], plain: Callable[[], object]) -> None:
        rows.append(compared(what, ours, plain, (repeats, max(3, repeats // 3))))

    cohort = study.cohort(include=list(INCLUDE), exclude=list(EXCLUDE))
    again = cohort.attrition()
    if [int(n) for n in again.to_frame()["n"]] != kept(pooled, INCLUDE):
        raise RuntimeError("the attrition is not that of the pooled rows")
    criteria = changed(study)
    row(
        "attrition of five criteria, one of them new each time",
        lambda: next(criteria),
        lambda: kept(pooled, INCLUDE),
    )
    row("describe, 20 variables", lambda: study.describe(VARIABLES), lambda: described(pooled))
    row(
        "table one, 19 variables by drug",
        lambda: study.table_one(drugs_table, by="drug"),
        lambda: table_one(pooled),
    )
    row(
        "chi-square, sex by stage",
        lambda: study.crosstab("sex", "stage"),
        lambda: stats.chi2_contingency(pd.crosstab(pooled["sex"], pooled["stage"])),
    )
    row(
        "Mann-Whitney, one variable by sex",
        lambda: study.mann_whitney("x03", by="sex"),
        lambda: mann_whitney(pooled),
    )
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, the smaller data")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    asked = parser.parse_args()
    print_header("Statistics over three sites: hub and 3 nodes, mutual TLS 1.3 on loopback")
    for n_rows in asked.rows[:1] if asked.quick else asked.rows:
        tables = frames(n_rows)
        with (
            tempfile.TemporaryDirectory() as folder,
            start(Path(folder), tables, "stats.*") as consortium,
        ):
            os.environ["COHORTIUM_PROFILE"] = str(consortium.profile)
            pooled = pd.concat(tables.values(), ignore_index=True)
            with co.connect() as federation:
                rows = compare(federation.study(STUDY), pooled, 5 if asked.quick else 11)
        print(f"Three sites of {n_rows:,} rows, 20 variables\n")
        print_table(COLUMNS, rows)


if __name__ == "__main__":
    main()
