"""The content digest of a dataset: names, types, levels and values, whatever file they came from.

Encoding (version 1). For each column SHA-256 over three streams, each itself hashed: presence (one
byte a row, 1 where there is a value), values (8 bytes little-endian a row: integer as int64, real
as IEEE 754, date as days and datetime as microseconds since 1970 as int64; category as 4-byte code
into its levels, -1 where missing; boolean as one byte; text as UTF-8), and, for text, lengths in
bytes as uint32. Missing values are 0, negative zero is zero. The dataset's digest is that of the
canonical JSON of all columns' names, types, levels and digests and the number of rows. Chunks, row
groups and file formats do not enter; a column can be checked without the others.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cohortium.core.canonical import digest
from cohortium.core.dictionary import Digest, Name, Variable, VariableType
from cohortium.core.model import Document
from cohortium.node.columns import presence, to_numpy

_WIDE = {VariableType.INTEGER, VariableType.DATE, VariableType.DATETIME}


class ColumnDigest(Document):
    """What a dataset's digest says about one column."""

    name: Name
    type: VariableType
    levels: tuple[str, ...] | None = None
    sha256: Digest


def dataset_digest(columns: tuple[ColumnDigest, ...], n_rows: int) -> str:
    """The dataset's digest from its columns'."""
    return digest(
        {
            "encoding": "cohortium/content/1",
            "n_rows": n_rows,
            "columns": [column.to_json() for column in columns],
        }
    )


class ColumnHasher:
    """Hashes one stored column chunk by chunk."""

    def __init__(self, variable: Variable) -> None:
        self._variable = variable
        self._presence = hashlib.sha256()
        self._values = hashlib.sha256()
        self._lengths = hashlib.sha256()

    def update(self, column: pa.Array) -> None:
        """Add a chunk in its stored type."""
        self._presence.update(_bytes(presence(column)))
        kind = self._variable.type
        if kind is VariableType.TEXT:
            lengths = to_numpy(pc.binary_length(column), 0)
            self._lengths.update(_bytes(lengths.astype("<u4")))
            self._values.update(_text_bytes(column))
        else:
            self._values.update(_bytes(_fixed_width(column, kind)))

    def done(self) -> ColumnDigest:
        """The column's digest."""
        streams = (self._presence, self._values, self._lengths)
        whole = hashlib.sha256(b"".join(stream.digest() for stream in streams))
        return ColumnDigest(
            name=self._variable.name,
            type=self._variable.type,
            levels=self._variable.levels,
            sha256="sha256:" + whole.hexdigest(),
        )


def column_digest(column: pa.ChunkedArray, variable: Variable) -> ColumnDigest:
    """The digest of a whole stored column."""
    hasher = ColumnHasher(variable)
    for chunk in column.chunks:
        hasher.update(chunk)
    return hasher.done()


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B") if array.size else memoryview(b"")


def _fixed_width(column: pa.Array, kind: VariableType) -> npt.NDArray[Any]:
    if kind is VariableType.CATEGORY:
        return to_numpy(column, -1).astype("<i4", copy=False)
    if kind is VariableType.BOOLEAN:
        return to_numpy(column.cast(pa.uint8()), 0)
    if kind is VariableType.REAL:
        # x + 0.0 turns negative zero into zero and leaves everything else.
        return (to_numpy(column, 0.0) + 0.0).astype("<f8", copy=False)
    if kind is VariableType.DATE:
        column = column.cast(pa.int32())
    return to_numpy(column.cast(pa.int64()), 0).astype("<i8", copy=False)


def _text_bytes(column: pa.Array) -> memoryview:
    """The UTF-8 of all texts on end; a null may hide bytes, so it is dropped first."""
    column = column.drop_null()
    if len(column) == 0 or column.buffers()[2] is None:
        return memoryview(b"")
    offsets = np.frombuffer(column.buffers()[1], dtype=np.int32)
    first, last = offsets[column.offset], offsets[column.offset + len(column)]
    return memoryview(column.buffers()[2])[first:last]
