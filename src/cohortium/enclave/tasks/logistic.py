"""Logistic regression with an L2 penalty: training; `predict` applies it.

Inputs: one table or more, of any names. Outputs: ``model`` (model.json: intercept, and of each
feature coefficient, mean and standard deviation) and ``report`` (report.json: AUC, KS, accuracy,
log-loss). Arguments: `id`, `repeated`, `missing`, `min_cell`, `target` (0 or 1, such as
``left.default``), `features` (empty: all other columns), `penalty` (scikit-learn's 1/C on
standardised features), `holdout` (share of rows to test on), `seed`.

Minimises log-loss summed over rows + penalty / 2 * sum of squared coefficients, the intercept
without a penalty, by Newton's method. Rows with a missing value are left out and counted.

What the outputs tell: as many numbers as there are features, three times over. Each class, and each
value of a feature with two, has `min_cell` rows or more. Features with a single outlying value are
not looked for.
"""

from __future__ import annotations

import numpy as np

from .call import Call, Refused
from .tables import Array
from .training import (
    MODEL_FILE,
    examples,
    report,
    require_classes,
    require_wide_enough,
    set_aside,
    standardised,
)

_MOST_STEPS = 100
_SMALL_STEP = 1e-10


def fit(x: Array, y: Array, penalty: float) -> tuple[float, Array]:
    """Intercept and coefficients."""
    design = np.column_stack([np.ones(len(y)), x])
    ridge = np.full(design.shape[1], penalty)
    ridge[0] = 0.0
    beta = np.zeros(design.shape[1])
    loss = _loss(design, y, ridge, beta)
    for _ in range(_MOST_STEPS):
        probability = expit(design @ beta)
        gradient = design.T @ (probability - y) + ridge * beta
        weight = probability * (1 - probability)
        try:
            step = np.linalg.solve((design.T * weight) @ design + np.diag(ridge), gradient)
        except np.linalg.LinAlgError:
            break
        size = 1.0
        while size > 1e-6 and not (after := _loss(design, y, ridge, beta - size * step)) <= loss:
            size /= 2
        if np.abs(step).max() < _SMALL_STEP * max(1.0, np.abs(beta).max()) or size <= 1e-6:
            if np.abs(step).max() < 1e-6 * max(1.0, np.abs(beta).max()):
                return float(beta[0]), beta[1:]
            break
        beta, loss = beta - size * step, after
    raise Refused(
        "There is no finite solution: the features tell the classes apart, or repeat each other. "
        "Give a penalty, or fewer features."
    )


def expit(eta: Array) -> Array:
    """1 / (1 + exp(-eta)), without overflow."""
    small = np.exp(-np.abs(eta))
    return np.asarray(np.where(eta >= 0, 1 / (1 + small), small / (1 + small)))


def _loss(design: Array, y: Array, ridge: Array, beta: Array) -> float:
    eta = design @ beta
    return float((np.logaddexp(0, eta) - y * eta).sum() + (ridge * beta * beta).sum() / 2)


def run(call: Call) -> None:
    """Write the outputs."""
    trained, tested = set_aside(call, examples(call, with_missing=False))
    require_classes(trained.y, call.text("target"), call.min_cell)
    require_wide_enough(trained, call.min_cell)
    x, centre, scale = standardised(trained.x)
    intercept, coefficients = fit(x, trained.y, call.number("penalty", 0.0, 1e12))
    model = {
        "kind": "logistic",
        "version": 1,
        "features": list(trained.features),
        "centre": centre.tolist(),
        "scale": scale.tolist(),
        "intercept": intercept,
        "coefficients": coefficients.tolist(),
    }
    call.write("report", "report.json", report(call, model, trained, tested))
    call.write("model", MODEL_FILE, model)
