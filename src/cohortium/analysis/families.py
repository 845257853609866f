"""Exponential families with their links, for one-parameter-per-person models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Family(Protocol):
    """What iteratively reweighted least squares needs; arrays have shape (n_rows,).

    The score is ``X' residual`` and the expected information ``X' diag(weight) X``. `times` is how
    often each person counts; None: once.

    Attributes:
        free_scale: Whether a dispersion is estimated.
        canonical: Whether the expected information is the observed one.
        bounded: Whether some linear predictors have no mean.
    """

    name: ClassVar[str]
    link: ClassVar[str]
    free_scale: ClassVar[bool]
    canonical: ClassVar[bool]
    bounded: ClassVar[bool]

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
        """The squared slope of the inverse link over the variance function, at the mean."""
        ...

    def inside(self, eta: Floats) -> npt.NDArray[np.bool_]:
        """Which linear predictors have a mean."""
        ...

    def residual(self, y: Floats, eta: Floats) -> Floats:
        """The slope of each person's log-likelihood along `eta`, up to the scale."""
        ...

    def observed(self, y: Floats, eta: Floats) -> Floats:
        """The fall of that slope along `eta`."""
        ...

    def pearson(self, y: Floats, eta: Floats) -> Floats:
        """Squared distances from the mean over the variance function."""
        ...

    def deviance(self, y: Floats, eta: Floats, times: Floats | None = None) -> float:
        """The sum of unit deviances."""
        ...

    def saturated(self, y: Floats, times: Floats | None = None) -> float:
        """The log-likelihood of the model that fits each person, up to the scale; of gamma and
        inverse Gaussian, the sum of the logarithms.
        """
        ...


class _Canonical:
    """What canonical links have in common."""

    canonical: ClassVar[bool] = True
    bounded: ClassVar[bool] = False

    def mean(self, eta: Floats) -> Floats:
        """See `Family`."""
        raise NotImplementedError

    def weight(self, eta: Floats) -> Floats:
        """See `Family`."""
        raise NotImplementedError

    def inside(self, eta: Floats) -> npt.NDArray[np.bool_]:
        """See `Family`."""
        return np.isfinite(eta)

    def residual(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return y - self.mean(eta)

    def observed(self, y: Floats, eta: Floats) -> Floats:  # noqa: ARG002
        """See `Family`."""
        return self.weight(eta)

    def pearson(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return np.asarray(np.square(y - self.mean(eta)) / self.weight(eta))


class Gaussian(_Canonical):
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

    def deviance(self, y: Floats, eta: Floats, times: Floats | None = None) -> float:
        """See `Family`."""
        residual = y - eta
        return float(residual @ (residual if times is None else times * residual))

    def saturated(self, y: Floats, times: Floats | None = None) -> float:  # noqa: ARG002
        """Unused: the scale is free."""
        return 0.0


class Binomial(_Canonical):
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

    def deviance(self, y: Floats, eta: Floats, times: Floats | None = None) -> float:
        """See `Family`."""
        wrong = np.where(y > 0, -eta, eta)
        unit = np.maximum(wrong, 0.0) + np.log1p(np.exp(-np.abs(wrong)))
        return 2.0 * _total(unit, times)

    def saturated(self, y: Floats, times: Floats | None = None) -> float:  # noqa: ARG002
        """Each outcome has probability 1."""
        return 0.0


class Poisson(_Canonical):
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

    def deviance(self, y: Floats, eta: Floats, times: Floats | None = None) -> float:
        """See `Family`."""
        eta = np.minimum(eta, self._MAX_ETA)
        logs = y * (np.log(np.where(y > 0, y, 1.0)) - eta)
        return 2.0 * _total(logs - (y - np.exp(eta)), times)

    def saturated(self, y: Floats, times: Floats | None = None) -> float:
        """See `Family`."""
        values, at = np.unique(y, return_inverse=True)
        persons = np.bincount(at, times, minlength=len(values))
        terms = [
            float(count) * ((k * math.log(k) if k > 0 else 0.0) - k - math.lgamma(k + 1.0))
            for k, count in zip(values.tolist(), persons.tolist(), strict=True)
        ]
        return math.fsum(terms)


class GammaInverse:
    """Positive numbers whose standard deviation is a share of their mean; link 1 / mean.

    The residual is against `eta`, of which the mean is a falling function.
    """

    name: ClassVar[str] = "gamma"
    link: ClassVar[str] = "inverse"
    free_scale: ClassVar[bool] = True
    canonical: ClassVar[bool] = True
    bounded: ClassVar[bool] = True

    _LEAST = 1e-12

    def start(self, y: Floats) -> Floats:
        """See `Family`."""
        return 1.0 / y

    def predictor(self, mean: float) -> float:
        """See `Family`."""
        return 1.0 / mean

    def inside(self, eta: Floats) -> npt.NDArray[np.bool_]:
        """See `Family`."""
        return eta > self._LEAST

    def mean(self, eta: Floats) -> Floats:
        """See `Family`; 1 where there is none."""
        return 1.0 / np.where(self.inside(eta), eta, 1.0)

    def weight(self, eta: Floats) -> Floats:
        """See `Family`."""
        return np.square(self.mean(eta))

    def residual(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return self.mean(eta) - y

    def observed(self, y: Floats, eta: Floats) -> Floats:  # noqa: ARG002
        """See `Family`."""
        return self.weight(eta)

    def pearson(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return np.square(y / self.mean(eta) - 1.0)

    def deviance(self, y: Floats, eta: Floats, times: Floats | None = None) -> float:
        """See `Family`."""
        return 2.0 * _total(_gamma(y / self.mean(eta)), times)

    def saturated(self, y: Floats, times: Floats | None = None) -> float:
        """See `Family`."""
        return _total(np.log(y), times)


class _LogLink:
    """Link log of positive numbers, before the family's own; not the canonical one."""

    link: ClassVar[str] = "log"
    canonical: ClassVar[bool] = False
    bounded: ClassVar[bool] = False

    _FAR = 40.0

    def start(self, y: Floats) -> Floats:
        """See `Family`."""
        return np.log(y)

    def predictor(self, mean: float) -> float:
        """See `Family`."""
        return math.log(mean)

    def mean(self, eta: Floats) -> Floats:
        """See `Family`; as of poisson, cut where a step is taken back."""
        return np.exp(np.clip(eta, -self._FAR, self._FAR))


class GammaLog(_LogLink, GammaInverse):
    """The same with link log; the observed information is not the expected one."""

    def weight(self, eta: Floats) -> Floats:
        """See `Family`."""
        return np.ones_like(eta)

    def residual(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return y / self.mean(eta) - 1.0

    def observed(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return y / self.mean(eta)


class InverseGaussianSquared(GammaInverse):
    """Positive numbers whose variance is a multiple of the cubed mean; link 1 / mean²."""

    name: ClassVar[str] = "inverse_gaussian"
    link: ClassVar[str] = "inverse_squared"

    def start(self, y: Floats) -> Floats:
        """See `Family`."""
        return 1.0 / np.square(y)

    def predictor(self, mean: float) -> float:
        """See `Family`."""
        return 1.0 / mean**2

    def mean(self, eta: Floats) -> Floats:
        """See `Family`; 1 where there is none."""
        return 1.0 / np.sqrt(np.where(self.inside(eta), eta, 1.0))

    def weight(self, eta: Floats) -> Floats:
        """See `Family`."""
        return self.mean(eta) ** 3 / 4.0

    def residual(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        return (self.mean(eta) - y) / 2.0

    def pearson(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        mean = self.mean(eta)
        return np.asarray(np.square(y / mean - 1.0) / mean)

    def deviance(self, y: Floats, eta: Floats, times: Floats | None = None) -> float:
        """See `Family`."""
        return _total(np.square(y / self.mean(eta) - 1.0) / y, times)


class InverseGaussianLog(_LogLink, InverseGaussianSquared):
    """The same with link log; the observed information is not the expected one."""

    def weight(self, eta: Floats) -> Floats:
        """See `Family`."""
        return 1.0 / self.mean(eta)

    def residual(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`."""
        mean = self.mean(eta)
        return np.asarray((y / mean - 1.0) / mean)

    def observed(self, y: Floats, eta: Floats) -> Floats:
        """See `Family`; may be negative."""
        mean = self.mean(eta)
        return np.asarray((2.0 * y / mean - 1.0) / mean)


def _gamma(ratio: Floats) -> Floats:
    """Half the unit deviance, of outcome over mean; without cancellation near 1."""
    off = ratio - 1.0
    near = np.abs(off) < 0.5
    return np.asarray(off - np.where(near, np.log1p(np.where(near, off, 0.0)), np.log(ratio)))


def _total(values: Floats, times: Floats | None) -> float:
    return float(values.sum() if times is None else values @ times)


FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (Binomial(), Gaussian(), Poisson())
}
"""Each with its canonical link."""
LINKS: Mapping[tuple[str, str], Family] = {
    (family.name, family.link): family
    for family in (
        *FAMILIES.values(),
        GammaInverse(),
        GammaLog(),
        InverseGaussianSquared(),
        InverseGaussianLog(),
    )
}
DEFAULT_LINKS: Mapping[str, str] = {
    "binomial": "logit",
    "gamma": "inverse",
    "gaussian": "identity",
    "inverse_gaussian": "inverse_squared",
    "poisson": "log",
}
