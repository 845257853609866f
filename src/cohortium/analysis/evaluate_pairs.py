"""The round in which sites say how the areas of several models vary together.

A person has a place in each model: the share of persons without the event who have a lower score,
for somebody with it, and the other way round. The sites are told the released points of each
model, and sum the products of these places; DeLong's correlation of two areas follows. It is that
of the scores as they are merged into points; the areas and their own variances are of the scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution import Distribution
from cohortium.analysis.evaluate_measures import placements
from cohortium.analysis.evaluate_model import Bound
from cohortium.analysis.evaluate_points import MOST_VALUES, Points
from cohortium.analysis.grouped import own_floor
from cohortium.analysis.interface import FieldSpec, Scope
from cohortium.analysis.least_squares import pack, unpack
from cohortium.analysis.quantiles import recorded_scale
from cohortium.analysis.untrusted import floats, ints, length
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import ProtocolError

PHASE: Final = "pairs"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def is_pairs(state: State) -> bool:
    """Whether the state is of this round."""
    return state.values.get("phase") == PHASE


@dataclass(frozen=True)
class Pairs:
    """The released points of each model; nothing that the result does not tell.

    Attributes:
        n: Persons, without and with the event.
        scale: Cells per unit of each score.
        edges, counts: As of `Points`.
    """

    n: tuple[int, int]
    scale: tuple[float, ...]
    edges: tuple[Ints, ...]
    counts: tuple[Ints, ...]

    @staticmethod
    def of(found: list[Distribution], points: list[Points]) -> Pairs:
        """From what is known before the round."""
        without, having = points[0].counts.sum(axis=0).tolist()
        return Pairs(
            (without, having),
            tuple(one.scale for one in found),
            tuple(one.edges for one in points),
            tuple(one.counts for one in points),
        )

    def to_state(self, result: dict[str, Any]) -> State:
        """As the hub sends it, with the result so far."""
        arrays: dict[str, Array] = {"scale": np.array(self.scale, dtype=np.float64)}
        for at, (edges, counts) in enumerate(zip(self.edges, self.counts, strict=True)):
            arrays[f"edges_{at}"] = edges
            arrays[f"counts_{at}"] = counts
        return State({"phase": PHASE, "result": result}, arrays)

    @staticmethod
    def from_state(state: State, bound: Bound) -> Pairs:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        scale = floats(state, "scale", (len(bound.scorers),))
        edges, counts = [], []
        for at, scorer in enumerate(bound.scorers):
            size = length(state, f"counts_{at}", MOST_VALUES)
            counts.append(ints(state, f"counts_{at}", (size, 2)))
            edges.append(ints(state, f"edges_{at}", (max(size - 1, 0),)))
            good = (
                size > 0
                and bool(np.all((counts[at] >= 0) & (counts[at] < 2**40)))
                and bool(np.all(counts[at].sum(axis=1) > 0))
                and np.array_equal(counts[at].sum(axis=0), counts[0].sum(axis=0))
                and bool(np.all(counts[at].sum(axis=0) > 0))
                and bool(np.all(np.diff(edges[at]) > 0))
                and bool(np.all(np.abs(edges[at]) < 2**60))
                and 0 < scale[at] <= recorded_scale(scorer.kept_as)
            )
            if not good:
                raise ProtocolError("malformed-message", "The state tells of no curves' points.")
        without, having = counts[0].sum(axis=0).tolist()
        return Pairs((without, having), tuple(scale.tolist()), tuple(edges), tuple(counts))

    def layout(self) -> Layout:
        """The fields of the contribution."""
        k = len(self.edges)
        triangle = FieldSpec((k * (k + 1) // 2,), "real")
        return {"having": triangle, "without": triangle}

    def local(self, table: Table, bound: Bound, scope: Scope) -> Contribution:
        """Sums of products of the persons' places, about their joint means."""
        out = {name: np.zeros(spec.shape) for name, spec in self.layout().items()}
        scored = bound.scored(table)
        rows = bound.complete(scored)
        if np.count_nonzero(rows) < own_floor(scope):
            return out
        scored = scored.take(rows)
        having = bound.outcome.codes(scored) == 1
        places = (list[Floats](), list[Floats]())
        for at, scorer in enumerate(bound.scorers):
            values = scored.columns[scorer.kept_as.name]
            cells = np.rint(values * self.scale[at]).astype(np.int64)
            interval = np.searchsorted(self.edges[at], cells, side="right")
            below, above, mean = self._places(at)
            places[0].append(above[interval[~having]] - mean)
            places[1].append(below[interval[having]] - mean)
        for name, columns in zip(("without", "having"), places, strict=True):
            matrix = np.stack(columns)
            out[name] += pack(matrix @ matrix.T)
        return out

    def _places(self, at: int) -> tuple[Floats, Floats, float]:
        """Of each interval the two places; and the area, which is the mean of both."""
        without, having = self.counts[at].T
        below, above = placements(without, having)
        return below, above, float(having @ below) / self.n[1]

    def correlations(self, total: Total) -> Floats:
        """Of the areas, shape (K, K)."""
        k = len(self.edges)
        without, having = (unpack(np.asarray(total[name]), k) for name in ("without", "having"))
        n0, n1 = self.n
        cov = having / (max(n1 - 1, 1) * n1) + without / (max(n0 - 1, 1) * n0)
        errors = np.sqrt(np.diag(cov))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.clip(cov / np.outer(errors, errors), -1.0, 1.0))
