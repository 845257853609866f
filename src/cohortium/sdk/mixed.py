"""Linear mixed models: the method of a study."""

from __future__ import annotations

from typing import Literal

from cohortium.sdk.mixed_results import MixedResult
from cohortium.sdk.submission import Submits, as_type


class MixedMethods(Submits):
    """Linear mixed models."""

    def mixed(self, formula: str, *, method: Literal["REML", "ML"] = "REML") -> MixedResult:
        """A linear model with a random intercept for each institution.

        The contract must let numbers of single institutions be released, of which there are three
        or more.

        Args:
            formula: As ``pressure ~ age + sex``; variables as they are.
            method: Restricted or full maximum likelihood; models with other terms are compared by
                ``ML``.

        Raises:
            InputError: The formula is not understood, a column follows from others.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {"formula": formula, "method": method}
        return as_type(MixedResult, self.submit("models.mixed", params).result())
