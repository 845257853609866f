"""The content digest: a fixed vector, and what it does and does not depend on."""

from __future__ import annotations

import hashlib
import struct

import pyarrow as pa
import pytest

from cohortium.core.canonical import canonical
from cohortium.core.dictionary import Variable, VariableType
from cohortium.node.digest import ColumnDigest, column_digest, dataset_digest

X = Variable(name="x", type=VariableType.REAL)
T = Variable(name="t", type=VariableType.TEXT)
C = Variable(name="c", type=VariableType.CATEGORY, levels=("f", "m"))
B = Variable(name="b", type=VariableType.BOOLEAN)
D = Variable(name="d", type=VariableType.DATE)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_the_encoding_is_as_documented() -> None:
    real = column_digest(pa.chunked_array([[1.5, None, -0.0]]), X)
    expected = sha(sha(bytes([1, 0, 1])) + sha(struct.pack("<ddd", 1.5, 0.0, 0.0)) + sha(b"")).hex()
    assert real.sha256 == f"sha256:{expected}"
    text = column_digest(pa.chunked_array([["é", None, ""]]), T)
    expected = sha(
        sha(bytes([1, 0, 1])) + sha("é".encode()) + sha(struct.pack("<III", 2, 0, 0))
    ).hex()
    assert text.sha256 == f"sha256:{expected}"
    code = column_digest(pa.chunked_array([pa.array([1, None, 0], pa.int32())]), C)
    expected = sha(sha(bytes([1, 0, 1])) + sha(struct.pack("<iii", 1, -1, 0)) + sha(b"")).hex()
    assert code.sha256 == f"sha256:{expected}"
    flag = column_digest(pa.chunked_array([[True, None, False]]), B)
    expected = sha(sha(bytes([1, 0, 1])) + sha(bytes([1, 0, 0])) + sha(b"")).hex()
    assert flag.sha256 == f"sha256:{expected}"
    day = column_digest(pa.chunked_array([pa.array([7, None], pa.int32()).cast(pa.date32())]), D)
    expected = sha(sha(bytes([1, 0])) + sha(struct.pack("<qq", 7, 0)) + sha(b"")).hex()
    assert day.sha256 == f"sha256:{expected}"
    whole = dataset_digest((real, code), 3)
    document = {
        "encoding": "cohortium/content/1",
        "n_rows": 3,
        "columns": [
            {"name": "x", "type": "real", "sha256": real.sha256},
            {"name": "c", "type": "category", "levels": ["f", "m"], "sha256": code.sha256},
        ],
    }
    assert whole == "sha256:" + sha(canonical(document)).hex()


@pytest.mark.parametrize("variable", [X, T])
def test_chunks_and_offsets_do_not_matter(variable: Variable) -> None:
    values = [None, 1.5, 2.0, None, 3.25] if variable is X else ["a", None, "bc", "", "d"]
    whole = pa.array(values)
    pieces = pa.chunked_array([whole.slice(0, 2), whole.slice(2, 0), whole.slice(2, 3)])
    assert column_digest(pieces, variable) == column_digest(pa.chunked_array([whole]), variable)


def test_missing_differs_from_zero_and_empty() -> None:
    assert column_digest(pa.chunked_array([[0.0]]), X) != column_digest(
        pa.chunked_array([pa.array([None], pa.float64())]), X
    )
    assert column_digest(pa.chunked_array([[""]]), T) != column_digest(
        pa.chunked_array([pa.array([None], pa.string())]), T
    )
    assert column_digest(pa.chunked_array([["ab", "c"]]), T) != column_digest(
        pa.chunked_array([["a", "bc"]]), T
    )


def test_bytes_under_a_null_do_not_matter() -> None:
    shown = pa.array(["a", "hidden", "b"])
    masked = pa.Array.from_buffers(pa.string(), 3, [pa.py_buffer(b"\x05"), *shown.buffers()[1:]])
    assert masked.to_pylist() == ["a", None, "b"]
    assert column_digest(pa.chunked_array([masked]), T) == column_digest(
        pa.chunked_array([["a", None, "b"]]), T
    )
    numbers = pa.array([1.0, 2.0])
    masked = pa.Array.from_buffers(pa.float64(), 2, [pa.py_buffer(b"\x01"), numbers.buffers()[1]])
    assert column_digest(pa.chunked_array([masked]), X) == column_digest(
        pa.chunked_array([[1.0, None]]), X
    )


def test_names_types_levels_order_and_rows_matter() -> None:
    a = ColumnDigest(name="a", type=VariableType.REAL, sha256="sha256:" + "0" * 64)
    b = a.model_copy(update={"name": "b"})
    c = a.model_copy(update={"type": VariableType.INTEGER})
    d = a.model_copy(update={"levels": ("x",)})
    digests = [
        dataset_digest(columns, n_rows)
        for columns, n_rows in [((a, b), 1), ((b, a), 1), ((a, b), 2), ((c, b), 1), ((d, b), 1)]
    ]
    assert len(set(digests)) == len(digests)
