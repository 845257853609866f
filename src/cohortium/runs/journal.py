"""What a run remembers of its finished steps, so that it continues where it was killed.

Only sums are journaled: bytes that the contract releases to the hub anyway. ``finish`` is pure, so
replaying it over the recorded sums gives the same states.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from cohortium.core.rounds import Array, Layout, Total
from cohortium.errors import IntegrityFailure


class Journal(Protocol):
    """A durable record of steps; an adapter states its durability."""

    def step(self, name: str, compute: Callable[[], bytes]) -> bytes:
        """The recorded bytes of step `name`, or those of `compute`, recorded before they return.

        A step that was interrupted runs again: `compute` must be idempotent. What it raises is
        raised here and nothing is recorded.
        """
        ...


class MemoryJournal:
    """Remembers as long as the process lives."""

    def __init__(self) -> None:
        self._steps: dict[str, bytes] = {}

    def step(self, name: str, compute: Callable[[], bytes]) -> bytes:
        """See `Journal.step`."""
        if name not in self._steps:
            self._steps[name] = compute()
        return self._steps[name]


def total_to_bytes(total: Total, layout: Layout) -> bytes:
    """The sum as bytes: fields in name order, little-endian int64 (count) or float64.

    The layout is not written: both sides derive it from the state.
    """
    if set(total) != set(layout):
        raise IntegrityFailure("internal", "The sum does not have the fields of its layout.")
    parts = []
    for name in sorted(layout):
        field = np.asarray(total[name], dtype=_dtype(layout[name].kind), order="C")
        if field.shape != layout[name].shape:
            raise IntegrityFailure("internal", f"The sum's field {name!r} has the wrong shape.")
        parts.append(field.tobytes())
    return b"".join(parts)


def total_from_bytes(data: bytes, layout: Layout) -> Total:
    """The inverse of `total_to_bytes`.

    Raises:
        IntegrityFailure: ``broken-store`` where the length does not fit the layout.
    """
    if len(data) != 8 * sum(math.prod(spec.shape) for spec in layout.values()):
        raise IntegrityFailure("broken-store", "A recorded sum does not fit its round.")
    total: dict[str, Array] = {}
    at = 0
    for name in sorted(layout):
        spec = layout[name]
        flat = np.frombuffer(data, dtype=_dtype(spec.kind), count=spec.size, offset=at)
        total[name] = flat.reshape(spec.shape).astype(flat.dtype.newbyteorder("="))
        at += flat.nbytes
    return total


def _dtype(kind: str) -> str:
    return "<i8" if kind == "count" else "<f8"
