"""Cohortium: institutions run studies on their joint data while no record leaves its institution.

    import cohortium as co

    fed = co.local({"north": frame, "south": other})   # a whole federation in this process
    fed = co.connect()                                 # or the hub of your profile
    study = fed.study()
    study.describe(["age", "wt_loss"], by="sex").to_frame()
    fit = study.glm("dead ~ age + sex", family="binomial")

Everything here is imported when it is first used, so that a node does not carry the libraries of
a notebook. Each error has a stable ``code`` and a message that says what to do next:

    CohortiumError
    ├── InputError          the caller asked for something that cannot be understood or found
    ├── PolicyRefusal       a contract, a site's policy or disclosure control says no
    ├── VerificationError   a signature, certificate, digest or other evidence does not hold
    ├── ProtocolError       a party sent something that its step of the protocol does not allow
    ├── PeerError           another process is unreachable, too slow or too few answered
    ├── ConflictError       the request does not fit the present state
    └── IntegrityFailure    our own state contradicts itself: stop
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cohortium.version import __version__

if TYPE_CHECKING:
    from cohortium.errors import (
        CohortiumError,
        ConflictError,
        InputError,
        IntegrityFailure,
        PeerError,
        PolicyRefusal,
        ProtocolError,
        VerificationError,
    )
    from cohortium.inprocess.federation import LocalFederation, local
    from cohortium.sdk.attrition import AttritionResult
    from cohortium.sdk.category_results import MultinomialResult, OrdinalResult
    from cohortium.sdk.cohort import Cohort
    from cohortium.sdk.correlation_results import CorrelationResult
    from cohortium.sdk.describe import DescribeResult
    from cohortium.sdk.elastic_net_results import ElasticNetResult
    from cohortium.sdk.evaluate import PublishedModel
    from cohortium.sdk.evaluate_results import EvaluationResult
    from cohortium.sdk.federation import Federation, connect
    from cohortium.sdk.glm import GlmResult
    from cohortium.sdk.glm_tests import anova
    from cohortium.sdk.hypothesis import HypothesisTest
    from cohortium.sdk.mean_results import AnovaResult, LeveneResult, NormalityResult, TTestResult
    from cohortium.sdk.meta import meta_analysis
    from cohortium.sdk.meta_results import MetaAnalysis
    from cohortium.sdk.mixed_results import MixedResult
    from cohortium.sdk.model_results import NegativeBinomialResult
    from cohortium.sdk.multiple import adjust_p
    from cohortium.sdk.pca_results import PcaResult
    from cohortium.sdk.power import power_logrank, power_means, power_proportions
    from cohortium.sdk.power_results import PowerAnalysis
    from cohortium.sdk.propensity_results import PropensityResult
    from cohortium.sdk.rank_results import KruskalResult, KsResult, MannWhitneyResult
    from cohortium.sdk.report import Report
    from cohortium.sdk.results import Result
    from cohortium.sdk.run import Run
    from cohortium.sdk.run_info import RunInfo
    from cohortium.sdk.study import Study
    from cohortium.sdk.table_one import Differences, TableOne
    from cohortium.sdk.table_results import CmhResult, CrosstabResult, McNemarResult
    from cohortium.sdk.two_stage_results import MetaEffectResult, MetaModelResult

_HOMES = {
    "AnovaResult": "cohortium.sdk.mean_results",
    "AttritionResult": "cohortium.sdk.attrition",
    "CmhResult": "cohortium.sdk.table_results",
    "Cohort": "cohortium.sdk.cohort",
    "CohortiumError": "cohortium.errors",
    "ConflictError": "cohortium.errors",
    "CorrelationResult": "cohortium.sdk.correlation_results",
    "CrosstabResult": "cohortium.sdk.table_results",
    "DescribeResult": "cohortium.sdk.describe",
    "Differences": "cohortium.sdk.table_one",
    "ElasticNetResult": "cohortium.sdk.elastic_net_results",
    "EvaluationResult": "cohortium.sdk.evaluate_results",
    "Federation": "cohortium.sdk.federation",
    "GlmResult": "cohortium.sdk.glm",
    "HypothesisTest": "cohortium.sdk.hypothesis",
    "InputError": "cohortium.errors",
    "IntegrityFailure": "cohortium.errors",
    "KruskalResult": "cohortium.sdk.rank_results",
    "KsResult": "cohortium.sdk.rank_results",
    "LeveneResult": "cohortium.sdk.mean_results",
    "LocalFederation": "cohortium.inprocess.federation",
    "MannWhitneyResult": "cohortium.sdk.rank_results",
    "McNemarResult": "cohortium.sdk.table_results",
    "MetaAnalysis": "cohortium.sdk.meta_results",
    "MetaEffectResult": "cohortium.sdk.two_stage_results",
    "MetaModelResult": "cohortium.sdk.two_stage_results",
    "MixedResult": "cohortium.sdk.mixed_results",
    "MultinomialResult": "cohortium.sdk.category_results",
    "NegativeBinomialResult": "cohortium.sdk.model_results",
    "NormalityResult": "cohortium.sdk.mean_results",
    "OrdinalResult": "cohortium.sdk.category_results",
    "PcaResult": "cohortium.sdk.pca_results",
    "PeerError": "cohortium.errors",
    "PolicyRefusal": "cohortium.errors",
    "PowerAnalysis": "cohortium.sdk.power_results",
    "PropensityResult": "cohortium.sdk.propensity_results",
    "ProtocolError": "cohortium.errors",
    "PublishedModel": "cohortium.sdk.evaluate",
    "Report": "cohortium.sdk.report",
    "Result": "cohortium.sdk.results",
    "Run": "cohortium.sdk.run",
    "RunInfo": "cohortium.sdk.run_info",
    "Study": "cohortium.sdk.study",
    "TTestResult": "cohortium.sdk.mean_results",
    "TableOne": "cohortium.sdk.table_one",
    "VerificationError": "cohortium.errors",
    "adjust_p": "cohortium.sdk.multiple",
    "anova": "cohortium.sdk.glm_tests",
    "connect": "cohortium.sdk.federation",
    "local": "cohortium.inprocess.federation",
    "meta_analysis": "cohortium.sdk.meta",
    "power_logrank": "cohortium.sdk.power",
    "power_means": "cohortium.sdk.power",
    "power_proportions": "cohortium.sdk.power",
}

__all__ = [
    "AnovaResult",
    "AttritionResult",
    "CmhResult",
    "Cohort",
    "CohortiumError",
    "ConflictError",
    "CorrelationResult",
    "CrosstabResult",
    "DescribeResult",
    "Differences",
    "ElasticNetResult",
    "EvaluationResult",
    "Federation",
    "GlmResult",
    "HypothesisTest",
    "InputError",
    "IntegrityFailure",
    "KruskalResult",
    "KsResult",
    "LeveneResult",
    "LocalFederation",
    "MannWhitneyResult",
    "McNemarResult",
    "MetaAnalysis",
    "MetaEffectResult",
    "MetaModelResult",
    "MixedResult",
    "MultinomialResult",
    "NegativeBinomialResult",
    "NormalityResult",
    "OrdinalResult",
    "PcaResult",
    "PeerError",
    "PolicyRefusal",
    "PowerAnalysis",
    "PropensityResult",
    "ProtocolError",
    "PublishedModel",
    "Report",
    "Result",
    "Run",
    "RunInfo",
    "Study",
    "TTestResult",
    "TableOne",
    "VerificationError",
    "__version__",
    "adjust_p",
    "anova",
    "connect",
    "local",
    "meta_analysis",
    "power_logrank",
    "power_means",
    "power_proportions",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'cohortium' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
