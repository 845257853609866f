"""Results of regression models beside `glm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cohortium.core.dictionary import Variable
from cohortium.sdk.glm import GlmResult
from cohortium.sdk.run_info import RunInfo


class NegativeBinomialResult(GlmResult):
    """A negative binomial model over sites: as `GlmResult`, and the dispersion.

    Attributes:
        alpha: The variance is ``mean + alpha mean²``; R's ``theta`` is 1 / alpha.
        alpha_bse: Its standard error.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.alpha = float(data["alpha"])
        self.alpha_bse = float(data["alpha_bse"])

    def _facts(self) -> list[tuple[str, str]]:
        dispersion = ("Alpha (SE):", f"{self.alpha:.4g} ({self.alpha_bse:.3g})")
        facts = [fact for fact in super()._facts() if fact[0]]
        facts.append(dispersion)
        return [*facts, ("", "")] if len(facts) % 2 else facts
