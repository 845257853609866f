"""What `survival.cox` asks, bound to a study's variables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, StringConstraints

from cohortium.analysis.distribution import Question
from cohortium.analysis.formula import MAX_CHARACTERS, Parsed, complete, parse
from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import Params, Scope
from cohortium.analysis.survival_times import Endpoint, Strata
from cohortium.core.dictionary import Label, Name, Variable
from cohortium.core.table import Table
from cohortium.errors import InputError

Transform = Literal["km", "rank", "identity", "log"]


class CoxParams(Params):
    """The model.

    Attributes:
        time: A number from 0 on: when the person had the event or was last seen.
        event: A boolean, 0 and 1, or a category.
        event_level: Of a category, the level that is the event.
        entry: When the person came under observation, a number below `time`; absent: at 0.
        formula: The covariates: ``age + sex``; see `cohortium.analysis.formula`.
        strata: Categories and booleans; each combination has a baseline hazard of its own.
        baseline: ``site``: each institution (and stratum) has its own baseline hazard; ``pooled``:
            one for all.
        ties: Efron's or Breslow's likelihood where several persons have the event at one time.
        robust: Lin and Wei's sandwich in place of the model's standard errors; with the baseline
            ``site``.
        transform: Of time, for the test of proportionality; absent: ``km`` with a pooled baseline,
            else ``identity``.
    """

    time: Name
    event: Name
    event_level: Label | None = None
    entry: Name | None = None
    formula: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    strata: Annotated[tuple[Name, ...], Field(max_length=10)] = ()
    baseline: Literal["site", "pooled"] = "site"
    ties: Literal["efron", "breslow"] = "efron"
    robust: bool = False
    transform: Transform | None = None

    @property
    def whole_formula(self) -> str:
        """With the event as the outcome, as `formula.parse` wants one."""
        return f"{self.event} ~ {self.formula}"

    @property
    def time_transform(self) -> Transform:
        """The transformation of time that is used."""
        return self.transform or ("km" if self.baseline == "pooled" else "identity")


@dataclass(frozen=True)
class Model:
    """The parameters bound to a scope's variables; p columns.

    Attributes:
        parsed: The formula's columns without the intercept.
        question: Whose times are counted, for a pooled baseline.
    """

    params: CoxParams
    parsed: Parsed
    endpoint: Endpoint
    strata: Groups
    entry: Variable | None

    @staticmethod
    def of(params: CoxParams, scope: Scope) -> Model:
        """Check that parameters and variables fit.

        Raises:
            InputError: ``bad-formula``, ``bad-input``, ``not-found``.
        """
        endpoint = Endpoint.of(scope, params.time, params.event, params.event_level)
        parsed = parse(params.whole_formula, scope.variables)
        if not parsed.intercept or len(parsed.columns) < 2:
            raise InputError(
                "bad-formula",
                "The formula names covariates, as age + sex; a Cox model has no intercept to add "
                "or to leave out.",
            )
        entry = (
            None
            if params.entry is None
            else Endpoint.of(scope, params.entry, params.event, params.event_level).time
        )
        taken = (params.time, params.event, *(() if entry is None else (entry.name,)))
        covariates = parsed.variables - {params.event}
        twice = (covariates | set(params.strata)) & set(taken)
        if twice or len({*taken, *params.strata}) < len(taken) + len(params.strata):
            raise InputError(
                "bad-formula", "Time, event, entry, strata and covariates are different variables."
            )
        if params.baseline == "pooled" and entry is not None:
            raise InputError(
                "bad-input",
                'Entry times need baseline="site": with a pooled baseline persons are counted by '
                "when they leave only.",
            )
        if params.baseline == "pooled" and params.robust:
            raise InputError(
                "bad-input",
                'Robust standard errors need baseline="site": with a pooled baseline each '
                "institution would have to be told of the others' persons step by step.",
            )
        if params.baseline == "site" and params.time_transform in {"km", "rank"}:
            raise InputError(
                "bad-input",
                f"The transform {params.time_transform!r} needs everybody's times in order: use "
                'baseline="pooled", or "identity" or "log".',
            )
        # The outcome is a mark of 0 and 1, whatever the event's type is: see `analysis.marks`.
        outcome = replace(parsed.response, levels=None, variable="")
        bare = replace(parsed, response=outcome, columns=parsed.columns[1:])
        return Model(params, bare, endpoint, Groups.of(scope, *params.strata), entry)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return self.parsed.names

    @property
    def p(self) -> int:
        """Parameters."""
        return len(self.parsed.columns)

    @property
    def n_strata(self) -> int:
        """Declared ones, at a site."""
        return len(self.strata)

    @property
    def pooled(self) -> bool:
        """Whether all sites share the baseline."""
        return self.params.baseline == "pooled"

    @property
    def efron(self) -> bool:
        """Whether ties are Efron's."""
        return self.params.ties == "efron"

    @property
    def reads(self) -> tuple[str, ...]:
        """Every variable, sorted."""
        names = {*self.parsed.variables, *self.endpoint.names, *self.params.strata}
        return tuple(sorted(names | ({self.entry.name} if self.entry else set())))

    @property
    def question(self) -> Question:
        """Who leaves when, with the event or without, in which stratum."""
        marks = Strata(self.endpoint, self.strata)
        return Question((self.endpoint.time,), Groups((), ()), least=1, marks=marks)

    def complete(self, table: Table) -> npt.NDArray[np.bool_]:
        """Who has a value of every variable; shape (n_rows,)."""
        rows = complete(table, self.parsed) & self.endpoint.present(table)
        for name in (*self.params.strata, *(() if self.entry is None else (self.entry.name,))):
            rows &= table.present(name)
        return rows
