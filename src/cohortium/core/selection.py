"""Who is in a computation, and what is computed from their variables, as people write it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from cohortium.core.dictionary import Name
from cohortium.core.model import Document

Criterion = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
"""A SQL boolean expression over a study's variables; see `cohortium.cohort`."""


class Derived(Document):
    """A variable that is computed from others."""

    name: Name
    expression: Criterion


class Selection(Document):
    """Persons who meet every criterion of `include` and none of `exclude`.

    Attributes:
        derived: Variables that the criteria and the computation may use, each from earlier ones.
    """

    include: Annotated[tuple[Criterion, ...], Field(max_length=100)] = ()
    exclude: Annotated[tuple[Criterion, ...], Field(max_length=100)] = ()
    derived: Annotated[tuple[Derived, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [variable.name.lower() for variable in self.derived]
        if len(set(names)) != len(names):
            raise ValueError("two derived variables have the same name")
        return self
