"""A linear model with a random intercept for each institution, from means and products.

Everything here is a function of each institution's persons and means and of the joint products of
distances from them: the sufficient statistics of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.least_squares import inverse, solve

Floats = npt.NDArray[np.float64]
Method = Literal["REML", "ML"]

_GRID: Final = np.logspace(-8, 10, 181)
"""Variance ratios among which maxima are looked for, times the mean number of persons of a site."""


@dataclass(frozen=True)
class Sufficient:
    """K institutions, p columns of which the first is of ones, and the outcome last.

    Attributes:
        persons: (K,); more than 0.
        means: (K, p); of the columns after the first, and of the outcome.
        within: (p, p); joint sums of products of their distances from the institution's means.
    """

    persons: Floats
    means: Floats
    within: Floats

    @property
    def n(self) -> float:
        """Persons."""
        return float(self.persons.sum())

    @cached_property
    def centre(self) -> Floats:
        """Joint means, shape (p,)."""
        return np.asarray(self.persons @ self.means / self.n)

    @cached_property
    def total(self) -> Floats:
        """Products of distances from the joint means, shape (p, p)."""
        apart = self.means - self.centre
        return np.asarray(self.within + (apart.T * self.persons) @ apart)


@dataclass(frozen=True)
class Fit:
    """At one ratio theta of the variance between institutions to that within.

    Attributes:
        beta: (p,); of standardised columns and outcome, as is everything here.
        information: (p, p); X'V^-1 X in units of the variance within.
        rest: (K,); what the columns leave of the institutions' means.
        squares: Weighted sum of squared residuals.
    """

    theta: float
    weights: Floats
    beta: Floats
    information: Floats
    rest: Floats
    squares: float


class Profile:
    """The likelihood as a function of theta alone."""

    def __init__(self, sums: Sufficient, method: Method) -> None:
        self.sums = sums
        self.spread = np.sqrt(np.diag(sums.total) / sums.n)
        within = sums.within / np.outer(self.spread, self.spread)
        means = (sums.means - sums.centre) / self.spread
        k, p = means.shape
        self._x = np.column_stack([np.ones(k), means[:, :-1]])
        self._y = means[:, -1]
        self._within = np.zeros((p, p))
        self._within[1:, 1:] = within[:-1, :-1]
        self._cross = np.concatenate([[0.0], within[:-1, -1]])
        self._outcome = float(within[-1, -1])
        self.reml = method == "REML"
        self.df = sums.n - p if self.reml else sums.n

    def at(self, theta: float) -> Fit:
        """Generalised least squares, in the form that does not cancel."""
        w = self.sums.persons / (1 + self.sums.persons * theta)
        information = self._within + (self._x.T * w) @ self._x
        beta = solve(information, self._cross + self._x.T @ (w * self._y))
        rest = self._y - self._x @ beta
        squares = self._outcome - 2 * beta @ self._cross + beta @ self._within @ beta
        left = max(0.0, float(squares)) + float(w @ rest**2)
        return Fit(theta, w, beta, information, rest, left)

    def criterion(self, theta: float) -> float:
        """Minus twice the profile log-likelihood, without constants."""
        fit = self.at(theta)
        value = self.df * math.log(fit.squares / self.df)
        value += float(np.log1p(self.sums.persons * theta).sum())
        return value + (self._log_determinant(fit) if self.reml else 0.0)

    def slope(self, theta: float) -> float:
        """Its derivative."""
        fit = self.at(theta)
        w2 = fit.weights**2
        value = float(fit.weights.sum()) - self.df * float(w2 @ fit.rest**2) / fit.squares
        if self.reml:
            hat = np.einsum("ij,jk,ik->i", self._x, inverse(fit.information), self._x)
            value -= float(w2 @ hat)
        return value

    def best(self) -> Fit:
        """The ratio of the largest likelihood: of the roots of its slope, and 0."""
        from scipy.optimize import brentq

        unit = len(self.sums.persons) / self.sums.n
        found = [0.0, *roots(self.slope, [0.0, *(unit * _GRID).tolist()], brentq)]
        return self.at(min(found, key=self.criterion))

    def log_likelihood(self, theta: float) -> float:
        """With its constants, of the outcome in its own unit."""
        value = self.criterion(theta) + self.df * (math.log(2 * math.pi) + 1)
        value += 2 * self.df * math.log(self.spread[-1])
        if self.reml:
            value += 2 * float(np.log(self.spread[:-1]).sum())
        return -0.5 * value

    def _log_determinant(self, fit: Fit) -> float:
        unit = 1 / np.sqrt(np.diag(fit.information))
        root = np.linalg.cholesky(fit.information * np.outer(unit, unit))
        return 2 * float(np.log(np.diag(root)).sum()) - 2 * float(np.log(unit).sum())


def roots(
    slope: Callable[[float], float], at: list[float], solver: Callable[..., float]
) -> list[float]:
    """Where the slope goes from below 0 to above: minima."""
    values = [slope(one) for one in at]
    return [
        float(solver(slope, low, high, xtol=1e-300, rtol=1e-14, maxiter=500))
        for low, high, before, after in zip(at, at[1:], values, values[1:], strict=False)
        if before < 0 <= after
    ]
