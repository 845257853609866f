"""`models.ordinal`: cumulative link model of an ordered category over sites."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints

from cohortium.analysis import brant
from cohortium.analysis.category import COUNTS, CategoryAnalysis
from cohortium.analysis.category_model import Model
from cohortium.analysis.category_release import require_independent, separated
from cohortium.analysis.category_state import CUTS, Progress, malformed
from cohortium.analysis.cumulative import LEAST_GAP, Between, Link, thresholds_of
from cohortium.analysis.formula import MAX_CHARACTERS
from cohortium.analysis.interface import Continue, Done, Params, Scope
from cohortium.analysis.least_squares import pack, unpack
from cohortium.analysis.newton import MAX_HALVINGS, MAX_ITERATIONS, farthest_of, move
from cohortium.analysis.ordinal_result import assemble
from cohortium.core.dictionary import Label
from cohortium.core.rounds import Contribution, Layout, Total
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class OrdinalParams(Params):
    """The model.

    Attributes:
        formula: See `cohortium.analysis.formula`; the outcome is a category, of three levels or
            more, whose order is that of its declared levels.
        link: logit (proportional odds), probit or cloglog (proportional hazards).
        levels: Every level of the outcome, from low to high; absent: as declared.
    """

    formula: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    link: Link = "logit"
    levels: Annotated[tuple[Label, ...], Field(max_length=500)] | None = None


class Ordinal(CategoryAnalysis[OrdinalParams]):
    """Cumulative link model of the pooled persons with a value of every variable.

    ``P(outcome <= level k) = F(threshold_k - x' b)`` with F logistic (proportional odds), normal or
    ``1 - exp(-exp)``: one set of coefficients, whichever levels are told apart; a positive one
    means higher levels. As R's ``MASS::polr``. Assumes independent persons. Maximum likelihood over
    thresholds and coefficients together by Newton's method with half steps, from the thresholds of
    the model without covariates; columns are centred at the joint means on the way. Standard errors
    from the observed information; Wald z; likelihood-ratio test against the model without
    covariates. With the link logit, Brant's test of proportional odds: logit models of each cut of
    the levels, fitted beside it, have the same slopes.

    Leaves the site, summed under masks, over its complete persons (p columns, K levels), never for
    a person:
        first: persons, persons left out, whether there are any; sums and sums of squares of the
            columns, persons at each level of the outcome and of each category, the persons for
            whom two columns, or a column and a level of the outcome, are 1;
        each iteration: the log-likelihood, the q = p + K - 1 of the score, the q (q + 1) / 2 of the
            information;
        for Brant's test, each iteration: the log-likelihood and scores of the K - 1 logit models,
            and the K (K - 1) / 2 matrices of information of each and of each two together.

    Refuses: a site with the floor ``site`` sends zeros where it has fewer than `min_cell` complete
    persons. PolicyRefusal ``too-few-persons`` where fewer are left jointly, where 1 to ``min_cell -
    1`` are at a level of the outcome or of a category or have one of the values of a column of
    zeros and ones, where two such columns (or one and a level) differ by as few, and where all
    columns mark groups and as few are in one of them and at a level; ``too-few-sites`` where only
    one has persons; ``too-many-parameters`` where there are fewer than 10 persons for a parameter
    (or what the limits say). InputError ``no-convergence`` for a level of nobody, columns that
    others determine and separated outcomes, with their names; ``bad-formula`` without a term.

    Reference: McCullagh 1980; Brant 1990; Agresti 2013, Categorical Data Analysis, ch. 8.2.
    """

    name: ClassVar[str] = "models.ordinal"
    version: ClassVar[int] = 1
    max_rounds: ClassVar[int] = 4 + 2 * (MAX_ITERATIONS + MAX_HALVINGS)
    phases: ClassVar[tuple[str, ...]] = (*COUNTS, "fit", CUTS)
    params_type = OrdinalParams

    def formula(self, params: OrdinalParams) -> str:
        """See `CategoryAnalysis`."""
        return params.formula

    def model(self, params: OrdinalParams, scope: Scope) -> Model:
        """See `CategoryAnalysis`."""
        return Model.of(params.formula, scope, first=None, order=params.levels, steps=True)

    def begin(self, at: Progress, params: OrdinalParams) -> Floats:
        """See `CategoryAnalysis`."""
        first = thresholds_of(params.link, at.outcomes.astype(np.float64))
        return np.concatenate([first, np.zeros(len(at.centre))])

    def check(self, at: Progress, params: OrdinalParams) -> None:
        """Thresholds increase; only with the link logit are there cuts."""
        if at.phase == CUTS:
            if params.link != "logit":
                raise malformed()
        elif not _increase(at.beta[: len(at.outcomes) - 1]):
            raise malformed()

    def sums(self, at: Progress, model: Model) -> Layout:
        """See `CategoryAnalysis`."""
        return brant.layout(model) if at.phase == CUTS else super().sums(at, model)

    def add(
        self,
        out: Contribution,
        x: Floats,
        y: Ints,
        *,
        at: Progress,
        model: Model,
        params: OrdinalParams,
    ) -> None:
        """See `CategoryAnalysis`."""
        if at.phase == CUTS:
            brant.add(out, x, y, at.beta, model)
            return
        cuts, k = model.k - 1, model.k
        here = Between.of(params.link, at.beta[:cuts], y, x @ at.beta[cuts:])

        def by_level(values: Floats) -> Floats:
            return np.asarray(np.bincount(y, weights=values, minlength=k), dtype=np.float64)

        out["loglik"] += here.loglik
        out["score"][:cuts] += by_level(here.high)[:-1] - by_level(here.low)[1:]
        out["score"][cuts:] += x.T @ (here.low - here.high)
        information = np.zeros((model.q, model.q))
        both = by_level(here.both)
        along = by_level(here.fall_high + here.both)[:-1] + by_level(here.fall_low + here.both)[1:]
        information[np.arange(cuts), np.arange(cuts)] = along
        inner = np.arange(cuts - 1)
        information[inner, inner + 1] = -both[1:-1]
        rows = np.arange(len(y))
        marks = np.zeros((len(y), k + 1))
        marks[rows, y] = here.fall_low  # along the threshold below
        marks[rows, y + 1] = here.fall_high
        information[:cuts, cuts:] = -(marks[:, 1:-1].T @ x)
        information[cuts:, cuts:] = (x * (here.fall_low + here.fall_high)[:, None]).T @ x
        out["information"] += pack(information)

    def step(
        self,
        at: Progress,
        total: Total,
        *,
        model: Model,
        params: OrdinalParams,
        scope: Scope,
    ) -> Continue | Done:
        """See `CategoryAnalysis`."""
        if at.phase == CUTS:
            return self._cut(at, total, model=model, params=params, scope=scope)
        loglik, score, cuts = float(total["loglik"][0]), np.asarray(total["score"]), model.k - 1
        information = unpack(np.asarray(total["information"]), model.q)
        if at.step == 0:
            slopes = information[cuts:, cuts:]
            require_independent(model.parsed.names, slopes, at.n * at.centre**2)
        spread = np.concatenate([np.ones(cuts), at.spread])
        to = move(at.point(spread), loglik, score, information, partial(_without_end, model))
        if to.kind == "half":
            back = at.but(beta=to.beta, halvings=at.halvings + 1)
            return Continue(back.to_state(), 0.4, f"iteration {at.step}, half a step")
        beta = to.beta
        while not _increase(beta[:cuts]):
            beta = (beta + at.beta) / 2
        ahead = at.but(beta=beta, previous=at.beta, step=at.step + 1).scalar(0, loglik)
        if to.kind == "onward":
            progress = min(0.7, 0.3 + 0.1 * at.step)
            return Continue(ahead.to_state(), progress, f"iteration {at.step + 2}")
        packed = pack(information)
        found = ahead.but(fitted=beta, information=packed)
        found = found.scalar(1, loglik).scalar(2, ahead.step)
        if params.link != "logit":
            return Done(assemble(found, None, model=model, params=params, scope=scope))
        start = brant.begin(beta, model)
        onward = found.but(phase=CUTS, beta=start, previous=start, step=0, halvings=0)
        return Continue(onward.scalar(0, 0.0).to_state(), 0.8, "test of proportional odds")

    def _cut(
        self, at: Progress, total: Total, *, model: Model, params: OrdinalParams, scope: Scope
    ) -> Continue | Done:
        """A move of the logit models of each cut, or the result."""
        loglik, score = float(total["loglik"][0]), np.asarray(total["score"])
        together = brant.unpack_pairs(np.asarray(total["information"]), model)
        spread = np.tile(np.append(1.0, at.spread), model.k - 1)
        information = brant.block_diagonal(together, model)
        try:
            to = move(at.point(spread), loglik, score, information, partial(_without_cut, model))
        except InputError:  # of one cut; the fit of all together is there
            return Done(assemble(at, None, model=model, params=params, scope=scope))
        if to.kind == "half":
            back = at.but(beta=to.beta, halvings=at.halvings + 1)
            return Continue(back.to_state(), 0.9, "test of proportional odds")
        ahead = at.but(beta=to.beta, previous=at.beta, step=at.step + 1).scalar(0, loglik)
        if to.kind == "onward":
            return Continue(ahead.to_state(), 0.9, "test of proportional odds")
        tests = brant.test(ahead.beta, together, model)
        return Done(assemble(ahead, tests, model=model, params=params, scope=scope))


def _increase(thresholds: Floats) -> bool:
    return bool(np.all(np.diff(thresholds) >= LEAST_GAP))


def _without_end(model: Model, moves: Floats) -> InputError:
    """Slopes are named; the thresholds go where they go."""
    return separated(model, farthest_of(model.parsed.names, moves[model.k - 1 :]))


def _without_cut(model: Model, moves: Floats) -> InputError:  # noqa: ARG001
    return separated(model, [])
