"""Numbers of a request that would tell of a few of this site's persons: the site refuses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import MakesNumbers, ReadsCriteria
from cohortium.analysis.screen import parts_of
from cohortium.cohort.filling import filled_numbers
from cohortium.cohort.singling import dominated, numbers_made, parts_made
from cohortium.core.table import Table
from cohortium.errors import PolicyRefusal
from cohortium.node.checked import CheckedRun
from cohortium.node.persons import Persons


class Singling:
    """Looks at the numbers that researchers make; a run's rounds have the same ones."""

    def __init__(self, persons: Persons) -> None:
        self._persons = persons
        self._passed: str | None = None

    def require_none(self, table: Table, run: CheckedRun) -> None:
        """No number of the request varies by a few of the site's persons nearly alone.

        It is asked of the site's persons of the run, and of those in each part that it tells of.

        Raises:
            PolicyRefusal: ``too-few-persons``.
        """
        if self._passed == run.request.run_id:
            return
        parts = None
        least = run.scope.disclosure.min_cell
        for values in self._made(table, run):
            if parts is None:
                parts = parts_of(run.inner, table, run.params, run.scope)
            for rows in (slice(None), *(parts == part for part in np.unique(parts))):
                if dominated(values[rows], least):
                    raise PolicyRefusal(
                        "too-few-persons",
                        f"Fewer than {least} persons of a site make up nearly all of how a number "
                        "of this request varies, which would be told of them alone. Use a "
                        "transformation that is less steep, or let the contract derive it "
                        "(`derived:` in the study file), for all sites to sign.",
                    )
        self._passed = run.request.run_id

    def _made(self, table: Table, run: CheckedRun) -> Iterator[npt.NDArray[np.float64]]:
        if isinstance(run.inner, ReadsCriteria):  # nothing else is told of its variables
            return
        names = numbers_made(run.population, run.inner.variables(run.params))
        if names:
            sources = run.population.reads_for(names)
            base = self._persons.table(run.contract, run.participant, run.population, sources)
            whole = run.population.derive(base)
            for name in names:
                yield np.asarray(table.columns[name], dtype=np.float64)
                yield from parts_made(run.population, name, whole)
        for name in filled_numbers(run.population.fills, table):
            yield np.asarray(table.columns[name], dtype=np.float64)
        if isinstance(run.inner, MakesNumbers):
            yield from run.inner.numbers_made(table, run.params, run.common)
