"""The loop of a run: rounds until the analysis is done, each sum recorded before it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from cohortium.analysis.interface import AnyAnalysis, Done, Params, Scope
from cohortium.core.rounds import Layout, State, Total
from cohortium.errors import IntegrityFailure
from cohortium.runs.journal import Journal, total_from_bytes, total_to_bytes

SumRound = Callable[[int, State], Total]
"""Sends the state of a round to every site and returns the decoded sum of the contributions."""


class Sites(Protocol):
    """How many sites a run has; it may lose some on the way."""

    @property
    def active(self) -> int:
        """Sites that will be asked in the next round."""
        ...

    @property
    def summed(self) -> int:
        """Sites in the last sum; after a replayed step, in the recorded one."""
        ...


OnProgress = Callable[[int, float, str], None]
"""Receives the finished round's number, the fraction of the run done (0..1) and a message."""


def drive(
    analysis: AnyAnalysis,
    params: Params,
    scope: Scope,
    *,
    journal: Journal,
    sum_round: SumRound,
    sites: Sites | None = None,
    on_progress: OnProgress = lambda _round, _fraction, _message: None,
) -> Done:
    """Run an analysis to its result.

    Rounds are numbered from 1 (round 0 is the key agreement). A round whose sum the journal holds
    is not asked for again, so a run that was killed continues with the round it was in.

    Args:
        analysis: What is computed.
        params: Its parameters.
        scope: What the contract fixes.
        journal: Remembers the sums.
        sum_round: Asks the sites.
        sites: Numbers of sites as the rounds go; None: `scope.n_sites` throughout.
        on_progress: Told after each round.

    Raises:
        CohortiumError: Whatever a round or the analysis refuses with.
        IntegrityFailure: ``internal`` where the analysis is not done after its `max_rounds`.
    """
    state: State | None = None
    for number in range(1, analysis.max_rounds + 1):
        if sites is not None:
            scope = replace(scope, n_sites=sites.active)
        if state is None:
            state = analysis.start(params, scope)
        layout = analysis.layout(state, params, scope)

        def ask(number: int = number, state: State = state, layout: Layout = layout) -> bytes:
            return total_to_bytes(sum_round(number, state), layout)

        total = total_from_bytes(journal.step(f"round-{number}", ask), layout)
        if sites is not None:
            scope = replace(scope, n_sites=sites.summed)
        outcome = analysis.finish(total, state, params, scope)
        if isinstance(outcome, Done):
            on_progress(number, 1.0, "done")
            return outcome
        state = outcome.state
        on_progress(number, outcome.progress, outcome.message)
    raise IntegrityFailure(
        "internal", f"{analysis.name} did not finish in {analysis.max_rounds} rounds."
    )
