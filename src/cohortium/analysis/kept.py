"""What a site prepared of a table for one round, kept for the next ones of the run.

For speed alone: what is kept is what would be computed again, from the same columns. It goes when
the table goes, or when there is too much of it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cohortium.core.table import Table

_V = TypeVar("_V")


class Kept(Generic[_V]):
    """The most recent values, up to a number of bytes.

    Every operation on the dictionary is a single one, so that threads need no lock: at worst a
    value is made twice.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._values: dict[Hashable, tuple[tuple[weakref.ref[object], ...], _V, int]] = {}

    def get(self, table: Table, about: Hashable) -> _V | None:
        """What was kept of these very columns under `about`."""
        columns = tuple(table.columns.values())
        found = self._values.get((about, *map(id, columns)))
        if found is None:
            return None
        same = all(ref() is column for ref, column in zip(found[0], columns, strict=True))
        return found[1] if same else None

    def put(self, table: Table, about: Hashable, value: _V, n_bytes: int) -> None:
        """Keep a value that does not refer to the table's own columns."""
        if n_bytes > self._limit_bytes:
            return
        columns = tuple(table.columns.values())
        key = (about, *map(id, columns))
        gone = self._forgetter(key)
        self._values.pop(key, None)
        self._values[key] = tuple(weakref.ref(one, gone) for one in columns), value, n_bytes
        for oldest in list(self._values):
            if sum(size for _, _, size in list(self._values.values())) <= self._limit_bytes:
                break
            self._values.pop(oldest, None)

    def _forgetter(self, key: Hashable) -> Callable[[object], None]:
        values = self._values

        def forget(_: object) -> None:
            values.pop(key, None)

        return forget
