"""Whether numbers about one person set, beside those about an earlier one, tell of few persons.

Each site compares its own parts of both sets; only clipped numbers of persons are added up, and
every party decides from the total.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.errors import PolicyRefusal

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MAX_COMPARISONS: Final = 1_000_000


@dataclass(frozen=True)
class Split:
    """Which sets of persons a computation tells of, beside its whole cohort.

    Attributes:
        parts: How many disjoint parts the cohort has; a person may be in none of them.
        sets: bool, shape (n_sets, parts + 1); unions of parts, the last column for persons in
            none. The first set is the whole cohort.
        views: What may be released instead of one another, best first: indexes into `sets`, each
            beginning with the whole cohort.
        kept: Where in every view the set is that the computation tells of rather than of those
            near it, which it then withholds itself; 0: none.
    """

    parts: int
    sets: Bools
    views: tuple[tuple[int, ...], ...]
    kept: int = 0

    @staticmethod
    def whole() -> Split:
        """Nothing but the cohort itself."""
        return Split(0, np.ones((1, 1), dtype=np.bool_), ((0,),))

    @staticmethod
    def into(shape: tuple[int, ...]) -> Split:
        """The cells of a table of that shape; where it has two sides or more, their margins too."""
        parts = int(np.prod(shape, dtype=np.int64))
        cells = np.eye(parts, parts + 1, dtype=np.bool_)
        rows = [np.ones((1, parts + 1), dtype=np.bool_), cells]
        places = np.unravel_index(np.arange(parts), shape) if parts else ()
        if len(shape) > 1:
            for side, size in zip(places, shape, strict=True):
                margin = np.zeros((size, parts + 1), dtype=np.bool_)
                margin[side, np.arange(parts)] = True
                rows.append(margin)
        sets = np.concatenate(rows)
        return Split(parts, sets, (tuple(range(len(sets))),))


@dataclass(frozen=True)
class PersonSets:
    """One site's persons in some sets.

    Attributes:
        codes: int, shape (n_rows,); the part of each row, `parts` for a person of the cohort in no
            part, -1 for others.
        sets: As in `Split`.
    """

    codes: npt.NDArray[np.integer]
    sets: Bools

    @staticmethod
    def nobody(n_rows: int, n_sets: int) -> PersonSets:
        """As a site counts that has none of them."""
        return PersonSets(np.full(n_rows, -1, dtype=np.int8), np.ones((n_sets, 1), dtype=np.bool_))


@dataclass(frozen=True)
class Comparison:
    """Numbers of persons: of one site, or added up over sites; of one earlier release, or of many
    with equally many sets, along a first axis of each array.

    Attributes:
        only_new: int64, shape (..., n_new, n_earlier); in the new set and not in the earlier one.
        only_earlier: int64, same shape; the other way round.
        new: int64, shape (..., n_new); in the new set.
        earlier: int64, shape (..., n_earlier).
    """

    only_new: Ints
    only_earlier: Ints
    new: Ints
    earlier: Ints

    @staticmethod
    def size(n_new: int, n_earlier: int) -> int:
        """How many numbers it has, of one earlier release."""
        return 2 * n_new * n_earlier + n_new + n_earlier

    def flat(self) -> Ints:
        """All numbers of one earlier release in one array."""
        parts = (self.only_new, self.only_earlier, self.new, self.earlier)
        return np.concatenate([part.reshape(-1) for part in parts])

    @staticmethod
    def of_flat(numbers: Ints, n_new: int, n_earlier: int) -> Comparison:
        """The inverse of `flat`, or of several in rows."""
        pairs, shape = n_new * n_earlier, (*numbers.shape[:-1], n_new, n_earlier)
        return Comparison(
            numbers[..., :pairs].reshape(shape),
            numbers[..., pairs : 2 * pairs].reshape(shape),
            numbers[..., 2 * pairs : 2 * pairs + n_new],
            numbers[..., 2 * pairs + n_new :],
        )

    def among(self, new: tuple[int, ...]) -> Comparison:
        """Only these of the new sets."""
        at = list(new)
        return Comparison(
            self.only_new[..., at, :],
            self.only_earlier[..., at, :],
            self.new[..., at],
            self.earlier,
        )


def compare(
    new: PersonSets, earlier: PersonSets, *, clip: int, own_floor: int | None = None
) -> Comparison:
    """One site's numbers, each at most `clip`; see `compare_parts`."""
    return compare_parts(
        joint_counts(new, earlier), new.sets, earlier.sets, clip=clip, own_floor=own_floor
    )


def joint_counts(new: PersonSets, earlier: PersonSets) -> Ints:
    """Persons by the part of the one and of the other; the first row and column are outside."""
    n_new, n_earlier = new.sets.shape[1] + 1, earlier.sets.shape[1] + 1
    at = new.codes.astype(np.intp) + 1
    at *= n_earlier
    at += earlier.codes
    at += 1
    counts: Ints = np.bincount(at, minlength=n_new * n_earlier).reshape(n_new, n_earlier)
    return counts


def compare_parts(
    joint: Ints, new: Bools, earlier: Bools, *, clip: int, own_floor: int | None = None
) -> Comparison:
    """One site's numbers, each at most `clip`.

    A sum of such numbers over sites is below a minimum of up to `clip` exactly where the sum of the
    unclipped ones is.

    Args:
        joint: As of `joint_counts`.
        new: As of `PersonSets.sets`, of both.
        own_floor: A set with fewer of this site's persons counts as empty here, since the site
            contributes nothing to what is computed of it (the floor ``site``).
    """
    a, b = new.astype(np.float64), earlier.astype(np.float64)
    both = a @ joint[1:, 1:].astype(np.float64) @ b.T
    size_new = a @ joint[1:].sum(axis=1)
    size_earlier = b @ joint[:, 1:].sum(axis=0)
    if own_floor is not None:
        few_new, few_earlier = size_new < own_floor, size_earlier < own_floor
        both[few_new, :] = 0
        both[:, few_earlier] = 0
        size_new[few_new] = 0
        size_earlier[few_earlier] = 0
    numbers = (size_new[:, None] - both, size_earlier[None, :] - both, size_new, size_earlier)
    return Comparison(*(np.minimum(part, clip).astype(np.int64) for part in numbers))


def too_close(
    total: Comparison, *, min_cell: int, least: int, kept: int = 0, kept_earlier: int = 0
) -> bool:
    """Whether releasing the new sets beside the earlier ones would tell of few persons.

    Two whole cohorts: where 1 to ``min_cell - 1`` persons are in one and not in the other. Parts of
    a cohort, of which there are many: where they differ, and by fewer than `min_cell` persons in
    either direction. A part inside a larger set that is released beside it is the business of the
    suppression of small cells, in that very table: it does not count here. Nor does a set near the
    one that a computation keeps, and so withholds the others.

    Args:
        total: Added up over sites.
        min_cell: Of the strictest site.
        least: Sets of fewer persons are not released by any computation.
        kept, kept_earlier: `Split.kept` of the new and of the earlier sets; 0: none.
    """
    more, less = total.only_new, total.only_earlier
    released = total.earlier >= least
    either = np.stack([more[..., 0, 0], less[..., 0, 0]])
    if np.any(released[..., 0] & (either > 0) & (either < min_cell)):
        return True
    same = (more == 0) & (less == 0)
    # What a set stood in, so that its table withheld what would follow: any set of a table, but
    # only the whole where a computation keeps one set and withholds others, larger ones too.
    within_earlier = same[..., :, :1] if kept_earlier else same
    within_new = same[..., :1, :] if kept else same
    known_new = within_earlier.any(axis=-1)[..., :, None]
    known_earlier = within_new.any(axis=-2)[..., None, :]
    close = ~same & (more < min_cell) & (less < min_cell)
    close &= (total.new >= least)[..., :, None] & released[..., None, :]
    close &= ~(known_new & (less == 0)) & ~(known_earlier & (more == 0))
    if kept:
        close[..., 1:, :] &= ~same[..., kept, :][..., None, :]
    if kept_earlier:
        close[..., :, 1:] &= ~same[..., :, kept_earlier][..., :, None]
    close[..., 0, 0] = False
    return bool(close.any())


def refusal(min_cell: int, alternatives: tuple[str, ...] = ()) -> PolicyRefusal:
    """Says nothing of which earlier result it is, in which direction, or how many persons."""
    others = "".join(f", or for {one}" for one in alternatives)
    return PolicyRefusal(
        "differencing",
        "These persons are nearly those of an earlier result of this study: the difference of both "
        "could tell of fewer persons than the minimum cell size. Widen or narrow the criteria by "
        f"more persons, or ask for counts rounded to base {min_cell}{others}.",
    )
