"""What a site adds to the sums of `missing.mice`: its persons with what is imputed for them.

Nothing is kept that could not be found again: what a site imputes follows from what the hub drew in
each step, and from numbers that look drawn, of a key that only the site's own data give. A person's
noise is therefore the same in each round and after a crash, and nobody who does not have the data
can work it out: with noise that a researcher knows, runs with many seeds would give many different
weighted sums over the same few persons, from which their values follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.least_squares import pack
from cohortium.analysis.mice_model import (
    Bools,
    Method,
    Plan,
    Scales,
    encode,
    level_shares,
    present,
)
from cohortium.analysis.mice_state import Progress
from cohortium.analysis.philox import Key, key_of, normals, uniforms
from cohortium.core.rounds import Array
from cohortium.core.table import Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Persons = Callable[[Table, Plan, str], tuple[Key, Ints]]
"""The key of a site's noise, and a number for each of its persons, from the site's name."""

_BLOCK: Final = 2048
_START: Final = 0
"""The place of what is imputed before the first iteration, which is 1."""


def own_key(table: Table, plan: Plan, site: str) -> tuple[Key, Ints]:
    """From the seed, the site's name and its data."""
    parts = [f"cohortium missing.mice {plan.params.seed}".encode(), site.encode()]
    parts += [np.ascontiguousarray(table.columns[name]).tobytes() for name in plan.names]
    return key_of(*parts), np.arange(table.n_rows, dtype=np.int64)


def eligible(table: Table, there: Bools, at: Progress) -> Bools:
    """Who has a value of all that is not imputed, shape (n_rows,)."""
    must = [v for v in range(len(there)) if v not in at.imputed]
    return np.asarray(np.all(there[must], axis=0)) if must else np.ones(table.n_rows, np.bool_)


@dataclass
class Chains:
    """A site's persons, and what is imputed for them so far.

    Attributes:
        table: Those who have all that is not imputed.
        numbers: Of each person, for the noise.
        at: Of each variable that is imputed, the rows without a value.
        some: (n,); who lacks any of them.
        whole: The columns of those who lack none.
        partial: Of those who lack some; what is missing is filled in on the way.
        place: Of each variable, where the persons of `at` are in `partial`.
        gram: Squares and products of all columns of `whole`.
        filled: Of each variable, the imputed values or codes, shape (m, n).
        done: Steps that are in `filled`.
    """

    table: Table
    plan: Plan
    scales: Scales
    key: Key
    numbers: Ints
    at: dict[int, Ints]
    some: Bools
    whole: Floats
    partial: Floats
    place: dict[int, Ints]
    gram: Floats
    filled: dict[int, Floats] = field(default_factory=dict)
    done: int = 0

    @staticmethod
    def of(table: Table, known: Progress, plan: Plan, persons: Persons, site: str) -> Chains:
        """Before the first step: values drawn from how the observed ones are distributed."""
        there = present(table, plan)
        rows = eligible(table, there, known)
        key, numbers = persons(table, plan, site)
        inside = table if rows.all() else table.take(rows)
        there, numbers = there[:, rows], numbers[rows]
        at = {v: np.flatnonzero(~there[v]) for v in known.imputed}
        some = ~np.all(there[list(known.imputed)], axis=0)
        base = np.ones((inside.n_rows, plan.width), order="F")
        for v, name in enumerate(plan.names):
            encode(base[:, plan.columns[v]], inside.columns[name], v, plan, known.scales)
        before = np.cumsum(some) - 1
        whole = np.ascontiguousarray(base[~some])
        gram = sum((x.T @ x for x in _blocks(whole)), start=np.zeros((plan.width, plan.width)))
        chains = Chains(
            table=inside,
            plan=plan,
            scales=known.scales,
            key=key,
            numbers=numbers,
            at=at,
            some=some,
            whole=whole,
            partial=np.ascontiguousarray(base[some]),
            place={v: before[rows] for v, rows in at.items()},
            gram=gram,
        )
        for v, method in zip(known.imputed, known.methods, strict=True):
            chains.filled[v] = np.stack(
                [chains._first(v, chain, method) for chain in range(plan.params.m)]
            )
        return chains

    def _first(self, v: int, chain: int, method: Method) -> Floats:
        who, place = self.numbers[self.at[v]], (_START, v, chain)
        if method == "norm":
            noise = normals(self.key, who, place)
            return np.asarray(self.scales.centre[v] + self.scales.spread[v] * noise)
        shares = level_shares(self.plan, self.scales, v)
        return _level(np.cumsum(shares)[:-1, None], uniforms(self.key, who, place))

    def advance(self, known: Progress) -> None:
        """Impute what the steps that are not in `filled` drew."""
        for step in range(self.done, known.done):
            iteration, place = divmod(step, len(known.imputed))
            v, drawn = known.imputed[place], known.draw_of(self.plan, step)
            linear = known.methods[place] == "norm"
            self.filled[v] = np.stack(
                [
                    self._impute(v, drawn[chain], (iteration + 1, v, chain), linear=linear)
                    for chain in range(self.plan.params.m)
                ]
            )
        self.done = known.done

    def _impute(
        self, v: int, drawn: Floats, place: tuple[int, int, int], *, linear: bool
    ) -> Floats:
        x = self.completed_rows(place[2])[self.place[v]][:, self.plan.predictors(v)]
        who = self.numbers[self.at[v]]
        if linear:
            z = x @ drawn[:-1] + drawn[-1] * normals(self.key, who, place)
            return np.asarray(self.scales.centre[v] + self.scales.spread[v] * z)
        shares = shares_of(drawn.reshape(-1, x.shape[1]) @ x.T)
        return _level(np.cumsum(shares, axis=0)[:-1], uniforms(self.key, who, place))

    def completed_rows(self, chain: int) -> Floats:
        """`partial` with what is imputed."""
        out = self.partial.copy()
        for u, place in self.place.items():
            part = np.empty((len(place), self.plan.sizes[u]))
            encode(part, self.filled[u][chain], u, self.plan, self.scales)
            out[place, self.plan.columns[u]] = part
        return out

    def observed(self, v: int) -> Bools:
        """Who of `partial` has the variable."""
        there = np.ones(len(self.partial), dtype=np.bool_)
        there[self.place[v]] = False
        return there

    def completed(self, chain: int) -> Table:
        """The persons' table with one imputation."""
        columns = dict(self.table.columns)
        for v, rows in self.at.items():
            name = self.plan.names[v]
            column = columns[name].copy()
            column[rows] = self.filled[v][chain]
            columns[name] = column
        return Table(self.table.variables, columns)

    @property
    def n_bytes(self) -> int:
        """Roughly what it takes of memory."""
        own = (self.whole, self.partial, *self.table.columns.values(), *self.filled.values())
        return sum(one.nbytes for one in own)


def _blocks(x: Floats) -> Iterator[Floats]:
    """Parts that stay in the processor's cache."""
    for begin in range(0, len(x), _BLOCK):
        yield x[begin : begin + _BLOCK]


def shares_of(eta: Floats) -> Floats:
    """Probabilities of the levels from the linear predictors of all but the first; (L, n)."""
    every = np.concatenate([np.zeros((1, eta.shape[1])), eta])
    every -= every.max(axis=0)
    np.exp(every, out=every)
    return np.asarray(every / every.sum(axis=0))


def _level(limits: Floats, uniform: Floats) -> Floats:
    """The level into which each number falls; (n,)."""
    return np.asarray((uniform > limits).sum(axis=0), dtype=np.float64)


def add_products(out: Array, chains: Chains, v: int) -> None:
    """Squares and products of the predictors and the standardised outcome, for each imputation."""
    plan = chains.plan
    columns = np.append(plan.predictors(v), plan.columns[v].start)
    at = np.ix_(columns, columns)
    observed = chains.observed(v)
    for chain in range(plan.params.m):
        rows = chains.completed_rows(chain)[observed]
        total = sum((x.T @ x for x in _blocks(rows)), start=chains.gram.copy())
        out[chain] += pack(total[at])


def add_scores(information: Array, gradient: Array, chains: Chains, v: int, beta: Floats) -> None:
    """Information and score of a logistic model at `beta`, shape (m, q), for each imputation.

    Of a category of L levels the model has L - 1 blocks of coefficients, the first level being the
    reference.
    """
    predictors, observed = chains.plan.predictors(v), chains.observed(v)
    codes = np.asarray(chains.table.columns[chains.plan.names[v]], dtype=np.float64)
    y = np.concatenate([codes[~chains.some], codes[chains.some][observed]])
    for chain in range(chains.plan.params.m):
        begin = 0
        for part in (chains.whole, chains.completed_rows(chain)[observed]):
            for rows in _blocks(part):
                here = slice(begin, begin := begin + len(rows))
                square, slope = _score(rows[:, predictors], y[here], beta[chain])
                information[chain] += pack(square)
                gradient[chain] += slope


def _score(x: Floats, y: Floats, beta: Floats) -> tuple[Floats, Floats]:
    p, q = x.shape[1], len(beta)
    shares = shares_of(beta.reshape(-1, p) @ x.T)[1:]
    square = np.zeros((q, q))
    for i, share in enumerate(shares):
        for j in range(i, len(shares)):
            w = share * ((i == j) - shares[j])
            square[i * p : (i + 1) * p, j * p : (j + 1) * p] = (x * w[:, None]).T @ x
    away = (y[None, :] == np.arange(1, len(shares) + 1)[:, None]) - shares
    return square, (away @ x).ravel()


def add_trace(out: Array, chains: Chains, v: int) -> None:
    """Sum and sum of squares of what was imputed, standardised; of a category, of its codes."""
    z = (chains.filled[v] - chains.scales.centre[v]) / chains.scales.spread[v]
    out[:, 0] += z.sum(axis=1)
    out[:, 1] += np.square(z).sum(axis=1)
