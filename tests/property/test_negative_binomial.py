"""A negative binomial model over sites is statsmodels' pooled one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis.dispersed import Dispersed
from cohortium.analysis.interface import Scope
from cohortium.analysis.negative_binomial import NegativeBinomial, NegativeBinomialParams
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, ProtocolError

sm = pytest.importorskip("statsmodels.api")
smf = pytest.importorskip("statsmodels.formula.api")

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="y", type=VariableType.INTEGER),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c")),
        Variable(name="o", type=VariableType.REAL),
        Variable(name="w", type=VariableType.INTEGER),
    )
}
SIZES = [120, 150, 130]
MODEL = NegativeBinomial()


def people(seed: int, alpha: float = 0.8, scale: float = 1.0) -> Table:
    random, n = np.random.default_rng(seed), sum(SIZES)
    x, s, o = random.normal(size=n), random.integers(0, 3, n), random.uniform(-0.5, 0.5, n)
    mean = np.exp(0.8 + 0.4 * x + np.array([0.0, 0.3, -0.3])[s] + o)
    rate = mean if alpha == 0 else random.gamma(1 / alpha, alpha * mean)
    x[random.uniform(size=n) < 0.04] = np.nan
    columns = {"y": random.poisson(rate).astype(float), "x": x * scale, "s": s.astype(np.int32)}
    return Table(VARIABLES, {**columns, "o": o, "w": random.integers(1, 4, n).astype(float)})


def fit(table: Table, floor: Any = "site", sizes: Any = SIZES, **params: Any) -> dict[str, Any]:
    asked = {"formula": "y ~ x + s", **params}
    return dict(run_pooled_sum(MODEL, asked, split(table, sizes), Disclosure(floor=floor)).result)


def pooled(table: Table, offset: bool, *, repeated: bool = False, **errors: Any) -> Any:
    levels = [("a", "b", "c")[code] for code in table.columns["s"].tolist()]
    frame = pd.DataFrame({name: table.columns[name] for name in ("y", "x", "o", "w")})
    frame["s"] = pd.Categorical(levels, categories=["a", "b", "c"])
    frame = frame.dropna()
    if repeated:
        frame = frame.loc[frame.index.repeat(frame["w"].astype(int))].reset_index(drop=True)
    more = {"offset": frame["o"]} if offset else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = smf.negativebinomial("y ~ x + s", frame, **more)
        first = model.fit(method="bfgs", maxiter=500, gtol=1e-6, disp=0)
        best = {"start_params": first.params, "method": "newton", "tol": 1e-14, "disp": 0}
        return model.fit(**best, **errors)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    alpha=st.sampled_from([0.3, 0.8, 2.0]),
    offset=st.booleans(),
    floor=st.sampled_from(["site", "total"]),
)
def test_the_federated_model_is_the_pooled_one(
    seed: int, alpha: float, offset: bool, floor: str
) -> None:
    table = people(seed, alpha)
    ours = fit(table, floor, **({"offset": "o"} if offset else {}))
    theirs = pooled(table, offset)
    order = ["Intercept", "s[T.b]", "s[T.c]", "x"]
    assert sorted(ours["terms"]) == sorted(order)
    names = list(ours["terms"])
    bse = theirs.bse[names].to_numpy()
    assert np.abs((np.array(ours["params"]) - theirs.params[names].to_numpy()) / bse).max() < 1e-6
    assert ours["bse"] == pytest.approx(bse, rel=1e-5)
    assert ours["alpha"] == pytest.approx(theirs.params["alpha"], rel=1e-6)
    assert ours["alpha_bse"] == pytest.approx(theirs.bse["alpha"], rel=1e-5)
    assert ours["loglik"] == pytest.approx(theirs.llf, rel=1e-10)
    assert ours["aic"] == pytest.approx(theirs.aic, rel=1e-10)
    assert ours["n"] == theirs.nobs


@pytest.mark.parametrize("errors", ["model", "HC0", "HC1"])
def test_weights_are_the_model_of_repeated_rows(errors: str) -> None:
    table = people(11)
    ours = fit(table, weights="w", errors=errors)
    kind = {} if errors == "model" else {"cov_type": "HC0"}
    theirs = pooled(table, offset=False, repeated=True, **kind)
    names, n = list(ours["terms"]), theirs.nobs
    factor = np.sqrt(n / (n - 5)) if errors == "HC1" else 1.0  # which statsmodels leaves out here
    assert ours["params"] == pytest.approx(theirs.params[names].to_numpy(), rel=1e-6)
    assert ours["bse"] == pytest.approx(factor * theirs.bse[names].to_numpy(), rel=1e-5)
    assert ours["alpha_bse"] == pytest.approx(factor * theirs.bse["alpha"], rel=1e-5)
    assert ours["loglik"] == pytest.approx(theirs.llf, rel=1e-10)
    assert (ours["n_weighted"], ours["weights"]) == (theirs.nobs, "w")
    assert ours["n"] < theirs.nobs


@pytest.mark.parametrize("errors", ["HC0", "HC1", "site"])
def test_robust_errors_are_the_pooled_models(errors: str) -> None:
    table, sizes = people(12), [80, 70, 90, 60, 100]
    ours = fit(table, "total", sizes, errors=errors)
    kind: dict[str, Any] = {"cov_type": "HC0"}
    if errors == "site":
        present = ~np.isnan(table.columns["x"])
        groups = np.repeat(np.arange(5), sizes)[present]
        kind = {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    theirs = pooled(table, offset=False, **kind)
    names, n = list(ours["terms"]), theirs.nobs
    factor = np.sqrt(n / (n - 5)) if errors == "HC1" else 1.0
    assert ours["bse"] == pytest.approx(factor * theirs.bse[names].to_numpy(), rel=1e-5)
    assert ours["alpha_bse"] == pytest.approx(factor * theirs.bse["alpha"], rel=1e-5)
    assert ours["params"] == pytest.approx(theirs.params[names].to_numpy(), rel=1e-6)
    assert (ours["errors"], ours["df_test"]) == (errors, 4 if errors == "site" else None)


def test_errors_by_site_need_five_of_them_also_where_a_hub_says_otherwise() -> None:
    with pytest.raises(CohortiumError) as caught:
        fit(people(1), errors="site")
    assert caught.value.code == "too-few-sites"
    seen: list[tuple[State, Total]] = []
    asked = {"formula": "y ~ x + s", "errors": "HC0"}
    run_pooled_sum(MODEL, asked, split(people(1), SIZES), seen=seen)
    scope = Scope(VARIABLES, Disclosure(), 3)
    by_site = NegativeBinomialParams(formula="y ~ x + s", errors="site")
    plain = NegativeBinomialParams(formula="y ~ x + s")
    for params, code in ((by_site, "too-few-sites"), (plain, "malformed-message")):
        with pytest.raises(CohortiumError) as caught:
            MODEL.local(people(1), seen[-1][0], params, scope)
        assert caught.value.code == code


def test_the_score_is_zero_at_the_estimate_to_rounding() -> None:
    """statsmodels' optimiser stops early; the likelihood's own slopes show the digits."""
    table = people(3)
    ours = fit(table)
    rows = ~np.isnan(table.columns["x"])
    level = table.columns["s"][rows]
    x = np.column_stack([np.ones(rows.sum()), level == 1, level == 2, table.columns["x"][rows]])
    beta = [ours["params"][ours["terms"].index(t)] for t in ("Intercept", "s[T.b]", "s[T.c]", "x")]
    here = Dispersed.of(table.columns["y"][rows], x @ np.array(beta), ours["alpha"])
    scale = np.abs(x * here.score[:, None]).sum(axis=0)
    assert np.abs(x.T @ here.score / scale).max() < 1e-12
    assert abs(here.score_alpha) < 1e-9
    scaled = fit(people(3, scale=1e6))
    assert scaled["params"][scaled["terms"].index("x")] * 1e6 == pytest.approx(beta[3], rel=1e-9)


def test_the_likelihood_is_scipys_and_its_slopes_are_its_differences() -> None:
    random = np.random.default_rng(0)
    y, eta, alpha = random.poisson(3.0, 50).astype(float), random.normal(size=50), 0.7
    here = Dispersed.of(y, eta, alpha)
    mean, size = np.exp(eta), 1 / alpha
    law = stats.nbinom(size, size / (size + mean))
    assert here.loglik == pytest.approx(law.logpmf(y).sum(), rel=1e-12)
    exact = stats.nbinom(size, size / (size + np.maximum(y, 1e-300))).logpmf(y).sum()
    assert here.deviance == pytest.approx(2 * (exact - here.loglik), rel=1e-9)
    step = 1e-5
    up, down = (Dispersed.of(y, eta, alpha * np.exp(sign * step)) for sign in (1, -1))
    assert here.score_alpha == pytest.approx((up.loglik - down.loglik) / (2 * step), rel=1e-6)
    slope = (up.score_alpha - down.score_alpha) / (2 * step)
    assert here.observed_alpha == pytest.approx(-slope, rel=1e-6)
    assert here.cross == pytest.approx(-(up.score - down.score) / (2 * step), rel=1e-5, abs=1e-8)
    further, nearer = (Dispersed.of(y, eta + sign * step, alpha) for sign in (1, -1))
    assert here.observed == pytest.approx(
        -(further.score - nearer.score) / (2 * step), rel=1e-5, abs=1e-8
    )


@pytest.mark.parametrize(
    ("table", "params", "code"),
    [
        (people(1, alpha=0), {"formula": "y ~ x * s"}, "no-convergence"),
        (people(1), {"formula": "y ~ 0 + x"}, "bad-formula"),
        (people(1), {"formula": "x ~ s"}, "bad-input"),
        (people(1), {"formula": "y ~ x + I(2 * x)"}, "no-convergence"),
        (people(1), {"formula": "y ~ x", "offset": "s"}, "bad-input"),
    ],
)
def test_what_cannot_be_fitted_is_explained(
    table: Table, params: dict[str, str], code: str
) -> None:
    even = np.resize([2.0, 3.0], table.n_rows)
    if code == "no-convergence" and "s" in params["formula"]:
        table = Table(VARIABLES, {**table.columns, "y": even})  # varies less than Poisson
    with pytest.raises(CohortiumError) as caught:
        fit(table, **params)
    assert caught.value.code == code


def test_a_state_that_cannot_be_is_a_protocol_error() -> None:
    params = NegativeBinomialParams(formula="y ~ x")
    scope = Scope(VARIABLES, Disclosure(), 3)
    good = MODEL.start(params, scope)
    far = good.arrays["scalars"].copy()
    far[6] = 30.0
    for state in (
        State(good.values, {**good.arrays, "scalars": far}),
        State({**good.values, "phase": "start"}, good.arrays),
    ):
        with pytest.raises(ProtocolError):
            MODEL.local(people(1), state, params, scope)
