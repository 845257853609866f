"""Models of a category over sites are statsmodels' pooled ones."""

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

from cohortium.analysis.interface import AnyAnalysis, Scope
from cohortium.analysis.multinomial import Multinomial, MultinomialParams
from cohortium.analysis.ordinal import Ordinal, OrdinalParams
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State, Total
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, ProtocolError

sm = pytest.importorskip("statsmodels.api")
ordinal_model = pytest.importorskip("statsmodels.miscmodels.ordinal_model")

LEVELS = ("none", "mild", "severe")
VARIABLES = {
    v.name: v
    for v in (
        Variable(name="y", type=VariableType.CATEGORY, levels=LEVELS),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="z", type=VariableType.REAL),
        Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b", "c")),
        Variable(name="b", type=VariableType.BOOLEAN),
    )
}
SIZES = [120, 150, 130]
LINKS = {"logit": "logit", "probit": "probit", "cloglog": stats.gumbel_l}
FORMULA = "y ~ x + z + s"
TERMS = ["s[T.b]", "s[T.c]", "x", "z"]


def people(seed: int, scale: float = 1.0, far: float = 0.0) -> Table:
    random, n = np.random.default_rng(seed), sum(SIZES)
    x, z, s = random.normal(size=n), random.normal(size=n), random.integers(0, 3, n)
    eta = 0.8 * x - 0.4 * z + np.array([0.0, 0.5, -0.5])[s] + random.logistic(size=n)
    y = np.digitize(eta, [-0.7, 1.0])
    x[random.uniform(size=n) < 0.04] = np.nan
    return Table(
        VARIABLES,
        {
            "y": np.where(random.uniform(size=n) < 0.02, -1, y).astype(np.int32),
            "x": x * scale + far,
            "z": z,
            "s": s.astype(np.int32),
            "b": (random.uniform(size=n) < 0.5).astype(np.float64),
        },
    )


def fit(analysis: AnyAnalysis, table: Table, floor: Any = "site", **params: Any) -> dict[str, Any]:
    asked = {"formula": FORMULA, **params}
    limits = Disclosure(floor=floor)
    return dict(run_pooled_sum(analysis, asked, split(table, SIZES), limits).result)


def frame_of(table: Table) -> tuple[pd.Series[Any], pd.DataFrame]:
    s, y = table.columns["s"], table.columns["y"]
    x = pd.DataFrame({name: table.columns[name] for name in ("x", "z")})
    x.insert(0, "s[T.b]", (s == 1).astype(float))
    x.insert(1, "s[T.c]", (s == 2).astype(float))
    keep = (y >= 0) & ~np.isnan(table.columns["x"])
    return pd.Series(y)[keep], x[keep]


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    floor=st.sampled_from(["site", "total"]),
    reference=st.sampled_from([None, "severe"]),
)
def test_the_federated_multinomial_model_is_the_pooled_one(
    seed: int, floor: str, reference: str | None
) -> None:
    table = people(seed)
    ours = fit(Multinomial(), table, floor, reference=reference)
    y, x = frame_of(table)
    order = [LEVELS.index(one["level"]) for one in ours["outcome_levels"]]
    y = y.map({code: place for place, code in enumerate(order)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sm.MNLogit(y, sm.add_constant(x)).fit(method="newton", tol=1e-13, disp=0)
    names = ["const", *TERMS]
    assert sorted(ours["columns"]) == ["Intercept", *TERMS]
    at = [names.index("const" if name == "Intercept" else name) for name in ours["columns"]]
    want, bse = (values.loc[names].to_numpy()[at].T for values in (theirs.params, theirs.bse))
    shape = (2, len(names))
    assert np.reshape(ours["params"], shape) == pytest.approx(want, rel=1e-8, abs=1e-9)
    assert np.reshape(ours["bse"], shape) == pytest.approx(bse, rel=1e-8)
    assert np.reshape(ours["pvalues"], shape) == pytest.approx(
        theirs.pvalues.loc[names].to_numpy()[at].T, rel=1e-6, abs=1e-12
    )
    assert ours["loglik"] == pytest.approx(theirs.llf, rel=1e-12)
    assert ours["null_loglik"] == pytest.approx(theirs.llnull, rel=1e-7)
    assert ours["pseudo_r2"] == pytest.approx(theirs.prsquared, rel=1e-6)
    assert ours["lr_test"]["statistic"] == pytest.approx(theirs.llr, rel=1e-6)
    assert ours["lr_test"]["df"] == theirs.df_model
    assert (ours["aic"], ours["bic"]) == pytest.approx((theirs.aic, theirs.bic), rel=1e-12)
    assert ours["n"] == theirs.nobs


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    floor=st.sampled_from(["site", "total"]),
    link=st.sampled_from(sorted(LINKS)),
)
def test_the_federated_ordinal_model_is_the_pooled_one(seed: int, floor: str, link: str) -> None:
    table = people(seed)
    ours = fit(Ordinal(), table, floor, link=link)
    y, x = frame_of(table)
    model = ordinal_model.OrderedModel(y.astype(int), x[ours["terms"]], distr=LINKS[link])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = model.fit(method="bfgs", disp=0, gtol=1e-8)
    p = len(TERMS)
    bse = np.array(ours["bse"])
    assert np.abs((np.array(ours["params"]) - theirs.params.to_numpy()[:p]) / bse).max() < 1e-5
    assert bse == pytest.approx(theirs.bse.to_numpy()[:p], rel=1e-3)  # theirs is numeric
    cuts = model.transform_threshold_params(theirs.params.to_numpy())[1:-1]
    assert ours["thresholds"]["params"] == pytest.approx(cuts, abs=1e-5)
    assert ours["loglik"] == pytest.approx(theirs.llf, rel=1e-10)
    assert ours["null_loglik"] == pytest.approx(theirs.llnull, rel=1e-10)
    assert ours["lr_test"]["df"] == p
    assert bool(ours["proportional_odds"]) == (link == "logit")


def test_brants_test_is_that_of_the_pooled_logit_models() -> None:
    """The covariance of two cuts' slopes as in the article, from statsmodels' fits."""
    table = people(5)
    ours = fit(Ordinal(), table)
    y, x = frame_of(table)
    x = sm.add_constant(x[ours["terms"]])
    fits = [sm.Logit((y > cut).astype(float), x).fit(disp=0, tol=1e-13) for cut in (0, 1)]
    first, second = (one.predict(x).to_numpy() for one in fits)
    at = x.to_numpy()

    def joint(weight: Any) -> Any:
        return (at * weight[:, None]).T @ at

    own = [np.linalg.inv(joint(p * (1 - p))) for p in (first, second)]
    both = (own[0] @ joint(second - first * second) @ own[1])[1:, 1:]
    apart = (fits[0].params - fits[1].params).to_numpy()[1:]
    cov = own[0][1:, 1:] + own[1][1:, 1:] - both - both.T
    whole, *each = ours["proportional_odds"]
    assert whole["statistic"] == pytest.approx(apart @ np.linalg.solve(cov, apart), rel=1e-8)
    assert whole["df"] == 4
    assert whole["p_value"] == pytest.approx(stats.chi2.sf(whole["statistic"], 4), rel=1e-10)
    assert [one["name"] for one in each] == ours["terms"]
    for one, value, variance in zip(each, apart, np.diag(cov), strict=True):
        assert one["statistic"] == pytest.approx(value**2 / variance, rel=1e-8)


@pytest.mark.parametrize("analysis", [Multinomial(), Ordinal()])
def test_the_result_hangs_on_no_order_of_sites_and_no_unit(analysis: AnyAnalysis) -> None:
    table = people(7)
    parts = split(table, SIZES)
    asked = {"formula": FORMULA}
    ours = run_pooled_sum(analysis, asked, parts).result
    turned = run_pooled_sum(analysis, asked, [parts[2], parts[0], parts[1]]).result
    assert turned["params"] == ours["params"]
    assert turned["cov"] == ours["cov"]
    scaled = fit(analysis, people(7, scale=1e-6, far=300.0))
    places = [at for at, name in enumerate(ours["terms"]) if name.rpartition(": ")[2] == "x"]
    for at in places:
        assert scaled["params"][at] * 1e-6 == pytest.approx(ours["params"][at], rel=1e-5)
        assert scaled["bse"][at] * 1e-6 == pytest.approx(ours["bse"][at], rel=1e-5)
    assert scaled["loglik"] == pytest.approx(ours["loglik"], rel=1e-9)


def test_the_order_of_levels_turns_the_signs() -> None:
    table = people(9)
    up, down = fit(Ordinal(), table), fit(Ordinal(), table, levels=LEVELS[::-1])
    assert down["params"] == pytest.approx([-value for value in up["params"]], rel=1e-9)
    assert down["thresholds"]["params"] == pytest.approx(
        [-value for value in up["thresholds"]["params"][::-1]], rel=1e-9
    )
    assert down["thresholds"]["names"] == ["severe|mild", "mild|none"]
    assert down["loglik"] == pytest.approx(up["loglik"], rel=1e-12)


def changed(table: Table, **columns: Any) -> Table:
    return Table(VARIABLES, {**table.columns, **columns})


def few(table: Table) -> Table:
    y = np.where(table.columns["y"] == 2, 1, table.columns["y"])
    y[:4] = 2
    x = np.nan_to_num(table.columns["x"])
    return changed(table, y=y.astype(np.int32), x=x)


def apart(table: Table) -> Table:
    x = np.nan_to_num(table.columns["x"])
    y = np.digitize(x, [-0.5, 0.5])
    return changed(table, y=y.astype(np.int32), x=x)


def one_cell(table: Table) -> Table:
    """Of those at the third level, two persons are in b."""
    b = np.where(table.columns["y"] == 2, 0.0, table.columns["b"])
    b[np.flatnonzero(table.columns["y"] == 2)[:2]] = 1.0
    return changed(table, b=b)


def turned(table: Table) -> Table:
    return changed(table, b=1 - table.columns["b"])


def without_a_level(table: Table) -> Table:
    y = np.where(table.columns["y"] == 2, 1, table.columns["y"])
    return changed(table, y=y.astype(np.int32))


@pytest.mark.parametrize("analysis", [Multinomial(), Ordinal()])
@pytest.mark.parametrize(
    ("table", "params", "code", "word"),
    [
        (few(people(1)), {}, "too-few-persons", "y[severe]"),
        (one_cell(people(1)), {"formula": "y ~ b"}, "too-few-persons", "y[severe] and b"),
        (
            turned(one_cell(people(1))),
            {"formula": "y ~ b"},
            "too-few-persons",
            "y[severe] and the reference of b",
        ),
        (without_a_level(people(1)), {}, "no-convergence", "y[severe]"),
        (apart(people(1)), {}, "no-convergence", "x"),
        (people(1), {"formula": "y ~ x + I(2 * x)"}, "no-convergence", "I(2 * x)"),
        (people(1), {"formula": "x ~ z"}, "bad-input", "study.glm"),
        (people(1), {"formula": "b ~ z"}, "bad-input", "study.glm"),
        (people(1), {"formula": "y ~ 0 + z"}, "bad-formula", "intercept"),
        (people(1), {"formula": "C(y) ~ z"}, "bad-input", "C(y)"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_its_name(
    analysis: AnyAnalysis, table: Table, params: dict[str, str], code: str, word: str
) -> None:
    with pytest.raises(CohortiumError) as caught:
        fit(analysis, table, **params)
    assert caught.value.code == code
    assert word in caught.value.message


@pytest.mark.parametrize(
    ("analysis", "params", "code"),
    [
        (Multinomial(), {"reference": "worst"}, "bad-input"),
        (Ordinal(), {"levels": ("none", "mild")}, "bad-input"),
        (Ordinal(), {"levels": ("none", "mild", "mild")}, "bad-input"),
        (Ordinal(), {"formula": "y ~ 1"}, "bad-formula"),
    ],
)
def test_levels_and_terms_that_do_not_fit_are_refused(
    analysis: AnyAnalysis, params: dict[str, Any], code: str
) -> None:
    with pytest.raises(CohortiumError) as caught:
        fit(analysis, people(1), **params)
    assert caught.value.code == code


@pytest.mark.parametrize(("analysis", "parameters"), [(Multinomial(), 10), (Ordinal(), 6)])
def test_every_coefficient_of_every_level_needs_its_persons(
    analysis: AnyAnalysis, parameters: int
) -> None:
    table, asked = people(1), {"formula": FORMULA}
    n = int(np.count_nonzero((table.columns["y"] >= 0) & ~np.isnan(table.columns["x"])))
    least = Disclosure(persons_per_parameter=n // parameters)
    assert run_pooled_sum(analysis, asked, split(table, SIZES), least).result["n"] == n
    more = Disclosure(persons_per_parameter=n // parameters + 1)
    with pytest.raises(CohortiumError) as caught:
        run_pooled_sum(analysis, asked, split(table, SIZES), more)
    assert caught.value.code == "too-many-parameters"
    assert caught.value.details["parameters"] == parameters


def test_a_level_that_a_column_tells_but_for_few_persons_is_refused() -> None:
    """Coefficients of `b` would be about the two who differ."""
    table = people(2)
    b = (table.columns["y"] == 2).astype(np.float64)
    b[np.flatnonzero(table.columns["y"] == 1)[:2]] = 1.0
    for analysis in (Multinomial(), Ordinal()):
        with pytest.raises(CohortiumError) as caught:
            fit(analysis, changed(table, b=b), formula="y ~ x + b")
        assert caught.value.code == "too-few-persons"
        assert caught.value.details["cells"] == ["what b and y[severe] differ in"]


def test_a_site_below_its_own_floor_sends_zeros_and_counts_come_alone_first() -> None:
    table, params = people(3), MultinomialParams(formula=FORMULA)
    small = split(table, [3, 397])[0]
    scope = Scope(VARIABLES, Disclosure(floor="site"), 3)
    sent = Multinomial().local(small, Multinomial().start(params, scope), params, scope)
    assert not any(array.any() for array in sent.values())
    total = Scope(VARIABLES, Disclosure(floor="total"), 3)
    first = Multinomial().layout(Multinomial().start(params, total), params, total)
    assert set(first) == {"persons"}


def test_the_persons_at_each_level_of_the_outcome_are_sets_that_are_told_of() -> None:
    params, scope = OrdinalParams(formula=FORMULA), Scope(VARIABLES, Disclosure(), 3)
    assert Ordinal().partition(params, scope) == ("y",)


def test_where_one_cut_has_no_estimate_the_model_comes_without_brants_test() -> None:
    """Nobody of c is above the first level, so that one cut is separated, but not the model."""
    table = people(4)
    s, y = table.columns["s"], table.columns["y"].copy()
    y[(s == 2) & (y == 2)] = 1
    ours = fit(Ordinal(), changed(table, y=y))
    assert ours["proportional_odds"] == []
    assert ours["suppressed"] == [
        "test of proportional odds: a logit model of one cut of the levels has no finite estimate"
    ]
    assert max(ours["bse"]) < 1


def _forged(state: State) -> list[State]:
    values, arrays = dict(state.values), dict(state.arrays)
    out = [
        State({**values, "phase": "errors"}, arrays),
        State({**values, "steps": [0]}, arrays),
        State({**values, "steps": [0, -1]}, arrays),
        State({**values, "steps": [True, 0]}, arrays),
    ]
    for name, array in arrays.items():
        out.append(State(values, {**arrays, name: array[:-1]}))
        out.append(State(values, {key: array for key, array in arrays.items() if key != name}))
        if array.dtype == np.float64:
            out.append(State(values, {**arrays, name: np.full_like(array, np.inf)}))
    return out


@pytest.mark.parametrize(
    ("analysis", "params"),
    [
        (Multinomial(), MultinomialParams(formula=FORMULA)),
        (Ordinal(), OrdinalParams(formula=FORMULA)),
    ],
)
def test_a_state_that_cannot_be_is_a_protocol_error(analysis: AnyAnalysis, params: Any) -> None:
    table, scope = people(1), Scope(VARIABLES, Disclosure(), 3)
    seen: list[tuple[State, Total]] = []
    run_pooled_sum(analysis, {"formula": FORMULA}, split(table, SIZES), seen=seen)
    for state, total in (seen[0], seen[1], seen[-1]):
        for forged in _forged(state):
            with pytest.raises(ProtocolError):
                analysis.local(table, forged, params, scope)
            with pytest.raises(ProtocolError):
                analysis.finish(total, forged, params, scope)


@pytest.mark.parametrize("far", [1e3, 1e300])
def test_coefficients_beyond_all_numbers_warn_of_nothing(far: float) -> None:
    """Warnings are errors here; a sum that is no number is refused where it is masked."""
    table, scope = people(1), Scope(VARIABLES, Disclosure(), 3)
    models: list[tuple[AnyAnalysis, Any]] = [
        (Multinomial(), MultinomialParams(formula=FORMULA)),
        (Ordinal(), OrdinalParams(formula=FORMULA)),
        (Ordinal(), OrdinalParams(formula=FORMULA, link="probit")),
        (Ordinal(), OrdinalParams(formula=FORMULA, link="cloglog")),
    ]
    for analysis, params in models:
        seen: list[tuple[State, Total]] = []
        asked = params.model_dump(exclude_none=True)
        run_pooled_sum(analysis, asked, split(table, SIZES), seen=seen)
        state = seen[1][0]
        beta = state.arrays["beta"].copy()
        beta[2:] = far
        sent = analysis.local(
            table, State(state.values, {**state.arrays, "beta": beta}), params, scope
        )
        assert set(sent) == {"loglik", "score", "information"}


def test_thresholds_that_do_not_increase_and_cuts_of_another_link_are_protocol_errors() -> None:
    table, scope = people(1), Scope(VARIABLES, Disclosure(), 3)
    seen: list[tuple[State, Total]] = []
    run_pooled_sum(Ordinal(), {"formula": FORMULA}, split(table, SIZES), seen=seen)
    state, cuts = seen[1][0], seen[-1][0]
    beta = state.arrays["beta"].copy()
    beta[:2] = beta[1::-1]
    backwards = State(state.values, {**state.arrays, "beta": beta})
    for params, forged in (
        (OrdinalParams(formula=FORMULA), backwards),
        (OrdinalParams(formula=FORMULA, link="probit"), cuts),
    ):
        with pytest.raises(ProtocolError):
            Ordinal().local(table, forged, params, scope)
