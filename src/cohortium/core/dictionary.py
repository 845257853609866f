"""The data dictionary: what a dataset's variables are, never what their values are."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from cohortium.core.model import Document

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
"""A variable or dataset name that R formulas and SQL accept unquoted."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

Label = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
"""A line of text for people: an institution's name, a level, a unit."""


class VariableType(StrEnum):
    """The types that a variable may have."""

    INTEGER = "integer"
    REAL = "real"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    DATE = "date"
    DATETIME = "datetime"
    TEXT = "text"


NUMERIC = frozenset({VariableType.INTEGER, VariableType.REAL, VariableType.BOOLEAN})


class Variable(Document):
    """One variable.

    Attributes:
        levels: The declared values of a category, in order; the first is the reference level.
        decimals: Digits after the point to which a real is recorded; None where it is continuous.
            Quantiles are found to this resolution and no finer.
        missing: Persons without a value, where the site's steward publishes it.
        source: The column's name in the source, where it differs from `name`.
    """

    name: Name
    type: VariableType
    unit: Label | None = None
    levels: tuple[Label, ...] | None = None
    decimals: Annotated[int, Field(ge=0, le=12)] | None = None
    missing: Annotated[int, Field(ge=0)] | None = None
    description: Annotated[str, StringConstraints(max_length=1000)] | None = None
    source: Annotated[str, StringConstraints(max_length=200)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.type is VariableType.CATEGORY) != (self.levels is not None):
            raise ValueError("a category, and only a category, declares its levels")
        if self.levels is not None and len(set(self.levels)) != len(self.levels):
            raise ValueError("a level is declared twice")
        if self.levels is not None and not 1 <= len(self.levels) <= 1000:
            raise ValueError("a category has 1 to 1000 levels; declare it as text instead")
        if self.decimals is not None and self.type is not VariableType.REAL:
            raise ValueError("only a real has decimals")
        return self


class Dictionary(Document):
    """The variables of a dataset, in column order."""

    variables: Annotated[tuple[Variable, ...], Field(min_length=1, max_length=5000)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [variable.name for variable in self.variables]
        if len({name.lower() for name in names}) != len(names):
            raise ValueError(
                "two variables have the same name (upper and lower case do not differ)"
            )
        return self

    @property
    def by_name(self) -> dict[str, Variable]:
        """Variables by name."""
        return {variable.name: variable for variable in self.variables}
