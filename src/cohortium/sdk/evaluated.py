"""One evaluated model, and the comparison of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cohortium.sdk.evaluate_frames import Cutoffs
from cohortium.sdk.hypothesis import as_number


@dataclass(frozen=True)
class Measure:
    """An estimate with its limits; None where there are none."""

    value: float
    low: float | None = None
    high: float | None = None
    std_error: float | None = None

    @staticmethod
    def of(data: Mapping[str, Any] | None) -> Measure | None:
        """As the hub released it."""
        if data is None:
            return None
        found = {name: as_number(data.get(name)) for name in ("low", "high", "std_error")}
        return Measure(float(data["value"]), **found)


class ModelEvaluation:
    """One model.

    Attributes:
        name: What it is called.
        formula, score: The one or the other.
        probability: Whether it says how likely the event is; else it puts persons in an order.
        merged: Whether the areas are of merged scores.
        auc: The area under the ROC curve, with DeLong's limits.
        auc_between: Within these the area of the unrounded scores lies; None where `auc` is it.
        average_precision: The area under the precision-recall curve, in steps.
        brier, brier_scaled, log_loss: Of probabilities.
        intercept, slope: Of the logistic regression of the outcome on the predicted log odds.
        in_the_large: The intercept where the slope is 1.
        observed_to_expected: Events over the sum of the probabilities.
        calibration_p: Of the test that the intercept is 0 and the slope is 1.
        hosmer_lemeshow: statistic, df, p_value; df_new and p_value_new for persons whom the model
            was not fitted to. None where it was not released.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.name = str(data["name"])
        self.formula: str | None = data.get("formula")
        self.score: str | None = data.get("score")
        self.probability = bool(data["probability"])
        self.merged = bool(data["merged"])
        auc, precision = Measure.of(data["auc"]), Measure.of(data["average_precision"])
        if auc is None or precision is None:
            raise ValueError("a model without its areas")
        self.auc, self.average_precision = auc, precision
        between = data.get("resolution")
        self.auc_between = (
            None if between is None else (float(between["low"]), float(between["high"]))
        )
        brier = data.get("brier")
        self.brier = Measure.of(brier)
        self.brier_scaled = None if brier is None else Measure.of(brier["scaled"])
        self.log_loss = Measure.of(data.get("log_loss"))
        found: Mapping[str, Any] = data.get("calibration") or {}
        self.intercept = Measure.of(found.get("intercept"))
        self.slope = Measure.of(found.get("slope"))
        self.in_the_large = Measure.of(found.get("in_the_large"))
        self.observed_to_expected = Measure.of(found.get("observed_to_expected"))
        self.mean_risk = as_number(found.get("mean_risk"))
        test = found.get("test")
        self.calibration_p = None if test is None else as_number(test["p_value"])
        self.hosmer_lemeshow: Mapping[str, Any] | None = data.get("hosmer_lemeshow")
        self.cutoffs = Cutoffs.of(data["points"])
        self.groups: Mapping[str, Any] | None = data.get("groups")

    def p_values(self) -> dict[str, float | None]:
        """Of the tests of calibration; None where they were not released."""
        test = self.hosmer_lemeshow or {}
        return {
            "p, intercept 0 and slope 1": self.calibration_p,
            "p, Hosmer-Lemeshow, fitted here": as_number(test.get("p_value")),
            "p, Hosmer-Lemeshow, fitted elsewhere": as_number(test.get("p_value_new")),
        }


@dataclass(frozen=True)
class AreaComparison:
    """DeLong's test of two areas under ROC curves of the same persons.

    Attributes:
        difference: Of the first model's area less the second's.
        correlation: Of the two areas.
        statistic, p_value: None where the areas are surely equal.
    """

    models: tuple[str, str]
    difference: float
    std_error: float
    low: float
    high: float
    correlation: float | None
    statistic: float | None
    p_value: float | None
