"""Recognising a dataset's rows in its next version: a keyed 64-bit hash of each row's values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.core.dictionary import VariableType
from cohortium.core.table import Column, Table

SALT_BYTES: Final = 32

Hashes = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))
_LAST = np.uint64(31)


def row_hashes(salt: bytes, columns: Iterable[Table], n_rows: int) -> Hashes:
    """The hash of each row, shape (n_rows,); that of a row is the same whatever the others are.

    Not a commitment: whoever knows the salt can make collisions. Both stay at the site.

    Args:
        columns: Tables of one column each, so that not all are in memory at once.
    """
    hashes = np.zeros(n_rows, dtype=np.uint64)
    for table in columns:
        for name, column in table.columns.items():
            words = _words(salt, column, table.variables[name].levels, table.variables[name].type)
            hashes += _mixed(_mixed(words) + _word(salt, b"column", name.encode()))
    return hashes


def same_rows(before: Hashes, now: Hashes) -> npt.NDArray[np.int64]:
    """Where each earlier row is now, -1 where it is not; of equal rows the first is the first."""
    earlier, later = _numbered(before), _numbered(now)
    order = np.argsort(later, kind="stable")
    at = np.searchsorted(later, earlier, sorter=order)
    inside = at < len(later)
    place = order[np.where(inside, at, 0)] if len(later) else np.zeros(len(before), dtype=np.int64)
    found = inside & (later[place] == earlier) if len(later) else inside
    return np.where(found, place, -1).astype(np.int64)


def _numbered(hashes: Hashes) -> Hashes:
    """Equal hashes told apart by how often they came before."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    at = np.arange(len(ordered))
    count = at - np.maximum.accumulate(np.where(first, at, 0))
    numbered = np.empty_like(hashes)
    numbered[order] = _mixed(ordered + count.astype(np.uint64) * _GOLDEN)
    return numbered


def _words(
    salt: bytes, column: Column, levels: tuple[str, ...] | None, kind: VariableType
) -> Hashes:
    """64 bits of each value: the number's own, or the hash of a level or text."""
    if kind is VariableType.CATEGORY:
        of = [_word(salt, b"missing"), *(_word(salt, b"text", v.encode()) for v in levels or ())]
        return np.array(of, dtype=np.uint64)[column.astype(np.int64) + 1]
    if kind is VariableType.TEXT:
        missing = _word(salt, b"missing")
        texts = [missing if v is None else _word(salt, b"text", str(v).encode()) for v in column]
        return np.array(texts, dtype=np.uint64)
    numbers = np.asarray(column, dtype=np.float64) + 0.0  # -0 is 0
    numbers = np.where(np.isnan(numbers), np.nan, numbers)  # one of the many
    return numbers.view(np.uint64)


def _word(salt: bytes, *parts: bytes) -> np.uint64:
    digest = hashlib.blake2b(b"\x00".join(parts), key=salt, digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "big"))


def _mixed(words: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    for shift, factor in _MIX:
        words = (words ^ (words >> np.uint64(shift))) * factor
    return words ^ (words >> _LAST)
