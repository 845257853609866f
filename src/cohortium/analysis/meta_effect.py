"""`stats.meta`: an effect between two groups at each institution alone, combined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.alone import can_be_summed, own_scope
from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import Scope
from cohortium.analysis.moments import DONE, Moments
from cohortium.analysis.t_result import Sample, hedges_correction
from cohortium.analysis.t_test import TTest, TTestParams, among_of
from cohortium.analysis.two_stage import Estimate, Question, TwoStage, TwoStageParams
from cohortium.core.dictionary import Label, Name, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.disclosure.suppression import is_small
from cohortium.errors import InputError, PolicyRefusal

Ints = npt.NDArray[np.int64]

Effect = Literal["mean-difference", "smd", "odds-ratio", "risk-ratio", "risk-difference"]
OF_NUMBERS = ("mean-difference", "smd")
SAID = {
    "mean-difference": "difference of means",
    "smd": "standardised mean difference",
    "odds-ratio": "odds ratio",
    "risk-ratio": "risk ratio",
    "risk-difference": "risk difference",
}


class MetaEffectParams(TwoStageParams):
    """Which effect.

    Attributes:
        variable: For the first two effects a number; for the others an outcome: a boolean, 0 and
            1, or a category.
        by: A category or boolean.
        levels: Two levels of `by`, the first against the second; absent where it has only two.
        effect: mean-difference, smd (Hedges' g), odds-ratio, risk-ratio or risk-difference.
        event_level: Of an outcome that is a category, the level that is the event.
    """

    variable: Name
    by: Name
    effect: Effect
    levels: tuple[Label, Label] | None = None
    event_level: Label | None = None


class MetaEffect(TwoStage[MetaEffectParams]):
    """Two-stage meta-analysis of an effect between two groups.

    Each institution computes the effect of the first group against the second on its own persons
    with both values: the difference of means with Welch's standard error, Hedges' g with its exact
    correction, the log odds ratio, the log risk ratio, or the risk difference. In a table with an
    empty cell 1/2 is added to each; without an event in either group, or with nothing else, an
    institution has no effect. They are combined as `models.meta` says. Assumes independent persons
    and effects that are about normal with known variances.

    Leaves the site, in one round, in places of its own: whether it tells of its persons or
        withholds, their number, the effect and its variance, from which for an outcome the four
        cells follow; summed over sites, how many are in neither group or lack a value; and, at most
        `min_cell`, of how many persons of the cohort it tells nothing.

    Refuses: without `by_site`, or where counts are rounded (PolicyRefusal ``not-permitted``). A
    site withholds where a group, another level of the groups, or (for an outcome) a cell has 1 to
    ``min_cell - 1`` of its persons, a group has none, fewer than the cohort's minimum are left,
    so few have one of two values, few make up most of a sum, or a group's values are all equal.
    ``too-few-sites`` and ``too-few-persons`` as `models.meta`. Each institution's groups (and
    cells) are compared with those of earlier releases. InputError ``bad-input`` for variables that
    do not fit.

    Reference: Hedges 1981; Borenstein et al. 2009, Introduction to Meta-Analysis, ch. 4-5; as
    ``escalc`` of R's metafor (MD, SMD, OR, RR, RD).
    """

    name: ClassVar[str] = "stats.meta"
    params_type = MetaEffectParams

    def variables(self, params: MetaEffectParams) -> frozenset[str]:
        """The number or outcome, and the groups."""
        return frozenset({params.variable, params.by})

    def question(self, params: MetaEffectParams, scope: Scope) -> Question:
        """See `TwoStage`."""
        scope.disclosure.require_exact()
        if params.variable == params.by:
            raise InputError("bad-input", f"{params.by} cannot be compared between its own levels.")
        if params.effect in OF_NUMBERS:
            return _Means.of(params, scope)
        return _Risks.of(params, scope)

    def asked(self, params: MetaEffectParams) -> Any:
        """See `TwoStage`."""
        shown = {"variable", "by", "effect", "levels", "event_level"}
        return params.model_dump(mode="json", include=shown, exclude_none=True)


@dataclass(frozen=True)
class _Groups(Question):
    """What both kinds have in common.

    Attributes:
        among: The two groups that are compared.
    """

    params: MetaEffectParams
    groups: Groups
    among: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The effect."""
        first, second = (self.groups.names[at] for at in self.among)
        return (f"{self.params.variable}: {first} vs {second}",)

    def about(self, scope: Scope) -> dict[str, Any]:  # noqa: ARG002 - the protocol's signature
        """See `Question`."""
        params = self.params
        return {
            "kind": params.effect,
            "effect": SAID[params.effect],
            "variable": params.variable,
            "by": params.by,
            "groups": [self.groups.names[at] for at in self.among],
            "event_level": params.event_level,
            "ratio": params.effect in {"odds-ratio", "risk-ratio"},
        }

    def group_of(self, table: Table) -> Ints:
        """0 and 1 for persons of the two groups with both values, -1 for others."""
        codes = self.groups.codes(table, (self.params.variable,))
        out = np.full(table.n_rows, -1, dtype=np.int64)
        for place, at in enumerate(self.among):
            out[codes == at] = place
        return out

    def has_small_level(self, table: Table, limits: Disclosure) -> bool:
        """Whether a level of the groups has few persons, who would be what the others leave."""
        codes = self.groups.codes(table, (self.params.variable,))
        return any(is_small(int(one), limits.min_cell) for one in np.bincount(codes + 1)[1:])


@dataclass(frozen=True)
class _Means(_Groups):
    @staticmethod
    def of(params: MetaEffectParams, scope: Scope) -> _Means:
        """Bind a request."""
        asked = _t_test(params)
        TTest().start(asked, scope)
        groups = Groups.of(scope, params.by)
        if params.event_level is not None:
            raise InputError("bad-input", f"An event level has no part in {SAID[params.effect]}.")
        return _Means(params, groups, among_of(groups, asked))

    @property
    def sides(self) -> tuple[int, ...]:
        """The two groups."""
        return (2,)

    def estimate(self, table: Table, scope: Scope) -> Estimate | None:
        """See `Question`."""
        own, groups, among = own_scope(scope), self.groups, self.among
        asked = _t_test(self.params)
        known = Moments.nothing(groups, own)
        if self.has_small_level(table, own.disclosure):
            return None
        try:
            while known.phase != DONE:
                sums = TTest().local(table, known.to_state(), asked, own)
                if not can_be_summed(sums):
                    return None
                known = known.advance(sums, groups, own, among=among, least=2)
            known.check(groups, among, own.variable(self.params.variable), own)
            first, second = (Sample.of(known, at) for at in among)
        except PolicyRefusal:
            return None
        except InputError as error:
            if error.code != "no-convergence":
                raise
            return None
        value, variance = _of_means(self.params.effect, first, second)
        group = self.group_of(table)
        rows = group >= 0
        return Estimate(rows, np.array([value]), np.array([[variance]]), codes=(group[rows],))


@dataclass(frozen=True)
class _Risks(_Groups):
    """Attributes:
    event: Of a category, the code of the level that is the event.
    """

    event: int | None

    @staticmethod
    def of(params: MetaEffectParams, scope: Scope) -> _Risks:
        """Bind a request."""
        groups = Groups.of(scope, params.by)
        outcome = scope.variable(params.variable)
        event, level = None, params.event_level
        if outcome.levels is not None:
            if level is None and len(outcome.levels) == 2:
                level = outcome.levels[1]
            if level not in outcome.levels:
                raise InputError(
                    "bad-input",
                    f"{outcome.name} is a category: say which level is the event (event_level): "
                    f"{', '.join(outcome.levels[:20])}.",
                )
            event = outcome.levels.index(level)
        elif outcome.type not in {VariableType.BOOLEAN, VariableType.INTEGER}:
            raise InputError(
                "bad-input",
                f"{outcome.name} is {outcome.type}; an outcome is a boolean, an integer of 0 and "
                "1, or a category.",
            )
        elif level is not None:
            raise InputError("bad-input", f"{outcome.name} has no levels; leave event_level out.")
        return _Risks(params, groups, among_of(groups, _t_test(params)), event)

    @property
    def sides(self) -> tuple[int, ...]:
        """The cells of the table."""
        return (2, 2)

    def estimate(self, table: Table, scope: Scope) -> Estimate | None:
        """See `Question`."""
        column = table.columns[self.params.variable]
        present = table.present(self.params.variable)
        if self.event is None and not np.all(np.isin(column[present], (0, 1))):
            raise InputError(
                "bad-input",
                f"{self.params.variable} has values other than 0 and 1 at a site.",
                variable=self.params.variable,
            )
        happened = column == (1 if self.event is None else self.event)
        group = self.group_of(table)
        rows = group >= 0
        codes = (group[rows], happened[rows].astype(np.int64))
        cells = np.bincount(2 * codes[0] + codes[1], minlength=4).reshape(2, 2)
        small = self.has_small_level(table, scope.disclosure)
        if small or not _may_speak(cells, scope.disclosure):
            return None
        value, variance = _of_cells(self.params.effect, cells)
        return Estimate(rows, np.array([value]), np.array([[variance]]), codes=codes)


def _t_test(params: MetaEffectParams) -> TTestParams:
    return TTestParams(variable=params.variable, by=params.by, levels=params.levels)


def _of_means(effect: str, first: Sample, second: Sample) -> tuple[float, float]:
    """The effect with its variance."""
    apart = (first.mean - second.mean) + (first.low - second.low)
    if effect == "mean-difference":
        return apart, first.variance / first.n + second.variance / second.n
    df = first.n + second.n - 2
    g = hedges_correction(df) * apart / math.sqrt((first.squares + second.squares) / df)
    return g, 1 / first.n + 1 / second.n + g * g / (2 * (first.n + second.n))


def _may_speak(cells: Ints, limits: Disclosure) -> bool:
    """Whether the effect, from which the cells follow, tells of no few persons.

    Args:
        cells: Of the two groups, without the event and with it.
    """
    if any(is_small(int(one), limits.min_cell) for one in cells.flat):
        return False
    enough = int(cells.sum(axis=1).min()) >= limits.min_cell and cells.sum() >= limits.cohort
    return bool(enough and cells.sum(axis=0).min() > 0)


def _of_cells(effect: str, cells: Ints) -> tuple[float, float]:
    """The effect with its variance; of ratios their logarithm."""
    table = cells + 0.5 if np.any(cells == 0) else cells.astype(np.float64)
    (none_1, event_1), (none_2, event_2) = table.tolist()
    n_1, n_2 = none_1 + event_1, none_2 + event_2
    if effect == "odds-ratio":
        value = math.log(event_1 / none_1) - math.log(event_2 / none_2)
        return value, 1 / event_1 + 1 / none_1 + 1 / event_2 + 1 / none_2
    if effect == "risk-ratio":
        value = math.log(event_1 / n_1) - math.log(event_2 / n_2)
        return value, 1 / event_1 - 1 / n_1 + 1 / event_2 - 1 / n_2
    variance = event_1 * none_1 / n_1**3 + event_2 * none_2 / n_2**3
    return event_1 / n_1 - event_2 / n_2, variance
