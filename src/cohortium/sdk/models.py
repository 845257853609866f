"""Regression models beside `glm`: the methods of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cohortium.sdk.category_results import MultinomialResult, OrdinalResult
from cohortium.sdk.model_results import NegativeBinomialResult
from cohortium.sdk.submission import Submits, as_type


class ModelMethods(Submits):
    """Regression models."""

    def negative_binomial(
        self,
        formula: str,
        *,
        offset: str | None = None,
        weights: str | None = None,
        errors: Literal["model", "HC0", "HC1", "site"] = "model",
    ) -> NegativeBinomialResult:
        """Counts that vary more than a Poisson model says, fitted on the pooled data.

        Args:
            formula: An R formula over the study's variables: ``falls ~ age * sex``.
            offset: A number that is added to the log of the mean, such as the log of a time.
            weights: A whole number from 1: how many times each person counts.
            errors: Standard errors of the model, robust ones (HC0, HC1), or clustered by site,
                which takes five sites.

        Raises:
            InputError: ``bad-formula``, ``no-convergence``.
            PolicyRefusal: Not permitted, too few persons or too many parameters.
        """
        params = {
            "formula": formula,
            "offset": offset,
            "weights": weights,
            "errors": None if errors == "model" else errors,
        }
        run = self.submit("models.negative_binomial", params)
        return as_type(NegativeBinomialResult, run.result())

    def multinomial(self, formula: str, reference: str | None = None) -> MultinomialResult:
        """Baseline-category logit of a category of three levels or more, on the pooled data.

        Args:
            formula: An R formula whose outcome is a category: ``stage ~ age + sex``.
            reference: The level that others are compared with; absent: the first.

        Raises:
            InputError: ``bad-formula``, ``no-convergence``.
            PolicyRefusal: Not permitted, too few persons or too many parameters.
        """
        params = {"formula": formula, "reference": reference}
        run = self.submit("models.multinomial", params)
        return as_type(MultinomialResult, run.result())

    def ordinal(
        self,
        formula: str,
        link: Literal["logit", "probit", "cloglog"] = "logit",
        levels: Sequence[str] | None = None,
    ) -> OrdinalResult:
        """Cumulative link model of an ordered category (proportional odds), on the pooled data.

        Args:
            formula: An R formula whose outcome is a category: ``stage ~ age + sex``.
            link: Of the cumulative probabilities.
            levels: All levels of the outcome from low to high; absent: as the study declares them.

        Raises:
            InputError: ``bad-formula``, ``no-convergence``.
            PolicyRefusal: Not permitted, too few persons or too many parameters.
        """
        params = {
            "formula": formula,
            "link": link,
            "levels": levels,
        }
        return as_type(OrdinalResult, self.submit("models.ordinal", params).result())
