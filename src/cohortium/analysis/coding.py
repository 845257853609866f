"""Treatment coding of a model's terms, without redundant columns.

Reference: Chambers & Hastie 1992, Statistical Models in S, ch. 2; the algorithm is that of patsy's
documentation, "Redundancy and categorical factors".
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Coded:
    """A factor with what its variable's dictionary entry says.

    Attributes:
        text: As the formula names it.
        node: Its checked syntax.
        names: Variables that it reads.
        levels: Declared levels of a category; None for a number.
        reference: Index of the reference level.
        variable: The category's variable; empty for a number.
    """

    text: str
    node: ast.expr
    names: frozenset[str]
    levels: tuple[str, ...] | None
    reference: int
    variable: str

    @property
    def makes_number(self) -> bool:
        """Whether it is an expression, and no variable of the data."""
        return self.levels is None and not isinstance(self.node, ast.Name)


@dataclass(frozen=True)
class Column:
    """A column of the design matrix: the product of its parts; of ones where there are none.

    Attributes:
        name: As statsmodels names it: ``sex[T.2]:age``.
        parts: Factor and level index, or None for the number itself.
    """

    name: str
    parts: tuple[tuple[Coded, int | None], ...]

    @property
    def is_cell(self) -> bool:
        """Whether it marks persons, so that its sum is a count of persons."""
        return bool(self.parts) and all(level is not None for _, level in self.parts)

    @property
    def makes_number(self) -> bool:
        """Whether it has an expression, or multiplies numbers."""
        numbers = [factor for factor, level in self.parts if level is None]
        return len(numbers) > 1 or any(factor.makes_number for factor in numbers)


def code_term(
    factors: Sequence[Coded], used: dict[frozenset[str], set[frozenset[str]]]
) -> list[Column]:
    """The columns of a term that earlier terms do not span already.

    Args:
        factors: Of this term, in order.
        used: By the numeric factors, which sets of categories earlier terms spanned; updated.
    """
    categories = [factor for factor in factors if factor.levels is not None]
    numbers = frozenset(factor.text for factor in factors if factor.levels is None)
    spanned = used.setdefault(numbers, set())
    new: list[dict[str, bool]] = []  # each: category -> whether coded in full
    for size in range(len(categories) + 1):
        for subset in itertools.combinations([c.text for c in categories], size):
            if frozenset(subset) not in spanned:
                spanned.add(frozenset(subset))
                new.append(dict.fromkeys(subset, False))
    while _absorb(new):
        pass
    return [column for coding in new for column in _columns(factors, coding)]


def _absorb(codings: list[dict[str, bool]]) -> bool:
    """Replace some ``a- and a-:b-`` by ``a-:b+``; False where there is none."""
    for short, long in itertools.combinations(codings, 2):
        extra = set(long) - set(short)
        same = all(long.get(name) == full for name, full in short.items())
        if same and len(extra) == 1 and len(long) == len(short) + 1:
            (name,) = extra
            if not long[name]:
                codings[codings.index(long)] = {**long, name: True}
                codings.remove(short)
                return True
    return False


def _columns(factors: Sequence[Coded], coding: dict[str, bool]) -> list[Column]:
    choices: list[list[tuple[Coded, int | None, str]]] = []
    for factor in factors:
        if factor.levels is None:
            choices.append([(factor, None, factor.text)])
        elif factor.text in coding:
            full = coding[factor.text]
            choices.append(
                [
                    (factor, at, f"{factor.text}[{'' if full else 'T.'}{level}]")
                    for at, level in enumerate(factor.levels)
                    if full or at != factor.reference
                ]
            )
    columns = []
    # The first factor varies fastest, as in R.
    for combination in itertools.product(*reversed(choices)):
        parts = combination[::-1]
        name = ":".join(part[2] for part in parts)
        columns.append(Column(name, tuple((part[0], part[1]) for part in parts)))
    return columns
