"""The limits on what may come out; the stricter of contract and site policy wins."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cohortium.core.model import Document


class Disclosure(Document):
    """The contract's (or a site policy's) limits on what may come out.

    Attributes:
        min_cell: Smallest number of persons that a released number may rest on.
        floor: ``site``: a site with fewer than `min_cell` persons of its own in a cohort or group
            contributes zeros to it. ``total``: every site contributes and the floor is on the
            total, which is checked before anything but the count is asked for.
    """

    min_cell: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    floor: Literal["site", "total"] = "site"

    def stricter(self, other: Disclosure) -> Disclosure:
        """The limits that satisfy both."""
        return Disclosure(
            min_cell=max(self.min_cell, other.min_cell),
            floor="site" if "site" in {self.floor, other.floor} else "total",
        )
