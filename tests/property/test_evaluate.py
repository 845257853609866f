"""Evaluations of models over sites are those of everybody's scores, and tell of no few persons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.areas import delong
from tests.support.federation import run_pooled_sum
from tests.support.frames import split

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError, InputError, PolicyRefusal

metrics = pytest.importorskip("sklearn.metrics")
sm = pytest.importorskip("statsmodels.api")

AGE = Variable(name="age", type=VariableType.INTEGER)
X = Variable(name="x", type=VariableType.REAL)
D = Variable(name="d", type=VariableType.REAL, decimals=1)
P = Variable(name="p", type=VariableType.REAL)
SEX = Variable(name="sex", type=VariableType.BOOLEAN)
STAGE = Variable(name="stage", type=VariableType.CATEGORY, levels=("I", "II", "III"))
Y = Variable(name="y", type=VariableType.BOOLEAN)
VARIABLES = {one.name: one for one in (AGE, X, D, P, SEX, STAGE, Y)}

WEIGHTS = {"Intercept": -3.1, "age": 0.043, "x": 0.71, "sex": 0.377, "stage[T.II]": 0.5}
FORMULA = {
    "name": "full",
    "formula": "age + x + sex + stage",
    "coefficients": {**WEIGHTS, "stage[T.III]": 1.13},
    "probability": True,
}
PREDICTED = {"name": "p", "score": "p", "probability": True}
SCORES = [{"name": name, "score": name} for name in ("d", "x", "age")]


@st.composite
def tables(draw: st.DrawFn) -> list[Table]:
    """Two to four sites, some small; ties, missing values, an outcome that is rare or not."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(0, 150), min_size=2, max_size=4))
    n = sum(sizes)
    columns: dict[str, Any] = {
        "age": random.integers(20, 90, n).astype(float),
        "x": random.normal(size=n) * draw(st.sampled_from([0.1, 1.0, 2.0])),
        "sex": (random.uniform(size=n) < 0.5).astype(float),
        "stage": random.choice(3, n).astype(np.int32),
    }
    eta = linear(columns) + draw(st.sampled_from([-2.0, 0.0]))
    columns["y"] = (random.uniform(size=n) < 1 / (1 + np.exp(-eta))).astype(float)
    columns["p"] = 1 / (1 + np.exp(-0.7 * eta - random.normal(size=n)))
    columns["d"] = np.round(eta + random.normal(size=n) * 2, 1)
    for name in ("x", "p", "d", "y"):
        columns[name][random.uniform(size=n) < draw(st.sampled_from([0.0, 0.1]))] = np.nan
    return split(Table(VARIABLES, columns), sizes)


def linear(columns: dict[str, Any]) -> Any:
    stage = np.array([0.0, 0.5, 1.13])[columns["stage"]]
    parts = [WEIGHTS[name] * columns[name] for name in ("age", "x", "sex")]
    return WEIGHTS["Intercept"] + sum(parts) + stage


disclosures = st.builds(
    Disclosure, min_cell=st.sampled_from([1, 5]), floor=st.sampled_from(["site", "total"])
)


def run(sites: list[Table], limits: Disclosure, models: list[Any], **params: Any) -> Any:
    asked = {"outcome": "y", "models": models, **params}
    try:
        return dict(run_pooled_sum(find("evaluate.model"), asked, sites, limits).result)
    except CohortiumError as error:
        return error


def contributed(sites: list[Table], names: list[str], limits: Disclosure) -> dict[str, Any]:
    """Columns of the persons with every value, of the sites that may speak."""
    floor = limits.min_cell if limits.floor == "site" else 0
    parts = []
    for site in sites:
        rows = np.all([site.present(name) for name in ("y", *names)], axis=0)
        if rows.sum() >= floor:
            parts.append(site.take(rows).columns)
    return {name: np.concatenate([part[name] for part in parts]) for name in VARIABLES}


def scores_of(columns: dict[str, Any], model: dict[str, Any]) -> Any:
    if "formula" in model:
        return np.round(linear(columns), 3)
    values = columns[model["score"]]
    return np.round(np.log(values / (1 - values)), 3) if model["probability"] else values


@settings(max_examples=25, deadline=None)
@given(sites=tables(), limits=disclosures, score=st.sampled_from(SCORES))
def test_measures_over_sites_are_those_of_everybody(
    sites: list[Table], limits: Disclosure, score: dict[str, Any]
) -> None:
    models = [FORMULA, {"probability": False, **score}, PREDICTED]
    found = run(sites, limits, models)
    if isinstance(found, CohortiumError):
        assert isinstance(found, PolicyRefusal | InputError)
        return
    columns = contributed(sites, ["age", "x", "sex", "stage", score["score"], "p"], limits)
    y = columns["y"] == 1
    assert (found["n"], found["events"]) == (len(y), int(y.sum()))
    scores = [scores_of(columns, model) for model in models]
    areas, cov = delong(np.column_stack(scores), y)
    whole = True
    for at, (one, values) in enumerate(zip(found["models"], scores, strict=True)):
        whole = whole and len(one["points"]["n"]) == len(np.unique(values))
        if one["merged"]:
            assert one["resolution"]["low"] - 1e-9 <= areas[at] <= one["resolution"]["high"] + 1e-9
            continue
        assert one["auc"]["value"] == pytest.approx(metrics.roc_auc_score(y, values), abs=1e-12)
        assert one["auc"]["value"] == pytest.approx(areas[at], abs=1e-12)
        assert one["auc"]["std_error"] == pytest.approx(np.sqrt(cov[at, at]), abs=1e-12)
        precision = metrics.average_precision_score(y, values)
        assert one["average_precision"]["value"] == pytest.approx(precision, abs=1e-12)
        if one["probability"]:
            check_probability(one, values, y)
        check_points(one, values, y, limits.min_cell)
    errors = [one["auc"]["std_error"] for one in found["models"]]
    if whole and min(errors) > 0:
        for one, (i, j) in zip(found["comparisons"], ((0, 1), (0, 2), (1, 2)), strict=True):
            variance = cov[i, i] + cov[j, j] - 2 * cov[i, j]
            assert one["difference"] == pytest.approx(areas[i] - areas[j], abs=1e-12)
            assert one["std_error"] == pytest.approx(np.sqrt(variance), abs=1e-9)


def check_probability(one: dict[str, Any], values: Any, y: Any) -> None:
    p = 1 / (1 + np.exp(-values))
    assert one["brier"]["value"] == pytest.approx(metrics.brier_score_loss(y, p), abs=1e-12)
    assert one["log_loss"]["value"] == pytest.approx(metrics.log_loss(y, p), abs=1e-12)
    rate = y.mean()
    scaled = 1 - metrics.brier_score_loss(y, p) / (rate * (1 - rate))
    assert one["brier"]["scaled"]["value"] == pytest.approx(scaled, abs=1e-12)
    found = one["calibration"]
    assert found["observed_to_expected"]["value"] == pytest.approx(y.sum() / p.sum())
    if found["slope"] is None or abs(found["slope"]["value"]) > 30:
        return
    fit = sm.GLM(y.astype(float), sm.add_constant(values), family=sm.families.Binomial()).fit(
        tol=1e-12
    )
    for name, at in (("intercept", 0), ("slope", 1)):
        assert found[name]["value"] == pytest.approx(fit.params[at], rel=1e-6, abs=1e-7)
        assert found[name]["std_error"] == pytest.approx(fit.bse[at], rel=1e-5)
    alone = sm.GLM(y.astype(float), np.ones(len(y)), family=sm.families.Binomial(), offset=values)
    assert found["in_the_large"]["value"] == pytest.approx(alone.fit(tol=1e-12).params[0], abs=1e-7)
    assert found["test"]["statistic"] == pytest.approx(
        2 * (fit.llf + len(y) * metrics.log_loss(y, p)), abs=1e-6
    )


def check_points(one: dict[str, Any], values: Any, y: Any, least: int) -> None:
    """Each point is exact, and no interval tells of few."""
    points = one["points"]
    cuts = np.array(points["threshold"][1:])
    if one["probability"]:
        cuts = np.log(cuts / (1 - cuts))
    n, events = (np.array(points[name]) for name in ("n", "events"))
    step = one["resolution"]["step"] if one["resolution"] else 0.0
    at = np.searchsorted(cuts - step / 2 - 1e-9 * np.abs(cuts), values, side="right")
    assert np.bincount(at, minlength=len(n)).tolist() == n.tolist()
    assert np.bincount(at, y, minlength=len(n)).tolist() == events.tolist()
    for counts in (n, events, n - events):
        assert not np.any((counts > 0) & (counts < least))
    if "groups" in one:
        groups = one["groups"]
        edges = set(np.cumsum(n).tolist())
        assert set(np.cumsum(groups["n"]).tolist()) <= edges
        assert sum(groups["expected"]) == pytest.approx((1 / (1 + np.exp(-values))).sum())


@settings(max_examples=10, deadline=None)
@given(sites=tables(), limits=disclosures, seed=st.integers(0, 99))
def test_the_order_of_sites_does_not_matter(
    sites: list[Table], limits: Disclosure, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(sites))
    models = [FORMULA, SCORES[0]]
    one, other = run(sites, limits, models), run([sites[at] for at in order], limits, models)
    assert str(one) == str(other)


@settings(max_examples=15, deadline=None)
@given(sites=tables(), limits=disclosures)
def test_points_do_not_depend_on_the_other_models_or_the_groups(
    sites: list[Table], limits: Disclosure
) -> None:
    one = run(sites, limits, [FORMULA])
    other = run(sites, limits, [{**FORMULA, "name": "again"}], groups=3, confidence=0.9)
    if isinstance(one, CohortiumError):
        assert type(one) is type(other)
        return
    assert one["models"][0]["points"] == other["models"][0]["points"]
