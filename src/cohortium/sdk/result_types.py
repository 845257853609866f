"""Which type the result of a computation has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cohortium.core.dictionary import Variable
from cohortium.errors import ProtocolError
from cohortium.sdk.attrition import AttritionResult
from cohortium.sdk.category_results import MultinomialResult, OrdinalResult
from cohortium.sdk.correlation_results import CorrelationResult
from cohortium.sdk.cox_results import CoxResult
from cohortium.sdk.describe import DescribeResult
from cohortium.sdk.elastic_net_results import ElasticNetResult
from cohortium.sdk.evaluate_results import EvaluationResult
from cohortium.sdk.glm import GlmResult
from cohortium.sdk.incidence_results import CumulativeIncidenceResult
from cohortium.sdk.mean_results import AnovaResult, LeveneResult, NormalityResult, TTestResult
from cohortium.sdk.missing_results import MiceResult, MissingResult
from cohortium.sdk.mixed_results import MixedResult
from cohortium.sdk.model_results import NegativeBinomialResult
from cohortium.sdk.pca_results import PcaResult
from cohortium.sdk.propensity_results import PropensityResult
from cohortium.sdk.rank_results import KruskalResult, KsResult, MannWhitneyResult
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.survival_results import GrayResult, KaplanMeierResult, LogrankResult
from cohortium.sdk.table_results import CmhResult, CrosstabResult, McNemarResult
from cohortium.sdk.two_stage_results import MetaEffectResult, MetaModelResult

RESULT_TYPES: Mapping[str, type[Result]] = {
    "causal.propensity": PropensityResult,
    "stats.anova": AnovaResult,
    "stats.levene": LeveneResult,
    "stats.normality": NormalityResult,
    "stats.t_test": TTestResult,
    "stats.attrition": AttritionResult,
    "stats.cmh": CmhResult,
    "stats.crosstab": CrosstabResult,
    "stats.describe": DescribeResult,
    "stats.mcnemar": McNemarResult,
    "stats.meta": MetaEffectResult,
    "stats.correlation": CorrelationResult,
    "stats.kruskal": KruskalResult,
    "stats.ks": KsResult,
    "stats.mann_whitney": MannWhitneyResult,
    "stats.pca": PcaResult,
    "stats.spearman": CorrelationResult,
    "survival.cox": CoxResult,
    "survival.cumulative_incidence": CumulativeIncidenceResult,
    "survival.gray": GrayResult,
    "survival.km": KaplanMeierResult,
    "survival.logrank": LogrankResult,
    "evaluate.model": EvaluationResult,
    "glm": GlmResult,
    "models.multinomial": MultinomialResult,
    "models.ordinal": OrdinalResult,
    "models.negative_binomial": NegativeBinomialResult,
    "models.meta": MetaModelResult,
    "models.elastic_net": ElasticNetResult,
    "models.mixed": MixedResult,
    "missing.mice": MiceResult,
    "missing.pattern": MissingResult,
}


def result_from_wire(
    run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
) -> Result:
    """The typed result of a computation; an unknown computation gives a plain `Result`.

    Raises:
        ProtocolError: ``malformed-message`` where the hub's JSON lacks something.
    """
    try:
        return RESULT_TYPES.get(run.computation, Result)(run, data, variables)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(
            "malformed-message", f"The hub's result of {run.computation} cannot be read."
        ) from error
