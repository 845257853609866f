"""Statistics of ranks from a joint distribution: counts of persons by cell and group.

Everybody in a cell has the same mid-rank. Where a cell is wider than the grid on which the values
are recorded, two persons in it may or may not be tied: the statistic takes them as tied, and
`Undecided` says between which limits it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution import (
    MAX_ROUNDS,
    Distribution,
    Known,
    Question,
    progress_of,
)
from cohortium.analysis.interface import Continue, Done, DropOuts, Params, Scope
from cohortium.analysis.quantiles import (
    BINS,
    Search,
    advance,
    interpolate,
    needed_ranks,
)
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import PolicyRefusal

QUARTILES = {"q1": 0.25, "median": 0.5, "q3": 0.75}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Undecided:
    """Persons in one cell whose order is not known, and what follows for a statistic.

    Attributes:
        step: Width of a cell in the variable's unit.
        low, high: The statistic is not outside these.
    """

    step: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """For a result."""
        return {"step": self.step, "low": self.low, "high": self.high}


def twice_rank_sums(of: Distribution) -> Ints:
    """Twice the sum of the mid-ranks of each group, an integer; shape (G,)."""
    persons = of.counts.sum(axis=1)
    before = np.cumsum(persons) - persons
    return np.asarray(of.counts.T @ (2 * before + persons + 1), dtype=np.int64)


def tie_sum(of: Distribution) -> float:
    """The sum of t^3 - t over the cells, of t persons each."""
    t = of.counts.sum(axis=1).astype(np.float64)
    return float(np.sum(t * (t * t - 1.0)))


def is_open(of: Distribution) -> bool:
    """Whether two persons share a cell whose values may differ."""
    return not of.exact and bool(np.any(of.counts.sum(axis=1) > 1))


def rank_sum_limits(of: Distribution) -> tuple[Floats, Floats]:
    """Least and largest sum of ranks of each group, whatever the order within the cells."""
    persons = of.counts.sum(axis=1)
    before = np.cumsum(persons) - persons
    here = of.counts
    first = here * (2 * before[:, None] + here + 1)
    last = here * (2 * (before + persons)[:, None] - here + 1)
    return first.sum(axis=0) / 2.0, last.sum(axis=0) / 2.0


def surrogates(of: Distribution) -> list[Floats]:
    """For each group values in the same order as its persons', for a library's exact test."""
    places = np.arange(len(of.cells), dtype=np.float64)
    return [np.repeat(places, column) for column in of.counts.T]


def describe_groups(
    of: Distribution, levels: Sequence[str | None], variable: Variable, scope: Scope
) -> list[dict[str, Any]]:
    """Persons, quartiles (as `stats.describe` releases them) and mean rank of each group."""
    ranks = twice_rank_sums(of)
    out = []
    for group, level in enumerate(levels):
        counts = of.counts[:, group]
        n = int(counts.sum())
        one: dict[str, Any] = {"level": level, "n": n}
        some = np.flatnonzero(counts)
        here = replace(of, cells=of.cells[some], counts=counts[some, None])
        for name, p in QUARTILES.items():
            value = _quantile(here, p, scope)
            one[name] = None if value is None else _shown(value, variable.type)
        one["mean_rank"] = float(ranks[group] / (2.0 * n))
        out.append(one)
    return out


def _quantile(of: Distribution, p: float, scope: Scope) -> float | None:
    """The type 7 quantile of one group; not looked for in cells of too few persons."""
    counts = of.counts[:, 0]
    n, min_cell = int(counts.sum()), scope.disclosure.min_cell
    ranks = needed_ranks(n, p, scope.disclosure.tail)
    if not ranks or not len(of.cells):
        return None
    # The interval is the smallest power of two around 0, so that its edges tell of no value.
    width = 1
    while BINS * width < 2 * int(np.abs(of.cells).max()) + 2:
        width *= 2
    searches = [Search(0, 0, -(BINS // 2) * width, width, BINS, ranks)]
    found = []
    while searches:
        search = searches.pop()
        places = (of.cells - search.lower) // search.width
        bins = np.zeros(BINS + 1, dtype=np.int64)
        bins[0] = counts[places < 0].sum()
        inside = (places >= 0) & (places < search.bins)
        np.add.at(bins, places[inside] + 1, counts[inside])
        narrower, here = advance(search, bins, min_cell)
        searches += narrower
        found += here
    found.sort(key=lambda statistic: statistic.rank)
    if len(found) < len(ranks):
        return None
    return interpolate(p, n, found, of.scale, of.exact).value


def _shown(value: float, kind: VariableType) -> float | str:
    if kind is VariableType.DATE:
        return (_EPOCH + timedelta(days=round(value))).date().isoformat()
    if kind is VariableType.DATETIME:
        return (_EPOCH + timedelta(seconds=round(value))).replace(tzinfo=None).isoformat()
    return float(value)


def _require_no_small_cell(of: Distribution, name: str, scope: Scope) -> None:
    """Refuse what gives a small cell away: of two values a test of ranks tells the whole table."""
    min_cell = scope.disclosure.min_cell
    if len(of.cells) == 2 and np.any((of.counts > 0) & (of.counts < min_cell)):
        raise PolicyRefusal(
            "too-few-persons",
            f"{name} has two values, one of which fewer than {min_cell} persons of a group have: "
            "the test would give them away. Ask for a contingency table.",
        )


class RankParams(Params):
    """What a test of ranks asks."""

    def question(self, scope: Scope) -> Question:
        """Whose values are counted."""
        raise NotImplementedError


class RankTest:
    """The rounds that the tests of ranks have in common."""

    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = MAX_ROUNDS

    def start(self, params: RankParams, scope: Scope) -> State:
        """Begin with counts, and with sums where each site guards its own floor."""
        return Known.start(params.question(scope), scope).to_state()

    def layout(self, state: State, params: RankParams, scope: Scope) -> Layout:
        """See `cohortium.analysis.distribution`."""
        question = params.question(scope)
        return Known.from_state(state, question).layout(question)

    def local(self, table: Table, state: State, params: RankParams, scope: Scope) -> Contribution:
        """See `cohortium.analysis.distribution`."""
        question = params.question(scope)
        return Known.from_state(state, question).local(table, question, scope)

    def column(self, field: str, index: int, params: RankParams, scope: Scope) -> str:
        """The variable of a component of the sums; counts do not overflow."""
        names = params.question(scope).names
        return names[index // 2 % len(names)] if field == "sums" else names[0]

    def finish(
        self, total: Total, state: State, params: RankParams, scope: Scope
    ) -> Continue | Done:
        """Go on until the distribution is known, then compute the statistic."""
        question = params.question(scope)
        known = Known.from_state(state, question)
        next_one = known.advance(total, question, scope)
        if isinstance(next_one, Known):
            return Continue(next_one.to_state(), **progress_of(next_one))
        levels = [question.groups.names[group] for group in known.held]
        _require_no_small_cell(next_one[0], question.names[0], scope)
        common = {
            "variable": question.names[0],
            "n": known.n,
            "n_missing": int(known.counted.left_out[0]),
            "n_sites": scope.n_sites,
            "groups": describe_groups(next_one[0], levels, question.variables[0], scope),
        }
        common["suppressed"] = [] if question.among else known.counted.unheard(question.groups)
        return Done(common | self.assess(next_one[0], params, levels))

    def assess(self, of: Distribution, params: Any, levels: Sequence[str | None]) -> dict[str, Any]:
        """The test's own part of the result."""
        raise NotImplementedError
