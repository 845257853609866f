"""A meta-analysis as it comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from cohortium.analysis.pooling import Combined, Distribution, Method, Pooled, pool
from cohortium.errors import InputError
from cohortium.sdk.html import text_html
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.meta_words import interpret
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.summary import Summary

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

__all__ = ["FIXED", "RANDOM", "Combined", "MetaAnalysis"]

FIXED: Final = "fixed effect"
RANDOM: Final = "random effects"
_ZH: Final = {
    "study": "研究",
    "institution": "机构",
    "left_out": "剔除",
    "effect": "效应值",
    "std_error": "标准误",
    "low": "置信下限",
    "high": "置信上限",
    "weight_fixed": "固定效应权重",
    "weight_random": "随机效应权重",
    FIXED: "固定效应",
    RANDOM: "随机效应",
}


@dataclass(frozen=True)
class MetaAnalysis(Pooled):
    """Effects of several studies or institutions, combined; see `Pooled`.

    Attributes:
        names: Of the studies.
        ratio: Whether the effects are logarithms of ratios, which words and the chart show.
        effect: What the effect is called; empty: effect, or ratio.
        unit: What each effect is of.
    """

    names: tuple[str, ...]
    ratio: bool = False
    effect: str = ""
    unit: Literal["study", "institution"] = "study"

    def shown(self, value: float) -> float:
        """An effect as words and chart show it."""
        return math.exp(value) if self.ratio else value

    def to_frame(self) -> pd.DataFrame:
        """A row for each study and the two combined effects, on the scale given."""
        import pandas as pd
        from scipy.special import ndtri

        width = float(ndtri(0.5 + self.confidence / 2))
        studies = zip(self.effects, self.standard_errors, strict=True)
        rows = [(y, se, y - width * se, y + width * se) for y, se in studies]
        combined = [
            (one.estimate, one.standard_error, one.low, one.high)
            for one in (self.fixed, self.random)
        ]
        frame = pd.DataFrame(
            [*rows, *combined],
            columns=["effect", "std_error", "low", "high"],
            index=pd.Index([*self.names, FIXED, RANDOM], name=self.unit),
        )
        frame["weight_fixed"] = [*self.weights_fixed, 1.0, math.nan]
        frame["weight_random"] = [*self.weights_random, math.nan, 1.0]
        return frame

    def again(
        self,
        *,
        method: Method | None = None,
        hartung_knapp: bool | None = None,
        prediction: Distribution = "t",
        without: str | None = None,
    ) -> MetaAnalysis:
        """The same effects combined otherwise, or without one of them.

        Raises:
            InputError: ``bad-input`` for a name that there is not, or where one effect is left.
        """
        if without is not None and without not in self.names:
            raise InputError("bad-input", f"There is no {without!r}: {', '.join(self.names)}.")
        keep = [at for at, name in enumerate(self.names) if name != without]
        if len(keep) < 2:
            raise InputError("bad-input", "Two effects or more are combined.")
        pooled = pool(
            np.array([self.effects[at] for at in keep]),
            np.square([self.standard_errors[at] for at in keep]),
            method="DL" if (method or self.method) == "DL" else "REML",
            confidence=self.confidence,
            hartung_knapp=self.hartung_knapp if hartung_knapp is None else hartung_knapp,
            prediction=prediction,
        )
        names = tuple(self.names[at] for at in keep)
        return replace(self, **vars(pooled), names=names)

    def leave_one_out(self) -> pd.DataFrame:
        """The combined effects without each of the studies, and what is left of heterogeneity.

        Raises:
            InputError: ``bad-input`` for two studies.
        """
        import pandas as pd

        rows = []
        for name in self.names:
            rest = self.again(without=name)
            one = rest.random
            rows.append(
                {
                    "effect": one.estimate,
                    "std_error": one.standard_error,
                    "low": one.low,
                    "high": one.high,
                    "p": one.p_value,
                    "fixed": rest.fixed.estimate,
                    "tau2": rest.tau2,
                    "i2": rest.i2,
                    "q": rest.q,
                    "q_p": rest.q_p_value,
                }
            )
        return pd.DataFrame(rows, index=pd.Index(self.names, name="left_out"))

    def table(self, lang: Language = "en") -> PrintedTable:
        """To print: studies, combined effects, and heterogeneity as a footnote."""
        require_language(lang)
        title = "Meta 分析" if lang == "zh" else "Meta-analysis"
        return from_frame(title, self.said(lang), (self.interpret(lang),))

    def said(self, lang: Language) -> pd.DataFrame:
        """`to_frame` with its names in the language."""
        frame = self.to_frame()
        if lang == "en":
            return frame
        frame = frame.rename(columns=_ZH, index={FIXED: _ZH[FIXED], RANDOM: _ZH[RANDOM]})
        return frame.rename_axis(index=_ZH[self.unit])

    def export(self, path: str | Path, lang: Language = "en") -> Path:
        """Write `table` as ``.csv``, ``.xlsx``, ``.docx``, ``.tex`` or ``.html``.

        Raises:
            InputError: ``bad-input`` for another ending; ``missing-extra``.
        """
        from cohortium.sdk.export import export

        return export((self.table(lang),), Path(path), lang)

    def plot(self) -> alt.TopLevelMixin:
        """The forest plot; a prediction interval is a line of its own."""
        from cohortium.sdk.meta_plot import forest_of_studies

        return forest_of_studies(self)

    def save(self, path: str | Path) -> Path:
        """Write `plot` as ``.png``, ``.svg``, ``.html`` or ``.json``."""
        from cohortium.sdk.plots import save

        return save(self.plot(), Path(path))

    def interpret(self, lang: Language = "en") -> str:
        """Combined effect, heterogeneity and prediction, in plain words.

        Args:
            lang: ``en`` or ``zh``.

        Raises:
            InputError: ``bad-input`` for another language.
        """
        require_language(lang)
        return interpret(self, lang)

    def summary(self) -> Summary:
        """As a table of text, to print."""
        return Summary(self.table().text())

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return text_html(repr(self))
