"""Normal equations in any units, and columns that follow from others."""

from __future__ import annotations

import numpy as np
import pytest

from cohortium.analysis.least_squares import aliased, inverse, pack, solve, unpack


def gram(columns: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    x = np.random.default_rng(seed).normal(size=(50, columns))
    return np.asarray(x.T @ x)


def test_packing_keeps_the_matrix() -> None:
    matrix = gram(5)
    assert pack(matrix).shape == (15,)
    assert np.array_equal(unpack(pack(matrix), 5), np.triu(matrix) + np.triu(matrix, 1).T)


def test_units_do_not_matter() -> None:
    matrix, units = gram(4), np.array([1.0, 1e9, 1e-12, 1e3])
    scaled = matrix * np.outer(units, units)
    gradient = np.arange(1.0, 5.0)
    assert solve(scaled, gradient * units) * units == pytest.approx(solve(matrix, gradient))
    assert inverse(scaled) * np.outer(units, units) == pytest.approx(np.linalg.inv(matrix))


def test_a_matrix_without_information_is_an_error() -> None:
    for bad in (np.zeros((2, 2)), np.ones((2, 2)), np.diag([1.0, np.nan])):
        with pytest.raises(np.linalg.LinAlgError):
            solve(bad, np.ones(2))


def test_the_later_column_is_the_one_that_follows() -> None:
    x = np.random.default_rng(1).normal(size=(60, 3))
    x = np.column_stack([x, x[:, 0] - 2 * x[:, 1], 1e-9 * x[:, 2], np.zeros(60)])
    assert aliased(x.T @ x, np.zeros(6)) == [3, 4, 5]


def test_a_constant_is_told_from_rounding() -> None:
    noise = 1e-16 * np.random.default_rng(1).normal(size=60)
    x = np.column_stack([np.ones(60), noise])
    assert aliased(x.T @ x, np.array([0.0, 60.0])) == [1]
    assert aliased(x.T @ x, np.zeros(2)) == []
