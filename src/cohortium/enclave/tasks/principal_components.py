"""Principal components of standardised columns; `predict` gives each row's scores.

Inputs: one table or more, of any names. Outputs: ``model`` (model.json: means, standard deviations
and loadings) and ``report`` (report.json: the share of variance of each component). Arguments:
`id`, `repeated`, `missing`, `min_cell`, `features` (empty: all columns), `components`.

What the outputs tell: with all components the whole correlation matrix. Each value of a column with
two has `min_cell` rows or more; rows with a missing value are left out and counted.
"""

from __future__ import annotations

import numpy as np

from .call import Call, Refused
from .tables import Array, joined, numbers, shown
from .training import (
    MODEL_FILE,
    Examples,
    complete,
    features_of,
    require_wide_enough,
    standardised,
)


def columns(call: Call) -> Examples:
    """The rows without a missing value; there is nothing to predict."""
    frame = joined(call).frame
    features = features_of(frame, call.names("features"))
    x = numbers(frame, features)
    kept = complete(x)
    found = Examples(features, x[kept], np.zeros(int(kept.sum())), int((~kept).sum()))
    require_wide_enough(found, call.min_cell)
    return found


def loadings(x: Array, components: int) -> tuple[Array, Array]:
    """Unit vectors, largest variance first, and shares of variance; the largest loading is > 0."""
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    kept = np.argsort(values)[::-1][:components]
    out = vectors[:, kept].T
    largest = np.abs(out).argmax(axis=1)
    signs = np.sign(out[np.arange(len(out)), largest])
    return out * signs[:, None], values[kept] / values.sum()


def run(call: Call) -> None:
    """Write the outputs."""
    found = columns(call)
    wanted = call.integer("components", 1, 1000)
    if wanted > len(found.features):
        raise Refused(f"There are {len(found.features)} columns, and so many components at most.")
    x, centre, scale = standardised(found.x)
    vectors, shares = loadings(x, wanted)
    call.write(
        "report",
        "report.json",
        {
            "n": len(x),
            "incomplete_rows": shown(found.incomplete, call.min_cell),
            "variance_shares": shares.tolist(),
        },
    )
    call.write(
        "model",
        MODEL_FILE,
        {
            "kind": "components",
            "version": 1,
            "features": list(found.features),
            "centre": centre.tolist(),
            "scale": scale.tolist(),
            "vectors": vectors.tolist(),
        },
    )
