"""Survival: the methods of a study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from cohortium.sdk.incidence_results import CumulativeIncidenceResult
from cohortium.sdk.submission import Submits, as_type
from cohortium.sdk.survival_results import GrayResult, KaplanMeierResult, LogrankResult

Weights = Literal["logrank", "wilcoxon", "tarone-ware", "peto"]


class SurvivalMethods(Submits):
    """Survival curves and tests of them."""

    def km(
        self,
        time: str,
        event: str,
        by: str | None = None,
        *,
        entry: str | None = None,
        at: Iterable[float] = (),
        quantiles: Iterable[float] = (0.5,),
        event_level: str | None = None,
        confidence: float = 0.95,
    ) -> KaplanMeierResult:
        """Kaplan-Meier curves of the pooled persons.

        Args:
            time: A number from 0 on; its unit is the dictionary's.
            event: A boolean, a number of 0 and 1, or a category.
            by: A category or boolean: a curve for each level.
            entry: When a person came under observation: at risk are those with
                ``entry < t <= time``.
            at: Times at which survival is asked for.
            quantiles: Shares of persons with the event whose times are asked for.
            event_level: Of a category, the level that is the event.
            confidence: Of the limits.

        Raises:
            InputError: What is named does not fit together.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {
            "time": time,
            "event": event,
            "event_level": event_level,
            "by": by,
            "entry": entry,
            "at": at,
            "quantiles": quantiles,
            "confidence": confidence,
        }
        return as_type(KaplanMeierResult, self.submit("survival.km", params).result())

    def cumulative_incidence(
        self,
        time: str,
        event: str,
        by: str | None = None,
        *,
        censored: str | None = None,
        at: Iterable[float] = (),
        confidence: float = 0.95,
    ) -> CumulativeIncidenceResult:
        """The cumulative incidence of events that compete, by Aalen and Johansen's estimate.

        Args:
            time: A number from 0 on; its unit is the dictionary's.
            event: A category; its levels but the censored one are the events.
            by: A category or boolean: curves for each level.
            censored: The level of those without an event; by default the first.
            at: Times at which the incidence is asked for.
            confidence: Of the limits.

        Raises:
            InputError: What is named does not fit together.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {
            "time": time,
            "event": event,
            "by": by,
            "censored": censored,
            "at": at,
            "confidence": confidence,
        }
        run = self.submit("survival.cumulative_incidence", params)
        return as_type(CumulativeIncidenceResult, run.result())

    def gray(
        self,
        time: str,
        event: str,
        by: str,
        *,
        event_level: str,
        censored: str | None = None,
        strata: str | None = None,
    ) -> GrayResult:
        """Gray's test of the cumulative incidence of one event in two groups or more.

        Args:
            time: A number from 0 on.
            event: A category; its levels but the censored one are events that compete.
            by: A category or boolean.
            event_level: The event that is compared.
            censored: The level of those without an event; by default the first.
            strata: A category or boolean within whose levels persons are compared.

        Raises:
            InputError: What is named does not fit together; no event tells groups apart.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {
            "time": time,
            "event": event,
            "by": by,
            "event_level": event_level,
            "censored": censored,
            "strata": strata,
        }
        return as_type(GrayResult, self.submit("survival.gray", params).result())

    def logrank(
        self,
        time: str,
        event: str,
        by: str,
        *,
        strata: str | None = None,
        within_sites: bool = False,
        weights: Weights = "logrank",
        event_level: str | None = None,
        confidence: float = 0.95,
    ) -> LogrankResult:
        """The log-rank test of two groups or more, or a weighted one.

        Args:
            time: A number from 0 on.
            event: A boolean, a number of 0 and 1, or a category.
            by: A category or boolean.
            strata: A category or boolean within whose levels persons are compared.
            within_sites: Whether they are compared within their institution only; then no time
                leaves a site.
            weights: ``wilcoxon`` (Gehan and Breslow), ``tarone-ware`` and ``peto`` look more at
                early times.
            event_level: Of a category, the level that is the event.
            confidence: Of the limits of the hazard ratio of two groups.

        Raises:
            InputError: What is named does not fit together; no event tells groups apart.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {
            "time": time,
            "event": event,
            "event_level": event_level,
            "by": by,
            "strata": strata,
            "within_sites": within_sites,
            "weights": weights,
            "confidence": confidence,
        }
        return as_type(LogrankResult, self.submit("survival.logrank", params).result())
