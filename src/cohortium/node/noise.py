"""The noise of this node's rounds: drawn once for a round, kept until the next one.

A round that is asked again must give the same bytes, and a second draw would let the hub average
noise away. The sampler takes no seed, so that the noise itself is kept: with the record of the
round, in one transaction, which is also what spends the budget.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

from cohortium.contract.noise_plan import Plan, plan
from cohortium.core.rounds import Layout
from cohortium.errors import ConflictError, IntegrityFailure
from cohortium.node.checked import CheckedRun
from cohortium.node.guard import CheckedRound
from cohortium.node.store import NodeStore
from cohortium.secagg.noise import discrete_gaussian
from cohortium.secagg.vector import Noise

THREADS: Final = min(4, os.cpu_count() or 1)


class RoundNoise:
    """Noise for rounds, from the store where the round was answered before.

    Args:
        store: The node's memory.
    """

    def __init__(self, store: NodeStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}

    @contextmanager
    def turn(self, run: CheckedRun) -> Iterator[None]:
        """One at a time for a run with noise: two answers to one question must not draw twice."""
        if run.noise is None:
            yield
            return
        with self._lock:
            turn = self._turns.setdefault(run.request.run_id, threading.Lock())
        with turn:
            yield

    def forget(self, run_id: str) -> None:
        """Drop what is kept in memory of a run."""
        with self._lock:
            self._turns.pop(run_id, None)

    @staticmethod
    def plan(checked: CheckedRound, layout: Layout) -> Plan:
        """The noise that the contract asks for in a round; none for an exact sum."""
        noise, parties = checked.run.noise, checked.party.parties
        if noise is None:
            return Plan(layout, {})
        return plan(noise, layout, len(parties.sites), parties.fewest)

    def draw(self, checked: CheckedRound, planned: Plan) -> Noise:
        """The noise of a round.

        Raises:
            ConflictError: ``round-burnt`` for an earlier round, whose noise is gone.
            InputError: ``missing-extra``.
        """
        if not planned.sigmas:
            return {}
        if checked.answered is None:
            return {
                name: discrete_gaussian(sigma, planned.layout[name].size, threads=THREADS)
                for name, sigma in planned.sigmas.items()
            }
        kept = self._store.noise(checked.run.request.run_id, checked.round)
        if kept is None:
            raise ConflictError(
                "round-burnt",
                f"Round {checked.round} cannot be answered again: its noise was forgotten when the "
                "next round began. Submit a new run.",
            )
        return from_bytes(kept, planned.layout)


def to_bytes(drawn: Noise) -> bytes:
    """Fields by name, one after the other, 64 bits a component."""
    return b"".join(drawn[name].astype("<i8").tobytes() for name in sorted(drawn))


def from_bytes(data: bytes, layout: Layout) -> Noise:
    """The inverse of `to_bytes`.

    Raises:
        IntegrityFailure: ``broken-store``.
    """
    sizes = {name: layout[name].size for name in sorted(layout)}
    if len(data) != 8 * sum(sizes.values()):
        raise IntegrityFailure("broken-store", "The stored noise does not fit the round.")
    flat, drawn, first = np.frombuffer(data, dtype="<i8"), {}, 0
    for name, size in sizes.items():
        drawn[name] = flat[first : first + size].astype(np.int64, copy=False)
        first += size
    return drawn
