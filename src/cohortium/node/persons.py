"""The persons and variables of a run: what the datasets hold, derived and filtered."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Hashable
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from cohortium.cohort.population import Population
from cohortium.contract.model import Contract, Participant
from cohortium.core.table import Table
from cohortium.errors import PolicyRefusal
from cohortium.node.checked import CheckedRun
from cohortium.node.datasets import Datasets

Rows = npt.NDArray[np.bool_]
_MASK_BYTES: Final = 16 * 2**20
_TABLE_BYTES: Final = 256 * 2**20

_V = TypeVar("_V")


class Persons:
    """Reads the datasets for runs; thread-safe.

    The rows of a cohort, and the tables of the last runs, are kept in memory: the rounds of a run
    ask for the same persons again, and so does a researcher who goes on with a cohort.
    """

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets
        self._rows: _Recent[Rows] = _Recent(_MASK_BYTES)
        self._tables: _Recent[Table] = _Recent(_TABLE_BYTES)

    def n_rows(self, participant: Participant) -> int:
        """All persons of the dataset."""
        return self._datasets.get(participant.dataset).n_rows

    def rows(self, contract: Contract, participant: Participant, population: Population) -> Rows:
        """Which of the dataset's persons are in the population; shape (n_rows,), read-only.

        A population that is everybody has no criterion to read: ask for its size elsewhere.
        """
        key = (participant.dataset, participant.dataset_digest, _sources(participant))
        whole = (*key, population.persons_key)
        rows = self._rows.get(whole)
        if rows is None:
            base = self._base(contract, participant, population.reads)
            rows = population.rows(population.derive(base))
            rows.flags.writeable = False
            self._rows.put(whole, rows, rows.nbytes)
        return rows

    def table(
        self,
        contract: Contract,
        participant: Participant,
        population: Population,
        names: Collection[str],
    ) -> Table:
        """These variables, derived ones among them, of the persons in the population."""
        wanted = tuple(sorted(names))
        if population.is_everybody and not any(n in population.derivations for n in wanted):
            return self._base(contract, participant, wanted)
        key = (participant.dataset, participant.dataset_digest, _sources(participant))
        whole = (*key, population.key, tuple(contract.variables), wanted)
        table = self._tables.get(whole)
        if table is None:
            base = self._base(contract, participant, population.reads_for(wanted))
            table = population.derive(base).select(wanted)
            if not population.is_everybody:
                table = table.take(self.rows(contract, participant, population))
            self._tables.put(whole, table, sum(column.nbytes for column in table.columns.values()))
        return table

    def _base(self, contract: Contract, participant: Participant, names: Collection[str]) -> Table:
        declared = {variable.name: variable for variable in contract.variables}
        return self._datasets.table(
            participant.dataset,
            {name: declared[name] for name in sorted(names)},
            {study: column for study, column in participant.sources.items() if study in names},
            participant.dataset_digest,
        )


def require_no_small_gap(table: Table, run: CheckedRun) -> None:
    """The variables that a researcher derives do not leave out a few persons; `cohort.choice`.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    least = run.scope.disclosure.min_cell
    for name in run.population.gaps:
        if 0 < np.count_nonzero(table.columns[name] == 1) < least:
            raise PolicyRefusal(
                "too-few-persons",
                f"A derived variable has no value for fewer than {least} persons of a site, while "
                "all that it is made of has (division by zero, no interval or ELSE for them). "
                "Leave these persons out by a criterion, or give them a value.",
            )


def _sources(participant: Participant) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(participant.sources.items()))


class _Recent(Generic[_V]):
    """The most recently used values, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[Hashable, tuple[_V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> _V | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: _V, n_bytes: int) -> None:
        with self._lock:
            self._kept[key] = (value, n_bytes)
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self._size() > self._limit_bytes:
                self._kept.popitem(last=False)

    def _size(self) -> int:
        return sum(n_bytes for _, n_bytes in self._kept.values())
