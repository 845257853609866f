"""A sparse table of counts that can be added up: an invertible Bloom lookup table.

Who holds how many of which key is written into three rows of cells, a key into one cell of each
row: its persons, and its digits times its persons. Tables of several sites are added cell by cell.
A cell in which a single key is left says which one, so that it can be taken out of its two other
cells, which frees others: with 1.3 cells a key all of them come out, however large the numbers are
from which the keys are drawn. Where they do not, another salt and a few more cells are tried.

Reference: Goodrich & Mitzenmacher 2011, Invertible Bloom Lookup Tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CHECK_BITS = 14
MAX_KEY_BITS = 63 - CHECK_BITS
MAX_PASSES = 500
_ROWS = 3
_WORD_SUM_BITS = 52  # exact in float64, and 2^10 sites fit into the ring of counts
_SPARE = 1.3
_LEAST = 32

Ints = npt.NDArray[np.int64]
_Bits = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Sketch:
    """The form of a table; hub and sites agree on it.

    Attributes:
        persons: Most persons that all sites together may write into it.
        key_bits: Keys are from 0 to ``2**key_bits - 1``.
        cells: Of each of the three rows.
        salt: Small number; another one puts keys elsewhere.
    """

    persons: int
    key_bits: int
    cells: int
    salt: int = 0

    @staticmethod
    def cells_for(keys: int) -> int:
        """Cells of a row from which so many keys come out."""
        return int(np.ceil(_SPARE * keys / _ROWS)) + _LEAST

    @property
    def word_bits(self) -> int:
        """Bits of a digit: the more persons, the fewer."""
        return _WORD_SUM_BITS - self.persons.bit_length()

    @property
    def shape(self) -> tuple[int, int]:
        """Persons and digits, by cell."""
        return 1 - (-(self.key_bits + CHECK_BITS) // self.word_bits), _ROWS * self.cells

    def encode(self, keys: Ints) -> Ints:
        """The table of one site; `keys` has an entry for each person."""
        places, check = self._places(keys)
        rest = (keys.astype(np.uint64) << np.uint64(CHECK_BITS)) | check
        words, size = self.shape
        table = np.zeros((words, size), dtype=np.int64)
        mask = np.uint64(2**self.word_bits - 1)
        for word in range(words):
            weights = None
            if word:
                weights = (rest & mask).astype(np.float64)
                rest = rest >> np.uint64(self.word_bits)
            for row in places:
                table[word] += np.bincount(row, weights, minlength=size).astype(np.int64)
        return table

    def decode(self, table: Ints) -> tuple[Ints, Ints] | None:
        """Keys and their persons, in the order of the keys; None where they do not come out."""
        table = table.copy()
        seen = [np.empty(0, dtype=np.int64)]
        counts = [np.empty(0, dtype=np.int64)]
        changed = np.ones(_ROWS * self.cells, dtype=np.bool_)
        for step in range(_ROWS * MAX_PASSES):
            # A key has one cell in a row, so that the keys found in a row are distinct.
            begin = step % _ROWS * self.cells
            at = begin + np.flatnonzero(changed[begin : begin + self.cells])
            changed[begin : begin + self.cells] = False
            at, keys = self._single(table, at)
            if len(at):
                persons = table[0, at]
                seen.append(keys)
                counts.append(persons)
                for places in self._take_out(table, keys, persons):
                    changed[places] = True
            if not changed.any():
                break
        if np.any(table):
            return None
        found = np.concatenate(seen)
        order = np.argsort(found, kind="stable")
        return found[order], np.concatenate(counts)[order]

    def _single(self, table: Ints, at: Ints) -> tuple[Ints, Ints]:
        """Of the cells `at`, those that hold one key, and that key."""
        persons = table[0, at]
        whole = np.zeros(len(at), dtype=np.uint64)
        good = persons > 0
        at, persons, whole = at[good], persons[good], whole[good]
        for word in range(1, len(table)):
            sums = table[word, at]
            digit = sums // persons
            good = (digit * persons == sums) & (digit >= 0) & (digit < 2**self.word_bits)
            at, persons, whole, digit = at[good], persons[good], whole[good], digit[good]
            whole |= digit.astype(np.uint64) << np.uint64((word - 1) * self.word_bits)
        keys = (whole >> np.uint64(CHECK_BITS)).astype(np.int64)
        places, check = self._places(keys)
        here = np.stack(places)[at // self.cells, np.arange(len(at))] == at
        good = here & (check == (whole & np.uint64(2**CHECK_BITS - 1)))
        return at[good], keys[good]

    def _take_out(self, table: Ints, keys: Ints, persons: Ints) -> tuple[Ints, Ints, Ints]:
        """Subtract keys; their cells."""
        places, check = self._places(keys)
        rest = (keys.astype(np.uint64) << np.uint64(CHECK_BITS)) | check
        mask = np.uint64(2**self.word_bits - 1)
        for word in range(len(table)):
            amount = persons
            if word:
                amount = persons * (rest & mask).astype(np.int64)
                rest = rest >> np.uint64(self.word_bits)
            for row in places:
                np.subtract.at(table[word], row, amount)
        return places

    def _places(self, keys: Ints) -> tuple[tuple[Ints, Ints, Ints], _Bits]:
        """The cells of each key, one in each row, and its check bits."""
        one = _mix(keys.astype(np.uint64) + np.uint64(self.salt * 0xA0761D6478BD642F % 2**64))
        two = _mix(one)
        low, bits, cells = np.uint64(2**32 - 1), np.uint64(32), np.uint64(self.cells)
        parts = (one & low, one >> bits, two & low)
        places = [
            ((part * cells) >> bits).astype(np.int64) + row * self.cells
            for row, part in enumerate(parts)
        ]
        return (places[0], places[1], places[2]), two >> np.uint64(64 - CHECK_BITS)


def _mix(x: _Bits) -> _Bits:
    """SplitMix64 (Steele, Lea & Flood 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
