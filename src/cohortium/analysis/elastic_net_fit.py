"""Steps of `models.elastic_net` at the hub: quadratics with a penalty, and when they are enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.elastic_net_model import Net
from cohortium.analysis.least_squares import unpack
from cohortium.analysis.penalised import minimise, violation

Floats = npt.NDArray[np.float64]

RATIO: Final = 1e-4
"""Of the smallest lambda to the largest: glmnet's for more persons than columns."""
SMALLEST_ALPHA: Final = 1e-3
"""For which the largest lambda is that of ridge regression."""
_CONSTANT: Final = 1e-14
_LEAST_PATH: Final = 5
_LEAST_GAIN: Final = 1e-5
_MOST_EXPLAINED: Final = 0.999


@dataclass(frozen=True)
class Penalty:
    """Of one model.

    Attributes:
        alpha: Share of the absolute values.
        units: (p,); how much each coefficient weighs; 0 for a constant column.
    """

    alpha: float
    units: Floats

    @property
    def free(self) -> npt.NDArray[np.bool_]:
        """Which coefficients may be other than 0."""
        return self.units > 0

    def absolute(self, lambda_: float | Floats) -> Floats:
        """Weights of the absolute values."""
        return np.asarray(lambda_ * self.alpha * self.units)

    def square(self, lambda_: float | Floats) -> Floats:
        """Weights of half the squares."""
        return np.asarray(lambda_ * (1 - self.alpha) * self.units**2)

    def violation(self, slope: Floats, beta: Floats, lambdas: Floats) -> Floats:
        """Distance from the conditions of the minimum; `slope` and `beta` with the intercept."""
        each = lambdas[:, None]
        off = violation(
            slope[:, 1:], beta[:, 1:], self.absolute(each), self.square(each), self.free
        )
        return np.maximum(off, np.abs(slope[:, 0]))


def step(
    hessian: Floats,
    slope: Floats,
    at: Floats,
    lambda_: float,
    penalty: Penalty,
    *,
    start: Floats | None = None,
) -> Floats:
    """The minimum of the penalised quadratic around `at`; all with the intercept, per person.

    Args:
        hessian: Shape (p, p).
        slope: Shape (p,); of the log-likelihood.
        start: Shape (p,); from where it is looked for, if not from there.
    """
    cross = hessian[0, 1:] / hessian[0, 0]
    curve = hessian[1:, 1:] - np.outer(cross, hessian[0, 1:])
    target = curve @ at[1:] + slope[1:] - cross * slope[0]
    curve[np.diag_indices(len(curve))] += penalty.square(lambda_)
    begin = np.where(penalty.free, (at if start is None else start)[1:], 0.0)
    b = minimise(curve, target, penalty.absolute(lambda_), begin, penalty.free)
    intercept = at[0] + slope[0] / hessian[0, 0] - cross @ (b - at[1:])
    return np.concatenate([[intercept], b])


def path_of(hessian: Floats, slope: Floats, at: Floats, lambdas: Floats, rule: Penalty) -> Floats:
    """The minima of one quadratic at falling lambdas, shape (L, p)."""
    out, start = np.empty((len(lambdas), len(at))), at
    for number, lambda_ in enumerate(lambdas.tolist()):
        out[number] = start = step(hessian, slope, at, lambda_, rule, start=start)
    return out


def between(
    packed: Floats, anchors: npt.NDArray[np.int64], number: int, p: int
) -> npt.NDArray[np.float64]:
    """The matrix at a lambda, between those at the anchors beside it.

    Args:
        packed: Shape (n_anchors, p (p + 1) / 2).
    """
    right = int(np.searchsorted(anchors, number))
    if anchors[right] == number:
        return unpack(packed[right], p)
    low, high = int(anchors[right - 1]), int(anchors[right])
    share = (number - low) / (high - low)
    return unpack((1 - share) * packed[right - 1] + share * packed[right], p)


def spread_of(gram: Floats) -> tuple[Floats, Floats]:
    """Standard deviations with divisor n, and means, of the columns but the first.

    Args:
        gram: Shape (p, p); sums of products; the first column is of ones.
    """
    n = gram[0, 0]
    mean = gram[0, 1:] / n
    variance = np.diag(gram)[1:] / n - mean**2
    return np.sqrt(np.maximum(variance, 0.0)), mean


def units_of(grams: Floats, centre: Floats, *, net: Net) -> tuple[Floats, Floats]:
    """Standard deviations, shape (p,) with the intercept's 1; and `Fit.units`.

    Args:
        grams: Shape (K, p, p); of each fold.
    """
    total = grams.sum(axis=0)
    sd, _ = spread_of(total)
    constant = sd <= 1e-10 * np.abs(centre[1:])
    sd = np.where(constant, 1.0, sd)
    parts = [total] + ([total - one for one in grams] if net.params.folds else [])
    each = np.array([spread_of(one)[0] for one in parts])
    varies = ~constant & (each**2 > _CONSTANT * sd**2)
    wanted = each / sd if net.params.standardize else np.broadcast_to(1 / sd, each.shape)
    return np.concatenate([[1.0], sd]), np.where(varies, wanted, 0.0)


def lambdas_of(slope: Floats, units: Floats, net: Net) -> Floats:
    """As asked, falling; or glmnet's path from the least that leaves no coefficient.

    Args:
        slope: Shape (p,); of the null model, without the intercept.
        units: Shape (p,).
    """
    if net.params.lambdas is not None:
        return np.array(sorted(set(net.params.lambdas), reverse=True))
    free = units > 0
    most = float((np.abs(slope[free]) / units[free]).max(initial=0.0))
    most /= max(net.params.alpha, SMALLEST_ALPHA)
    return np.asarray(most * np.power(RATIO, np.linspace(0, 1, net.params.n_lambdas)))


def end_of_path(explained: Floats, net: Net) -> int:
    """How many lambdas glmnet would go through: until little more of the deviance is explained.

    Args:
        explained: Shape (L,); share of the null deviance.
    """
    if net.params.lambdas is not None:
        return len(explained)
    for number in range(_LEAST_PATH - 1, len(explained)):
        now, before = float(explained[number]), float(explained[number - 1])
        if net.params.family == "poisson":
            before = float(explained[number - _LEAST_PATH + 1])
            little = now > 0 and (now - before) / now < 10 * _LEAST_GAIN
        elif net.gaussian:
            little = now > 0 and (now - before) / now < _LEAST_GAIN
        else:
            little = now - before < _LEAST_GAIN
        if little or now > _MOST_EXPLAINED:
            return number + 1
    return len(explained)
