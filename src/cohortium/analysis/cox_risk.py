"""Sums over risk sets: the partial likelihood, its score and information, residuals.

A block is an event time of a stratum (or some of them that are taken together): axis K, stratum by
stratum, ascending. Person i is at risk in the blocks ``first[i]`` to ``last[i]`` of the stratum and
has the event in the last of them or is censored after it. With weights ``w = exp(x' beta)``, sums
S of w, of w x over those at risk in a block and D over its d events, ties add for l = 0 to d - 1

    Efron    phi_l = S0 - (l / d) D0
    Breslow  phi_l = S0

and ``loglik = sum of x' beta over events - sum of log phi_l``. What is needed of second order,
sums of ``w x x'``, is a sum over persons with a weight each; no block's is ever made.

Reference: Therneau & Grambsch 2000, Modeling Survival Data, ch. 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_BLOCK = 2048
"""Rows that stay in the processor's cache, and that no BLAS splits over threads."""


@dataclass(frozen=True)
class Blocks:
    """Who is at risk where.

    Attributes:
        last: (n,); -1 for persons who are in no risk set.
        first: (n,); None where everybody is at risk from the beginning of the stratum.
        edges: (strata + 1,); the blocks of stratum s are ``edges[s]`` to ``edges[s + 1]``.
        event: (n,).
    """

    last: Ints
    first: Ints | None
    edges: Ints
    event: Bools

    def __len__(self) -> int:
        return int(self.edges[-1])

    @staticmethod
    def of_times(
        time: Floats, event: Bools, stratum: Ints, n_strata: int, entry: Floats | None = None
    ) -> Blocks:
        """A block for each time of an event in a stratum; risk sets hold ``entry < t <= time``."""
        last = np.full(len(time), -1, dtype=np.int64)
        first = None if entry is None else np.zeros(len(time), dtype=np.int64)
        edges = np.zeros(n_strata + 1, dtype=np.int64)
        for s, rows in enumerate(rows_by_stratum(stratum, n_strata)):
            events = np.unique(time[rows][event[rows]])
            begin = edges[s]
            edges[s + 1] = begin + len(events)
            place = np.searchsorted(events, time[rows], side="right") - 1
            last[rows] = np.where(place < 0, -1, begin + place)
            if first is not None and entry is not None:
                first[rows] = begin + np.searchsorted(events, entry[rows], side="right")
        if first is not None:
            last[first > last] = -1
        return Blocks(last, first, edges, event)

    def sums(self, values: Floats, rows: Bools | None = None) -> Floats:
        """Of persons by their last block; (n,) gives (K,), (n, p) gives (K, p)."""
        return self._by(self.last, values, self.last >= 0 if rows is None else rows)

    def at_risk(self, values: Floats) -> Floats:
        """Sums over the risk sets."""
        leaving = self.sums(values)
        if self.first is None:
            return self.from_leaving(leaving)
        # Who enters after the block is not yet there.
        entering = self._by(self.first, values, self.last >= 0)
        entering[self.edges[:-1][self.edges[:-1] < len(self)]] = 0.0
        later = np.zeros_like(leaving)
        later[:-1] = entering[1:]
        return self.from_leaving(leaving - later)

    def from_leaving(self, leaving: Floats) -> Floats:
        """Risk sets' sums from those of the persons who leave after each block."""
        out = np.empty_like(leaving)
        for a, b in itertools.pairwise(self.edges):
            out[a:b] = np.cumsum(leaving[a:b][::-1], axis=0)[::-1]
        return out

    def until(self, values: Floats) -> Floats:
        """For each person the sum over the blocks at risk; (K,) gives (n,), (K, p) gives (n, p)."""
        running = np.zeros((len(self) + 1, *values.shape[1:]))
        for a, b in itertools.pairwise(self.edges):
            running[a + 1 : b + 1] = np.cumsum(values[a:b], axis=0)
        out = np.where(_like(self.last >= 0, values), running[self.last + 1], 0.0)
        if self.first is not None:
            begins = np.isin(self.first, self.edges[:-1])
            late = (self.last >= 0) & ~begins
            out[late] -= running[self.first[late]]
        return out

    def _by(self, block: Ints, values: Floats, rows: Bools) -> Floats:
        at = block[rows]
        if values.ndim == 1:
            return _weighted(at, values[rows], len(self))
        out = np.empty((len(self), values.shape[1]))
        for j in range(values.shape[1]):
            out[:, j] = _weighted(at, values[rows, j], len(self))
        return out


@dataclass(frozen=True)
class RiskSums:
    """Of each block: S0, S1, D0, D1 and the number of events.

    Attributes:
        s0, s1: (K,) and (K, p); over the risk set.
        d0, d1: Over the events; used for Efron's ties only.
        events: (K,).
    """

    s0: Floats
    s1: Floats
    d0: Floats
    d1: Floats
    events: Ints

    @staticmethod
    def of(blocks: Blocks, x: Floats, w: Floats) -> RiskSums:
        """From one site's persons."""
        wx = x * w[:, None]
        dead = blocks.event & (blocks.last >= 0)
        events = np.bincount(blocks.last[dead], minlength=len(blocks)).astype(np.int64)
        return RiskSums(
            blocks.at_risk(w),
            blocks.at_risk(wx),
            blocks.sums(w, dead),
            blocks.sums(wx, dead),
            events,
        )


@dataclass(frozen=True)
class Ties:
    """Sums over l of each block; (K,).

    Attributes:
        log_phi: Of ``log phi_l``.
        a, c: Of ``1 / phi_l`` and ``(l / d) / phi_l``.
        q: (3, K); of ``(l / d)^m / phi_l^2`` for m = 0, 1, 2.
    """

    log_phi: Floats
    a: Floats
    c: Floats
    q: Floats

    @staticmethod
    def of(sums: RiskSums, ties: str) -> Ties:
        """The sums; Breslow's have one phi."""
        d = sums.events
        if ties == "breslow":
            count = d.astype(np.float64)
            none = np.zeros_like(count)
            a = count / sums.s0
            return Ties(count * np.log(sums.s0), a, none, np.stack([a / sums.s0, none, none]))
        block = np.repeat(np.arange(len(d)), d)
        begin = np.cumsum(d) - d
        share = (np.arange(len(block)) - begin[block]) / d[block]
        phi = sums.s0[block] - share * sums.d0[block]
        inverse = 1.0 / phi

        def total(values: Floats) -> Floats:
            return _weighted(block, values, len(d))

        square = inverse * inverse
        return Ties(
            total(np.log(phi)),
            total(inverse),
            total(share * inverse),
            np.stack([total(square), total(share * square), total(share * share * square)]),
        )

    def means(self, sums: RiskSums) -> Floats:
        """D times the mean of x that is expected of the block's events; (K, p)."""
        return np.asarray(self.a[:, None] * sums.s1 - self.c[:, None] * sums.d1)

    def products(self, sums: RiskSums, weight: Floats) -> Floats:
        """What is subtracted from the sums of ``w x x'``: shape (p, p); weight (K,)."""
        q = self.q * weight
        left = q[0][:, None] * sums.s1 - q[1][:, None] * sums.d1
        right = q[2][:, None] * sums.d1 - q[1][:, None] * sums.s1
        return np.asarray(gram(left, sums.s1) + gram(right, sums.d1))


def second_order(blocks: Blocks, x: Floats, w: Floats, a: Floats, c: Floats) -> Floats:
    """The sum over blocks of ``a S2 - c D2``, over one site's persons; shape (p, p)."""
    weight = blocks.until(a)
    dead = blocks.event & (blocks.last >= 0)
    weight[dead] -= c[blocks.last[dead]]
    return gram(x * (w * weight)[:, None], x)


@dataclass(frozen=True)
class Expected:
    """What a person's residual needs of each block.

    Attributes:
        a, c: (K,); as in `Ties`.
        drift: (K, p); the mean of x times the hazard.
        late: (K, p); what of the drift does not hold for the block's own events.
        mean: (K, p); of x, expected of an event.
    """

    a: Floats
    c: Floats
    drift: Floats
    late: Floats
    mean: Floats

    @staticmethod
    def of(sums: RiskSums, ties: Ties) -> Expected:
        """From the sums over risk sets."""
        q = ties.q[:, :, None]
        return Expected(
            ties.a,
            ties.c,
            q[0] * sums.s1 - q[1] * sums.d1,
            q[1] * sums.s1 - q[2] * sums.d1,
            ties.means(sums) / sums.events[:, None],
        )


def residuals(blocks: Blocks, x: Floats, w: Floats, expected: Expected) -> Floats:
    """Each person's part of the score (score residual); shape (n, p).

    Reference: Lin & Wei 1989; Therneau & Grambsch 2000, ch. 4.6, and 3.3 for Efron's ties.
    """
    out = blocks.until(expected.drift) - x * blocks.until(expected.a)[:, None]
    dead = blocks.event & (blocks.last >= 0)
    at = blocks.last[dead]
    out[dead] += x[dead] * expected.c[at][:, None] - expected.late[at]
    out *= w[:, None]
    out[dead] += x[dead] - expected.mean[at]
    return out


def gram(left: Floats, right: Floats) -> Floats:
    """``left' right`` over the rows, in an order that does not depend on the machine."""
    out = np.zeros((left.shape[1], right.shape[1]))
    for begin in range(0, len(left), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        out += left[rows].T @ right[rows]
    return out


def rows_by_stratum(stratum: Ints, n_strata: int) -> Sequence[Ints]:
    """Indexes of each stratum's persons, in order."""
    if n_strata == 1:
        return [np.arange(len(stratum))]
    order = np.argsort(stratum, kind="stable")
    edges = np.searchsorted(stratum[order], np.arange(n_strata + 1))
    return [order[a:b] for a, b in itertools.pairwise(edges)]


def _weighted(at: Ints, values: Floats, length: int) -> Floats:
    return np.asarray(np.bincount(at, weights=values, minlength=length), dtype=np.float64)


def _like(rows: Bools, values: Floats) -> Bools:
    return rows if values.ndim == 1 else rows[:, None]
