"""A meta-analysis as it comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cohortium.sdk.html import text_html
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.words import limits, number, p_words

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

FIXED: Final = "fixed effect"
RANDOM: Final = "random effects"
_ZH: Final = {
    "study": "研究",
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
class Combined:
    """A combined effect, with its test against 0."""

    estimate: float
    standard_error: float
    low: float
    high: float
    statistic: float
    p_value: float


@dataclass(frozen=True)
class MetaAnalysis:
    """Effects of several studies or institutions, combined.

    Attributes:
        weights_fixed, weights_random: Share of each study in the combined effects.
        fixed, random: The combined effects.
        method: Of tau2.
        tau2: Variance of the effects between studies; `tau2_se` its standard error.
        q, q_df, q_p_value: Cochran's test of homogeneity.
        i2: Share of the variation that is between studies.
        h2: Its ratio to what chance would give.
        prediction: In which the effect of a new study lies; None for two studies.
    """

    names: tuple[str, ...]
    effects: tuple[float, ...]
    standard_errors: tuple[float, ...]
    weights_fixed: tuple[float, ...]
    weights_random: tuple[float, ...]
    fixed: Combined
    random: Combined
    method: str
    tau2: float
    tau2_se: float
    q: float
    q_df: int
    q_p_value: float
    i2: float
    h2: float
    prediction: tuple[float, float] | None
    confidence: float
    hartung_knapp: bool
    ratio: bool

    @property
    def k(self) -> int:
        """Studies."""
        return len(self.names)

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
            index=pd.Index([*self.names, FIXED, RANDOM], name="study"),
        )
        frame["weight_fixed"] = [*self.weights_fixed, 1.0, math.nan]
        frame["weight_random"] = [*self.weights_random, math.nan, 1.0]
        return frame

    def table(self, lang: Language = "en") -> PrintedTable:
        """To print: studies, combined effects, and heterogeneity as a footnote."""
        require_language(lang)
        frame = self.to_frame()
        if lang == "zh":
            frame = frame.rename(columns=_ZH, index={FIXED: _ZH[FIXED], RANDOM: _ZH[RANDOM]})
            frame = frame.rename_axis(index=_ZH["study"])
        title = "Meta 分析" if lang == "zh" else "Meta-analysis"
        return from_frame(title, frame, (self.interpret(lang),))

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
        return self._zh() if lang == "zh" else self._en()

    def _shown(self, value: float) -> float:
        return math.exp(value) if self.ratio else value

    def _interval(self, one: Combined, lang: Language) -> str:
        low, high = self._shown(one.low), self._shown(one.high)
        return limits(low, high, self.confidence, lang)

    def _en(self) -> str:
        name = "ratio" if self.ratio else "effect"
        random, fixed = (
            f"{number(self._shown(one.estimate))} ({self._interval(one, 'en')}; "
            f"{p_words(one.p_value, 'en')})"
            for one in (self.random, self.fixed)
        )
        how = f"{self.method}{', Hartung-Knapp' if self.hartung_knapp else ''}"
        text = (
            f"Over {self.k} studies the mean {name} is {random} with random effects ({how}) and "
            f"{fixed} with a fixed effect. Heterogeneity: tau2 = {number(self.tau2)}, I2 = "
            f"{100 * self.i2:.1f}%, Q = {number(self.q)} (df {self.q_df}; "
            f"{p_words(self.q_p_value, 'en')})."
        )
        if self.prediction is not None:
            low, high = (number(self._shown(end)) for end in self.prediction)
            share = f"{100 * self.confidence:g}%"
            text += f" The {name} of a new study lies between {low} and {high} ({share})."
        return f"{text} Not adjusted for what the studies differ in."

    def _zh(self) -> str:
        name = "比值" if self.ratio else "效应值"
        random, fixed = (
            f"{number(self._shown(one.estimate))}（{self._interval(one, 'zh')}，"
            f"{p_words(one.p_value, 'zh')}）"
            for one in (self.random, self.fixed)
        )
        how = f"{self.method}{'，Hartung-Knapp' if self.hartung_knapp else ''}"
        text = (
            f"{self.k} 项研究的合并{name}：随机效应模型（{how}）为 {random}，"
            f"固定效应模型为 {fixed}。"
            f"异质性：tau2 = {number(self.tau2)}，I2 = {100 * self.i2:.1f}%，"
            f"Q = {number(self.q)}（自由度 {self.q_df}，{p_words(self.q_p_value, 'zh')}）。"
        )
        if self.prediction is not None:
            low, high = (number(self._shown(end)) for end in self.prediction)
            text += f"新研究{name}的 {100 * self.confidence:g}% 预测区间为 {low} 至 {high}。"
        return f"{text}结果未对各研究之间的差异进行调整。"

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return text_html(repr(self))
