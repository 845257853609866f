"""One variable of a Table 1: its numbers in each group, p, and standardised differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cohortium.sdk.balance import (
    Group,
    anova_p,
    chi_square,
    pairs,
    pooled,
    smd_means,
    smd_shares,
)
from cohortium.sdk.describe import VariableSummary

Kind = Literal["mean", "median", "binary", "category"]
Quartiles = tuple[float | str, float | str, float | str]
NOT_BINARY = 1e-9


@dataclass(frozen=True)
class Share:
    """Persons with a level."""

    count: int
    n: int


@dataclass
class Characteristic:
    """A variable's row, and a row for each level of a category.

    Attributes:
        kind: ``mean`` (SD), ``median`` [quartiles], ``binary`` (one row) or ``category``.
        levels: Of a category; a binary variable's is what is counted.
        overall, groups: `Group` or quartiles or shares by level; None: withheld or no persons.
        missing: Persons without a value, in all groups together; None where that is withheld.
        test: Which gave `p`: anova, welch, kruskal, chi-square, fisher; why it is missing.
        differences: Standardised, by pair of groups.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    groups: list[Group | Quartiles | list[Share | None] | None] = field(default_factory=list)
    overall: Group | Quartiles | list[Share | None] | None = None
    missing: int | None = None
    p: float | None = None
    test: str = ""
    sparse: bool = False
    differences: dict[tuple[int, int], float | None] = field(default_factory=dict)

    def smd(self, over: Callable[[Sequence[float]], float]) -> float | None:
        """The differences of all pairs as one number; None unless all are known."""
        values = [one for one in self.differences.values() if one is not None]
        if not values or len(values) < len(self.differences):
            return None
        return over(values)


def characteristic(
    name: str,
    ones: Sequence[VariableSummary | None],
    *,
    nonnormal: bool,
    persons: Sequence[int | None],
) -> Characteristic:
    """Put one variable's summaries together.

    Args:
        ones: In each group; None where the group was withheld.
        nonnormal: Median and quartiles in place of mean and standard deviation.
        persons: In each group.
    """
    known = [one for one in ones if one is not None]
    made = Characteristic(name, _kind(known, nonnormal))
    if made.kind == "category":
        made.levels = tuple(cell.level for cell in next(o.levels for o in known if o.levels))
        made.groups = [None if one is None else _shares(one) for one in ones]
    elif made.kind == "binary":
        made.levels = ("true" if any(one.type == "boolean" for one in known) else "1",)
        made.groups = [None if one is None else _binary(one) for one in ones]
    elif made.kind == "median":
        made.groups = [None if one is None else _quartiles(one) for one in ones]
    else:
        made.groups = [None if one is None else _group(one) for one in ones]
    absent = [one is None or one.missing is None for one in ones]
    if not any(gone and n != 0 for gone, n in zip(absent, persons, strict=True)):
        made.missing = sum(one.missing or 0 for one in known)
    _overall(made, persons)
    means = [None if one is None else _group(one) for one in ones]
    for a, b in pairs(len(ones)):
        made.differences[a, b] = _difference(made, means, a, b)
    return made


def _kind(ones: Sequence[VariableSummary], nonnormal: bool) -> Kind:
    if any(one.levels for one in ones):
        return "category"
    if any(one.type in {"date", "datetime"} for one in ones):
        return "median"
    counted = [one for one in ones if one.mean is not None and one.n]
    if any(one.type == "boolean" for one in ones) or (
        counted and all(one.type == "integer" and _is_binary(one) for one in counted)
    ):
        return "binary"
    return "median" if nonnormal else "mean"


def _is_binary(one: VariableSummary) -> bool:
    """Whether the integers are zeros and ones: then, and only then, x and its square have one mean.

    A mean without a standard deviation is one that was rounded because it counts persons.
    """
    if one.mean is None or not one.n:
        return False
    if one.variance is None:
        return one.n > 1
    square = one.variance * (one.n - 1) / one.n + one.mean**2
    return abs(square - one.mean) <= NOT_BINARY * max(1.0, abs(one.mean))


def _group(one: VariableSummary) -> Group | None:
    if not one.n or one.mean is None or one.sd is None:
        return None
    return Group(one.n, one.mean, one.sd)


def _quartiles(one: VariableSummary) -> Quartiles | None:
    found = {round(quantile.q, 6): quantile.value for quantile in one.quantiles}
    low, middle, high = (found.get(q) for q in (0.25, 0.5, 0.75))
    return None if low is None or middle is None or high is None else (low, middle, high)


def _binary(one: VariableSummary) -> list[Share | None]:
    if one.mean is None or one.n is None:
        return [None]
    return [Share(round(one.n * one.mean), one.n)]


def _shares(one: VariableSummary) -> list[Share | None]:
    n = one.n or 0
    return [None if cell.count is None else Share(cell.count, n) for cell in one.levels]


def _overall(made: Characteristic, persons: Sequence[int | None]) -> None:
    """The groups taken together, where every group with persons in it is known."""
    here = [one for one, n in zip(made.groups, persons, strict=True) if n != 0]
    if len(made.groups) == 1:
        made.overall = made.groups[0]
        return
    numbers = [one for one in here if isinstance(one, Group)]
    if made.kind == "mean" and numbers and len(numbers) == len(here):
        made.overall = pooled(numbers)
    elif made.kind in {"binary", "category"}:
        lists = [one for one in here if isinstance(one, list)]
        if lists and len(lists) == len(here):
            made.overall = [_sum([one[at] for one in lists]) for at in range(len(made.levels))]


def _sum(shares: Sequence[Share | None]) -> Share | None:
    known = [share for share in shares if share is not None]
    if len(known) < len(shares):
        return None
    return Share(sum(share.count for share in known), sum(share.n for share in known))


def counts(made: Characteristic, at: Sequence[int]) -> np.ndarray | None:
    """Levels by groups `at`, with a binary variable's complement; None where one is withheld."""
    columns = []
    for group in at:
        shares = made.groups[group]
        if not isinstance(shares, list):
            return None
        known = [share for share in shares if share is not None]
        if len(known) < len(shares):
            return None
        column = [share.count for share in known]
        columns.append([known[0].n - column[0], *column] if made.kind == "binary" else column)
    return np.array(columns, dtype=np.float64).T


def _difference(
    made: Characteristic, means: Sequence[Group | None], a: int, b: int
) -> float | None:
    if made.kind in {"binary", "category"}:
        table = counts(made, (a, b))
        value = math.nan if table is None else smd_shares(table[:, 0], table[:, 1])
    else:
        one, other = means[a], means[b]
        value = math.nan if one is None or other is None else smd_means(one, other)
    return None if math.isnan(value) else value


def test(
    made: Characteristic, persons: Sequence[int | None], *, equal_var: bool, exact: bool
) -> None:
    """Fill in `p` from the groups' summaries; a variable with medians is left to a rank test."""
    here = [at for at, n in enumerate(persons) if n != 0]
    if made.kind == "median" or len(here) < 2:
        return
    if made.kind == "mean":
        made.test = "anova" if equal_var else "welch"
        groups = [one for at in here if isinstance(one := made.groups[at], Group)]
        value = anova_p(groups, equal_var=equal_var) if len(groups) == len(here) else math.nan
    else:
        made.test = "fisher" if exact else "chi-square"
        table = counts(made, here)
        if table is None:
            value = math.nan
        elif exact and table.shape == (2, 2):
            from scipy import stats

            value = float(stats.fisher_exact(table.astype(np.int64))[1])
        else:
            made.test = "chi-square"
            found = chi_square(table)
            value, made.sparse = found.p, found.sparse
    made.p = None if math.isnan(value) else value
