"""What curves over time have in common: values between released points, columns of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cohortium.sdk.hypothesis import as_number
from cohortium.sdk.language import Language
from cohortium.sdk.publication import limits_text, shown


@dataclass(frozen=True)
class ReleasedAt:
    """A curve at a time that was asked for; None where the curve ends before.

    Attributes:
        least, most: The pooled estimate is not outside these; they are equal where it is exact.
        low, high: Confidence limits; of the points around it where it is not exact.
    """

    time: float
    std_error: float | None
    low: float | None
    high: float | None
    least: float | None
    most: float | None

    @property
    def value(self) -> float | None:
        """Exact, or on the line between the released points around it."""
        raise NotImplementedError

    @property
    def exact(self) -> bool:
        """Whether the value is the pooled estimate itself."""
        return self.value is not None and self.least == self.most

    def text(self, lang: Language) -> str | None:
        """The value, with its bounds where it is not exact."""
        if self.value is None or self.exact:
            return shown(self.value)
        return f"{shown(self.value)} [{limits_text(self.least or 0.0, self.most or 0.0, lang)}]"


def floats(one: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as floats; whole ones travel as integers."""
    return {name: as_number(value) for name, value in one.items()}


def require_even(columns: Sequence[Sequence[Any]]) -> None:
    """Refuse columns of different lengths.

    Raises:
        ValueError: Of a result that is none.
    """
    if len({len(column) for column in columns}) != 1:
        raise ValueError("the columns of a curve are of different lengths")
