"""The limits on what may come out; the stricter of contract and site policy wins."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from cohortium.core.model import Document
from cohortium.errors import PolicyRefusal

PERSONS_PER_PARAMETER: Final = 10
RESIDUAL_DF: Final = 10

Persons = Annotated[int, Field(ge=1, le=1_000_000)]


class Dominance(Document):
    """The (n, k) rule: a sum is withheld where its n largest contributors are more than k % of it.

    Reference: Hundepool et al. 2012, Statistical Disclosure Control, ch. 4.2.
    """

    largest: Annotated[int, Field(ge=1, le=100)] = 1
    percent: Annotated[float, Field(gt=0, lt=100)] = 80.0


class Disclosure(Document):
    """The contract's (or a site policy's) limits on what may come out.

    What is absent has the default that the property of the same purpose gives.

    Attributes:
        min_cell: Smallest number of persons that a released number may rest on.
        floor: ``site``: a site with fewer than `min_cell` persons of its own in a cohort or group
            contributes zeros to it. ``total``: every site contributes and the floor is on the
            total, which is checked before anything but the count is asked for.
        min_cohort: Fewest persons in a cohort about which anything is computed; absent: `min_cell`.
        dominance: Sums that few persons make up; absent: no rule.
        persons_per_parameter: Fewest persons for each parameter of a model; absent: 10.
        residual_df: Fewest residual degrees of freedom of a model; absent: 10.
        min_at_risk: Fewest persons at risk where a survival curve is shown; absent: `min_cell`.
        quantile_tail: Fewest persons on either side of a quantile; absent: `min_cell`.
        max_levels: Most levels of a category that is tabulated; absent: as many as it declares.
        rounding: Counts of persons are released rounded to multiples of this; absent: exactly.
        by_site: Whether numbers of single institutions may be released; absent: no.
    """

    min_cell: Persons = 5
    floor: Literal["site", "total"] = "site"
    min_cohort: Persons | None = None
    dominance: Dominance | None = None
    persons_per_parameter: Annotated[int, Field(ge=1, le=1000)] | None = None
    residual_df: Annotated[int, Field(ge=1, le=10_000)] | None = None
    min_at_risk: Persons | None = None
    quantile_tail: Persons | None = None
    max_levels: Annotated[int, Field(ge=2, le=1000)] | None = None
    rounding: Annotated[int, Field(ge=2, le=1000)] | None = None
    by_site: bool | None = None

    @property
    def cohort(self) -> int:
        """Fewest persons in a cohort."""
        return max(self.min_cell, self.min_cohort or 0)

    @property
    def at_risk(self) -> int:
        """Fewest persons at risk."""
        return max(self.min_cell, self.min_at_risk or 0)

    @property
    def tail(self) -> int:
        """Fewest persons on either side of a quantile."""
        return max(self.min_cell, self.quantile_tail or 0)

    @property
    def per_parameter(self) -> int:
        """Fewest persons for each parameter of a model."""
        return self.persons_per_parameter or PERSONS_PER_PARAMETER

    @property
    def df(self) -> int:
        """Fewest residual degrees of freedom of a model."""
        return self.residual_df or RESIDUAL_DF

    def shown(self, persons: int) -> int:
        """A count of persons as it is released."""
        return rounded(persons, self.rounding)

    def require_cohort(self, persons: int) -> None:
        """Refuse to compute anything about fewer persons than `cohort`.

        Raises:
            PolicyRefusal: ``too-few-persons``.
        """
        if persons < self.cohort:
            raise PolicyRefusal(
                "too-few-persons",
                f"Fewer than {self.cohort} persons are in the cohort with the values needed.",
            )

    def require_exact(self) -> None:
        """Refuse what says exact numbers of persons where they are released rounded.

        Raises:
            PolicyRefusal: ``not-permitted``.
        """
        if self.rounding is not None:
            raise PolicyRefusal(
                "not-permitted",
                "Numbers of persons are released rounded here; statistics, degrees of freedom and "
                "standard errors would give the exact ones. "
                "Describe or tabulate instead.",
            )

    def require_levels(self, name: str, levels: int) -> None:
        """Refuse to tabulate a category of more than `max_levels` levels.

        Raises:
            PolicyRefusal: ``too-many-levels``.
        """
        if self.max_levels is not None and levels > self.max_levels:
            raise PolicyRefusal(
                "too-many-levels",
                f"{name} has {levels} levels; at most {self.max_levels} are tabulated. "
                "Derive a variable with fewer.",
            )

    def stricter(self, other: Disclosure) -> Disclosure:
        """The limits that satisfy both."""
        rules = [one for one in (self.dominance, other.dominance) if one is not None]
        return Disclosure(
            min_cell=max(self.min_cell, other.min_cell),
            floor="site" if "site" in {self.floor, other.floor} else "total",
            min_cohort=_most(self.min_cohort, other.min_cohort),
            dominance=_strictest(rules),
            persons_per_parameter=_most(self.persons_per_parameter, other.persons_per_parameter),
            residual_df=_most(self.residual_df, other.residual_df),
            min_at_risk=_most(self.min_at_risk, other.min_at_risk),
            quantile_tail=_most(self.quantile_tail, other.quantile_tail),
            max_levels=_least(self.max_levels, other.max_levels),
            rounding=_most(self.rounding, other.rounding),
            by_site=self.by_site if other.by_site else other.by_site,
        )


def rounded(count: int, base: int | None) -> int:
    """The nearest multiple of `base`, halves up; the count itself where there is no base."""
    return count if base is None else (2 * count + base) // (2 * base) * base


def _most(one: int | None, other: int | None) -> int | None:
    given = [value for value in (one, other) if value is not None]
    return max(given, default=None)


def _least(one: int | None, other: int | None) -> int | None:
    given = [value for value in (one, other) if value is not None]
    return min(given, default=None)


def _strictest(rules: list[Dominance]) -> Dominance | None:
    """A rule that implies each: of as many contributors, at most the least share."""
    if not rules:
        return None
    return Dominance(
        largest=max(rule.largest for rule in rules), percent=min(rule.percent for rule in rules)
    )
