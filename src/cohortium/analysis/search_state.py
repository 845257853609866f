"""How the search for quantiles travels to the sites."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cohortium.analysis.quantiles import BINS, Found, Search, recorded_scale
from cohortium.analysis.untrusted import floats, ints, length
from cohortium.core.dictionary import Variable
from cohortium.core.rounds import Array, State
from cohortium.errors import ProtocolError

MAX_SEARCHES = 16_384

Ints = npt.NDArray[np.int64]


def to_arrays(searches: Sequence[Search], found: Sequence[Found]) -> dict[str, Array]:
    """For a state."""
    return {
        "search": np.array(
            [(q.group, q.variable, q.lower, q.width, q.bins) for q in searches], dtype=np.int64
        ).reshape(len(searches), 5),
        "rank": np.array(
            [(at, rank) for at, q in enumerate(searches) for rank in q.ranks], dtype=np.int64
        ).reshape(-1, 2),
        "found": np.array(
            [(q.group, q.variable, q.rank, q.lower, q.upper) for q in found], dtype=np.int64
        ).reshape(len(found), 5),
        "fraction": np.array([q.fraction for q in found], dtype=np.float64),
    }


def from_state(
    state: State, n_groups: int, n_variables: int
) -> tuple[tuple[Search, ...], tuple[Found, ...]]:
    """Read an untrusted state.

    Raises:
        ProtocolError: ``malformed-message``.
    """
    search = ints(state, "search", (length(state, "search", MAX_SEARCHES), 5))
    rank = ints(state, "rank", (length(state, "rank", 2 * MAX_SEARCHES), 2))
    found = ints(state, "found", (length(state, "found", 2 * MAX_SEARCHES), 5))
    fraction = floats(state, "fraction", (len(found),))
    _check(search, rank, np.array([n_groups, n_variables]))
    ranks: list[list[int]] = [[] for _ in search]
    for at, value in rank.tolist():
        ranks[at].append(value)
    return (
        tuple(
            Search(group, variable, lower, width, bins, tuple(wanted))
            for (group, variable, lower, width, bins), wanted in zip(
                search.tolist(), ranks, strict=True
            )
        ),
        tuple(
            Found(group, variable, position, lower, upper, part)
            for (group, variable, position, lower, upper), part in zip(
                found.tolist(), fraction.tolist(), strict=True
            )
        ),
    )


def check_grid(variable: Variable, scale: float) -> None:
    """A site never counts on a finer grid than the one on which its values are recorded.

    Raises:
        ProtocolError: ``malformed-message``.
    """
    if not 0 < scale <= recorded_scale(variable):
        raise ProtocolError("malformed-message", "The state asks for a finer grid than allowed.")


def _check(search: Ints, rank: Ints, upper: Ints) -> None:
    good = (
        np.all((search[:, :2] >= 0) & (search[:, :2] < upper))
        and np.all(np.abs(search[:, 2]) < 2**53)
        and np.all((search[:, 3] >= 1) & (search[:, 3] < 2**53))
        and np.all((search[:, 4] >= 1) & (search[:, 4] <= BINS))
        and np.all((rank[:, 0] >= 0) & (rank[:, 0] < len(search)))
    )
    if not good:
        raise ProtocolError("malformed-message", "The state names a search that cannot be.")
