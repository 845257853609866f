"""Which fold of a cross-validation each person of a site is in.

Persons are dealt to small groups once and for all, by their row number and nothing else; the seed
only says which fold each group goes to. So however many seeds somebody asks for, and however the
sums over the folds are combined, no sum tells of fewer persons of a site than a group has.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]

_ROWS: Final = 0x636F686F7274
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)


def folds_of(rows: npt.NDArray[np.bool_], folds: int, seed: int, group: int, site: str) -> Codes:
    """The folds of the persons of `rows`, from 0; shape (number of persons,).

    Args:
        rows: Shape (n_rows,); who takes part.
        folds: How many there are.
        seed: Chooses among the ways of dealing.
        group: Persons that stay together; the last ones join the group before.
        site: Its name, so that not every site gives its odd groups to the same fold.
    """
    persons = np.flatnonzero(rows)
    order = np.argsort(_mixed(persons, _ROWS), kind="stable")
    groups = max(len(persons) // group, 1)
    of_group = np.argsort(np.argsort(_mixed(np.arange(groups), seed), kind="stable"))
    first = int(_mixed(np.frombuffer(site.encode() or b" ", np.uint8), seed).sum() % folds)
    place = np.minimum(np.arange(len(persons)) // group, groups - 1)
    out = np.empty(len(persons), dtype=np.int64)
    out[order] = (of_group[place] + first) % folds
    return out


def _mixed(counter: npt.NDArray[np.integer], key: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 of a counter: Steele, Lea & Flood 2014."""
    with np.errstate(over="ignore"):
        z = counter.astype(np.uint64) * _STEP + np.uint64(key) * np.uint64(0xD1342543DE82EF95)
        z += _STEP
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
