"""Choices of ``cohortium run STUDY glm``."""

from __future__ import annotations

from enum import StrEnum


class Family(StrEnum):
    """Distributions of the response."""

    binomial = "binomial"
    gamma = "gamma"
    gaussian = "gaussian"
    poisson = "poisson"


class Link(StrEnum):
    """Links of gamma."""

    inverse = "inverse"
    log = "log"


class StandardErrors(StrEnum):
    """See ``Study.glm``."""

    model = "model"
    HC0 = "HC0"
    HC1 = "HC1"
    HC2 = "HC2"
    HC3 = "HC3"
    site = "site"
