"""Faults of a document are said in our words, without its values."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import AwareDatetime, Field, ValidationError, field_validator

from cohortium.core.dictionary import Digest, Label, Name
from cohortium.core.model import Document, explain


class Inner(Document):
    """A part."""

    size: Annotated[int, Field(ge=2, le=9)] = 2


class Made(Document):
    """One field of each kind."""

    name: Name = "a"
    label: Label = "a"
    hashed: Digest | None = None
    how: Literal["one", "two"] = "one"
    only: Literal["this"] = "this"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    flag: bool = True
    many: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = ("a",)
    when: AwareDatetime | None = None
    day: date | None = None
    inner: Inner = Inner()
    limits: dict[str, int] | None = None
    odd: int = 1

    @field_validator("odd")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("an even number, which it may not be")
        return value


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "1 x", "name: must be a name: a letter, then letters, digits and _, at most 64"),
        ("name", 5, "name: must be a text"),
        ("label", "", "label: must have at least 1 characters"),
        ("label", "x" * 201, "label: must have at most 200 characters"),
        ("label", "a\nb", "label: must be a line of text without control characters"),
        ("hashed", "x", "hashed: must be sha256: and 64 hexadecimal digits"),
        ("how", "three", "how: must be one of one, two"),
        ("only", "that", "only: must be this"),
        ("share", 0, "share: must be more than 0"),
        ("share", 1, "share: must be less than 1"),
        ("share", "half", "share: must be a number"),
        ("share", float("inf"), "share: must be a finite number"),
        ("flag", "perhaps", "flag: must be true or false"),
        ("many", (), "many: must have at least 1 entries"),
        ("many", ("a", "b", "c"), "many: must have at most 2 entries"),
        ("many", 5, "many: must be a list"),
        ("when", "2026-05-01T12:00:00", "when: the time has no zone; end it with Z or +02:00"),
        ("when", "soon", "when: must be a date and time with its zone"),
        ("day", "2026-13-01", "day: must be a date"),
        ("inner", {"size": 1}, "inner.size: must be at least 2"),
        ("inner", {"size": 10}, "inner.size: must be at most 9"),
        ("inner", {"size": 2.5}, "inner.size: must be a whole number"),
        ("inner", 5, "inner: must be a mapping of fields"),
        ("limits", 5, "limits: must be a mapping of names to values"),
        ("odd", 2, "odd: an even number, which it may not be"),
        ("colour", "red", "colour: there is no such field"),
    ],
)
def test_a_fault_names_the_field_and_what_is_allowed(field: str, value: Any, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Made.model_validate({field: value})
    found = explain(caught.value)
    assert found.startswith(says)
    for word in ("Input should", "String should", "Value error", "pydantic"):
        assert word not in found


def test_a_field_that_is_missing_must_be_given() -> None:
    class Needs(Document):
        """One field."""

        x: int

    with pytest.raises(ValidationError) as caught:
        Needs.model_validate({})
    assert explain(caught.value) == "x: must be given"
