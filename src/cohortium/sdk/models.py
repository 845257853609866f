"""Regression models beside `glm`: the methods of a study."""

from __future__ import annotations

from cohortium.sdk.model_results import NegativeBinomialResult
from cohortium.sdk.submission import Submits, as_type


class ModelMethods(Submits):
    """Regression models."""

    def negative_binomial(
        self, formula: str, *, offset: str | None = None
    ) -> NegativeBinomialResult:
        """Counts that vary more than a Poisson model says, fitted on the pooled data.

        Args:
            formula: An R formula over the study's variables: ``falls ~ age * sex``.
            offset: A number that is added to the log of the mean, such as the log of a time.

        Raises:
            InputError: ``bad-formula``, ``no-convergence``.
            PolicyRefusal: Not permitted, too few persons or too many parameters.
        """
        params = {"formula": formula, "offset": offset}
        run = self.submit("models.negative_binomial", params)
        return as_type(NegativeBinomialResult, run.result())
