"""What a run remembers of its finished steps, so that it continues where it was killed.

Only sums are journaled: bytes that the contract releases to the hub anyway. ``finish`` is pure, so
replaying it over the recorded sums gives the same states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from cohortium.core.rounds import Array, FieldKind, Layout, Total
from cohortium.errors import IntegrityFailure

_DTYPES: Mapping[FieldKind, np.dtype[Any]] = {
    "count": np.dtype("<i8"),
    "real": np.dtype("<f8"),
    "vector": np.dtype("<f4"),
}


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
    """The sum as bytes: fields in name order, little-endian.

    A count is int64, a real float64, a vector float32.

    The layout is not written: both sides derive it from the state.
    """
    if set(total) != set(layout):
        raise IntegrityFailure("internal", "The sum does not have the fields of its layout.")
    parts = []
    for name in sorted(layout):
        field = np.asarray(total[name], dtype=_DTYPES[layout[name].kind], order="C")
        if field.shape != layout[name].shape:
            raise IntegrityFailure("internal", f"The sum's field {name!r} has the wrong shape.")
        parts.append(field.tobytes())
    return b"".join(parts)


def total_from_bytes(data: bytes | memoryview, layout: Layout) -> Total:
    """The inverse of `total_to_bytes`; the arrays are read-only views of `data`.

    Raises:
        IntegrityFailure: ``broken-store`` where the length does not fit the layout.
    """
    if len(data) != sum(spec.size * _DTYPES[spec.kind].itemsize for spec in layout.values()):
        raise IntegrityFailure("broken-store", "A recorded sum does not fit its round.")
    total: dict[str, Array] = {}
    at = 0
    for name in sorted(layout):
        spec = layout[name]
        flat = np.frombuffer(data, dtype=_DTYPES[spec.kind], count=spec.size, offset=at)
        total[name] = flat.reshape(spec.shape).astype(flat.dtype.newbyteorder("="), copy=False)
        at += flat.nbytes
    return total
