"""Adjusting p values for the number of tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from cohortium.errors import InputError

Method = Literal["bonferroni", "holm", "bh", "by"]
METHODS: Final[tuple[Method, ...]] = ("bonferroni", "holm", "bh", "by")
_ALIASES: Final = {"fdr": "bh", "fdr_bh": "bh", "fdr_by": "by", "b": "bonferroni"}

Array = npt.NDArray[np.float64]


@runtime_checkable
class Tested(Protocol):
    """A result with a p value."""

    @property
    def p_value(self) -> float | None:
        """None where it was not released."""
        ...


def adjust_p(p: Iterable[float | Tested | None], method: str = "holm") -> Array:
    """P values adjusted for how many there are, in the order given.

    ``bonferroni`` and ``holm`` hold the chance of any false rejection at the level (Holm's is
    never the weaker); ``bh`` (Benjamini-Hochberg) and ``by`` (Benjamini-Yekutieli, under any
    dependence) hold the expected share of false ones among the rejections. As R's ``p.adjust``.

    Args:
        p: Numbers, or results of tests. What is None or NaN stays NaN and is not counted.
        method: ``bonferroni``, ``holm``, ``bh`` or ``by``.

    Returns:
        float64; between the p value and 1.

    Raises:
        InputError: ``bad-input`` for another method or a number outside [0, 1].

    Reference: Holm 1979; Benjamini & Hochberg 1995; Benjamini & Yekutieli 2001.
    """
    name = method.lower()
    name = _ALIASES.get(name, name)
    if name not in METHODS:
        raise InputError("bad-input", f"Methods are {', '.join(METHODS)}, not {method!r}.")
    values = np.array([_number(one) for one in p], dtype=np.float64)
    known = ~np.isnan(values)
    if np.any((values[known] < 0) | (values[known] > 1)):
        raise InputError("bad-input", "A p value lies between 0 and 1.")
    adjusted = np.full(values.shape, np.nan)
    adjusted[known] = _adjusted(values[known], name)
    return adjusted


def _adjusted(p: Array, method: str) -> Array:
    n = p.size
    if method == "bonferroni" or n == 0:
        return np.minimum(1.0, p * n)
    order = np.argsort(p, kind="stable")
    rank = np.arange(1, n + 1)
    out = np.empty(n)
    if method == "holm":
        steps = np.maximum.accumulate(p[order] * (n - rank + 1))
    else:
        factor = float(np.sum(1.0 / rank)) if method == "by" else 1.0
        steps = np.minimum.accumulate((p[order] * (n * factor / rank))[::-1])[::-1]
    out[order] = np.minimum(1.0, steps)
    return out


def _number(one: object) -> float:
    value = one.p_value if isinstance(one, Tested) else one
    if value is None:
        return float("nan")
    if not isinstance(value, int | float | np.number):
        raise InputError("bad-input", "A p value is a number, or the result of a test.")
    return float(value)
