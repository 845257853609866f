"""Missing values: the methods of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cohortium.core.dictionary import VariableType
from cohortium.sdk.missing_results import MiceResult, MissingResult
from cohortium.sdk.submission import Submits, as_type, listed, names_of, require_whole

Family = Literal["binomial", "gamma", "gaussian", "inverse_gaussian", "poisson"]
Link = Literal["identity", "inverse", "inverse_squared", "log", "logit"]

MOST_TOGETHER = 8
"""Variables whose patterns are counted where nobody says."""


class MissingMethods(Submits):
    """How much is missing, and models of incomplete data."""

    def missing(
        self,
        variables: str | Sequence[str] | None = None,
        by: str | None = None,
        *,
        patterns: bool | None = None,
    ) -> MissingResult:
        """How many persons lack each variable, and which they lack together.

        Args:
            variables: Absent: all.
            by: A category or boolean; missing values of each of its levels too.
            patterns: Count persons by what they lack together, of up to 8 variables; absent: where
                there are not more.

        Raises:
            InputError: An unknown variable; too many for patterns.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        if variables is None:
            usable = [v.name for v in self.variables.values() if v.type is not VariableType.TEXT]
            names = [name for name in usable if name != by]
        else:
            names = names_of("variables", variables)
        together = len(names) <= MOST_TOGETHER if patterns is None else patterns
        params = {"variables": names, "by": by, "patterns": together}
        return as_type(MissingResult, self.submit("missing.pattern", params).result())

    def mice(
        self,
        formula: str,
        family: Family = "gaussian",
        *,
        link: Link | None = None,
        impute: str | Sequence[str] | None = None,
        auxiliary: str | Sequence[str] = (),
        m: int = 5,
        iterations: int = 10,
        seed: int = 1,
    ) -> MiceResult:
        """A generalised linear model of incomplete data, by multiple imputation.

        Args:
            formula: As of `glm`.
            family: As of `glm`; an outcome of another than gaussian or binomial is not imputed.
            link: As of `glm`.
            impute: Absent: every variable of which values are missing. Persons who lack another
                one are left out.
            auxiliary: Variables that are not in the formula and help to impute.
            m: Imputed data sets; as many as the percentage of incomplete persons, White et al.
                2011 say.
            iterations: Of the chained equations; `MiceResult.plot` shows whether they sufficed.
            seed: The same request with the same seed gives the same result.

        Raises:
            InputError: ``bad-formula``, ``bad-input`` where nothing is missing, ``no-convergence``.
            PolicyRefusal: Not permitted, too few persons or too many parameters.
        """
        require_whole("m", m, 2, 50)
        require_whole("iterations", iterations, 1, 50)
        params = {
            "formula": formula,
            "family": family,
            "link": link,
            "impute": listed(impute),
            "auxiliary": listed(auxiliary),
            "m": m,
            "iterations": iterations,
            "seed": seed,
        }
        return as_type(MiceResult, self.submit("missing.mice", params).result())
