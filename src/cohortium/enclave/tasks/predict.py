"""Model inference: predictions of a model that a task here trained, for each joined row.

Inputs: ``model``, and one table or more under the names that it was trained with. Output:
``predictions`` (predictions.csv: id and probability, scores or cluster; empty where a value is
missing that the model needs). Arguments: `id`, `repeated`, `missing`, `min_cell` (fewest rows).

What the output tells: a number or more about each person to whoever receives it. Whoever may ask
often enough learns the model. The model is JSON, checked as a stranger's: nothing in it is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from .call import Call, Refused
from .logistic import expit
from .tables import ID, Array, file_of, joined, numbers, require_rows
from .training import complete

_LARGEST_BYTES: Final = 512 * 1024 * 1024
_PARTS: Final = {
    "logistic": {"centre", "scale", "intercept", "coefficients"},
    "trees": {"baseline", "trees"},
    "components": {"centre", "scale", "vectors"},
    "clusters": {"centre", "scale", "centres"},
}
_NUMBERS: Final = (int, float, bool)
_NODE_PARTS: Final = {"feature", "threshold", "missing_left", "left", "right", "value"}


def read_model(path: Path) -> dict[str, Any]:
    """A model, with its shape checked."""
    file = file_of("model", path)
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            raise Refused("The model is larger than 512 MiB.")
        model = json.loads(file.read_bytes())
        return checked(model)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        kind = type(error).__name__
        raise Refused(f"The model is none that a task here writes ({kind}).") from None


def checked(model: Any) -> dict[str, Any]:
    """A model with what belongs to its kind, of one size; ValueError otherwise."""
    if not isinstance(model, dict) or model.get("kind") not in _PARTS or model["version"] != 1:
        raise ValueError("kind")
    if set(model) != {"kind", "version", "features", *_PARTS[model["kind"]]}:
        raise ValueError("parts")
    features = model["features"]
    if (
        not features
        or not isinstance(features, list)
        or not all(isinstance(name, str) for name in features)
    ):
        raise ValueError("features")
    width = len(features)
    if model["kind"] == "trees":
        _array([model["baseline"]], 1)
        for tree in model["trees"]:
            _check_tree(tree, width)
        return model
    _array(model["centre"], width)
    if (_array(model["scale"], width) <= 0).any():
        raise ValueError("scale")
    if model["kind"] == "logistic":
        _array(model["coefficients"], width)
        _array([model["intercept"]], 1)
        return model
    lines = model["vectors" if model["kind"] == "components" else "centres"]
    if not isinstance(lines, list) or not lines:
        raise ValueError("lines")
    for line in lines:
        _array(line, width)
    return model


def _array(values: Any, size: int) -> Array:
    if not isinstance(values, list) or any(type(value) not in _NUMBERS for value in values):
        raise ValueError("numbers")
    found = np.asarray(values, dtype=float)
    if found.shape != (size,) or not np.isfinite(found).all():
        raise ValueError("numbers")
    return found


def _check_tree(tree: Any, width: int) -> None:
    if set(tree) != _NODE_PARTS:
        raise ValueError("tree")
    size = len(tree["feature"])
    found = {name: _array(tree[name], size) for name in _NODE_PARTS}
    if size == 0:
        raise ValueError("tree")
    leaf = found["feature"] == -1
    here = np.arange(size)
    fits = np.isin(found["feature"], np.arange(-1, width)).all()
    # Children come after their parent, so that a walk ends.
    for side in ("left", "right"):
        fits = fits and np.isin(found[side][~leaf], here).all()
        fits = fits and (found[side][~leaf] > here[~leaf]).all()
    if not fits:
        raise ValueError("tree")


def probabilities(model: Mapping[str, Any], x: Array) -> Array:
    """Of class 1, from a model of two classes."""
    if model["kind"] == "logistic":
        z = (x - np.asarray(model["centre"])) / np.asarray(model["scale"])
        return expit(z @ np.asarray(model["coefficients"]) + model["intercept"])
    eta = np.full(len(x), float(model["baseline"]))
    for tree in model["trees"]:
        eta += _leaf_values(tree, x)
    return expit(eta)


def _leaf_values(tree: Mapping[str, Any], x: Array) -> Array:
    feature = np.asarray(tree["feature"], dtype=np.intp)
    threshold = np.asarray(tree["threshold"], dtype=float)
    missing_left = np.asarray(tree["missing_left"], dtype=bool)
    left = np.asarray(tree["left"], dtype=np.intp)
    right = np.asarray(tree["right"], dtype=np.intp)
    node = np.zeros(len(x), dtype=np.intp)
    walking = np.flatnonzero(feature[node] >= 0)
    while len(walking):
        at = node[walking]
        value = x[walking, feature[at]]
        goes_left = np.where(np.isnan(value), missing_left[at], value <= threshold[at])
        node[walking] = np.where(goes_left, left[at], right[at])
        walking = walking[feature[node[walking]] >= 0]
    return np.asarray(tree["value"], dtype=float)[node]


def predictions(model: Mapping[str, Any], x: Array) -> dict[str, Array]:
    """Columns of what the model says of each row."""
    if model["kind"] in {"logistic", "trees"}:
        return {"probability": probabilities(model, x)}
    z = (x - np.asarray(model["centre"])) / np.asarray(model["scale"])
    if model["kind"] == "components":
        scores = z @ np.asarray(model["vectors"]).T
        return {f"component_{n + 1}": column for n, column in enumerate(scores.T)}
    places = np.asarray(model["centres"])
    distances = ((z[:, None, :] - places[None, :, :]) ** 2).sum(axis=2)
    return {"cluster": distances.argmin(axis=1) + 1}


def run(call: Call) -> None:
    """Write the output."""
    if call.model is None:
        raise Refused("There is no model.")
    model = read_model(call.model)
    frame = joined(call).frame
    require_rows(len(frame), call.min_cell)
    x = numbers(frame, model["features"])
    known = np.full(len(x), True) if model["kind"] == "trees" else complete(x)
    out = pd.DataFrame(predictions(model, x[known]), index=frame.index[known])
    out.reindex(frame.index).to_csv(call.outputs["predictions"] / "predictions.csv", index_label=ID)
