"""K-means of standardised columns (scikit-learn's); `predict` gives each row's cluster.

Inputs: one table or more, of any names. Outputs: ``model`` (model.json: means, standard deviations
and centres) and ``report`` (report.json: rows of each cluster, and the sum of squared distances).
Arguments: `id`, `repeated`, `missing`, `min_cell`, `features` (empty: all columns), `clusters`,
`seed`.

What the outputs tell: a centre is the mean of its cluster; clusters of fewer than `min_cell` rows
are refused. Rows with a missing value are left out and counted.
"""

from __future__ import annotations

import numpy as np

from .call import Call, Refused
from .principal_components import columns
from .tables import Array, require_rows, shown
from .training import MODEL_FILE, one_thread, standardised


def centres(x: Array, clusters: int, seed: int) -> tuple[Array, Array, float]:
    """Centres, larger clusters first, rows of each, and the sum of squared distances."""
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        raise Refused("scikit-learn is not in the environment of the task.") from None
    with one_thread():
        found = KMeans(n_clusters=clusters, n_init=10, random_state=seed).fit(x)
    sizes = np.bincount(found.labels_, minlength=clusters)
    order = np.lexsort((*found.cluster_centers_.T[::-1], -sizes))
    return found.cluster_centers_[order], sizes[order], float(found.inertia_)


def run(call: Call) -> None:
    """Write the outputs."""
    found = columns(call)
    wanted = call.integer("clusters", 1, 1000)
    require_rows(len(found.x), wanted * call.min_cell, "rows for so many clusters")
    x, centre, scale = standardised(found.x)
    places, sizes, distance = centres(x, wanted, call.seed)
    require_rows(int(sizes.min()), call.min_cell, "rows in a cluster")
    call.write(
        "report",
        "report.json",
        {
            "n": len(x),
            "incomplete_rows": shown(found.incomplete, call.min_cell),
            "sizes": sizes.tolist(),
            "squared_distances": distance,
        },
    )
    call.write(
        "model",
        MODEL_FILE,
        {
            "kind": "clusters",
            "version": 1,
            "features": list(found.features),
            "centre": centre.tolist(),
            "scale": scale.tolist(),
            "centres": places.tolist(),
        },
    )
