"""Discrete Gaussian noise for the integers that a site contributes.

    P(x) proportional to exp(-x^2 / (2 sigma^2)),  x = ..., -1, 0, 1, ...

The samples are exact (rational arithmetic, no floating-point tails: Canonne, Kamath and Steinke,
"The Discrete Gaussian for Differential Privacy", NeurIPS 2020) and their random bits come from
OpenSSL's generator for secrets; both are OpenDP's (the extra ``dp``). It takes no seed: who needs
the same noise twice must keep it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cohortium.errors import InputError

LARGEST_SIGMA: Final = 2.0**48
"""Far below where OpenDP's 64-bit integers would saturate."""

BATCH: Final = 10_000
"""Samples a call: a few hundredths of a second, so that threads share the work evenly."""


def require_sampler() -> Any:
    """The library OpenDP.

    Raises:
        InputError: ``missing-extra``.
    """
    try:
        import opendp.measurements
        import opendp.mod
    except ImportError as error:
        raise InputError("missing-extra", "Noise needs: pip install 'cohortium[dp]'") from error
    opendp.mod.enable_features("contrib")
    return opendp


def discrete_gaussian(sigma: float, size: int, *, threads: int = 1) -> npt.NDArray[np.int64]:
    """Independent samples.

    About 10 microseconds each and thread; OpenDP works without the interpreter's lock.

    Args:
        sigma: Up to 2^48; the standard deviation, but for a part in 10^7 from 1 on.
        size: How many.
        threads: Work on so many at once.

    Returns:
        Shape (size,).

    Raises:
        InputError: ``missing-extra``.
    """
    if not 0.0 < sigma <= LARGEST_SIGMA:
        raise RuntimeError(f"sigma must be from 0 to 2^48, not {sigma}")
    sample = _sampler(sigma)
    sizes = [min(BATCH, size - first) for first in range(0, size, BATCH)]
    noise = np.empty(size, dtype=np.int64)
    with ThreadPoolExecutor(threads) as pool:
        first = 0
        for batch in pool.map(sample, sizes):
            noise[first : first + len(batch)] = batch
            first += len(batch)
    return noise


def _sampler(sigma: float) -> Callable[[int], list[int]]:
    library = require_sampler()
    mechanism = library.measurements.make_gaussian(
        library.domains.vector_domain(library.domains.atom_domain(T="i64")),
        library.metrics.l2_distance(T="f64"),
        scale=sigma,
    )
    return lambda size: list(mechanism([0] * size))
