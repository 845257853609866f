"""The loop of a run: rounds until the analysis is done, each sum recorded before it is used."""

from __future__ import annotations

from collections.abc import Callable

from cohortium.analysis.interface import AnyAnalysis, Done, Params, Scope
from cohortium.core.rounds import State, Total
from cohortium.errors import IntegrityFailure
from cohortium.runs.journal import Journal, total_from_bytes, total_to_bytes

SumRound = Callable[[int, State], Total]
"""Sends the state of a round to every site and returns the decoded sum of the contributions."""

OnProgress = Callable[[int, float, str], None]
"""Receives the finished round's number, the fraction of the run done (0..1) and a message."""


def drive(
    analysis: AnyAnalysis,
    params: Params,
    scope: Scope,
    *,
    journal: Journal,
    sum_round: SumRound,
    on_progress: OnProgress = lambda _round, _fraction, _message: None,
) -> Done:
    """Run an analysis to its result.

    Rounds are numbered from 1 (round 0 is the key agreement). A round whose sum the journal holds
    is not asked for again, so a run that was killed continues with the round it was in.

    Raises:
        CohortiumError: Whatever a round or the analysis refuses with.
        IntegrityFailure: ``internal`` where the analysis is not done after its `max_rounds`.
    """
    state = analysis.start(params, scope)
    for number in range(1, analysis.max_rounds + 1):
        layout = analysis.layout(state, params, scope)

        def ask(number: int = number, state: State = state) -> bytes:
            return total_to_bytes(sum_round(number, state), analysis.layout(state, params, scope))

        total = total_from_bytes(journal.step(f"round-{number}", ask), layout)
        outcome = analysis.finish(total, state, params, scope)
        if isinstance(outcome, Done):
            on_progress(number, 1.0, "done")
            return outcome
        state = outcome.state
        on_progress(number, outcome.progress, outcome.message)
    raise IntegrityFailure(
        "internal", f"{analysis.name} did not finish in {analysis.max_rounds} rounds."
    )
