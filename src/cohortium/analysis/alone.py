"""An analysis of one site's persons, at the site: the code of the joint one, and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from cohortium.analysis.interface import AnyAnalysis, Contribution, Done, Params, Scope
from cohortium.core.table import Table
from cohortium.errors import InputError, PolicyRefusal

_LARGEST: Final = 2.0**100
"""About what the sum over sites takes; beyond it squares would not be finite."""


def own_scope(scope: Scope) -> Scope:
    """As if the site were all there is."""
    return replace(scope, n_sites=1, least_sites=1)


def can_be_summed(contribution: Contribution) -> bool:
    """Whether its numbers are not too large; a joint run refuses them where they are encoded."""
    return all(np.all(np.abs(one) < _LARGEST) for one in contribution.values())


def alone(
    analysis: AnyAnalysis, table: Table, params: Params, scope: Scope
) -> Mapping[str, Any] | None:
    """What the analysis finds in the site's persons; None where that may not, or cannot, be told.

    Each floor of the limits (persons, cells, parameters, marks, dominance) is on the site alone.

    Raises:
        InputError: But ``no-convergence``: what is wrong with the request or the data.
    """
    own = own_scope(scope)
    try:
        state = analysis.start(params, own)
        while True:
            total = analysis.local(table, state, params, own)
            if not can_be_summed(total):
                return None
            outcome = analysis.finish(total, state, params, own)
            if isinstance(outcome, Done):
                return outcome.result
            state = outcome.state
    except PolicyRefusal:
        return None
    except InputError as error:
        if error.code != "no-convergence":
            raise
        return None
