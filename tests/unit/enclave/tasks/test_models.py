"""Models of built-in tasks beside scikit-learn on the plain join."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score, roc_curve
from sklearn.preprocessing import StandardScaler
from tests.support.built_in import called, document, files, plain_join, two_tables

from cohortium.enclave.tasks import logistic, predict, training
from cohortium.enclave.tasks.call import Refused

FEATURES = "left.age,right.income,right.visits"
ASKED: dict[str, Any] = {"target": "left.stroke", "features": FEATURES}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Path]:
    return files(two_tables(), tmp_path)


def plain() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    frame = plain_join(two_tables())
    return frame[FEATURES.split(",")].to_numpy(dtype=float), frame["left.stroke"].to_numpy()


def predicted(folder: Path, given: dict[str, Path], made: dict[str, Path]) -> pd.DataFrame:
    out = called("predict", folder, {**given, "model": made["model"]})
    return pd.read_csv(out["predictions"] / "predictions.csv", dtype={"id": str}, index_col="id")


def test_logistic_regression_is_that_of_scikit_learn(
    tmp_path: Path, given: dict[str, Path]
) -> None:
    x, y = plain()
    z = StandardScaler().fit_transform(x)
    learner = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(z, y)
    made = called("logistic-train", tmp_path, given, **ASKED, penalty=2.0)
    model = document(made["model"] / "model.json")
    np.testing.assert_allclose(model["coefficients"], learner.coef_[0], atol=1e-6)
    assert model["intercept"] == pytest.approx(learner.intercept_[0], abs=1e-6)
    found = predicted(tmp_path, given, made)
    assert list(found.index) == list(plain_join(two_tables()).index)
    expected = learner.predict_proba(z)[:, 1]
    np.testing.assert_allclose(found["probability"], expected, atol=1e-6)
    told = document(made["report"] / "report.json")["training"]
    false, true, _ = roc_curve(y, expected)
    assert told["auc"] == pytest.approx(roc_auc_score(y, expected), abs=1e-12)
    assert told["ks"] == pytest.approx((true - false).max(), abs=1e-12)
    assert told["log_loss"] == pytest.approx(log_loss(y, expected), abs=1e-6)
    assert told["accuracy"] == learner.score(z, y)


def test_ties_in_scores_count_as_scikit_learn_counts_them() -> None:
    y = np.array([0, 1, 0, 1, 1, 0, 0, 1])
    score = np.array([0.1, 0.4, 0.4, 0.4, 0.9, 0.1, 0.9, 0.9])
    false, true, _ = roc_curve(y, score, drop_intermediate=False)
    assert training.auc(y, score) == pytest.approx(roc_auc_score(y, score))
    assert training.ks(y, score) == pytest.approx((true - false).max())


def test_classes_that_a_feature_tells_apart_need_a_penalty() -> None:
    x = np.linspace(-1, 1, 40)[:, None]
    y = (x[:, 0] > 0).astype(float)
    with pytest.raises(Refused, match="no finite solution"):
        logistic.fit(x, y, 0.0)
    _, (slope,) = logistic.fit(x, y, 1.0)
    expected = LogisticRegression(C=1.0, tol=1e-10).fit(x, y).coef_[0, 0]
    assert slope == pytest.approx(expected, abs=1e-5)
    with pytest.raises(Refused, match="repeat each other"):
        logistic.fit(np.column_stack([x, x]), np.tile([0.0, 1.0], 20), 0.0)


def test_trees_are_those_of_scikit_learn_with_missing_values(tmp_path: Path) -> None:
    tables = two_tables()
    chance = np.random.default_rng(4)
    for slot, column in (("left", "age"), ("right", "visits")):
        tables[slot].loc[chance.random(len(tables[slot])) < 0.2, column] = np.nan
    given = files(tables, tmp_path)
    frame = plain_join(tables)
    x, y = frame[FEATURES.split(",")].to_numpy(dtype=float), frame["left.stroke"].to_numpy()
    learner = HistGradientBoostingClassifier(
        max_iter=20, max_leaf_nodes=8, min_samples_leaf=15, early_stopping=False, random_state=0
    )
    with training.one_thread():
        expected = learner.fit(x, y).predict_proba(x)[:, 1]
    asked = {**ASKED, "trees": 20, "leaves": 8, "min_cell": 15}
    made = called("trees-train", tmp_path, given, **asked)
    found = predicted(tmp_path, given, made)["probability"]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_split_between_missing_values_and_all_others_is_kept(tmp_path: Path) -> None:
    tables = two_tables()
    tables["left"]["age"] = np.where(tables["left"]["stroke"] == 1, np.nan, 60.0)
    made = called(
        "trees-train",
        tmp_path,
        files(tables, tmp_path),
        target="left.stroke",
        features="left.age",
        trees=20,
    )
    assert document(made["report"] / "report.json")["training"]["auc"] == 1.0


def test_a_feature_with_few_values_is_refused(tmp_path: Path) -> None:
    tables = two_tables()
    tables["left"]["rare"] = np.where(tables["left"]["customer"] < "00009", 1.5, np.nan)
    with pytest.raises(Refused, match=r"fewer than 10 values of left\.rare"):
        called(
            "trees-train",
            tmp_path,
            files(tables, tmp_path),
            target="left.stroke",
            features="left.rare,left.age",
        )


def test_each_leaf_has_the_least_number_of_rows(tmp_path: Path, given: dict[str, Path]) -> None:
    made = called("trees-train", tmp_path, given, **ASKED, min_cell=25, trees=5)
    x, _ = plain()
    for tree in document(made["model"] / "model.json")["trees"]:
        leaves = [place for place, feature in enumerate(tree["feature"]) if feature < 0]
        numbered = {**tree, "value": [float(place) for place in range(len(tree["value"]))]}
        reached = predict._leaf_values(numbered, x)
        assert min((reached == leaf).sum() for leaf in leaves) >= 25


@pytest.mark.parametrize("name", ["logistic-train", "trees-train", "kmeans"])
def test_a_run_can_be_repeated_to_the_last_byte(
    tmp_path: Path, given: dict[str, Path], name: str
) -> None:
    asked = {"features": FEATURES, "seed": 5, **({} if name == "kmeans" else ASKED)}
    asked |= {} if name == "kmeans" else {"holdout": 0.3}
    asked |= {"trees": 5} if name == "trees-train" else {}
    one = called(name, tmp_path, given, **asked)["model"] / "model.json"
    first = one.read_bytes()
    called(name, tmp_path, dict(reversed(given.items())), **asked)
    assert one.read_bytes() == first
    if name != "kmeans":
        called(name, tmp_path, given, **{**asked, "seed": 6})
        assert one.read_bytes() != first


def test_rows_set_aside_are_not_trained_on(tmp_path: Path, given: dict[str, Path]) -> None:
    made = called("logistic-train", tmp_path, given, **ASKED, holdout=0.4)
    told = document(made["report"] / "report.json")
    assert (told["training"]["n"], told["holdout"]["n"]) == (180, 120)
    assert told["training"]["cases"] + told["holdout"]["cases"] == plain()[1].sum()


def test_components_are_those_of_scikit_learn(tmp_path: Path, given: dict[str, Path]) -> None:
    z = StandardScaler().fit_transform(plain()[0])
    expected = PCA(2).fit(z)
    made = called("pca", tmp_path, given, features=FEATURES)
    model = document(made["model"] / "model.json")
    signs = np.sign((np.array(model["vectors"]) * expected.components_).sum(axis=1))
    np.testing.assert_allclose(model["vectors"], expected.components_ * signs[:, None], atol=1e-9)
    told = document(made["report"] / "report.json")
    np.testing.assert_allclose(told["variance_shares"], expected.explained_variance_ratio_)
    found = predicted(tmp_path, given, made)
    np.testing.assert_allclose(found.to_numpy(), expected.transform(z) * signs, atol=1e-9)


def test_clusters_are_those_of_scikit_learn(tmp_path: Path, given: dict[str, Path]) -> None:
    z = StandardScaler().fit_transform(plain()[0])
    with training.one_thread():
        expected = KMeans(3, n_init=10, random_state=0).fit(z)
    made = called("kmeans", tmp_path, given, features=FEATURES)
    told = document(made["report"] / "report.json")
    assert told["sizes"] == sorted(np.bincount(expected.labels_).tolist(), reverse=True)
    assert told["squared_distances"] == pytest.approx(expected.inertia_)
    found = predicted(tmp_path, given, made)["cluster"]
    assert found.value_counts().sort_index().tolist() == told["sizes"]


def test_rows_without_a_needed_value_have_no_prediction(
    tmp_path: Path, given: dict[str, Path]
) -> None:
    made = called("logistic-train", tmp_path, given, **ASKED)
    tables = two_tables()
    tables["left"].loc[tables["left"]["customer"] == "00007", "age"] = np.nan
    found = predicted(tmp_path, files(tables, tmp_path), made)["probability"]
    assert found.index[found.isna()].tolist() == ["00007"]
    again = called("logistic-train", tmp_path, files(tables, tmp_path), **ASKED)
    assert document(again["report"] / "report.json")["incomplete_rows"] is None


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        (
            "logistic-train",
            {"target": "left.age", "features": "right.visits"},
            "The target left.age is 0 or 1",
        ),
        ("logistic-train", {"target": "left.region"}, "left.region is not a column of numbers"),
        ("logistic-train", {"features": ""}, "left.region is not a column of numbers"),
        ("logistic-train", {"features": "left.stroke"}, "and not the target"),
        ("logistic-train", {"penalty": -1}, "penalty is a number from 0"),
        ("logistic-train", {"holdout": 0.05}, "rows of a class of the rows set aside"),
        ("logistic-train", {"min_cell": 150}, "fewer than 150 rows of a class of left.stroke"),
        ("trees-train", {"leaves": 1}, "leaves is a whole number from 2"),
        ("trees-train", {"seed": -1}, "seed is a whole number"),
        ("pca", {"components": 4}, "There are 3 columns"),
        ("kmeans", {"clusters": 40}, "rows for so many clusters"),
        ("kmeans", {"clusters": 20}, "rows in a cluster"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, given: dict[str, Path], name: str, changed: dict[str, Any], said: str
) -> None:
    asked = ASKED if name.endswith("train") else {"features": FEATURES}
    with pytest.raises(Refused, match=said):
        called(name, tmp_path, given, **{**asked, **changed})


@pytest.mark.parametrize("name", ["logistic-train", "pca", "kmeans"])
def test_a_feature_of_one_person_is_refused(tmp_path: Path, name: str) -> None:
    tables = two_tables()
    tables["left"]["one"] = (tables["left"]["customer"] == "00007").astype(int)
    asked = {"target": "left.stroke"} if name == "logistic-train" else {}
    with pytest.raises(Refused, match=r"left\.one has a value of fewer than 10 rows"):
        called(name, tmp_path, files(tables, tmp_path), features="left.one,left.age", **asked)


TREE = {
    "feature": [0, -1, -1],
    "threshold": [0.5, 0, 0],
    "missing_left": [True, False, False],
    "left": [1, 0, 0],
    "right": [2, 0, 0],
    "value": [0, -1.0, 1.0],
}
TREES = {"kind": "trees", "version": 1, "features": ["left.age"], "baseline": 0.0, "trees": [TREE]}
LINE = {
    "kind": "logistic",
    "version": 1,
    "features": ["left.age"],
    "centre": [60.0],
    "scale": [10.0],
    "intercept": 0.0,
    "coefficients": [1.0],
}
PLACES = {**LINE, "kind": "clusters", "centres": [[0.0]]}
del PLACES["intercept"], PLACES["coefficients"]


@pytest.mark.parametrize("good", [TREES, LINE, PLACES])
def test_a_model_that_fits_is_read(good: dict[str, Any]) -> None:
    assert predict.checked(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {},
        {**TREES, "kind": "pickle"},
        {**TREES, "kind": []},
        {**TREES, "version": 2},
        {**TREES, "more": 1},
        {**TREES, "features": []},
        {**TREES, "features": "left.age"},
        {**TREES, "baseline": "0"},
        {**TREES, "trees": 3},
        {**TREES, "trees": ["tree"]},
        {**TREES, "trees": [{**TREE, "feature": [1, -1, -1]}]},
        {**TREES, "trees": [{**TREE, "feature": [0.5, -1, -1]}]},
        {**TREES, "trees": [{**TREE, "left": [0, 0, 0]}]},
        {**TREES, "trees": [{**TREE, "right": [3, 0, 0]}]},
        {**TREES, "trees": [{**TREE, "value": [0, float("nan"), 1.0]}]},
        {**TREES, "trees": [{name: [] for name in TREE}]},
        {**LINE, "scale": [0.0]},
        {**LINE, "scale": [-1.0]},
        {**LINE, "centre": ["60"]},
        {**LINE, "coefficients": [1.0, 2.0]},
        {**LINE, "coefficients": [10**400]},
        {**LINE, "intercept": None},
        {**PLACES, "centres": []},
        {**PLACES, "centres": {}},
        {**PLACES, "centres": [[1.0, 2.0]]},
    ],
)
def test_a_model_that_does_not_fit_is_refused(tmp_path: Path, bad: Any) -> None:
    (tmp_path / "model.json").write_text(json.dumps(bad))
    with pytest.raises(Refused, match="none that a task here writes"):
        predict.read_model(tmp_path / "model.json")


def test_a_model_that_is_no_json_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"\x80\x04K\x01.", b"[" * 100_000):
        (tmp_path / "model.json").write_bytes(content)
        with pytest.raises(Refused, match="none that a task here writes"):
            predict.read_model(tmp_path / "model.json")
