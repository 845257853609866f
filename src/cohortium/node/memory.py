"""Datasets in this process's memory, for notebooks and tests."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from cohortium.core.clock import Clock, system_clock
from cohortium.core.dictionary import Dictionary
from cohortium.errors import ConflictError, InputError
from cohortium.node.dictionary_file import DeclaredDictionary
from cohortium.node.ingest import as_declared, convert, stage, stored_schema
from cohortium.node.sources import open_frame
from cohortium.node.stored import CACHE_BYTES, Dataset, Meta, StoredDatasets


class MemoryDatasets(StoredDatasets):
    """Datasets that live in this process, for notebooks and tests; all confirmed as inferred."""

    def __init__(self, clock: Clock = system_clock, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__(cache_bytes)
        self._clock = clock
        self._metas: dict[str, Meta] = {}
        self._tables: dict[str, pa.Table] = {}

    @classmethod
    def from_frame(cls, name: str, frame: Any) -> MemoryDatasets:
        """One dataset from a pandas, polars or pyarrow table."""
        datasets = cls()
        datasets.add_frame(name, frame)
        return datasets

    def add_frame(self, name: str, frame: Any, dictionary: Dictionary | None = None) -> Dataset:
        """Register a table, with its inferred dictionary or the one given.

        Raises:
            InputError: ``bad-data``.
            ConflictError: ``already-exists``.
        """
        if name in self._metas:
            raise ConflictError("already-exists", f"There is a dataset {name!r} already.")
        staged_batches: list[pa.RecordBatch] = []
        stored: list[pa.RecordBatch] = []
        source = open_frame(frame)
        staged = stage(source, staged_batches.append)
        declared = (
            as_declared(staged.columns)
            if dictionary is None
            else DeclaredDictionary(dictionary, {})
        )
        converted = convert(
            staged_batches, staged.headers, staged.inferred, declared, stored.append
        )
        self._tables[name] = pa.Table.from_batches(stored, stored_schema(converted.dictionary))
        now = self._clock()
        self._metas[name] = Meta(
            name=name,
            source=source.description,
            n_rows=staged.n_rows,
            added_at=now,
            confirmed_at=now,
            dictionary=converted.dictionary,
            columns=converted.columns,
        )
        return self.get(name)

    def names(self) -> list[str]:
        """All datasets, sorted."""
        return sorted(self._metas)

    def meta(self, name: str) -> Meta:
        """The dataset's record; InputError ``not-found``."""
        if name not in self._metas:
            raise InputError("not-found", f"There is no dataset {name!r} here.", dataset=name)
        return self._metas[name]

    def _read(self, meta: Meta, columns: list[str]) -> pa.Table:
        return self._tables[meta.name].select(columns)
