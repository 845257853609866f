"""Normal equations: packing, solving, and finding columns that follow from others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_PIVOT = 1e-11
"""Smallest share of a column's sum of squares that the columns before it may leave unexplained."""


def pack(matrix: Floats) -> Floats:
    """The upper triangle of a symmetric matrix by rows; shape (p (p + 1) / 2,)."""
    return np.asarray(matrix[np.triu_indices(len(matrix))])


def unpack(packed: Floats, p: int) -> Floats:
    """The inverse of `pack`; shape (p, p)."""
    matrix = np.zeros((p, p))
    matrix[np.triu_indices(p)] = packed
    return matrix + np.triu(matrix, 1).T


def solve(information: Floats, gradient: Floats) -> Floats:
    """``information^-1 gradient`` by Cholesky on unit diagonal, so that units do not matter.

    Raises:
        numpy.linalg.LinAlgError: Where `information` is not positive definite.
    """
    unit = _unit(information)
    root = np.linalg.cholesky(information * np.outer(unit, unit))
    half = np.linalg.solve(root, gradient * unit)
    return np.asarray(np.linalg.solve(root.T, half) * unit)


def inverse(information: Floats) -> Floats:
    """``information^-1``, symmetric; see `solve`."""
    unit = _unit(information)
    root = np.linalg.cholesky(information * np.outer(unit, unit))
    half = np.linalg.solve(root, np.eye(len(unit)))
    return np.asarray((half.T @ half) * np.outer(unit, unit))


def aliased(information: Floats, magnitude: Floats) -> list[int]:
    """Which columns follow from those before them.

    Args:
        information: Shape (p, p); of centred columns.
        magnitude: Shape (p,); sum of squares that centring took away from each column, to tell a
            constant column from rounding.
    """
    p = len(information)
    diagonal = np.diag(information)
    constant = diagonal <= 1e-20 * magnitude
    unit = 1.0 / np.sqrt(np.where(constant | (diagonal <= 0), 1.0, diagonal))
    scaled = information * np.outer(unit, unit)
    root = np.zeros((p, p))
    found = []
    for j in range(p):
        pivot = scaled[j, j] - root[j, :j] @ root[j, :j]
        if constant[j] or diagonal[j] <= 0 or pivot <= _PIVOT:
            found.append(j)
            continue
        root[j, j] = np.sqrt(pivot)
        root[j + 1 :, j] = (scaled[j + 1 :, j] - root[j + 1 :, :j] @ root[j, :j]) / root[j, j]
    return found


def _unit(information: Floats) -> Floats:
    diagonal = np.diag(information)
    if not np.all(diagonal > 0):
        raise np.linalg.LinAlgError("a column carries no information")
    return np.asarray(1.0 / np.sqrt(diagonal))
