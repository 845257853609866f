"""A mixed model over sites is the maximum on everybody's rows, and gives no few persons away."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.by_site import OPEN, SMALL, run_by_site

import cohortium as co
from cohortium.analysis.interface import Scope
from cohortium.analysis.mixed import Mixed, MixedParams
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.rounds import State
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, ProtocolError

VARIABLES = {
    v.name: v
    for v in (
        Variable(name="y", type=VariableType.REAL),
        Variable(name="x", type=VariableType.REAL),
        Variable(name="k", type=VariableType.INTEGER),
        Variable(name="s", type=VariableType.CATEGORY, levels=("a", "b")),
    )
}


def run(params: Mapping[str, Any], sites: list[Table], limits: Disclosure = OPEN) -> dict[str, Any]:
    return run_by_site(Mixed(), params, sites, limits)


def refused(params: Mapping[str, Any], sites: list[Table], limits: Disclosure = OPEN) -> str:
    with pytest.raises(CohortiumError) as caught:
        run(params, sites, limits)
    return caught.value.code


def people(random: np.random.Generator, sizes: list[int], tau: float, scale: float) -> list[Table]:
    tables = []
    for n in sizes:
        x, s = random.normal(50, 8, n), random.integers(0, 2, n)
        y = 3 + 0.2 * x + 0.7 * s + random.normal(0, tau) + random.normal(0, 2, n)
        columns = {"y": y, "x": x * scale, "k": random.integers(0, 9, n) * 1.0}
        columns["x"][random.random(n) < 0.15] = np.nan
        tables.append(Table(VARIABLES, columns | {"s": s.astype(np.int32)}))
    return tables


class Dense:
    """The likelihood on the pooled rows, each institution's whitened."""

    def __init__(self, sites: list[Table], unit: float, *, reml: bool) -> None:
        rows = []
        for at, table in enumerate(sites):
            columns = table.columns
            whole = [np.ones(table.n_rows), columns["x"] / unit, columns["s"], columns["y"]]
            rows.append(np.column_stack([*whole, np.full(table.n_rows, at)]))
        z = np.concatenate(rows)
        z = z[~np.isnan(z).any(axis=1)]
        self.x, self.y, self.site, self.reml = z[:, :3], z[:, 3], z[:, 4], reml

    def fit(self, theta: float) -> tuple[float, Any, Any, float]:
        """Log-likelihood, coefficients, their covariance, variance within."""
        x, y, determinant = self.x.copy(), self.y.copy(), 0.0
        for site in np.unique(self.site):
            mine = self.site == site
            n = int(np.count_nonzero(mine))
            root = np.eye(n) - (1 - 1 / math.sqrt(1 + n * theta)) / n
            x[mine], y[mine] = root @ x[mine], root @ y[mine]
            determinant += math.log(1 + n * theta)
        information = x.T @ x
        beta = np.linalg.lstsq(x, y, rcond=None)[0]
        rest = y - x @ beta
        df = len(y) - (3 if self.reml else 0)
        within = rest @ rest / df
        value = df * (math.log(2 * math.pi * within) + 1) + determinant
        value += np.linalg.slogdet(information)[1] if self.reml else 0.0
        return -value / 2, beta, within * np.linalg.inv(information), float(within)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 70), min_size=3, max_size=5),
    tau=st.sampled_from([0.0, 0.5, 3.0, 40.0]),
    method=st.sampled_from(["REML", "ML"]),
    floor=st.sampled_from(["site", "total"]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_the_fit_over_sites_is_the_maximum_on_the_pooled_rows(
    seed: int, sizes: list[int], tau: float, method: Any, floor: Any, scale: float
) -> None:
    assume(sum(size >= 30 for size in sizes) >= 3)
    sites = people(np.random.default_rng(seed), sizes, tau, scale)
    limits = Disclosure(by_site=True, min_cell=5, floor=floor)
    try:
        found = run({"formula": "y ~ x + s", "method": method}, sites, limits)
    except PolicyRefusal:
        assume(False)
    named = {one["site"] for one in found["institutions"]}
    spoken = [table for at, table in enumerate(sites) if f"site {at}" in named]
    assert len(spoken) >= 3
    dense = Dense(spoken, scale, reml=method == "REML")
    assert found["n"] == len(dense.y)
    theta = found["variance_between"] / found["variance_within"]
    loglik, beta, cov, within = dense.fit(theta)
    unit = np.array([1.0, scale, 1.0])
    assert np.array(found["params"]) * unit == pytest.approx(beta, rel=1e-7, abs=1e-8)
    assert np.array(found["bse"]) * unit == pytest.approx(np.sqrt(np.diag(cov)), rel=1e-7)
    assert found["variance_within"] == pytest.approx(within, rel=1e-8)
    shift = math.log(scale) if method == "REML" else 0.0
    assert found["loglik"] == pytest.approx(loglik - shift, rel=1e-9)
    others = [*(theta * np.array([0.5, 0.99, 1.01, 2.0])), *np.logspace(-6, 4, 15), 0.0]
    assert loglik >= max(dense.fit(other)[0] for other in others) - 1e-9
    assert found["lr_statistic"] == pytest.approx(2 * (loglik - dense.fit(0.0)[0]), abs=1e-6)
    for one in found["institutions"]:
        place = [f"site {at}" for at in range(len(sites))].index(one["site"])
        mine = dense.site == [id(t) for t in spoken].index(id(sites[place]))
        rest = (dense.y - dense.x @ beta)[mine]
        shrunk = theta * len(rest) / (1 + theta * len(rest)) * rest.mean()
        assert one["intercept"] == pytest.approx(shrunk, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_the_fit_equals_statsmodels(method: Any) -> None:
    smf = pytest.importorskip("statsmodels.formula.api")
    sites = people(np.random.default_rng(7), [80, 120, 60, 90], 3.0, 1.0)
    found = run({"formula": "y ~ x + s", "method": method}, sites)
    rows = [pd.DataFrame(dict(t.columns)).assign(site=at) for at, t in enumerate(sites)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = smf.mixedlm("y ~ x + s", pd.concat(rows).dropna(), groups="site", missing="drop")
        pooled = model.fit(reml=method == "REML")
    assert found["params"] == pytest.approx(pooled.fe_params.to_numpy(), rel=1e-4)
    assert found["bse"] == pytest.approx(pooled.bse_fe.to_numpy(), rel=1e-2)
    assert found["variance_within"] == pytest.approx(pooled.scale, rel=1e-4)
    assert found["variance_between"] == pytest.approx(pooled.cov_re.iloc[0, 0], rel=1e-2)
    # Its optimiser stops a little earlier.
    assert pooled.llf - 1e-9 <= found["loglik"] == pytest.approx(pooled.llf, abs=1e-3)


def outcome_of(groups: Sequence[Sequence[float]]) -> list[Table]:
    variable = {"y": Variable(name="y", type=VariableType.REAL)}
    return [Table(variable, {"y": np.array(group, dtype=np.float64)}) for group in groups]


@pytest.mark.parametrize(
    ("method", "between", "loglik"),
    [("REML", 24.80547, -61.0885), ("ML", 22.62435, -64.28002)],
)
def test_rails_are_as_pinheiro_and_bates_print_them(
    method: str, between: float, loglik: float
) -> None:
    # Pinheiro & Bates 2000, Mixed-Effects Models in S and S-PLUS, ch. 1.1: nlme's Rail
    rails = [[55, 53, 54], [26, 37, 32], [78, 91, 85], [92, 100, 96], [49, 51, 50], [80, 85, 83]]
    found = run({"formula": "y ~ 1", "method": method}, outcome_of(rails), SMALL)
    assert found["params"] == pytest.approx([66.5])
    assert math.sqrt(found["variance_between"]) == pytest.approx(between, abs=6e-6)
    assert math.sqrt(found["variance_within"]) == pytest.approx(4.020779, abs=6e-7)
    assert found["loglik"] == pytest.approx(loglik, abs=6e-5)
    if method == "REML":
        assert found["bse"] == pytest.approx([10.17104], abs=6e-6)


def test_dyestuff_is_as_lme4_prints_it() -> None:
    # Bates, lme4: Mixed-effects modeling with R, ch. 1: lmer(Yield ~ 1 + (1 | Batch), Dyestuff)
    batches = [
        [1545, 1440, 1440, 1520, 1580],
        [1540, 1555, 1490, 1560, 1495],
        [1595, 1550, 1605, 1510, 1560],
        [1445, 1440, 1595, 1465, 1545],
        [1595, 1630, 1515, 1635, 1625],
        [1520, 1455, 1450, 1480, 1445],
    ]
    found = run({"formula": "y ~ 1"}, outcome_of(batches), SMALL)
    assert -2 * found["loglik"] == pytest.approx(319.6543, abs=6e-5)
    assert found["variance_between"] == pytest.approx(1764.05, abs=6e-3)
    assert found["variance_within"] == pytest.approx(2451.25, abs=6e-3)
    assert (found["params"][0], found["bse"][0]) == pytest.approx((1527.5, 19.38), abs=6e-3)


def test_the_order_of_sites_does_not_matter() -> None:
    sites = people(np.random.default_rng(2), [40, 50, 60], 2.0, 1.0)
    one, other = (run({"formula": "y ~ x"}, order) for order in (sites, sites[::-1]))
    assert one["params"] == pytest.approx(other["params"], rel=1e-12)
    assert one["loglik"] == pytest.approx(other["loglik"], rel=1e-12)


def test_contracts_without_by_site_and_two_institutions_are_refused() -> None:
    sites = people(np.random.default_rng(3), [60, 60, 60], 1.0, 1.0)
    asked = {"formula": "y ~ x"}
    assert refused(asked, sites, Disclosure()) == "not-permitted"
    assert refused(asked, sites, Disclosure(by_site=True, rounding=5)) == "not-permitted"
    assert refused(asked, sites[:2]) == "too-few-sites"
    assert refused(asked, [t.take(np.arange(60) < 6) for t in sites]) == "too-many-parameters"
    assert refused(asked, sites, Disclosure(by_site=True, min_cohort=500)) == "too-few-persons"
    rule = Disclosure(by_site=True, dominance=Dominance(largest=1, percent=0.5))
    assert refused(asked, sites, rule) == "too-few-persons"


@pytest.mark.parametrize(
    "formula", ["y ~ I(x ** 2)", "log(y) ~ x", "y ~ x:k", "y ~ 0 + x", "s ~ x"]
)
def test_formulas_that_do_not_fit_are_refused(formula: str) -> None:
    sites = people(np.random.default_rng(3), [60, 60, 60], 1.0, 1.0)
    with pytest.raises(InputError):
        run({"formula": formula}, sites)


def test_columns_that_follow_from_others_are_named() -> None:
    sites = people(np.random.default_rng(3), [60, 60, 60], 1.0, 1.0)
    twice = [Table(t.variables, {**t.columns, "k": 2 * t.columns["x"]}) for t in sites]
    with pytest.raises(InputError, match="k") as caught:
        run({"formula": "y ~ x + k"}, twice)
    assert caught.value.code == "no-convergence"


@pytest.mark.parametrize("how", ["level", "number", "outcome", "alike", "few"])
def test_a_site_whose_means_tell_of_few_persons_is_silent(how: str) -> None:
    sites = people(np.random.default_rng(4), [60, 60, 60, 60], 1.0, 1.0)
    first = {name: column.copy() for name, column in sites[0].columns.items()}
    first["x"] = np.arange(60.0)
    rare = (np.arange(60) < 3).astype(np.float64)
    if how == "level":
        first["s"] = rare.astype(np.int32)
    elif how == "number":
        first["k"] = 4 + 3 * rare
    elif how == "outcome":
        first["y"] = 1 - rare
    elif how == "alike":
        first["s"] = (np.arange(60) < 30).astype(np.int32)
        first["k"] = (np.arange(60) < 29).astype(np.float64)
    else:
        first["x"][4:] = np.nan
    sites[0] = Table(VARIABLES, first)
    found = run({"formula": "y ~ x" if how == "few" else "y ~ x + s + k"}, sites)
    assert [one["site"] for one in found["institutions"]] == ["site 1", "site 2", "site 3"]


def test_a_state_that_is_not_as_agreed_is_refused() -> None:
    analysis, params = Mixed(), MixedParams(formula="y ~ x")
    scope = Scope(VARIABLES, OPEN, 3, ("a", "b", "c"))
    good = analysis.start(params, scope)
    for bad in (
        State({"phase": "other"}, dict(good.arrays)),
        State({"phase": "means"}, {}),
        State({"phase": "means"}, {**good.arrays, "means": np.zeros((2, 2))}),
    ):
        with pytest.raises(ProtocolError):
            analysis.layout(bad, params, scope)
    with pytest.raises(ProtocolError):
        analysis.narrowed(params, 1)


def frames() -> dict[str, pd.DataFrame]:
    random = np.random.default_rng(9)
    out = {}
    for name in ("North", "East", "South"):
        age = np.tile(np.arange(30, 90), 2)
        level = random.normal(0, 4)
        out[name] = pd.DataFrame({"age": age, "y": level + age / 2 + random.normal(0, 3, 120)})
    return out


def test_a_researcher_sees_words_tables_and_each_institution() -> None:
    with co.local(frames(), by_site=True) as fed:
        found = fed.study().mixed("y ~ age")
        assert list(found.random_effects.index) == ["North", "East", "South"]
        assert found.params["age"] == pytest.approx(0.5, abs=0.05)
        assert found.bse["age"] == pytest.approx(
            math.sqrt(float(np.asarray(found.cov_params().loc["age", "age"])))
        )
        assert "between institutions" in found.interpret()
        assert "机构间方差占" in found.interpret("zh")
        assert found.tables("zh")[1].columns[0] == "机构"
        assert "ICC" in str(found.summary())
        assert '"age"' in found.plot().to_json()


def test_one_institutions_persons_may_not_nearly_be_those_of_an_earlier_result() -> None:
    some = frames()
    some["North"].loc[0, "age"] = 20
    for name in ("East", "South"):
        some[name].loc[:9, "age"] = 20
    with co.local(some, by_site=True) as fed:
        study = fed.study()
        study.mixed("y ~ age")
        with pytest.raises(PolicyRefusal) as caught:
            study.cohort(include="age >= 30").mixed("y ~ age")
        assert caught.value.code == "differencing"
        assert study.cohort(include="age >= 35").mixed("y ~ age").n < 360


def test_what_institutions_leave_of_a_joint_result_is_not_few_persons() -> None:
    some = frames() | {"West": pd.DataFrame({"age": [40, 50, 60], "y": [20.0, 30.0, 41.0]})}
    with co.local(some, by_site=True) as fed, pytest.raises(PolicyRefusal) as caught:
        fed.study().mixed("y ~ age")
    assert caught.value.code == "too-few-persons"
    assert "lack a value" in caught.value.message


def test_a_contract_that_keeps_institutions_together_refuses() -> None:
    with co.local(frames()) as fed, pytest.raises(PolicyRefusal, match="by_site"):
        fed.study().mixed("y ~ age")
