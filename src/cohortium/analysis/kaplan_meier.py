"""`survival.km`: survival curves over sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from cohortium.analysis.distribution import Distribution, Known, Question
from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import Scope
from cohortium.analysis.survival_curve import Curve, points_of
from cohortium.analysis.survival_times import (
    Endpoint,
    Leaving,
    SurvivalParams,
    SurvivalRounds,
    time_of,
)
from cohortium.core.dictionary import Name, Variable
from cohortium.core.rounds import Contribution, State
from cohortium.core.table import Table
from cohortium.errors import InputError

Confidence = Annotated[float, Field(gt=0.5, lt=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]

TOO_FEW_LEFT = "too few persons had the event, or were censored, for any point of the curve"
FEW_TOTALS = "fewer persons had the event, or were censored, than the minimum cell size"


class KaplanMeierParams(SurvivalParams):
    """Which curves.

    Attributes:
        entry: When a person came under observation, a number below `time`; absent: at 0.
        by: A category or boolean: one curve a level; absent: one of everybody.
        at: Times at which survival is asked for.
        quantiles: Probabilities of having had the event.
        confidence: Of the limits, which are on the scale of log(-log S).
    """

    entry: Name | None = None
    by: Name | None = None
    at: Annotated[tuple[Time, ...], Field(max_length=100)] = ()
    quantiles: Annotated[tuple[Probability, ...], Field(max_length=20)] = (0.5,)
    confidence: Confidence = 0.95

    def question(self, scope: Scope) -> Question:
        """Persons with a time and an event, in the groups of `by`."""
        endpoint = Endpoint.of(scope, self.time, self.event, self.event_level)
        groups = Groups.of(scope, self.by)
        times: tuple[Variable, ...] = (endpoint.time,)
        if self.entry is not None:
            if self.entry in {self.time, self.event, self.by}:
                raise InputError("bad-input", "Time, event, entry and groups are different.")
            times += (time_of(scope, self.entry),)
        return Question(times, groups, least=1, marks=endpoint)


class KaplanMeier(SurvivalRounds):
    """Kaplan-Meier curves of the pooled persons, with standard errors, limits and quantiles.

    Assumes independent persons whose censoring tells nothing of their event. With `entry`, persons
    are at risk from then on, ``entry < t <= time``: of those who had no event before they came
    (left truncation). Greenwood's standard
    error; limits on the scale of log(-log S), and Brookmeyer & Crowley's of quantiles from these. A
    quantile is the first time with survival 1 - p or less.

    Every released point equals the pooled estimate. Points are merged and the curve ends so that no
    small number follows: see `cohortium.analysis.survival_curve`. What lies between two points is
    given by its bounds.

    Leaves the site: see `cohortium.analysis.distribution`; the hub sees how many persons of all
    sites together, in each group, had the event and were censored at each time, and with `entry`
    how many of either came when.

    Refuses: a group of 1 to ``min_cell - 1`` persons with both values, or of one institution's
    alone, and whatever would give a smaller one away: PolicyRefusal ``too-few-persons``,
    ``too-few-sites``. A site with the floor ``site`` sends zeros for a group of fewer than
    `min_cell` of its persons. A group's curve is withheld where no point can be released, and its
    numbers of events and censored persons where one is small.

    Reference: Kaplan & Meier 1958; Kalbfleisch & Prentice 2002, ch. 1; Brookmeyer & Crowley 1982.
    """

    name: ClassVar[str] = "survival.km"
    version: ClassVar[int] = 1
    params_type = KaplanMeierParams

    def variables(self, params: KaplanMeierParams) -> frozenset[str]:
        """Time, event, entry and the grouping variable."""
        others = [name for name in (params.by, params.entry) if name is not None]
        return frozenset({params.time, params.event, *others})

    def local(
        self, table: Table, state: State, params: KaplanMeierParams, scope: Scope
    ) -> Contribution:
        """See `cohortium.analysis.distribution`; refuses persons who come after they leave."""
        question = params.question(scope)
        if params.entry is not None:
            table = table.select((*question.complete, *(v.name for v in question.groups.by)))
            with np.errstate(invalid="ignore"):
                late = table.columns[params.entry] >= table.columns[params.time]
            if np.any(late):
                raise InputError(
                    "bad-input",
                    f"{params.entry} is not below {params.time} for some persons at a site.",
                    variable=params.entry,
                )
        return super().local(table, state, params, scope)

    def assess_all(
        self,
        found: Sequence[Distribution],
        known: Known,
        params: KaplanMeierParams,
        scope: Scope,
    ) -> dict[str, Any]:
        """A curve for each group."""
        from scipy.special import ndtri

        question = params.question(scope)
        groups, limits = question.groups, scope.disclosure
        endpoint = Endpoint.of(scope, params.time, params.event, params.event_level)
        leaving = Leaving.of(found[0], len(endpoint), *found[1:])
        z = float(ndtri((1 + params.confidence) / 2))
        curves, suppressed = [], known.counted.unheard(groups) if params.by else []
        for at, group in enumerate(known.held):
            one, reasons = _curve(leaving.group(at), params, scope, z)
            curves.append({"level": groups.names[group]} | one)
            suppressed += [f"{groups.where(group)}: {why}" for why in reasons]
        return {
            "title": "Kaplan-Meier curves",
            **endpoint.to_json(),
            "by": params.by,
            "confidence": params.confidence,
            "min_at_risk": limits.at_risk,
            "exact_times": leaving.exact,
            **({} if params.entry is None else {"entry": params.entry}),
            "n": known.n,
            "n_missing": int(known.counted.left_out[0]),
            "n_sites": scope.n_sites,
            "curves": curves,
            "suppressed": suppressed,
        }


def _curve(
    leaving: Leaving, params: KaplanMeierParams, scope: Scope, z: float
) -> tuple[dict[str, Any], list[str]]:
    """What is released of one group, and why the rest is not."""
    points = points_of(leaving, scope.disclosure)
    curve = Curve.of(leaving, points, z)
    censored, events = leaving.counts[:, 0].sum(axis=0).tolist()
    out = {
        "n": events + censored,
        "events": events if points.totals else None,
        "censored": censored if points.totals else None,
        "every_time": points.whole,
        "steps": curve.to_json(),
        "quantiles": [curve.quantile(p) for p in params.quantiles],
        "at": [curve.at(time) for time in params.at],
    }
    reasons = [] if points.totals else [FEW_TOTALS]
    return out, [*reasons, *([] if len(points.time) else [TOO_FEW_LEFT])]
