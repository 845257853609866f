"""The hub's part of a pooled baseline: risk sets of all sites together.

Sites are told coefficients and where steps begin, and nothing that follows from other sites'
persons step by step: what is needed of second order is summed here and not at the sites. On the way
to the estimate that is done with the products of means step by step and the scatter around them by
blocks of steps: an information that is near enough for Newton's method, and in fewer bytes. What is
released is of sums step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.cox_grid import Grid
from cohortium.analysis.cox_model import Model
from cohortium.analysis.cox_risk import Blocks, RiskSums, Ties
from cohortium.analysis.cox_state import Progress
from cohortium.analysis.cox_steps import Units, blocks_of
from cohortium.analysis.least_squares import unpack
from cohortium.core.rounds import Array, Total
from cohortium.errors import ProtocolError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROOM = 16.0
"""How much larger sums may be at the next coefficients than at these."""
_ERROR = 1e-9
"""Of the score by rounding to whole numbers, in standard errors."""


@dataclass(frozen=True)
class Joint:
    """The likelihood at the coefficients that the sites were told.

    Attributes:
        information: (3, p, p), the second and third weighted by transformed time and its square;
            (1, p, p), and nearly so, on the way to the estimate.
        drift: (p,); what is expected of the events' columns, weighted by transformed time.
        hazard: (K,).
        size: For the next sums; see `Units`.
    """

    loglik: float
    score: Floats
    information: Floats
    drift: Floats
    hazard: Floats
    size: float

    @staticmethod
    def of(at: Progress, grid: Grid, total: Total, model: Model, n_sites: int) -> Joint | Progress:
        """From the totals of a round; the same round in other units where these do not do.

        Raises:
            ProtocolError: ``malformed-message`` where the sites contradict themselves.
        """
        units, p = at.units(n_sites), model.p
        size = float(np.asarray(total["sizes"], dtype=np.float64).max())
        if units.whole and int(total["beyond"][0]) > 0:
            return at.scalar(5, max(2.0 * size, 1.0))
        leaving, dying = _decoded(total, grid, units)
        _check(at, grid, total)
        at_risk = _later(grid, leaving[:, : 1 + p])
        events = np.asarray(total["events"], dtype=np.int64)[0]
        if np.any(at_risk[:, 0] <= dying[:, 0] * (events - 1) / events):
            if not units.whole:
                raise _contradiction()
            return at.scalar(5, 0.0)
        sums = RiskSums(at_risk[:, 0], at_risk[:, 1:], dying[:, 0], dying[:, 1 : 1 + p], events)
        ties = Ties.of(sums, model.params.ties)
        rounding = units.unit * np.sqrt(n_sites * len(grid)) * float(ties.a.sum())
        if units.whole and rounding > _ERROR * np.sqrt(at.events):
            return at.scalar(5, 0.0)
        means = ties.means(sums)
        dead = np.asarray(total["dead"], dtype=np.float64)
        if at.fine:
            second = (_later(grid, leaving[:, 1 + p :]), dying[:, 1 + p :])
            parts = [
                _second(second, ties, grid.transformed**power, p)
                - ties.products(sums, grid.transformed**power)
                for power in range(3)
            ]
        else:
            blocks = np.asarray(total["blocks"], dtype=np.float64)
            if units.whole:
                blocks = blocks * units.second()
            near = _near(grid, blocks, (leaving, dying), ties)
            parts = [near - ties.products(sums, np.ones(len(grid)))]
        return Joint(
            float(at.beta @ dead - ties.log_phi.sum()),
            dead - means.sum(axis=0),
            np.stack(parts),
            grid.transformed @ means,
            ties.a,
            max(_ROOM * size, 1.0) if units.whole else 0.0,
        )


def _decoded(total: Total, grid: Grid, units: Units) -> tuple[Floats, Floats]:
    """Sums over those who leave in each step, and over a step's events where they are several."""
    leaving = _in_units(total["leaving"], units)
    dying = np.zeros_like(leaving)
    if "dying" in total:
        dying[grid.tied == 1] = _in_units(total["dying"], units)
    return leaving, dying


def _in_units(sums: Array, units: Units) -> Floats:
    values = np.asarray(sums, dtype=np.float64)
    if not units.whole:
        return values
    first = units.first()
    unit = first if values.shape[1] == len(first) else np.concatenate([first, units.second()])
    return np.asarray(values * unit)


def _later(grid: Grid, leaving: Floats) -> Floats:
    """Sums over risk sets."""
    nobody = np.zeros(0, dtype=np.int64)
    return Blocks(nobody, None, grid.edges, nobody.astype(np.bool_)).from_leaving(leaving)


def _check(at: Progress, grid: Grid, total: Total) -> None:
    events, gone = np.asarray(total["events"], dtype=np.int64)
    if (
        np.any(events < 1)
        or np.any(gone < events)
        or int(events.sum()) != at.events
        or not np.all((grid.tied == 1) == (events > 1))
    ):
        raise _contradiction()


def _contradiction() -> ProtocolError:
    return ProtocolError(
        "malformed-message",
        "The sites' counts contradict each other: data changed during the run, or a site sends "
        "what is not so. Run again.",
    )


def _second(second: tuple[Floats, Floats], ties: Ties, weight: Floats, p: int) -> Floats:
    """What ``w x x'`` adds to the information; shape (p, p)."""
    at_risk, dying = second
    return unpack((ties.a * weight) @ at_risk - (ties.c * weight) @ dying, p)


def _near(grid: Grid, blocks: Floats, steps: tuple[Floats, Floats], ties: Ties) -> Floats:
    """The same from blocks of steps; shape (p, p).

    A step's sum of ``w x x'`` is that of its mean, which is known, and the scatter around it, which
    is known of a block and weighted by the mean of the block's steps.
    """
    block = blocks_of(grid.edges)
    cumulative = np.concatenate(
        [np.cumsum(ties.a[a:b]) for a, b in zip(grid.edges[:-1], grid.edges[1:], strict=True)]
    )
    p = steps[0].shape[1] - 1
    out = np.zeros((p, p))
    for of_block, sums, weight in zip(blocks, steps, (cumulative, -ties.c), strict=False):
        some = sums[:, 0] > 0
        share = np.where(some, 1.0 / np.where(some, sums[:, 0], 1.0), 0.0)
        x = sums[:, 1:]
        out += (x * (share * weight)[:, None]).T @ x
        total = np.bincount(block, weights=sums[:, 0])
        mean = np.bincount(block, weights=sums[:, 0] * weight) / np.where(total > 0, total, 1.0)
        out += unpack(mean @ of_block, p) - (x * (share * mean[block])[:, None]).T @ x
    return out


def baseline_hazard(grid: Grid, hazard: Floats, model: Model) -> list[dict[str, Any]]:
    """The cumulative hazard at the means, where `survival_curve.points_of` says."""
    out = []
    for s in range(model.n_strata):
        begin, end = int(grid.edges[s]), int(grid.edges[s + 1])
        cumulative = np.concatenate([[0.0], np.cumsum(hazard[begin:end])])
        here = grid.points[:, 0] == s
        out.append(
            {
                "stratum": model.strata.names[s],
                "time": grid.point_times[here].tolist(),
                "cumulative_hazard": cumulative[grid.points[here, 1] - begin + 1].tolist(),
            }
        )
    return out
