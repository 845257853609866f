"""What of an attrition may be released, and the result as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import Scope
from cohortium.disclosure.limits import rounded
from cohortium.disclosure.suppression import LEAST_SITES, REASONS, Release, is_small
from cohortium.errors import PolicyRefusal

Ints = npt.NDArray[np.int64]
MERGED = "merged with the next criterion: too few persons between the two"


@dataclass(frozen=True)
class Counted:
    """The totals; axis J: before the first step and after each.

    Attributes:
        remaining: (J,); persons.
        sites: (J,); institutions with any.
        parts: (2^steps,); persons at each combination; None where that was not asked for.
        part_sites: (2^steps,); institutions with any.
        short: Institutions that left out small combinations.
        by_site: (sites, J); persons of each institution; None where that was not asked for.
    """

    remaining: Ints
    sites: Ints
    parts: Ints | None
    part_sites: Ints | None
    short: int
    by_site: Ints | None


def assemble(
    counted: Counted, steps: Sequence[tuple[str, str]], rounding: int | None, scope: Scope
) -> dict[str, Any]:
    """The result, without what is too small.

    Raises:
        PolicyRefusal: ``too-few-persons``.
    """
    limits = scope.disclosure
    given = [base for base in (rounding, limits.rounding) if base is not None]
    base = max(given, default=None)
    remaining = [int(n) for n in counted.remaining]
    sites = [int(n) for n in counted.sites]
    if remaining[0] < limits.cohort or sites[0] < LEAST_SITES:
        raise PolicyRefusal(
            "too-few-persons",
            f"Fewer than {limits.cohort} persons of {LEAST_SITES} institutions are in the "
            "contract's cohort.",
        )
    alone = [j for j, n in enumerate(sites) if 0 < n < LEAST_SITES]
    if rounding is not None and rounding >= limits.min_cell:
        shown = [j for j in range(len(remaining)) if j not in alone]
    else:
        shown = released_steps(remaining, limits.min_cell, frozenset(alone))
    numbers = [rounded(n, base) if j in shown else None for j, n in enumerate(remaining)]
    combinations = None if base is not None else _combinations(counted, limits.min_cell)
    return {
        "n_sites": scope.n_sites,
        "start": numbers[0],
        "steps": [
            {"kind": kind, "criterion": text, "n": n}
            for (kind, text), n in zip(steps, numbers[1:], strict=True)
        ],
        "combinations": combinations,
        "rounding": base,
        "by_site": _by_site(counted.by_site, base, scope),
        "suppressed": [
            f"{steps[j - 1][1]}: {REASONS[Release.ONE_SITE] if j in alone else MERGED}"
            for j in range(1, len(remaining))
            if j not in shown
        ],
    }


def released_steps(
    remaining: Sequence[int], min_cell: int, withheld: frozenset[int] = frozenset()
) -> list[int]:
    """After which steps the number is shown: between any two of them are no or enough persons.

    The first number is shown always, and the last where it can be: it is the cohort's size.

    Args:
        remaining: Persons before the first step and after each; the first are enough.
        withheld: Steps that are not shown whatever their numbers.
    """

    def apart(i: int, j: int) -> bool:
        return not is_small(remaining[i] - remaining[j], min_cell)

    shown = [0]
    for j in range(1, len(remaining)):
        if j not in withheld and not is_small(remaining[j], min_cell) and apart(shown[-1], j):
            shown.append(j)
    last = len(remaining) - 1
    if last in withheld or last in shown or is_small(remaining[last], min_cell):
        return shown
    while len(shown) > 1 and not apart(shown[-1], last):
        shown.pop()
    return [*shown, last] if apart(shown[-1], last) else shown


def _combinations(counted: Counted, min_cell: int) -> list[int] | None:
    """Persons at each combination (bit i: step i keeps them), where all of them are enough."""
    parts, sites = counted.parts, counted.part_sites
    if parts is None or sites is None or counted.short:
        return None
    some = parts > 0
    if np.any(parts[some] < min_cell) or np.any(sites[some] < LEAST_SITES):
        return None
    return [int(n) for n in parts]


def _by_site(counts: Ints | None, base: int | None, scope: Scope) -> dict[str, list[int]] | None:
    """Each institution's numbers, rounded at least to the minimum cell."""
    if counts is None:
        return None
    to = max(base or 1, scope.disclosure.min_cell)
    return {
        site: [rounded(int(n), to) for n in row]
        for site, row in zip(scope.sites, counts, strict=True)
    }
