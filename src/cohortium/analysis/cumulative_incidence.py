"""`survival.cumulative_incidence`: how many have had which of several events that compete."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.analysis.distribution import Distribution, Known, Question
from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import Scope
from cohortium.analysis.kaplan_meier import FEW_TOTALS, TOO_FEW_LEFT, Confidence, Time
from cohortium.analysis.survival_curve import Points, number, numbers, points_of
from cohortium.analysis.survival_times import (
    Endpoint,
    Leaving,
    SurvivalParams,
    SurvivalRounds,
)
from cohortium.core.dictionary import Label, Name

EVERYBODY = 1e-12
"""Less than this is rounding of an incidence of 1."""

Floats = npt.NDArray[np.float64]


class CumulativeIncidenceParams(SurvivalParams):
    """Which curves.

    Attributes:
        event: A category; each level but the censored one is an event that competes.
        event_level: Absent: the events are all levels but the censored one.
        censored: The level of those without an event; absent: the first one.
        by: A category or boolean: curves for each level; absent: of everybody.
        at: Times at which the incidence is asked for.
        confidence: Of the limits, which are on the scale of log(-log I).
    """

    event_level: None = None
    censored: Label | None = None
    by: Name | None = None
    at: Annotated[tuple[Time, ...], Field(max_length=100)] = ()
    confidence: Confidence = 0.95

    def endpoint(self, scope: Scope) -> Endpoint:
        """Time and causes."""
        return Endpoint.competing(scope, self.time, self.event, self.censored)

    def question(self, scope: Scope) -> Question:
        """Persons with a time and an event, in the groups of `by`."""
        endpoint = self.endpoint(scope)
        return Question((endpoint.time,), Groups.of(scope, self.by), least=1, marks=endpoint)


class CumulativeIncidence(SurvivalRounds):
    """Cumulative incidence of events that compete, by Aalen and Johansen's estimate.

    Assumes independent persons whose censoring tells nothing of their events. Who has another event
    cannot have this one any more, and is not censored. Standard errors by the delta method; limits
    on the scale of log(-log I). With one cause it is one minus the Kaplan-Meier estimate.

    Every released point equals the pooled estimate; points are merged so that no small number
    follows, for no cause and not of those censored: see `cohortium.analysis.survival_curve`.

    Leaves the site: see `cohortium.analysis.distribution`; the hub sees how many persons of all
    sites together, in each group, had which event and were censored at each time.

    Refuses: a group of 1 to ``min_cell - 1`` persons with both values, or of one institution's
    alone, and whatever would give a smaller one away: PolicyRefusal ``too-few-persons``,
    ``too-few-sites``. A site with the floor ``site`` sends zeros for a group of fewer than
    `min_cell` of its persons. A group's curves are withheld where no point can be released, and its
    numbers of events and censored persons where one is small.

    Reference: Aalen & Johansen 1978; Kalbfleisch & Prentice 2002, ch. 8; Marubini & Valsecchi 1995,
    ch. 10.
    """

    name: ClassVar[str] = "survival.cumulative_incidence"
    version: ClassVar[int] = 1
    params_type = CumulativeIncidenceParams

    def variables(self, params: CumulativeIncidenceParams) -> frozenset[str]:
        """Time, event and the grouping variable."""
        return frozenset({params.time, params.event, *([params.by] if params.by else [])})

    def assess(
        self, found: Distribution, known: Known, params: CumulativeIncidenceParams, scope: Scope
    ) -> dict[str, Any]:
        """A curve for each cause of each group."""
        from scipy.special import ndtri

        endpoint, groups = params.endpoint(scope), params.question(scope).groups
        limits = scope.disclosure
        leaving = Leaving.of(found, len(endpoint))
        z = float(ndtri((1 + params.confidence) / 2))
        curves, suppressed = [], known.counted.unheard(groups) if params.by else []
        for at, group in enumerate(known.held):
            one, reasons = _curves(leaving.group(at), endpoint.causes, params, scope, z)
            curves.append({"level": groups.names[group]} | one)
            suppressed += [f"{groups.where(group)}: {why}" for why in reasons]
        return {
            "title": "Cumulative incidence",
            **endpoint.to_json(),
            "causes": list(endpoint.causes),
            "by": params.by,
            "confidence": params.confidence,
            "min_at_risk": limits.at_risk,
            "exact_times": found.exact,
            "n": known.n,
            "n_missing": int(known.counted.left_out[0]),
            "n_sites": scope.n_sites,
            "curves": curves,
            "suppressed": suppressed,
        }


def aalen_johansen(leaving: Leaving) -> tuple[Floats, Floats]:
    """Incidence of each cause after each time of one group, and its variance; (T, causes)."""
    d = leaving.counts[:, 0, 1:].astype(np.float64)
    n = leaving.at_risk[:, 0].astype(np.float64)
    dead = d.sum(axis=1)
    after = np.cumprod((n - dead) / n)
    before = np.concatenate([[1.0], after[:-1]])
    incidence = np.cumsum(before[:, None] * d / n[:, None], axis=0)
    # (I(t) - I(u))^2 a(u) + b(u) - 2 (I(t) - I(u)) c(u), summed over u to t: three running sums.
    # Whoever is at risk at the last time of all may leave nobody behind; there I(t) = I(u).
    with np.errstate(divide="ignore"):
        a = np.where(n > dead, dead / (n * np.maximum(n - dead, 1.0)), 0.0)[:, None]
    b = (before**2 / n**3)[:, None] * d * (n[:, None] - d)
    c = (before / n**2)[:, None] * d
    variance = (
        incidence**2 * np.cumsum(a, axis=0)
        - 2 * incidence * np.cumsum(incidence * a, axis=0)
        + np.cumsum(incidence**2 * a, axis=0)
        + np.cumsum(b, axis=0)
        - 2 * incidence * np.cumsum(c, axis=0)
        + 2 * np.cumsum(incidence * c, axis=0)
    )
    return np.asarray(incidence, dtype=np.float64), np.maximum(variance, 0.0)


def limits_of(incidence: Floats, error: Floats, z: float) -> tuple[Floats, Floats]:
    """Limits on the scale of log(-log I); 0 where I is 0, NaN where it is 1."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log = np.log(incidence)
        wide = np.exp(z * error / (incidence * np.abs(log)))
        low, high = np.exp(log * wide), np.exp(log / wide)
    none, all_ = incidence <= 0, incidence >= 1 - EVERYBODY
    low, high = np.where(none, 0.0, low), np.where(none, 0.0, high)
    return np.where(all_, np.nan, low), np.where(all_, np.nan, high)


def _curves(
    leaving: Leaving,
    causes: tuple[str, ...],
    params: CumulativeIncidenceParams,
    scope: Scope,
    z: float,
) -> tuple[dict[str, Any], list[str]]:
    """What is released of one group, and why the rest is not."""
    points = points_of(leaving, scope.disclosure)
    incidence, variance = aalen_johansen(leaving)
    n = int(leaving.counts.sum())
    gone = np.concatenate([[0, 0], points.left.sum(axis=1).cumsum()])
    at_risk = (n - gone[: len(points.time) + 1]).tolist()
    time = np.concatenate([[0.0], points.time])
    out: list[dict[str, Any]] = []
    for at, cause in enumerate(causes):
        value = np.concatenate([[0.0], incidence[points.last, at]])
        error = np.concatenate([[0.0], np.sqrt(variance[points.last, at])])
        low, high = limits_of(value, error, z)
        curve: dict[str, Any] = {
            "cause": cause,
            "total": int(leaving.counts[:, 0, 1 + at].sum()) if points.totals else None,
            "events": [0, *points.left[:, 1 + at].tolist()],
            "incidence": numbers(value),
            "std_error": numbers(error),
            "low": numbers(low),
            "high": numbers(high),
        }
        curve["at"] = [_at(one, points, time, (value, error, low, high)) for one in params.at]
        out.append(curve)
    censored = int(leaving.counts[:, 0, 0].sum())
    result = {
        "n": n,
        "censored": censored if points.totals else None,
        "every_time": points.whole,
        "time": numbers(time),
        "at_risk": at_risk,
        "left_censored": [0, *points.left[:, 0].tolist()],
        "causes": out,
    }
    reasons = [] if points.totals else [FEW_TOTALS]
    return result, [*reasons, *([] if len(points.time) else [TOO_FEW_LEFT])]


def _at(
    asked: float, points: Points, time: Floats, curve: tuple[Floats, Floats, Floats, Floats]
) -> dict[str, Any]:
    """The incidence at a time; between two points it lies from `least` to `most`."""
    value, error, low, high = curve
    names = ("incidence", "std_error", "low", "high", "least", "most")
    if not 0 <= asked <= time[-1]:
        return {"time": asked} | dict.fromkeys(names)
    before = int(np.searchsorted(time, asked, side="right")) - 1
    exact = points.whole or asked == time[before]
    after = before if exact else min(before + 1, len(time) - 1)
    part = 0.0
    if after > before:
        part = float((asked - time[before]) / (time[after] - time[before]))
    rise = float(value[after] - value[before])
    return {
        "time": asked,
        "incidence": float(value[before]) + rise * part,
        "std_error": number(error[before]) if exact or rise == 0 else None,
        "low": number(low[before]),
        "high": number(high[after]),
        "least": float(value[before]),
        "most": float(value[after]),
    }
