"""What a site adds to the sums of `causal.propensity`."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import complete, values_of
from cohortium.analysis.formula import design as matrix
from cohortium.analysis.glm_site import blocks, contribute
from cohortium.analysis.least_squares import pack
from cohortium.analysis.marks import joint_counts
from cohortium.analysis.propensity_augmented import add as add_augmented
from cohortium.analysis.propensity_augmented import add_score
from cohortium.analysis.propensity_model import CELLS, EDGES, Design
from cohortium.analysis.propensity_state import Weighing
from cohortium.core.rounds import Array, Contribution, Layout
from cohortium.core.table import Table
from cohortium.disclosure.dominance import dominated
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.disclosure.suppression import is_small
from cohortium.errors import PolicyRefusal

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NEARLY_ALL: Final = 95.0
"""Percent of a site's weights in an arm that fewer than `min_cell` persons may have."""


def add_up(table: Table, at: Weighing, design: Design, limits: Disclosure) -> Contribution:
    """One site's sums of a stage; zeros below the site's own floor, in all or in an arm."""
    parsed = design.parsed
    layout = design.model.layout(at.model.phase) if at.stage == "model" else design.layout(at.stage)
    out = _zeros(layout)
    table = table.select(tuple(sorted(parsed.variables)))
    rows = complete(table, parsed)
    persons = table if rows.all() else table.take(rows)
    of_arms = np.bincount(design.treated(persons), minlength=2)
    if limits.floor == "site" and (
        persons.n_rows < limits.min_cell
        or any(is_small(int(count), limits.min_cell) for count in of_arms)
    ):
        return out
    if at.stage == "model":
        return contribute(table, at.model, design.model, limits)
    if at.stage == "overlap":
        _refuse_dominated(persons, at, design, limits)
    for block in blocks(persons):
        _add(out, block, at, design)
    for prefix in ("", "kept_"):
        if f"{prefix}sites" in out:
            out[f"{prefix}sites"][:] = out[f"{prefix}persons"] > 0
    if "score_sites" in out:
        out["score_sites"][:] = out["scores"] > 0
    return out


def _zeros(layout: Layout) -> dict[str, Array]:
    return {
        name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
        for name, spec in layout.items()
    }


def _scores(x: Floats, block: Table, at: Weighing, design: Design) -> tuple[Floats, Ints, Ints]:
    """Log odds of the score, arm and cell of the score of each person; shape (n_rows,) each.

    Args:
        x: Centred columns.
    """
    with np.errstate(over="ignore"):
        eta = x @ at.model.beta
        score = 1 / (1 + np.exp(-eta))
    return eta, design.treated(block), np.searchsorted(EDGES[1:-1], score, side="right")


def _add(out: dict[str, Array], block: Table, at: Weighing, design: Design) -> None:
    x = matrix(block, design.parsed)[0] - at.model.centre
    eta, arm, cell = _scores(x, block, at, design)
    first, end = design.kept
    kept = (cell >= first) & (cell < end)
    weight, slope = design.weigh(eta, arm)
    weight, slope = weight * kept, slope * kept
    if at.stage in {"outcome", "augment", "influence"}:
        rest = arm - 1 / (1 + np.exp(-eta))
        there = x[kept]
        add_augmented(
            out,
            there,
            design.outcomes(block)[kept],
            rest[kept],
            (weight[kept], slope[kept]),
            mine=(arm[kept] == 0, arm[kept] == 1),
            at=at,
        )
        if at.stage == "influence" and not kept.all():
            add_score(out, x[~kept], rest[~kept], at)
        return
    for one in (0, 1):
        here = arm == one
        w = weight[here]
        if at.stage == "overlap":
            _add_arm(out, block, x, here, arm=one, design=design)
            if design.params.trim:
                _add_arm(out, block, x, here & kept, arm=one, design=design, prefix="kept_")
            out["scores"][one] += np.bincount(cell[here], minlength=CELLS)
            out["weights"][one] += (w.sum(), w @ w)
            continue
        mine = x[here]
        y = np.zeros(len(w)) if design.outcome is None else design.outcomes(block)[here]
        if at.stage == "balance":
            out["weighted_columns"][one] += w @ mine
            out["weighted_squares"][one] += w @ np.square(mine)
            if "weighted_levels" in out:
                out["weighted_levels"][one] += _levels(block, here, design, w)
            if "weighted_outcome" in out:
                out["weighted_outcome"][one] += w @ y
            continue
        away = y - at.known["means"][one]
        out["variation"][one] += np.square(w * away).sum()
        if "slope" in out:
            rest = one - 1 / (1 + np.exp(-eta[here]))
            out["slope"][one] += (slope[here] * away) @ mine
            out["cross"][one] += (w * away * rest) @ mine
            out["meat"] += pack((mine * np.square(rest)[:, None]).T @ mine)


def _add_arm(
    out: dict[str, Array],
    block: Table,
    x: Floats,
    rows: npt.NDArray[np.bool_],
    *,
    arm: int,
    design: Design,
    prefix: str = "",
) -> None:
    """Add what tells of an arm's persons before any weight."""
    out[f"{prefix}persons"][arm] += np.count_nonzero(rows)
    out[f"{prefix}columns"][arm] += x[rows].sum(axis=0)
    out[f"{prefix}squares"][arm] += np.square(x[rows]).sum(axis=0)
    out[f"{prefix}marks"][arm] += joint_counts(block.take(rows), design.parsed)
    if f"{prefix}levels" in out:
        counts = _levels(block, rows, design, None)
        out[f"{prefix}levels"][arm] += counts.astype(np.int64)
    if f"{prefix}outcome" in out:
        y = design.outcomes(block)[rows]
        out[f"{prefix}outcome"][arm] += (y.sum(), y @ y)


def _levels(
    block: Table, rows: npt.NDArray[np.bool_], design: Design, weights: Floats | None
) -> Floats:
    """Persons, or their weights, at each level of each category."""
    sums = []
    for factor in design.parsed.categories:
        codes = values_of(factor, block)[rows].astype(np.int64)
        sums.append(np.bincount(codes, weights, minlength=len(factor.levels or ())))
    return np.concatenate(sums).astype(np.float64)


def _refuse_dominated(persons: Table, at: Weighing, design: Design, limits: Disclosure) -> None:
    """A weighted mean tells of those who have the weight; the hub says what the score is."""
    parts = [matrix(block, design.parsed)[0] for block in blocks(persons)]
    x = np.concatenate(parts) if parts else np.zeros((0, len(design.parsed.names)))
    eta, arm, cell = _scores(x - at.model.centre, persons, at, design)
    weight, _ = design.weigh(eta, arm)
    first, end = design.kept
    kept = (cell >= first) & (cell < end)
    few = Dominance(largest=min(max(limits.min_cell - 1, 1), 100), percent=_NEARLY_ALL)
    sums = [x[:, at] for at in design.numbers if not np.all((x[:, at] == 0) | (x[:, at] == 1))]
    if design.outcome is not None:
        y = design.outcomes(persons)
        sums += [] if np.all((y == 0) | (y == 1)) else [y]
    for one in (0, 1):
        here = kept & (arm == one)
        w = weight[here]
        rule = limits.dominance
        if (len(w) >= 2 * limits.min_cell and dominated(w, few)) or (
            rule is not None and len(w) and dominated(w, rule)
        ):
            raise PolicyRefusal(
                "too-few-persons",
                f"A few persons of {design.arms[one]} at a site have nearly all of its weights. "
                "Trim the score, for example trim=(0.05, 0.95), or take overlap weights (ATO).",
            )
        if rule is None:
            continue
        if any(dominated(v[arm == one], rule) or dominated(w * v[here], rule) for v in sums):
            raise PolicyRefusal(
                "too-few-persons",
                f"A few persons of {design.arms[one]} at a site make up most of a sum of values; "
                "its mean is not released.",
            )
