"""The hub's part of a pooled baseline: risk sets of all sites together."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.cox_grid import Grid
from cohortium.analysis.cox_model import Model
from cohortium.analysis.cox_risk import Blocks, Expected, RiskSums, Ties
from cohortium.analysis.cox_state import Progress
from cohortium.analysis.interface import Continue
from cohortium.analysis.least_squares import pack
from cohortium.core.rounds import Total
from cohortium.errors import ProtocolError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def after_risk(at: Progress, total: Total, model: Model) -> Continue:
    """The likelihood and its score; the information needs one more round."""
    grid, sums = _risk_sums(at, total)
    ties = Ties.of(sums, model.params.ties)
    loglik, score = _likelihood(at, total, sums, ties)
    arrays = {
        "a": ties.a,
        "c": ties.c,
        "score": score,
        "products": pack(ties.products(sums, np.ones(len(grid)))),
    }
    onward = at.but(phase="information", arrays=arrays).scalar(5, loglik)
    return Continue(onward.to_state(), 0.4, f"iteration {at.step + 1}")


def after_last(at: Progress, total: Total, model: Model) -> Continue:
    """What the tests need, and the baseline hazard."""
    grid, sums = _risk_sums(at, total)
    ties = Ties.of(sums, model.params.ties)
    loglik, _ = _likelihood(at, total, sums, ties)
    when = grid.transformed
    arrays: dict[str, npt.NDArray[Any]] = {
        "a": ties.a,
        "c": ties.c,
        "means": when @ ties.means(sums),
        "products": np.stack([pack(ties.products(sums, when**power)) for power in range(3)]),
    }
    if model.params.robust:
        expected = Expected.of(sums, ties)
        arrays |= {name: getattr(expected, name) for name in ("drift", "late", "mean")}
    final = at.but(
        phase="final",
        arrays=arrays,
        released=_baseline(grid, ties.a, model),
    )
    return Continue(final.scalar(5, loglik).to_state(), 0.95, "tests")


def _risk_sums(at: Progress, total: Total) -> tuple[Grid, RiskSums]:
    grid = at.grid
    if grid is None:
        raise RuntimeError("this phase is of a pooled baseline")
    nobody = np.zeros(0, dtype=np.int64)
    blocks = Blocks(nobody, None, grid.edges, nobody.astype(np.bool_))
    at_risk = blocks.from_leaving(np.asarray(total["leaving"], dtype=np.float64))
    dying = np.asarray(total.get("dying", np.zeros_like(at_risk)), dtype=np.float64)
    events, leaving = np.asarray(total["events"], dtype=np.int64)
    tied = (grid.tied == 1) == (events > 1)
    if (
        np.any(events < 1)
        or np.any(leaving < events)
        or int(events.sum()) != at.events
        or np.any(at_risk[:, 0] <= 0)
        or not np.all(tied)
    ):
        raise ProtocolError(
            "malformed-message",
            "The sites' counts contradict each other: data changed during the run, or a site sends "
            "what is not so. Run again.",
        )
    sums = RiskSums(at_risk[:, 0], at_risk[:, 1:], dying[:, 0], dying[:, 1:], events)
    return grid, sums


def _likelihood(at: Progress, total: Total, sums: RiskSums, ties: Ties) -> tuple[float, Floats]:
    dead = np.asarray(total["dead"], dtype=np.float64)
    loglik = float(at.beta @ dead - ties.log_phi.sum())
    return loglik, np.asarray(dead - ties.means(sums).sum(axis=0))


def _baseline(grid: Grid, hazard: Floats, model: Model) -> tuple[dict[str, Any], ...]:
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
    return tuple(out)
