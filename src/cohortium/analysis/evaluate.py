"""`evaluate.model`: how well models predict a binary outcome, over sites."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis import evaluate_checks as checks
from cohortium.analysis.distribution import MAX_ROUNDS, Distribution, Known, progress_of
from cohortium.analysis.evaluate_model import Bound, EvaluateParams
from cohortium.analysis.evaluate_pairs import Pairs, is_pairs
from cohortium.analysis.evaluate_points import points_of
from cohortium.analysis.evaluate_result import assess, compare
from cohortium.analysis.grouped import own_floor
from cohortium.analysis.interface import Continue, Done, DropOuts, Scope
from cohortium.analysis.marks import differences, numbers_made
from cohortium.core.dictionary import VariableType
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table

__all__ = ["Evaluate", "EvaluateParams"]

Floats = npt.NDArray[np.float64]


class Evaluate:
    """Discrimination, calibration and usefulness of prediction models, on the pooled persons.

    A model is a variable (a score, or a probability), or a formula with coefficients: one fitted
    here or published elsewhere. Estimated are the area under the ROC curve with DeLong's standard
    error, the average precision, and the points of both curves; of probabilities also Brier score,
    log loss, calibration in the large, intercept and slope, observed and expected events by groups
    of risk with Hosmer and Lemeshow's test, and net benefit. Several models: DeLong's paired test.
    Assumes independent persons; persons to whom a model was fitted flatter it.

    Log odds are rounded to 0.001, and everything is that of the pooled persons with the rounded
    scores; `resolution` gives the limits within which the area of the unrounded ones lies. A score
    that is a variable is taken as it is recorded, at 2^-20 standard deviations at the finest.

    Leaves the site: see `cohortium.analysis.distribution`: the hub sees how many persons of all
    sites together, with and without the event, have which score, of each model by itself. Before,
    persons by outcome and, of a formula's columns, the sums, squares and joint counts of zeros and
    ones that `glm` asks for; with the scores, sums of the columns' squared distances from their
    joint means, and of the squares of those. With several models, in one more round, sums of
    products of the persons' places among the released points.

    Refuses: fewer than `min_cell` persons with or without the event, or of one institution alone:
    PolicyRefusal ``too-few-persons``, ``too-few-sites``; a formula of whose columns of zeros and
    ones, or levels, few persons are told apart, or of which a column varies by few; probabilities
    that are nearly 0 and 1 but for few persons. InputError ``bad-input`` for a formula's log odds
    of a standard deviation above 6, and coefficients that do not fit; ``no-convergence`` where all
    have one outcome or one score. Scores are merged until no point of a curve tells of 1 to
    ``min_cell - 1`` persons with or without the event (see `cohortium.analysis.evaluate_points`);
    where only few are merged, the areas are of merged scores too. Thresholds are no parameters.

    Reference: DeLong, DeLong & Clarke-Pearson 1988; Steyerberg et al. 2010; Vickers & Elkin 2006.
    """

    name: ClassVar[str] = "evaluate.model"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = MAX_ROUNDS + 1
    params_type = EvaluateParams

    def variables(self, params: EvaluateParams) -> frozenset[str]:
        """The outcome, and what the models read."""
        return params.reads

    def partition(self, params: EvaluateParams, scope: Scope) -> tuple[str, ...]:
        """Who had the event, where that is of levels."""
        variable = scope.variable(params.outcome)
        told = variable.levels is not None or variable.type is VariableType.BOOLEAN
        return (variable.name,) if told else ()

    def start(self, params: EvaluateParams, scope: Scope) -> State:
        """Begin with counts, and with sums where each site guards its own floor."""
        return Known.start(Bound.of(params, scope).question, scope).to_state()

    def layout(self, state: State, params: EvaluateParams, scope: Scope) -> Layout:
        """See the class."""
        bound = Bound.of(params, scope)
        if is_pairs(state):
            return Pairs.from_state(state, bound).layout()
        known = Known.from_state(state, bound.question)
        return {**known.layout(bound.question), **_more(known, bound)}

    def local(
        self, table: Table, state: State, params: EvaluateParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        bound = Bound.of(params, scope)
        if is_pairs(state):
            return Pairs.from_state(state, bound).local(table, bound, scope)
        known = Known.from_state(state, bound.question)
        centres = checks.read_centres(state, bound) if known.phase == "cells" else {}
        scored = bound.scored(table)
        out: dict[str, Array] = dict(known.local(scored, bound.question, scope))
        for name, spec in _more(known, bound).items():
            out[name] = np.zeros(spec.shape, np.int64 if spec.kind == "count" else np.float64)
        rows = bound.complete(scored)
        if np.count_nonzero(rows) >= own_floor(scope):
            persons = table.take(rows)
            if "sums" in out:
                checks.contribute(out, persons, bound)
            if centres:
                checks.contribute_distances(out, persons, bound, centres)
        return out

    def numbers_made(self, table: Table, params: EvaluateParams, scope: Scope) -> list[Floats]:
        """What a formula's expressions make, each linear predictor, and what one model's leaves of
        another's.
        """
        bound = Bound.of(params, scope)
        formulas = [bound.scorers[at] for at, _ in bound.formulas]
        linear = [one.linear(table) for one in formulas]
        out = [*linear, *differences(linear)]
        for _, parsed in bound.formulas:
            out += numbers_made(table, parsed)
        return out

    def column(self, field: str, index: int, params: EvaluateParams, scope: Scope) -> str:
        """The model, or the column, of a component; counts do not overflow."""
        bound = Bound.of(params, scope)
        if field.startswith("columns_"):
            parsed = bound.scorers[int(field.removeprefix("columns_"))].parsed
            names = () if parsed is None else (*parsed.names, params.outcome)
            return names[index % len(names)]
        if field == "sums":
            return params.models[index // 2 % len(params.models)].name
        return params.outcome

    def finish(
        self, total: Total, state: State, params: EvaluateParams, scope: Scope
    ) -> Continue | Done:
        """Go on until it is known how many have which score, then compute."""
        bound = Bound.of(params, scope)
        if is_pairs(state):
            pairs = Pairs.from_state(state, bound)
            result = dict(state.values["result"])
            return Done(compare(result, pairs.correlations(total), params.confidence))
        known = Known.from_state(state, bound.question)
        next_one = known.advance(total, bound.question, scope)
        centres: dict[str, Array] = {}
        if isinstance(next_one, Known):
            if "sums" in total:
                checks.require(total, next_one.n, bound, scope)
                centres = checks.centres(total, next_one.n, bound)
            elif known.phase == "cells":
                centres = checks.read_centres(state, bound)
            onward = next_one.to_state()
            onward = State(onward.values, {**onward.arrays, **centres})
            return Continue(onward, **progress_of(next_one))
        checks.require_many(total, bound, scope)
        return self._assess(next_one, known, bound, scope)

    def _assess(
        self, found: list[Distribution], known: Known, bound: Bound, scope: Scope
    ) -> Continue | Done:
        params = bound.params
        points = [points_of(one, scope.disclosure.min_cell) for one in found]
        models, suppressed = [], []
        for one, at, scorer in zip(found, points, bound.scorers, strict=True):
            model, reasons = assess(one, at, scorer, params, scope)
            models.append(model)
            suppressed += reasons
        result: dict[str, Any] = {
            "title": "Evaluation of prediction models",
            "outcome": params.outcome,
            "event": bound.outcome.event,
            "confidence": params.confidence,
            "n": known.n,
            "events": int(found[0].counts[:, 1].sum()),
            "n_missing": int(known.counted.left_out[0]),
            "n_sites": scope.n_sites,
            "models": models,
            "comparisons": [],
            "all_equal": None,
            "suppressed": suppressed,
        }
        if len(models) == 1:
            return Done(result)
        return Continue(Pairs.of(found, points).to_state(result), 0.8, "pairs")


def _more(known: Known, bound: Bound) -> Layout:
    """The fields beside those of the scores' distribution."""
    if known.phase == "cells":
        return checks.distances(bound)
    return checks.fields(bound) if "sums" in known.phase else {}
