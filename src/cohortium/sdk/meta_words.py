"""A meta-analysis in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohortium.sdk.language import Language
from cohortium.sdk.vocabulary import say
from cohortium.sdk.words import limits, number, p_words

if TYPE_CHECKING:
    from cohortium.analysis.pooling import Combined
    from cohortium.sdk.meta_results import MetaAnalysis


def interpret(found: MetaAnalysis, lang: Language) -> str:
    """Combined effect, heterogeneity and prediction."""
    return _zh(found) if lang == "zh" else _en(found)


def _of(found: MetaAnalysis, one: Combined, lang: Language) -> str:
    ends = limits(found.shown(one.low), found.shown(one.high), found.confidence, lang)
    p, value = p_words(one.p_value, lang), number(found.shown(one.estimate))
    return f"{value}（{ends}，{p}）" if lang == "zh" else f"{value} ({ends}; {p})"


def _name(found: MetaAnalysis) -> str:
    return found.effect or ("ratio" if found.ratio else "effect")


def _en(found: MetaAnalysis) -> str:
    name, one = _name(found), found.unit
    many = f"{one[:-1]}ies" if one.endswith("y") else f"{one}s"
    how = f"{found.method}{', Hartung-Knapp' if found.hartung_knapp else ''}"
    share = f"{100 * found.confidence:g}%"
    mean = "combined" if found.effect else "mean"
    text = (
        f"Over {found.k} {many} the {mean} {name} is {_of(found, found.random, 'en')} with random "
        f"effects ({how}) and {_of(found, found.fixed, 'en')} with a fixed effect. Heterogeneity: "
        f"tau2 = {number(found.tau2)} ({share} CI {number(found.tau2_low)} to "
        f"{number(found.tau2_high)}), I2 = {100 * found.i2:.1f}%, Q = {number(found.q)} "
        f"(df {found.q_df}; {p_words(found.q_p_value, 'en')})."
    )
    if found.prediction is not None:
        low, high = (number(found.shown(end)) for end in found.prediction)
        text += f" The {name} of a new {one} lies between {low} and {high} ({share})."
    return f"{text} Not adjusted for what the {many} differ in."


def _zh(found: MetaAnalysis) -> str:
    given = "比值" if found.ratio else "效应值"
    name = say(found.effect, "zh") if found.effect else given
    one, many = ("机构", "家机构") if found.unit == "institution" else ("研究", "项研究")
    how = f"{found.method}{'，Hartung-Knapp' if found.hartung_knapp else ''}"
    share = f"{100 * found.confidence:g}%"
    text = (
        f"{found.k} {many}的合并{name}：随机效应模型（{how}）为 {_of(found, found.random, 'zh')}，"
        f"固定效应模型为 {_of(found, found.fixed, 'zh')}。"
        f"异质性：tau2 = {number(found.tau2)}（{share} 置信区间 {number(found.tau2_low)} 至 "
        f"{number(found.tau2_high)}），I2 = {100 * found.i2:.1f}%，"
        f"Q = {number(found.q)}（自由度 {found.q_df}，{p_words(found.q_p_value, 'zh')}）。"
    )
    if found.prediction is not None:
        low, high = (number(found.shown(end)) for end in found.prediction)
        text += f"新{one}{name}的 {share} 预测区间为 {low} 至 {high}。"
    return f"{text}结果未对各{one}之间的差异进行调整。"
