"""The consortium's directory: which institution has which confirmed datasets, never values."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from cohortium.core.dictionary import Dictionary, Digest, Label, Name
from cohortium.core.model import Document


class PublishedDataset(Document):
    """What leaves a site when its steward has confirmed a dataset's dictionary.

    Attributes:
        content_digest: Digest of the dataset's content at the site.
    """

    name: Name
    content_digest: Digest
    dictionary: Dictionary


class DirectoryEntry(Document):
    """An institution as the others see it.

    Attributes:
        key: The institution's Ed25519 contract key.
    """

    name: Label
    key: Annotated[str, StringConstraints(pattern=r"^ed25519:[A-Za-z0-9_-]{43}$")]
    datasets: Annotated[tuple[PublishedDataset, ...], Field(max_length=10_000)] = ()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [dataset.name for dataset in self.datasets]
        if len(set(names)) != len(names):
            raise ValueError("two datasets have the same name")
        return self

    def dataset(self, name: str) -> PublishedDataset | None:
        """The dataset of that name."""
        return next((dataset for dataset in self.datasets if dataset.name == name), None)
