"""Numbers of a request that would tell of a few of this site's persons: the site refuses."""

from __future__ import annotations

import numpy as np

from cohortium.analysis.interface import MakesNumbers, Splits
from cohortium.analysis.screen import parts_of
from cohortium.cohort.singling import dominated, numbers_made
from cohortium.core.table import Table
from cohortium.errors import PolicyRefusal
from cohortium.node.checked import CheckedRun


def require_not_dominated(table: Table, run: CheckedRun) -> None:
    """No number that a researcher makes varies by a few of the site's persons nearly alone.

    It is asked of the site's persons of the run, and of those in each part that it tells of.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    if isinstance(run.inner, Splits):  # it reads variables for its criteria only
        return
    names = numbers_made(run.population, run.inner.variables(run.params))
    made = [np.asarray(table.columns[name], dtype=np.float64) for name in names]
    if isinstance(run.inner, MakesNumbers):
        made += run.inner.numbers_made(table, run.params, run.common)
    if not made:
        return
    parts = parts_of(run.inner, table, run.params, run.scope)
    least = run.scope.disclosure.min_cell
    for values in made:
        for rows in (slice(None), *(parts == part for part in np.unique(parts))):
            if dominated(values[rows], least):
                raise PolicyRefusal(
                    "too-few-persons",
                    f"Fewer than {least} persons of a site make up nearly all of how a number of "
                    "this request varies, which would be told of them alone. Use a transformation "
                    "that is less steep, or let the contract derive it (`derived:` in the study "
                    "file), for all sites to sign.",
                )
