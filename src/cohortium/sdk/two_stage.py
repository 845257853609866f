"""Two-stage meta-analyses of institutions: the methods of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from cohortium.errors import InputError
from cohortium.sdk.cox import asked_of
from cohortium.sdk.submission import Submits, as_type, text_of
from cohortium.sdk.two_stage_results import MetaEffectResult, MetaModelResult

Family = Literal["binomial", "gamma", "gaussian", "poisson", "cox"]
Link = Literal["identity", "inverse", "log", "logit"]
Effect = Literal["mean-difference", "smd", "odds-ratio", "risk-ratio", "risk-difference"]
Method = Literal["REML", "DL"]
Prediction = Literal["t", "normal"]


class MetaMethods(Submits):
    """Each institution estimates alone, and the estimates are combined."""

    def meta(
        self,
        formula: str,
        family: Family | None = None,
        *,
        time: str | None = None,
        event: str | None = None,
        entry: str | None = None,
        strata: str | Sequence[str] = (),
        event_level: str | None = None,
        ties: Literal["efron", "breslow"] | None = None,
        robust: bool | None = None,
        link: Link | None = None,
        offset: str | None = None,
        weights: str | None = None,
        errors: Literal["model", "HC0", "HC1", "HC2", "HC3"] = "model",
        method: Method = "REML",
        hartung_knapp: bool = False,
        confidence: float = 0.95,
        prediction: Prediction = "t",
    ) -> MetaModelResult:
        """A model that each institution fits to its own persons, combined (two stages).

        The contract must let numbers of single institutions be released. Where the same effect
        holds everywhere, `glm` and `cox` of all records say more.

        Args:
            formula: As of `glm`, ``died ~ age + sex``; or as of `cox`, ``Surv(months, died) ~ age``
                or the right side alone with `time` and `event`.
            family: binomial (the default), gamma, gaussian, poisson; cox needs not be named.
            time, event, entry, strata, event_level, ties, robust: As of `cox`.
            link, offset, weights, errors: As of `glm`.
            method: Of the variance between institutions: ``REML`` or ``DL`` (DerSimonian-Laird).
            hartung_knapp: Intervals and tests by t, for few institutions.
            confidence: Of the intervals.
            prediction: Of the interval of a new institution: ``t`` or ``normal``.

        Raises:
            InputError: ``bad-formula``, ``bad-input``.
            PolicyRefusal: Not permitted; fewer than two institutions can tell of their own.
        """
        of_cox: dict[str, Any] = {
            "time": time,
            "event": event,
            "entry": entry,
            "event_level": event_level,
        }
        of_cox |= {"ties": ties, "robust": robust, "strata": strata or None}
        of_glm = {"link": link, "offset": offset, "weights": weights}
        of_glm["errors"] = None if errors == "model" else errors
        params: dict[str, Any] = {
            "method": method,
            "hartung_knapp": hartung_knapp,
            "confidence": confidence,
            "prediction": prediction,
        }
        written = text_of("formula", formula)
        if family == "cox" or time is not None or written.strip().startswith("Surv("):
            if family not in {None, "cox"}:
                raise InputError("bad-input", f"Times to an event have no family {family!r}.")
            _refuse(of_glm, "a Cox model")
            asked = asked_of(formula, time, event, entry, strata=strata, event_level=event_level)
            asked |= {"ties": ties, "robust": robust}
            params["cox"] = {name: value for name, value in asked.items() if value is not None}
        else:
            _refuse(of_cox, f"a {family or 'binomial'} model")
            asked = {"formula": formula, "family": family or "binomial", **of_glm}
            params["glm"] = {name: value for name, value in asked.items() if value is not None}
        return as_type(MetaModelResult, self.submit("models.meta", params).result())

    def meta_effect(
        self,
        variable: str,
        by: str,
        effect: Effect,
        *,
        levels: tuple[str, str] | None = None,
        event_level: str | None = None,
        method: Method = "REML",
        hartung_knapp: bool = False,
        confidence: float = 0.95,
        prediction: Prediction = "t",
    ) -> MetaEffectResult:
        """An effect between two groups at each institution, combined (two stages).

        The contract must let numbers of single institutions be released.

        Args:
            variable: A number for the first two effects, else an outcome: a boolean, an integer of
                0 and 1, or a category.
            by: A category or boolean.
            effect: ``mean-difference``, ``smd`` (Hedges' g), ``odds-ratio``, ``risk-ratio`` or
                ``risk-difference``.
            levels: Two levels of `by`, the first against the second; by default its only two.
            event_level: Of an outcome that is a category, the level that is the event.
            method: Of the variance between institutions: ``REML`` or ``DL`` (DerSimonian-Laird).
            hartung_knapp: Intervals and tests by t, for few institutions.
            confidence: Of the intervals.
            prediction: Of the interval of a new institution: ``t`` or ``normal``.

        Raises:
            InputError: ``bad-input``.
            PolicyRefusal: Not permitted; fewer than two institutions can tell of their own.
        """
        params = {
            "variable": variable,
            "by": by,
            "effect": effect,
            "levels": levels,
            "event_level": event_level,
            "method": method,
            "hartung_knapp": hartung_knapp,
            "confidence": confidence,
            "prediction": prediction,
        }
        return as_type(MetaEffectResult, self.submit("stats.meta", params).result())


def _refuse(given: dict[str, Any], model: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise InputError("bad-input", f"{name} has no part in {model}.")
