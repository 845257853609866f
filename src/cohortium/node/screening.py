"""Whether a run's persons may be told of beside those of the study's earlier results.

The hub says what a run is compared with and what came of it; the site checks that nothing which it
remembers is left out, and decides from the total itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from cohortium.analysis.screen import (
    MAX_MIN_CELL,
    Codes,
    Earlier,
    OwnSets,
    Release,
    Screen,
    compared,
    only_rounded,
    parts_of,
    screened,
    set_key,
    split_of,
    view_of,
)
from cohortium.core.rounds import State
from cohortium.core.table import Table
from cohortium.disclosure.differencing import Bools, Ints, PersonSets
from cohortium.errors import PolicyRefusal, ProtocolError
from cohortium.link._generated import link_pb2 as pb
from cohortium.node.checked import CheckedRun
from cohortium.node.persons import Persons
from cohortium.node.released import KnownRows, Place, ReleasedSets
from cohortium.node.store import NodeStore


@dataclass(frozen=True)
class NewSets:
    """Sets of persons that a round tells of for the first time here.

    Attributes:
        view: Which of the computation's splits.
    """

    key: str
    view: int


@dataclass(frozen=True)
class Telling:
    """What this site is about to tell.

    Attributes:
        sets: On the rows of `place`.
        rows: How they can be recognised in another content; None where that is known.
    """

    place: Place
    release: Release
    sets: PersonSets
    rows: KnownRows | None


class Screening:
    """Compares runs with what was released before."""

    def __init__(self, store: NodeStore, released: ReleasedSets, persons: Persons) -> None:
        self._store = store
        self._released = released
        self._persons = persons
        self._passed: tuple[str, str] | None = None

    def advert(self, run: CheckedRun, envelope: bytes) -> pb.RunAdvert:
        """What the hub hears when the site takes part: its key, and what it remembers."""
        known = [] if run.noise is not None else sorted(self._known(run).values())
        return pb.RunAdvert(
            envelope=envelope,
            min_cell=run.scope.disclosure.min_cell,
            released=[pb.ReleasedSets(key=k, sets=n, kept=kept) for k, n, kept in known],
        )

    def resumed(self, run: CheckedRun) -> CheckedRun:
        """The run with what was agreed about it in its first rounds."""
        rows = self._store.execute("SELECT body FROM screens WHERE run_id = ?", run.request.run_id)
        if not rows:
            return run
        body = json.loads(rows[0][0])
        screen = None if body["state"] is None else Screen.from_state(State(body["state"]))
        return replace(run, screen=screen, view=body["view"])

    def check(self, run: CheckedRun, number: int, state: State) -> NewSets | None:
        """Decide whether a round may tell of its persons.

        Raises:
            PolicyRefusal: ``differencing``.
            ProtocolError: The state does not follow from what the hub may choose.
        """
        # 1. The first state follows from the signed parameters, or is a comparison with everything
        # that this site remembers, at its own minimum or above. 2. What follows a comparison
        # follows from its total, and so does what is released. 3. It stays that. 4. What was never
        # released here was compared, unless nothing was.
        exempt = self._exempt(run)
        if number == 1:  # 1
            if run.screen is not None:
                self._check_comparison(run, run.screen, state)
                return None
            first = screened(run.inner, None, view=view_of(state)).start(run.params, run.common)
            _require_state(first, state)
        elif number == 2 and run.screen is not None:  # 2
            self._check_compared(run, run.screen, state)
        elif run.view is not None and view_of(state) != run.view:  # 3
            raise _other_state()
        if exempt:
            return None
        view = view_of(state)
        key = set_key(
            run.inner,
            run.params,
            run.common,
            contract=run.request.contract_digest,
            population=run.population,
            view=view,
        )
        if self._released.holds(run.contract.study, key):
            return None
        if not (run.screen is not None and number == 2) and self._known(run):  # 4
            raise PolicyRefusal(
                "differencing",
                "These persons were not compared with those of earlier results; submit the run "
                "again.",
            )
        return NewSets(key, view)

    def _check_comparison(self, run: CheckedRun, screen: Screen, state: State) -> None:
        if run.noise is not None or not set(self._known(run).values()) <= set(screen.earlier):
            raise ProtocolError(
                "wrong-round", "The comparison leaves out what this site remembers."
            )
        least = run.scope.disclosure.min_cell
        if not least <= screen.min_cell <= max(least, MAX_MIN_CELL):
            raise ProtocolError("wrong-round", "The comparison is not at this site's minimum.")
        first = screened(run.inner, screen).start(run.params, run.common)
        _require_state(first, state)

    def _check_compared(self, run: CheckedRun, screen: Screen, state: State) -> None:
        """The state follows from the numbers that it carries; a round is checked twice."""
        passed = (run.request.run_id, state.digest)
        if self._passed == passed:
            return
        _require_state(compared(state, run.inner, screen, run.params, run.common), state)
        self._passed = passed

    def own(self, run: CheckedRun) -> OwnSets:
        """What this site brings to the comparison."""
        return _Own(self, run)

    def joint(
        self, run: CheckedRun, parts: Codes, n_parts: int, earlier: Earlier
    ) -> Iterable[tuple[Ints, Bools]]:
        """See `OwnSets`."""
        codes = self._on_all_rows(run, parts)
        return self._released.joint(self._place(run), codes, n_parts, earlier)

    def telling(self, run: CheckedRun, release: NewSets, table: Table) -> Telling:
        """What is to be remembered with the round."""
        place = self._place(run)
        split = split_of(run.inner, run.params, run.scope)
        parts = parts_of(run.inner, table, run.params, run.scope)
        view = list(split.views[release.view])
        sets = PersonSets(self._on_all_rows(run, parts), split.sets[view])
        rows = self._released.new_rows(place, run.contract, run.participant)
        return Telling(place, Release(release.key, len(view), split.kept), sets, rows)

    def record(self, run: CheckedRun, number: int, state: State, telling: Telling | None) -> None:
        """Remember, in the transaction of the round, what was agreed and what is told."""
        if run.screen is not None and number == 1:
            self._put(run, None)
        elif (run.screen is not None and number == 2) or (number == 1 and view_of(state)):
            self._put(run, view_of(state))
        if telling is not None:
            self._released.add(telling.place, telling.release, telling.sets, run.request.run_id)
            if telling.rows is not None:
                self._released.add_rows(telling.place, telling.rows)

    def _put(self, run: CheckedRun, view: int | None) -> None:
        state = None if run.screen is None else dict(run.screen.to_state().values)
        body = json.dumps({"state": state, "view": view}).encode()
        self._store.execute(
            "INSERT OR REPLACE INTO screens VALUES (?, ?)", run.request.run_id, body
        )

    def _known(self, run: CheckedRun) -> dict[str, Release]:
        return self._released.known(run.contract.study)

    def _exempt(self, run: CheckedRun) -> bool:
        least = run.scope.disclosure.min_cell
        return run.noise is not None or only_rounded(run.inner, run.params, least)

    def _place(self, run: CheckedRun) -> Place:
        given = run.participant
        n_rows = self._persons.n_rows(given)
        return Place(run.contract.study, given.dataset, given.dataset_digest, n_rows)

    def _on_all_rows(self, run: CheckedRun, parts: Codes) -> Codes:
        if run.population.is_everybody:
            return parts
        codes = np.full(self._place(run).n_rows, -1, dtype=parts.dtype)
        codes[self._persons.rows(run.contract, run.participant, run.population)] = parts
        return codes


class _Own:
    """See `OwnSets`."""

    def __init__(self, screening: Screening, run: CheckedRun) -> None:
        self._screening = screening
        self._run = run

    def joint(self, parts: Codes, n_parts: int, earlier: Earlier) -> Iterable[tuple[Ints, Bools]]:
        """See `OwnSets`."""
        return self._screening.joint(self._run, parts, n_parts, earlier)


def _require_state(expected: State, given: State) -> None:
    if expected.digest != given.digest:
        raise _other_state()


def _other_state() -> ProtocolError:
    return ProtocolError(
        "wrong-round", "The first state is not the one that the request's parameters give."
    )
