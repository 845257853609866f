"""On which cells the values of a variable are counted, so that all sites together say how many.

By Samuelson's inequality every one of n values lies within sqrt(n) standard deviations of their
mean: no minimum or maximum is asked for. Within `core` of the mean there is a count for every cell;
by Chebyshev's inequality at most n / k**2 persons are more than k standard deviations away, and
those are written into a sketch, which is as large as they are many and not as far as they are out.
k is what makes the contribution short; it may be 0 (a sketch of everybody) or all.

A cell is a point of the grid on which the values are recorded; ``2**-20`` standard deviations where
that grid is finer or there is none, and more where the contribution would be too long.

Reference: Samuelson 1968, How deviant can you be?
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cohortium.analysis.quantiles import recorded_scale
from cohortium.analysis.sketch import MAX_KEY_BITS, Sketch
from cohortium.core.dictionary import Variable
from cohortium.errors import ProtocolError

MAX_WORDS = 2**22
"""Components of a contribution for one variable: 32 MiB."""
MAX_ATTEMPTS = 5

_FINEST = 2.0**20
_MOST_CELLS = 2**52
_TINY = 1e-280
_ROUNDING = 16 * np.finfo(np.float64).eps
_CORES = (0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, math.inf)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """Where a variable's values are counted.

    Attributes:
        scale: Cells per unit.
        lower: First cell of the whole interval.
        width: Cells of the whole interval.
        core: First cell of the core.
        core_width: Cells of the core; 0: none.
        outside: Most persons that can be outside the core.
        attempt: How often the sketch was tried before.
    """

    scale: float
    lower: int
    width: int
    core: int
    core_width: int
    outside: int
    attempt: int = 0

    @property
    def in_reach(self) -> bool:
        """Whether a float64 counts the cells exactly."""
        return abs(self.lower) < _MOST_CELLS and self.width < _MOST_CELLS

    def sketch(self, groups: int) -> Sketch | None:
        """The form of the sketch of those outside the core; None where nobody can be."""
        if self.outside == 0:
            return None
        bits = (self.width * groups - 1).bit_length()
        spare = 1.0 + 0.25 * self.attempt
        cells = int(Sketch.cells_for(min(self.outside, self.width * groups)) * spare)
        return Sketch(self.outside, max(bits, 1), cells, self.attempt)

    def words(self, groups: int) -> int:
        """Components of a contribution."""
        sketch = self.sketch(groups)
        return groups * self.core_width + (0 if sketch is None else math.prod(sketch.shape))

    def places(self, values: Floats) -> Ints:
        """Each value's cell, counted from `lower`; what rounding puts outside is at the end."""
        at = np.rint(values * self.scale) - self.lower
        return np.asarray(np.clip(at, 0, self.width - 1), dtype=np.int64)

    def again(self) -> Cells:
        """For the next attempt."""
        return replace(self, attempt=self.attempt + 1)

    def check(self, variable: Variable, groups: int, n: int) -> None:
        """At a site: whether this is what an honest hub can ask for.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        good = (
            0 < self.scale <= recorded_scale(variable)
            and self.in_reach
            and self.width >= 1
            and (self.width * groups).bit_length() <= MAX_KEY_BITS
            and 0 <= self.core - self.lower <= self.width - self.core_width
            and self.core_width >= 0
            and 0 <= self.outside <= n
            and 0 <= self.attempt < MAX_ATTEMPTS
            and self.words(groups) <= 2 * MAX_WORDS
        )
        if not good:
            raise ProtocolError("malformed-message", "The state asks for cells that cannot be.")


def choose(variable: Variable, n: int, total: float, squares: float, groups: int) -> Cells:
    """The cells for n persons with this sum of values and of squared values, in so many groups."""
    mean, squares = total / n, max(squares, 0.0)
    # The sum of squares has lost digits where the mean is far from 0: allow for them.
    spread = math.sqrt(max(squares / n - mean**2, 0.0) + _ROUNDING * squares / n)
    scale = recorded_scale(variable)
    finest = 2.0 ** math.floor(math.log2(_FINEST / max(spread, _TINY))) if spread > 0 else 1.0
    scale = min(scale, finest)
    while True:
        found = min(
            (_around(mean, spread, scale, n, core) for core in _CORES),
            key=lambda cells: cells.words(groups),
        )
        if found.words(groups) <= MAX_WORDS and found.in_reach:
            return found
        scale = 2.0 ** (math.ceil(math.log2(scale)) - 1)


def _around(mean: float, spread: float, scale: float, n: int, core: float) -> Cells:
    reach = math.sqrt(n) * spread
    lower, upper = _ends(mean, reach, scale)
    if core == math.inf or core * spread >= reach:
        return Cells(scale, lower, upper - lower + 1, lower, upper - lower + 1, 0)
    if core == 0.0:
        return Cells(scale, lower, upper - lower + 1, lower, 0, n)
    first, last = _ends(mean, core * spread, scale)
    first, last = max(first, lower), min(last, upper)
    outside = min(n, math.floor(n / core**2))
    return Cells(scale, lower, upper - lower + 1, first, last - first + 1, outside)


def _ends(mean: float, reach: float, scale: float) -> tuple[int, int]:
    slack = 1 + abs(mean) * scale * 1e-15
    return math.floor((mean - reach) * scale - slack), math.ceil((mean + reach) * scale + slack)
