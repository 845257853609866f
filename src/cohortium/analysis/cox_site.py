"""What a site computes for `survival.cox` in each phase."""

from __future__ import annotations

from collections.abc import Hashable
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
from cohortium.analysis.cox_steps import Sorted, Units, blocks_of, encoded
from cohortium.analysis.formula import design, values_of
from cohortium.analysis.kept import Kept
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


@dataclass(frozen=True, eq=False)
class Persons:
    """A site's complete persons.

    Attributes:
        table: Only they are in it; without columns where the rest was kept from a round before.
        left_out: Of the site, because a value is missing.
        x: (n, p); covariates minus `Progress.centre`.
        time: (n,); when they left.
        event: (n,); who had the event.
        entry: (n,); when they came.
        stratum: (n,); the declared one.
    """

    model: Model
    table: Table
    left_out: int
    x: Floats
    time: Floats
    event: Bools
    entry: Floats | None
    stratum: Ints

    @staticmethod
    def of(model: Model, table: Table, left_out: int, centre: Floats) -> Persons:
        """Read them.

        Raises:
            InputError: ``bad-input``.
        """
        x, _ = design(table, model.parsed)
        x -= centre
        time, entry = model.endpoint.times(table), None
        if model.entry is not None:
            entry = np.array(table.columns[model.entry.name])
            if np.any(entry >= time):
                raise InputError(
                    "bad-input",
                    f"{model.params.entry} is not below {model.params.time} for some persons at a "
                    "site.",
                    variable=model.params.entry,
                )
        stratum = np.zeros(table.n_rows, dtype=np.int64)
        if model.n_strata > 1:
            stratum = model.strata.codes(table).astype(np.int64)
        event = np.asarray(model.endpoint.codes(table) == 1)
        return Persons(model, table, left_out, x, time.copy(), event, entry, stratum)

    @staticmethod
    def kept(model: Model, table: Table, centre: Floats) -> Persons | None:
        """Those of a round before, of the same table and with the same centre."""
        return _KEPT.get(table, _about(model, table, centre))

    def keep(self, table: Table, centre: Floats) -> Persons:
        """For the next rounds of the run."""
        persons = replace(self, table=_NO_COLUMNS)
        n_bytes = 2 * self.x.nbytes + 8 * 8 * len(self.x)
        _KEPT.put(table, _about(self.model, table, centre), persons, n_bytes)
        return persons

    @cached_property
    def own_blocks(self) -> Blocks:
        """The site's own event times."""
        return Blocks.of_times(self.time, self.event, self.stratum, self.model.n_strata, self.entry)

    @cached_property
    def of_events(self) -> Floats:
        """(p,); the sum of x over those who have the event."""
        return np.asarray(self.x[self.event].sum(axis=0))

    @cached_property
    def own_order(self) -> Sorted:
        """In the order of the site's own event times."""
        return Sorted.of(self.x, self.own_blocks.last, self.event, len(self.own_blocks))

    def own_sums(self, w: Floats) -> RiskSums:
        """Over the site's own risk sets."""
        blocks = self.own_blocks
        if blocks.first is not None:
            return RiskSums.of(blocks, self.x, w)
        there = self.own_order
        sums = there.first(there.x * w[there.order, None])
        at_risk, died = blocks.from_leaving(sums.sum(axis=0)), sums[1]
        events = there.plain[1, :, 0].astype(np.int64)
        return RiskSums(at_risk[:, 0], at_risk[:, 1:], died[:, 0], died[:, 1:], events)

    @cached_property
    def _by_steps(self) -> dict[str, Sorted]:
        return {}

    def by_steps(self, grid: Grid) -> Sorted:
        """In the order of the steps of shared time; sorted once."""
        found = self._by_steps.get(grid.digest)
        if found is None:
            blocks = grid.blocks(self.time, self.event, self.stratum)
            found = Sorted.of(self.x, blocks.last, self.event, len(grid))
            self._by_steps.clear()
            self._by_steps[grid.digest] = found
        return found

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


_KEPT: Kept[Persons] = Kept(256 * 2**20)
_NO_COLUMNS = Table({}, {})


def _about(model: Model, table: Table, centre: Floats) -> Hashable:
    variables = tuple(table.variables[name].model_dump_json() for name in sorted(table.variables))
    return model.params.model_dump_json(), variables, centre.tobytes()


def count(out: dict[str, Array], persons: Persons) -> None:
    """Persons and events."""
    n, events = len(persons.x), int(persons.event.sum())
    out["persons"][:] = (n, persons.left_out, 1, events, 1 if events else 0)


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
    sums = persons.own_sums(w)
    ties = Ties.of(sums, model.params.ties)
    means = ties.means(sums)
    out["loglik"] += eta[blocks.event].sum() - ties.log_phi.sum()
    out["score"] += persons.of_events - means.sum(axis=0)
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


def risk(out: dict[str, Array], persons: Persons, at: Progress, grid: Grid, n_sites: int) -> None:
    """Sums of those who leave in each step of the shared time; then what the last round adds."""
    there = persons.by_steps(grid)
    eta = there.x @ np.append(0.0, at.beta)
    w = np.exp(np.clip(eta, -_LARGEST, _LARGEST))
    wx = there.x * w[:, None]
    units = at.units(n_sites)
    out["sizes"] += units.sizes(wx, there.x)
    out["beyond"][0] = units.whole and out["sizes"].max(initial=0.0) > units.size
    if not out["beyond"][0]:
        _add_steps(out, there, wx, units, grid)
    _, died = there.plain
    out["events"][0] = died[:, 0]
    out["events"][1] = there.plain[:, :, 0].sum(axis=0)
    out["dead"] += died[:, 1:].sum(axis=0)
    if "squares" in out:
        out["squares"] += (persons.x * persons.x).sum(axis=0)
    if at.phase == "final":
        out["drifts"] += grid.transformed @ died[:, 1:]
        everybody = np.zeros(len(persons.x))  # who leaves before the first event is in no pair
        everybody[there.order] = eta
        _pairs(out, persons, everybody)


def _add_steps(
    out: dict[str, Array], persons: Sorted, wx: Floats, units: Units, grid: Grid
) -> None:
    tied = grid.tied == 1  # of a step's only event nothing is needed, so nothing is said
    sums, unit = persons.first(wx), units.first()
    if "blocks" not in out:
        sums = np.concatenate([sums, persons.second(wx)], axis=2)
        unit = np.concatenate([unit, units.second()])
    found = {"leaving": sums.sum(axis=0)}
    if "dying" in out:
        found["dying"] = sums[1][tied]
    for name, values in found.items():
        out[name] += encoded(values, unit) if units.whole else values
    if "blocks" in out:
        block = blocks_of(grid.edges)
        parts = [persons.coarse(wx, block)]
        if "dying" in out:
            with_ties = (persons.key % 2 == 1) & tied[persons.key // 2]
            parts.append(persons.coarse(wx, block, with_ties))
        blocks = np.stack(parts)
        out["blocks"] += encoded(blocks, units.second()) if units.whole else blocks


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
