"""The base of every document that is signed, stored or sent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from cohortium.core.canonical import canonical, digest_bytes, parse_json
from cohortium.core.faults import said
from cohortium.errors import ProtocolError


def explain(error: ValidationError) -> str:
    """The first few faults of a document, without its values: each field, and what it may be."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'document'}: {said(fault)}"
        for fault in error.errors(include_url=False, include_input=False)[:5]
    ]
    return "; ".join(faults)


class Document(BaseModel):
    """A frozen pydantic model with a canonical form and a digest; unknown fields are refused."""

    # "constants": a NaN in a field of any type reaches `canonical`, which refuses it; not null.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    def to_json(self) -> dict[str, Any]:
        """JSON values; fields that are None are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_bytes(self) -> bytes:
        """RFC 8785 bytes."""
        return canonical(self.to_json())

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` over the canonical bytes."""
        return digest_bytes(self.to_bytes())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """See `pydantic.BaseModel.model_copy`; the copy has a digest of its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("digest", None)
        return copied

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse untrusted bytes.

        Raises:
            ProtocolError: ``malformed-message``; never anything else.
        """
        return cls.from_json(parse_json(data))

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Check untrusted JSON values against this model.

        Raises:
            ProtocolError: ``malformed-message``; never anything else.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ProtocolError(
                "malformed-message", f"Not a valid {cls.__name__}: {explain(error)}"
            ) from error
        except RecursionError as error:
            raise ProtocolError(
                "malformed-message", f"Not a valid {cls.__name__}: too deep"
            ) from error
