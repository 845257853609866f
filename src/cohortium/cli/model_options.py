"""Choices of ``cohortium run STUDY glm``."""

from __future__ import annotations

from enum import StrEnum


class Family(StrEnum):
    """Distributions of the response."""

    binomial = "binomial"
    gamma = "gamma"
    gaussian = "gaussian"
    inverse_gaussian = "inverse_gaussian"
    poisson = "poisson"


class Link(StrEnum):
    """Links of gamma and inverse_gaussian."""

    inverse = "inverse"
    inverse_squared = "inverse_squared"
    log = "log"


class StandardErrors(StrEnum):
    """See ``Study.glm``."""

    model = "model"
    HC0 = "HC0"
    HC1 = "HC1"
    HC2 = "HC2"
    HC3 = "HC3"
    site = "site"
