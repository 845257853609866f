"""`missing.mice`: a model of incomplete data, by multiple imputation over sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.formula import parse
from cohortium.analysis.glm import Glm
from cohortium.analysis.interface import Continue, Done, DropOuts, Scope
from cohortium.analysis.marks import numbers_made
from cohortium.analysis.mice_model import MiceParams, Plan, present
from cohortium.analysis.mice_result import assemble
from cohortium.analysis.mice_site import (
    Chains,
    Persons,
    add_products,
    add_scores,
    add_trace,
    eligible,
    own_key,
)
from cohortium.analysis.mice_state import Progress, layout_of, needs_trace
from cohortium.analysis.mice_step import next_step, release_counts, release_moments, traced
from cohortium.core.canonical import canonical, digest_bytes
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table

__all__ = ["Mice", "MiceParams"]

Floats = npt.NDArray[np.float64]

_KEPT_BYTES = 256 * 2**20
_GLM = Glm()


class Mice:
    """Generalised linear model of incomplete data, by chained equations and Rubin's rules.

    What is missing is imputed m times: each variable in turn from all others, numbers by Bayesian
    linear regression (R's ``mice.impute.norm``), booleans, zeros and ones and categories of two
    levels by logistic regression, other categories by multinomial regression, with parameters drawn
    from their (normal) posterior given the joint data; `iterations` times over. Then the model is
    fitted to each completed data set as `glm` does, and pooled: total variance
    ``within + (1 + 1/m) between``, t tests with the degrees of freedom of Barnard & Rubin. Assumes
    that values are missing at random given the variables in use. Expressions in the formula are
    computed from imputed values.

    Leaves the site, summed under masks over its persons with a value of all that is not imputed,
    never for a person:
        first: persons, those left out, those complete; with and without a value of each variable;
            sums and sums of squares of the numbers, and persons at each level of each category;
        each step: of each imputation the squares and products of predictors and outcome, or the
            information and score of a logistic model, over those who have the variable; sum and sum
            of squares of what the step before imputed;
        last: what `glm` sums, of each completed data set.

    Refuses: a site sends zeros where, with the floor ``site``, it has fewer than `min_cell` such
    persons. PolicyRefusal ``too-few-persons`` for fewer jointly, where 1 to ``min_cell - 1`` lack a
    variable that is to be imputed (named by nobody, it is not imputed, and they are left out), have
    one of the values of a variable of two or are at a level, or are complete;
    ``too-many-parameters`` for an imputation model as for a `glm`; and all that `glm` refuses, of
    each completed data set. InputError ``bad-input`` where nothing is missing, ``no-convergence``
    where a variable cannot be imputed from the others.

    Reference: van Buuren 2018, Flexible imputation of missing data, ch. 3-5; Rubin 1987; Barnard &
    Rubin 1999.
    """

    name: ClassVar[str] = "missing.mice"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 5000
    params_type = MiceParams

    def __init__(self, persons: Persons = own_key) -> None:
        self._persons = persons
        self._kept: dict[str, Chains] = {}

    def variables(self, params: MiceParams) -> frozenset[str]:
        """The names in the formula, and the auxiliary ones."""
        return params.reads

    def start(self, params: MiceParams, scope: Scope) -> State:
        """Begin with counts."""
        return Progress.nothing(Plan.of(params, scope)).to_state()

    def layout(self, state: State, params: MiceParams, scope: Scope) -> Layout:
        """See the class."""
        plan = Plan.of(params, scope)
        at = Progress.from_state(state, plan)
        return layout_of(at, plan, _fit_layouts(at, plan, scope))

    def local(self, table: Table, state: State, params: MiceParams, scope: Scope) -> Contribution:
        """See the class."""
        plan = Plan.of(params, scope)
        at = Progress.from_state(state, plan)
        out: dict[str, Array] = {
            name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
            for name, spec in layout_of(at, plan, _fit_layouts(at, plan, scope)).items()
        }
        table = table.select(plan.names)
        there = present(table, plan)
        rows = eligible(table, there, at)
        n = int(np.count_nonzero(rows))
        if n < (scope.disclosure.min_cell if scope.disclosure.floor == "site" else 1):
            return out
        if at.phase == "counts":
            complete = int(np.count_nonzero(there.all(axis=0)))
            out["persons"][:] = (n, table.n_rows - n, 1, complete)
            out["present"][:] = np.count_nonzero(there[:, rows], axis=1)
            out["missing"][:] = n - out["present"]
            return out
        if at.phase == "moments":
            _add_moments(out, table.take(rows), plan)
            return out
        chains = self._chains(table, at, plan, scope)
        if needs_trace(at):
            add_trace(out["imputed"], chains, at.imputed[(at.done - 1) % len(at.imputed)])
        if at.phase == "fit":
            for k, fit in enumerate(_fits(at, plan, scope)):
                if isinstance(fit, State):
                    here = _GLM.local(chains.completed(k), fit, params.glm, scope)
                    out |= {f"{name}.{k}": array for name, array in here.items()}
            return out
        v = at.imputed[at.step[1]]
        if at.methods[at.step[1]] == "norm":
            add_products(out["products"], chains, v)
        else:
            beta = at.beta.reshape(params.m, -1)
            add_scores(out["information"], out["gradient"], chains, v, beta)
        return out

    def finish(
        self, total: Total, state: State, params: MiceParams, scope: Scope
    ) -> Continue | Done:
        """Check what must be enough; draw; fit; pool."""
        plan = Plan.of(params, scope)
        at = Progress.from_state(state, plan)
        if at.phase == "counts":
            at = release_counts(at, total, plan, scope)
            return Continue(at.to_state(), 0.05, "counts")
        if at.phase == "moments":
            return Continue(release_moments(at, total, plan, scope).to_state(), 0.1, "moments")
        at = traced(at, total)
        if at.phase == "impute":
            return next_step(at, total, plan)
        fits: list[State | dict[str, Any]] = []
        for k, fit in enumerate(_fits(at, plan, scope)):
            if not isinstance(fit, State):
                fits.append(dict(fit))
                continue
            part = {
                name.rpartition(".")[0]: array
                for name, array in total.items()
                if name.endswith(f".{k}")
            }
            step = _GLM.finish(part, fit, params.glm, scope)
            fits.append(step.state if isinstance(step, Continue) else dict(step.result))
        if all(isinstance(fit, dict) for fit in fits):
            done = [fit for fit in fits if isinstance(fit, dict)]
            return Done(assemble(at, done, plan, scope))
        return Continue(at.but(fits=tuple(fits)).to_state(), 0.9, "the model of each imputation")

    def numbers_made(self, table: Table, params: MiceParams, scope: Scope) -> list[Floats]:
        """As of the model, over its complete persons."""
        return numbers_made(table, parse(params.formula, scope.variables))

    def column(self, field: str, index: int, params: MiceParams, scope: Scope) -> str:
        """The variable of a moment, the term of a model's component; else the outcome, since the
        step is not known here.
        """
        if field == "sums":
            return Plan.of(params, scope).variables[index // 2].name
        name = field.rpartition(".")[0]
        return _GLM.column(name or "outcome", index, params.glm, scope)

    def _chains(self, table: Table, at: Progress, plan: Plan, scope: Scope) -> Chains:
        """What is imputed at the state; from what was there in the round before, where it is."""
        site = "" if scope.site is None else scope.sites[scope.site]
        key, numbers = self._persons(table, plan, site)
        head = {
            "key": list(key),
            "persons": digest_bytes(numbers.tobytes()),
            "site": site,
            "params": plan.params.model_dump(mode="json"),
            "imputed": list(at.imputed),
            "scales": [one.tobytes().hex() for one in (at.scales.centre, at.scales.spread)],
            "shares": at.scales.shares.tobytes().hex(),
        }
        begun = digest_bytes(canonical(head))
        chains = None
        for done in (at.done, at.done - 1):
            chains = chains or self._kept.pop(_place(begun, at, plan, done), None)
        if chains is None:
            chains = Chains.of(table, at, plan, self._persons, site)
        chains.advance(at)
        self._kept[_place(begun, at, plan, at.done)] = chains
        while len(self._kept) > 1 and sum(c.n_bytes for c in [*self._kept.values()]) > _KEPT_BYTES:
            self._kept.pop(next(iter([*self._kept])), None)
        return chains


def _place(begun: str, at: Progress, plan: Plan, done: int) -> str:
    drawn = at.drawn[: plan.params.m * at.n_drawn(plan, max(done, 0))]
    return digest_bytes(begun.encode() + drawn.tobytes())


def _add_moments(out: dict[str, Array], table: Table, plan: Plan) -> None:
    for v, one in enumerate(plan.variables):
        values = table.columns[one.name][table.present(one.name)]
        if one.levels is None:
            out["sums"][v] = (values.sum(), np.square(values).sum())
        else:
            here = slice(plan.level_at[v], plan.level_at[v + 1])
            out["levels"][here] = np.bincount(values, minlength=len(one.levels))


def _fits(at: Progress, plan: Plan, scope: Scope) -> tuple[State | Mapping[str, Any], ...]:
    """Where each model is."""
    if at.fits:
        return at.fits
    return (_GLM.start(plan.params.glm, scope),) * plan.params.m


def _fit_layouts(at: Progress, plan: Plan, scope: Scope) -> Layout:
    if at.phase != "fit":
        return {}
    return {
        f"{name}.{k}": spec
        for k, fit in enumerate(_fits(at, plan, scope))
        if isinstance(fit, State)
        for name, spec in _GLM.layout(fit, plan.params.glm, scope).items()
    }
