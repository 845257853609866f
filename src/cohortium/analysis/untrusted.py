"""Reading a state that another process sent."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from cohortium.core.rounds import Array, State
from cohortium.errors import ProtocolError

MOST_STEPS = 1000


def phase_of(state: State, phases: Collection[str]) -> str:
    """The state's phase, one of `phases`, or ProtocolError ``malformed-message``."""
    phase = state.values.get("phase")
    if not isinstance(phase, str) or phase not in phases:
        raise ProtocolError("malformed-message", "The state of the round has no known phase.")
    return phase


def floats(state: State, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """A float64 array of that shape, or ProtocolError ``malformed-message``."""
    return np.asarray(_array(state, name, shape, np.float64), dtype=np.float64)


def ints(state: State, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """An int64 array of that shape, or ProtocolError ``malformed-message``."""
    return np.asarray(_array(state, name, shape, np.int64), dtype=np.int64)


def finite(state: State, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """As `floats`, and none of them infinite or no number."""
    array = floats(state, name, shape)
    if not np.all(np.isfinite(array)):
        raise ProtocolError("malformed-message", f"The state's array {name!r} is not finite.")
    return array


def steps(state: State, count: int) -> list[int]:
    """How often a search took each kind of step, or ProtocolError ``malformed-message``."""
    taken = state.values.get("steps")
    if (
        not isinstance(taken, list)
        or len(taken) != count
        or not all(type(value) is int and 0 <= value < MOST_STEPS for value in taken)
    ):
        raise ProtocolError("malformed-message", "The state of the round has no count of steps.")
    return taken


def length(state: State, name: str, limit: int) -> int:
    """How many rows an array has, at most `limit`, or ProtocolError ``malformed-message``."""
    array = state.arrays.get(name)
    if array is None or array.ndim < 1 or array.shape[0] > limit:
        raise ProtocolError("malformed-message", f"The state's array {name!r} is missing or long.")
    return int(array.shape[0])


def _array(state: State, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    array = state.arrays.get(name)
    if array is None or array.shape != shape or array.dtype != dtype:
        raise ProtocolError(
            "malformed-message", f"The state's array {name!r} is missing or not as agreed."
        )
    return array
