"""Every analysis as a method: what a study and a cohort of it have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from cohortium.sdk.causal import CausalMethods
from cohortium.sdk.correlation import CorrelationMethods
from cohortium.sdk.cox import CoxMethods
from cohortium.sdk.describe import DescribeResult
from cohortium.sdk.elastic_net import ElasticNetMethods
from cohortium.sdk.evaluate import EvaluateMethods
from cohortium.sdk.glm import GlmResult
from cohortium.sdk.means import MeanMethods
from cohortium.sdk.missing import MissingMethods
from cohortium.sdk.mixed import MixedMethods
from cohortium.sdk.models import ModelMethods
from cohortium.sdk.pca import PcaMethods
from cohortium.sdk.ranks import RankMethods
from cohortium.sdk.submission import as_type, listed
from cohortium.sdk.survival import SurvivalMethods
from cohortium.sdk.table_one import TableOneMethods
from cohortium.sdk.tables import TableMethods
from cohortium.sdk.two_stage import MetaMethods

Family = Literal["binomial", "gamma", "gaussian", "inverse_gaussian", "poisson"]
Link = Literal["identity", "inverse", "inverse_squared", "log", "logit"]
StandardErrors = Literal["model", "HC0", "HC1", "HC2", "HC3", "site"]


class Analyses(
    CausalMethods,
    CorrelationMethods,
    CoxMethods,
    ElasticNetMethods,
    EvaluateMethods,
    MeanMethods,
    MissingMethods,
    MetaMethods,
    ModelMethods,
    MixedMethods,
    PcaMethods,
    RankMethods,
    SurvivalMethods,
    TableMethods,
    TableOneMethods,
):
    """The analyses that a contract may permit."""

    def describe(
        self,
        variables: str | Sequence[str],
        by: str | None = None,
        quantiles: Iterable[float] = (0.25, 0.5, 0.75),
    ) -> DescribeResult:
        """Descriptive statistics of the pooled data, overall or by the levels of `by`.

        Raises:
            InputError: An unknown variable, a quantile outside (0, 1).
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {"variables": listed(variables), "by": by, "quantiles": quantiles}
        return as_type(DescribeResult, self.submit("stats.describe", params).result())

    def glm(
        self,
        formula: str,
        family: Family = "binomial",
        *,
        link: Link | None = None,
        offset: str | None = None,
        weights: str | None = None,
        errors: StandardErrors = "model",
    ) -> GlmResult:
        """A generalised linear model, fitted on the pooled data.

        Args:
            formula: An R formula over the study's variables: ``died ~ age * sex + log(ldh)``.
            family: binomial (logit), gamma (inverse), gaussian (identity), inverse_gaussian
                (inverse_squared) or poisson (log).
            link: Of gamma inverse or log, of inverse_gaussian inverse_squared (1 / mean²) or log;
                the others have the link above.
            offset: A number that is added to the linear predictor, such as the log of a time.
            weights: A whole number from 1: how many times each person counts.
            errors: Standard errors of the model, robust ones (HC0 to HC3), or clustered by site,
                which takes five sites.

        Raises:
            InputError: ``bad-formula``, ``no-convergence``.
            PolicyRefusal: Not permitted, too few persons or too many parameters.
        """
        params = {
            "formula": formula,
            "family": family,
            "link": link,
            "offset": offset,
            "weights": weights,
            "errors": None if errors == "model" else errors,
        }
        return as_type(GlmResult, self.submit("glm", params).result())
