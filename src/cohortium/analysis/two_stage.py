"""Two-stage meta-analysis: each site estimates alone, in one round; the hub combines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.analysis.institutions import (
    apart,
    parts_by_institution,
    require_apart,
    require_by_site,
    split_by_institution,
)
from cohortium.analysis.interface import Continue, Done, DropOuts, FieldSpec, Params, Scope
from cohortium.analysis.least_squares import pack
from cohortium.analysis.moments import empty
from cohortium.analysis.pooling import Distribution, Method
from cohortium.analysis.two_stage_result import MISSING, TOLD, WITHHELD, Found, assemble
from cohortium.analysis.untrusted import phase_of
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.differencing import Split
from cohortium.errors import PolicyRefusal, ProtocolError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEAST_INSTITUTIONS: Final = 2


class TwoStageParams(Params):
    """How estimates are combined.

    Attributes:
        method: Of the variance between institutions: restricted maximum likelihood, or
            DerSimonian and Laird's moments.
        hartung_knapp: Intervals and tests of the mean effects by t with k - 1 degrees of freedom.
        confidence: Of the intervals.
        prediction: Of the interval of a new institution: by t with k - 2 degrees of freedom, or
            normal.
    """

    method: Method = "REML"
    hartung_knapp: bool = False
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = 0.95
    prediction: Distribution = "t"


P = TypeVar("P", bound=TwoStageParams)


@dataclass(frozen=True)
class Estimate:
    """What a site finds in its own persons.

    Attributes:
        rows: Which of the table's persons it rests on, shape (n_rows,).
        beta: (p,); with their covariance `cov`, (p, p).
        events: Of a model of times: persons with the event.
        codes: The class of each of these persons, one array for each of `Question.sides`.
    """

    rows: Bools
    beta: Floats
    cov: Floats
    events: int = 0
    codes: tuple[Ints, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether it is finite, with variances above 0."""
        finite = np.all(np.isfinite(self.beta)) and np.all(np.isfinite(self.cov))
        return bool(finite and np.all(np.diag(self.cov) > 0))


class Question(ABC):
    """What each site estimates: parameters bound to a scope's variables."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Of the p coefficients."""

    @property
    def sides(self) -> tuple[int, ...]:
        """In how many classes an institution's persons are told apart, each way."""
        return ()

    @abstractmethod
    def estimate(self, table: Table, scope: Scope) -> Estimate | None:
        """At a site; None where it may not, or cannot, be told."""

    @abstractmethod
    def about(self, scope: Scope) -> dict[str, Any]:
        """The part of the result that says what was asked; `ratio` among it."""

    def numbers_made(self, table: Table) -> Iterable[Floats]:  # noqa: ARG002 - overridden
        """See `MakesNumbers`."""
        return ()


class TwoStage(ABC, Generic[P]):
    """What two-stage meta-analyses have in common; a subclass says what is estimated."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 1
    params_type: type[P]

    @abstractmethod
    def variables(self, params: P) -> frozenset[str]:
        """Every variable."""

    @abstractmethod
    def question(self, params: P, scope: Scope) -> Question:
        """Bind the parameters.

        Raises:
            InputError: Where they do not fit.
        """

    @abstractmethod
    def asked(self, params: P) -> Any:
        """JSON of what is estimated, without how it is combined."""

    def start(self, params: P, scope: Scope) -> State:
        """There is one round."""
        self.question(params, scope)
        require_by_site(scope, "A meta-analysis releases each institution's own estimates")
        return State({"phase": "estimates"})

    def layout(self, state: State, params: P, scope: Scope) -> Layout:
        """See the subclass."""
        phase_of(state, ("estimates",))
        sites, p = len(scope.sites), len(self.question(params, scope).names)
        each = FieldSpec((sites,), "count")
        return {
            "status": each,
            "persons": each,
            "events": each,
            "left_out": FieldSpec((1,), "count"),
            "apart": FieldSpec((1,), "count"),
            "estimates": FieldSpec((sites, p), "real"),
            "covariances": FieldSpec((sites, p * (p + 1) // 2), "real"),
        }

    def local(self, table: Table, state: State, params: P, scope: Scope) -> Contribution:
        """See the subclass."""
        out = empty(self.layout(state, params, scope))
        if scope.site is None:
            return out
        found = self._estimate(table, params, scope)
        told = 0 if found is None else int(np.count_nonzero(found.rows))
        out["apart"][0] = apart(table, told, scope.disclosure)
        out["status"][scope.site] = WITHHELD if found is None else TOLD
        if found is not None:
            out["persons"][scope.site] = told
            out["events"][scope.site] = found.events
            out["left_out"][0] = table.n_rows - told
            out["estimates"][scope.site] = found.beta
            out["covariances"][scope.site] = pack(found.cov)
        return out

    def numbers_made(self, table: Table, params: P, scope: Scope) -> Iterable[Floats]:
        """Of the model that each site fits."""
        return self.question(params, scope).numbers_made(table)

    def split(self, params: P, scope: Scope) -> Split:
        """The cohort; those of whom estimates tell, together, of each institution and class."""
        return split_by_institution(scope, self.question(params, scope).sides)

    def parts(self, table: Table, params: P, scope: Scope) -> npt.NDArray[np.integer]:
        """The site's place and the class, for the persons of whom its estimate tells."""
        question = self.question(params, scope)
        found = self._estimate(table, params, scope)
        told = np.zeros(table.n_rows, dtype=np.bool_) if found is None else found.rows
        codes: Sequence[Ints] = () if found is None else found.codes
        return parts_by_institution(scope, told, question.sides, codes)

    def split_key(self, params: P, scope: Scope) -> Any:  # noqa: ARG002 - protocol
        """What is estimated: it says whose values are needed, and which institutions can tell."""
        return ["institutions", self.name, self.asked(params)]

    def narrowed(self, params: P, view: int) -> P:
        """There is one view only."""
        if view:
            raise ProtocolError("malformed-message", "There is no such view of a meta-analysis.")
        return params

    def column(self, field: str, index: int, params: P, scope: Scope) -> str:
        """The term, or the pair of terms, of a component."""
        names = self.question(params, scope).names
        if field == "estimates":
            return names[index % len(names)]
        pairs = list(zip(*np.triu_indices(len(names)), strict=True))
        return " and ".join(dict.fromkeys(names[int(at)] for at in pairs[index % len(pairs)]))

    def finish(self, total: Total, state: State, params: P, scope: Scope) -> Continue | Done:
        """Check that enough institutions can tell, then combine."""
        phase_of(state, ("estimates",))
        question = self.question(params, scope)
        found = Found.of(total, len(question.names))
        there = int(np.count_nonzero(found.told))
        if there < LEAST_INSTITUTIONS:
            silent = int(np.count_nonzero(found.status != MISSING)) - there
            raise PolicyRefusal(
                "too-few-sites",
                f"A meta-analysis needs {LEAST_INSTITUTIONS} institutions that can tell of their "
                f"own persons; {there} can. {silent} withhold: too few persons, events or persons "
                "at a level for the model, an outcome that it predicts perfectly, or a column that "
                "is constant there. Take a smaller model.",
            )
        scope.disclosure.require_cohort(int(found.persons.sum()))
        require_apart(int(np.asarray(total["apart"])[0]), scope.disclosure)
        return Done(assemble(found, question.names, question.about(scope), params, scope))

    def _estimate(self, table: Table, params: P, scope: Scope) -> Estimate | None:
        """The site's own; None where it withholds."""
        if scope.site is None or not scope.disclosure.by_site:
            return None
        table = table.select(tuple(sorted(self.variables(params))))
        found = self.question(params, scope).estimate(table, scope)
        return found if found is not None and found.sound else None
