"""What a sum with discrete Gaussian noise costs of a privacy budget (epsilon, delta).

Each site adds noise N_Z(0, sigma^2) of its own to the integers that it contributes; the sum over
all carries the noise of all. The parameters and their units:

    clip         largest L2 norm of what the protected unit adds to a sum, in the analysis's units
    scale        integers per unit: 2^f for a field with f fraction bits, 1 for a count
    sigma        parameter of one site's noise, in the analysis's units (times scale: in integers)
    shares       n, the sites whose noise is surely in the sum and unknown to who looks at it
    multiplier   z: a sum is as private as one with Gaussian noise of deviation z * clip

Rounding to integers moves each component by less than 1, whatever the data and the rounding's own
randomness, so that d rounded components add at most sqrt(d) to the norm. That bound needs no
condition on the rounding and costs little: with 10^6 components of 20 fraction bits, 0.1 % of a
clip of 1.

A sum of discrete Gaussians is nearly, not exactly, a discrete Gaussian. Kairouz, Liu and Steinke,
"The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation", ICML
2021 (arXiv 2102.06387), bound the difference by tau, and the privacy of the sum over d components,
at sensitivity D and sigma >= 1/2 (both in integers), in Theorem 1 and Proposition 14:

    tau = 10 * sum over k = 1 .. n-1 of exp(-2 pi^2 sigma^2 k / (k + 1))
    rho = (D / (sqrt(n) sigma) + tau sqrt(d))^2 / 2           zero-concentrated DP (zCDP)

Where components have different scales, each has its own tau, and the norm of these numbers takes
the place of tau sqrt(d): the bound of one component, added up over components by Minkowski.

Noise beyond the n shares only helps. Composition over sums and the conversion to (epsilon, delta)
are those of the library dp-accounting (the extra ``dp``).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cohortium.errors import InputError

LEAST_SIGMA: Final = 0.5
"""In integers: below it the paper's bound does not hold."""

_DIGITS: Final = 6
_ORDERS: Final = tuple(1.0 + 10.0 ** (power / 16) for power in range(-32, 97))
"""Renyi orders from 1.01 to 10^6, so that small budgets are converted well too."""


class Part(NamedTuple):
    """One field of a contribution.

    Attributes:
        size: Components.
        scale: Integers per unit.
        rounded: Whether its values are rounded to integers at that scale.
    """

    size: int
    scale: float
    rounded: bool


def tau(sigma: float, shares: int) -> float:
    """How far the log-probabilities of a sum of discrete Gaussians are from a discrete Gaussian's.

    Args:
        sigma: Of one share, in integers; at least 1/2.
        shares: How many are summed.
    """
    _check_sigma(sigma)
    exponents = (-2.0 * (math.pi * sigma) ** 2 * k / (k + 1) for k in range(1, shares))
    return 10.0 * math.fsum(map(math.exp, exponents))


def sensitivity(clip: float, parts: Sequence[Part]) -> float:
    """The L2 norm, in the analysis's units, of what a unit can change after rounding."""
    return clip + math.sqrt(sum(part.size / part.scale**2 for part in parts if part.rounded))


def zcdp(clip: float, parts: Sequence[Part], sigma: float, shares: int) -> float:
    """The rho of one sum: zero-concentrated differential privacy (Bun and Steinke 2016).

    Args:
        clip: L2 bound over all parts together.
        parts: The fields of the contribution; each gets noise of the same sigma in its units.
        sigma: Of one share, in the analysis's units.
        shares: Noise that is surely in the sum.
    """
    squares = (part.size * tau(sigma * part.scale, shares) ** 2 for part in parts)
    inexact = math.sqrt(math.fsum(squares))
    return 0.5 * (sensitivity(clip, parts) / (math.sqrt(shares) * sigma) + inexact) ** 2


def share_sigma(multiplier: float, clip: float, parts: Sequence[Part], shares: int) -> float:
    """The least sigma, in the analysis's units, with which a sum costs at most 1 / (2 z^2).

    Every sum then costs the same, whatever its length, fields and number of sites.

    Returns:
        Within 10^-6 above the least, which is ``z * sensitivity / sqrt(shares)`` where tau is 0.
    """
    target = 0.5 / multiplier**2
    floor = LEAST_SIGMA / min(part.scale for part in parts)
    exact = multiplier * sensitivity(clip, parts) / math.sqrt(shares)
    low = max(exact * (1 + 1e-12), floor)  # above what floating-point numbers may lose
    if zcdp(clip, parts, low, shares) <= target:
        return low
    high = 2 * low
    while zcdp(clip, parts, high, shares) > target:
        low, high = high, 2 * high
    while high > low * (1 + 1e-6):
        middle = (low + high) / 2
        if zcdp(clip, parts, middle, shares) > target:
            low = middle
        else:
            high = middle
    return high


def epsilon(multiplier: float, sums: int, delta: float) -> float:
    """The epsilon that so many sums have cost together, at this delta.

    Args:
        multiplier: The z of each of them.
        sums: 0, 1, ...
        delta: From 0 to 1.

    Raises:
        InputError: ``missing-extra``.
    """
    return _epsilon_of(0.5 / multiplier**2, sums, delta) if sums else 0.0


def noise_multiplier(epsilon: float, delta: float, sums: int) -> float:
    """The least z with which `sums` sums stay within (epsilon, delta), to six digits.

    Raises:
        InputError: ``missing-extra``; ``bad-input`` where no noise does it.
    """
    low, high = 1e-12, 1e6  # rho of all sums together
    if not _epsilon_of(low, 1, delta) <= epsilon <= _epsilon_of(high, 1, delta):
        raise InputError(
            "bad-input", f"No noise gives epsilon {epsilon:g} at delta {delta:g}; choose others."
        )
    for _ in range(100):
        middle = math.sqrt(low * high)
        if _epsilon_of(middle, 1, delta) <= epsilon:
            low = middle
        else:
            high = middle
    exact = math.sqrt(0.5 * sums / low)
    step = 10.0 ** (math.floor(math.log10(exact)) + 1 - _DIGITS)
    return float(f"{(math.floor(exact / step) + 1) * step:.{_DIGITS}g}")


def require_accountant() -> Any:
    """The library dp-accounting.

    Raises:
        InputError: ``missing-extra``.
    """
    try:
        import dp_accounting.rdp
        from absl import logging
    except ImportError as error:
        raise InputError(
            "missing-extra", "A privacy budget needs: pip install 'cohortium[dp]'"
        ) from error
    # The handler that absl makes on import closes the stream that was standard error then, as soon
    # as anybody configures logging; the process's own it leaves alone.
    logging.get_absl_handler().python_handler.setStream(sys.__stderr__)
    return dp_accounting


def _epsilon_of(rho: float, sums: int, delta: float) -> float:
    library = require_accountant()
    accountant = library.rdp.RdpAccountant(_ORDERS)
    accountant.compose(library.ZCDpEvent(rho), sums)
    return float(accountant.get_epsilon(delta))


def _check_sigma(sigma: float) -> None:
    if not sigma >= LEAST_SIGMA:
        raise RuntimeError(f"sigma must be at least {LEAST_SIGMA} in integers, not {sigma}")
