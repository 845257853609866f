"""Rubin's rules: one estimate, and its error, from the same model fitted on imputed data.

Reference: Rubin 1987, Multiple imputation for nonresponse in surveys, ch. 3; Barnard & Rubin 1999
(degrees of freedom); the names are those of R's ``mice::pool``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """p coefficients.

    Attributes:
        estimate: (p,).
        cov: (p, p); total variance ``within + (1 + 1/m) between``.
        within: (p,); mean of the variances in the imputed data.
        between: (p,); variance of the estimates over them.
        riv: (p,); relative increase in variance due to the missing values.
        share: (p,); ``lambda``, their share of the total variance.
        fmi: (p,); fraction of missing information, with the degrees of freedom taken into account.
        df: (p,); of the t distribution; infinite where nothing is lost and the data are many.
    """

    estimate: Floats
    cov: Floats
    within: Floats
    between: Floats
    riv: Floats
    share: Floats
    fmi: Floats
    df: Floats


def pool(estimates: Floats, covariances: Floats, df_complete: float) -> Pooled:
    """Pool m fits.

    Args:
        estimates: (m, p).
        covariances: (m, p, p).
        df_complete: Residual degrees of freedom, had nothing been missing.
    """
    m = len(estimates)
    mean = estimates.mean(axis=0)
    apart = estimates - mean
    more = (1.0 + 1.0 / m) * (apart.T @ apart) / (m - 1)
    inside = covariances.mean(axis=0)
    within, extra = np.diag(inside).copy(), np.diag(more).copy()
    total = within + extra
    share = extra / total
    df = barnard_rubin(share, m, df_complete)
    riv = extra / within
    fmi = (riv + 2.0 / (df + 3.0)) / (riv + 1.0)
    return Pooled(
        mean, inside + more, within, extra / (1.0 + 1.0 / m), riv, share, fmi, np.asarray(df)
    )


def barnard_rubin(share: Floats, m: int, df_complete: float) -> Floats:
    """Degrees of freedom from the share of the variance that is due to missing values."""
    share = np.maximum(share, 1e-30)  # nothing is lost
    old = (m - 1) / share**2
    if np.isinf(df_complete):
        return np.asarray(old)
    observed = (df_complete + 1) / (df_complete + 3) * df_complete * (1 - share)
    return np.asarray(old * observed / (old + observed))
