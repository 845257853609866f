"""`survival.cox`: Cox's proportional hazards model over sites."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis import cox_site
from cohortium.analysis.cox_grid import choose, max_steps
from cohortium.analysis.cox_model import CoxParams, Model
from cohortium.analysis.cox_newton import first_step, next_step
from cohortium.analysis.cox_pooled import Joint
from cohortium.analysis.cox_result import assemble
from cohortium.analysis.cox_state import Progress, spread_of
from cohortium.analysis.distribution import MAX_ROUNDS as GRID_ROUNDS
from cohortium.analysis.distribution import Known
from cohortium.analysis.formula import variables_of
from cohortium.analysis.grouped import Counted
from cohortium.analysis.interface import Continue, Done, DropOuts, Scope
from cohortium.analysis.least_squares import unpack
from cohortium.analysis.marks import few_in_table, numbers_made, singled_out
from cohortium.analysis.newton import MAX_HALVINGS, MAX_ITERATIONS
from cohortium.analysis.survival_times import partition_of
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import is_small
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]


class Cox:
    """Cox's proportional hazards model of the pooled persons with a value of every variable.

    ``hazard(t | x) = h0(t) exp(x' beta)``: the effect of a covariate does not change with time.
    Assumes independent persons, and that who is censored does not differ in hazard from who stays.
    Maximum partial likelihood by Newton's method with half steps, from 0 to convergence in the last
    digits (with a pooled baseline see `cohortium.analysis.cox_pooled`); columns are centred at the
    joint means. Standard errors from the observed information, or Lin and Wei's sandwich; tests by
    Wald, likelihood ratio and score. Proportionality: the score test of each coefficient's change
    with time, as ``cox.zph`` of R's survival 3. Concordance: pairs of persons of the same
    institution and stratum.

    ``baseline="site"``: h0 is each institution's (and stratum's) own; exact at whatever resolution
    times are recorded. ``baseline="pooled"``: one h0 for all (for each stratum); persons of all
    sites are in one risk set, on steps of time that are those of the pooled data wherever enough
    persons leave: see `cohortium.analysis.cox_grid`.

    Leaves the site, summed under masks, over its complete persons (p columns), never for a person:
        counts: persons, persons left out, events, whether there are any;
        moments: the p column sums and sums of squares, persons and events at each level of each
            category, persons in each stratum, the persons for whom two columns, or a column and
            the event, are 1, the sum of the event times and of their squares (baseline ``site``);
        each iteration, baseline ``site``: log-likelihood, the p of the score, the p (p + 1) / 2 of
            the information;
        baseline ``pooled``: once, who leaves when (`cohortium.analysis.survival_times`); then, each
            iteration, for each step of time how many leave, how many have the event, and sums of w
            and w x over those who leave and (Efron) over those who have the event, if they are
            several; sums of w x x' for each step in the first and the last iteration, for blocks of
            steps in the others; over everybody the sums of w and of w x^2, and the sum of x over
            all who have the event;
        at the end: sums of that kind weighted by time, concordant and discordant pairs, and where
            `robust` is asked the p (p + 1) / 2 of the residuals' squares.

    Refuses: a site with the floor ``site`` sends zeros where it has fewer than `min_cell` complete
    persons. PolicyRefusal ``too-few-persons`` where fewer are left jointly, where 1 to
    ``min_cell - 1`` have the event or have it not, or are at a level, in a column of crossed levels
    or in a stratum, have one of the values of a column of zeros and ones, or where two such columns
    (or one and the event) differ by as few, and, where all columns mark groups, as few of one have
    the event or have it not; ``too-few-sites`` where only one has events;
    ``too-many-parameters`` where there are fewer than 10 events for a parameter
    (`persons_per_parameter` of the limits) or too few residual degrees of freedom. InputError
    ``no-convergence`` for columns that others determine and where the likelihood grows without end
    (nobody at a level has the event), with their names. PolicyRefusal ``not-permitted`` where the
    limits round counts.

    Reference: Cox 1972; Efron 1977; Breslow 1974; Lin & Wei 1989; Grambsch & Therneau 1994;
    Therneau & Grambsch 2000.
    """

    name: ClassVar[str] = "survival.cox"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 4 + GRID_ROUNDS + 3 * (MAX_ITERATIONS + MAX_HALVINGS)
    params_type = CoxParams

    def variables(self, params: CoxParams) -> frozenset[str]:
        """Time, event, entry, strata and the names in the formula."""
        names = {*variables_of(params.whole_formula), params.time, *params.strata}
        return frozenset(names | ({params.entry} if params.entry else set()))

    def partition(self, params: CoxParams, scope: Scope) -> tuple[str, ...]:
        """The strata, where each gets a baseline hazard; the event, which is counted."""
        question = Model.of(params, scope).question
        events = partition_of(question, params.event, scope)
        return (*(params.strata if params.baseline == "pooled" else ()), *events)

    def numbers_made(self, table: Table, params: CoxParams, scope: Scope) -> Iterable[Floats]:
        """Columns with an expression or a product of numbers."""
        return numbers_made(table, Model.of(params, scope).parsed)

    def start(self, params: CoxParams, scope: Scope) -> State:
        """Begin with counts, and with moments where each site guards its own floor."""
        at_once = scope.disclosure.floor == "site"
        model = Model.of(params, scope)
        return Progress.nothing(model, "counts+moments" if at_once else "counts").to_state()

    def layout(self, state: State, params: CoxParams, scope: Scope) -> Layout:
        """See the class."""
        model = Model.of(params, scope)
        return Progress.from_state(state, model).layout(model)

    def local(self, table: Table, state: State, params: CoxParams, scope: Scope) -> Contribution:
        """See the class."""
        model = Model.of(params, scope)
        at = Progress.from_state(state, model)
        if at.grid is not None:
            at.grid.require_honest(at.n, scope.disclosure.min_cell)
        out: dict[str, Array] = {
            name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
            for name, spec in at.layout(model).items()
        }
        least = scope.disclosure.min_cell if scope.disclosure.floor == "site" else 1
        persons = _persons(model, table.select(model.reads), at, least)
        if persons is None:
            return out
        if at.phase == "grid" and at.known is not None:
            return at.known.local(persons.table, model.question, _counting(scope))
        if "persons" in out:
            cox_site.count(out, persons)
        if "columns" in out:
            cox_site.moments(out, persons)
        if at.grid is not None:
            cox_site.risk(out, persons, at, at.grid, scope.n_sites)
        elif at.phase in {"fit", "final"}:
            cox_site.fit(out, persons, at)
        return out

    def column(self, field: str, index: int, params: CoxParams, scope: Scope) -> str:
        """The term, or the pair of terms, of a component; the time where it is of no term."""
        names = Model.of(params, scope).names
        if field in {"columns", "score", "squares", "dead", "drifts"}:
            return names[index]
        if field == "sizes" and index > 0:
            return names[index - 1]
        if field in {"information", "spread"}:
            index %= len(names) * (len(names) + 1) // 2
            pair = (names[int(axis[index])] for axis in np.triu_indices(len(names)))
            return " and ".join(dict.fromkeys(pair))
        if field in {"leaving", "dying"}:
            index %= 1 + len(names) + len(names) * (len(names) + 1) // 2
            if 1 <= index <= len(names):
                return names[index - 1]
        return params.time

    def finish(
        self, total: Total, state: State, params: CoxParams, scope: Scope
    ) -> Continue | Done:
        """Check what must be enough, then take a step."""
        model = Model.of(params, scope)
        at = Progress.from_state(state, model)
        if at.phase in {"counts", "counts+moments"}:
            at = _release_counts(at, total, model, scope)
            if at.phase == "counts":
                return Continue(at.but(phase="moments").to_state(), 0.05, "counts")
        if at.phase in {"moments", "counts+moments"}:
            at = _release_moments(at, total, model, scope)
            if not model.pooled:
                return Continue(at.but(phase="fit").to_state(), 0.1, "column means")
            known = Known("counts+sums", Counted.nothing(model.question.groups))
            return Continue(at.but(phase="grid", known=known).to_state(), 0.1, "column means")
        if at.phase == "grid":
            return _next_grid(at, total, model, scope)
        joint = None
        if at.grid is not None:
            found = Joint.of(at, at.grid, total, model, scope.n_sites)
            if isinstance(found, Progress):
                return Continue(found.to_state(), 0.5, "the same sums in other units")
            joint, at = found, at.scalar(5, found.size)
        if at.phase == "final":
            return Done(assemble(at, total, joint, model, scope))
        if joint is not None:
            loglik, score, information = joint.loglik, joint.score, joint.information[0]
        else:
            loglik, score = float(total["loglik"][0]), np.asarray(total["score"])
            information = unpack(np.asarray(total["information"]), model.p)
        if at.step == 0:
            at = first_step(at, total, loglik, (score, information), model)
        return next_step(at, loglik, (score, information), model)


def _persons(model: Model, table: Table, at: Progress, least: int) -> cox_site.Persons | None:
    """The site's complete persons; None where they are fewer than it tells of."""
    lasting = at.phase in {"fit", "risk", "final"}
    found = cox_site.Persons.kept(model, table, at.centre) if lasting else None
    if found is None:
        rows = model.complete(table)
        n = int(np.count_nonzero(rows))
        if n < least:
            return None
        left_out = table.n_rows - n
        there = table.take(rows) if left_out else table
        found = cox_site.Persons.of(model, there, left_out, at.centre)
        found = found.keep(table, at.centre) if lasting else found
    return found if len(found.x) >= least else None


def _counting(scope: Scope) -> Scope:
    """For the counts of who leaves when: the floor was applied to all complete persons."""
    limits = scope.disclosure.model_copy(update={"min_cell": 1, "floor": "total"})
    return replace(scope, disclosure=limits)


def _next_grid(at: Progress, total: Total, model: Model, scope: Scope) -> Continue:
    known = at.known
    if known is None:
        raise RuntimeError("the phase has no counts")
    found = known.advance(total, model.question, _counting(scope))
    if isinstance(found, Known):
        return Continue(at.but(known=found).to_state(), 0.2, "event times")
    grid = choose(
        found[0],
        scope.disclosure,
        efron=model.efron,
        transform=model.params.time_transform,
        most=max_steps(model.p),
    )
    return Continue(at.but(phase="risk", known=None, grid=grid).to_state(), 0.3, "iteration 1")


def _release_counts(at: Progress, total: Total, model: Model, scope: Scope) -> Progress:
    n, missing, sites, events, event_sites = (int(count) for count in total["persons"])
    limits, p = scope.disclosure, model.p
    if n < limits.cohort:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {limits.cohort} persons have a value of every variable of the model.",
        )
    if sites < scope.least_sites or 0 < event_sites < scope.least_sites:
        raise PolicyRefusal(
            "too-few-sites",
            "Only one institution has persons with the event and a value of every variable of the "
            "model; a joint model needs two.",
        )
    if is_small(events, limits.min_cell) or is_small(n - events, limits.min_cell):
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {limits.min_cell} persons have the event, or do not have it.",
        )
    if events == 0:
        raise InputError("no-convergence", f"Nobody has the event {model.params.event}.")
    if p * limits.per_parameter > events or n - p < limits.df:
        raise PolicyRefusal(
            "too-many-parameters",
            f"The model has {p} parameters for {events} events; each needs "
            f"{limits.per_parameter} events, and {limits.df} residual degrees of freedom must be "
            "left.",
            parameters=p,
            persons=n,
        )
    return at.but(counts=np.array([n, missing, sites, events, event_sites], dtype=np.int64))


def _release_moments(at: Progress, total: Total, model: Model, scope: Scope) -> Progress:
    min_cell = scope.disclosure.min_cell
    sums = np.asarray(total["columns"], dtype=np.float64)
    names = [f"{factor.text}[{level}]" for factor, level in model.parsed.levels]
    persons, events = np.asarray(total.get("levels", np.zeros((2, 0), dtype=np.int64)))
    cells = list(zip(names, persons.tolist(), strict=True))
    cells += [
        (column.name, round(float(sums[j])))
        for j, column in enumerate(model.parsed.columns)
        if column.is_cell and len(column.parts) > 1
    ]
    strata = np.asarray(total.get("strata", np.zeros(0, dtype=np.int64))).tolist()
    cells += [(model.strata.where(at), count) for at, count in enumerate(strata) if count]
    small = [name for name, count in cells if is_small(count, min_cell)]
    known = at.n, np.append(sums, at.events), np.append(total["squares"], at.events)
    marks = total.get("marks")
    small = small or singled_out(*known, marks, parsed=model.parsed, min_cell=min_cell)
    small = small or few_in_table(*known, marks, parsed=model.parsed, min_cell=min_cell)
    if small:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {min_cell} persons are in: {', '.join(small[:5])}. Merge or leave out.",
            cells=small[:50],
        )
    empty = [name for name, count in cells if count == 0]
    if empty:
        raise InputError(
            "no-convergence",
            f"Nobody is in: {', '.join(empty[:5])}. Its coefficient cannot be estimated: leave the "
            "variable out, or propose a study whose levels leave this one out.",
            cells=empty[:50],
        )
    spared = [name for name, count in zip(names, events.tolist(), strict=True) if count == 0]
    if spared:
        raise InputError(
            "no-convergence",
            f"Nobody has the event in: {', '.join(spared[:5])}. The hazard ratio is 0 or without "
            "limit: merge levels or leave the variable out.",
            cells=spared[:50],
        )
    centre = sums / at.n
    spread = np.sqrt(np.maximum(np.asarray(total["squares"]) / at.n - centre**2, 0.0))
    at = at.but(centre=centre, spread=spread).scalar(5, 4.0 * at.n)
    if "times" in total:
        one, squares = (float(value) for value in total["times"])
        mean, deviation = spread_of(one, squares, at.events)
        return at.scalar(3, mean).scalar(4, deviation)
    return at


__all__ = ["Cox", "CoxParams"]
