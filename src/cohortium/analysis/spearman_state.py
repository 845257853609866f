"""What `stats.spearman` tells the sites of everybody's ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution import Question
from cohortium.analysis.grouped import Counted
from cohortium.analysis.interface import FieldSpec
from cohortium.analysis.quantiles import recorded_scale
from cohortium.analysis.rank_bins import MAX_BINS, RankBins
from cohortium.analysis.untrusted import floats, ints, length
from cohortium.core.dictionary import Variable
from cohortium.core.rounds import Layout, State
from cohortium.errors import ProtocolError

PHASE = "ranks"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def is_bins(state: State) -> bool:
    """Whether the state is of the last round."""
    return state.values.get("phase") == PHASE


@dataclass(frozen=True)
class Bins:
    """The totals before the last round; axis V.

    Attributes:
        bins: Of each variable.
        squares: (V,); sum of squared distances of the mid-ranks from their mean, cells as ties.
        most_squares: (V,); the same if nobody in a cell that is wider than the grid were tied.
        two: (V,); 1 where the variable has two values.
        few: (V,); 1 where the variable has two values, one of them of too few persons.
    """

    counted: Counted
    bins: tuple[RankBins, ...]
    squares: Floats
    most_squares: Floats
    two: Ints
    few: Ints

    def to_state(self) -> State:
        """As the hub sends it."""
        arrays = self.counted.to_arrays()
        arrays |= {name: getattr(self, name) for name in ("squares", "most_squares", "two", "few")}
        arrays["scale"] = np.array([one.scale for one in self.bins], dtype=np.float64)
        for v, one in enumerate(self.bins):
            arrays[f"edges_{v}"] = one.edges
            arrays[f"persons_{v}"] = one.persons
            arrays[f"tied_{v}"] = one.tied
        return State(values={"phase": PHASE}, arrays=arrays)

    @staticmethod
    def from_state(state: State, question: Question) -> Bins:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        counted = Counted.from_state(state, question.groups)
        size = len(question.variables)
        scale = floats(state, "scale", (size,)).tolist()
        return Bins(
            counted=counted,
            bins=tuple(
                _read(state, v, variable, one, counted.n)
                for v, (variable, one) in enumerate(zip(question.variables, scale, strict=True))
            ),
            squares=floats(state, "squares", (size,)),
            most_squares=floats(state, "most_squares", (size,)),
            two=ints(state, "two", (size,)),
            few=ints(state, "few", (size,)),
        )

    def layout(self) -> Layout:
        """The fields of the contribution."""
        v = len(self.bins)
        return {"products": FieldSpec((v, v), "real"), "slack": FieldSpec((v, v), "real")}


def _read(state: State, v: int, variable: Variable, scale: float, n: int) -> RankBins:
    size = length(state, f"persons_{v}", MAX_BINS + 1)
    persons = ints(state, f"persons_{v}", (size,))
    edges = ints(state, f"edges_{v}", (max(size - 1, 0),))
    good = (
        size > 0
        and np.all(persons > 0)
        and int(persons.sum()) == n
        and np.all(np.diff(edges) > 0)
        and np.all(np.abs(edges) < 2**60)
        and 0 < scale <= recorded_scale(variable)
    )
    if not good:
        raise ProtocolError("malformed-message", "The state tells of bins that cannot be.")
    return RankBins(
        edges=edges,
        persons=persons,
        tied=ints(state, f"tied_{v}", (size,)),
        scale=scale,
        exact=scale == recorded_scale(variable),
    )
