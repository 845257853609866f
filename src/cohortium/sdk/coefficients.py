"""What fitted models have in common: coefficients by term, with the names of statsmodels."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cohortium.errors import InputError
from cohortium.sdk.results import Result

if TYPE_CHECKING:
    import pandas as pd


class Coefficients(Result):
    """A fitted model.

    Attributes:
        terms: The names of the coefficients.
        df_test: Degrees of freedom of the t tests; None where the tests are z.
    """

    terms: tuple[str, ...]
    df_test: int | None = None

    def _series(self, key: str) -> pd.Series[float]:
        import pandas as pd

        values = np.asarray(self._data[key], dtype=np.float64)
        return pd.Series(values, index=list(self.terms), dtype="float64")

    @cached_property
    def params(self) -> pd.Series[float]:
        """Coefficients: on the scale of the link, or log hazard ratios."""
        return self._series("params")

    @cached_property
    def bse(self) -> pd.Series[float]:
        """Standard errors of the coefficients; robust where the model was asked for such."""
        return self._series("bse")

    @cached_property
    def tvalues(self) -> pd.Series[float]:
        """Z statistics, or t where the tests have degrees of freedom."""
        return self._series("statistic")

    @cached_property
    def pvalues(self) -> pd.Series[float]:
        """Two-sided p values of coefficient = 0."""
        return self._series("pvalues")

    def cov_params(self) -> pd.DataFrame:
        """The covariance matrix of the coefficients."""
        import pandas as pd

        names = list(self.terms)
        matrix = np.asarray(self._data["cov"], dtype=np.float64)
        return pd.DataFrame(matrix, index=names, columns=names)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Limits of the coefficients, level 1 - alpha; columns 0 and 1 as in statsmodels."""
        import pandas as pd
        from scipy import stats

        if not 0 < alpha < 1:
            raise InputError("bad-input", f"alpha must lie between 0 and 1, not {alpha}.")
        distribution = stats.norm() if self.df_test is None else stats.t(self.df_test)
        half = float(distribution.ppf(1 - alpha / 2)) * self.bse
        return pd.DataFrame({0: self.params - half, 1: self.params + half})
