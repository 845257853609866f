"""What an analysis is: pure functions around a masked sum.

    start(params, scope)                 -> State            at the hub, from the contract alone
    layout(state, params, scope)         -> Layout           hub and site: what will leave the site
    local(table, state, params, scope)   -> Contribution     at each site
    (sum of contributions)                                   masked, by the kernel
    finish(total, state, params, scope)  -> Continue | Done  at the hub

No function here does I/O, reads a clock or draws randomness, and all are deterministic: after a
crash the hub replays `finish`, and a site that is asked again answers with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.core.dictionary import Name, Variable
from cohortium.core.model import Document
from cohortium.core.rounds import Array, Contribution, FieldKind, FieldSpec, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.differencing import Split
from cohortium.disclosure.limits import Disclosure
from cohortium.disclosure.suppression import LEAST_SITES
from cohortium.errors import InputError


@dataclass(frozen=True)
class Scope:
    """What contract and site fix for a run: both hub and site build it from the signed contract.

    Attributes:
        variables: The variables that this computation may touch.
        disclosure: At a site, the stricter of contract and policy.
        n_sites: Sites whose contributions are summed.
        sites: The contract's participants.
        site: At a site, its place among them.
        least_sites: Fewest sites that a released number rests on; 1 where a site computes its own,
            which the contract must permit.
        chosen: Categories and booleans with which the request tells persons apart, beside criteria
            and `Partitions`: see `cohortium.cohort.choice`.
    """

    variables: Mapping[str, Variable]
    disclosure: Disclosure
    n_sites: int
    sites: tuple[str, ...] = ()
    site: int | None = None
    chosen: tuple[str, ...] = ()
    least_sites: int = LEAST_SITES

    def variable(self, name: str) -> Variable:
        """The variable, or InputError ``not-found``."""
        if name not in self.variables:
            raise InputError(
                "not-found",
                f"There is no variable {name!r} in this study. "
                f"It has: {', '.join(sorted(self.variables))}.",
                variable=name,
            )
        return self.variables[name]


@dataclass(frozen=True)
class Continue:
    """Another round with this state."""

    state: State
    progress: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Done:
    """The released result: JSON values only (arrays, where large, beside it)."""

    result: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)


class Params(Document):
    """The base of an analysis's parameters; a run request carries them as JSON."""


P = TypeVar("P", bound=Params)


DropOuts = Literal["wait", "continue"]


class Analysis(Protocol[P]):
    """One analysis. Stateless; one instance is registered under its name.

    Attributes:
        drop_outs: What happens to a run whose contract lets sites be missing, when one drops.
            ``wait``: all sums of a run are over one set of sites, those that were there in the
            first round; an exact statistic needs it. ``continue``: each round stands alone, is
            summed over those who are there, and a site that returns joins the next (federated
            averaging).
    """

    name: ClassVar[str]
    version: ClassVar[int]
    max_rounds: ClassVar[int]
    drop_outs: ClassVar[DropOuts]
    params_type: type[P]

    def variables(self, params: P) -> frozenset[str]:
        """Every variable that the computation reads; checked against the contract."""
        ...

    def start(self, params: P, scope: Scope) -> State:
        """The first state; raises InputError where parameters and variables do not fit."""
        ...

    def layout(self, state: State, params: P, scope: Scope) -> Layout:
        """Names, shapes and kinds of the contribution of this round."""
        ...

    def local(self, table: Table, state: State, params: P, scope: Scope) -> Contribution:
        """One site's contribution; its arrays have exactly the shapes of `layout`."""
        ...

    def finish(self, total: Total, state: State, params: P, scope: Scope) -> Continue | Done:
        """Turn the sum into the next state or the result."""
        ...


AnyAnalysis = Analysis[Any]


@runtime_checkable
class NamesColumns(Protocol):
    """An analysis that can say which column of the data a component of its contribution is of."""

    def column(self, field: str, index: int, params: Any, scope: Scope) -> str:
        """The variable or term, for the message of an overflow; `index` is into the flat field."""
        ...


@runtime_checkable
class BoundsPersons(Protocol):
    """An analysis that bounds what one person adds to its sums, for noise that hides a person."""

    def person_norm(self, params: Any, scope: Scope) -> float:
        """The largest L2 norm, over all fields together, by which one person's records change a
        site's contribution of any round, whatever the state and the other records.
        """
        ...


@runtime_checkable
class Partitions(Protocol):
    """An analysis that releases numbers about parts of the cohort beside those about all of it."""

    def partition(self, params: Any, scope: Scope) -> tuple[str, ...]:
        """Categories and booleans whose crossed levels are the parts; empty: no parts."""
        ...


@runtime_checkable
class Splits(Protocol):
    """An analysis that says itself which sets of persons it tells of; see `analysis.screen`."""

    def split(self, params: Any, scope: Scope) -> Split:
        """The parts of the cohort, and the sets made of them."""
        ...

    def parts(self, table: Table, params: Any, scope: Scope) -> npt.NDArray[np.integer]:
        """The part of each person of the cohort, shape (n_rows,); as in `PersonSets.codes`."""
        ...

    def split_key(self, params: Any, scope: Scope) -> Any:
        """JSON that is the same exactly where the parts are."""
        ...

    def narrowed(self, params: Any, view: int) -> Any:
        """The parameters with which no more is released than that view of the split."""
        ...


@runtime_checkable
class ReadsCriteria(Protocol):
    """An analysis whose parameters are criteria: the contract says what they may read."""

    def criteria(self, params: Any) -> tuple[str, ...]:
        """The criteria, as texts."""
        ...


@runtime_checkable
class RoundsCounts(Protocol):
    """An analysis that can release nothing but counts of persons, rounded."""

    def rounding(self, params: Any) -> int | None:
        """What every released number is a multiple of; None where something exact is released."""
        ...


@runtime_checkable
class MakesNumbers(Protocol):
    """An analysis whose parameters make numbers of their own from variables."""

    def numbers_made(
        self, table: Table, params: Any, scope: Scope
    ) -> Iterable[npt.NDArray[np.float64]]:
        """Each such number of the table's persons, shape (n_rows,), and what must not be told of
        few of them either; NaN where one has none.
        """
        ...


VariableNames = Annotated[tuple[Name, ...], Field(min_length=1, max_length=500)]

__all__ = [
    "Analysis",
    "AnyAnalysis",
    "Array",
    "BoundsPersons",
    "Continue",
    "Contribution",
    "Done",
    "DropOuts",
    "FieldKind",
    "FieldSpec",
    "Layout",
    "MakesNumbers",
    "NamesColumns",
    "Params",
    "Partitions",
    "ReadsCriteria",
    "RoundsCounts",
    "Scope",
    "Splits",
    "State",
    "Total",
    "VariableNames",
]
