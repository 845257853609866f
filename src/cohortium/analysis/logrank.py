"""`survival.logrank`: do groups have the same survival?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution import Distribution, Known, Question
from cohortium.analysis.grouped import Counted, Groups, parts
from cohortium.analysis.interface import Continue, Done, FieldSpec, Scope
from cohortium.analysis.kaplan_meier import Confidence
from cohortium.analysis.logrank_terms import Terms, Weights, peto_ratio, test_of
from cohortium.analysis.survival_times import (
    Endpoint,
    Leaving,
    Strata,
    SurvivalParams,
    SurvivalRounds,
)
from cohortium.analysis.untrusted import phase_of
from cohortium.core.dictionary import Name
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import LEAST_SITES, is_small
from cohortium.errors import InputError, PolicyRefusal

Ints = npt.NDArray[np.int64]

WITHHELD = "observed and expected events: a smaller number of censored persons follows from them"
PHASES = ("counts", "counts+terms", "terms")


class LogrankParams(SurvivalParams):
    """What is compared.

    Attributes:
        by: A category or boolean.
        strata: A category or boolean within whose levels persons are compared.
        within_sites: Whether persons are compared within their institution only.
        weights: Of the times: all alike, persons at risk, their root, or survival.
        confidence: Of the limits of the hazard ratio of two groups.
    """

    by: Name
    strata: Name | None = None
    within_sites: bool = False
    weights: Weights = "logrank"
    confidence: Confidence = 0.95

    def endpoint(self, scope: Scope) -> Endpoint:
        """Time and event."""
        return Endpoint.of(scope, self.time, self.event, self.event_level)

    def marks(self, scope: Scope) -> Strata:
        """The endpoint in each stratum."""
        return Strata(self.endpoint(scope), Groups.of(scope, self.strata))

    def question(self, scope: Scope) -> Question:
        """Persons with a time, an event and a stratum, in the groups of `by`."""
        if self.strata == self.by:
            raise InputError("bad-input", f"{self.by} makes the groups; take another for strata.")
        marks = self.marks(scope)
        return Question((marks.endpoint.time,), Groups.of(scope, self.by), marks=marks)


class Logrank(SurvivalRounds):
    """Log-rank test of the pooled persons in two groups or more; stratified where asked.

    Null hypothesis: the hazard of the event is the same in all groups at all times (in every
    stratum). Assumes independent persons whose censoring tells nothing of their event; it is
    sensitive to hazards that are proportional. Weighted: Gehan and Breslow's, Tarone and Ware's,
    Peto and Peto's test. Two groups: Peto's one-step hazard ratio of the second to the first.

    Leaves the site: see `cohortium.analysis.distribution`; the hub sees how many persons of all
    sites together, in each group and stratum, had the event and were censored at each time.
    Within sites, summed under masks: persons of each group, how many had the event and how many
    were censored, observed and expected events, their weighted difference and its covariance; no
    time leaves a site.

    Refuses: a group of 1 to ``min_cell - 1`` persons, or of as few with the event, or of one
    institution's alone, and whatever would give a smaller one away; within sites, fewer than two
    institutions that compare anything: PolicyRefusal ``too-few-persons``, ``too-few-sites``. A site
    with the floor ``site`` sends zeros for a group of fewer than `min_cell` of its persons.
    Observed and expected events are withheld where a group has 1 to ``min_cell - 1`` censored
    persons. InputError ``no-convergence`` where no event tells groups apart.

    Reference: Mantel 1966; Peto & Peto 1972; Tarone & Ware 1977; Fleming & Harrington 1991, ch. 7.
    """

    name: ClassVar[str] = "survival.logrank"
    version: ClassVar[int] = 1
    params_type = LogrankParams

    def variables(self, params: LogrankParams) -> frozenset[str]:
        """Time, event, groups and strata."""
        names = {params.time, params.event, params.by}
        return frozenset(names | ({params.strata} if params.strata else set()))

    def start(self, params: LogrankParams, scope: Scope) -> State:
        """Begin with counts, and with what follows where each site guards its own floor."""
        if not params.within_sites:
            return super().start(params, scope)
        groups = params.question(scope).groups
        phase = "counts+terms" if scope.disclosure.floor == "site" else "counts"
        return State({"phase": phase}, Counted.nothing(groups).to_arrays())

    def layout(self, state: State, params: LogrankParams, scope: Scope) -> Layout:
        """See the class."""
        if not params.within_sites:
            return super().layout(state, params, scope)
        phase, n = phase_of(state, PHASES), len(params.question(scope).groups)
        of: dict[str, FieldSpec] = {}
        if phase != "terms":
            of |= Counted.layout(params.question(scope).groups)
        if phase != "counts":
            of["ways"] = FieldSpec((n, 2), "count")
            of["informative"] = FieldSpec((1,), "count")
            of["vectors"] = FieldSpec((3, n), "real")
            of["covariance"] = FieldSpec((n, n), "real")
        return of

    def local(
        self, table: Table, state: State, params: LogrankParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        if not params.within_sites:
            return super().local(table, state, params, scope)
        question = params.question(scope)
        counted = Counted.from_state(state, question.groups)
        out: dict[str, Array] = {
            name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
            for name, spec in self.layout(state, params, scope).items()
        }
        group = np.full(table.n_rows, -1, dtype=np.int64)
        for at, rows in parts(
            table, question.groups, counted.status, scope, out=out, complete=question.complete
        ):
            group[rows] = at
        if "vectors" in out:
            self._compare(table.take(group >= 0), group[group >= 0], params, scope, out)
        return out

    def _compare(
        self,
        table: Table,
        group: Ints,
        params: LogrankParams,
        scope: Scope,
        out: dict[str, Array],
    ) -> None:
        """The site's own test."""
        marks = params.marks(scope)
        ways, n_groups = len(marks.endpoint), len(out["ways"])
        codes = marks.codes(table)
        leaving = Leaving.of_persons(
            marks.endpoint.times(table), codes, group, (n_groups, len(marks))
        )
        terms = Terms.of(_strata(leaving, ways), n_groups, params.weights)
        np.add.at(out["ways"], (group, codes % ways), 1)
        out["informative"][0] = int(terms.says_something)
        out["vectors"][:] = (terms.observed, terms.expected, terms.excess)
        out["covariance"][:] = terms.covariance

    def finish(
        self, total: Total, state: State, params: LogrankParams, scope: Scope
    ) -> Continue | Done:
        """Refuse what is too small; then the test."""
        if not params.within_sites:
            return super().finish(total, state, params, scope)
        groups, phase = params.question(scope).groups, phase_of(state, PHASES)
        counted = Counted.from_state(state, groups)
        if phase != "terms":
            counted = Counted.release(total, scope)
            counted.together(groups, scope)
        if phase == "counts":
            return Continue(State({"phase": "terms"}, counted.to_arrays()), 0.5, "counts")
        held = counted.together(groups, scope)
        if int(np.asarray(total["informative"])[0]) < LEAST_SITES:
            raise PolicyRefusal(
                "too-few-sites",
                f"Fewer than {LEAST_SITES} institutions have an event while persons of two groups "
                "are at risk.",
            )
        at = list(held)
        vectors = np.asarray(total["vectors"], dtype=np.float64)[:, at]
        covariance = np.asarray(total["covariance"], dtype=np.float64)[np.ix_(at, at)]
        terms = Terms(vectors[0], vectors[1], vectors[2], covariance)
        ways = np.asarray(total["ways"], dtype=np.int64)[at]
        return Done(_result(terms, ways, counted, held=held, params=params, scope=scope))

    def assess(
        self, found: Distribution, known: Known, params: LogrankParams, scope: Scope
    ) -> dict[str, Any]:
        """The test from who leaves when."""
        marks = params.marks(scope)
        ways = len(marks.endpoint)
        strata = _strata(Leaving.of(found, len(marks)), ways)
        left = sum(stratum.counts.sum(axis=0) for stratum in strata)
        terms = Terms.of(strata, len(known.held), params.weights)
        return _result(
            terms, np.asarray(left), known.counted, held=known.held, params=params, scope=scope
        )


def _strata(leaving: Leaving, ways: int) -> list[Leaving]:
    """Each stratum alone, whose columns stand side by side in each group."""
    n_times, n_groups, columns = leaving.counts.shape
    counts = leaving.counts.reshape(n_times, n_groups, columns // ways, ways)
    return [Leaving(leaving.times, counts[:, :, at]) for at in range(counts.shape[2])]


def _result(
    terms: Terms,
    ways: Ints,
    counted: Counted,
    *,
    held: Sequence[int],
    params: LogrankParams,
    scope: Scope,
) -> dict[str, Any]:
    """The released result.

    Args:
        ways: (groups held, 2); censored persons and those with the event.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    limits, groups = scope.disclosure, Groups.of(scope, params.by)
    levels = [groups.names[at] for at in held]
    for at, events in zip(held, ways[:, 1].tolist(), strict=True):
        if is_small(events, limits.min_cell):
            raise PolicyRefusal(
                "too-few-persons",
                f"{groups.where(at)}: fewer than {limits.min_cell} persons had the event. "
                "Merge the level with another.",
            )
    test = test_of(terms, params.weights)
    shown = not any(is_small(censored, limits.min_cell) for censored in ways[:, 0].tolist())
    lines = []
    for at, level in enumerate(levels):
        line: dict[str, Any] = {"level": level, "n": int(ways[at].sum())}
        if shown:
            line["observed"] = int(ways[at, 1])
            line["expected"] = float(terms.expected[at])
        lines.append(line)
    strata = [params.strata] if params.strata else []
    strata += ["institution"] if params.within_sites else []
    two = len(levels) == 2 and shown and params.weights == "logrank"
    where = f"In every stratum of {' and '.join(strata)}, the" if strata else "The"
    what = params.endpoint(scope).to_json()
    return {
        **test,
        **what,
        "variable": params.time,
        "by": params.by,
        "strata": params.strata,
        "within_sites": params.within_sites,
        "adjusted_for": strata,
        "null": f"{where} hazard of {what['event']} is the same at all levels of {params.by}.",
        "n": counted.n,
        "n_missing": int(counted.left_out[0]),
        "n_sites": scope.n_sites,
        "groups": lines,
        "estimate": peto_ratio(terms, levels, params.confidence) if two else None,
        "effects": [],
        "suppressed": [*counted.unheard(groups), *([] if shown else [WITHHELD])],
    }
