"""A cohort of a study: persons who meet criteria, and every analysis over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cohortium.core.dictionary import Variable
from cohortium.core.model import explain
from cohortium.core.selection import Filled, Selection
from cohortium.errors import InputError
from cohortium.sdk.analyses import Analyses
from cohortium.sdk.html import facts_html, table_html
from cohortium.sdk.run import Run
from cohortium.sdk.run_info import cohort_line

if TYPE_CHECKING:
    from cohortium.sdk.attrition import AttritionResult
    from cohortium.sdk.filling import Fill
    from cohortium.sdk.study import Study

Criteria = str | Sequence[str]


class Cohort(Analyses):
    """Persons of a study who meet every criterion of `include` and none of `exclude`.

    The contract's own criteria apply as well. Nothing is asked of the sites before an analysis is.

    Attributes:
        study: The study that it is of.
        include, exclude: The criteria, in order.
        filled: What stands for missing values; see `impute`.
    """

    def __init__(
        self,
        study: Study,
        include: Criteria = (),
        exclude: Criteria = (),
        filled: tuple[Filled, ...] = (),
    ) -> None:
        self.study = study
        self.include = _listed(include)
        self.exclude = _listed(exclude)
        self.filled = filled
        self._population = study.population(self.selection())

    def __repr__(self) -> str:
        persons = cohort_line(
            Selection(include=self.include, exclude=self.exclude, filled=self.filled or None)
        )
        return f"<Cohort of {self.study.id}: {persons or 'everybody'}>"

    def _repr_html_(self) -> str:
        contract = self.study.contract.cohort
        rows = [
            *(("contract", "include", text) for text in (contract.include if contract else ())),
            *(("contract", "exclude", text) for text in (contract.exclude if contract else ())),
            *(("cohort", "include", text) for text in self.include),
            *(("cohort", "exclude", text) for text in self.exclude),
            *(("filled", one.variable, str(one.value)) for one in self.filled),
        ]
        title = f"Cohort of {self.study.title} ({self.study.id})"
        return facts_html(title, {}) + table_html(("said by", "", "criterion"), rows)

    @property
    def variables(self) -> dict[str, Variable]:
        """The study's variables, derived ones included."""
        return self.study.variables

    @property
    def key(self) -> str:
        """``sha256:...``: the same for the same criteria, however they are written and ordered."""
        return self._population.persons_key

    def selection(self) -> Selection:
        """What a request carries: the criteria, and the derived variables that they read."""
        names = [one.variable for one in self.filled]
        selection = self.study.selection(self.include, self.exclude, names)
        return selection.model_copy(update={"filled": self.filled or None})

    def cohort(self, include: Criteria = (), exclude: Criteria = ()) -> Cohort:
        """Those of the cohort who also meet these criteria.

        Raises:
            InputError: ``bad-criterion``, with the place in the text.
            PolicyRefusal: ``not-permitted`` where the contract does not let a variable be used.
        """
        return Cohort(
            self.study,
            (*self.include, *_listed(include)),
            (*self.exclude, *_listed(exclude)),
            self.filled,
        )

    def impute(self, values: Mapping[str, Fill]) -> Cohort:
        """The same persons, with one value in place of all that a variable lacks.

            filled = study.impute({"chol": "mean", "sex": "mode", "stage": "II"})
            filled.glm("died ~ chol + sex")

        Joint means and medians (of numbers, to the digits that they are recorded with) and modes
        (of categories and booleans) are asked for at once, from the cohort; then they stand in each
        request. Criteria and derived variables read what the data have. Standard errors take what
        is filled in for observed, and are too small: `mice` does not.

        Args:
            values: ``mean``, ``median``, ``mode`` or the value itself, by variable; up to 8.

        Raises:
            InputError: ``not-found``, ``bad-input``.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        from cohortium.sdk.filling import fills_of

        before = {one.variable: one for one in self.filled}
        persons = Cohort(self.study, self.include, self.exclude)
        new = {one.variable: one for one in fills_of(persons, values)}
        return Cohort(self.study, self.include, self.exclude, tuple({**before, **new}.values()))

    def attrition(
        self,
        order: Sequence[str] | None = None,
        *,
        rounding: int | None = None,
        by_site: bool = False,
    ) -> AttritionResult:
        """How many persons remain after each criterion: those to include first, as they are listed.

        Where the numbers of persons at each combination of the criteria are known from before, and
        released, another order or fewer criteria ask the sites nothing.

        Args:
            order: All criteria, in another order.
            rounding: Release nothing but numbers rounded to multiples of this.
            by_site: Numbers of each institution too, rounded; the contract must allow it.

        Raises:
            PolicyRefusal: ``differencing``, ``too-few-persons``; the contract or a site says no.
        """
        from cohortium.sdk.counted import attrition

        return attrition(self, order, rounding, by_site)

    def submit(self, computation: str, params: Mapping[str, Any]) -> Run:
        """Sign and submit a run over the cohort; returns at once with its handle."""
        return self.study.submit(computation, params, self.selection())


def _listed(criteria: Criteria) -> tuple[str, ...]:
    texts = (criteria,) if isinstance(criteria, str) else criteria
    try:
        return Selection(include=tuple(text.strip() for text in texts)).include
    except (ValidationError, AttributeError, TypeError) as error:
        why = explain(error) if isinstance(error, ValidationError) else "each is a text"
        raise InputError("bad-criterion", f"Not a list of criteria: {why}.") from error
