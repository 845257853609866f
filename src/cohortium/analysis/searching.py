"""What every search for coefficients by Newton steps over rounds knows between them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Searching:
    """The totals and coefficients so far; p columns.

    Attributes:
        phase: One of the analysis's.
        counts: int64; complete persons, persons left out, sites that contribute, and more.
        centre: (p,); what is subtracted from each column.
        spread: (p,); by what it is divided.
        beta: Coefficients.
        previous: Those of the step before.
        scalars: Numbers of the analysis's own.
        step: Newton steps.
        halvings: Half steps taken back.
    """

    phase: str
    counts: Ints
    centre: Floats
    spread: Floats
    beta: Floats
    previous: Floats
    scalars: Floats
    step: int = 0
    halvings: int = 0

    @property
    def n(self) -> int:
        """Persons in the model."""
        return int(self.counts[0])

    def but(self, **changes: Any) -> Self:
        """With some values replaced."""
        return replace(self, **changes)

    def scalar(self, at: int, value: float) -> Self:
        """With one of the scalars replaced."""
        scalars = self.scalars.copy()
        scalars[at] = value
        return replace(self, scalars=scalars)
