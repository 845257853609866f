"""The registry: built-in analyses by name, and those that installed packages register.

Importing this module imports no pandas, scipy or formulaic: a node at rest stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from pydantic import ValidationError

from cohortium.analysis.anova import Anova
from cohortium.analysis.attrition import Attrition
from cohortium.analysis.cmh import Cmh
from cohortium.analysis.correlation import Correlation
from cohortium.analysis.cox import Cox
from cohortium.analysis.crosstab import Crosstab
from cohortium.analysis.cumulative_incidence import CumulativeIncidence
from cohortium.analysis.describe import Describe
from cohortium.analysis.elastic_net import ElasticNet
from cohortium.analysis.evaluate import Evaluate
from cohortium.analysis.glm import Glm
from cohortium.analysis.gray import Gray
from cohortium.analysis.interface import AnyAnalysis, Params
from cohortium.analysis.kaplan_meier import KaplanMeier
from cohortium.analysis.kruskal import Kruskal
from cohortium.analysis.ks import Ks
from cohortium.analysis.levene import Levene
from cohortium.analysis.logrank import Logrank
from cohortium.analysis.mann_whitney import MannWhitney
from cohortium.analysis.mcnemar import McNemar
from cohortium.analysis.meta import Meta
from cohortium.analysis.meta_effect import MetaEffect
from cohortium.analysis.mice import Mice
from cohortium.analysis.missing_pattern import Pattern
from cohortium.analysis.mixed import Mixed
from cohortium.analysis.multinomial import Multinomial
from cohortium.analysis.negative_binomial import NegativeBinomial
from cohortium.analysis.normality import Normality
from cohortium.analysis.ordinal import Ordinal
from cohortium.analysis.pca import Pca
from cohortium.analysis.propensity import Propensity
from cohortium.analysis.spearman import Spearman
from cohortium.analysis.t_test import TTest
from cohortium.core.model import explain
from cohortium.errors import InputError

ENTRY_POINT_GROUP = "cohortium.analyses"

BUILTIN: Mapping[str, AnyAnalysis] = MappingProxyType(
    {
        analysis.name: analysis
        for analysis in (
            Anova(),
            Attrition(),
            Cmh(),
            Correlation(),
            Cox(),
            Crosstab(),
            Describe(),
            ElasticNet(),
            Evaluate(),
            Glm(),
            CumulativeIncidence(),
            Gray(),
            KaplanMeier(),
            Kruskal(),
            Logrank(),
            Ks(),
            MannWhitney(),
            McNemar(),
            Levene(),
            Mice(),
            Pattern(),
            Meta(),
            MetaEffect(),
            Mixed(),
            Multinomial(),
            NegativeBinomial(),
            Normality(),
            Ordinal(),
            Pca(),
            Propensity(),
            Spearman(),
            TTest(),
        )
    }
)


def find(name: str) -> AnyAnalysis:
    """The analysis registered under `name`; a built-in one cannot be replaced by a package.

    Raises:
        InputError: ``not-found``.
    """
    if name in BUILTIN:
        return BUILTIN[name]
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        loaded = point.load()
        analysis: AnyAnalysis = loaded() if isinstance(loaded, type) else loaded
        return analysis
    raise InputError(
        "not-found",
        f"There is no analysis {name[:80]!r} here. Built in are: {', '.join(sorted(BUILTIN))}.",
    )


def versions(wanted: Callable[[str], bool]) -> dict[str, int]:
    """The versions of the analyses here whose names are wanted; only those packages are loaded."""
    registered = entry_points(group=ENTRY_POINT_GROUP).names
    return {name: find(name).version for name in sorted({*BUILTIN, *registered}) if wanted(name)}


def parse_params(analysis: AnyAnalysis, params: Mapping[str, object]) -> Params:
    """A request's JSON parameters as the analysis's own type.

    Raises:
        InputError: ``bad-input``, naming the field.
    """
    try:
        parsed: Params = analysis.params_type.model_validate(dict(params))
    except ValidationError as error:
        raise InputError("bad-input", f"{analysis.name}: {explain(error)}") from error
    return parsed
