"""A federation without services, of analyses that tell of each institution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.support.federation import check_contribution, exact_sum, through_the_wire

from cohortium.analysis.builtin import parse_params
from cohortium.analysis.interface import AnyAnalysis, Continue, Scope
from cohortium.core.canonical import parse_json
from cohortium.core.rounds import State
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

OPEN = Disclosure(by_site=True)
SMALL = Disclosure(by_site=True, min_cell=1, persons_per_parameter=1, residual_df=1)


def run_by_site(
    analysis: AnyAnalysis,
    params: Mapping[str, Any],
    sites: Sequence[Table],
    limits: Disclosure = OPEN,
    names: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The result of every round, each site with its own place: ``site 0``, ``site 1``, ..."""
    parsed = parse_params(analysis, params)
    names = names or tuple(f"site {at}" for at in range(len(sites)))
    scope = Scope(sites[0].variables, limits, len(sites), names)
    state = analysis.start(parsed, scope)
    while True:
        received = through_the_wire(state)
        layout = analysis.layout(received, parsed, scope)
        given = [
            analysis.local(table, received, parsed, replace(scope, site=at))
            for at, table in enumerate(sites)
        ]
        for one in given:
            check_contribution(one, layout)
        total = {name: exact_sum([c[name] for c in given], of) for name, of in layout.items()}
        step = analysis.finish(total, state, parsed, scope)
        if not isinstance(step, Continue):
            return dict(parse_json(State(step.result).values_bytes()))
        state = step.state
