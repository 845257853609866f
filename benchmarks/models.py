"""Models over real processes, beside statsmodels, scikit-learn and lifelines on the pooled rows.

    python -m benchmarks.models [--quick] [--rows 100000 1000000] [--only cox,glm]

A hub and three nodes are started through the command line, with mutual TLS on the loopback
interface; each node has so many rows of 20 variables. Each federated model is compared with the
pooled one before it is timed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lifelines
import numpy as np
import numpy.typing as npt
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from benchmarks.common import print_header, print_table
from benchmarks.three_sites import COLUMNS, SITES, STUDY, compared, start
from sklearn.linear_model import Lasso, LassoCV, LogisticRegression
from statsmodels.imputation.mice import MICE, MICEData

import cohortium as co

NUMBERS = tuple(f"x{number:02}" for number in range(10))
COVARIATES = " + ".join(NUMBERS)
COMPUTATIONS = "glm, models.*, survival.*, missing.*"
LAMBDAS, FEWER_LAMBDAS = 100, 20
IMPUTATIONS, SWEEPS = 5, 5
INCOMPLETE = ("pressure", "glucose")
IMPUTED = ("died", "age", "x00", "x01", "smoker", *INCOMPLETE)
IMPUTED_FORMULA = "died ~ " + " + ".join(IMPUTED[1:])


def frames(n_rows: int) -> dict[str, pd.DataFrame]:
    """One frame a site; the same numbers at each call."""
    return {site: _frame(n_rows, number) for number, site in enumerate(SITES)}


def _frame(n: int, number: int) -> pd.DataFrame:
    rng = np.random.default_rng(number)
    x = np.round(rng.normal(0.1 * number, 1, (n, len(NUMBERS))), 2)
    columns: dict[str, Any] = dict(zip(NUMBERS, x.T, strict=True))
    columns["age"] = age = rng.integers(18, 95, n)
    columns["sex"] = rng.choice(["female", "male"], n)
    columns["stage"] = stage = rng.choice(["I", "II", "III", "IV"], n)
    columns["smoker"] = smoker = (rng.random(n) < 0.2).astype(int)
    risk = x @ np.linspace(-0.4, 0.5, len(NUMBERS)) + 0.02 * (age - 50)
    columns["died"] = (rng.random(n) < 1 / (1 + np.exp(2 - risk - smoker))).astype(int)
    hazard = np.exp(x @ np.linspace(0.3, -0.3, len(NUMBERS)) + 0.2 * (stage == "IV")) / 1500
    death = rng.exponential(1 / hazard)
    censored = rng.uniform(100, 3650, n)
    columns["days"] = np.ceil(np.minimum(death, censored)).astype(int)
    columns["event"] = (death <= censored).astype(int)
    for name, slope in zip(INCOMPLETE, (1.5, -2.0), strict=True):
        values = np.round(120 + slope * x[:, 0] + 0.3 * age + rng.normal(0, 10, n), 1)
        columns[name] = np.where(rng.random(n) < 0.05 + 0.1 * (age > 60), np.nan, values)
    columns["dose"] = np.round(3 * x @ np.linspace(1, 0, len(NUMBERS)) + rng.normal(0, 5, n), 2)
    return pd.DataFrame(columns)


@dataclass(frozen=True)
class Model:
    """One line of the table.

    Attributes:
        ours: The federated fit.
        plain: The pooled one, with the library that a researcher would take.
        same: Raises where the two do not agree.
    """

    name: str
    ours: Callable[[co.Study], Any]
    plain: Callable[[pd.DataFrame], Any]
    same: Callable[[Any, Any], None]


def _agree(ours: npt.ArrayLike, theirs: npt.ArrayLike, rtol: float) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


def _cox(pooled: pd.DataFrame, strata: list[str] | None) -> Any:
    columns = [*NUMBERS, "days", "event", *(strata or [])]
    return lifelines.CoxPHFitter(strata=strata).fit(pooled[columns], "days", "event")


def _curves(pooled: pd.DataFrame) -> dict[str, Any]:
    return {
        str(stage): lifelines.KaplanMeierFitter().fit(group["days"], group["event"])
        for stage, group in pooled.groupby("stage")
    }


def _same_curves(ours: Any, theirs: Mapping[str, Any]) -> None:
    released = ours.to_frame()
    for stage, fitter in theirs.items():
        points = released[released["stage"] == stage]
        _agree(points["survival"], fitter.predict(points["time"]), 1e-9)


def _columns(pooled: pd.DataFrame) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The covariates on a common scale, and their standard deviations."""
    x = pooled[list(NUMBERS)].to_numpy()
    scale = x.std(axis=0)
    return (x - x.mean(axis=0)) / scale, scale


def _lasso(pooled: pd.DataFrame) -> Any:
    x, scale = _columns(pooled)
    y = pooled["dose"].to_numpy()
    return LassoCV(alphas=LAMBDAS, eps=1e-4, cv=10, tol=1e-7).fit(x, y), x, y, scale


def _same_lasso(ours: Any, theirs: Any) -> None:
    """At our penalty; the folds of the pooled cross-validation are others."""
    _, x, y, scale = theirs
    fit = Lasso(alpha=ours.lambda_1se, tol=1e-10).fit(x, y)
    _agree(ours.coef("1se")[list(NUMBERS)], fit.coef_ / scale, 1e-7)


def _logistic_path(pooled: pd.DataFrame) -> Any:
    x, scale = _columns(pooled)
    y = pooled["died"].to_numpy()
    largest = np.abs(x.T @ (y - y.mean())).max() / len(y)
    penalties = np.geomspace(largest, largest * 1e-4, FEWER_LAMBDAS)
    fit = LogisticRegression(penalty="l1", solver="saga", warm_start=True, tol=1e-6, max_iter=5000)
    found = []
    for penalty in penalties:
        fit.C = 1 / (penalty * len(y))
        found.append(fit.fit(x, y).coef_[0] / scale)
    return penalties, np.array(found)


def _same_path(ours: Any, theirs: Any) -> None:
    penalties, coefs = theirs
    at = FEWER_LAMBDAS // 2
    _agree(ours.coef(float(penalties[at]))[list(NUMBERS)], coefs[at], 1e-3)


def _imputed(pooled: pd.DataFrame) -> Any:
    np.random.seed(0)  # noqa: NPY002 - what statsmodels draws from
    data = MICEData(pooled[list(IMPUTED)])
    model = MICE(IMPUTED_FORMULA, sm.GLM, data, init_kwds={"family": sm.families.Binomial()})
    return model.fit(n_burnin=SWEEPS, n_imputations=IMPUTATIONS)


def _same_imputed(ours: Any, theirs: Any) -> None:
    """Both draw at random: the estimates agree within a standard error."""
    distance = (ours.params.to_numpy() - theirs.params) / theirs.bse
    _agree(np.abs(distance).max() < 1, True, 0)


MODELS: Mapping[str, Model] = {
    "glm": Model(
        "logistic regression, 10 terms",
        lambda study: study.glm(f"died ~ {COVARIATES}", "binomial"),
        lambda pooled: smf.glm(f"died ~ {COVARIATES}", pooled, family=sm.families.Binomial()).fit(),
        lambda ours, theirs: _agree(ours.params, theirs.params, 1e-6),
    ),
    "linear": Model(
        "linear regression, 10 terms",
        lambda study: study.glm(f"dose ~ {COVARIATES}", "gaussian"),
        lambda pooled: smf.ols(f"dose ~ {COVARIATES}", pooled).fit(),
        lambda ours, theirs: _agree(ours.params, theirs.params, 1e-9),
    ),
    "lasso": Model(
        "lasso, 100 penalties, 10-fold cross-validation",
        lambda study: study.elastic_net(f"dose ~ {COVARIATES}", "gaussian", n_lambdas=LAMBDAS),
        _lasso,
        _same_lasso,
    ),
    "logistic-path": Model(
        "logistic lasso, 20 penalties",
        lambda study: study.elastic_net(
            f"died ~ {COVARIATES}", "binomial", n_lambdas=FEWER_LAMBDAS, folds=0
        ),
        _logistic_path,
        _same_path,
    ),
    "cox-site": Model(
        "Cox, 10 covariates, a baseline of each site",
        lambda study: study.cox(COVARIATES, time="days", event="event"),
        lambda pooled: _cox(pooled, ["site"]),
        lambda ours, theirs: _agree(ours.params, theirs.params_, 1e-5),
    ),
    "cox": Model(
        "Cox, 10 covariates, one baseline",
        lambda study: study.cox(COVARIATES, time="days", event="event", baseline="pooled"),
        lambda pooled: _cox(pooled, None),
        lambda ours, theirs: _agree(ours.params, theirs.params_, 1e-5),
    ),
    "km": Model(
        "Kaplan-Meier, 4 groups",
        lambda study: study.km("days", "event", by="stage"),
        _curves,
        _same_curves,
    ),
    "mice": Model(
        "MICE, 2 of 7 variables incomplete, 5 imputations, logistic regression",
        lambda study: study.mice(
            IMPUTED_FORMULA, "binomial", m=IMPUTATIONS, iterations=SWEEPS, seed=1
        ),
        _imputed,
        _same_imputed,
    ),
}


def compare(study: co.Study, pooled: pd.DataFrame, wanted: list[str], repeats: int) -> list[Any]:
    """A row for each model."""
    return [_row(MODELS[key], study, pooled, repeats) for key in wanted]


def _row(model: Model, study: co.Study, pooled: pd.DataFrame, repeats: int) -> list[object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.perf_counter()
        theirs = model.plain(pooled)
        slow = time.perf_counter() - began > 20
        model.same(model.ours(study), theirs)
        times = (repeats, 1 if slow else max(1, repeats // 2))
        return compared(model.name, lambda: model.ours(study), lambda: model.plain(pooled), times)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, the smaller data")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--only", default=",".join(MODELS), help=", ".join(MODELS))
    asked = parser.parse_args()
    print_header("Models over three sites: hub and 3 nodes, mutual TLS 1.3 on loopback")
    for n_rows in asked.rows[:1] if asked.quick else asked.rows:
        tables = frames(n_rows)
        with (
            tempfile.TemporaryDirectory() as folder,
            start(Path(folder), tables, COMPUTATIONS) as consortium,
        ):
            os.environ["COHORTIUM_PROFILE"] = str(consortium.profile)
            pooled = pd.concat(
                [frame.assign(site=site) for site, frame in tables.items()], ignore_index=True
            )
            with co.connect() as federation:
                study = federation.study(STUDY)
                rows = compare(study, pooled, asked.only.split(","), 3 if asked.quick else 7)
        print(f"Three sites of {n_rows:,} rows, {len(pooled.columns) - 1} variables\n")
        print_table(COLUMNS, rows)


if __name__ == "__main__":
    main()
