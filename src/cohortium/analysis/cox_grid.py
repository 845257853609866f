"""The steps of time over which sites add up their risk sets.

The hub knows from `cohortium.analysis.survival_times` how many persons of all sites together leave
the risk set when, with the event and without. What it then sees of a step, sums of weights and of
weighted covariates, gives by subtraction the sums over those who leave in it. So no step is left by
fewer than `min_cell` persons: times that are too thin are taken together with the next ones, and
the persons who have the event in such a step are tied. Efron's ties need the sums over a step's
events too: where there are several, they and the others who leave are `min_cell` each (or none).
Steps that are not merged are those of the pooled data, and so is the fit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.cox_risk import Blocks
from cohortium.analysis.distribution import Distribution
from cohortium.analysis.rank_bins import roundest
from cohortium.analysis.survival_times import Leaving
from cohortium.analysis.untrusted import floats, ints, length
from cohortium.core.rounds import Array, State
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_STEPS = 20_000


@dataclass(frozen=True)
class Grid:
    """Steps of each stratum, ascending; axis K, stratum by stratum.

    Attributes:
        starts: (K,); the first cell of a step. Who leaves before the first is in no risk set.
        ends: (strata,); the cell after which nobody is left.
        edges: (strata + 1,); the steps of stratum s are ``edges[s]`` to ``edges[s + 1]``.
        tied: (K,); whether several persons have the event.
        transformed: (K,); time as the test of proportionality takes it, of mean 0 and variance 1.
        scale: Cells per unit.
        event_times: Distinct ones, over all strata.
        exact: Whether the steps are the event times as they are recorded.
    """

    starts: Ints
    ends: Ints
    edges: Ints
    tied: Ints
    transformed: Floats
    scale: float
    event_times: int
    exact: bool

    def __len__(self) -> int:
        return len(self.starts)

    def blocks(self, time: Floats, event: Bools, stratum: Ints) -> Blocks:
        """Which steps a site's persons are at risk in."""
        cell = np.rint(time * self.scale)
        last = np.full(len(time), -1, dtype=np.int64)
        for s in range(len(self.ends)):
            begin, end = int(self.edges[s]), int(self.edges[s + 1])
            rows = stratum == s
            place = np.searchsorted(self.starts[begin:end], cell[rows], side="right") - 1
            last[rows] = np.where(place < 0, -1, begin + place)
        return Blocks(last, None, self.edges, event)

    def until(self, step: int) -> float:
        """The last time that is surely in the step, in the unit of time."""
        s = int(np.searchsorted(self.edges, step, side="right")) - 1
        end = self.ends[s] if step + 1 == self.edges[s + 1] else self.starts[step + 1] - 1
        return float(end / self.scale)

    def to_arrays(self) -> dict[str, Array]:
        """For a state."""
        names = ("starts", "ends", "edges", "tied", "transformed")
        return {f"grid_{name}": getattr(self, name) for name in names}

    def to_values(self) -> dict[str, Any]:
        """For a state."""
        return {"scale": self.scale, "event_times": self.event_times, "exact": self.exact}

    @staticmethod
    def from_state(state: State, n_strata: int) -> Grid:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        steps = length(state, "grid_starts", MAX_STEPS)
        edges = ints(state, "grid_edges", (n_strata + 1,))
        starts = ints(state, "grid_starts", (steps,))
        values = state.values.get("grid")
        if not isinstance(values, dict) or (
            edges[0] != 0 or edges[-1] != steps or np.any(np.diff(edges) < 0)
        ):
            raise _malformed()
        for a, b in itertools.pairwise(edges):
            if np.any(np.diff(starts[a:b]) <= 0):
                raise _malformed()
        scale, times, exact = (values.get(key) for key in ("scale", "event_times", "exact"))
        if not isinstance(scale, int | float) or not 0 < scale < 1e300:
            raise _malformed()
        if type(times) is not int or not isinstance(exact, bool):
            raise _malformed()
        return Grid(
            starts,
            ints(state, "grid_ends", (n_strata,)),
            edges,
            ints(state, "grid_tied", (steps,)),
            floats(state, "grid_transformed", (steps,)),
            float(scale),
            times,
            exact,
        )


def choose(
    found: Distribution, *, efron: bool, transform: str, min_cell: int, at_risk: int
) -> Grid:
    """The steps, from who leaves when: two columns (censored, event) of each stratum.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    leaving = Leaving.of(found, 2)
    when = _transform(leaving, transform)
    starts, ends, edges, tied, transformed = [], [], [0], [], []
    natural = 0
    for stratum in range(leaving.counts.shape[1]):
        censored, events = leaving.counts[:, stratum, 0], leaving.counts[:, stratum, 1]
        at = np.flatnonzero(events)
        natural += len(at)
        leavers = np.flatnonzero(events + censored)
        ends.append(
            roundest(found.cells[leavers[-1:]], 2 * found.cells[leavers[-1:]] + 2)
            if len(leavers)
            else np.zeros(1, dtype=np.int64)
        )
        if not len(at):
            edges.append(edges[-1])
            continue
        without = np.add.reduceat(censored, at)
        least = max(min_cell, -(-int(events.sum()) // MAX_STEPS) if len(at) > MAX_STEPS else 1)
        first = _merge(events[at], without, least, max(at_risk, least), efron=efron)
        begin = at[first]
        before = np.array(
            [found.cells[leavers[leavers < b]][-1] if np.any(leavers < b) else -1 for b in begin]
        )
        starts.append(roundest(before, found.cells[begin]))
        died = np.add.reduceat(events[at], first)
        tied.append((died > 1).astype(np.int64))
        transformed.append(np.add.reduceat(events[at] * when[at], first) / died)
        edges.append(edges[-1] + len(first))
    steps = int(edges[-1])
    return Grid(
        np.concatenate(starts),
        np.concatenate(ends),
        np.array(edges, dtype=np.int64),
        np.concatenate(tied),
        np.concatenate(transformed),
        found.scale,
        natural,
        found.exact and steps == natural,
    )


def _merge(events: Ints, without: Ints, least: int, at_risk: int, *, efron: bool) -> Ints:
    """Indexes at which steps begin.

    Args:
        events: Persons with the event at each time.
        without: Persons who leave without it from that time to before the next.
    """

    def enough(died: int, left: int) -> bool:
        if died + left < least:
            return False
        return not efron or died == 1 or (died >= least and (left == 0 or left >= least))

    steps: list[tuple[int, int, int]] = []
    begin = died = left = 0
    for at, (e, c) in enumerate(zip(events.tolist(), without.tolist(), strict=True)):
        died, left = died + e, left + c
        if enough(died, left):
            steps.append((begin, died, left))
            begin, died, left = at + 1, 0, 0
    if begin < len(events):
        steps.append((begin, died, left))
    while not enough(*steps[-1][1:]) or sum(steps[-1][1:]) < at_risk:
        if len(steps) == 1:
            raise PolicyRefusal(
                "too-few-persons",
                f"Steps of time in which {least} persons or more leave cannot be made in every "
                'stratum: use baseline="site", or fewer strata.',
            )
        _, died, left = steps.pop()
        steps[-1] = (steps[-1][0], steps[-1][1] + died, steps[-1][2] + left)
    return np.array([step[0] for step in steps], dtype=np.int64)


def _transform(leaving: Leaving, transform: str) -> Floats:
    """Each time as the test of proportionality takes it, of mean 0 and variance 1 over events."""
    events = leaving.events.sum(axis=1)
    persons = leaving.counts.sum(axis=(1, 2))
    if transform == "identity":
        values = leaving.times
    elif transform == "log":
        if np.any(leaving.times[events > 0] <= 0):
            raise InputError("bad-input", "An event at time 0 has no logarithm.")
        values = np.log(np.where(leaving.times > 0, leaving.times, 1.0))
    elif transform == "rank":
        values = np.cumsum(persons) - (persons - 1) / 2.0
    else:
        at_risk = np.cumsum(persons[::-1])[::-1]
        survival = np.cumprod(1.0 - events / at_risk)
        values = 1.0 - np.concatenate([[1.0], survival[:-1]])
    return standardised(values, events)


def standardised(values: Floats, weight: Ints) -> Floats:
    """Of weighted mean 0 and variance 1."""
    mean = np.average(values, weights=weight)
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weight)))
    return np.asarray((values - mean) / (spread if spread > 0 else 1.0))


def _malformed() -> ProtocolError:
    return ProtocolError("malformed-message", "The state's steps of time are not as agreed.")
