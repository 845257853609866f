"""What a round carries: the state to the sites, the layout and values of their contributions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cohortium.core.canonical import canonical

Array = npt.NDArray[Any]
Total = Mapping[str, Array]
"""The decoded sum by field name: int64 for counts, float64 for reals, float32 for vectors."""

FieldKind = Literal["count", "real", "vector"]
"""count: exact integers in Z_2^64. real: float64, exact in Z_2^256 fixed point (ADR 0004).
vector: float32-grade values in Z_2^32 with stochastic rounding, for model updates (ADR 0012)."""


@dataclass(frozen=True)
class FieldSpec:
    """One named array of a contribution.

    Attributes:
        bound: The largest absolute value of a site's component, for the kind "vector" only: the
            smaller it is, the finer the sum. From 2^-64 to 2^64.
    """

    shape: tuple[int, ...]
    kind: FieldKind
    bound: float = 64.0

    def __post_init__(self) -> None:
        if not 2.0**-64 <= self.bound <= 2.0**64:
            raise RuntimeError(f"the bound of a field must be from 2^-64 to 2^64, not {self.bound}")

    @property
    def size(self) -> int:
        """Components."""
        return int(np.prod(self.shape, dtype=np.int64))


Layout = Mapping[str, FieldSpec]
Contribution = Mapping[str, Array]


@dataclass(frozen=True)
class State:
    """What the hub sends to every site before a round.

    Attributes:
        values: JSON values.
        arrays: Numeric arrays (model parameters); names do not clash with `values`.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)

    def values_bytes(self) -> bytes:
        """The canonical JSON of `values`."""
        return canonical(dict(self.values))

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of values and arrays; hub and sites bind a round's masks to it."""
        names = sorted(self.arrays)
        head = canonical(
            {
                "values": dict(self.values),
                "arrays": [
                    [name, self.arrays[name].dtype.str, list(self.arrays[name].shape)]
                    for name in names
                ],
            }
        )
        sha = hashlib.sha256(len(head).to_bytes(8, "big") + head)
        for name in names:
            sha.update(np.ascontiguousarray(self.arrays[name]).reshape(-1).view(np.uint8).data)
        return "sha256:" + sha.hexdigest()
