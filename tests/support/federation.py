"""A federation without services: the run loop over plain exact sums, layouts checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from cohortium.analysis.builtin import parse_params
from cohortium.analysis.interface import AnyAnalysis, Done, Scope
from cohortium.core.canonical import parse_json
from cohortium.core.dictionary import Variable
from cohortium.core.rounds import Contribution, FieldSpec, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.runs.journal import Journal, MemoryJournal
from cohortium.runs.loop import drive


def check_contribution(contribution: Contribution, layout: Layout) -> None:
    """What a party checks before it masks."""
    assert set(contribution) == set(layout)
    for name, spec in layout.items():
        array = contribution[name]
        assert array.shape == spec.shape, name
        assert array.dtype == (np.int64 if spec.kind == "count" else np.float64), name
        assert np.all(np.isfinite(array)), name


def exact_sum(arrays: Sequence[np.ndarray[Any, Any]], spec: FieldSpec) -> np.ndarray[Any, Any]:
    """The sum rounded once, as the masked sum of real fields is."""
    if spec.kind == "count":
        return np.sum(arrays, axis=0, dtype=np.int64).reshape(spec.shape)
    columns = zip(*(array.ravel().tolist() for array in arrays), strict=True)
    sums = [float(sum(map(Fraction, column))) for column in columns]
    return np.array(sums, dtype=np.float64).reshape(spec.shape)


def through_the_wire(state: State) -> State:
    """The state as a site gets it."""
    arrays = {
        name: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)
        for name, array in state.arrays.items()
    }
    return State(values=parse_json(state.values_bytes()), arrays=arrays)


def run_pooled_sum(
    analysis: AnyAnalysis,
    params: Mapping[str, Any],
    tables: Sequence[Table],
    disclosure: Disclosure | None = None,
    *,
    variables: Mapping[str, Variable] | None = None,
    journal: Journal | None = None,
    seen: list[tuple[State, Total]] | None = None,
) -> Done:
    """Drive an analysis over tables, one per site; `seen` receives each round's state and sum."""
    parsed = parse_params(analysis, params)
    scope = Scope(
        variables=tables[0].variables if variables is None else variables,
        disclosure=disclosure or Disclosure(),
        n_sites=len(tables),
    )

    def sum_round(_number: int, state: State) -> Total:
        received = through_the_wire(state)
        layout = analysis.layout(received, parsed, scope)
        contributions = [analysis.local(table, received, parsed, scope) for table in tables]
        for contribution in contributions:
            check_contribution(contribution, layout)
        total = {
            name: exact_sum([c[name] for c in contributions], spec) for name, spec in layout.items()
        }
        if seen is not None:
            seen.append((state, total))
        return total

    done = drive(analysis, parsed, scope, journal=journal or MemoryJournal(), sum_round=sum_round)
    assert parse_json(State(values=done.result).values_bytes()) is not None
    return done
