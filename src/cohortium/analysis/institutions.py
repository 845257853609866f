"""What analyses have in common that tell of each institution: its place in a sum, its persons.

Of single institutions is told only where the contract says so. Each one's persons are compared with
those of earlier releases, and what they leave of the cohort must be nobody, or enough persons: a
joint result less the institutions' own would tell of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import Scope
from cohortium.core.table import Table
from cohortium.disclosure.differencing import Split
from cohortium.disclosure.limits import Disclosure
from cohortium.disclosure.suppression import is_small
from cohortium.errors import PolicyRefusal

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def require_by_site(scope: Scope, what: str) -> None:
    """Refuse where the contract keeps institutions together.

    Raises:
        PolicyRefusal: ``not-permitted``.
    """
    if not scope.disclosure.by_site:
        raise PolicyRefusal(
            "not-permitted",
            f"{what}, and the contract does not let numbers of single institutions be released "
            "(disclosure: {by_site: true}).",
        )


def split_by_institution(scope: Scope, sides: Sequence[int] = ()) -> Split:
    """The cohort; those who are told of, all together, of each institution and in each class.

    Args:
        sides: How many classes each way of telling an institution's persons apart has.
    """
    shape = (len(scope.sites), *sides)
    cells = int(np.prod(shape))
    places = np.unravel_index(np.arange(cells), shape)
    sets = [np.ones(cells + 1, dtype=np.bool_), np.append(np.ones(cells, dtype=np.bool_), False)]
    for size in range(1, len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), size):
            for level in itertools.product(*(range(shape[axis]) for axis in axes)):
                inside = np.ones(cells, dtype=np.bool_)
                for axis, at in zip(axes, level, strict=True):
                    inside &= places[axis] == at
                sets.append(np.append(inside, False))
    return Split(cells, np.stack(sets), (tuple(range(len(sets))),))


def parts_by_institution(
    scope: Scope, told: Bools, sides: Sequence[int] = (), codes: Sequence[Ints] = ()
) -> npt.NDArray[np.integer]:
    """The part of each person of the cohort, as `Splits.parts`.

    Args:
        told: Of whom the site tells, shape (n_rows,).
        sides: See `split_by_institution`.
        codes: The class of each of them, one array for each of the sides.
    """
    shape = (len(scope.sites), *sides)
    nowhere = int(np.prod(shape))
    out = np.full(len(told), nowhere, dtype=np.int32)
    if scope.site is not None and told.any():
        place = np.full(int(np.count_nonzero(told)), scope.site, dtype=np.int64)
        out[told] = np.ravel_multi_index((place, *codes), shape)
    return out


def apart(table: Table, told: int, limits: Disclosure) -> int:
    """Of how many of the site's persons nothing is told, `min_cell` at most.

    With the floor ``site``, a site with fewer persons than that is in no joint result either.
    """
    if limits.floor == "site" and table.n_rows < limits.min_cell:
        return 0
    return min(table.n_rows - told, limits.min_cell)


def require_apart(persons: int, limits: Disclosure) -> None:
    """Refuse where the institutions' numbers leave few persons of a joint result.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    if is_small(persons, limits.min_cell):
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {limits.min_cell} persons of the cohort lack a value or are of an "
            "institution that cannot tell of its own: what the institutions' numbers leave of a "
            "joint result would tell of these. Use other variables or criteria.",
        )
