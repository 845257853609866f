"""Results: typed access, frames, text, notebook views, charts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError, ProtocolError
from cohortium.sdk.describe import DescribeResult
from cohortium.sdk.glm import GlmResult
from cohortium.sdk.html import facts_html, table_html
from cohortium.sdk.result_types import result_from_wire
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo

VARIABLES = {
    "age": Variable(name="age", type=VariableType.REAL, decimals=1),
    "dead": Variable(name="dead", type=VariableType.INTEGER),
    "sex": Variable(name="sex", type=VariableType.CATEGORY, levels=("f", "m")),
}
FORMULA = "dead ~ age * sex"


def _run(computation: str, params: dict[str, Any]) -> RunInfo:
    return RunInfo.from_json(
        {
            "id": "0123456789abcdef" * 2,
            "study": "s",
            "contract_digest": "sha256:" + "c" * 64,
            "computation": computation,
            "params": params,
            "status": "succeeded",
            "researcher": "ed25519:x",
            "participants": ["A", "B"],
            "rounds": 3,
            "seconds": 0.25,
            "bytes": {"A": 1000, "B": 1000},
            "submitted_at": "2026-11-22T00:00:00Z",
        }
    )


def _summary(mean: float | None, **more: Any) -> dict[str, Any]:
    quantiles = [{"q": 0.5, "value": mean, "low": mean, "high": mean}]
    base = {"type": "real", "n": 10, "missing": 1, "mean": mean, "sd": 2.0, "variance": 4.0}
    return base | {"skewness": 0.1, "kurtosis": -0.2, "quantiles": quantiles} | more


@pytest.fixture
def described() -> DescribeResult:
    levels = [{"level": "<b>f", "count": 6, "share": 0.6}, {"level": "m", "count": None}]
    category = {"type": "category", "n": 10, "missing": 0, "levels": levels}
    groups = [
        {"level": "f", "n": 10, "variables": {"age": _summary(50.0), "stage": category}},
        {"level": "m", "n": 9, "variables": {"age": _summary(60.5), "stage": category}},
    ]
    params = {"variables": ["stage", "age"], "by": "sex"}
    data = {"n_sites": 2, "groups": groups, "suppressed": ["stage: fewer than 5 persons"]}
    made = result_from_wire(_run("stats.describe", params), data, VARIABLES)
    assert isinstance(made, DescribeResult)
    return made


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    age = np.round(rng.normal(60, 10, 300), 1)
    sex = rng.choice(["f", "m"], 300)
    dead = (rng.random(300) < 1 / (1 + np.exp(-(age - 60) / 15 + 0.5 * (sex == "m")))).astype(int)
    return pd.DataFrame({"age": age, "sex": sex, "dead": dead}, index=np.arange(300) + 5)


@pytest.fixture
def reference(frame: pd.DataFrame) -> Any:
    return smf.glm(FORMULA, frame, family=sm.families.Binomial()).fit(tol=1e-14)


@pytest.fixture
def fit(reference: Any) -> GlmResult:
    terms = ["Intercept", "age", "sex[T.m]", "age:sex[T.m]"]  # as R orders them, not patsy
    limits = reference.conf_int().loc[terms]
    data: dict[str, Any] = {
        "formula": FORMULA,
        "family": "binomial",
        "link": "logit",
        "terms": terms,
        "params": list(reference.params[terms]),
        "bse": list(reference.bse[terms]),
        "statistic": list(reference.tvalues[terms]),
        "statistic_name": "z",
        "pvalues": list(reference.pvalues[terms]),
        "conf_low": list(limits[0]),
        "conf_high": list(limits[1]),
        "deviance": float(reference.deviance),
        "null_deviance": float(reference.null_deviance),
        "aic": float(reference.aic),
        "loglik": float(reference.llf),
        "df_resid": int(reference.df_resid),
        "df_model": int(reference.df_model),
        "iterations": 5,
        "n": int(reference.nobs),
        "n_missing": 0,
        "scale": 1.0,
        "cov": reference.cov_params().loc[terms, terms].to_numpy().tolist(),
        "n_sites": 2,
        "levels": {"sex": ["f", "m"]},
    }
    made = result_from_wire(_run("glm", {"formula": FORMULA}), data, VARIABLES)
    assert isinstance(made, GlmResult)
    return made


def test_describe_by_name_and_group(described: DescribeResult) -> None:
    assert described.groups == ("f", "m")
    assert described["age", "m"].mean == 60.5
    assert described["age", "m"].median == 60.5
    assert described["stage", "f"].levels[1].count is None
    with pytest.raises(InputError, match=r"Groups: f, m; as in result\['stage', 'f'\]"):
        described["age"]
    with pytest.raises(InputError, match="not asked for"):
        described["age", "m"].quantile(0.9)


def test_describe_frame_is_tidy_and_in_the_order_asked(described: DescribeResult) -> None:
    frame = described.to_frame()
    assert list(frame.columns[:5]) == ["sex", "variable", "level", "n", "missing"]
    assert list(frame["variable"]) == ["stage", "stage", "stage", "age"] * 2
    ages = frame[frame["variable"] == "age"].set_index("sex")
    assert ages.loc["m", "median"] == 60.5
    shares = frame[frame["level"] == "<b>f"]
    assert list(shares["share"]) == [0.6, 0.6]
    assert frame["n"].isna().sum() == 2


def test_describe_text_fits_a_terminal(described: DescribeResult) -> None:
    lines = described._text().splitlines()
    assert lines[0].split() == ["sex", "variable", "n", "missing", "mean", "sd", "median", "share"]
    assert lines[1].split()[:2] == ["f", "stage"]
    assert lines[2].split() == ["f", "<b>f", "6", "60.0%"]
    assert lines[2].index("<b>f") == lines[1].index("stage") + 2
    assert max(map(len, lines)) <= 80


def test_quantiles_of_a_date_are_dates() -> None:
    quantile = {"q": 0.5, "value": "2020-07-24", "low": "2020-07-24", "high": "2020-07-24"}
    seen = {"type": "date", "n": 9, "missing": 0, "quantiles": [quantile]}
    data = {"groups": [{"level": None, "n": 9, "variables": {"seen": seen}}]}
    made = result_from_wire(_run("stats.describe", {"variables": ["seen"]}), data, VARIABLES)
    assert made.to_frame()["median"].tolist() == ["2020-07-24"]
    assert "2020-07-24" in repr(made)


def test_describe_text_and_notebook_view_escape(described: DescribeResult) -> None:
    text, html = repr(described), described._repr_html_()
    assert "Not released: stage: fewer than 5 persons" in text
    assert "run 01234567 succeeded in 0.25 s, 2 sites" in text
    assert "<b>" not in html
    assert "&lt;b&gt;f" in html
    assert "2,000 bytes" in html


def test_series_are_named_as_statsmodels_names_terms(fit: GlmResult, reference: Any) -> None:
    for ours, theirs in (
        (fit.params, reference.params),
        (fit.bse, reference.bse),
        (fit.tvalues, reference.tvalues),
        (fit.pvalues, reference.pvalues),
    ):
        pd.testing.assert_series_equal(ours, theirs[ours.index], check_names=False)
    assert fit.nobs == 300
    pd.testing.assert_frame_equal(fit.conf_int(0.1), reference.conf_int(0.1).loc[list(fit.terms)])
    expected = reference.cov_params().loc[list(fit.terms), list(fit.terms)]
    pd.testing.assert_frame_equal(fit.cov_params(), expected)
    with pytest.raises(InputError, match="between 0 and 1"):
        fit.conf_int(5)


def test_predictions_are_statsmodels_s(fit: GlmResult, reference: Any, frame: pd.DataFrame) -> None:
    expected = reference.predict(frame)
    pd.testing.assert_series_equal(fit.predict(frame), expected, check_names=False)
    linear = fit.predict(frame, which="linear")
    np.testing.assert_allclose(linear, np.log(expected / (1 - expected)), rtol=1e-9)
    as_polars = pl.from_pandas(frame.drop(columns="dead"))
    np.testing.assert_allclose(fit.predict(as_polars), expected, rtol=1e-12)


def test_predictions_of_incomplete_or_unknown_persons(fit: GlmResult, frame: pd.DataFrame) -> None:
    gaps = frame.head(3).astype({"sex": "object"})
    gaps.loc[5, "age"] = np.nan
    gaps.loc[6, "sex"] = None
    assert list(fit.predict(gaps).isna()) == [True, True, False]
    assert list(fit.predict(gaps).index) == [5, 6, 7]
    with pytest.raises(InputError, match="declared levels"):
        fit.predict(frame.assign(sex="x"))
    with pytest.raises(InputError, match="no column age"):
        fit.predict(frame.drop(columns="age"))
    with pytest.raises(InputError, match="pandas, polars or pyarrow"):
        fit.predict([1, 2])


def test_summary_shows_every_term_and_fits_its_width(fit: GlmResult) -> None:
    text = str(fit.summary())
    assert repr(fit.summary()) == text
    assert all(term in text for term in fit.terms)
    assert "No. Observations:" in text
    assert len({len(line) for line in text.splitlines() if set(line) == {"="}}) == 1
    assert fit.summary()._repr_html_().startswith("<pre>")
    assert text in repr(fit)


def test_summary_says_which_level_of_a_category_is_the_event(fit: GlmResult) -> None:
    assert "event" not in fit.summary()
    fit.formula = "sex ~ age"
    assert "binomial, event m " in fit.summary()


def test_frame_of_a_fit_has_the_odds_ratio(fit: GlmResult) -> None:
    table = fit.to_frame()
    assert list(table.index) == list(fit.terms)
    np.testing.assert_allclose(table["odds_ratio"], np.exp(fit.params))
    assert (table["odds_ratio_low"] < table["odds_ratio_high"]).all()


@pytest.mark.parametrize("ending", ["png", "svg", "html", "json"])
def test_charts_are_written_without_the_internet(
    fit: GlmResult, described: DescribeResult, tmp_path: Path, ending: str
) -> None:
    for result in (fit, described):
        path = result.save(tmp_path / f"{type(result).__name__}.{ending}")
        content = path.read_bytes()
        assert len(content) > 500
        if ending == "html":
            assert b'src="http' not in content
        if ending == "png":
            assert content.startswith(b"\x89PNG")


def test_another_ending_is_refused(fit: GlmResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png"):
        fit.save(tmp_path / "forest.gif")


def test_a_forest_plot_leaves_out_the_intercept(fit: GlmResult) -> None:
    spec = json.dumps(fit.plot().to_dict())
    assert "sex[T.m]" in spec
    assert '"Intercept"' not in spec
    assert "Odds ratio (95% CI)" in spec


def test_an_unknown_computation_gives_a_plain_result() -> None:
    result = result_from_wire(_run("bench.vector", {}), {"sum": [1, 2]}, {})
    assert type(result) is Result
    assert result.to_json()["result"] == {"sum": [1, 2]}
    assert "sum" in repr(result)
    assert "sum" in result._repr_html_()
    with pytest.raises(InputError, match="no chart"):
        result.plot()


@pytest.mark.parametrize(
    ("computation", "data"),
    [("glm", {}), ("glm", {"terms": 3}), ("stats.describe", {"groups": [1]})],
)
def test_a_result_that_lacks_something_is_a_protocol_error(
    computation: str, data: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolError):
        result_from_wire(_run(computation, {}), data, {})


def test_html_escapes_names_and_values() -> None:
    evil = '<img src=x onerror="1">'
    assert "<img" not in facts_html(evil, {evil: evil}) + table_html([evil], [[evil], [None]])
