"""Differential privacy by contract: the terms that are signed, and the budget that they set."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cohortium.core.model import Document
from cohortium.disclosure.budget import epsilon, noise_multiplier
from cohortium.errors import InputError, PolicyRefusal

Unit = Literal["institution", "person"]


class Noise(Document):
    """Noise in every sum of a computation, and the privacy budget over all of them.

    Each site adds its share before it masks, so that nobody ever sees a sum without noise. The sums
    of the computation under this contract, and whatever is made of them, are (epsilon,
    delta)-differentially private for the unit. What is not a sum is not covered: that a run took
    place, who took part, and that a site refused.

    Attributes:
        unit: What the sums hardly show. ``institution``: whether a site's whole contribution is in
            them, or zeros in its place; each site cuts its contribution down to `clip`.
            ``person``: whether one person's records are; only for a computation that bounds what a
            person adds to its sums.
        epsilon: Of all sums together.
        delta: Of all sums together.
        sums: How many sums the budget is to pay for; a run takes as many as it has rounds.
        clip: Largest L2 norm, over all fields of a contribution, of what a unit adds.
        colluders: Sites that may tell the hub everything they know, or leave out their noise, while
            the noise of the others still suffices.
        multiplier: Standard deviation of the noise in a sum, divided by `clip`. A proposal may
            leave it out: it is then the least that pays for `sums`.
    """

    unit: Unit
    epsilon: Annotated[float, Field(gt=0, le=100)]
    delta: Annotated[float, Field(gt=0, le=0.01)]
    sums: Annotated[int, Field(ge=1, le=1_000_000)]
    clip: Annotated[float, Field(ge=1e-9, le=1e8)]
    colluders: Annotated[int, Field(ge=0, le=10_000)] = 1
    multiplier: Annotated[float, Field(ge=0.01, le=1e6)] | None = None

    def resolved(self) -> Noise:
        """With its multiplier.

        Raises:
            InputError: ``missing-extra``; ``bad-input`` where `sums` cannot be paid for.
        """
        multiplier = self.multiplier
        if multiplier is None:
            multiplier = noise_multiplier(self.epsilon, self.delta, self.sums)
        cost = epsilon(multiplier, self.sums, self.delta)
        if cost > self.epsilon:
            raise InputError(
                "bad-input",
                f"{self.sums} sums with noise multiplier {multiplier:g} cost epsilon {cost:.4g}, "
                f"more than {self.epsilon:g}; leave the multiplier out, or raise it.",
            )
        return self.model_copy(update={"multiplier": multiplier})

    def spent(self, sums: int) -> float:
        """The epsilon that so many sums have cost, at this delta.

        Raises:
            InputError: ``missing-extra``.
        """
        return epsilon(self.z, sums, self.delta)

    def require_left(self, used: int) -> None:
        """Refuse the sum after `used` others where the budget does not pay for it.

        Raises:
            PolicyRefusal: ``privacy-budget``.
            InputError: ``missing-extra``.
        """
        if self.spent(used + 1) > self.epsilon:
            raise PolicyRefusal(
                "privacy-budget",
                f"The privacy budget of this computation (epsilon {self.epsilon:g} at delta "
                f"{self.delta:g}) is used up at this site by {used} sums. More results need a new "
                "contract.",
                sums=used,
            )

    @property
    def z(self) -> float:
        """The multiplier, which a contract has."""
        if self.multiplier is None:
            raise RuntimeError("the noise of a contract has its multiplier")
        return self.multiplier


__all__ = ["Noise", "Unit"]
