"""The registry of analyses, and what importing it costs a node."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cohortium.analysis.builtin import BUILTIN, find, parse_params
from cohortium.errors import InputError


def test_the_registered_names_are_the_analyses_own() -> None:
    assert set(BUILTIN) == {
        "causal.propensity",
        "evaluate.model",
        "glm",
        "models.meta",
        "missing.mice",
        "missing.pattern",
        "models.mixed",
        "models.multinomial",
        "models.elastic_net",
        "models.negative_binomial",
        "models.ordinal",
        "stats.anova",
        "stats.attrition",
        "stats.cmh",
        "stats.correlation",
        "stats.crosstab",
        "stats.describe",
        "stats.kruskal",
        "stats.ks",
        "stats.levene",
        "stats.mann_whitney",
        "stats.mcnemar",
        "stats.meta",
        "stats.normality",
        "stats.pca",
        "stats.spearman",
        "stats.t_test",
        "survival.cumulative_incidence",
        "survival.cox",
        "survival.gray",
        "survival.km",
        "survival.logrank",
    }
    for name, analysis in BUILTIN.items():
        assert analysis.name == name
        assert find(name) is analysis
        assert "Leaves the site" in (analysis.__doc__ or "")
        assert "Refuses" in (analysis.__doc__ or "")


def test_an_unknown_analysis_is_not_found() -> None:
    with pytest.raises(InputError) as caught:
        find("stats.magic")
    assert caught.value.code == "not-found"


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("stats.describe", {}),
        ("stats.describe", {"variables": []}),
        ("stats.describe", {"variables": ["x"], "quantiles": [0.0]}),
        ("stats.describe", {"variables": ["x"], "quantiles": [1]}),
        ("stats.describe", {"variables": ["x; drop"]}),
        ("stats.describe", {"variables": ["x"], "unknown": 1}),
        ("glm", {"formula": "y ~ x", "family": "cauchy"}),
        ("glm", {"formula": ""}),
        ("glm", {"formula": "y ~ " + "x" * 2000}),
    ],
)
def test_bad_parameters_are_an_input_error(name: str, params: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        parse_params(find(name), params)
    assert caught.value.code == "bad-input"


def test_a_node_at_rest_loads_neither_pandas_nor_scipy_nor_formulaic() -> None:
    code = (
        "import sys, cohortium.analysis.builtin, cohortium.runs.loop;"
        "print(sorted({'pandas', 'scipy', 'formulaic', 'pyarrow'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout.strip() == "[]"
