"""Who is in a computation, and what is computed from their variables, as people write it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from cohortium.core.dictionary import Label, Name
from cohortium.core.model import Document

Criterion = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
"""A SQL boolean expression over a study's variables; see `cohortium.cohort`."""


class Derived(Document):
    """A variable that is computed from others."""

    name: Name
    expression: Criterion


class Filled(Document):
    """What stands for the values that a variable lacks.

    Attributes:
        value: Of a number, at its resolution; a level of a category; true or false.
    """

    variable: Name
    value: bool | float | Label


class Selection(Document):
    """Persons who meet every criterion of `include` and none of `exclude`.

    Attributes:
        derived: Variables that the criteria and the computation may use, each from earlier ones.
        filled: What is computed with where a variable has no value; criteria and derived variables
            read what the data have. Absent: nothing.
    """

    include: Annotated[tuple[Criterion, ...], Field(max_length=100)] = ()
    exclude: Annotated[tuple[Criterion, ...], Field(max_length=100)] = ()
    derived: Annotated[tuple[Derived, ...], Field(max_length=100)] = ()
    filled: Annotated[tuple[Filled, ...], Field(min_length=1, max_length=8)] | None = None

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [variable.name.lower() for variable in self.derived]
        if len(set(names)) != len(names):
            raise ValueError("two derived variables have the same name")
        filled = [one.variable for one in self.filled or ()]
        if len(set(filled)) != len(filled):
            raise ValueError("a variable is filled twice")
        return self
