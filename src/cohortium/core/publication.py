"""The content of the link's ``PublishDataset``: a confirmed dictionary, or its removal."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from cohortium.core.dictionary import Name
from cohortium.core.directory import PublishedDataset
from cohortium.core.model import Document


class Publication(Document):
    """Either a dataset as it is now, or the name of one that is no longer offered."""

    dataset: PublishedDataset | None = None
    removed: Name | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.dataset is None) == (self.removed is None):
            raise ValueError("either a dataset or the name of a removed one")
        return self
