"""From sums of products to released correlations, their intervals and their p values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.correlation_state import Sums
from cohortium.analysis.interface import Scope
from cohortium.analysis.least_squares import aliased
from cohortium.core.rounds import Total
from cohortium.disclosure.limits import Disclosure
from cohortium.disclosure.suppression import REASONS, Release, is_small, nearly_equal
from cohortium.errors import InputError, PolicyRefusal

if TYPE_CHECKING:
    from cohortium.analysis.correlation import CorrelationParams

FOLLOWS = 1e-10
"""Least 1 - r^2: below it one of the two follows from the other."""

_TWO_VALUES = 1e-7
_CONSTANT = 1e-11

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def require_room(n: int, variables: int, limits: Disclosure) -> None:
    """Refuse more variables than so many persons bear.

    Raises:
        PolicyRefusal: ``too-many-parameters``.
    """
    if variables * limits.per_parameter > n or n - variables < limits.df:
        raise PolicyRefusal(
            "too-many-parameters",
            f"{variables} variables for {n} persons; each needs {limits.per_parameter} persons, "
            f"and {limits.df} degrees of freedom must be left.",
            parameters=variables,
            persons=n,
        )


@dataclass(frozen=True)
class Pairs:
    """Sums over the persons with both variables of a pair, in standardised units; axes V, V.

    Attributes:
        totals: What is known of persons and units.
        residual: Of the first variable. squares: of its squares. products: of both.
        powers: (V, 2); of each variable's third and fourth powers.
    """

    totals: Sums
    residual: Floats
    squares: Floats
    products: Floats
    powers: Floats

    @staticmethod
    def of(totals: Sums, total: Total) -> Pairs:
        """From the last round's sums."""
        names = ("residual", "squares", "products", "powers")
        return Pairs(totals, *(np.asarray(total[name], dtype=np.float64) for name in names))

    @property
    def n(self) -> Floats:
        """Persons, at least 1, so that it can be divided by."""
        return np.maximum(self.totals.persons, 1).astype(np.float64)

    def variances(self) -> Floats:
        """Of the first variable of each pair, with divisor n."""
        variance = self.squares / self.n - (self.residual / self.n) ** 2
        # What rounding leaves of a constant is no variance.
        return np.where(variance > _CONSTANT, variance, 0.0)

    def covariances(self) -> Floats:
        """With divisor n."""
        return np.asarray(self.products / self.n - self.residual * self.residual.T / self.n**2)

    def correlations(self) -> Floats:
        """NaN where a variable is constant."""
        variance = self.variances()
        with np.errstate(divide="ignore", invalid="ignore"):
            r = self.covariances() / np.sqrt(variance * variance.T)
        return np.where((variance > 0) & (variance.T > 0), np.clip(r, -1.0, 1.0), np.nan)

    def two_values(self) -> list[tuple[float, float] | None]:
        """For a variable that has two values, those; whatever they are in its own unit.

        A distribution has two values exactly where its kurtosis is its squared skewness plus one
        (Pearson 1916).
        """
        variance = np.diag(self.variances())
        found: list[tuple[float, float] | None] = []
        for i, v in enumerate(variance.tolist()):
            n, mean = float(self.n[i, i]), float(self.residual[i, i] / self.n[i, i])
            if v <= 0:
                found.append(None)
                continue
            second = float(self.squares[i, i]) / n
            third, fourth = (float(power) / n for power in self.powers[i])
            skewness = (third - 3 * mean * second + 2 * mean**3) / v**1.5
            kurtosis = (fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4) / v**2
            if kurtosis - skewness**2 - 1 > _TWO_VALUES * kurtosis:
                found.append(None)
                continue
            share = 0.5 * (1 - skewness / math.sqrt(4 + skewness**2))
            odds = math.sqrt(share / (1 - share))
            found.append((mean - math.sqrt(v) * odds, mean + math.sqrt(v) / odds))
        return found

    def shares(self, i: int, j: int, values: tuple[float, float]) -> float:
        """How many of the pair's persons have the upper value of variable i."""
        low, high = values
        return float((self.residual[i, j] - self.n[i, j] * low) / (high - low))


def small_cells(pairs: Pairs, min_cell: int) -> npt.NDArray[np.bool_]:
    """Which pairs give away how many persons, fewer than `min_cell`, have a value; shape (V, V)."""
    values = pairs.two_values()
    v = len(values)
    small, follows = np.zeros((v, v), dtype=np.bool_), list[int]()
    for i, first in enumerate(values):
        if first is None:
            continue
        for j, second in enumerate(values):
            n = float(pairs.n[i, j])
            upper = pairs.shares(i, j, first)
            cells = [upper, n - upper]
            if second is not None and j != i:
                other = pairs.shares(j, i, second)
                scale = (first[1] - first[0]) * (second[1] - second[0])
                both = pairs.products[i, j] - first[0] * pairs.residual[j, i]
                both = (both - second[0] * pairs.residual[i, j] + n * first[0] * second[0]) / scale
                joint = [both, upper - both, other - both, n - upper - other + both]
                if i > j and nearly_equal(np.rint(np.array(joint)).astype(np.int64), min_cell):
                    follows.append(i)  # from a third variable's pairs with both
                cells += joint
            small[i, j] |= any(is_small(round(float(cell)), min_cell) for cell in cells)
    small[follows] = True
    return small | small.T


def assemble(pairs: Pairs, params: CorrelationParams, scope: Scope) -> dict[str, Any]:
    """The result as JSON values; what is withheld is None and named under ``suppressed``."""
    names, at = params.names, pairs.totals
    v = len(params.variables)
    r = pairs.correlations()
    few = small_cells(pairs, scope.disclosure.min_cell)
    off = ~np.eye(len(names), dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        perfect = off & (1 - r**2 < FOLLOWS)
    closed = at.status != Release.OPEN
    why = {
        "fewer persons than the minimum cell size, or than so many variables need": at.status
        == Release.TOO_FEW,
        REASONS[Release.ONE_SITE]: at.status == Release.ONE_SITE,
        "the persons differ from another number's by fewer than the minimum cell size": at.status
        == Release.SECONDARY,
        "it would give away a value that too few persons have": few & ~closed,
        "one follows from the other": perfect & ~closed & ~few,
    }
    withheld = closed | few | perfect
    suppressed = [
        f"{' and '.join(dict.fromkeys((names[i], names[j])))}: {reason}"
        for reason, where in why.items()
        for i, j in np.argwhere(np.triu(where)).tolist()
    ]
    if not np.any(off & ~withheld):
        raise PolicyRefusal("too-few-persons", f"Nothing is left: {suppressed[0]}.")
    r = np.where(withheld, np.nan, r)
    if params.given:
        r = _partial(r, withheld, names, v, suppressed)
        withheld = withheld[:v, :v]
    n = at.persons[:v, :v]
    spread = at.spread[:v]
    covariance = pairs.covariances()[:v, :v] * np.outer(spread, spread)
    covariance *= n / np.maximum(n - 1, 1)
    k = len(params.given)
    return {
        "title": "Partial correlation" if k else "Pearson correlation",
        "method": "pearson",
        "variables": list(params.variables),
        "given": list(params.given),
        "missing": params.missing,
        "n": int(n[0, 0]) if params.missing == "complete" else int(n[n > 0].min()),
        "n_pairs": n.tolist(),
        "n_missing": int(at.left_out[0]),
        "n_sites": scope.n_sites,
        "correlation": table(r),
        "covariance": None if k else table(np.where(withheld, np.nan, covariance)),
        **inference(r, n - k, params.confidence),
        "suppressed": suppressed,
    }


def _partial(
    r: Floats, withheld: npt.NDArray[np.bool_], names: Sequence[str], v: int, why: list[str]
) -> Floats:
    """Correlations of the first v variables given the others."""
    if np.any(withheld | np.isnan(r)):
        constant = [name for name, one in zip(names, np.diag(r), strict=True) if np.isnan(one)]
        if why:
            raise PolicyRefusal(
                "too-few-persons", f"Nothing can be held constant: {why[0]}. Leave it out."
            )
        raise InputError("no-convergence", f"{', '.join(constant[:5])}: all values are equal.")
    # What is held constant comes first, so that a variable that follows from it is found.
    order = [*range(v, len(r)), *range(v)]
    bad = aliased(r[np.ix_(order, order)], np.zeros(len(r)))
    if bad:
        terms = [names[order[at]] for at in bad]
        raise InputError(
            "no-convergence",
            f"{', '.join(terms[:5])}: follows from the other variables. Leave it out.",
            terms=terms[:50],
        )
    given = r[v:, v:]
    rest = r[:v, :v] - r[:v, v:] @ np.linalg.solve(given, r[v:, :v])
    unit = 1 / np.sqrt(np.diag(rest))
    found = np.clip(rest * np.outer(unit, unit), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return np.asarray((found + found.T) / 2)


def inference(r: Floats, n: Ints, confidence: float, inflation: float = 0.0) -> dict[str, Any]:
    """Tests and Fisher's intervals of correlations.

    Args:
        r: (V, V); NaN where withheld.
        n: (V, V); persons less the number of variables held constant.
        inflation: The variance of Fisher's z is ``(1 + inflation r^2) / (n - 3)``.
    """
    from scipy.special import ndtri, stdtr

    off = ~np.eye(len(r), dtype=np.bool_)
    df = np.maximum(n - 2, 1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(r) * np.sqrt(df / (1 - r**2))
        p = np.where(off & (n > 2), 2 * stdtr(df, -t), np.nan)
        step = np.sqrt((1 + inflation * r**2) / np.maximum(n - 3, 1))
        step = step * float(ndtri(0.5 + confidence / 2))
        z = np.arctanh(r)
        bounded = off & (n > 3) & np.isfinite(z)
        low = np.where(bounded, np.tanh(z - step), np.nan)
        high = np.where(bounded, np.tanh(z + step), np.nan)
    return {
        "p_value": table(p),
        "low": table(low),
        "high": table(high),
        "confidence": confidence,
    }


def table(matrix: Floats) -> list[list[float | None]]:
    """As JSON: NaN is None."""
    return [[None if math.isnan(one) else float(one) for one in row] for row in matrix.tolist()]
