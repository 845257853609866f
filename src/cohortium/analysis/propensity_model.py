"""What a request of `causal.propensity` asks for, bound to the study's variables."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints

from cohortium.analysis.formula import MAX_CHARACTERS, Parsed, values_of, variables_of
from cohortium.analysis.glm_model import GlmParams, Model, check_response
from cohortium.analysis.grouped import levels_of
from cohortium.analysis.interface import FieldSpec, Params, Scope
from cohortium.analysis.marks import n_marks
from cohortium.core.dictionary import Name, Variable, VariableType
from cohortium.core.rounds import Layout
from cohortium.core.table import Table
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]
Estimand = Literal["ATE", "ATT", "ATC", "ATO"]

EDGES: Final = (
    *(0.0, 0.01, 0.02),
    *(round(0.05 * step, 2) for step in range(1, 20)),
    *(0.98, 0.99, 1.0),
)
"""Where the score is counted and may be trimmed: only here, so that no limit picks persons."""
CELLS: Final = len(EDGES) - 1
_STEEPEST: Final = 30.0
"""Of the log odds of the score; beyond, a weight is what it is there."""


class PropensityParams(Params):
    """The analysis.

    Attributes:
        treatment: A boolean, or a category of two levels, the second being the treatment.
        covariates: The right side of a formula; see `cohortium.analysis.formula`.
        outcome: A number, a boolean or a category of two levels; absent: weights and balance only.
        estimand: In whom the effect is: everybody (ATE), the treated (ATT), the controls (ATC), or
            those who could be either (ATO, by overlap weights).
        stabilized: Whether weights are multiplied by the share of the person's arm.
        trim: The score's limits; persons below the first, or from the second on, are left out.
        errors: `stacked` counts in that the score is estimated; `robust` takes it for known.
        doubly_robust: Whether a linear model of the outcome, in each arm, on the same covariates
            augments the weights (AIPW); of the ATE.
        confidence: Of the intervals.
    """

    treatment: Name
    covariates: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    outcome: Annotated[Name, Field(description="A variable.")] | None = None
    estimand: Estimand = "ATE"
    stabilized: bool = False
    trim: tuple[float, float] | None = None
    errors: Literal["stacked", "robust"] = "stacked"
    doubly_robust: bool = False
    confidence: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95

    @property
    def glm(self) -> GlmParams:
        """The model of the treatment; its last round gives what the scores' squares need."""
        formula = f"{self.treatment} ~ {self.covariates}"
        return GlmParams(formula=formula, family="binomial", errors="HC0")

    @property
    def reads(self) -> frozenset[str]:
        """Every variable."""
        names = variables_of(self.glm.formula) | {self.treatment}
        return names if self.outcome is None else names | {self.outcome}


@dataclass(frozen=True)
class Design:
    """An analysis of a study's variables; arms are in the order of the levels: control, treated.

    Attributes:
        params: As asked.
        model: Of the treatment; persons have a value of every variable, the outcome included.
        arms: The levels.
        outcome: Its variable.
    """

    params: PropensityParams
    model: Model
    arms: tuple[str, str]
    outcome: Variable | None

    @staticmethod
    def of(params: PropensityParams, scope: Scope) -> Design:
        """Bind a request.

        Raises:
            InputError: ``bad-formula``, ``bad-input``, ``not-found``.
            PolicyRefusal: ``not-permitted`` where numbers of persons are released rounded.
        """
        treatment = scope.variable(params.treatment)
        two = treatment.type in {VariableType.BOOLEAN, VariableType.CATEGORY}
        arms = levels_of(treatment) if two else ()
        if len(arms) != 2:
            raise InputError(
                "bad-input",
                f"The treatment {treatment.name} must be a boolean or a category of two levels, "
                "the second being the treatment; derive one (study.derive).",
                variable=treatment.name,
            )
        model = Model.of(params.glm, scope)
        check_response(model, scope)
        parsed = model.parsed
        if not parsed.intercept:
            raise InputError("bad-formula", "A propensity model has an intercept: leave out - 1.")
        if len(parsed.columns) < 2:
            raise InputError("bad-formula", "A propensity model needs a covariate.")
        outcome = None if params.outcome is None else scope.variable(params.outcome)
        if outcome is not None:
            _check_outcome(outcome, parsed)
        _check_trim(params.trim)
        if params.doubly_robust and (outcome is None or params.estimand != "ATE"):
            raise InputError(
                "bad-input", "A doubly robust estimate is of the ATE, and of an outcome."
            )
        model = replace(model, parsed=replace(parsed, variables=params.reads))
        return Design(params, model, (arms[0], arms[1]), outcome)

    @property
    def parsed(self) -> Parsed:
        """The model's formula."""
        return self.model.parsed

    @cached_property
    def kept(self) -> tuple[int, int]:
        """The cells of the score that are not trimmed: from the first up to the second."""
        low, high = self.params.trim or (0.0, 1.0)
        return EDGES.index(low), EDGES.index(high)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The columns of which balance is shown, beside the levels of categories."""
        return tuple(
            at
            for at, column in enumerate(self.parsed.columns)
            if column.parts and all(level is None for _, level in column.parts)
        )

    def treated(self, table: Table) -> npt.NDArray[np.int64]:
        """Each person's arm, shape (n_rows,), of persons who have one."""
        return values_of(self.parsed.response, table).astype(np.int64)

    def outcomes(self, table: Table) -> Floats:
        """The outcome as a number, shape (n_rows,); 1 for the second level of a category."""
        name = "" if self.outcome is None else self.outcome.name
        return np.asarray(table.columns[name], dtype=np.float64)

    def weigh(self, eta: Floats, arm: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Each person's weight, and its slope along `eta`; shape (n_rows,) each.

        Args:
            eta: Log odds of the score.
            arm: 1 for the treated.
        """
        sign = np.where(arm == 1, -1.0, 1.0)
        odds = np.exp(np.clip(sign * eta, -_STEEPEST, _STEEPEST))  # of the other arm
        match self.params.estimand:
            case "ATE":
                return 1 + odds, sign * odds
            case "ATO":
                return odds / (1 + odds), sign * odds / np.square(1 + odds)
            case estimand:
                whole = arm == (1 if estimand == "ATT" else 0)
                return np.where(whole, 1.0, odds), np.where(whole, 0.0, sign * odds)

    def layout(self, stage: str) -> Layout:
        """The fields of a stage's contribution."""
        p = len(self.parsed.names)
        each = FieldSpec((2, p), "real")
        n_levels = len(self.parsed.levels)
        if stage == "overlap":
            of = {
                **self._arms(""),
                "scores": FieldSpec((2, CELLS), "count"),
                "score_sites": FieldSpec((2, CELLS), "count"),
                "weights": FieldSpec((2, 2), "real"),
            }
            return of | (self._arms("kept_") if self.params.trim else {})
        if stage == "balance":
            of = {"weighted_columns": each, "weighted_squares": each}
            of |= {"weighted_levels": FieldSpec((2, n_levels), "real")} if n_levels else {}
            return of | ({"weighted_outcome": FieldSpec((2,), "real")} if self.outcome else {})
        triangle = p * (p + 1) // 2
        if stage == "outcome":
            return {"products": FieldSpec((2, triangle), "real"), "moments": each}
        if stage == "augment":
            return {"estimates": FieldSpec((2,), "real"), "pull": each, "slope": each}
        if stage == "influence":
            return {"influence": FieldSpec((3,), "real")}
        of = {"variation": FieldSpec((2,), "real")}
        if self.params.errors == "stacked":
            of |= {"slope": each, "cross": each, "meat": FieldSpec((triangle,), "real")}
        return of

    def _arms(self, prefix: str) -> dict[str, FieldSpec]:
        """What tells of the arms' persons before any weight."""
        p, marks = len(self.parsed.names), n_marks(self.parsed)
        of = {
            "persons": FieldSpec((2,), "count"),
            "sites": FieldSpec((2,), "count"),
            "columns": FieldSpec((2, p), "real"),
            "squares": FieldSpec((2, p), "real"),
            "marks": FieldSpec((2, marks * (marks + 1) // 2), "count"),
        }
        if self.parsed.levels:
            of["levels"] = FieldSpec((2, len(self.parsed.levels)), "count")
        if self.outcome is not None:
            of["outcome"] = FieldSpec((2, 2), "real")
        return {prefix + name: spec for name, spec in of.items()}


def _check_outcome(outcome: Variable, parsed: Parsed) -> None:
    if outcome.name in parsed.variables:
        raise InputError(
            "bad-input",
            f"{outcome.name} is the outcome, and part of the model of the treatment.",
            variable=outcome.name,
        )
    if outcome.type in {VariableType.INTEGER, VariableType.REAL, VariableType.BOOLEAN}:
        return
    if outcome.type is VariableType.CATEGORY and len(outcome.levels or ()) == 2:
        return
    raise InputError(
        "bad-input",
        f"{outcome.name} is {outcome.type}; an outcome is a number, a boolean, or a category of "
        "two levels, the second being the event.",
        variable=outcome.name,
    )


def _check_trim(trim: tuple[float, float] | None) -> None:
    if trim is None:
        return
    low, high = trim
    if not all(math.isfinite(one) and one in EDGES for one in trim) or not low < 0.5 < high:
        raise InputError(
            "bad-input",
            "The score is trimmed at 0, 0.01, 0.02 or a multiple of 0.05 below 0.5, and at 1, "
            "0.99, 0.98 or a multiple of 0.05 above: trim=(0.05, 0.95).",
        )
