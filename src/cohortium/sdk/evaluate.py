"""Evaluating prediction models: the methods of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortium.errors import InputError
from cohortium.sdk.evaluate_results import EvaluationResult
from cohortium.sdk.results import Result
from cohortium.sdk.submission import Submits, as_type, text_of

if TYPE_CHECKING:
    from cohortium.sdk.coefficients import Coefficients

_LONGEST = 200
_INTERCEPT = "Intercept"


@dataclass(frozen=True)
class PublishedModel:
    """A model that was fitted elsewhere: a formula and its coefficients.

    Attributes:
        formula: Over the study's variables: ``died ~ age + sex``, or its right side alone.
        coefficients: By term, as a fitted model's `params` names them: ``Intercept``, ``age``,
            ``sex[T.female]``.
        probability: Whether the sum is the log odds of the outcome; else it only puts persons in an
            order (a linear predictor of a Cox model, points of a score), and needs no intercept.
    """

    formula: str
    coefficients: Mapping[str, float]
    probability: bool = True


Evaluated = "str | Coefficients | PublishedModel"


class EvaluateMethods(Submits):
    """How well models predict."""

    def evaluate(
        self,
        outcome: str,
        model: str
        | Coefficients
        | PublishedModel
        | Sequence[str | Coefficients | PublishedModel]
        | Mapping[str, str | Coefficients | PublishedModel],
        *,
        probability: bool = False,
        event_level: str | None = None,
        groups: int = 10,
        confidence: float = 0.95,
    ) -> EvaluationResult:
        """Discrimination, calibration and usefulness of models for a binary outcome.

        Args:
            outcome: A boolean, a number of 0 and 1, or a category.
            model: A variable (a score, higher where the outcome is likelier), a fitted model
                (``study.glm(...)``), or a `PublishedModel`. Several are compared with DeLong's
                paired test: a list, or a mapping from what to call them.
            probability: Whether the variables among the models are probabilities, from 0 to 1.
            event_level: Of a category, the level that is predicted; of two levels by default the
                second.
            groups: Of risk, in the calibration curve.
            confidence: Of the limits.

        Raises:
            InputError: What is named does not fit together; all have one outcome or one score.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {
            "outcome": outcome,
            "event_level": event_level,
            "models": [
                _asked(name, one, outcome, event_level, probability) for name, one in _named(model)
            ],
            "groups": groups,
            "confidence": confidence,
        }
        return as_type(EvaluationResult, self.submit("evaluate.model", params).result())


def _named(model: Any) -> list[tuple[str | None, Any]]:
    if isinstance(model, Mapping):
        if model and all(isinstance(one, int | float) for one in model.values()):
            raise InputError(
                "bad-input",
                "Coefficients come with a formula: PublishedModel(formula, coefficients).",
            )
        return [(str(name), one) for name, one in model.items()]
    if isinstance(model, str | PublishedModel | Result):
        return [(None, model)]
    if not isinstance(model, Sequence):
        raise InputError(
            "bad-input",
            "A model is a variable's name, a fitted model or a PublishedModel, or several.",
        )
    return [(None, one) for one in model]


def _published(model: PublishedModel) -> tuple[str, dict[str, float]]:
    try:
        coefficients = {str(term): float(one) for term, one in model.coefficients.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            "bad-input", 'Coefficients are numbers by term: {"Intercept": -3, "age": 0.05}.'
        ) from error
    return text_of("formula", model.formula), coefficients


def _asked(
    name: str | None, model: Any, outcome: str, event_level: str | None, probability: bool
) -> dict[str, Any]:
    """One model as the request carries it."""
    if isinstance(model, str):
        return {"name": name or model, "score": model, "probability": bool(probability)}
    if isinstance(model, PublishedModel):
        formula, coefficients = _published(model)
        is_probability = bool(model.probability)
    else:
        formula, coefficients, is_probability = _fitted(model, outcome, event_level)
    left, tilde, right = formula.partition("~")
    for term, value in coefficients.items():
        if not math.isfinite(value):
            raise InputError("bad-input", f"The coefficient of {term} is not a finite number.")
    return {
        "name": (name or formula.strip())[:_LONGEST],
        "formula": (right if tilde else left).strip(),
        "coefficients": {str(term): float(value) for term, value in coefficients.items()},
        "probability": is_probability,
    }


def _fitted(
    model: Any, outcome: str, event_level: str | None
) -> tuple[str, dict[str, float], bool]:
    """Formula and coefficients of a fitted model, and whether they give a probability."""
    covariates = getattr(model, "covariates", None)
    formula = covariates if isinstance(covariates, str) else getattr(model, "formula", None)
    params = getattr(model, "params", None)
    if not isinstance(formula, str) or not hasattr(params, "items"):
        raise InputError(
            "bad-input",
            f"A {type(model).__name__} has no formula with coefficients; give a variable's name, a "
            "fitted model or a PublishedModel.",
        )
    if getattr(model, "offset", None) is not None:
        raise InputError("bad-input", "A model with an offset cannot be evaluated.")
    logit = getattr(model, "link", None) == "logit"
    left = formula.partition("~")[0].strip()
    event = model.to_json()["result"].get("event") if isinstance(model, Result) else None
    if logit and left == outcome and event_level is not None and event not in {None, event_level}:
        raise InputError(
            "bad-input", f"The model predicts {outcome} = {event}, and not {event_level}."
        )
    coefficients = {str(term): float(value) for term, value in params.items()}  # type: ignore[union-attr]
    return formula, coefficients, logit
