"""What models of a category have in common: `models.multinomial` and `models.ordinal`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from cohortium.analysis.category_model import Model
from cohortium.analysis.category_release import release_moments
from cohortium.analysis.category_state import Progress
from cohortium.analysis.formula import complete, design, variables_of
from cohortium.analysis.glm_release import require_persons
from cohortium.analysis.glm_site import blocks, level_counts
from cohortium.analysis.interface import Continue, Done, DropOuts, FieldSpec, Params, Scope
from cohortium.analysis.marks import joint_counts, numbers_made
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

P = TypeVar("P", bound=Params)

COUNTS = ("counts", "counts+moments", "moments")


class CategoryAnalysis(ABC, Generic[P]):
    """Counts and moments of the persons, then rounds that each model lays out for itself.

    Leaves the site first, summed under masks, over its complete persons: persons, persons left out,
    whether there are any; then (with the floor ``site`` at once) the sums and sums of squares of
    the p columns, persons at each level of the outcome and of each category, and those for whom two
    columns of zeros and ones, or one and a level of the outcome, are 1.
    """

    drop_outs: ClassVar[DropOuts] = "wait"
    phases: ClassVar[tuple[str, ...]] = (*COUNTS, "fit")

    @abstractmethod
    def formula(self, params: P) -> str:
        """The formula that was asked for."""

    @abstractmethod
    def model(self, params: P, scope: Scope) -> Model:
        """The parameters bound to the study's variables."""

    @abstractmethod
    def begin(self, at: Progress, params: P) -> Floats:
        """The coefficients of the model without covariates, shape (q,)."""

    def sums(self, at: Progress, model: Model) -> Layout:  # noqa: ARG002
        """The fields of a round of the fit."""
        q = model.q
        return {
            "loglik": FieldSpec((1,), "real"),
            "score": FieldSpec((q,), "real"),
            "information": FieldSpec((q * (q + 1) // 2,), "real"),
        }

    @abstractmethod
    def add(
        self, out: Contribution, x: Floats, y: Ints, *, at: Progress, model: Model, params: P
    ) -> None:
        """Add the sums over some persons.

        Args:
            x: Centred columns, shape (n_rows, p).
            y: Places of their levels, shape (n_rows,).
        """

    @abstractmethod
    def step(
        self, at: Progress, total: Total, *, model: Model, params: P, scope: Scope
    ) -> Continue | Done:
        """The next move from a round's sums."""

    def check(self, at: Progress, params: P) -> None:
        """Whether coefficients that another process sent can be.

        Raises:
            ProtocolError: ``malformed-message``.
        """

    def variables(self, params: P) -> frozenset[str]:
        """The names in the formula."""
        return variables_of(self.formula(params))

    def partition(self, params: P, scope: Scope) -> tuple[str, ...]:
        """The outcome: persons at each of its levels are counted."""
        return (self.model(params, scope).outcome,)

    def numbers_made(self, table: Table, params: P, scope: Scope) -> list[Floats]:
        """Columns with an expression or a product of numbers."""
        return numbers_made(table, self.model(params, scope).parsed)

    def column(self, field: str, index: int, params: P, scope: Scope) -> str:
        """The term of a component; the outcome where it is of no single one."""
        model = self.model(params, scope)
        return model.parsed.names[index] if field in {"columns", "squares"} else model.outcome

    def start(self, params: P, scope: Scope) -> State:
        """Begin with counts, and with moments where each site guards its own floor."""
        at_once = scope.disclosure.floor == "site"
        model = self.model(params, scope)
        return Progress.nothing(model, "counts+moments" if at_once else "counts").to_state()

    def layout(self, state: State, params: P, scope: Scope) -> Layout:
        """See the class."""
        model = self.model(params, scope)
        return self._layout(self._read(state, model, params), model)

    def local(self, table: Table, state: State, params: P, scope: Scope) -> Contribution:
        """See the class; zeros below the site's own floor."""
        model, limits = self.model(params, scope), scope.disclosure
        at = self._read(state, model, params)
        out: dict[str, Array] = {
            name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
            for name, spec in self._layout(at, model).items()
        }
        table = table.select(tuple(sorted(model.parsed.variables)))
        rows = complete(table, model.parsed)
        persons = int(np.count_nonzero(rows))
        if persons < (limits.min_cell if limits.floor == "site" else 1):
            return out
        if "persons" in out:
            out["persons"][:] = (persons, table.n_rows - persons, 1)
        if at.phase == "counts":
            return out
        table = table if persons == table.n_rows else table.take(rows)
        for block in blocks(table):
            y, x = model.outcomes(block), design(block, model.parsed)[0]
            if at.phase not in COUNTS:
                with np.errstate(over="ignore", invalid="ignore"):  # as far as a hub may ask
                    self.add(out, x - at.centre, y, at=at, model=model, params=params)
                continue
            out["columns"] += x.sum(axis=0)
            out["squares"] += np.square(x).sum(axis=0)
            out["outcomes"] += np.bincount(y, minlength=model.k)
            out["marks"] += joint_counts(block, model.parsed)
            if "levels" in out:
                out["levels"] += level_counts(block, model.parsed)
        return out

    def finish(self, total: Total, state: State, params: P, scope: Scope) -> Continue | Done:
        """Check what must be enough, then take a step."""
        model = self.model(params, scope)
        at = self._read(state, model, params)
        if "persons" in total:
            persons = np.asarray(total["persons"], dtype=np.int64)
            require_persons(persons, model.q, scope)
            at = at.but(counts=persons)
            if at.phase == "counts":
                return Continue(at.but(phase="moments").to_state(), 0.1, "counts")
        if at.phase not in COUNTS:
            return self.step(at, total, model=model, params=params, scope=scope)
        at = release_moments(at, total, model, scope)
        beta = self.begin(at, params)
        return Continue(at.but(phase="fit", beta=beta, previous=beta).to_state(), 0.2, "moments")

    def _layout(self, at: Progress, model: Model) -> Layout:
        return model.counts_layout(at.phase) if at.phase in COUNTS else self.sums(at, model)

    def _read(self, state: State, model: Model, params: P) -> Progress:
        at = Progress.from_state(state, model, self.phases)
        if at.phase not in COUNTS:
            self.check(at, params)
        return at
