"""Where data comes from: files, SQL databases, data frames; all as a stream of Arrow batches."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cohortium.errors import InputError
from cohortium.node.databases import open_database
from cohortium.node.encoding import decodes, detect_encoding
from cohortium.node.source import BATCH_ROWS, Source

CSV_BLOCK_BYTES = 4 * 1024 * 1024
FRAME_BATCH_ROWS = 1_000_000

_TEXT_SUFFIXES = {".csv", ".tsv", ".tab", ".txt", ".data"}
_EXCEL_SUFFIXES = {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"}
_PARQUET_SUFFIXES = {".parquet", ".pq"}


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
    if "://" in location:
        return open_database(location, table, query)
    if table is not None or query is not None:
        raise InputError("bad-data", "A table or query belongs to a database URL, not to a file.")
    path = Path(location)
    if not path.is_file():
        raise InputError("not-found", f"There is no file {location}.")
    if not os.access(path, os.R_OK):
        raise InputError("not-found", f"You may not read {location}.")
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
    fault = (
        _fault_in_csv(path, encoding, separator, len(headers)) if _has_odd_quotes(path) else None
    )
    if fault is not None:
        raise fault
    columns = [f"c{place}" for place in range(len(headers))]
    file = path.open("rb")
    size = path.stat().st_size

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from arrow_csv.open_csv(
                file,
                read_options=arrow_csv.ReadOptions(
                    block_size=CSV_BLOCK_BYTES,
                    skip_rows=1,
                    column_names=columns,
                    encoding="utf-8" if encoding == "utf-8-sig" else encoding,
                ),
                parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
                ),
            )
        except (pa.ArrowInvalid, UnicodeError) as error:
            # Arrow's message quotes the row, which is a person's: neither show nor chain it.
            if "Empty CSV" in str(error):
                return
            found = _fault_in_csv(path, encoding, separator, len(headers))
            raise found or InputError(
                "bad-data", f"{path.name} is not a well-formed CSV file."
            ) from None

    return Source(
        # Encodings other than these are guessed: the steward should see which.
        str(path) if encoding.startswith("utf") else f"{path} ({encoding})",
        tuple(headers),
        batches(),
        close=file.close,
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


def _fault_in_csv(path: Path, encoding: str, separator: str, n_columns: int) -> InputError | None:
    """The first row that does not fit; only where there is reason to look."""
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        try:
            for row in reader:
                if row and len(row) != n_columns:
                    return InputError(
                        "bad-data",
                        f"{path.name}, line {reader.line_num}: {len(row)} fields where the header "
                        f"has {n_columns}.",
                        line=reader.line_num,
                    )
        except csv.Error:
            return InputError(
                "bad-data",
                f"{path.name}: a quotation mark is not closed before line {reader.line_num}.",
                line=reader.line_num,
            )
    return None


def _has_odd_quotes(path: Path) -> bool:
    """Whether a quotation mark may stay open: Arrow then takes the rest as one value."""
    count = 0
    with path.open("rb") as file:
        while block := file.read(CSV_BLOCK_BYTES):
            count += block.count(b'"')
    return count % 2 == 1


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
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names):
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
