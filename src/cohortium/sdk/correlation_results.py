"""Correlations as they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.rank_words import interpret_correlation
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Floats = npt.NDArray[np.float64]


class CorrelationResult(Result):
    """Correlations of every two of some variables; NaN where one was withheld.

    Attributes:
        title: What they are called: Pearson, partial or Spearman correlation.
        method: pearson or spearman.
        variables: In the order of the matrix.
        given: What was held constant.
        missing: complete or pairwise.
        n: Persons; pairwise, of the pair that has fewest.
        n_missing: Persons of whom a value is missing.
        n_sites: Sites.
        confidence: Of the intervals.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.title = str(data["title"])
        self.method = str(data["method"])
        self.variables = tuple(str(name) for name in data["variables"])
        self.given = tuple(str(name) for name in data.get("given") or ())
        self.missing = str(data["missing"])
        self.n = int(data["n"])
        self.n_missing = int(data["n_missing"])
        self.n_sites = int(data["n_sites"])
        self.confidence = float(data["confidence"])
        names = ("correlation", "p_value", "low", "high", "n_pairs")
        self._matrices = {name: self._matrix(data[name]) for name in names}
        covariance = data.get("covariance")
        self._covariance = None if covariance is None else self._matrix(covariance)
        limits = data.get("resolution")
        self._limits = (
            None if limits is None else {end: self._matrix(limits[end]) for end in ("low", "high")}
        )

    def _matrix(self, rows: Any) -> Floats:
        matrix = np.array(rows, dtype=np.float64)
        if matrix.shape != (len(self.variables),) * 2:
            raise ValueError("a matrix of another size")
        return matrix

    def _frame(self, matrix: Floats) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(matrix, index=list(self.variables), columns=list(self.variables))

    @property
    def correlation(self) -> pd.DataFrame:
        """The matrix of correlations."""
        return self._frame(self._matrices["correlation"])

    @property
    def p_values(self) -> pd.DataFrame:
        """Two-sided, of no correlation."""
        return self._frame(self._matrices["p_value"])

    @property
    def low(self) -> pd.DataFrame:
        """Lower confidence limits."""
        return self._frame(self._matrices["low"])

    @property
    def high(self) -> pd.DataFrame:
        """Upper confidence limits."""
        return self._frame(self._matrices["high"])

    @property
    def covariance(self) -> pd.DataFrame | None:
        """With divisor n - 1; None for partial and for rank correlations."""
        return None if self._covariance is None else self._frame(self._covariance)

    @property
    def resolution(self) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """Between which limits the exact rank correlations lie; None where they are exact."""
        if self._limits is None:
            return None
        return self._frame(self._limits["low"]), self._frame(self._limits["high"])

    @property
    def widest(self) -> float:
        """How far the exact correlations can at most be from these."""
        if self._limits is None:
            return 0.0
        r = self._matrices["correlation"]
        return float(np.nanmax([np.abs(end - r) for end in self._limits.values()]))

    def to_frame(self) -> pd.DataFrame:
        """The matrix of correlations."""
        return self.correlation

    def pairs(self) -> pd.DataFrame:
        """A row for each pair: first, second, r, low, high, p, n."""
        import pandas as pd

        m = self._matrices
        rows = [
            {
                "first": self.variables[i],
                "second": self.variables[j],
                "r": m["correlation"][i, j],
                "low": m["low"][i, j],
                "high": m["high"][i, j],
                "p": m["p_value"][i, j],
                "n": int(m["n_pairs"][i, j]),
            }
            for i in range(len(self.variables))
            for j in range(i + 1, len(self.variables))
        ]
        return pd.DataFrame(rows)

    def partial(self) -> pd.DataFrame:
        """The correlation of every two variables given all others of the matrix.

        Raises:
            InputError: ``bad-input`` where a correlation is withheld; ``no-convergence`` where a
                variable follows from the others.
        """
        inverse = self._inverse()
        unit = 1 / np.sqrt(np.diag(inverse))
        found = -inverse * np.outer(unit, unit)
        np.fill_diagonal(found, 1.0)
        return self._frame(found)

    def vif(self) -> pd.Series[float]:
        """Variance inflation factors: how much less is known of a variable's slope beside others.

        Raises:
            InputError: As `partial`; ``bad-input`` for rank correlations.
        """
        import pandas as pd

        if self.method != "pearson":
            raise InputError("bad-input", "Variance inflation is of product-moment correlations.")
        return pd.Series(np.diag(self._inverse()), index=list(self.variables), name="VIF")

    def _inverse(self) -> Floats:
        r = self._matrices["correlation"]
        if self.missing != "complete" or np.any(np.isnan(r)):
            raise InputError(
                "bad-input",
                "This needs the correlations of all pairs over the same persons; leave out the "
                "variables of which one is withheld.",
            )
        values = np.linalg.eigvalsh(r)
        if values[0] <= 1e-10 * values[-1]:
            raise InputError("no-convergence", "A variable follows from the others; leave one out.")
        return np.asarray(np.linalg.inv(r))

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The matrix, and the pairs with their limits."""
        require_language(lang)
        matrix = self.correlation.rename_axis(index=say("variable", lang))
        pairs = self.pairs()
        names = {name: say(name, lang) for name in pairs.columns}
        heading = self.heading(lang)
        return (
            from_frame(heading, matrix),
            from_frame(heading, pairs.rename(columns=names), notes=self.notes(lang)),
        )

    def heading(self, lang: Language = "en") -> str:
        """Which correlation, and given what."""
        name = say(self.title, lang)
        if not self.given:
            return name
        held = ", ".join(self.given)
        return f"{name}（控制 {held}）" if lang == "zh" else f"{name} given {held}"

    def plot(self) -> alt.TopLevelMixin:
        """The matrix as a heat map."""
        from cohortium.sdk.rank_plots import heatmap

        return heatmap(self.correlation, self.heading(), self.run.line())

    def summary(self) -> Summary:
        """The pairs as a table of text."""
        return Summary(self.tables()[-1].text())

    def interpret(self, lang: Language = "en") -> str:
        """Each pair with its interval, in plain words, and what is not adjusted for."""
        return interpret_correlation(self, lang)

    def _text(self) -> str:
        shown = self.correlation.to_string(float_format=lambda r: f"{r:.4f}", na_rep="withheld")
        facts = f"{self.heading()}, {self.n} persons of {self.n_sites} sites"
        return "\n".join([facts, shown, *(f"Not released: {why}" for why in self.suppressed)])
