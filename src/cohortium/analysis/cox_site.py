"""What a site computes for `survival.cox` in each phase."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cohortium.analysis.concordance import concordance
from cohortium.analysis.cox_grid import Grid
from cohortium.analysis.cox_model import Model
from cohortium.analysis.cox_risk import (
    Blocks,
    Expected,
    RiskSums,
    Ties,
    gram,
    residuals,
    second_order,
)
from cohortium.analysis.cox_state import Progress
from cohortium.analysis.formula import design, values_of
from cohortium.analysis.least_squares import pack
from cohortium.analysis.marks import marks_of
from cohortium.core.rounds import Array
from cohortium.core.table import Table
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_FURTHEST = 250.0
"""Below the greatest linear predictor of the site: beyond, a weight would be 0."""
_LARGEST = 40.0
"""Of a linear predictor over sites, which have no common greatest one; estimates are far below."""


@dataclass(frozen=True)
class Persons:
    """A site's complete persons.

    Attributes:
        table: Only they are in it.
        x: (n, p); covariates minus `Progress.centre`.
    """

    model: Model
    table: Table
    x: Floats

    @staticmethod
    def of(model: Model, table: Table, centre: Floats) -> Persons:
        """Read them.

        Raises:
            InputError: ``bad-input``.
        """
        x, _ = design(table, model.parsed)
        x -= centre
        persons = Persons(model, table, x)
        if persons.entry is not None and np.any(persons.entry >= persons.time):
            raise InputError(
                "bad-input",
                f"{model.params.entry} is not below {model.params.time} for some persons at a "
                "site.",
                variable=model.params.entry,
            )
        return persons

    @cached_property
    def time(self) -> Floats:
        """When they left."""
        return self.model.endpoint.times(self.table)

    @cached_property
    def event(self) -> Bools:
        """Who had the event."""
        return np.asarray(self.model.endpoint.codes(self.table) == 1)

    @cached_property
    def entry(self) -> Floats | None:
        """When they came."""
        entry = self.model.entry
        return None if entry is None else np.asarray(self.table.columns[entry.name])

    @cached_property
    def stratum(self) -> Ints:
        """The declared stratum."""
        if self.model.n_strata == 1:
            return np.zeros(self.table.n_rows, dtype=np.int64)
        return self.model.strata.codes(self.table).astype(np.int64)

    @cached_property
    def own_blocks(self) -> Blocks:
        """The site's own event times."""
        return Blocks.of_times(self.time, self.event, self.stratum, self.model.n_strata, self.entry)

    def marked(self) -> Ints:
        """Of how many persons two columns of `marks_of` are 1, packed; the event is the last."""
        parsed = self.model.parsed
        marks = tuple(m.column for m in marks_of(parsed) if m.number != len(parsed.columns))
        ones = design(self.table, replace(parsed, columns=marks))[0] == 1
        counts = np.column_stack([ones, self.event]).astype(np.float64)
        return pack(gram(counts, counts)).astype(np.int64)

    def transformed(self) -> Floats:
        """Time as the test of proportionality takes it; at least at events it is finite.

        Raises:
            InputError: ``bad-input`` for an event at time 0 whose logarithm is asked for.
        """
        if self.model.params.time_transform != "log":
            return self.time
        if np.any(self.time[self.event] <= 0):
            raise InputError("bad-input", "An event at time 0 has no logarithm.")
        return np.log(np.where(self.time > 0, self.time, 1.0))


def count(out: dict[str, Array], persons: Persons, left_out: int) -> None:
    """Persons and events."""
    n, events = len(persons.x), int(persons.event.sum())
    out["persons"][:] = (n, left_out, 1, events, 1 if events else 0)


def moments(out: dict[str, Array], persons: Persons) -> None:
    """Sums of the columns, and persons and events at each level."""
    model = persons.model
    out["columns"] += persons.x.sum(axis=0)
    out["squares"] += np.square(persons.x).sum(axis=0)
    if "marks" in out:
        out["marks"] += persons.marked()
    if "times" in out:
        when = persons.transformed()[persons.event]
        out["times"] += (when.sum(), (when * when).sum())
    if "strata" in out:
        out["strata"] += np.bincount(persons.stratum, minlength=model.n_strata)
    begin = 0
    for factor in model.parsed.categories:
        codes = values_of(factor, persons.table).astype(np.int64)
        size = len(factor.levels or ())
        here = slice(begin, begin + size)
        out["levels"][0, here] += np.bincount(codes, minlength=size)
        out["levels"][1, here] += np.bincount(codes[persons.event], minlength=size)
        begin += size


def fit(out: dict[str, Array], persons: Persons, at: Progress) -> None:
    """The likelihood of the site's own risk sets, with what the last phase adds."""
    model, x, blocks = persons.model, persons.x, persons.own_blocks
    eta = x @ at.beta
    eta -= eta.max(initial=-np.inf)
    w = np.exp(np.maximum(eta, -_FURTHEST))
    sums = RiskSums.of(blocks, x, w)
    ties = Ties.of(sums, model.params.ties)
    means = ties.means(sums)
    out["loglik"] += eta[blocks.event].sum() - ties.log_phi.sum()
    out["score"] += x[blocks.event].sum(axis=0) - means.sum(axis=0)
    if at.phase == "fit":
        one = np.ones(len(blocks))
        out["information"] += pack(_information(blocks, x, w, (sums, ties), one))
        if "squares" in out:
            out["squares"] += (x * x).sum(axis=0)
        return
    when = np.zeros(len(blocks))
    mean, spread = at.scalars[3], at.scalars[4]
    dead = blocks.event
    when[blocks.last[dead]] = (persons.transformed()[dead] - mean) / spread
    for power in range(3):
        out["information"][power] += pack(_information(blocks, x, w, (sums, ties), when**power))
    out["drifts"] += when[blocks.last[dead]] @ x[dead] - when @ means
    _pairs(out, persons, eta)
    if "spread" in out:
        each = residuals(blocks, x, w, Expected.of(sums, ties))
        out["spread"] += pack(gram(each, each))


def risk(out: dict[str, Array], persons: Persons, at: Progress, grid: Grid) -> None:
    """Sums of those who leave in each step of the shared time; then what the last round adds."""
    blocks = grid.blocks(persons.time, persons.event, persons.stratum)
    x, dead, steps = persons.x, persons.event, len(grid)
    eta = x @ at.beta
    w = np.exp(np.clip(eta, -_LARGEST, _LARGEST))
    died = dead & (blocks.last >= 0)
    others = ~dead & (blocks.last >= 0)
    of_died, of_others = (
        _moments_by_step(blocks.last[rows], x[rows], w[rows], steps) for rows in (died, others)
    )
    out["leaving"] += of_died + of_others
    out["events"][0] = np.bincount(blocks.last[died], minlength=steps)
    out["events"][1] = out["events"][0] + np.bincount(blocks.last[others], minlength=steps)
    out["dead"] += x[dead].sum(axis=0)
    if "squares" in out:
        out["squares"] += (x * x).sum(axis=0)
    if "dying" in out:
        tied = grid.tied == 1  # of a step's only event nothing is needed, so nothing is said
        out["dying"][tied] = of_died[tied]
    if at.phase == "final":
        out["drifts"] += grid.transformed[blocks.last[died]] @ x[died]
        _pairs(out, persons, eta)


def _moments_by_step(step: Ints, x: Floats, w: Floats, steps: int) -> Floats:
    """Sums of w, w x and, packed, w x x' in each step; shape (steps, 1 + p + p (p + 1) / 2)."""
    p = x.shape[1]
    columns = [np.bincount(step, weights=w, minlength=steps)]
    wx = np.asfortranarray(x * w[:, None])
    columns += [np.bincount(step, weights=wx[:, j], minlength=steps) for j in range(p)]
    for i, j in zip(*np.triu_indices(p), strict=True):
        columns.append(np.bincount(step, weights=wx[:, i] * x[:, j], minlength=steps))
    return np.stack(columns, axis=1)


def _information(
    blocks: Blocks, x: Floats, w: Floats, known: tuple[RiskSums, Ties], weight: Floats
) -> Floats:
    sums, ties = known
    second = second_order(blocks, x, w, ties.a * weight, ties.c * weight)
    return second - ties.products(sums, weight)


def _pairs(out: dict[str, Array], persons: Persons, eta: Floats) -> None:
    """Concordant, discordant and tied pairs of persons of the site."""
    out["pairs"] += concordance(
        persons.time,
        persons.event,
        eta,
        persons.stratum,
        persons.model.n_strata,
        entry=persons.entry,
    )
