"""Sums by step of the shared time, and how they travel: as whole numbers of a small unit.

What a site sends of a step are sums of w, w x_i and w x_i x_j over those who leave in it, or who
have the event in it. In 8 bytes each, not the 32 of an exact real: with columns divided by their
spread all of them are at most the sum of w or of w x_i^2 over everybody (Cauchy and Schwarz). So a
bound on those, `Progress.size`, which the hub knows of the step before, gives a unit that holds
them: 2^-62 of the bound for all sites together. A site that is beyond it says so and is asked once
more; the hub asks for exact reals where the unit is too coarse for the estimate's digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_BLOCKS = 64
_BITS = 62


@dataclass(frozen=True)
class Units:
    """Of the components of a step's sums; q columns of which the first is 1.

    Attributes:
        size: What no site's sums of w or w x^2 exceed, columns in units of their spread; 0: sums
            are sent as reals.
        of_columns: (q,); a power of 2 near each column's spread.
        fraction_bits: Of the whole numbers.
    """

    size: float
    of_columns: Floats
    fraction_bits: int

    @staticmethod
    def of(size: float, spread: Floats, n_sites: int) -> Units:
        """From what hub and sites both know."""
        near = np.where(spread > 0, spread, 1.0)
        columns = np.exp2(np.clip(np.rint(np.log2(near)), -500, 500))
        bits = 0
        if size > 0:
            bits = _BITS - math.frexp(size)[1] - math.frexp(n_sites)[1]
        return Units(size, np.append(1.0, columns), bits)

    @property
    def whole(self) -> bool:
        """Whether sums are whole numbers."""
        return self.size > 0

    @property
    def unit(self) -> float:
        """Of the whole numbers, columns in units of their spread."""
        return math.ldexp(1.0, -self.fraction_bits)

    def first(self) -> Floats:
        """(q,); by which sums of w and w x are divided."""
        return np.ldexp(self.of_columns, -self.fraction_bits)

    def second(self) -> Floats:
        """Packed; by which sums of w x x' of the columns but the first are divided."""
        columns = self.of_columns[1:]
        pairs = np.outer(columns, columns)[np.triu_indices(len(columns))]
        return np.ldexp(pairs, -self.fraction_bits)

    def sizes(self, wx: Floats, x: Floats) -> Floats:
        """(q,); a site's sums of w and w x^2, columns in units of their spread."""
        return np.asarray(np.einsum("ij,ij->j", wx, x) / self.of_columns**2)


def encoded(sums: Floats, units: Floats) -> Ints:
    """As whole numbers, to nearest."""
    return np.rint(sums / units).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Sorted:
    """A site's persons in the order of their steps, those with the event after the others.

    Attributes:
        x: (n, q); the first column is 1.
        key: (n,); twice the step, and 1 more with the event.
        steps: In all.
        order: (n,); where each was.
    """

    x: Floats
    key: Ints
    steps: int
    order: Ints

    @staticmethod
    def of(x: Floats, last: Ints, event: npt.NDArray[np.bool_], steps: int) -> Sorted:
        """Persons in no step (-1) are left out."""
        key = np.where(last < 0, 2 * steps, 2 * last + event)
        small = key.astype(np.uint16) if 2 * steps < 2**16 else key  # sorted by digits: fast
        order = np.argsort(small, kind="stable")[: np.count_nonzero(last >= 0)]
        ones = np.empty((len(order), 1 + x.shape[1]))
        ones[:, 0] = 1.0
        for j in range(x.shape[1]):
            ones[:, 1 + j] = x[order, j]
        return Sorted(ones, key[order], steps, order)

    @cached_property
    def plain(self) -> Floats:
        """`first` of weights of 1."""
        return self.first(self.x)

    def first(self, wx: Floats) -> Floats:
        """Sums of w and w x by key; shape (2, steps, q): without the event, with it."""
        out = np.zeros((2 * self.steps, wx.shape[1]))
        begin = np.flatnonzero(np.diff(self.key, prepend=-1))
        if len(begin):
            out[self.key[begin]] = np.add.reduceat(wx, begin, axis=0)
        return np.moveaxis(out.reshape(self.steps, 2, wx.shape[1]), 1, 0)

    def second(self, wx: Floats) -> Floats:
        """Sums of w x x' by key, packed; shape (2, steps, p (p + 1) / 2)."""
        p = wx.shape[1] - 1
        out = np.zeros((2 * self.steps, p, p))
        begin = np.flatnonzero(np.diff(self.key, prepend=-1))
        end = np.append(begin[1:], len(self.key))
        x, left = self.x[:, 1:], wx[:, 1:]
        for at, a, b in zip(self.key[begin].tolist(), begin.tolist(), end.tolist(), strict=True):
            np.matmul(left[a:b].T, x[a:b], out=out[at])
        rows, columns = np.triu_indices(p)
        return np.moveaxis(out[:, rows, columns].reshape(self.steps, 2, len(rows)), 1, 0)

    def coarse(self, wx: Floats, block: Ints, rows: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Sums of w x x' over blocks of steps, packed; shape (blocks, p (p + 1) / 2).

        Args:
            block: (steps,); ascending.
            rows: (n,); who counts; None: everybody.
        """
        p = wx.shape[1] - 1
        upper = np.triu_indices(p)
        many = int(block[-1]) + 1
        out = np.zeros((many, len(upper[0])))
        edges = np.searchsorted(block[self.key // 2], np.arange(many + 1))
        for at in range(many):
            here = slice(edges[at], edges[at + 1])
            left, right = wx[here, 1:], self.x[here, 1:]
            if rows is not None:
                left, right = left[rows[here]], right[rows[here]]
            out[at] = (left.T @ right)[upper]
        return out


def n_blocks(edges: Ints) -> int:
    """Of `blocks_of`."""
    block = blocks_of(edges)
    return int(block[-1]) + 1 if len(block) else 0


def blocks_of(edges: Ints, most: int | None = None) -> Ints:
    """Neighbouring steps of a stratum taken together, in about `most` blocks; shape (steps,)."""
    steps = int(edges[-1])
    size = max(1, -(-steps // (MAX_BLOCKS if most is None else most)))
    block = np.empty(steps, dtype=np.int64)
    begin = 0
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        block[a:b] = begin + np.arange(b - a) // size
        begin += -(-(b - a) // size)
    return block
