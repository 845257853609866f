"""`glm`: generalised linear models over sites, by iteratively reweighted least squares."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import parse
from cohortium.analysis.glm_model import GlmParams, Model, check_response
from cohortium.analysis.glm_release import (
    release_counts,
    release_moments,
    require_cells,
    require_clusters,
)
from cohortium.analysis.glm_site import contribute
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.glm_step import (
    MAX_HALVINGS,
    MAX_ITERATIONS,
    first_step,
    last_step,
    next_step,
)
from cohortium.analysis.interface import Continue, Done, DropOuts, Scope
from cohortium.analysis.least_squares import unpack
from cohortium.analysis.marks import numbers_made
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import ProtocolError

__all__ = ["Glm", "GlmParams"]

Floats = npt.NDArray[np.float64]


class Glm:
    """Generalised linear model of the pooled persons with a value of every variable.

    Maximum likelihood by Fisher scoring as in R's ``glm.fit``: the same start, and iterations until
    ``|change in deviance| / (|deviance| + 0.1) < 1e-8``; then one more Newton step from sums that
    are at hand, so that the estimate is exact to rounding. Columns are centred at the joint means
    on the way, so that badly scaled ones lose no digits. Standard errors from the expected
    information, the dispersion of gamma and inverse Gaussian from Pearson's chi-square; Wald tests
    (t with n - p degrees of freedom for these and gaussian, else z). Of these two with link log the
    steps take the observed information; with the links inverse and inverse_squared they are halved
    while somebody's mean is not positive.

    `errors`: the sandwich estimators HC0 to HC3 (Long & Ervin 2000), or clustered by site with the
    factor S / (S - 1) * (n - 1) / (n - p) and t with S - 1 degrees of freedom.

    Leaves the site, summed under masks, over its complete persons (p columns), never for a person:
        round 1: persons, persons left out, whether the site contributes; with the floor ``site``
            also what follows, which with the floor ``total`` is the next round, once the joint
            number of persons is known to be enough;
        moments: the p column sums and sums of squares, those of the outcome, for poisson the sum of
            its log factorials, the persons at each level of each category, and the persons for whom
            two columns, or a column and the outcome, are 1;
        each iteration: the p (p + 1) / 2 entries of ``X'WX``, the p of ``X'(y - mean)``, the
            deviance; with `weights` or an `offset` the sum of the working weights and of their
            squares, and before, the sums of weights, weighted outcomes and offsets and the persons
            who count once; for gamma and inverse Gaussian Pearson's chi-square, with link log the
            observed information, else the persons without a positive mean;
        last, with `errors`: the p (p + 1) / 2 sums of squares and products of the persons' scores
            (of HC2 and HC3 over 1 - h and its square, with the leverage h from the joint
            information), or of the site's own summed score; never a score.

    Refuses: a site with the floor ``site`` sends zeros where it has fewer than `min_cell` complete
    persons. PolicyRefusal ``too-few-persons`` where fewer are left jointly, where a level (or a
    combination of levels that is a column) has 1 to ``min_cell - 1`` of them, or as few have one of
    the values of a column of zeros and ones, or of two outcomes, or where two such columns (or one
    and the outcome) differ by as few, and where as few of a group have one of two outcomes and all
    columns of a binomial model mark groups, or the outcome is a number (of 0 and 1) of a linear or
    Poisson model; ``too-many-parameters`` where there are fewer than 10
    persons for a parameter or residual degrees of freedom (or what the limits say). With weights or
    an offset ``too-few-persons`` where the working weights leave ``(sum w)^2 / sum w^2`` below it.
    For HC2 and HC3 ``too-few-persons`` where a leverage is above 1/2; for errors by site
    ``too-few-sites`` of fewer than 5: of three, each could work out the others' scores from the sum
    of squares and its own. InputError ``no-convergence`` for columns that others determine and for
    separated outcomes, with their names; ``bad-input`` for an outcome, offset or weight that does
    not fit.

    Reference: McCullagh & Nelder 1989, ch. 2; Albert & Anderson 1984 (separation); White 1980,
    MacKinnon & White 1985 (sandwich).
    """

    name: ClassVar[str] = "glm"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 4 + MAX_ITERATIONS + MAX_HALVINGS
    params_type = GlmParams

    def variables(self, params: GlmParams) -> frozenset[str]:
        """The names in the formula, the offset and the weights."""
        return params.reads

    def start(self, params: GlmParams, scope: Scope) -> State:
        """Begin with counts, and with moments where each site guards its own floor."""
        model = Model.of(params, scope)
        check_response(model, scope)
        if params.errors == "site":
            require_clusters(scope.n_sites)
        at_once = scope.disclosure.floor == "site"
        return Progress.nothing(model.parsed, "counts+moments" if at_once else "counts").to_state()

    def layout(self, state: State, params: GlmParams, scope: Scope) -> Layout:
        """See the class."""
        model = Model.of(params, scope)
        return model.layout(_read(state, model, scope).phase)

    def local(self, table: Table, state: State, params: GlmParams, scope: Scope) -> Contribution:
        """See the class."""
        model = Model.of(params, scope)
        return contribute(table, _read(state, model, scope), model, scope.disclosure)

    def numbers_made(self, table: Table, params: GlmParams, scope: Scope) -> list[Floats]:
        """Columns with an expression or a product of numbers, an outcome with an expression; the
        weights, and the offset as the link turns it into one.
        """
        model = Model.of(params, scope)
        return numbers_made(table, model.parsed) + model.told(table)

    def column(self, field: str, index: int, params: GlmParams, scope: Scope) -> str:
        """The term, or the pair of terms, of a component; the outcome where it is of no term."""
        parsed = parse(params.formula, scope.variables)
        names = parsed.names
        if field in {"columns", "squares", "gradient"}:
            return names[index]
        if field in {"information", "observed", "meat"}:
            pair = (names[int(axis[index])] for axis in np.triu_indices(len(names)))
            return " and ".join(dict.fromkeys(pair))
        return parsed.response.text

    def finish(
        self, total: Total, state: State, params: GlmParams, scope: Scope
    ) -> Continue | Done:
        """Check what must be enough, then take a step."""
        model = Model.of(params, scope)
        at = _read(state, model, scope)
        if "persons" in total:
            at = release_counts(at, total, model, scope)
            if at.phase == "counts":
                return Continue(at.but(phase="moments").to_state(), 0.1, "counts")
        if at.phase in {"moments", "counts+moments"}:
            at = release_moments(at, total, model, scope)
            require_cells(total, int(at.counts[0]), model, scope)
            return Continue(at.but(phase="start").to_state(), 0.2, "column means")
        if at.phase == "errors":
            return last_step(at, total, model, scope)
        if at.phase == "fit":
            return next_step(at, total, model, scope)
        information = unpack(np.asarray(total["information"]), len(model.parsed.names))
        gradient, deviance = np.asarray(total["gradient"]), float(total["deviance"][0])
        at = first_step(at, information, gradient, deviance, model)
        return Continue(at.but(phase="fit").to_state(), 0.3, "iteration 1")


def _read(state: State, model: Model, scope: Scope) -> Progress:
    """The state, whose phase must be one of this model's."""
    at = Progress.from_state(state, model.parsed)
    if at.phase == "errors":
        if not model.robust:
            raise ProtocolError("malformed-message", "The state of the round is not this model's.")
        if model.params.errors == "site":
            require_clusters(scope.n_sites)
    return at
