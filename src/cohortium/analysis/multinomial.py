"""`models.multinomial`: baseline-category logit of a category over sites."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import StringConstraints

from cohortium.analysis.category import CategoryAnalysis
from cohortium.analysis.category_model import Model
from cohortium.analysis.category_release import about, require_independent, separated
from cohortium.analysis.category_state import Progress
from cohortium.analysis.formula import MAX_CHARACTERS
from cohortium.analysis.glm_result import wald
from cohortium.analysis.interface import Continue, Done, Params, Scope
from cohortium.analysis.least_squares import inverse, pack, unpack
from cohortium.analysis.newton import MAX_HALVINGS, MAX_ITERATIONS, farthest_of, move
from cohortium.core.dictionary import Label
from cohortium.core.rounds import Contribution, Total
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class MultinomialParams(Params):
    """The model.

    Attributes:
        formula: See `cohortium.analysis.formula`; the outcome is a category, of three levels or
            more.
        reference: The level that others are compared with; absent: the first.
    """

    formula: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    reference: Label | None = None


class Multinomial(CategoryAnalysis[MultinomialParams]):
    """Baseline-category logit model of the pooled persons with a value of every variable.

    ``log(P(level) / P(reference)) = x' b_level``, a set of coefficients for each level but the
    reference. Assumes independent persons. Maximum likelihood by Newton's method with half steps,
    from the model without covariates to convergence in the last digits; columns are centred at the
    joint means on the way. Standard errors from the information (observed and expected are the
    same); Wald z; likelihood-ratio test against the model without covariates; McFadden's R2.

    Leaves the site, summed under masks, over its complete persons (p columns, K levels), never for
    a person:
        first: persons, persons left out, whether there are any; sums and sums of squares of the
            columns, persons at each level of the outcome and of each category, the persons for
            whom two columns, or a column and a level of the outcome, are 1;
        each iteration: the log-likelihood, the q = p (K - 1) of the score, the q (q + 1) / 2 of
            the information.

    Refuses: a site with the floor ``site`` sends zeros where it has fewer than `min_cell` complete
    persons. PolicyRefusal ``too-few-persons`` where fewer are left jointly, where 1 to ``min_cell -
    1`` are at a level of the outcome or of a category or have one of the values of a column of
    zeros and ones, where two such columns (or one and a level) differ by as few, and where all
    columns mark groups and as few are in one of them and at a level; ``too-few-sites`` where only
    one has persons; ``too-many-parameters`` where there are fewer than 10 persons for a coefficient
    (or what the limits say). InputError ``no-convergence`` for a level of nobody, columns that
    others determine and separated outcomes, with their names.

    Reference: McFadden 1974; Agresti 2013, Categorical Data Analysis, ch. 8.1.
    """

    name: ClassVar[str] = "models.multinomial"
    version: ClassVar[int] = 1
    max_rounds: ClassVar[int] = 3 + MAX_ITERATIONS + MAX_HALVINGS
    params_type = MultinomialParams

    def formula(self, params: MultinomialParams) -> str:
        """See `CategoryAnalysis`."""
        return params.formula

    def model(self, params: MultinomialParams, scope: Scope) -> Model:
        """See `CategoryAnalysis`."""
        return Model.of(params.formula, scope, first=params.reference, order=None, steps=False)

    def begin(self, at: Progress, params: MultinomialParams) -> Floats:  # noqa: ARG002
        """See `CategoryAnalysis`."""
        p = len(at.centre)
        beta = np.zeros((len(at.outcomes) - 1, p))
        beta[:, 0] = np.log(at.outcomes[1:] / at.outcomes[0])
        return beta.ravel()

    def add(
        self,
        out: Contribution,
        x: Floats,
        y: Ints,
        *,
        at: Progress,
        model: Model,
        params: MultinomialParams,  # noqa: ARG002
    ) -> None:
        """See `CategoryAnalysis`."""
        n, p, others = len(y), model.p, model.k - 1
        eta = np.zeros((n, model.k))
        eta[:, 1:] = x @ at.beta.reshape(others, p).T
        eta -= eta.max(axis=1, keepdims=True)
        mass = np.exp(eta)
        whole = mass.sum(axis=1, keepdims=True)
        share = mass / whole
        rows = np.arange(n)
        out["loglik"] += float((eta[rows, y] - np.log(whole[:, 0])).sum())
        residual = -share
        residual[rows, y] += 1.0
        out["score"] += (x.T @ residual[:, 1:]).T.ravel()
        weighed = (share[:, 1:, None] * x[:, None, :]).reshape(n, others * p)
        information = -(weighed.T @ weighed)
        for level in range(others):
            # 1 - share, without cancellation where the level is nearly sure
            rest = np.delete(share, level + 1, axis=1).sum(axis=1)
            block = slice(level * p, (level + 1) * p)
            information[block, block] = (x * (share[:, level + 1] * rest)[:, None]).T @ x
        out["information"] += pack(information)

    def step(
        self,
        at: Progress,
        total: Total,
        *,
        model: Model,
        params: MultinomialParams,
        scope: Scope,
    ) -> Continue | Done:
        """See `CategoryAnalysis`."""
        loglik, score = float(total["loglik"][0]), np.asarray(total["score"])
        information = unpack(np.asarray(total["information"]), model.q)
        if at.step == 0:
            first = information[: model.p, : model.p]
            require_independent(model.parsed.names, first, first[0, 0] * at.centre**2)
        spread = np.tile(at.spread, model.k - 1)
        to = move(at.point(spread), loglik, score, information, partial(_without_end, model))
        if to.kind == "half":
            back = at.but(beta=to.beta, halvings=at.halvings + 1)
            return Continue(back.to_state(), 0.5, f"iteration {at.step}, half a step")
        ahead = at.but(beta=to.beta, previous=at.beta, step=at.step + 1).scalar(0, loglik)
        if to.kind == "last":
            result = _assemble(ahead, loglik, information, model, scope)
            return Done({**result, "reference": params.reference or model.levels[0]})
        progress = min(0.9, 0.3 + 0.1 * at.step)
        return Continue(ahead.to_state(), progress, f"iteration {at.step + 2}")


def names_of(model: Model) -> tuple[str, ...]:
    """The coefficients' names: ``level: term``, level by level."""
    terms = model.parsed.names
    return tuple(f"{level}: {term}" for level in model.levels[1:] for term in terms)


def _without_end(model: Model, moves: Floats) -> InputError:
    """Slopes are named; an intercept goes where they go."""
    slopes = moves.reshape(model.k - 1, model.p).copy()
    if model.p > 1:
        slopes[:, 0] = 0.0
    return separated(model, farthest_of(names_of(model), slopes.ravel()))


def _assemble(
    at: Progress, loglik: float, information: Floats, model: Model, scope: Scope
) -> dict[str, Any]:
    """The result, of the columns as they were."""
    p, others = model.p, model.k - 1
    back = np.eye(p)
    back[0, 1:] = -at.centre[1:]
    whole = np.kron(np.eye(others), back)
    beta, cov = whole @ at.beta, whole @ inverse(information) @ whole.T
    return {
        **about(at, loglik, model, scope),
        "family": "multinomial",
        "link": "logit",
        "terms": list(names_of(model)),
        "columns": list(model.parsed.names),
        "params": beta.tolist(),
        **wald(beta, np.sqrt(np.diag(cov)), None),
        "cov": cov.tolist(),
        "iterations": at.step,
    }
