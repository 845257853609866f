"""Gradient-boosted trees of two classes (scikit-learn's): training; `predict` applies them.

Inputs: one table or more, of any names. Outputs: ``model`` (model.json: the trees) and ``report``
(report.json: AUC, KS, accuracy, log-loss). Arguments: `id`, `repeated`, `missing`, `min_cell`,
`target` (0 or 1), `features` (empty: all other columns), `trees`, `leaves` (most of a tree),
`rate`, `penalty` (L2, of leaves), `holdout`, `seed`. Features may have missing values.

What the outputs tell: each leaf rests on `min_cell` rows or more. A threshold lies in the middle
between two values that persons have. Trees can be asked about persons as any model can; a deep
model tells more of those it was trained on than a flat one does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .call import Call, Refused
from .tables import Array, require_rows
from .training import (
    MODEL_FILE,
    Examples,
    examples,
    one_thread,
    report,
    require_classes,
    set_aside,
)

# In place of the infinite threshold of a split between missing values and all others.
_LARGEST = np.finfo(np.float64).max


def fit(
    trained: Examples,
    *,
    trees: int,
    leaves: int,
    rate: float,
    penalty: float,
    least: int,
    seed: int,
) -> dict[str, Any]:
    """The model as a document."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError:
        raise Refused("scikit-learn is not in the environment of the task.") from None
    learner = HistGradientBoostingClassifier(
        max_iter=trees,
        max_leaf_nodes=leaves,
        learning_rate=rate,
        l2_regularization=penalty,
        min_samples_leaf=least,
        early_stopping=False,
        random_state=seed,
    )
    with one_thread():
        learner.fit(trained.x, trained.y)
        expected = learner.predict_proba(trained.x)[:, 1]
    # Private in scikit-learn; that the numbers are the same is checked below.
    parts = vars(learner)
    model = {
        "kind": "trees",
        "version": 1,
        "features": list(trained.features),
        "baseline": float(np.ravel(parts["_baseline_prediction"])[0]),
        "trees": [_tree(one.nodes) for (one,) in parts["_predictors"]],
    }
    _require_same(model, expected, trained.x)
    return model


def _tree(nodes: Array) -> dict[str, Any]:
    leaf = nodes["is_leaf"].astype(bool)
    return {
        "feature": np.where(leaf, -1, nodes["feature_idx"]).tolist(),
        "threshold": np.where(leaf, 0.0, np.minimum(nodes["num_threshold"], _LARGEST)).tolist(),
        "missing_left": (nodes["missing_go_to_left"].astype(bool) & ~leaf).tolist(),
        "left": np.where(leaf, 0, nodes["left"]).tolist(),
        "right": np.where(leaf, 0, nodes["right"]).tolist(),
        "value": np.where(leaf, nodes["value"], 0.0).tolist(),
    }


def _require_same(model: dict[str, Any], expected: Array, x: Array) -> None:
    from .predict import probabilities

    if not np.allclose(probabilities(model, x), expected, rtol=0, atol=1e-9):
        raise Refused("This version of scikit-learn keeps trees in a way that is not known here.")


def run(call: Call) -> None:
    """Write the outputs."""
    trained, tested = set_aside(call, examples(call, with_missing=True))
    require_classes(trained.y, call.text("target"), call.min_cell)
    for name, values in zip(trained.features, (~np.isnan(trained.x)).sum(axis=0), strict=True):
        require_rows(int(values), call.min_cell, f"values of {name}")
    model = fit(
        trained,
        trees=call.integer("trees", 1, 10_000),
        leaves=call.integer("leaves", 2, 1024),
        rate=call.number("rate", 1e-6, 1.0),
        penalty=call.number("penalty", 0.0, 1e12),
        least=call.min_cell,
        seed=call.seed,
    )
    call.write("report", "report.json", report(call, model, trained, tested))
    call.write("model", MODEL_FILE, model)
