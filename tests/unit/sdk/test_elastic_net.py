"""Penalised models as a researcher gets them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError
from cohortium.inprocess.federation import LocalFederation
from cohortium.sdk.elastic_net_results import ElasticNetResult


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    random = np.random.default_rng(4)

    def hospital(n: int) -> pd.DataFrame:
        frame = pd.DataFrame(random.normal(size=(n, 12)), columns=[f"x{j}" for j in range(12)])
        frame["sex"] = random.choice(["f", "m"], n)
        frame["y"] = 3 * frame["x0"] - frame["x1"] + (frame["sex"] == "m") + random.normal(size=n)
        frame["ill"] = (frame["y"] + random.normal(size=n) > 0).astype(int)
        frame.loc[0, "x0"] = np.nan
        return frame

    return {"North": hospital(120), "East": hospital(150)}


@pytest.fixture(scope="module")
def local(frames: dict[str, pd.DataFrame]) -> Iterator[LocalFederation]:
    with co.local(frames) as one:
        yield one


@pytest.fixture(scope="module")
def lasso(local: LocalFederation) -> ElasticNetResult:
    return local.study().elastic_net("y ~ x0 + x1 + x2 + sex", folds=5, n_lambdas=20)


def test_coefficients_are_read_at_any_lambda_of_the_path(lasso: ElasticNetResult) -> None:
    assert lasso.nobs == 268
    assert lasso.n_missing == 2
    assert (lasso.folds, lasso.seed, lasso.kind) == (5, 1, "lasso")
    assert lasso.params.equals(lasso.coef("min"))
    assert lasso.lambda_min is not None
    assert lasso.lambda_1se is not None
    assert lasso.coef("1se").to_numpy() == pytest.approx(lasso.path.loc[lasso.lambda_1se])
    first, second = (float(one) for one in lasso.lambdas[3:5])
    between = lasso.coef((first + second) / 2)
    assert between.to_numpy() == pytest.approx(lasso.path.iloc[3:5].mean())
    assert lasso.selected(float(lasso.lambdas[0])) == []
    assert {"x0", "x1", "sex[T.m]"} <= set(lasso.selected())
    assert lasso.coef()["x0"] == pytest.approx(3, abs=0.2)
    for wrong in (1e9, 0.0, "max"):
        with pytest.raises(InputError):
            lasso.coef(wrong)  # type: ignore[arg-type]


def test_the_standardised_path_is_in_standard_deviations(
    lasso: ElasticNetResult, frames: dict[str, pd.DataFrame]
) -> None:
    rows = pd.concat(frames.values()).dropna()
    ratio = lasso.standardized.iloc[-1] / lasso.path.iloc[-1, 1:]
    assert ratio["x1"] == pytest.approx(rows["x1"].std(ddof=0))
    assert ratio["sex[T.m]"] == pytest.approx((rows["sex"] == "m").std(ddof=0))


def test_predictions_are_of_the_rows_at_hand(
    lasso: ElasticNetResult, local: LocalFederation, frames: dict[str, pd.DataFrame]
) -> None:
    rows = frames["North"].head(4)
    beta = lasso.coef("1se")
    expected = beta["Intercept"] + rows[["x0", "x1", "x2"]] @ beta[["x0", "x1", "x2"]]
    expected += beta["sex[T.m]"] * (rows["sex"] == "m")
    assert lasso.predict(rows, "1se").to_numpy() == pytest.approx(expected, nan_ok=True)
    risk = local.study().elastic_net("ill ~ x0 + x1", "binomial", lambdas=[0.01], folds=0)
    shares, linear = risk.predict(rows), risk.predict(rows, which="linear")
    assert shares.to_numpy() == pytest.approx(1 / (1 + np.exp(-linear)), nan_ok=True)
    assert np.isnan(shares.iloc[0])


def test_it_says_itself_in_both_languages(lasso: ElasticNetResult) -> None:
    assert "By 5-fold cross-validation the least mean squared error" in lasso.interpret()
    assert "come without intervals" in lasso.interpret()
    assert "5 折交叉验证的最小均方误差" in lasso.interpret("zh")
    with pytest.raises(InputError):
        lasso.interpret("fr")  # type: ignore[arg-type]
    assert lasso.heading("zh").startswith("Lasso 回归")
    assert "lambda.1se" in str(lasso.summary())
    assert "4 of 4" in str(lasso.summary()) or "3 of 4" in str(lasso.summary())
    first, second = lasso.tables("zh")
    assert "系数（λ.min）" in first.columns
    assert second.columns[0] == "λ"
    assert "折" in " ".join(second.notes)
    assert lasso.to_frame().index.name == "term"


def test_path_and_error_are_drawn(lasso: ElasticNetResult) -> None:
    assert '"coefficient per standard deviation"' in lasso.plot().to_json()
    drawn = lasso.plot_cv().to_json()
    assert "mean squared error (5 folds)" in drawn
    assert "nonzero" in drawn


def test_without_cross_validation_a_lambda_must_be_named(local: LocalFederation) -> None:
    terms = " + ".join(f"x{j}" for j in range(12))
    fit = local.study().elastic_net(f"y ~ {terms}", alpha=0.5, lambdas=[1.0, 0.01], folds=0)
    assert fit.lambda_min is None
    assert fit.cv["cv_error"].isna().all()
    for ask in (fit.coef, fit.plot_cv):
        with pytest.raises(InputError):
            ask()
    assert list(fit.to_frame().columns) == ["lambda=1", "lambda=0.01"]
    assert "No cross-validation was asked for" in fit.interpret()
    assert "未作交叉验证" in fit.interpret("zh")
    assert "Elastic net over sites" in str(fit.summary())
    assert "#d0d3d8" in fit.plot().to_json()
    assert "cv_error" not in fit.tables()[1].columns
    alone = local.study().elastic_net("y ~ x0", alpha=0, lambdas=[0.1], folds=0)
    assert alone.coef().equals(alone.coef(0.1))
    assert alone.kind == "ridge"


def test_a_result_that_does_not_fit_together_is_refused(lasso: ElasticNetResult) -> None:
    data = lasso.to_json()["result"]
    variables = {"y": Variable(name="y", type=VariableType.REAL)}
    short = {"lambdas": data["lambdas"][:-1]}
    wrong: list[dict[str, Any]] = [short, {"coefficients": [[1.0]]}, {"sd": []}]
    for broken in (*wrong, {"cv": {"measure": "x"}}):
        with pytest.raises((ValueError, KeyError)):
            ElasticNetResult(lasso.run, {**data, **broken}, variables)
