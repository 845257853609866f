"""Causal effects: the methods of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cohortium.sdk.propensity_results import PropensityResult
from cohortium.sdk.submission import Submits, as_type, names_of


class CausalMethods(Submits):
    """Effects of treatments."""

    def propensity(
        self,
        treatment: str,
        covariates: str | Sequence[str],
        outcome: str | None = None,
        *,
        estimand: Literal["ATE", "ATT", "ATC", "ATO"] = "ATE",
        stabilized: bool = False,
        trim: tuple[float, float] | None = None,
        errors: Literal["stacked", "robust"] = "stacked",
        doubly_robust: bool = False,
        confidence: float = 0.95,
    ) -> PropensityResult:
        """Weighting by the propensity score: balance of the arms, and the effect of a treatment.

        Args:
            treatment: A boolean, or a category of two levels, the second being the treatment.
            covariates: The right side of a formula (``age + sex * stage``), or names.
            outcome: A number, a boolean or a category of two levels; without it, see whether the
                arms can be balanced before any outcome is looked at.
            estimand: The average effect in everybody (ATE), in the treated (ATT), in the controls
                (ATC), or in those who could be either (ATO: overlap weights).
            stabilized: Weights times the share of the arm; changes no mean.
            trim: Limits of the score outside which persons are left out, such as (0.05, 0.95).
            errors: ``stacked`` counts in that the score is estimated, ``robust`` does not.
            doubly_robust: Of the ATE: add a linear model of the outcome on the same covariates in
                each arm (AIPW); right where that model or the score's is.
            confidence: Of the intervals.

        Raises:
            InputError: What is named does not fit together; ``no-convergence``.
            PolicyRefusal: Not permitted, too few persons, or extreme weights.
        """
        params = {
            "treatment": treatment,
            "covariates": " + ".join(names_of("covariates", covariates)),
            "outcome": outcome,
            "estimand": estimand,
            "stabilized": stabilized,
            "trim": trim,
            "errors": errors,
            "doubly_robust": doubly_robust,
            "confidence": confidence,
        }
        run = self.submit("causal.propensity", params)
        return as_type(PropensityResult, run.result())
