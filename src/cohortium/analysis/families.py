"""Exponential families with their canonical links, for one-parameter-per-person models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Family(Protocol):
    """What iteratively reweighted least squares needs; arrays have shape (n_rows,).

    With a canonical link the score is ``X'(y - mean)`` and the information ``X' diag(weight) X``.
    """

    name: ClassVar[str]
    link: ClassVar[str]
    free_scale: ClassVar[bool]

    def start(self, y: Floats) -> Floats:
        """The linear predictor that R's ``glm.fit`` starts from."""
        ...

    def predictor(self, mean: float) -> float:
        """The link of a mean."""
        ...

    def mean(self, eta: Floats) -> Floats:
        """The inverse link."""
        ...

    def weight(self, eta: Floats) -> Floats:
        """The variance function at the mean."""
        ...

    def deviance(self, y: Floats, eta: Floats) -> float:
        """The sum of unit deviances."""
        ...

    def saturated(self, y: Floats) -> float:
        """The log-likelihood of the model that fits each person, up to the scale."""
        ...


class Gaussian:
    """Normal errors, identity link; the scale is estimated."""

    name: ClassVar[str] = "gaussian"
    link: ClassVar[str] = "identity"
    free_scale: ClassVar[bool] = True

    def start(self, y: Floats) -> Floats:
        """See `Family`."""
        return y

    def predictor(self, mean: float) -> float:
        """See `Family`."""
        return mean

    def mean(self, eta: Floats) -> Floats:
        """See `Family`."""
        return eta

    def weight(self, eta: Floats) -> Floats:
        """See `Family`."""
        return np.ones_like(eta)

    def deviance(self, y: Floats, eta: Floats) -> float:
        """See `Family`."""
        residual = y - eta
        return float(residual @ residual)

    def saturated(self, y: Floats) -> float:  # noqa: ARG002
        """Unused: the scale is free."""
        return 0.0


class Binomial:
    """Outcomes 0 and 1, logit link."""

    name: ClassVar[str] = "binomial"
    link: ClassVar[str] = "logit"
    free_scale: ClassVar[bool] = False

    def start(self, y: Floats) -> Floats:
        """Means of 1/4 and 3/4."""
        return np.where(y > 0, math.log(3.0), -math.log(3.0))

    def predictor(self, mean: float) -> float:
        """See `Family`."""
        return math.log(mean / (1.0 - mean))

    def mean(self, eta: Floats) -> Floats:
        """See `Family`; without overflow for any `eta`."""
        small = np.exp(-np.abs(eta))
        return np.where(eta >= 0, 1.0, small) / (1.0 + small)

    def weight(self, eta: Floats) -> Floats:
        """See `Family`; without cancellation for any `eta`."""
        small = np.exp(-np.abs(eta))
        return np.asarray(small / (1.0 + small) ** 2)

    def deviance(self, y: Floats, eta: Floats) -> float:
        """See `Family`."""
        wrong = np.where(y > 0, -eta, eta)
        return 2.0 * float((np.maximum(wrong, 0.0) + np.log1p(np.exp(-np.abs(wrong)))).sum())

    def saturated(self, y: Floats) -> float:  # noqa: ARG002
        """Each outcome has probability 1."""
        return 0.0


class Poisson:
    """Counts, log link."""

    name: ClassVar[str] = "poisson"
    link: ClassVar[str] = "log"
    free_scale: ClassVar[bool] = False

    _MAX_ETA = 50.0
    """A step this far is one that the hub takes back; its sums still fit the masked ring."""

    def start(self, y: Floats) -> Floats:
        """See `Family`."""
        return np.log(y + 0.1)

    def predictor(self, mean: float) -> float:
        """See `Family`."""
        return math.log(mean)

    def mean(self, eta: Floats) -> Floats:
        """See `Family`."""
        return np.exp(np.minimum(eta, self._MAX_ETA))

    def weight(self, eta: Floats) -> Floats:
        """See `Family`."""
        return self.mean(eta)

    def deviance(self, y: Floats, eta: Floats) -> float:
        """See `Family`."""
        eta = np.minimum(eta, self._MAX_ETA)
        logs = y * (np.log(np.where(y > 0, y, 1.0)) - eta)
        return 2.0 * float((logs - (y - np.exp(eta))).sum())

    def saturated(self, y: Floats) -> float:
        """See `Family`."""
        values, persons = np.unique(y, return_counts=True)
        terms = [
            float(count) * ((k * math.log(k) if k > 0 else 0.0) - k - math.lgamma(k + 1.0))
            for k, count in zip(values.tolist(), persons.tolist(), strict=True)
        ]
        return math.fsum(terms)


FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (Binomial(), Gaussian(), Poisson())
}
