"""Principal components as they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cohortium.core.dictionary import Variable
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary
from cohortium.sdk.vocabulary import say
from cohortium.sdk.words import left_out, number

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Floats = npt.NDArray[np.float64]

_NAMED = 3
"""Variables that a text names for a component."""


class PcaResult(Result):
    """Principal components of some variables, the largest first.

    Attributes:
        variables: In the order of the weights.
        matrix: correlation or covariance.
        n: Persons.
        n_missing: Persons of whom a value is missing.
        n_sites: Sites.
        total_variance: Of all components, released or not.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.variables = tuple(str(name) for name in data["variables"])
        self.matrix = str(data["matrix"])
        self.n = int(data["n"])
        self.n_missing = int(data["n_missing"])
        self.n_sites = int(data["n_sites"])
        self.total_variance = float(data["total_variance"])
        self._each = {
            name: np.array(data[name], dtype=np.float64)
            for name in ("eigenvalues", "share", "cumulative")
        }
        k = len(self._each["eigenvalues"])
        self.names = tuple(f"PC{at + 1}" for at in range(k))
        self._weights, self._loadings = (
            np.array(data[name], dtype=np.float64) for name in ("weights", "loadings")
        )
        if any(one.shape != (k,) for one in self._each.values()) or any(
            one.shape != (k, len(self.variables)) for one in (self._weights, self._loadings)
        ):
            raise ValueError("matrices of other sizes")

    def _series(self, name: str) -> pd.Series[float]:
        import pandas as pd

        return pd.Series(self._each[name], index=list(self.names), name=name)

    @property
    def explained_variance(self) -> pd.Series[float]:
        """The variance of each component: the eigenvalues."""
        return self._series("eigenvalues")

    @property
    def explained_variance_ratio(self) -> pd.Series[float]:
        """Its share of the total variance."""
        return self._series("share")

    @property
    def components(self) -> pd.DataFrame:
        """Weights of the (standardised) variables; a column of unit length for each component."""
        return self._frame(self._weights)

    @property
    def loadings(self) -> pd.DataFrame:
        """Correlations of the variables with the components."""
        return self._frame(self._loadings)

    def _frame(self, rows: Floats) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(rows.T, index=list(self.variables), columns=list(self.names))

    def to_frame(self) -> pd.DataFrame:
        """A row for each component: standard deviation, variance, share, cumulative share."""
        import pandas as pd

        values = self._each["eigenvalues"]
        return pd.DataFrame(
            {
                "sd": np.sqrt(values),
                "variance": values,
                "variance_share": self._each["share"],
                "cumulative_share": self._each["cumulative"],
            },
            index=pd.Index(list(self.names), name="component"),
        )

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The components' variances, and their weights."""
        require_language(lang)
        frame = self.to_frame()
        names = {name: say(name, lang) for name in frame.columns}
        frame = frame.rename(columns=names).rename_axis(index=say("component", lang))
        weights = self.components.rename_axis(index=say("variable", lang))
        heading = self.heading(lang)
        return from_frame(heading, frame), from_frame(heading, weights, notes=self.notes(lang))

    def summary(self) -> Summary:
        """Variances and weights as text."""
        return Summary(self._text())

    def plot(self) -> alt.TopLevelMixin:
        """The scree plot: the share of each component, and the cumulative one."""
        from cohortium.sdk.pca_plot import scree

        return scree(self.to_frame(), self.heading(), self.run.line())

    def interpret(self, lang: Language = "en") -> str:
        """What the first components explain, and which variables weigh most in them.

        Args:
            lang: ``en`` or ``zh``.

        Raises:
            InputError: ``bad-input`` for another language.
        """
        require_language(lang)
        zh = lang == "zh"
        parts = [self._component(at, lang) for at in range(min(len(self.names), _NAMED))]
        missing = left_out(self.n_missing, lang)
        if zh:
            of = "相关矩阵" if self.matrix == "correlation" else "协方差矩阵"
            return (
                f"{self.n_sites} 家机构共 {self.n:,} 人{missing}，基于{of}的主成分分析："
                f"{'；'.join(parts)}。主成分的符号是约定的，描述线性关系而非因果；结果未对其他变量进行调整。"
            )
        units = (
            "" if self.matrix == "correlation" else " The weights depend on the variables' units."
        )
        return (
            f"Principal components of the {self.matrix} matrix of {len(self.variables)} variables "
            f"over {self.n:,} persons of {self.n_sites} sites{missing}: {'; '.join(parts)}. "
            f"Signs are a convention.{units} Components describe linear relations and no causes. "
            "Nothing is adjusted for."
        )

    def _component(self, at: int, lang: Language) -> str:
        loadings = self._loadings[at]
        largest = np.argsort(-np.abs(loadings), kind="stable")[:_NAMED]
        named = [f"{self.variables[j]} ({number(float(loadings[j]))})" for j in largest]
        share = 100 * float(self._each["share"][at])
        total = 100 * float(self._each["cumulative"][at])
        if lang == "zh":
            return (
                f"{self.names[at]} 解释总方差的 {share:.1f}%（累计 {total:.1f}%），"
                f"载荷最大的变量为 {'、'.join(named)}"
            )
        return (
            f"{self.names[at]} explains {share:.1f}% of the variance (cumulative {total:.1f}%), "
            f"with loadings largest for {', '.join(named)}"
        )

    def _text(self) -> str:
        head = (
            f"{self.heading()} of the {self.matrix} matrix, {self.n} persons of "
            f"{self.n_sites} sites"
        )
        frame = self.to_frame().to_string(float_format=lambda value: f"{value:.4f}")
        weights = self.components.to_string(float_format=lambda value: f"{value:.4f}")
        return f"{head}\n{frame}\n\n{weights}"
