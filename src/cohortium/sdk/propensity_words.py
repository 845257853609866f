"""Weighting by the propensity score in plain words, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cohortium.sdk.language import Language, Words, require_language
from cohortium.sdk.propensity_plots import BALANCED
from cohortium.sdk.vocabulary import say
from cohortium.sdk.words import left_out, limits, number, p_words

if TYPE_CHECKING:
    from cohortium.sdk.propensity_results import Effect, PropensityResult

WHO: Mapping[str, Words] = {
    "ATE": Words("everybody", "全体人群"),
    "ATT": Words("the treated", "处理组人群"),
    "ATC": Words("the controls", "对照组人群"),
    "ATO": Words("those who could be in either arm", "两组重叠人群"),
}
"""In whom an effect is."""

_WEIGHTING = {"IPTW": "逆概率加权", "overlap weights": "重叠权重"}


def interpret(result: PropensityResult, lang: Language) -> str:
    """The effect, the balance and the assumptions in a few sentences.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    return _zh(result) if lang == "zh" else _en(result)


def _effect(one: Effect, confidence: float, lang: Language) -> str:
    interval, p = limits(one.low, one.high, confidence, lang), p_words(one.p_value, lang)
    if lang == "zh":
        return f"{say(one.name, lang)} {number(one.value)}（{interval}，{p}）"
    return f"{one.name} {number(one.value)} ({interval}; {p})"


def _en(result: PropensityResult) -> str:
    who, model = WHO[result.estimand].en, result.model
    covariates = model.formula.partition("~")[2].strip()
    persons = f"{result.n:,} persons of {result.n_sites} sites{left_out(result.n_missing, 'en')}"
    arms = f"{result.treatment} = {result.treated} against {result.control}"
    ess = " and ".join(f"{value:,.0f}" for value in result.arms["ess"])
    worst, before, after = result.worst
    parts = []
    if result.effects:
        found = "; ".join(_effect(one, result.confidence, "en") for one in result.effects)
        event = "" if result.event is None else f" = {result.event}"
        crude = number(result.crude[0].value)
        score = (
            "that the score is estimated is counted in"
            if result.errors == "stacked"
            else "the score is taken for known"
        )
        model_of_outcome = (
            f" and, doubly robust (AIPW), linear models of {result.outcome} in each arm"
            if result.doubly_robust
            else ""
        )
        parts.append(
            f"Effect of {arms} on {result.outcome}{event} in {who} ({result.estimand}), by "
            f"{result.weighting} with a propensity score of {covariates}{model_of_outcome}, over "
            f"{persons}: {found}; "
            f"{score}. Without weights the difference is {crude}."
        )
    else:
        parts.append(
            f"Balance of {arms} for the effect in {who} ({result.estimand}), by {result.weighting} "
            f"with a propensity score of {covariates}, over {persons}."
        )
    parts.append(
        f"Standardised differences are up to {before:.3f} before and {after:.3f} after "
        f"weighting{f' ({worst})' if worst else ''}"
        + (f": above {BALANCED:g}, so the arms are not balanced." if after > BALANCED else ".")
    )
    parts.append(
        f"After weighting {result.control} and {result.treated} have the information of {ess} "
        "persons."
    )
    if result.trim is not None:
        left = int(result.arms["n_trimmed"].sum())
        parts.append(
            f"{left:,} persons with a score outside {result.trim[0]:g} to {result.trim[1]:g} are "
            "left out; the effect is not about them."
            if left
            else f"Nobody has a score outside {result.trim[0]:g} to {result.trim[1]:g}."
        )
    right = (
        "the model of the score or that of the outcome is right"
        if result.doubly_robust
        else "the model of the score is right"
    )
    parts.append(
        "This is causal only as far as everything that decides on the treatment and affects the "
        "outcome is in the model (no unmeasured confounding), everybody could have been in either "
        f"arm (overlap), and {right}. Not adjusted for multiple testing."
    )
    return " ".join(parts)


def _zh(result: PropensityResult) -> str:
    who, model = WHO[result.estimand].zh, result.model
    covariates = model.formula.partition("~")[2].strip()
    persons = f"{result.n_sites} 家机构共 {result.n:,} 人{left_out(result.n_missing, 'zh')}"
    arms = f"{result.treatment} = {result.treated}（对照：{result.control}）"
    ess = "、".join(f"{value:,.0f}" for value in result.arms["ess"])
    worst, before, after = result.worst
    how = _WEIGHTING.get(result.weighting, result.weighting)
    parts = []
    if result.effects:
        found = "；".join(_effect(one, result.confidence, "zh") for one in result.effects)
        event = "" if result.event is None else f" = {result.event}"
        score = (
            "标准误已计入倾向评分的估计误差"
            if result.errors == "stacked"
            else "标准误将倾向评分视为已知"
        )
        how += "结合各组结局线性模型的双稳健估计" if result.doubly_robust else ""
        parts.append(
            f"{persons}，以 {covariates} 估计倾向评分并采用{how}，{arms}对 "
            f"{result.outcome}{event} 在{who}中的效应（{result.estimand}）：{found}；{score}。"
            f"未加权时差值为 {number(result.crude[0].value)}。"
        )
    else:
        parts.append(
            f"{persons}，以 {covariates} 估计倾向评分并采用{how}，评估 {arms}两组在{who}"
            f"（{result.estimand}）中的均衡性。"
        )
    verdict = f"，超过 {BALANCED:g}，两组仍不均衡" if after > BALANCED else f"，未超过 {BALANCED:g}"
    parts.append(
        f"标准化差异最大值加权前为 {before:.3f}，加权后为 {after:.3f}"
        f"{f'（{worst}）' if worst else ''}{verdict}。"
        f"加权后对照组与处理组的有效样本量分别为 {ess}。"
    )
    if result.trim is not None:
        left = int(result.arms["n_trimmed"].sum())
        parts.append(
            f"评分在 {result.trim[0]:g} 至 {result.trim[1]:g} 之外的 {left:,} 人被剔除，"
            "效应不涉及这些人。"
            if left
            else f"无人评分在 {result.trim[0]:g} 至 {result.trim[1]:g} 之外。"
        )
    right = "评分模型与结局模型至少其一设定正确" if result.doubly_robust else "评分模型设定正确"
    parts.append(
        "仅当所有既影响处理分配又影响结局的因素均已纳入模型（无未测量混杂）、"
        f"每个人都可能进入任一组（重叠假定）且{right}时，结果才有因果含义；"
        "未作多重检验校正。"
    )
    return "".join(parts)
