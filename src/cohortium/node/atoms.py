"""Rows that no release told apart, so that a new cohort is compared with many releases at once.

Two rows are of one atom where every release has them in the same part. Counting the new cohort's
persons by atom reads all rows once; each release then only reads the atoms.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.disclosure.differencing import Bools, Ints, PersonSets

MAX_TABLE: Final = 4_000_000
"""Cells of a table of parts and atoms; where there are more, pairs are sorted instead."""

Codes = npt.NDArray[np.integer]


class Atoms:
    """The atoms of some releases on the rows of one dataset.

    Args:
        n_rows: Of the dataset.
    """

    def __init__(self, n_rows: int) -> None:
        self._ids = np.zeros(n_rows, dtype=np.int32)
        self._n = 1
        self._codes: dict[str, Codes] = {}
        self._gone: dict[str, Ints] = {}
        self._sets: dict[str, Bools] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._codes

    @property
    def n_bytes(self) -> int:
        """What it takes in memory."""
        return self._ids.nbytes + sum(codes.nbytes for codes in self._codes.values())

    def add(self, key: str, sets: PersonSets) -> None:
        """Tell apart what this release does.

        Args:
            sets: On the dataset's rows, and perhaps on further ones.
        """
        width = sets.sets.shape[1] + 1
        here, gone = sets.codes[: len(self._ids)], sets.codes[len(self._ids) :]
        joint = self._ids.astype(np.int64) * width + here + 1
        if self._n * width <= MAX_TABLE:
            there = np.zeros(self._n * width, dtype=np.bool_)
            there[joint] = True
            found = np.flatnonzero(there)
            number = np.cumsum(there, dtype=np.int32) - np.int32(1)
            self._ids = number[joint]
        else:
            found, ids = np.unique(joint, return_inverse=True)
            self._ids = ids.astype(np.int32)
        parent = found // width
        for known, codes in self._codes.items():
            self._codes[known] = codes[parent]
        self._n = len(found)
        self._codes[key] = (found % width - 1).astype(sets.codes.dtype)
        self._gone[key] = np.bincount(gone.astype(np.int64) + 1, minlength=width)
        self._sets[key] = sets.sets

    def count(self, new: Codes, n_codes: int) -> Counted:
        """Persons by part of a new cohort and atom.

        Args:
            new: Of each row; -1 outside.
            n_codes: How many codes there are besides -1.
        """
        pairs = (new.astype(np.int64) + 1) * self._n
        pairs += self._ids
        if (n_codes + 1) * self._n <= MAX_TABLE:
            table = np.bincount(pairs, minlength=(n_codes + 1) * self._n)
            found = np.flatnonzero(table)
            persons = table[found]
        else:
            found, persons = np.unique(pairs, return_counts=True)
        return Counted(self, n_codes + 1, found // self._n, found % self._n, persons)

    def release(self, key: str) -> tuple[Codes, Ints, Bools]:
        """A release: the part of each atom, persons in each part that are gone, and its sets."""
        return self._codes[key], self._gone[key], self._sets[key]


class Counted:
    """A new cohort's persons by part and atom."""

    def __init__(self, atoms: Atoms, n_new: int, part: Ints, atom: Ints, persons: Ints) -> None:
        self._atoms = atoms
        self._n_new = n_new
        self._part = part
        self._atom = atom
        self._persons = persons.astype(np.float64)

    def with_release(self, key: str) -> tuple[Ints, Bools]:
        """`joint_counts` with a release, and its sets."""
        codes, gone, sets = self._atoms.release(key)
        width = len(gone)
        at = self._part * width + codes[self._atom] + 1
        joint = np.bincount(at, weights=self._persons, minlength=self._n_new * width)
        counts = joint.astype(np.int64).reshape(self._n_new, width)
        counts[0] += gone
        return counts, sets

    def with_nobody(self, n_sets: int) -> tuple[Ints, Bools]:
        """The same with a release that this site has no part in."""
        joint = np.zeros((self._n_new, 2), dtype=np.int64)
        joint[:, 0] = np.bincount(self._part, weights=self._persons, minlength=self._n_new)
        return joint, np.ones((n_sets, 1), dtype=np.bool_)
