"""Where data comes from: files, SQL databases, data frames; all as a stream of Arrow batches."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa

from cohortium.errors import InputError
from cohortium.node.encoding import decodes, detect_encoding

CSV_BLOCK_BYTES = 16 * 1024 * 1024
SQL_BATCH_ROWS = 100_000
FRAME_BATCH_ROWS = 1_000_000

_TEXT_SUFFIXES = {".csv", ".tsv", ".tab", ".txt", ".data"}
_EXCEL_SUFFIXES = {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"}
_PARQUET_SUFFIXES = {".parquet", ".pq"}
_SQL_SCHEMES = {"duckdb", "sqlite", "postgres", "postgresql"}


@dataclass(frozen=True)
class Source:
    """A table that can be read once.

    Attributes:
        description: Where it is, without passwords.
        headers: Column names as they stand there.
        batches: The rows; columns in the order of `headers` (their names there do not matter).
        levels: Levels that the source itself declares, by header.
        fraction: How much has been read, 0 to 1; None where that is unknown.
    """

    description: str
    headers: tuple[str, ...]
    batches: Iterable[pa.RecordBatch]
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fraction: Callable[[], float] | None = None


def open_source(
    location: str,
    *,
    table: str | None = None,
    query: str | None = None,
    sheet: str | None = None,
    encoding: str | None = None,
) -> Source:
    """Open a file (CSV, TSV, Parquet, Excel) or, by Ibis URL, a table or query of a database.

    Raises:
        InputError: ``bad-data``, ``not-found`` or ``missing-extra``.
    """
    scheme, separator, _ = location.partition("://")
    if separator:
        if scheme.partition("+")[0] not in _SQL_SCHEMES:
            raise InputError(
                "bad-data", f"The scheme {scheme!r} is not one of duckdb, sqlite and postgres."
            )
        return _open_sql(location, table, query)
    if table is not None or query is not None:
        raise InputError("bad-data", "A table or query belongs to a database URL, not to a file.")
    path = Path(location)
    if not path.is_file():
        raise InputError("not-found", f"There is no file {location}.")
    suffix = path.suffix.lower()
    if suffix in _PARQUET_SUFFIXES:
        return _open_parquet(path)
    if suffix in _EXCEL_SUFFIXES:
        return _open_excel(path, sheet)
    if suffix in _TEXT_SUFFIXES:
        return _open_csv(path, encoding)
    raise InputError(
        "bad-data",
        f"{path.name} is not a kind of file that is read here: .csv, .tsv, .parquet, .xlsx.",
    )


# --- CSV -----------------------------------------------------------------------------------------


def _open_csv(path: Path, encoding: str | None) -> Source:
    from pyarrow import csv as arrow_csv

    if path.stat().st_size == 0:
        raise InputError("bad-data", f"{path.name} is empty.")
    if encoding is None:
        encoding = detect_encoding(path)
    elif not decodes(path, encoding):
        raise InputError("bad-data", f"{path.name} is not valid {encoding} text.")
    headers, separator = _read_header(path, encoding)
    columns = [f"c{place}" for place in range(len(headers))]
    file = path.open("rb")
    size = path.stat().st_size

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            with file:
                yield from arrow_csv.open_csv(
                    file,
                    read_options=arrow_csv.ReadOptions(
                        block_size=CSV_BLOCK_BYTES,
                        skip_rows=1,
                        column_names=columns,
                        encoding="utf-8" if encoding == "utf-8-sig" else encoding,
                    ),
                    parse_options=arrow_csv.ParseOptions(
                        delimiter=separator, newlines_in_values=True
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
                    ),
                )
        except (pa.ArrowInvalid, UnicodeError) as error:
            # Arrow's message quotes the row, which is a person's: neither show nor chain it.
            if "Empty CSV" in str(error):
                return
            raise _explain_csv(path, encoding, separator, len(headers)) from None

    return Source(
        str(path),
        tuple(headers),
        batches(),
        fraction=lambda: 1.0 if file.closed else file.tell() / size,
    )


def _read_header(path: Path, encoding: str) -> tuple[list[str], str]:
    with path.open(encoding=encoding, newline="") as file:
        line = file.readline()
        if path.suffix.lower() in {".tsv", ".tab"}:
            separator = "\t"
        else:
            found = Counter(character for character in line if character in ",;\t|")
            separator = max(",;\t|", key=lambda character: found[character])
        try:
            header = next(csv.reader([line], delimiter=separator, strict=True))
        except (csv.Error, StopIteration) as error:
            raise InputError("bad-data", f"The header line of {path.name} is malformed.") from error
    # A header's own blanks are kept: the file's name for the column is `source` later.
    return header, separator


def _explain_csv(path: Path, encoding: str, separator: str, n_columns: int) -> InputError:
    """Find the first row that does not fit; only after a failure."""
    message = f"{path.name} is not a well-formed CSV file"
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for row in reader:
                if row and len(row) != n_columns:
                    return InputError(
                        "bad-data",
                        f"{path.name}, line {reader.line_num}: {len(row)} fields where the header "
                        f"has {n_columns}.",
                        line=reader.line_num,
                    )
    except (csv.Error, UnicodeError):
        message += f": a quotation mark is not closed near line {reader.line_num}"
    return InputError("bad-data", message + ".")


# --- Parquet and Excel ---------------------------------------------------------------------------


def _open_parquet(path: Path) -> Source:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError("bad-data", f"{path.name} is not a readable Parquet file.") from error
    read = 0
    total = max(file.metadata.num_rows, 1)
    names = [n for n in schema.names if n != "__index_level_0__"]
    if any(pa.types.is_nested(schema.field(place).type) for place in range(len(schema))):
        raise InputError("bad-data", f"{path.name} has nested columns; flatten them first.")

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read
        try:
            for batch in file.iter_batches(batch_size=SQL_BATCH_ROWS, columns=names):
                read += batch.num_rows
                yield batch
        except (pa.ArrowException, OSError) as error:
            raise InputError("bad-data", f"{path.name} is damaged.") from error

    return Source(str(path), tuple(names), batches(), fraction=lambda: read / total)


def _open_excel(path: Path, sheet: str | None) -> Source:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with CalamineWorkbook.from_path(path) as book:
            names = book.sheet_names
            if sheet is not None and sheet not in names:
                raise InputError(
                    "not-found", f"{path.name} has no sheet {sheet!r}.", sheets=list(names)
                )
            rows = book.get_sheet_by_name(sheet or names[0]).to_python()
    except (CalamineError, OSError, ValueError, IndexError) as error:
        raise InputError(
            "bad-data",
            f"{path.name} is not a readable workbook. Is it damaged or protected by a password?",
        ) from error
    if not rows:
        raise InputError("bad-data", f"The sheet of {path.name} is empty.")
    headers = tuple(_cell_text(cell) or "" for cell in rows[0])
    body = [row for row in rows[1:] if any(cell != "" for cell in row)]
    arrays = [
        array_of([None if cell == "" else cell for cell in column])
        for column in (zip(*body, strict=True) if body else [[] for _ in headers])
    ]
    return _from_arrays(str(path), headers, arrays)


def _cell_text(value: Any) -> str | None:
    """A value in a column of several types, as text; whole floats without a point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def array_of(values: Sequence[Any]) -> pa.Array:
    """Python values as one Arrow column; where their types differ, as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        try:
            return pa.array(values, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
    return pa.array([_cell_text(value) for value in values], pa.string())


def _from_arrays(description: str, headers: tuple[str, ...], arrays: Sequence[pa.Array]) -> Source:
    columns = [f"c{place}" for place in range(len(arrays))]
    table = pa.Table.from_arrays(list(arrays), names=columns)
    return Source(description, headers, table.to_batches(max_chunksize=FRAME_BATCH_ROWS))


# --- SQL -----------------------------------------------------------------------------------------


def without_password(url: str) -> str:
    """A URL that may be shown and stored."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = parts.username or ""
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:***@{place}"))


def _open_sql(url: str, table: str | None, query: str | None) -> Source:
    if (table is None) == (query is None):
        raise InputError("bad-data", "Name either a table or a query of the database.")
    shown = without_password(url)
    expression = _connect(url, shown, table, query)
    headers = tuple(str(name) for name in expression.columns)
    reader = _guarded(shown, lambda: expression.to_pyarrow_batches(chunk_size=SQL_BATCH_ROWS))

    def batches() -> Iterator[pa.RecordBatch]:
        while (batch := _guarded(shown, lambda: next(reader, None))) is not None:
            yield batch

    return Source(f"{shown} ({table or query})", headers, batches())


def _guarded(shown: str, action: Callable[[], Any]) -> Any:
    """Call a database driver; its errors may quote values or passwords, so they are not chained."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - each driver has its own root, all become one error
        kind = type(error).__name__
    raise InputError(
        "bad-data", f"The database {shown} cannot be read ({kind}). Check URL, table and query."
    )


def _connect(url: str, shown: str, table: str | None, query: str | None) -> Any:
    try:
        import ibis
    except ImportError as error:
        raise InputError(
            "missing-extra", "Reading databases needs: pip install 'cohortium[sql]'"
        ) from error
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme in {"duckdb", "sqlite"}:
        path = Path(url.partition("://")[2].partition("?")[0])
        if not path.is_file():  # the drivers would create it
            raise InputError("not-found", f"There is no database file at {shown}.")
        connection = _guarded(
            shown,
            lambda: (
                ibis.duckdb.connect(path, read_only=True)
                if scheme == "duckdb"
                else ibis.sqlite.connect(path)
            ),
        )
    else:
        address = "postgres://" + url.partition("://")[2]
        connection = _guarded(shown, lambda: ibis.connect(address))
    if table is not None:
        return _guarded(shown, lambda: connection.table(table))
    return _guarded(shown, lambda: connection.sql(query))


# --- Data frames ---------------------------------------------------------------------------------


def open_frame(frame: Any) -> Source:
    """A pandas, polars or pyarrow table in memory.

    Raises:
        InputError: ``bad-data``.
    """
    kind = type(frame).__module__.partition(".")[0]
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    if isinstance(frame, pa.Table):
        table = frame
    elif kind == "polars":
        table = (frame.collect() if hasattr(frame, "collect") else frame).to_arrow()
    elif kind == "pandas":
        return _from_pandas(frame)
    else:
        raise InputError("bad-data", "A dataset is a pandas, polars or pyarrow table.")
    headers = tuple(str(name) for name in table.column_names)
    columns = [column.combine_chunks() for column in table.columns]
    return _with_levels(headers, columns)


def _from_pandas(frame: Any) -> Source:
    headers, arrays = [], []
    for place, header in enumerate(frame.columns):
        column = frame.iloc[:, place]
        try:
            arrays.append(pa.array(column, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            arrays.append(array_of(column.tolist()))
        headers.append(str(header))
    return _with_levels(tuple(headers), arrays)


def _with_levels(headers: tuple[str, ...], columns: Sequence[Any]) -> Source:
    flat = [
        (pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type))
        if isinstance(column, pa.ChunkedArray)
        else column
        for column in columns
    ]
    levels = {
        header: tuple(column.dictionary.to_pylist())
        for header, column in zip(headers, flat, strict=True)
        if pa.types.is_dictionary(column.type) and _are_levels(column)
    }
    source = _from_arrays("a data frame", headers, flat)
    return Source(source.description, headers, source.batches, levels=levels)


def _are_levels(column: Any) -> bool:
    values = column.dictionary.to_pylist()
    return 0 < len(values) <= 1000 and all(
        isinstance(value, str) and value.strip() == value for value in values
    )
