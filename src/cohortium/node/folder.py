"""Datasets in a node's folder; a crash leaves each whole, as it was or as it is now."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from cohortium.core.clock import Clock, system_clock
from cohortium.core.dictionary import Dictionary
from cohortium.crypto.files import write_private
from cohortium.errors import ConflictError, InputError, IntegrityFailure, ProtocolError
from cohortium.node.dictionary_file import read_dictionary, write_dictionary
from cohortium.node.ingest import Progress, convert, levels_found, no_progress, places_of, stage
from cohortium.node.sources import open_frame, open_source
from cohortium.node.stored import CACHE_BYTES, Dataset, Meta, StoredDatasets

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_META, _YAML, _DRAFT, _DATA = "meta.json", "dictionary.yaml", "draft.parquet", "data.parquet"


class FolderDatasets(StoredDatasets):
    """The datasets under ``root`` (a node's ``datasets`` folder); see `Datasets`.

    Files are readable by their owner only. Any number of processes may read; changes by others are
    seen at once.
    """

    def __init__(
        self, root: Path, clock: Clock = system_clock, cache_bytes: int = CACHE_BYTES
    ) -> None:
        super().__init__(cache_bytes)
        self.root = root
        self._clock = clock
        self._metas: dict[str, tuple[tuple[int, ...], Meta]] = {}

    def names(self) -> list[str]:
        """All datasets, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.parent.name for path in self.root.glob(f"[!.]*/{_META}"))

    def meta(self, name: str) -> Meta:
        """The dataset's record; InputError ``not-found``."""
        path = self._folder(name) / _META
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            known = self._metas.get(name)
            if known is not None and known[0] == stamp:
                return known[1]
            meta = Meta.from_bytes(path.read_bytes())
        except OSError as error:
            raise InputError(
                "not-found", f"There is no dataset {name!r} here.", dataset=name
            ) from error
        except ProtocolError as error:
            raise IntegrityFailure("broken-store", f"{path} is damaged: {error.message}") from error
        self._metas[name] = (stamp, meta)
        return meta

    def dictionary_path(self, name: str) -> Path:
        """The file that the steward edits."""
        return self._folder(self.meta(name).name) / _YAML

    def add(
        self,
        name: str,
        source: Any,
        *,
        on_progress: Progress = no_progress,
        table: str | None = None,
        query: str | None = None,
        sheet: str | None = None,
        encoding: str | None = None,
    ) -> Dataset:
        """Register a dataset as a draft, with an inferred dictionary for the steward to confirm.

        Args:
            name: Its name; a letter, then letters, digits and underscores.
            source: A file's path, a database's Ibis URL (with `table` or `query`) or a data frame.
            sheet: The sheet of an Excel file; the first by default.
            encoding: Of a text file; detected by default.

        Raises:
            InputError: ``bad-input``, ``bad-data``, ``not-found``, ``missing-extra``.
            ConflictError: ``already-exists``.
        """
        target = self._folder(name)
        if target.exists():
            raise ConflictError(
                "already-exists", f"There is a dataset {name!r} already; remove it first."
            )
        if isinstance(source, str | Path):
            opened = open_source(
                str(source), table=table, query=query, sheet=sheet, encoding=encoding
            )
        else:
            opened = open_frame(source)
        with self._building(name) as folder:
            with _parquet_writer(folder / _DRAFT) as write:
                staged = stage(opened, write, on_progress)
            inferred = Dictionary(variables=tuple(column.variable for column in staged.columns))
            meta = Meta(
                name=name,
                source=opened.description,
                n_rows=staged.n_rows,
                added_at=self._clock(),
                headers=staged.headers,
                inferred=staged.inferred,
                dictionary=inferred,
            )
            text = write_dictionary(name, opened.description, staged.n_rows, staged.columns)
            write_private(folder / _YAML, text)
            write_private(folder / _META, meta.to_bytes())
            try:
                folder.rename(target)
            except OSError as error:
                raise ConflictError(
                    "already-exists", f"There is a dataset {name!r} already; remove it first."
                ) from error
        _sync(self.root)
        return self.get(name)

    def confirm(self, name: str, on_progress: Progress = no_progress) -> Dataset:
        """Take ``dictionary.yaml`` as it stands: convert, digest and publish the dataset.

        After that, units, descriptions, decimals and missing counts may be edited and confirmed
        again; whatever changes the content needs the dataset to be added anew.

        Raises:
            InputError: ``bad-data``: the file, or a value that does not fit it.
            ConflictError: ``wrong-state``.
        """
        meta = self.meta(name)
        confirmed = self._reconfirmed(meta) if meta.columns else self._converted(meta, on_progress)
        folder = self._folder(name)
        write_private(folder / _META, confirmed.to_bytes())  # from here on it is confirmed
        (folder / _DRAFT).unlink(missing_ok=True)
        return confirmed.dataset()

    def _converted(self, meta: Meta, on_progress: Progress) -> Meta:
        import pyarrow.parquet as pq

        folder = self._folder(meta.name)

        def levels_of(header: str, recode: Mapping[str, str | None]) -> tuple[str, ...]:
            if header not in meta.headers:
                return ("?",)  # `places_of` says what is wrong
            place = meta.headers.index(header)
            with pq.ParquetFile(folder / _DRAFT, memory_map=True) as draft:
                batches = draft.iter_batches(columns=[f"c{place}"])
                chunks = (batch.column(0) for batch in batches)
                return levels_found(chunks, meta.inferred[place], recode)

        def progress(n_rows: int, fraction: float | None) -> None:
            on_progress(n_rows, n_rows / meta.n_rows if fraction is None else fraction)

        declared = read_dictionary(self._read_yaml(meta.name), levels_of)
        places = places_of(meta.headers, declared.dictionary)
        used = sorted(set(places))
        for stale in folder.glob(f".{_DATA}.*"):  # what a kill left behind
            stale.unlink(missing_ok=True)
        with pq.ParquetFile(folder / _DRAFT, memory_map=True) as draft:
            batches = draft.iter_batches(
                batch_size=_BATCH_ROWS, columns=[f"c{place}" for place in used]
            )
            new = folder / f".{_DATA}.{secrets.token_hex(6)}"
            try:
                with _parquet_writer(new) as write:
                    converted = convert(
                        batches,
                        [meta.headers[place] for place in used],
                        [meta.inferred[place] for place in used],
                        declared,
                        write,
                        on_progress=progress,
                    )
                new.replace(folder / _DATA)
            finally:
                new.unlink(missing_ok=True)
        _sync(folder)
        return meta.replaced(
            dictionary=converted.dictionary,
            columns=converted.columns,
            confirmed_at=self._clock(),
            headers=(),
            inferred=(),
        )

    def _reconfirmed(self, meta: Meta) -> Meta:

        def levels_of(header: str, _recode: Mapping[str, str | None]) -> tuple[str, ...]:
            found = [v for v in meta.dictionary.variables if header in {v.source, v.name}]
            return (found[0].levels if found else None) or ("?",)

        declared = read_dictionary(self._read_yaml(meta.name), levels_of).dictionary
        content = [(v.name, v.type, v.levels, v.source) for v in declared.variables]
        before = [(v.name, v.type, v.levels, v.source) for v in meta.dictionary.variables]
        if content != before:
            raise ConflictError(
                "wrong-state",
                f"The dataset {meta.name!r} is confirmed: names, types, levels and columns are "
                "part of its digest. Remove it and add it again.",
            )
        return meta.replaced(dictionary=declared, confirmed_at=self._clock())

    def remove(self, name: str) -> None:
        """Forget a dataset and delete our copy of it; contracts that name it can no longer run."""
        folder = self._folder(self.meta(name).name)
        gone = self.root / f".removed-{name}-{secrets.token_hex(6)}"
        folder.rename(gone)
        self._metas.pop(name, None)
        shutil.rmtree(gone)

    def _read_yaml(self, name: str) -> bytes:
        try:
            return (self._folder(name) / _YAML).read_bytes()
        except OSError as error:
            raise InputError("not-found", f"{name} has lost its dictionary.yaml.") from error

    def _read(self, meta: Meta, columns: list[str]) -> pa.Table:
        import pyarrow.parquet as pq

        path = self._folder(meta.name) / _DATA
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                return file.read(columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise IntegrityFailure("broken-store", f"{path} cannot be read.") from error

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InputError(
                "bad-input",
                "A dataset's name is a letter, then letters, digits and underscores, at most 64.",
            )
        return self.root / name

    @contextmanager
    def _building(self, name: str) -> Iterator[Path]:
        """A folder beside the datasets that is gone afterwards unless it was renamed."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for pattern in (f".adding-{name}-*", f".removed-{name}-*"):  # what a kill left behind
            for stale in self.root.glob(pattern):
                shutil.rmtree(stale, ignore_errors=True)
        folder = self.root / f".adding-{name}-{secrets.token_hex(6)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


_BATCH_ROWS = 250_000


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Write batches to a 0600 Parquet file that is durable when the block ends."""
    import pyarrow.parquet as pq

    writer: Any = None
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:

        def write(batch: pa.RecordBatch) -> None:
            nonlocal writer
            if writer is None:
                writer = pq.ParquetWriter(file, batch.schema, compression="zstd")
            writer.write_batch(batch)

        try:
            yield write
        finally:
            if writer is not None:
                writer.close()
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
