"""A researcher, or a hub, that asks for many penalised models to learn of one person."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.analysis.folds import folds_of
from cohortium.inprocess.federation import LocalFederation


@pytest.fixture(scope="module")
def made() -> Iterator[LocalFederation]:
    frames = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        age = rng.integers(20, 90, 120)
        frames[site] = pd.DataFrame(
            {
                "age": np.where(age > 80, 97, age),
                "chol": rng.normal(200, 30, 120).round(1),
                "wounds": np.zeros(120, dtype=int),
            }
        )
    frames["North"].loc[7, ["age", "wounds"]] = [99, 1]
    with co.local(frames) as one:
        yield one


@pytest.mark.parametrize(
    "formula",
    ["chol ~ wounds + age", "wounds ~ chol", "chol ~ age:wounds", "chol ~ old + older + age"],
)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_columns_that_mark_one_person_are_refused_under_any_penalty(
    made: LocalFederation, formula: str, alpha: float
) -> None:
    study = made.study()
    study.derive("old = age > 80")
    study.derive("older = age > 80 AND age < 99")
    with pytest.raises(co.PolicyRefusal) as caught:
        study.elastic_net(formula, alpha=alpha, lambdas=[1e-6], folds=0)
    assert caught.value.code == "too-few-persons"


def test_the_folds_of_all_seeds_together_tell_of_no_fewer_persons_than_a_group() -> None:
    # What the hub sees of each fold is a sum of persons; with the folds of every seed and number
    # of folds it can add and subtract these sums as it likes.
    rows = np.ones(83, dtype=bool)
    sums = [
        folds_of(rows, folds, seed, 5, "North")[None, :] == np.arange(folds)[:, None]
        for folds in range(3, 21)
        for seed in range(100)
    ]
    known = np.concatenate(sums).astype(np.float64)
    _, values, basis = np.linalg.svd(known, full_matrices=False)
    basis = basis[values > 1e-8 * values[0]]
    assert len(basis) == 83 // 5  # as many sums as there are groups, however much is asked
    shown = basis.T @ basis  # the nearest to each person alone that any combination comes
    assert np.diag(shown).max() <= 1 / 5 + 1e-9
    assert (np.abs(shown) > 1e-9).sum(axis=1).min() >= 5
