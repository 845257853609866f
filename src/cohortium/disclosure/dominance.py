"""Sums that a few persons make up: who knows their own share can tell the others'."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cohortium.disclosure.limits import Dominance


def dominated(values: npt.NDArray[np.float64], rule: Dominance) -> bool:
    """Whether the `n` largest of a site's values are more than `k` percent of their sum.

    Where it holds at no site, it does not hold for the joint sum either: the `n` largest of all are
    at most the sum of each site's `n` largest.

    Args:
        values: Shape (n_persons,); their sizes count, not their signs.

    Reference: Hundepool et al. 2012, Statistical Disclosure Control, ch. 4.2, the (n, k) rule.
    """
    sizes = np.abs(values)
    if len(sizes) <= rule.largest:
        return bool(sizes.any())
    largest = np.partition(sizes, -rule.largest)[-rule.largest :].sum()
    return bool(largest * 100.0 > rule.percent * sizes.sum())
