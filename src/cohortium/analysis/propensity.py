"""`causal.propensity`: effects of a treatment by weighting with the propensity score."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.glm_release import release_counts, release_moments
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.glm_step import MAX_HALVINGS, MAX_ITERATIONS, first_step, next_step
from cohortium.analysis.interface import Continue, Done, DropOuts, Scope
from cohortium.analysis.least_squares import unpack
from cohortium.analysis.marks import numbers_made
from cohortium.analysis.propensity_augmented import onward, require_enough
from cohortium.analysis.propensity_model import Design, PropensityParams
from cohortium.analysis.propensity_release import release_overlap
from cohortium.analysis.propensity_result import assemble
from cohortium.analysis.propensity_site import add_up
from cohortium.analysis.propensity_state import Stage, Weighing
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table

__all__ = ["Propensity", "PropensityParams"]

Floats = npt.NDArray[np.float64]


class Propensity:
    """The effect of a treatment, among the pooled persons with a value of every variable.

    The propensity score e, each person's probability to be treated, is that of a logistic model
    (see `glm`). Persons are weighted by h / e among the treated and h / (1 - e) among the controls:
    h = 1 for the average effect in everybody (ATE, IPTW), e in the treated (ATT), 1 - e in the
    controls (ATC), e (1 - e) in those who could be either (ATO, overlap weights). Means of the
    outcome are weighted by arm (Hajek), their covariance is the sandwich of the stacked estimating
    equations of score and means, so that it counts in that the score is estimated; `robust` takes
    it for known. For an outcome of zeros and ones: risks, their difference, ratio and odds ratio by
    the delta method (limits of ratios on the log scale). Standardised differences are over the root
    of the mean of the arms' variances before weighting.

    Assumes that whatever decides on the treatment and affects the outcome is in the model (no
    unmeasured confounding), that everybody could be in either arm (overlap), that the model of the
    score is right, and that one person's treatment does not affect another. Trimming takes the
    limits of the score for fixed; the score is not estimated again. `stabilized` changes weights
    and no mean. `doubly_robust` (AIPW, of the ATE) adds a linear model of the outcome in each arm,
    and is right where one of both models is.

    Leaves the site, summed under masks, over its complete persons (p columns), never for a person:
        first: as `glm` of the treatment; what follows comes after the score is known;
        overlap: for each arm the persons, whether there are any, column sums and sums of squares,
            persons at each level, persons for whom two columns are 1, sums of the outcome and its
            square, with `trim` all of that within the limits again; the persons in 24 cells of the
            score, and whether there are any; the sums of weights and of their squares;
        balance: for each arm the weighted sums of columns, squares, levels and the outcome;
        effect: for each arm the sum of squares of w (y - mean), and, `stacked`, its products with
            the columns times z - e, the sums of its slope, and the p (p + 1) / 2 of
            ``X' (z - e)^2 X``.
        outcome, augment, influence, instead of effect, where it is to be doubly robust: for each
            arm the p (p + 1) / 2 products of columns and the p with the outcome; the sums of the
            estimates and of their slopes; the three sums of squares and products of influences.
    No weight and no score leaves a site.

    Refuses: as `glm`. A site with the floor ``site`` sends zeros throughout where it has fewer than
    `min_cell` persons in all, or 1 to ``min_cell - 1`` in an arm. PolicyRefusal ``too-few-persons``
    where an arm has fewer than `min_cell`, where 1 to ``min_cell - 1`` of an arm have (or do not
    have) the outcome, a level, or what two columns differ in; where the weights leave an arm an
    effective number of persons below ``2 min_cell``; where at a site ``min_cell - 1`` persons have
    more than 95 % of an arm's weights, or the dominance rule says so of weights or weighted values;
    for a limit of the score beside which 1 to ``min_cell - 1`` persons of an arm, or those of one
    site, are (limits are on a fixed grid; cells of the score are merged in the same way).
    ``too-few-sites`` for an arm of one institution. InputError ``no-convergence`` where the
    treatment is separated.

    Reference: Lunceford & Davidian 2004; Li, Morgan & Zaslavsky 2018 (overlap weights); Stefanski &
    Boos 2002 (M-estimation); Glynn & Quinn 2010 (AIPW); Austin 2009 (balance).
    """

    name: ClassVar[str] = "causal.propensity"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 9 + MAX_ITERATIONS + MAX_HALVINGS
    params_type = PropensityParams

    def variables(self, params: PropensityParams) -> frozenset[str]:
        """Treatment, outcome and the names in the covariates."""
        return params.reads

    def partition(self, params: PropensityParams, scope: Scope) -> tuple[str, ...]:
        """The arms."""
        Design.of(params, scope)
        return (params.treatment,)

    def start(self, params: PropensityParams, scope: Scope) -> State:
        """Begin with counts, and with moments where each site guards its own floor."""
        design = Design.of(params, scope)
        at_once = scope.disclosure.floor == "site"
        model = Progress.nothing(design.parsed, "counts+moments" if at_once else "counts")
        return Weighing("model", model).to_state()

    def layout(self, state: State, params: PropensityParams, scope: Scope) -> Layout:
        """See the class."""
        design = Design.of(params, scope)
        at = Weighing.from_state(state, design)
        return (
            design.model.layout(at.model.phase) if at.stage == "model" else design.layout(at.stage)
        )

    def local(
        self, table: Table, state: State, params: PropensityParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        design = Design.of(params, scope)
        return add_up(table, Weighing.from_state(state, design), design, scope.disclosure)

    def numbers_made(self, table: Table, params: PropensityParams, scope: Scope) -> list[Floats]:
        """Columns with an expression or a product of numbers."""
        return numbers_made(table, Design.of(params, scope).parsed)

    def column(self, field: str, index: int, params: PropensityParams, scope: Scope) -> str:
        """The term, or the pair of terms, of a component; else the outcome."""
        parsed = Design.of(params, scope).parsed
        names = parsed.names
        if field == "products":
            index %= len(names) * (len(names) + 1) // 2
        if field in {"information", "meat", "products"}:
            pair = (names[int(axis[index])] for axis in np.triu_indices(len(names)))
            return " and ".join(dict.fromkeys(pair))
        of_term = {"gradient", "slope", "cross", "moments", "pull"}
        if "columns" in field or "squares" in field or field in of_term:
            return names[index % len(names)]
        return params.outcome or parsed.response.text

    def finish(
        self, total: Total, state: State, params: PropensityParams, scope: Scope
    ) -> Continue | Done:
        """Check what must be enough, then go on."""
        design = Design.of(params, scope)
        at = Weighing.from_state(state, design)
        if at.stage == "model":
            return _model(at.model, total, design, scope)
        if at.stage == "overlap":
            known = release_overlap(at, total, design, scope)
            return Continue(Weighing("balance", at.model, known).to_state(), 0.9, "balance")
        if at.stage in {"outcome", "augment"}:
            return Continue(onward(at, total, design).to_state(), 0.96, "doubly robust")
        if at.stage in {"effect", "influence"} or design.outcome is None:
            return Done(assemble(at, total, design, scope))
        names = ("weighted_columns", "weighted_squares", "weighted_levels")
        known = {**at.known, "weighted_levels": np.zeros((2, 0))}
        known |= {name: np.asarray(total[name]) for name in names if name in total}
        known["means"] = np.asarray(total["weighted_outcome"]) / at.known["weights"][:, 0]
        if params.doubly_robust:
            require_enough(at, design, scope)
        stage: Stage = "outcome" if params.doubly_robust else "effect"
        return Continue(Weighing(stage, at.model, known).to_state(), 0.95, "effect")


def _model(at: Progress, total: Total, design: Design, scope: Scope) -> Continue | Done:
    """The rounds of `glm`; after its fit the state is in the phase ``errors``."""
    model = design.model
    if "persons" in total:
        at = release_counts(at, total, model, scope, more=0 if design.outcome is None else 2)
        if at.phase == "counts":
            return _go_on(at.but(phase="moments"), 0.1, "counts")
    if at.phase in {"moments", "counts+moments"}:
        at = release_moments(at, total, model, scope)
        return _go_on(at.but(phase="start"), 0.2, "column means")
    if at.phase == "fit":
        step = next_step(at, total, model, scope)
        if isinstance(step, Done):
            raise RuntimeError("a model with robust errors has another round")
        at = Progress.from_state(step.state, design.parsed)
        if at.phase == "errors":
            return Continue(Weighing("overlap", at).to_state(), 0.85, "overlap")
        return _go_on(at, 0.8 * step.progress, step.message)
    information = unpack(np.asarray(total["information"]), len(design.parsed.names))
    deviance = float(np.asarray(total["deviance"])[0])
    at = first_step(at, information, np.asarray(total["gradient"]), deviance, model)
    return _go_on(at.but(phase="fit"), 0.3, "iteration 1")


def _go_on(at: Progress, progress: float, message: str) -> Continue:
    return Continue(Weighing("model", at).to_state(), progress, message)
