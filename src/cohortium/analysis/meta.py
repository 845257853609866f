"""`models.meta`: a regression model fitted by each institution alone, and combined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis import cox_model, glm_model
from cohortium.analysis.alone import alone
from cohortium.analysis.cox import Cox
from cohortium.analysis.cox_model import CoxParams
from cohortium.analysis.formula import Parsed, complete
from cohortium.analysis.glm import Glm
from cohortium.analysis.glm_model import GlmParams, check_response
from cohortium.analysis.interface import Scope
from cohortium.analysis.marks import numbers_made
from cohortium.analysis.two_stage import Estimate, Question, TwoStage, TwoStageParams
from cohortium.core.dictionary import VariableType
from cohortium.core.table import Table
from cohortium.errors import InputError

Floats = npt.NDArray[np.float64]


class MetaParams(TwoStageParams):
    """The model; exactly one of the two.

    Attributes:
        glm: A generalised linear model, as of `glm`.
        cox: Cox's model, as of `survival.cox`.
    """

    glm: GlmParams | None = None
    cox: CoxParams | None = None


class Meta(TwoStage[MetaParams]):
    """Two-stage meta-analysis of individual participants' data: a model at each institution.

    Each institution fits the model of `glm` or `survival.cox` to its own persons with a value of
    every variable, with the same code: the estimate is what that computation gives on its rows
    alone. Each coefficient is then combined over institutions, with a fixed effect (all have the
    same) and with random effects (normal about a mean with variance tau2, by REML or DerSimonian
    and Laird); with Cochran's Q, I2, the interval of tau2 by the profile of Q, and the prediction
    interval. Beside it all coefficients together, weighted by their inverse covariances. Assumes
    estimates that are about normal with known variances: institutions with many persons. Where the
    same effect holds everywhere, the joint model says more.

    Leaves the site, in one round, in places of its own: whether it tells of its persons or
        withholds, their number, for Cox those with the event, the p coefficients and the
        p (p + 1) / 2 of their covariance; summed over sites, how many lack a value; and, at most
        `min_cell`, of how many persons of the cohort it tells nothing.

    Refuses: without `by_site`, or where counts are rounded (PolicyRefusal ``not-permitted``). A
    site withholds where the model would be refused, or has no estimate, on its own persons alone:
    each of the limits (persons, cells, marks, parameters, degrees of freedom, dominance, events) is
    on the site. ``too-few-sites`` where fewer than two tell; ``too-few-persons`` where 1 to
    ``min_cell - 1`` persons of the cohort are in no estimate. Each institution's persons (for Cox
    also by event) are compared with those of earlier releases. InputError as `glm` and
    `survival.cox`, for what is wrong with the request or a site's data.

    Reference: Riley, Tierney & Stewart 2021, Individual Participant Data Meta-Analysis, ch. 5;
    Burke, Ensor & Riley 2017, Stat. Med. 36:855.
    """

    name: ClassVar[str] = "models.meta"
    params_type = MetaParams

    def variables(self, params: MetaParams) -> frozenset[str]:
        """Of the model."""
        model = _model(params)
        return Glm().variables(model) if isinstance(model, GlmParams) else Cox().variables(model)

    def question(self, params: MetaParams, scope: Scope) -> Question:
        """See `TwoStage`."""
        model = _model(params)
        return _Glm.of(model, scope) if isinstance(model, GlmParams) else _Cox.of(model, scope)

    def asked(self, params: MetaParams) -> Any:
        """See `TwoStage`."""
        return _model(params).model_dump(mode="json", exclude_none=True)


def _model(params: MetaParams) -> GlmParams | CoxParams:
    given = [one for one in (params.glm, params.cox) if one is not None]
    if len(given) != 1:
        raise InputError("bad-input", "A meta-analysis is of one model: glm or cox.")
    return given[0]


@dataclass(frozen=True)
class _Glm(Question):
    model: glm_model.Model

    @staticmethod
    def of(params: GlmParams, scope: Scope) -> _Glm:
        """Bind a request."""
        if params.errors == "site":
            raise InputError(
                "bad-input",
                "One institution's errors cannot be clustered by institution: leave errors out, or "
                "take HC0 to HC3.",
            )
        model = glm_model.Model.of(params, scope)
        check_response(model, scope)
        return _Glm(model)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return self.model.parsed.names

    def estimate(self, table: Table, scope: Scope) -> Estimate | None:
        """See `Question`."""
        found = alone(Glm(), table, self.model.params, scope)
        return None if found is None else _estimate(found, complete(table, self.model.parsed))

    def numbers_made(self, table: Table) -> Iterable[Floats]:
        """As `glm`."""
        return [*numbers_made(table, self.model.parsed), *self.model.told(table)]

    def about(self, scope: Scope) -> dict[str, Any]:
        """See `Question`."""
        model = self.model
        outcome = model.parsed.response
        more = {"offset": model.params.offset, "weights": model.params.weights}
        if model.robust:
            more["errors"] = model.params.errors
        return {
            "kind": "glm",
            "formula": model.params.formula,
            "family": model.family.name,
            "link": model.family.link,
            **{name: value for name, value in more.items() if value is not None},
            "ratio": model.family.link in {"log", "logit"},
            "event": outcome.levels[1] if outcome.levels else None,
            "levels": _levels(model.parsed, scope),
        }


@dataclass(frozen=True)
class _Cox(Question):
    model: cox_model.Model

    @staticmethod
    def of(params: CoxParams, scope: Scope) -> _Cox:
        """Bind a request."""
        if params.baseline != "site":
            raise InputError(
                "bad-input",
                "An institution that fits its own model has a baseline hazard of its own: "
                'baseline="site".',
            )
        return _Cox(cox_model.Model.of(params, scope))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return self.model.names

    @property
    def sides(self) -> tuple[int, ...]:
        """With the event and without, whose numbers are released."""
        return (2,)

    def estimate(self, table: Table, scope: Scope) -> Estimate | None:
        """See `Question`."""
        found = alone(Cox(), table, self.model.params, scope)
        if found is None:
            return None
        rows = self.model.complete(table)
        events = self.model.endpoint.codes(table)[rows]
        return _estimate(found, rows, int(found["n_events"]), (events,))

    def numbers_made(self, table: Table) -> Iterable[Floats]:
        """As `survival.cox`."""
        return numbers_made(table, self.model.parsed)

    def about(self, scope: Scope) -> dict[str, Any]:
        """See `Question`."""
        params = self.model.params
        return {
            **self.model.endpoint.to_json(),
            "kind": "cox",
            "formula": params.formula,
            "event_level": params.event_level,
            "event_variable": params.event,
            "entry": params.entry,
            "strata": list(params.strata),
            "ties": params.ties,
            "robust": params.robust,
            "ratio": True,
            "levels": _levels(self.model.parsed, scope),
        }


def _estimate(
    found: Mapping[str, Any],
    rows: npt.NDArray[np.bool_],
    events: int = 0,
    codes: tuple[npt.NDArray[np.int64], ...] = (),
) -> Estimate:
    beta = np.array(found["params"], dtype=np.float64)  # None, of what is not finite, is NaN
    return Estimate(rows, beta, np.array(found["cov"], dtype=np.float64), events, codes)


def _levels(parsed: Parsed, scope: Scope) -> dict[str, list[str]]:
    return {
        name: list(scope.variables[name].levels or ())
        for name in sorted(parsed.variables)
        if scope.variables[name].type is VariableType.CATEGORY
    }
