"""What a dataset is, and how it is read as a study's table, wherever its columns are stored.

Reading imports numpy and pyarrow, nothing larger.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import pyarrow as pa

from cohortium.core.clock import Instant
from cohortium.core.dictionary import Dictionary, Name, Variable, VariableType
from cohortium.core.directory import PublishedDataset
from cohortium.core.model import Document
from cohortium.core.table import Column, Table
from cohortium.errors import ConflictError, InputError, VerificationError
from cohortium.node.digest import ColumnDigest, column_digest, dataset_digest
from cohortium.node.harmonise import harmonised

CACHE_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Dataset:
    """A registered dataset.

    Attributes:
        digest: Of the content; None until the dictionary is confirmed.
        dictionary: As confirmed, or as inferred.
    """

    name: str
    digest: str | None
    dictionary: Dictionary
    n_rows: int
    confirmed: bool
    source: str = ""


class Datasets(Protocol):
    """What a node needs of its data."""

    def names(self) -> list[str]:
        """All datasets, sorted."""
        ...

    def get(self, name: str) -> Dataset:
        """One dataset; InputError ``not-found``."""
        ...

    def published(self) -> list[PublishedDataset]:
        """What the consortium may see: confirmed dictionaries and digests, sorted by name."""
        ...

    def table(
        self,
        name: str,
        contract_variables: Mapping[str, Variable],
        sources: Mapping[str, str],
        digest: str,
    ) -> Table:
        """The dataset's columns as the study's variables.

        Args:
            name: The dataset.
            contract_variables: The variables wanted, as the contract declares them.
            sources: The dataset's variable by study variable, where the names differ.
            digest: The content that the contract names.

        Raises:
            VerificationError: ``bad-digest``: the content is not what the contract names.
            InputError: ``not-found``; ``bad-data``: a column cannot serve as its variable.
            ConflictError: ``wrong-state``: the dictionary is not confirmed.
        """
        ...


class Meta(Document):
    """``meta.json``.

    Attributes:
        headers, inferred: The staged columns and their types; empty once confirmed.
        columns: What the content digest is made of; present once confirmed.
        dictionary: As inferred; as confirmed once `columns` is present.
    """

    schema_id: Literal["cohortium/dataset/1"] = "cohortium/dataset/1"
    name: Name
    source: str
    n_rows: int
    added_at: Instant
    confirmed_at: Instant | None = None
    headers: tuple[str, ...] = ()
    inferred: tuple[VariableType, ...] = ()
    dictionary: Dictionary
    columns: tuple[ColumnDigest, ...] | None = None

    def replaced(self, **fields: Any) -> Meta:
        """A checked copy with other values; unlike ``model_copy`` it keeps no cached digest."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return Meta.model_validate({**kept, **fields})

    @cached_property
    def content_digest(self) -> str | None:
        """The dataset's digest; None until it is confirmed."""
        return None if self.columns is None else dataset_digest(self.columns, self.n_rows)

    def dataset(self) -> Dataset:
        """As callers see it."""
        confirmed = self.columns is not None
        return Dataset(
            self.name, self.content_digest, self.dictionary, self.n_rows, confirmed, self.source
        )


CacheKey = tuple[str, str, VariableType, tuple[str, ...] | None]
"""Content digest, column, and the type and levels that it was harmonised to."""


class ColumnCache:
    """The most recently used harmonised columns, up to `limit_bytes`; thread-safe."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._columns: OrderedDict[CacheKey, Column] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: CacheKey) -> Column | None:
        """The column, if it is here."""
        with self._lock:
            if key in self._columns:
                self._columns.move_to_end(key)
            return self._columns.get(key)

    def put(self, key: CacheKey, column: Column) -> None:
        """Keep a column; it becomes read-only. The oldest go where space is short."""
        column.flags.writeable = False
        with self._lock:
            self._columns[key] = column
            while sum(kept.nbytes for kept in self._columns.values()) > self._limit_bytes:
                self._columns.popitem(last=False)


class StoredDatasets(ABC):
    """`table` and `published` over whatever stores the columns; see `Datasets`."""

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._cache = ColumnCache(cache_bytes)

    @abstractmethod
    def meta(self, name: str) -> Meta:
        """The dataset's record; InputError ``not-found``."""

    @abstractmethod
    def names(self) -> list[str]:
        """All datasets, sorted."""

    @abstractmethod
    def _read(self, meta: Meta, columns: list[str]) -> pa.Table: ...

    def get(self, name: str) -> Dataset:
        """One dataset; InputError ``not-found``."""
        return self.meta(name).dataset()

    def published(self) -> list[PublishedDataset]:
        """What the consortium may see: confirmed dictionaries and digests, sorted by name."""
        found = [self.get(name) for name in self.names()]
        return [
            PublishedDataset(
                name=dataset.name,
                content_digest=dataset.digest,
                dictionary=_public(dataset.dictionary),
            )
            for dataset in found
            if dataset.digest is not None
        ]

    def table(
        self,
        name: str,
        contract_variables: Mapping[str, Variable],
        sources: Mapping[str, str],
        digest: str,
    ) -> Table:
        """The dataset's columns as the study's variables; see `Datasets.table`."""
        meta = self.meta(name)
        if meta.columns is None:
            raise ConflictError(
                "wrong-state", f"The dataset {name!r} is not confirmed.", dataset=name
            )
        if meta.content_digest != digest:
            raise VerificationError(
                "bad-digest",
                f"The dataset {name!r} is not the one that the contract names. "
                "Propose the study again with the present one.",
                dataset=name,
            )
        keys, absent = {}, {}
        columns: dict[str, Column] = {}
        have = meta.dictionary.by_name
        for study_name, want in contract_variables.items():
            own = sources.get(study_name, study_name)
            if own not in have:
                raise InputError(
                    "not-found", f"The dataset {name!r} has no variable {own!r}.", variable=own
                )
            keys[study_name] = (digest, own, want.type, want.levels)
            cached = self._cache.get(keys[study_name])
            if cached is None:
                absent[study_name] = own
            else:
                columns[study_name] = cached
        if absent:
            stored = self._verified(meta, sorted(set(absent.values())))
            for study_name, own in absent.items():
                column = harmonised(stored[own], have[own], contract_variables[study_name])
                self._cache.put(keys[study_name], column)
                columns[study_name] = column
        return Table(
            dict(contract_variables), {study_name: columns[study_name] for study_name in keys}
        )

    def _verified(self, meta: Meta, names: list[str]) -> Mapping[str, pa.ChunkedArray]:
        """The stored columns, each checked against its part of the content digest."""
        stored = self._read(meta, names)
        expected = {column.name: column for column in meta.columns or ()}
        have = meta.dictionary.by_name
        for name in names:
            if column_digest(stored.column(name), have[name]) != expected.get(name):
                raise VerificationError(
                    "bad-digest",
                    f"The stored content of {meta.name!r} is not what was confirmed. "
                    "Remove the dataset and add it again.",
                    dataset=meta.name,
                )
        return {name: stored.column(name) for name in names}


def _public(dictionary: Dictionary) -> Dictionary:
    """Without the columns' own names, which the consortium does not need."""
    return Dictionary(
        variables=tuple(
            variable.model_copy(update={"source": None}) for variable in dictionary.variables
        )
    )
