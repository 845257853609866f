"""`models.elastic_net`: the lasso, ridge regression and what lies between, over sites."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis import elastic_net_hub as hub
from cohortium.analysis.elastic_net_model import ElasticNetParams, Net
from cohortium.analysis.elastic_net_site import contribute
from cohortium.analysis.elastic_net_state import Fit
from cohortium.analysis.interface import Continue, Done, DropOuts, Scope
from cohortium.analysis.marks import numbers_made
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table

__all__ = ["ElasticNet", "ElasticNetParams"]

Floats = npt.NDArray[np.float64]


class ElasticNet:
    """Generalised linear models of the pooled persons with a penalty on their coefficients.

    For each lambda of a path the coefficients that minimise

        -loglik / n + lambda * ((1 - alpha) / 2 * sum b_j^2 + alpha * sum |b_j|)

    where the columns have unit variance (divisor n) unless `standardize` is false, the intercept is
    not penalised, and coefficients are given for the columns as they are. The path and where it
    ends, cross-validated errors, `lambda_min` and `lambda_1se` are those of R's ``glmnet`` and
    ``cv.glmnet`` (models without a fold are fitted at the lambdas of the path, with columns
    standardised without that fold). ``glmnet`` divides a gaussian outcome by its standard deviation
    first: for alpha < 1 its penalty is this one for such an outcome. The solution is the minimum:
    the slopes keep its conditions to 1e-9 of the largest one, those of the folds to 1e-8.

    Persons come to folds by their row's number and the seed, in small groups that no seed parts:
    see `analysis.folds`. Assumes as `glm`; standard errors do not exist, since what is selected was
    looked for in the same persons.

    Leaves the site, summed under masks, over its complete persons (p columns, K folds, L lambdas):
        first: as `glm` without options: persons, sums, sums of squares, small tables; and of each
            fold the persons and whether the site has any;
        gram: of each fold the p (p + 1) / 2 sums of products of the centred columns, the p of
            products with the centred outcome, and for gaussian its sum of squares, with which
            everything is known;
        path: each iteration at once for all lambdas the slopes and the deviance, and for 50 of them
            at most the p (p + 1) / 2 weighted sums of products;
        split, folds: the same without the deviance, of each fold or without it, for its own models;
        error: of each fold and lambda the sum of deviances under the model without that fold.
    The models without a fold go to the sites and are not released.

    Refuses: as `glm`, but that lambdas are released until more coefficients are not 0 than the
    persons allow (PolicyRefusal ``too-many-parameters`` where that is so at once), and that the
    persons must be more than the columns. ``too-few-persons`` for a fold of fewer than `min_cell`
    (or the cohort's minimum) or than columns, ``too-few-sites`` for one of persons of one site.
    InputError ``no-convergence`` where all outcomes of a kind are in one fold, and where the
    smallest lambda asked for leaves no finite minimum.

    Reference: Friedman, Hastie & Tibshirani 2010; Hastie, Tibshirani & Friedman 2009, ch. 3.4 and
    7.10 (cross-validation, the one-standard-error rule).
    """

    name: ClassVar[str] = "models.elastic_net"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 6 + hub.MAX_PATH_ROUNDS + hub.MAX_FOLD_ROUNDS
    params_type = ElasticNetParams

    def variables(self, params: ElasticNetParams) -> frozenset[str]:
        """The names in the formula."""
        return params.plain.reads

    def start(self, params: ElasticNetParams, scope: Scope) -> State:
        """Begin with counts, and with moments where each site guards its own floor."""
        net = Net.of(params, scope)
        at_once = scope.disclosure.floor == "site"
        return Fit.nothing(net, "counts+moments" if at_once else "counts").to_state()

    def layout(self, state: State, params: ElasticNetParams, scope: Scope) -> Layout:
        """See the class."""
        net = Net.of(params, scope)
        at = Fit.from_state(state, net)
        return net.layout(at.phase, len(at.lambdas), int(at.left.sum()))

    def local(
        self, table: Table, state: State, params: ElasticNetParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        net = Net.of(params, scope)
        return contribute(table, Fit.from_state(state, net), net, scope.disclosure)

    def numbers_made(self, table: Table, params: ElasticNetParams, scope: Scope) -> list[Floats]:
        """As `glm`."""
        return numbers_made(table, Net.of(params, scope).model.parsed)

    def column(self, field: str, index: int, params: ElasticNetParams, scope: Scope) -> str:
        """The term, or the pair of terms, of a component; the outcome where it is of no term."""
        net = Net.of(params, scope)
        names = net.model.parsed.names
        if field in {"columns", "squares", "gradient"}:
            return names[index % len(names)]
        if field in {"gram", "hessian"}:
            at = index % net.triangle
            pair = (names[int(axis[at])] for axis in np.triu_indices(len(names)))
            return " and ".join(dict.fromkeys(pair))
        return net.model.parsed.response.text

    def finish(
        self, total: Total, state: State, params: ElasticNetParams, scope: Scope
    ) -> Continue | Done:
        """Check what must be enough, then take a step."""
        net = Net.of(params, scope)
        at = Fit.from_state(state, net)
        match at.phase:
            case "counts" | "counts+moments" | "moments":
                return hub.first(at, total, net, scope)
            case "gram":
                return hub.second(at, total, net, scope)
            case "path":
                return hub.along(at, total, net, scope)
            case "split":
                return hub.split(at, total, net)
            case "folds":
                return hub.validate(at, total, net)
            case "error":
                return hub.last(at, total, net, scope)
