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

import hashlib
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.cox_risk import Blocks
from cohortium.analysis.distribution import Distribution
from cohortium.analysis.rank_bins import roundest
from cohortium.analysis.survival_curve import points_of
from cohortium.analysis.survival_times import Leaving
from cohortium.analysis.untrusted import floats, ints, length
from cohortium.core.rounds import Array, State
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_STEPS = 20_000
_MAX_WORDS = 2**20
"""Components of a contribution, of the leaving and of the dying: 32 MiB each."""
MAX_POINTS = 1_000_000


@dataclass(frozen=True)
class Grid:
    """Steps of each stratum, ascending; axis K, stratum by stratum.

    Attributes:
        starts: (K,); the first cell of a step. Who leaves before the first is in no risk set.
        edges: (strata + 1,); the steps of stratum s are ``edges[s]`` to ``edges[s + 1]``.
        tied: (K,); whether several persons have the event.
        transformed: (K,); time as the test of proportionality takes it, of mean 0 and variance 1.
        points: (P, 2); stratum and step after which the cumulative hazard may be released; a step
            before the stratum's own: it is 0.
        point_times: (P,); when that is.
        scale: Cells per unit.
        event_times: Distinct ones, over all strata.
        exact: Whether the steps are the event times as they are recorded.
    """

    starts: Ints
    edges: Ints
    tied: Ints
    transformed: Floats
    points: Ints
    point_times: Floats
    scale: float
    event_times: int
    exact: bool

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def digest(self) -> str:
        """Of what says who is in which step."""
        sha = hashlib.sha256(repr(self.scale).encode())
        sha.update(self.starts.tobytes() + self.edges.tobytes())
        return sha.hexdigest()

    @property
    def n_tied(self) -> int:
        """Steps at which several persons have the event."""
        return int(np.count_nonzero(self.tied == 1))

    def blocks(self, time: Floats, event: Bools, stratum: Ints) -> Blocks:
        """Which steps a site's persons are at risk in."""
        cell = np.rint(time * self.scale)
        last = np.full(len(time), -1, dtype=np.int64)
        for s in range(len(self.edges) - 1):
            begin, end = int(self.edges[s]), int(self.edges[s + 1])
            rows = stratum == s
            place = np.searchsorted(self.starts[begin:end], cell[rows], side="right") - 1
            last[rows] = np.where(place < 0, -1, begin + place)
        return Blocks(last, None, self.edges, event)

    def require_honest(self, persons: int, min_cell: int) -> None:
        """At a site: whether so many persons can be enough in every step.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        if len(self) * min_cell > persons:
            raise ProtocolError(
                "malformed-message", "The state asks for steps of too few persons each."
            )

    def to_arrays(self) -> dict[str, Array]:
        """For a state."""
        names = ("starts", "edges", "tied", "transformed", "points", "point_times")
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
        points = ints(state, "grid_points", (length(state, "grid_points", MAX_POINTS), 2))
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
            edges,
            ints(state, "grid_tied", (steps,)),
            floats(state, "grid_transformed", (steps,)),
            points,
            floats(state, "grid_point_times", (len(points),)),
            float(scale),
            times,
            exact,
        )


def max_steps(p: int) -> int:
    """With so many columns; beyond, times are taken together whatever their persons."""
    return min(MAX_STEPS, _MAX_WORDS // (1 + p + p * (p + 1) // 2))


def choose(
    found: Distribution, limits: Disclosure, *, efron: bool, transform: str, most: int = MAX_STEPS
) -> Grid:
    """The steps, from who leaves when: two columns (censored, event) of each stratum.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    leaving = Leaving.of(found, 2)
    when = _transform(leaving, transform)
    natural = int(np.count_nonzero(leaving.events))
    least = limits.min_cell
    if natural > most:
        least = max(least, -(-int(leaving.counts.sum()) // most))
    strata = [
        _Steps.of(found.cells, one, when, least, max(limits.at_risk, least), efron=efron)
        for one in np.moveaxis(leaving.counts, 1, 0)
    ]
    edges = np.cumsum([0, *(len(one.starts) for one in strata)])
    points, times = [], []
    for s, steps in enumerate(strata):
        there = leaving.group(s)
        found_points = points_of(there, limits)
        step = steps.complete(there.times[found_points.last] * found.scale)
        points += [(s, int(edges[s]) + at) for at in step[step > -2].tolist()]
        times.append(found_points.time[step > -2])
    return Grid(
        np.concatenate([one.starts for one in strata]),
        edges.astype(np.int64),
        np.concatenate([one.tied for one in strata]),
        np.concatenate([one.transformed for one in strata]),
        np.array(points, dtype=np.int64).reshape(-1, 2),
        np.concatenate(times),
        found.scale,
        natural,
        bool(found.exact and edges[-1] == natural),
    )


@dataclass(frozen=True)
class _Steps:
    """Those of one stratum.

    Attributes:
        starts, tied, transformed: See `Grid`.
        begin, end: The cells of a step's first and last event.
    """

    starts: Ints
    tied: Ints
    transformed: Floats
    begin: Ints
    end: Ints

    @staticmethod
    def of(
        cells: Ints, counts: Ints, when: Floats, least: int, at_risk: int, *, efron: bool
    ) -> _Steps:
        """From the stratum's persons by cell and way to leave."""
        censored, events = counts.T
        at = np.flatnonzero(events)
        if not len(at):
            none = np.zeros(0, dtype=np.int64)
            return _Steps(none, none, np.zeros(0), none, none)
        first = _merge(events[at], np.add.reduceat(censored, at), least, at_risk, efron=efron)
        begin, end = cells[at[first]], cells[at[np.append(first[1:], len(at)) - 1]]
        leavers = cells[events + censored > 0]
        before = np.append(-1, leavers)[np.searchsorted(leavers, begin)]
        died = np.add.reduceat(events[at], first)
        return _Steps(
            roundest(before, begin),
            (died > 1).astype(np.int64),
            np.add.reduceat(events[at] * when[at], first) / died,
            begin,
            end,
        )

    def complete(self, cells: Floats) -> Ints:
        """The step that is over at a cell; -1 before the first, -2 in the middle of one."""
        step = np.searchsorted(self.end, cells + 0.5) - 1
        within = np.searchsorted(self.begin, cells + 0.5) - 1
        return np.where(step == within, step, -2)


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
