"""DeLong's areas and their covariance, by comparing every two persons."""

from __future__ import annotations

from typing import Any

import numpy as np


def delong(scores: Any, events: Any) -> tuple[Any, Any]:
    """Areas under the ROC curves of the columns of `scores`, and their covariance.

    Reference: DeLong, DeLong & Clarke-Pearson 1988, as written there.
    """
    having, without = scores[events], scores[~events]
    v10, v01 = [], []
    for x, y in zip(having.T, without.T, strict=True):
        before = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
        v10.append(before.mean(axis=1))
        v01.append(before.mean(axis=0))
    areas = np.array([one.mean() for one in v10])
    s10, s01 = (np.atleast_2d(np.cov(np.array(v))) for v in (v10, v01))
    return areas, s10 / len(having) + s01 / len(without)
