"""What is common to training: columns, target, rows set aside, and how good a model is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from typing import Any, Final

import numpy as np
import pandas as pd

from .call import Call, Refused
from .joined_statistics import require_spread
from .tables import Array, joined, numbers, require_columns, require_rows, shown

MODEL_FILE: Final = "model.json"


@dataclass(frozen=True)
class Examples:
    """Rows to learn from.

    Attributes:
        x: float64, shape (n, features).
        y: 0 or 1 (or a number), shape (n,).
        incomplete: Rows that were left out because a value is missing.
    """

    features: tuple[str, ...]
    x: Array
    y: Array
    incomplete: int

    def at(self, rows: Array) -> Examples:
        """Some of them."""
        return Examples(self.features, self.x[rows], self.y[rows], self.incomplete)


def features_of(frame: pd.DataFrame, named: Sequence[str], target: str = "") -> tuple[str, ...]:
    """The named columns, or all but the target."""
    found = tuple(named) or tuple(str(name) for name in frame.columns if name != target)
    require_columns(frame, found)
    if not found or target in found:
        raise Refused("The features are one column or more, and not the target.")
    return found


def complete(x: Array) -> Array:
    """Which rows have no missing value."""
    return np.asarray(~np.isnan(x).any(axis=1))


def examples(call: Call, *, with_missing: bool, classes: bool = True) -> Examples:
    """The joined table by the arguments `target` and `features`; checked against `min_cell`.

    Args:
        with_missing: Features may have missing values.
        classes: The target is 0 or 1.
    """
    frame = joined(call).frame
    target = call.text("target")
    features = features_of(frame, call.names("features"), target)
    y = numbers(frame, [target])[:, 0]
    x = numbers(frame, features)
    kept = ~np.isnan(y) & (np.array(True) if with_missing else complete(x))
    found = Examples(features, x[kept], y[kept], int((~kept).sum()))
    require_rows(len(found.y), call.min_cell, "rows without a missing value")
    if classes:
        require_classes(found.y, target, call.min_cell)
    return found


def require_classes(y: Array, target: str, min_cell: int) -> None:
    """Refuse a target that is not 0 or 1, or has too few of one."""
    if not np.isin(y, (0.0, 1.0)).all():
        raise Refused(f"The target {target} is 0 or 1.")
    require_rows(int(min(y.sum(), len(y) - y.sum())), min_cell, f"rows of a class of {target}")


def require_wide_enough(found: Examples, min_cell: int) -> None:
    """Refuse features of which few rows differ, and more of them than rows can carry."""
    require_spread(found.x, found.features, min_cell)
    require_rows(len(found.y), min_cell + 2 * (len(found.features) + 1), "rows for these features")


def set_aside(call: Call, found: Examples) -> tuple[Examples, Examples | None]:
    """Rows to train on, and the share `holdout` of them to test on, drawn with `seed`."""
    share = call.number("holdout", 0.0, 0.9)
    if share == 0:
        return found, None
    order = shuffled(len(found.y), call.seed)
    tested = round(share * len(order))
    return found.at(np.sort(order[tested:])), found.at(np.sort(order[:tested]))


def shuffled(rows: int, seed: int) -> Array:
    """The numbers of rows in an order that depends on the seed only."""
    drawn = b"".join(blake2b(b"%d:%d" % (seed, n), digest_size=8).digest() for n in range(rows))
    return np.argsort(np.frombuffer(drawn, dtype=">u8"), kind="stable")


def standardised(x: Array) -> tuple[Array, Array, Array]:
    """Columns with mean 0 and standard deviation 1, the means and the deviations (ddof 0)."""
    centre, scale = x.mean(axis=0), x.std(axis=0)
    return (x - centre) / scale, centre, scale


def one_thread() -> AbstractContextManager[Any]:
    """Sums have one order in it, so that a run can be repeated to the last digit."""
    limits: AbstractContextManager[Any] = import_module("threadpoolctl").threadpool_limits(1)
    return limits


def auc(y: Array, score: Array) -> float:
    """Area under the ROC curve; ties count half."""
    ranks = pd.Series(score).rank().to_numpy()
    cases = y.sum()
    others = len(y) - cases
    return float((ranks[y == 1].sum() - cases * (cases + 1) / 2) / (cases * others))


def ks(y: Array, score: Array) -> float:
    """Kolmogorov-Smirnov distance between the scores of the two classes."""
    order = np.argsort(score, kind="stable")
    cases = np.cumsum(y[order]) / y.sum()
    others = np.cumsum(1 - y[order]) / (1 - y).sum()
    last_of_ties = np.append(np.diff(score[order]) > 0, True)
    return float(np.abs(cases - others)[last_of_ties].max())


def quality(y: Array, probability: Array) -> dict[str, Any]:
    """How good predicted probabilities are."""
    likely = np.where(y == 1, probability, 1 - probability)
    return {
        "n": len(y),
        "cases": int(y.sum()),
        "auc": auc(y, probability),
        "ks": ks(y, probability),
        "accuracy": float(((probability > 0.5) == (y == 1)).mean()),
        "log_loss": float(-np.log(np.maximum(likely, 1e-300)).mean()),
    }


def report(
    call: Call, model: Mapping[str, Any], trained: Examples, tested: Examples | None
) -> dict[str, Any]:
    """The quality of a model on the rows it was trained on, and on those set aside."""
    from .predict import probabilities

    out: dict[str, Any] = {
        "incomplete_rows": shown(trained.incomplete, call.min_cell),
        "features": list(trained.features),
    }
    out["training"] = quality(trained.y, probabilities(model, trained.x))
    if tested is not None:
        require_classes(tested.y, "the rows set aside", call.min_cell)
        out["holdout"] = quality(tested.y, probabilities(model, tested.x))
    return out
