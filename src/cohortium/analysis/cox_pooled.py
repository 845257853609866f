"""The hub's part of a pooled baseline: risk sets of all sites together.

Sites are told coefficients and where steps begin, and nothing that follows from other sites'
persons step by step: what is needed of second order is summed here and not at the sites.
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
from cohortium.analysis.least_squares import unpack
from cohortium.core.rounds import Total
from cohortium.errors import ProtocolError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Joint:
    """The likelihood at the coefficients that the sites were told.

    Attributes:
        information: (3, p, p); the second and third weighted by transformed time and its square.
        drift: (p,); what is expected of the events' columns, weighted by transformed time.
        hazard: (K,).
    """

    loglik: float
    score: Floats
    information: Floats
    drift: Floats
    hazard: Floats

    @staticmethod
    def of(at: Progress, total: Total, model: Model) -> Joint:
        """From the totals of a round.

        Raises:
            ProtocolError: ``malformed-message`` where the sites contradict themselves.
        """
        if at.grid is None:
            raise RuntimeError("this phase is of a pooled baseline")
        grid, p = at.grid, model.p
        sums, second, tied_second = _risk_sums(at, grid, total, p)
        ties = Ties.of(sums, model.params.ties)
        means = ties.means(sums)
        dead = np.asarray(total["dead"], dtype=np.float64)
        parts = []
        for power in range(3):
            weight = grid.transformed**power
            packed = (ties.a * weight) @ second - (ties.c * weight) @ tied_second
            parts.append(unpack(packed, p) - ties.products(sums, weight))
        return Joint(
            float(at.beta @ dead - ties.log_phi.sum()),
            dead - means.sum(axis=0),
            np.stack(parts),
            grid.transformed @ means,
            ties.a,
        )


def _risk_sums(at: Progress, grid: Grid, total: Total, p: int) -> tuple[RiskSums, Floats, Floats]:
    """Sums over risk sets; those of second order, and those over tied events, packed."""
    nobody = np.zeros(0, dtype=np.int64)
    blocks = Blocks(nobody, None, grid.edges, nobody.astype(np.bool_))
    at_risk = blocks.from_leaving(np.asarray(total["leaving"], dtype=np.float64))
    dying = np.asarray(total.get("dying", np.zeros_like(at_risk)), dtype=np.float64)
    events, leaving = np.asarray(total["events"], dtype=np.int64)
    if (
        np.any(events < 1)
        or np.any(leaving < events)
        or int(events.sum()) != at.events
        or np.any(at_risk[:, 0] <= 0)
        or not np.all((grid.tied == 1) == (events > 1))
    ):
        raise ProtocolError(
            "malformed-message",
            "The sites' counts contradict each other: data changed during the run, or a site sends "
            "what is not so. Run again.",
        )
    first = slice(1, 1 + p)
    sums = RiskSums(at_risk[:, 0], at_risk[:, first], dying[:, 0], dying[:, first], events)
    return sums, at_risk[:, 1 + p :], dying[:, 1 + p :]


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
