"""`models.negative_binomial`: counts that vary more than a Poisson model says."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints

from cohortium.analysis.dispersed import MAX_COUNT, Dispersed
from cohortium.analysis.formula import MAX_CHARACTERS, complete, design, values_of
from cohortium.analysis.glm_model import GlmParams, Model, check_response
from cohortium.analysis.glm_release import (
    release_counts,
    release_moments,
    require_clusters,
    require_spread,
)
from cohortium.analysis.glm_result import uncentred, wald
from cohortium.analysis.glm_site import blocks, contribute
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.interface import Continue, Done, DropOuts, FieldSpec, Params, Scope
from cohortium.analysis.least_squares import aliased, inverse, pack, solve, unpack
from cohortium.analysis.marks import numbers_made
from cohortium.core.dictionary import Name, VariableType
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import InputError, ProtocolError

Floats = npt.NDArray[np.float64]

_MAX_ITERATIONS = 60
_MAX_HALVINGS = 20
_DECREMENT = 1e-16
_NOISE = 1e-11
_LEAST, _MOST = -10.0, 7.0
"""Of log alpha: below, a Poisson model fits as well."""


class NegativeBinomialParams(Params):
    """The model.

    Attributes:
        formula: See `cohortium.analysis.formula`; with an intercept.
        offset: A number that is added to the linear predictor, such as the log of a time.
        weights: A whole number from 1: how many times each person counts.
        errors: Of the standard errors: of the model, robust (HC0, HC1) or clustered by site.
    """

    formula: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    offset: Annotated[Name, Field(description="A variable.")] | None = None
    weights: Annotated[Name, Field(description="A variable.")] | None = None
    errors: Literal["model", "HC0", "HC1", "site"] = "model"

    @property
    def poisson(self) -> GlmParams:
        """The Poisson model of the same mean."""
        return GlmParams(
            formula=self.formula,
            family="poisson",
            offset=self.offset,
            weights=self.weights,
            errors=self.errors,
        )


class NegativeBinomial:
    """Negative binomial model (NB2) of the pooled persons: log of the mean, variance
    ``mean + alpha mean²``.

    Maximum likelihood over coefficients and log alpha together, by Newton's method on the observed
    information (where that is not positive definite, on the expected one), from the null model.
    Standard errors from the observed information of all of them, as statsmodels'
    ``NegativeBinomial``; those of R's ``glm.nb`` take alpha for known. `errors`: the sandwich
    estimators HC0 and HC1 of all p + 1 parameters, or clustered by site, as of `glm`.

    Leaves the site, summed under masks, over its complete persons (p columns), never for a person:
        first: as `glm` of the family poisson;
        each iteration: the (p + 1) (p + 2) / 2 entries of the observed information with log alpha,
            the p (p + 1) / 2 of the expected one without, the p + 1 of the score, log-likelihood
            and deviance, the sum of the working weights and of their squares;
        last, with `errors`: that again, and the (p + 1) (p + 2) / 2 sums of squares and products of
            the persons' scores, or of the site's own summed score.

    Refuses: as `glm` of the family poisson, with its weights and errors. InputError
    ``no-convergence`` where the counts do not vary more than a Poisson model says; ``bad-formula``
    without an intercept.

    Reference: Cameron & Trivedi 2013, ch. 3.3; Lawless 1987.
    """

    name: ClassVar[str] = "models.negative_binomial"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 4 + _MAX_ITERATIONS + _MAX_HALVINGS
    params_type = NegativeBinomialParams

    def variables(self, params: NegativeBinomialParams) -> frozenset[str]:
        """The names in the formula, the offset and the weights."""
        return params.poisson.reads

    def start(self, params: NegativeBinomialParams, scope: Scope) -> State:
        """Begin with counts, and with moments where each site guards its own floor."""
        model = Model.of(params.poisson, scope)
        check_response(model, scope)
        if not model.parsed.intercept:
            raise InputError("bad-formula", "A negative binomial model has an intercept.")
        if params.errors == "site":
            require_clusters(scope.n_sites)
        at_once = scope.disclosure.floor == "site"
        return Progress.nothing(model.parsed, "counts+moments" if at_once else "counts").to_state()

    def layout(self, state: State, params: NegativeBinomialParams, scope: Scope) -> Layout:
        """See the class."""
        model = Model.of(params.poisson, scope)
        at = _read(state, model, scope)
        if at.phase not in {"fit", "errors"}:
            return model.layout(at.phase)
        p = len(model.parsed.names)
        joint = FieldSpec(((p + 1) * (p + 2) // 2,), "real")
        return {
            **({"meat": joint} if at.phase == "errors" else {}),
            "observed": joint,
            "information": FieldSpec((p * (p + 1) // 2,), "real"),
            "gradient": FieldSpec((p + 1,), "real"),
            "loglik": FieldSpec((2,), "real"),
            "working": FieldSpec((2,), "real"),
        }

    def local(
        self, table: Table, state: State, params: NegativeBinomialParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        model = Model.of(params.poisson, scope)
        at = _read(state, model, scope)
        if at.phase not in {"fit", "errors"}:
            return contribute(table, at, model, scope.disclosure)
        out: dict[str, Array] = {
            name: np.zeros(spec.shape) for name, spec in self.layout(state, params, scope).items()
        }
        table = table.select(tuple(sorted(model.parsed.variables)))
        rows = complete(table, model.parsed)
        limits = scope.disclosure
        if np.count_nonzero(rows) < (limits.min_cell if limits.floor == "site" else 1):
            return out
        score = np.zeros(len(model.parsed.names) + 1)
        for block in blocks(table.take(rows)):
            score += _add(out, block, at, model)
        if params.errors == "site" and at.phase == "errors":
            out["meat"] += pack(np.outer(score, score))
        return out

    def numbers_made(
        self, table: Table, params: NegativeBinomialParams, scope: Scope
    ) -> list[Floats]:
        """As of the Poisson model."""
        model = Model.of(params.poisson, scope)
        return numbers_made(table, model.parsed) + model.told(table)

    def column(self, field: str, index: int, params: NegativeBinomialParams, scope: Scope) -> str:
        """The term, or the pair of terms, of a component; the outcome where it is of no term."""
        parsed = Model.of(params.poisson, scope).parsed
        names = parsed.names
        if field in {"columns", "squares"}:
            return names[index]
        if field == "information":
            pair = (names[int(axis[index])] for axis in np.triu_indices(len(names)))
            return " and ".join(dict.fromkeys(pair))
        return parsed.response.text

    def finish(
        self, total: Total, state: State, params: NegativeBinomialParams, scope: Scope
    ) -> Continue | Done:
        """Check what must be enough, then take a step."""
        model = Model.of(params.poisson, scope)
        at = _read(state, model, scope)
        if "persons" in total:
            at = release_counts(at, total, model, scope, more=1)
            if at.phase == "counts":
                return Continue(at.but(phase="moments").to_state(), 0.1, "counts")
        if at.phase == "fit":
            return _step(at, total, model, scope)
        if at.phase == "errors":
            return Done(_assemble(at, total, model, scope))
        at = release_moments(at, total, model, scope)
        return Continue(_begin(at, total).to_state(), 0.2, "column means")


def _read(state: State, model: Model, scope: Scope) -> Progress:
    at = Progress.from_state(state, model.parsed)
    if at.phase == "start" or (at.phase == "errors" and not model.robust):
        raise ProtocolError("malformed-message", "The state of the round is not this model's.")
    if not _LEAST <= at.scalars[6] <= _MOST:
        raise ProtocolError("malformed-message", "The dispersion of the round is out of bounds.")
    if at.phase == "errors" and model.params.errors == "site":
        require_clusters(scope.n_sites)
    return at


def _begin(at: Progress, total: Total) -> Progress:
    """The null model, with alpha by the method of moments."""
    n = int(at.counts[0])
    mean, mean_square = float(total["outcome"][0]) / n, float(total["outcome"][2]) / n
    alpha = (mean_square - mean**2 - mean) / mean**2
    scalars = at.scalars.copy()
    scalars[6:] = math.log(min(max(alpha, 0.05), 20.0))
    beta = np.zeros_like(at.beta)
    beta[0] = at.null_eta
    spread = np.ones_like(beta)
    return at.but(phase="fit", beta=beta, previous=beta, spread=spread, scalars=scalars)


def _add(out: dict[str, Array], block: Table, at: Progress, model: Model) -> Floats:
    """Add the sums over some persons, and return their summed score, shape (p + 1,)."""
    y = values_of(model.parsed.response, block)
    if np.any((y < 0) | (y > MAX_COUNT)):
        raise InputError(
            "bad-input",
            f"{model.parsed.response.text} has values at a site that are negative or over a "
            "million.",
            variable=model.parsed.response.text,
        )
    offset, times = model.more(block)
    x = design(block, model.parsed)[0] - at.centre
    eta = x @ at.beta + (0.0 if offset is None else offset)
    here = Dispersed.of(y, eta, math.exp(at.scalars[6]), times)
    w = np.ones_like(y) if times is None else times
    p, working = x.shape[1], w * here.expected
    joint = np.zeros((p + 1, p + 1))
    joint[:p, :p] = (x * (w * here.observed)[:, None]).T @ x
    joint[:p, p] = x.T @ (w * here.cross)
    joint[p, p] = here.observed_alpha
    score = np.append(x.T @ (w * here.score), here.score_alpha)
    out["observed"] += pack(joint)
    out["information"] += pack((x * working[:, None]).T @ x)
    out["gradient"] += score
    out["loglik"] += (here.loglik, here.deviance)
    out["working"] += (working.sum(), working @ working)
    if "meat" in out and model.params.errors != "site":
        scores = np.column_stack([x * here.score[:, None], here.slope_alpha])
        out["meat"] += pack((scores * w[:, None]).T @ scores)
    return score


def _step(at: Progress, total: Total, model: Model, scope: Scope) -> Continue | Done:
    """A Newton step, half the last one again, or the end."""
    p = len(model.parsed.names)
    information = unpack(np.asarray(total["information"]), p)
    observed = unpack(np.asarray(total["observed"]), p + 1)
    gradient, loglik = np.asarray(total["gradient"]), float(total["loglik"][0])
    if at.step == 0:
        bad = aliased(information, information[0, 0] * at.centre**2)
        if bad:
            names = [model.parsed.names[j] for j in bad]
            raise InputError(
                "no-convergence",
                f"These columns follow from the others (collinear): {', '.join(names[:5])}. "
                "Leave them out.",
                terms=names[:50],
            )
    scalars = at.scalars.copy()
    if at.step > 0 and loglik < at.scalars[4] - 1e-10 * (abs(loglik) + 0.1):
        if at.halvings >= _MAX_HALVINGS:
            raise InputError("no-convergence", "The likelihood does not grow; simplify the model.")
        scalars[6] = (scalars[6] + scalars[7]) / 2
        back = at.but(beta=(at.beta + at.previous) / 2, scalars=scalars, halvings=at.halvings + 1)
        return Continue(back.to_state(), 0.5, f"iteration {at.step}, half a step")
    step = _newton(observed, information, gradient)
    decrement = float(gradient @ step)
    log_alpha = float(scalars[6])
    if log_alpha <= _LEAST and gradient[p] < 0:
        raise InputError(
            "no-convergence",
            f"{model.parsed.response.text} does not vary more than a Poisson model says; use "
            "family='poisson'.",
        )
    if decrement <= _DECREMENT or (at.step > 8 and decrement <= _NOISE):
        require_spread(np.asarray(total["working"]), scope)
        scalars[6] = log_alpha + step[p]
        final = at.but(beta=at.beta + step[:p], scalars=scalars, step=at.step + 1)
        if model.robust:
            onward = final.but(phase="errors", bread=pack(inverse(information)))
            return Continue(onward.to_state(), 0.95, "standard errors")
        return Done(_assemble(final, total, model, scope))
    if at.step >= _MAX_ITERATIONS:
        raise InputError(
            "no-convergence", "The model does not converge; merge levels or leave terms out."
        )
    scalars[4], scalars[7] = loglik, log_alpha
    scalars[6] = min(max(log_alpha + float(np.clip(step[p], -2.0, 2.0)), _LEAST), _MOST)
    onward = at.but(
        beta=at.beta + step[:p], previous=at.beta, scalars=scalars, step=at.step + 1, halvings=0
    )
    return Continue(onward.to_state(), min(0.9, 0.3 + 0.06 * at.step), f"iteration {at.step + 1}")


def _newton(observed: Floats, information: Floats, gradient: Floats) -> Floats:
    """A step uphill, shape (p + 1,)."""
    try:
        return solve(observed, gradient)
    except np.linalg.LinAlgError:
        pass
    p = len(information)
    try:
        step = solve(information, gradient[:p])
    except np.linalg.LinAlgError:
        raise InputError(
            "no-convergence", "No finite estimate exists; merge levels or leave terms out."
        ) from None
    curvature = observed[p, p]
    along = gradient[p] / curvature if curvature > 0 else math.copysign(1.0, gradient[p])
    return np.append(step, along)


def _covariance(at: Progress, total: Total, model: Model) -> Floats:
    """Of the coefficients of the centred columns and log alpha, shape (p + 1, p + 1)."""
    p = len(model.parsed.names)
    bread = inverse(unpack(np.asarray(total["observed"]), p + 1))
    if "meat" not in total:
        return bread
    meat, n, sites = unpack(np.asarray(total["meat"]), p + 1), at.weight, int(at.counts[2])
    factor = n / (n - p - 1) if model.params.errors == "HC1" else 1.0
    if model.params.errors == "site":
        factor = sites / (sites - 1) * (n - 1) / (n - p - 1)
    return np.asarray(factor * (bread @ meat @ bread))


def _assemble(at: Progress, total: Total, model: Model, scope: Scope) -> dict[str, Any]:
    n, missing, sites = (int(count) for count in at.counts)
    p, parsed, params = len(model.parsed.names), model.parsed, model.params
    joint = _covariance(at, total, model)
    beta, cov = uncentred(at, joint[:p, :p], parsed)
    alpha = math.exp(at.scalars[6])
    loglik, deviance = (float(value) for value in total["loglik"])
    df_test = sites - 1 if params.errors == "site" else None
    more = {"offset": params.offset, "weights": params.weights, "errors": params.errors}
    return {
        "formula": model.params.formula,
        "family": "negative_binomial",
        "link": "log",
        **{name: value for name, value in more.items() if value not in {None, "model"}},
        "terms": list(parsed.names),
        "params": beta.tolist(),
        **wald(beta, np.sqrt(np.diag(cov)), df_test),
        "alpha": alpha,
        "alpha_bse": alpha * math.sqrt(joint[p, p]),
        "deviance": deviance,
        "null_deviance": None,
        "aic": -2 * loglik + 2 * (p + 1),
        "loglik": loglik,
        "df_resid": round(at.weight) - p,
        "df_model": p - 1,
        "df_test": df_test,
        "iterations": at.step,
        "n": n,
        "n_missing": missing,
        "n_weighted": round(at.weight),
        "scale": 1.0,
        "cov": cov.tolist(),
        "n_sites": scope.n_sites,
        "n_sites_contributing": sites,
        "event": None,
        "levels": {
            name: list(scope.variables[name].levels or ())
            for name in sorted(parsed.variables)
            if scope.variables[name].type is VariableType.CATEGORY
        },
    }
