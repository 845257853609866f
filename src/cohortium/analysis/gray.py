"""`survival.gray`: do groups have the same cumulative incidence of an event that others prevent?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution import Distribution, Known, Question
from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import Scope
from cohortium.analysis.survival_times import (
    Endpoint,
    Leaving,
    Strata,
    SurvivalParams,
    SurvivalRounds,
)
from cohortium.core.dictionary import Label, Name
from cohortium.disclosure.suppression import is_small
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WITHHELD = "events of each group: a smaller number of persons follows from them"


class GrayParams(SurvivalParams):
    """What is compared.

    Attributes:
        event: A category; each level but the censored one is an event that competes.
        event_level: The level whose incidence is compared.
        censored: The level of those without an event; absent: the first one.
        by: A category or boolean.
        strata: A category or boolean within whose levels persons are compared.
    """

    event_level: Label
    censored: Label | None = None
    by: Name
    strata: Name | None = None

    def endpoint(self, scope: Scope) -> Endpoint:
        """Time and causes."""
        found = Endpoint.competing(scope, self.time, self.event, self.censored)
        if self.event_level not in found.causes:
            raise InputError(
                "bad-input",
                f"{self.event_level!r} is not among the events of {self.event}: "
                f"{', '.join(found.causes)}.",
            )
        return found

    def question(self, scope: Scope) -> Question:
        """Persons with a time, an event and a stratum, in the groups of `by`."""
        if self.strata == self.by:
            raise InputError("bad-input", f"{self.by} makes the groups; take another for strata.")
        marks = Strata(self.endpoint(scope), Groups.of(scope, self.strata))
        return Question((marks.endpoint.time,), Groups.of(scope, self.by), marks=marks)


class Gray(SurvivalRounds):
    """Gray's test of the cumulative incidence of one event in two groups or more.

    Null hypothesis: the cumulative incidence of the event is the same in all groups at all times
    (in every stratum), whatever the other events do. Assumes independent persons whose censoring
    tells nothing of their events. Weights as of the log-rank test (rho = 0).

    Leaves the site: see `cohortium.analysis.distribution`; the hub sees how many persons of all
    sites together, in each group and stratum, had which event and were censored at each time.

    Refuses: a group of 1 to ``min_cell - 1`` persons, or with as few of the events compared, or of
    one institution's alone, and whatever would give a smaller one away: PolicyRefusal
    ``too-few-persons``, ``too-few-sites``. A site with the floor ``site`` sends zeros for a group
    of fewer than `min_cell` of its persons. The groups' numbers of events are withheld where a
    number of other events or of censored persons is small. InputError ``no-convergence`` where no
    event tells groups apart.

    Reference: Gray 1988.
    """

    name: ClassVar[str] = "survival.gray"
    version: ClassVar[int] = 1
    params_type = GrayParams

    def variables(self, params: GrayParams) -> frozenset[str]:
        """Time, event, groups and strata."""
        names = {params.time, params.event, params.by}
        return frozenset(names | ({params.strata} if params.strata else set()))

    def assess(
        self, found: Distribution, known: Known, params: GrayParams, scope: Scope
    ) -> dict[str, Any]:
        """The test from who leaves when."""
        from scipy.special import chdtrc

        endpoint, groups = params.endpoint(scope), Groups.of(scope, params.by)
        ways, n_groups = len(endpoint), len(known.held)
        cause = 1 + endpoint.causes.index(params.event_level)
        counts = found.counts.reshape(len(found.cells), n_groups, -1, ways)
        times = found.cells / found.scale
        strata = [Leaving(times, counts[:, :, at]) for at in range(counts.shape[2])]
        left = counts.sum(axis=(0, 2))
        for at, persons in zip(known.held, left[:, cause].tolist(), strict=True):
            if is_small(persons, scope.disclosure.min_cell):
                raise PolicyRefusal(
                    "too-few-persons",
                    f"{groups.where(at)}: fewer than {scope.disclosure.min_cell} persons had the "
                    "event. Merge the level with another.",
                )
        score, covariance = np.zeros(n_groups), np.zeros((n_groups, n_groups))
        for stratum in strata:
            one = Subdistribution.of(stratum, cause)
            score += one.score()
            covariance += one.covariance()
        statistic, df = _chi_square(score, covariance)
        least = scope.disclosure.min_cell
        shown = not any(is_small(persons, least) for persons in left.ravel().tolist())
        levels = [groups.names[at] for at in known.held]
        lines = []
        for level, row in zip(levels, left.tolist(), strict=True):
            line: dict[str, Any] = {"level": level, "n": sum(row)}
            lines.append(line | ({"observed": row[cause]} if shown else {}))
        names = [params.strata] if params.strata else []
        where = f"In every stratum of {params.strata}, the" if names else "The"
        return {
            "test": "gray",
            "title": "Gray's test",
            "alternative": "two-sided",
            "statistic_name": "chi2",
            "statistic": statistic,
            "df": df,
            "p_value": float(chdtrc(df, statistic)),
            **endpoint.to_json(),
            "cause": params.event_level,
            "variable": f"{params.event} = {params.event_level}",
            "by": params.by,
            "strata": params.strata,
            "adjusted_for": names,
            "null": f"{where} cumulative incidence of {params.event} = {params.event_level} is the "
            f"same at all levels of {params.by}.",
            "n": known.n,
            "n_missing": int(known.counted.left_out[0]),
            "n_sites": scope.n_sites,
            "groups": lines,
            "estimate": None,
            "effects": [],
            "suppressed": [*known.counted.unheard(groups), *([] if shown else [WITHHELD])],
        }


@dataclass(frozen=True)
class Subdistribution:
    """One stratum at its event times; shapes (T,) and (T, G).

    Attributes:
        d: Events of the cause compared. other: of the others. n: persons at risk.
        before, after: Kaplan-Meier estimates of being free of all events, by group.
        incidence: Of the cause compared, by group, before each time.
        pooled, risen: The common incidence before and after each time, under the null hypothesis.
    """

    d: Floats
    other: Floats
    n: Floats
    before: Floats
    after: Floats
    incidence: Floats
    pooled: Floats
    risen: Floats

    @staticmethod
    def of(leaving: Leaving, cause: int) -> Subdistribution:
        """From who leaves when."""
        some = leaving.events.sum(axis=1) > 0
        counts = leaving.counts[some].astype(np.float64)
        n = leaving.at_risk[some].astype(np.float64)
        d = counts[:, :, cause]
        other = counts[:, :, 1:].sum(axis=2) - d
        with np.errstate(divide="ignore", invalid="ignore"):
            free = np.where(n > 0, (n - d - other) / n, 1.0)
            rise = np.where(n > 0, d / n, 0.0)
        after = np.asarray(np.cumprod(free, axis=0), dtype=np.float64)
        before = np.concatenate([np.ones((1, n.shape[1])), after[:-1]])[: len(n)]
        steps = np.asarray(before * rise, dtype=np.float64)
        incidence = np.asarray(np.cumsum(steps, axis=0) - steps, dtype=np.float64)
        h = _ratio(n, before).sum(axis=1)
        risen = np.asarray(np.cumsum(_ratio(d.sum(axis=1), h)), dtype=np.float64)
        return Subdistribution(d, other, n, before, after, incidence, _lagged(risen), risen)

    def score(self) -> Floats:
        """Events of each group minus what the others' hazards of the incidence would give; (G,)."""
        weight = _ratio(self.n * (1.0 - self.incidence), self.before)
        share = _ratio(weight, weight.sum(axis=1)[:, None])
        expected = self.d.sum(axis=1)[:, None] * share
        return np.asarray((self.d - expected).sum(axis=0), dtype=np.float64)

    def covariance(self) -> Floats:
        """Of the score, shape (G, G): the variation of the martingales of which it is a sum.

        The score of group i is a sum over groups k of integrals of `first` over those who have the
        event and of `second` over those who have another one.
        """
        h = _ratio(self.n, self.before)
        total = h.sum(axis=1)
        groups = h.shape[1]
        share = _ratio(h, total[:, None])
        a = h[:, :, None] * (np.eye(groups) - share[:, None, :])  # (T, i, k)
        a *= (h > 0)[:, None, :]
        died = self.d.sum(axis=1)
        step = _ratio(died, total)
        hazard = _ratio(step, 1.0 - self.pooled)
        grown = np.cumsum(a * hazard[:, None, None], axis=0)
        to_come = (grown[-1] if len(grown) else np.zeros((groups, groups))) - grown
        left = _ratio((1.0 - self.risen)[:, None], self.after)
        first = a + (1.0 - left)[:, None, :] * to_come
        ties = np.where(died > 1, died - 1.0, 0.0)[:, None]
        ties = 1.0 - _ratio(ties, total[:, None] * self.before - 1.0)
        spread = _ratio(step[:, None], h) * ties
        second = left[:, None, :] * to_come
        ties = 1.0 - _ratio(np.maximum(self.other - 1.0, 0.0), self.n - 1.0)
        others = _ratio(self.before**2 * self.other, self.n**2) * ties * (self.after > 0)
        return np.asarray(
            np.einsum("tik,tjk,tk->ij", first, first, spread)
            + np.einsum("tik,tjk,tk->ij", second, second, others),
            dtype=np.float64,
        )


def _ratio(above: Floats, below: Floats) -> Floats:
    """The quotient; 0 where the denominator is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(below != 0, above / below, 0.0), dtype=np.float64)


def _lagged(values: Floats) -> Floats:
    return np.concatenate([[0.0], values[:-1]])[: len(values)]


def _chi_square(score: Floats, covariance: Floats) -> tuple[float, int]:
    used: Sequence[int] = np.flatnonzero(np.diag(covariance) > 1e-10).tolist()
    if len(used) < 2:
        raise InputError(
            "no-convergence", "No event happened while persons of two groups were at risk."
        )
    free = used[:-1]
    solution, _, rank, _ = np.linalg.lstsq(covariance[np.ix_(free, free)], score[free], rcond=None)
    return max(float(score[free] @ solution), 0.0), int(rank)
